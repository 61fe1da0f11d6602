/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What systemd gives and is told: see systemd.h. */
#include "config.h"

#include "daemon/systemd.h"

#ifdef HAVE_SYSTEMD

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Sorts one socket in, or closes it. */
static int take_socket(int fd, const char *name, int *listen, int *control, struct error *err)
{
    int *where = strcmp(name, "listen") == 0    ? listen
                 : strcmp(name, "control") == 0 ? control
                                                : NULL;

    if (!where || *where >= 0 || sd_is_socket(fd, 0, 0, 1) <= 0) {
        close(fd);
        return error_set(err, EINVAL,
                         "systemd passes a socket named \"%s\": one listening socket each is "
                         "wanted with FileDescriptorName=listen and FileDescriptorName=control",
                         name);
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    *where = fd;
    return 0;
}

int systemd_take_sockets(int *ret_listen, int *ret_control, struct error *err)
{
    char **names = NULL;
    int count, r = 0;

    *ret_listen = *ret_control = -1;
    count = sd_listen_fds_with_names(1, &names);
    if (count < 0)
        return error_set_errno(err, -count, "can't take systemd's sockets");
    for (int i = 0; i < count; i++) {
        if (r == 0)
            r = take_socket(SD_LISTEN_FDS_START + i, names[i], ret_listen, ret_control, err);
        free(names[i]);
    }
    free(names);
    return r;
}

void systemd_ready(void)
{
    sd_notify(0, "READY=1");
}

void systemd_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

#else

int systemd_take_sockets(int *ret_listen, int *ret_control, struct error *err)
{
    (void)err;
    *ret_listen = *ret_control = -1;
    return 0;
}

void systemd_ready(void)
{
}

void systemd_stopping(void)
{
}

#endif
