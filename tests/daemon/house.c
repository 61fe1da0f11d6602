/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Domains without a daemon: see house.h. */
#include "config.h"

#include "tests/daemon/house.h"
#include "common/cleanup.h"
#include "qemu/child.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 30000 };

/* ---- set up and down ------------------------------------------------------------------------- */

static void *run_loop(void *loop)
{
    loop_run(loop);
    return NULL;
}

void house_open(struct house *house)
{
    struct error err = ERROR_INIT;

    house->loop = loop_new();
    assert_non_null(house->loop);
    house->qmp = qmp_thread_new(&err);
    assert_non_null(house->qmp);
    house->domains = domains_new(&house->config, house->loop, house->qmp, &err);
    if (!house->domains)
        fail_msg("%s", err.text);
    assert_int_equal(pthread_create(&house->thread, NULL, run_loop, house->loop), 0);
}

void house_close(struct house *house)
{
    loop_stop(house->loop);
    pthread_join(house->thread, NULL);
    domains_free(house->domains);
    house->domains = NULL;
    qmp_thread_free(house->qmp);
    loop_free(house->loop);
}

static void make_folder(const struct house *house, const char *name, char *ret, size_t size)
{
    snprintf(ret, size, "%s/%s", house->folder, name);
    assert_int_equal(mkdir(ret, 0700), 0);
}

int house_setup(void **state)
{
    struct house *house = calloc(1, sizeof *house);

    assert_non_null(house);
    strcpy(house->folder, "/tmp/bistream-house-XXXXXX");
    assert_non_null(mkdtemp(house->folder));
    make_folder(house, "run", house->run_dir, sizeof house->run_dir);
    make_folder(house, "state", house->state_dir, sizeof house->state_dir);
    make_folder(house, "pool", house->pool_dir, sizeof house->pool_dir);
    house->config.run_dir = house->run_dir;
    house->config.state_dir = house->state_dir;
    house->config.pool_dir = house->pool_dir;
    house->config.qemu_binary = (char *)(uintptr_t)QEMU_BINARY;
    *state = house;
    house_open(house);
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

/* Ends what a test has left running, also one that failed. */
static void destroy_all(struct house *house)
{
    struct domain **domains;
    size_t count;

    assert_int_equal(domains_list(house->domains, &domains, &count), 0);
    for (size_t i = 0; i < count; i++) {
        if (domain_pid(domains[i]))
            domain_destroy(domains[i], NULL);
        domain_unref(domains[i]);
    }
    free(domains);
}

int house_teardown(void **state)
{
    struct house *house = *state;

    if (!house->domains)
        house_open(house);
    destroy_all(house);
    house_close(house);
    for (size_t i = 0; i < house->other_count; i++) {
        launch_kill(house->others[i], WAIT_MS, NULL);
        close(house->others[i]);
    }
    nftw(house->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(house);
    return 0;
}

int run_with_qemu(int (*run)(void))
{
    char *const argv[] = {(char *)(uintptr_t)QEMU_BINARY, (char *)(uintptr_t) "--version", NULL};

    if (child_run(argv, WAIT_MS, NULL, NULL) < 0) {
        puts("skipped: qemu-system-x86_64 is missing");
        return 77;
    }
    return run();
}

/* ---- domains --------------------------------------------------------------------------------- */

struct definition *house_define(const char *name, const char *more)
{
    struct error err = ERROR_INIT;
    struct definition *definition;
    char text[1024];

    snprintf(text, sizeof text, "{\"name\": \"%s\", \"accel\": \"tcg\", \"memory\": \"16M\"%s%s}",
             name, *more ? ", " : "", more);
    definition = definition_parse(text, strlen(text), DEFINITION_OPERATOR, &err);
    if (!definition)
        fail_msg("%s: %s", text, err.text);
    return definition;
}

static int start(struct house *house, const char *name, const char *more, struct error *err)
{
    struct definition *definition = house_define(name, more);
    int r = domain_start(house->domains, name, definition, false, err);

    definition_free(definition);
    return r;
}

struct domain *house_start(struct house *house, const char *name, const char *more)
{
    struct error err = ERROR_INIT;
    struct domain *domain;

    assert_ok(start(house, name, more, &err), &err);
    domain = domains_find(house->domains, name, &err);
    assert_non_null(domain);
    return domain;
}

void house_start_fails(struct house *house, const char *name, const char *more,
                       const char *sentence)
{
    struct error err = ERROR_INIT;

    assert_true(start(house, name, more, &err) < 0);
    assert_string_equal(err.text, sentence);
}

int house_other_qemu(struct house *house, const char *name, const char *uuid, bool incoming,
                     char socket[HOUSE_PATH])
{
    char pidfile[HOUSE_PATH], log[HOUSE_PATH];
    struct launch launch = {.binary = QEMU_BINARY,
                            .name = name,
                            .uuid = uuid,
                            .machine = "pc",
                            .accel = "tcg",
                            .vcpus = 1,
                            .memory = 16 << 20,
                            .incoming = incoming,
                            .qmp_socket = socket,
                            .pidfile = pidfile,
                            .log = log};
    struct qmp_wait wait = qmp_wait_ms(WAIT_MS);
    struct error err = ERROR_INIT;
    struct qmp *qmp;
    int pidfd;

    assert_true(house->other_count < HOUSE_OTHERS);
    snprintf(socket, HOUSE_PATH, "%s/%s.sock", house->folder, name);
    snprintf(pidfile, sizeof pidfile, "%s/%s.pid", house->folder, name);
    snprintf(log, sizeof log, "%s/%s.log", house->folder, name);
    qmp = launch_qemu(house->qmp, &launch, &wait, NULL, NULL, &err);
    if (!qmp)
        fail_msg("%s", err.text);
    pidfd = fcntl(qmp_pidfd(qmp), F_DUPFD_CLOEXEC, 0);
    assert_true(pidfd >= 0);
    house->others[house->other_count++] = pidfd;
    qmp_free(qmp);
    return pidfd;
}

/* ---- looking --------------------------------------------------------------------------------- */

bool house_has(const struct house *house, const char *path)
{
    char whole[2 * HOUSE_PATH];

    snprintf(whole, sizeof whole, "%s/%s", house->folder, path);
    return access(whole, F_OK) == 0;
}

void house_write(const struct house *house, const char *path, const void *data, size_t length)
{
    CLEANUP_FCLOSE FILE *file = NULL;
    char whole[2 * HOUSE_PATH];

    snprintf(whole, sizeof whole, "%s/%s", house->folder, path);
    file = fopen(whole, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
}

void assert_state(struct domain *domain, const char *text)
{
    char state[128];

    domain_state_text(domain, state, sizeof state);
    assert_string_equal(state, text);
}

void house_wait_state(struct domain *domain, const char *text)
{
    const struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
    uint64_t end = loop_clock() + WAIT_MS * LOOP_MS;
    char state[128];

    do {
        domain_state_text(domain, state, sizeof state);
        if (strcmp(state, text) == 0)
            return;
        nanosleep(&tick, NULL);
    } while (loop_clock() < end);
    fail_msg("%s is %s, not %s", domain_name(domain), state, text);
}

void assert_unknown(struct house *house, const char *name)
{
    char sentence[256], path[HOUSE_PATH];
    struct error err = ERROR_INIT;

    assert_null(domains_find(house->domains, name, &err));
    snprintf(sentence, sizeof sentence,
             "no domain named %s here; \"bistream list --all\" shows what is", name);
    assert_string_equal(err.text, sentence);
    snprintf(path, sizeof path, "state/domains/%s.json", name);
    assert_false(house_has(house, path));
}
