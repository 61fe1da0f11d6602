/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * PEM files.  A file is written under a temporary name in its own folder, given its mode while it
 * is still empty, synced, and then linked to its name (which fails if the name is taken: no race
 * can overwrite a key) or, if it may replace one, renamed over it.
 */
#include "config.h"

#include "client/pki_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int pki_error(struct error *err, int code, const char *format, ...)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ERR_clear_error();
    return error_set(err, code, "%s: %s", text, reason ? reason : strerror(code));
}

char *pki_path(const char *dir, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int pki_make_dir(const char *dir, struct error *err)
{
    CLEANUP_FREE char *path = strdup(dir);

    if (!path)
        return error_set_errno(err, ENOMEM, "can't make the folder %s", dir);
    for (char *end = path + 1; *path; end++) {
        char saved = *end;

        if (saved != '/' && saved != '\0')
            continue;
        *end = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "can't make the folder %s", path);
        *end = saved;
        if (saved == '\0')
            break;
    }
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

static FILE *open_pem(const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");

    if (!file)
        error_set_errno(err, errno, "can't read %s", path);
    return file;
}

X509 *pki_read_cert(const char *dir, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = pki_path(dir, name);
    CLEANUP_FCLOSE FILE *file = path ? open_pem(path, err) : NULL;
    X509 *cert;

    if (!file)
        return NULL;
    cert = PEM_read_X509(file, NULL, NULL, NULL);
    if (!cert)
        pki_error(err, EINVAL, "%s holds no certificate in PEM format", path);
    return cert;
}

EVP_PKEY *pki_read_key(const char *dir, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = pki_path(dir, name);
    CLEANUP_FCLOSE FILE *file = path ? open_pem(path, err) : NULL;
    EVP_PKEY *key;

    if (!file)
        return NULL;
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    if (!key)
        pki_error(err, EINVAL, "%s holds no private key in PEM format", path);
    return key;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, data, length);

        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            data += written;
            length -= (size_t)written;
        }
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* The name itself is on disk only when its folder is. */
static int sync_dir(const char *dir)
{
    CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int put_in_place(const char *temporary, const char *path, bool replace)
{
    if (replace)
        return rename(temporary, path) < 0 ? -errno : 0;
    if (link(temporary, path) < 0)
        return -errno;
    unlink(temporary);
    return 0;
}

static int write_file(const char *dir, const char *name, BIO *contents, mode_t mode, bool replace,
                      struct error *err)
{
    CLEANUP_FREE char *path = pki_path(dir, name);
    CLEANUP_FREE char *temporary = pki_path(dir, ".new-XXXXXX");
    CLEANUP_CLOSE int fd = -1;
    char *data;
    long length = BIO_get_mem_data(contents, &data);
    int result;

    if (!path || !temporary)
        return error_set_errno(err, ENOMEM, "can't write %s", name);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "can't write in %s", dir);
    result = fchmod(fd, mode) < 0 ? -errno : write_all(fd, data, (size_t)length);
    if (result == 0)
        result = put_in_place(temporary, path, replace);
    if (result == 0)
        result = sync_dir(dir);
    else
        unlink(temporary);
    if (result == -EEXIST)
        return error_set(err, EEXIST, "%s is there already; --force replaces it", path);
    if (result < 0)
        return error_set_errno(err, -result, "can't write %s", path);
    return 0;
}

static void cleanup_bio(BIO **bio)
{
    BIO_free_all(*bio);
}

int pki_write_cert(const char *dir, const char *name, X509 *cert, bool replace, struct error *err)
{
    CLEANUP(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());

    if (!bio || PEM_write_bio_X509(bio, cert) != 1)
        return pki_error(err, ENOMEM, "can't encode the certificate for %s", name);
    return write_file(dir, name, bio, 0644, replace, err);
}

int pki_write_key(const char *dir, const char *name, EVP_PKEY *key, bool replace, struct error *err)
{
    CLEANUP(cleanup_bio) BIO *bio = BIO_new(BIO_s_secmem());

    if (!bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return pki_error(err, ENOMEM, "can't encode the key for %s", name);
    return write_file(dir, name, bio, 0600, replace, err);
}
