/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A domain's logs: state_dir/log/NAME with what QEMU writes and what the guest writes to its serial
 * port.  They are evidence, and outlive the domain; but a guest that was to come and did not has never
 * been here, and leaves nothing.  What its QEMU had to say stands in the daemon's own log then.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *vm_serial_log(const struct domain *domain)
{
    const char *file = domain->definition->serial_log;
    char *path;

    if (!file || file[0] == '/')
        return file ? strdup(file) : NULL;
    return asprintf(&path, "%s/%s", domain->log_dir, file) < 0 ? NULL : path;
}

/* Lies in a log folder that was made for a guest that has not arrived yet: path malloc'ed, or NULL. */
static char *coming_mark(const struct domain *domain)
{
    char *path;

    return asprintf(&path, "%s/.coming", domain->log_dir) < 0 ? NULL : path;
}

int vm_make_log_folder(const struct domain *domain, struct error *err)
{
    CLEANUP_FREE char *mark = coming_mark(domain);
    CLEANUP_CLOSE int fd = -1;

    if (mkdir(domain->log_dir, 0750) < 0)
        return errno == EEXIST
                   ? 0
                   : error_set_errno(err, errno, "can't make the folder %s for the logs of %s",
                                     domain->log_dir, domain->name);
    if (domain->incoming && mark)
        fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return 0;
}

void vm_keep_logs(const struct domain *domain)
{
    CLEANUP_FREE char *mark = domain->attached ? NULL : coming_mark(domain);

    if (mark)
        unlink(mark);
}

void vm_remove_logs(const struct domain *domain)
{
    CLEANUP_FREE char *mark = domain->attached ? NULL : coming_mark(domain);
    CLEANUP_FREE char *serial_log = NULL;
    char words[256];

    if (!mark || access(mark, F_OK) < 0)
        return;
    launch_last_words(domain->qemu_log, words, sizeof words);
    if (words[0])
        log_info("domain %s: the last words of its QEMU: %s", domain->name, words);
    serial_log = vm_serial_log(domain);
    if (serial_log)
        unlink(serial_log);
    unlink(domain->qemu_log);
    unlink(mark);
    rmdir(domain->log_dir);
}

bool domain_last_words(const struct domain *domain, char *ret, size_t size)
{
    char words[256] = "";

    if (domain->pidfd < 0 || !launch_ended(domain->pidfd))
        return false;
    if (domain->qemu_log)
        launch_last_words(domain->qemu_log, words, sizeof words);
    snprintf(ret, size, "its QEMU has died%s%s", words[0] ? ": " : " without a word", words);
    return true;
}
