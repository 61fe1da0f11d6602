/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Two pumps in one process: see pump_pair.h. */
#include "config.h"

#include "tests/unit/pump_pair.h"
#include "io/net.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 20 }; /* seconds */

static void path_of(const struct pair *pair, const char *end, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s%s", pair->dir, end, name);
}

/* ---- what the pumps tell ----------------------------------------------------------------------- */

static struct pair *pair_of_far(struct pair_side *far)
{
    return (struct pair *)(void *)((char *)far - offsetof(struct pair, far));
}

static int resolve(void *opaque, const char *endpoint, char **ret_path, struct error *err)
{
    char path[128];

    if (strcmp(endpoint, "forbidden") == 0)
        return error_set(err, EACCES, "endpoint %s is not for you", endpoint);
    path_of(pair_of_far(opaque), "", endpoint, path);
    *ret_path = strdup(path);
    return 0;
}

static void channel_reset(void *opaque, const char *endpoint, uint64_t code, const char *text)
{
    struct pair_side *side = opaque;

    pthread_mutex_lock(&side->lock);
    side->resets++;
    side->reset_code = code;
    snprintf(side->reset_endpoint, sizeof side->reset_endpoint, "%s", endpoint);
    snprintf(side->reset_text, sizeof side->reset_text, "%s", text);
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void ended(void *opaque, const struct error *why)
{
    struct pair_side *side = opaque;

    pthread_mutex_lock(&side->lock);
    side->ended++;
    side->why = *why;
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void link_lost(void *opaque, const struct error *why)
{
    struct pair_side *side = opaque;

    assert_true(why->code != 0);
    pthread_mutex_lock(&side->lock);
    side->lost++;
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void link_resumed(void *opaque, uint64_t ns)
{
    struct pair_side *side = opaque;

    (void)ns;
    pthread_mutex_lock(&side->lock);
    side->resumed++;
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void wait_for(struct pair_side *side, const int *count, int wanted, const char *what)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE;
    pthread_mutex_lock(&side->lock);
    while (*count < wanted)
        if (pthread_cond_timedwait(&side->changed, &side->lock, &deadline) != 0)
            fail_msg("%s: %d instead of %d", what, *count, wanted);
    pthread_mutex_unlock(&side->lock);
}

void side_wait_resets(struct pair_side *side, int count)
{
    wait_for(side, &side->resets, count, "resets");
}

void side_wait_ended(struct pair_side *side)
{
    wait_for(side, &side->ended, 1, "ended");
}

void side_wait_resumed(struct pair_side *side, int count)
{
    wait_for(side, &side->resumed, count, "links that came back");
}

/* ---- starting and stopping ---------------------------------------------------------------------- */

int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

void pair_make_links(struct tls **ret_near, struct tls **ret_far)
{
    struct net_address address = {.host = "127.0.0.1", .port = "0"};
    struct test_ca *ca = test_ca_new("test CA");
    char *pki = test_pki_dir(ca, NULL);
    struct error err = ERROR_INIT;
    struct tls_context *context = tls_context_new(pki, &err);
    int listener = net_listen(&address, &err), near, far, near_done = 0, far_done = 0;

    assert_non_null(context);
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    near = net_dial(&address, 5000, -1, &err);
    far = accept(listener, NULL, NULL);
    assert_true(near >= 0 && far >= 0);
    close(listener);
    *ret_near = tls_new_client(context, near, "localhost", &err);
    *ret_far = tls_new_server(context, far, &err);
    while (!near_done || !far_done) {
        if (!near_done)
            near_done = tls_handshake(*ret_near, &err);
        if (!far_done)
            far_done = tls_handshake(*ret_far, &err);
        if (near_done < 0 || far_done < 0)
            fail_msg("%s", err.text);
    }
    tls_context_free(context);
    test_pki_remove(pki);
    test_ca_free(ca);
}

static void start_side(struct pair_side *side, struct pump_config config, bool opener,
                       const struct rpc_program *program)
{
    const struct pump_handlers handlers = {
        .resolve = opener ? NULL : resolve,
        .channel_reset = channel_reset,
        .link_lost = link_lost,
        .link_resumed = link_resumed,
        .program = program,
        .ended = ended,
        .opaque = side,
    };
    struct error err = ERROR_INIT;

    config.opener = opener;
    if (!opener)
        config.redial = (struct pump_redial){.resume = NULL};
    config.name = opener ? "near" : "far";
    side->pump = pump_start(side->link, &config, &handlers, &err);
    side->link = NULL;
    if (!side->pump)
        fail_msg("%s", err.text);
}

void pair_start(struct pair *pair, const struct pump_config *config,
                const struct rpc_program *program, bool far_pump)
{
    const struct pump_config defaults = PAIR_DEFAULTS;

    memset(pair, 0, sizeof *pair);
    pair->fds = count_fds();
    strcpy(pair->dir, "/tmp/bistream-pump-XXXXXX");
    assert_non_null(mkdtemp(pair->dir));
    pthread_mutex_init(&pair->near.lock, NULL);
    pthread_mutex_init(&pair->far.lock, NULL);
    pthread_cond_init(&pair->near.changed, NULL);
    pthread_cond_init(&pair->far.changed, NULL);
    pair_make_links(&pair->near.link, &pair->far.link);
    pair->link_fd = tls_fd(pair->near.link);
    pair->far_fd = tls_fd(pair->far.link);
    start_side(&pair->near, config ? *config : defaults, true, program);
    if (far_pump)
        start_side(&pair->far, config ? *config : defaults, false, program);
}

static void remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while ((entry = readdir(dir)))
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

static void stop_side(struct pair_side *side)
{
    bool had_pump = side->pump;

    pump_free(side->pump);
    tls_free(side->link);
    assert_int_equal(side->ended, had_pump ? 1 : 0);
    pthread_mutex_destroy(&side->lock);
    pthread_cond_destroy(&side->changed);
}

void pair_stop(struct pair *pair)
{
    stop_side(&pair->near);
    stop_side(&pair->far);
    remove_dir(pair->dir);
    assert_int_equal(count_fds(), pair->fds);
}

/* ---- programs ---------------------------------------------------------------------------------- */

static void make_blocking(int fd)
{
    struct timeval patience = {.tv_sec = PATIENCE};

    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
}

void pair_listen(struct pair *pair, const char *name)
{
    struct error err = ERROR_INIT;
    char path[128];
    int listener;

    path_of(pair, "near-", name, path);
    listener = net_listen_unix(path, 0600, &err);
    if (listener < 0 || pump_listen(pair->near.pump, listener, name, &err) < 0)
        fail_msg("%s", err.text);
}

int pair_serve(struct pair *pair, const char *name)
{
    struct error err = ERROR_INIT;
    char path[128];
    int server;

    path_of(pair, "", name, path);
    server = net_listen_unix(path, 0600, &err);
    if (server < 0)
        fail_msg("%s", err.text);
    return server;
}

int pair_connect(struct pair *pair, const char *name)
{
    struct error err = ERROR_INIT;
    char path[128];
    int fd;

    path_of(pair, "near-", name, path);
    fd = net_dial_unix(path, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    make_blocking(fd);
    return fd;
}

int pair_accept(int server)
{
    struct pollfd pollfd = {.fd = server, .events = POLLIN};
    int fd;

    assert_int_equal(poll(&pollfd, 1, PATIENCE * 1000), 1);
    fd = accept(server, NULL, NULL);
    assert_true(fd >= 0);
    make_blocking(fd);
    return fd;
}

void pair_join(struct pair *pair, const char *name, int *ret_near, int *ret_far)
{
    int server = pair_serve(pair, name);

    pair_listen(pair, name);
    *ret_near = pair_connect(pair, name);
    *ret_far = pair_accept(server);
    close(server);
}

void write_all(int fd, const void *data, size_t length)
{
    const char *from = data;

    while (length > 0) {
        ssize_t n = send(fd, from, length, MSG_NOSIGNAL);

        if (n < 0)
            fail_msg("write: %s", strerror(errno));
        from += n;
        length -= (size_t)n;
    }
}

void read_all(int fd, void *data, size_t length)
{
    char *to = data;

    while (length > 0) {
        ssize_t n = read(fd, to, length);

        if (n <= 0)
            fail_msg("read: %s, %zu bytes are missing", n < 0 ? strerror(errno) : "end", length);
        to += n;
        length -= (size_t)n;
    }
}

void read_end(int fd)
{
    char byte;
    ssize_t n = read(fd, &byte, 1);

    if (n > 0)
        fail_msg("a byte came instead of the end");
    if (n < 0 && errno != ECONNRESET)
        fail_msg("read: %s", strerror(errno));
}
