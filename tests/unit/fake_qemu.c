/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* A QMP server that says what a test wants: see fake_qemu.h. */
#include "config.h"

#include "tests/unit/fake_qemu.h"
#include "tests/unit/unit.h"
#include "common/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake_qemu {
    char folder[40];
    struct sockaddr_un address;
    int listener;
    FILE *client;
    void (*script)(struct fake_qemu *fake);
    pthread_t thread;
    sem_t go;
};

static void *run_script(void *opaque)
{
    struct fake_qemu *fake = opaque;
    int fd = accept(fake->listener, NULL, NULL);

    if (fd < 0)
        return NULL; /* shut down without a client */
    fake->client = fdopen(fd, "r+");
    assert_non_null(fake->client);
    fake->script(fake);
    fclose(fake->client);
    return NULL;
}

struct fake_qemu *fake_qemu_new(void (*script)(struct fake_qemu *fake))
{
    struct fake_qemu *fake = calloc(1, sizeof *fake);

    assert_non_null(fake);
    strcpy(fake->folder, "/tmp/bistream-qmp-XXXXXX");
    assert_non_null(mkdtemp(fake->folder));
    fake->script = script;
    fake->address.sun_family = AF_UNIX;
    snprintf(fake->address.sun_path, sizeof fake->address.sun_path, "%s/qmp", fake->folder);
    sem_init(&fake->go, 0, 0);
    fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&fake->address, sizeof fake->address),
                     0);
    assert_int_equal(listen(fake->listener, 1), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, run_script, fake), 0);
    return fake;
}

void fake_qemu_free(struct fake_qemu *fake)
{
    shutdown(fake->listener, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->listener);
    unlink(fake->address.sun_path);
    rmdir(fake->folder);
    sem_destroy(&fake->go);
    free(fake);
}

const char *fake_qemu_path(const struct fake_qemu *fake)
{
    return fake->address.sun_path;
}

void fake_send(struct fake_qemu *fake, const char *text)
{
    size_t length = strlen(text);

    /* The client may have hung up already; what matters is what it says about it. */
    while (length > 0) {
        ssize_t n = send(fileno(fake->client), text, length, MSG_NOSIGNAL);

        if (n < 0)
            return;
        text += n;
        length -= (size_t)n;
    }
}

/* LINE as a message, which must be COMMAND. */
static json_t *read_command(const char *line, const char *command)
{
    json_t *message = json_loads(line, 0, NULL);
    const char *name;

    name = json_string_value(json_object_get(message, "execute"));
    if (!name)
        name = json_string_value(json_object_get(message, "exec-oob"));
    assert_non_null(name);
    assert_string_equal(name, command);
    return message;
}

json_t *fake_expect(struct fake_qemu *fake, const char *command)
{
    CLEANUP_FREE char *line = NULL;
    size_t size = 0;

    assert_true(getline(&line, &size, fake->client) > 0);
    return read_command(line, command);
}

/* Nothing else may be on its way, or it is lost in the buffer. */
json_t *fake_expect_fd(struct fake_qemu *fake, const char *command, int *ret_fd)
{
    char line[4096] = "";
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = line, .iov_len = sizeof line - 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fileno(fake->client), &message, MSG_CMSG_CLOEXEC);

    assert_true(n > 0 && line[n - 1] == '\n');
    *ret_fd = -1;
    if (CMSG_FIRSTHDR(&message))
        memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *ret_fd);
    return read_command(line, command);
}

static void send_json(struct fake_qemu *fake, json_t *message)
{
    CLEANUP_FREE char *text = json_dumps(message, 0);

    assert_non_null(text);
    fake_send(fake, text);
    fake_send(fake, "\r\n");
    json_decref(message);
}

void fake_return(struct fake_qemu *fake, json_t *command, const char *value)
{
    send_json(fake, json_pack("{s:o,s:O}", "return", json_loads(value, JSON_DECODE_ANY, NULL), "id",
                              json_object_get(command, "id")));
    json_decref(command);
}

void fake_error(struct fake_qemu *fake, json_t *command, const char *class, const char *words)
{
    send_json(fake, json_pack("{s:{s:s,s:s},s:O}", "error", "class", class, "desc", words, "id",
                              json_object_get(command, "id")));
    json_decref(command);
}

void fake_negotiate(struct fake_qemu *fake)
{
    fake_send(fake, FAKE_GREETING);
    fake_return(fake, fake_expect(fake, "qmp_capabilities"), "{}");
}

void fake_wait_end(struct fake_qemu *fake)
{
    char byte;

    while (recv(fileno(fake->client), &byte, 1, 0) > 0)
        ;
}

void fake_wait_input(struct fake_qemu *fake)
{
    struct pollfd wait = {.fd = fileno(fake->client), .events = POLLIN};

    while (poll(&wait, 1, -1) < 0)
        assert_int_equal(errno, EINTR);
}

void fake_wait(struct fake_qemu *fake)
{
    while (sem_wait(&fake->go) < 0)
        assert_int_equal(errno, EINTR);
}

void fake_go(struct fake_qemu *fake)
{
    sem_post(&fake->go);
}
