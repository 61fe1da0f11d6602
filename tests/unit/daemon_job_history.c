/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The migrations that have ended: in order, bounded, and there again after a restart. */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/job_history.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/bistream-history.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static unsigned each_file(const char *remove)
{
    char path[128];
    unsigned count = 0;
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "%s/jobs", folder);
    dir = opendir(path);
    if (!dir)
        return 0;
    while ((entry = readdir(dir))) {
        count += entry->d_name[0] != '.';
        if (remove)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    if (remove)
        rmdir(path);
    return count;
}

static int remove_folder(void **state)
{
    (void)state;
    each_file("all");
    return rmdir(folder);
}

/* Job number I, of the guest "even" or "odd", which ended at the second I. */
static void add(struct job_history *history, unsigned i, const char *error)
{
    struct bs_progress parts[2] = {{.target = (char *)"", .total = i, .transferred = i, .rate = 7},
                                   {.target = (char *)"vda", .total = UINT64_MAX}};
    struct bs_job_info info = {.name = (char *)(i % 2 ? "odd" : "even"),
                               .destination = (char *)"bistream://b",
                               .phase = (char *)"memory",
                               .mode = (char *)"tunnel",
                               .fallback = (char *)"b knows no better",
                               .outcome = *error ? BS_OUTCOME_FAILED : BS_OUTCOME_COMPLETED,
                               .error = (char *)error,
                               .started = i,
                               .elapsed_ms = 1,
                               .downtime_ms = 2,
                               .parts = {2, parts},
                               .dirty_rate = 3,
                               .bandwidth = 4,
                               .round_trip_us = 5,
                               .link_losses = 6,
                               .stall_ms = 8};

    memcpy(info.id, &i, sizeof i);
    job_history_add(history, &info);
}

/* NAME's jobs are COUNT, the first is number FIRST and the last number LAST. */
static void expect(struct job_history *history, const char *name, unsigned count, unsigned first,
                   unsigned last)
{
    struct bs_job_info_ret ret = {0};
    struct error err = ERROR_INIT;

    assert_int_equal(job_history_list(history, name, &ret, &err), 0);
    assert_int_equal(ret.jobs.jobs_len, count);
    if (count > 0) {
        assert_int_equal(ret.jobs.jobs_val[0].started, first);
        assert_int_equal(ret.jobs.jobs_val[count - 1].started, last);
    }
    xdr_free((xdrproc_t)xdr_bs_job_info_ret, (char *)&ret);
}

static void test_everything_comes_back(void **state)
{
    struct job_history *history = job_history_open(folder);
    struct bs_job_info_ret ret = {0};
    struct error err = ERROR_INIT;
    const struct bs_job_info *info;

    (void)state;
    expect(history, "", 0, 0, 0);
    add(history, 1, "the peer said \xff");
    job_history_free(history);
    history = job_history_open(folder);
    assert_int_equal(job_history_list(history, "odd", &ret, &err), 0);
    assert_int_equal(ret.jobs.jobs_len, 1);
    info = ret.jobs.jobs_val;
    assert_int_equal(info->id[0], 1);
    assert_string_equal(info->name, "odd");
    assert_string_equal(info->destination, "bistream://b");
    assert_string_equal(info->phase, "memory");
    assert_string_equal(info->mode, "tunnel");
    assert_string_equal(info->fallback, "b knows no better");
    assert_int_equal(info->outcome, BS_OUTCOME_FAILED);
    assert_string_equal(info->error, "the peer said ?");
    assert_int_equal(info->elapsed_ms, 1);
    assert_int_equal(info->downtime_ms, 2);
    assert_int_equal(info->parts.parts_len, 2);
    assert_string_equal(info->parts.parts_val[0].target, "");
    assert_int_equal(info->parts.parts_val[0].rate, 7);
    assert_string_equal(info->parts.parts_val[1].target, "vda");
    assert_int_equal(info->parts.parts_val[1].total, INT64_MAX); /* as far as JSON goes */
    assert_int_equal(info->dirty_rate, 3);
    assert_int_equal(info->bandwidth, 4);
    assert_int_equal(info->round_trip_us, 5);
    assert_int_equal(info->link_losses, 6);
    assert_int_equal(info->stall_ms, 8);
    xdr_free((xdrproc_t)xdr_bs_job_info_ret, (char *)&ret);
    job_history_free(history);
}

