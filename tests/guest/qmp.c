/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* Just enough QMP: one command at a time, events dropped.
 *
 * On purpose not the daemon's QMP client: what proves a migration should share nothing with what
 * made it.  QEMU serves one client per socket and greets a second one only when the first has gone,
 * so a socket of its own is needed, and a time limit tells when it is taken. */

#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "tests/guest/guestcheck.h"

#define QMP_TIMEOUT 20 /* seconds */

struct qmp {
    FILE *in; /* buffered; what is sent goes past it */
    const char *path;
};

static json_t *receive(struct qmp *qmp)
{
    json_error_t error;
    json_t *message = json_loadf(qmp->in, JSON_DISABLE_EOF_CHECK, &error);
    if (!message) {
        unchecked("no answer on QMP socket %s (is it in use by another client?): %s", qmp->path,
                  error.text);
    }
    return message;
}

struct qmp *qmp_open(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        unchecked("the QMP socket's path %s is too long", path);
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = QMP_TIMEOUT};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        unchecked("cannot connect to QMP socket %s: %s", path, strerror(errno));
    }
    struct qmp *qmp = calloc(1, sizeof *qmp);
    FILE *in = fdopen(fd, "r");
    if (!qmp || !in) {
        unchecked("cannot use QMP socket %s: out of memory", path);
    }
    *qmp = (struct qmp){.in = in, .path = path};
    json_decref(receive(qmp)); /* the greeting */
    json_decref(qmp_call(qmp, json_pack("{s:s}", "execute", "qmp_capabilities")));
    return qmp;
}

void qmp_close(struct qmp *qmp)
{
    fclose(qmp->in);
    free(qmp);
}

json_t *qmp_call(struct qmp *qmp, json_t *command)
{
    char *text = command ? json_dumps(command, JSON_COMPACT) : NULL;
    if (!text) {
        unchecked("cannot make a command for QMP socket %s: out of memory", qmp->path);
    }
    json_decref(command);
    size_t length = strlen(text);
    if (send(fileno(qmp->in), text, length, MSG_NOSIGNAL) != (ssize_t)length) {
        unchecked("cannot send to QMP socket %s: %s", qmp->path, strerror(errno));
    }
    free(text);
    for (;;) {
        json_t *reply = receive(qmp);
        if (json_object_get(reply, "return") || json_object_get(reply, "error")) {
            return reply;
        }
        json_decref(reply);
    }
}

int run_qmp(int argc, char **argv)
{
    int code = EXIT_GOOD;
    if (argc < 3) {
        unchecked("qmp needs a socket and at least one command, see --help");
    }
    struct qmp *qmp = qmp_open(argv[1]);
    for (int i = 2; i < argc && code == EXIT_GOOD; i++) {
        json_error_t error;
        json_t *command = argv[i][0] == '{' ? json_loads(argv[i], 0, &error)
                                            : json_pack("{s:s}", "execute", argv[i]);
        if (!command) {
            unchecked("the command %s is not JSON: %s", argv[i], error.text);
        }
        json_t *reply = qmp_call(qmp, command);
        json_t *result = json_object_get(reply, "return");
        if (!result) {
            result = json_object_get(reply, "error");
            code = EXIT_LOST;
        }
        json_dumpf(result, code == EXIT_GOOD ? stdout : stderr, JSON_ENCODE_ANY | JSON_COMPACT);
        fputc('\n', code == EXIT_GOOD ? stdout : stderr);
        json_decref(reply);
    }
    qmp_close(qmp);
    return code;
}