static void test_the_last_ones_stay(void **state)
{
    const unsigned more = BS_COMPLETED_MAX + 10;
    struct job_history *history = job_history_open(folder);

    (void)state;
    for (unsigned i = 1; i <= more; i++)
        add(history, i, "");
    expect(history, "", BS_COMPLETED_MAX, more, 11);
    expect(history, "odd", BS_COMPLETED_MAX / 2, more - 1, 11);
    expect(history, "nobody", 0, 0, 0);
    assert_int_equal(each_file(NULL), BS_COMPLETED_MAX);
    job_history_free(history);
    history = job_history_open(folder);
    expect(history, "", BS_COMPLETED_MAX, more, 11);
    job_history_free(history);
}

/* What was told first is what happened. */
static void test_known_already(void **state)
{
    struct job_history *history = job_history_open(folder);
    struct bs_job_info_ret ret = {0};
    struct error err = ERROR_INIT;

    (void)state;
    add(history, 1, "");
    add(history, 1, "started again in the middle of it");
    assert_int_equal(job_history_list(history, "", &ret, &err), 0);
    assert_int_equal(ret.jobs.jobs_len, 1);
    assert_int_equal(ret.jobs.jobs_val[0].outcome, BS_OUTCOME_COMPLETED);
    xdr_free((xdrproc_t)xdr_bs_job_info_ret, (char *)&ret);
    job_history_free(history);
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/jobs/%s.json", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Broken files cost what stood in them, and stay for somebody to look at. */
static void test_broken_files(void **state)
{
    static const char good[] =
        "{\"version\": 1, \"id\": \"%s\", \"name\": \"web\", \"destination\": \"x\", "
        "\"phase\": \"\", \"mode\": \"\", \"fallback\": \"\", \"outcome\": \"%s\", \"error\": "
        "\"\", "
        "\"started\": %s, \"elapsed_ms\": 0, \"downtime_ms\": 0, \"parts\": %s, \"dirty_rate\": 0, "
        "\"bandwidth\": 0, \"round_trip_us\": 0, \"link_losses\": 0, \"stall_ms\": 0}";
    static const char *const broken[][4] = {
        {"00000000000000000000000000000002", "completed", "1", "[]"}, /* another's name */
        {"0000000000000000000000000000000", "completed", "1", "[]"},
        {"00000000000000000000000000000001", "unresolved", "1", "[]"},
        {"00000000000000000000000000000001", "completed", "-1", "[]"},
        {"00000000000000000000000000000001", "completed", "\"1\"", "[]"},
        {"00000000000000000000000000000001", "completed", "1", "{}"},
        {"00000000000000000000000000000001", "completed", "1", "[{\"target\": \"vda\"}]"},
        {"00000000000000000000000000000001", "completed", "1", "[7]"},
    };
    static const char id[] = "00000000000000000000000000000001";
    struct job_history *history = job_history_open(folder);
    char text[1024];

    (void)state;
    job_history_free(history);
    for (size_t i = 0; i < ARRAY_LENGTH(broken); i++) {
        snprintf(text, sizeof text, good, broken[i][0], broken[i][1], broken[i][2], broken[i][3]);
        write_file(id, text);
        history = job_history_open(folder);
        expect(history, "", 0, 0, 0);
        job_history_free(history);
    }
    write_file(id, "{\"version\": 2}");
    write_file("nonsense", "nonsense");
    history = job_history_open(folder);
    expect(history, "", 0, 0, 0);
    job_history_free(history);
    snprintf(text, sizeof text, good, id, "completed", "1", "[]");
    write_file(id, text);
    history = job_history_open(folder);
    expect(history, "", 1, 1, 1);
    assert_int_equal(each_file(NULL), 2);
    job_history_free(history);
}

/* A folder that can't be made is nothing that a migration fails for. */
static void test_no_folder(void **state)
{
    struct job_history *history = job_history_open("/dev/null");

    (void)state;
    assert_non_null(history);
    add(history, 1, "");
    expect(history, "", 1, 1, 1);
    job_history_free(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everything_comes_back, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_the_last_ones_stay, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_known_already, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_broken_files, make_folder, remove_folder),
        cmocka_unit_test(test_no_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
