/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * daemon/volume.h: images that a migration makes, undone, kept for the next attempt and taken up by
 * it.  No step touches a file that isn't its own, in whatever order they come and come again.
 */
#include "config.h"

#include "tests/daemon/house.h"

#include "daemon/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 1 << 20 };

static const struct volume_spec qcow2 = {.format = "qcow2", .size = SIZE};
static const struct volume_spec raw = {.format = "raw", .size = SIZE};

static char folder[64], path[96], partial[128];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/bistream-volume.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/web-vda.img", folder);
    snprintf(partial, sizeof partial, "%s.partial-GUEST", path);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_holds(const char *name, const char *text)
{
    char content[64] = "";
    FILE *file = fopen(name, "re");

    assert_non_null(file);
    assert_non_null(fgets(content, sizeof content, file));
    fclose(file);
    assert_string_equal(content, text);
}

static ino_t inode_of(const char *name)
{
    struct stat st;

    assert_int_equal(stat(name, &st), 0);
    return st.st_ino;
}

static void assert_absent(const char *name)
{
    assert_int_equal(access(name, F_OK), -1);
}

/* ---- volumes --------------------------------------------------------------------------------- */

/* Of the attempt ID; RETURNING: the guest's old image is there. */
static struct volume planned(const char *id, bool returning)
{
    struct error err = ERROR_INIT;
    struct volume volume;

    if (returning)
        write_file(path, "old");
    assert_ok(volume_plan(path, id, returning, &volume, &err), &err);
    volume.partial = strdup(partial);
    assert_non_null(volume.partial);
    return volume;
}

static struct volume made(const char *id, const struct volume_spec *spec, bool returning)
{
    struct volume volume = planned(id, returning);
    struct error err = ERROR_INIT;

    assert_ok(volume_make(&volume, spec, &err), &err);
    return volume;
}

static struct volume placed(const char *id, const struct volume_spec *spec, bool returning)
{
    struct volume volume = made(id, spec, returning);
    struct error err = ERROR_INIT;

    assert_ok(volume_place(&volume, &err), &err);
    assert_int_equal(inode_of(path), volume.inode);
    return volume;
}

static struct volume kept(const struct volume_spec *spec)
{
    struct volume volume = placed("1", spec, false);
    struct error err = ERROR_INIT;

    assert_ok(volume_keep(&volume, &err), &err);
    assert_int_equal(inode_of(partial), volume.inode);
    return volume;
}

static void keep(struct volume *volume)
{
    struct error err = ERROR_INIT;

    assert_ok(volume_keep(volume, &err), &err);
}

static void undo(const struct volume *volume)
{
    struct error err = ERROR_INIT;

    assert_ok(volume_undo(volume, &err), &err);
}

/* ---- kept ------------------------------------------------------------------------------------ */

static void test_keep_puts_the_old_image_back(void **state)
{
    struct volume volume = placed("1", &qcow2, true);

    (void)state;
    assert_holds(volume.aside, "old");
    for (int i = 0; i < 2; i++) { /* harmless when repeated */
        keep(&volume);
        assert_int_equal(inode_of(partial), volume.inode);
        assert_holds(path, "old");
        assert_absent(volume.aside);
    }
    undo(&volume);
    assert_absent(partial);
    assert_holds(path, "old");
    volume_clear(&volume);
}

/* The daemon was killed before the inode got into the journal. */
static void test_keep_what_was_only_made(void **state)
{
    struct volume volume = made("1", &raw, false);
    ino_t inode = volume.inode;

    (void)state;
    volume.created = false;
    volume.inode = 0;
    keep(&volume);
    assert_int_equal(inode_of(partial), inode);
    assert_absent(volume.fresh);
    undo(&volume); /* it is known by now */
    assert_absent(partial);
    volume_clear(&volume);
}

static void test_keep_what_was_never_made(void **state)
{
    struct volume volume = planned("1", true);

    (void)state;
    keep(&volume);
    assert_absent(partial);
    assert_holds(path, "old");
    volume_clear(&volume);
}

/* It was replaced by hand. */
static void test_keep_leaves_what_is_not_ours(void **state)
{
    struct volume volume = placed("1", &raw, false);
    char away[128];

    (void)state;
    snprintf(away, sizeof away, "%s/away", folder); /* else its inode might be given out again */
    assert_int_equal(rename(path, away), 0);
    write_file(path, "somebody's");
    keep(&volume);
    undo(&volume);
    assert_holds(path, "somebody's");
    assert_absent(partial);
    volume_clear(&volume);
}

/* Once kept, what stands at PATH is the operator's, though it has the inode: it was moved there, or the
 * file system has given the inode of a file that was deleted out again. */
static void test_kept_and_moved_by_hand(void **state)
{
    struct volume volume = kept(&raw);

    (void)state;
    assert_int_equal(rename(partial, path), 0);
    keep(&volume);
    undo(&volume);
    assert_int_equal(inode_of(path), volume.inode);
    assert_absent(partial);
    volume_clear(&volume);
}

static void test_keep_replaces_nothing(void **state)
{
    struct volume volume = placed("1", &qcow2, true);
    struct error err = ERROR_INIT;

    (void)state;
    write_file(partial, "somebody's");
    assert_int_equal(volume_keep(&volume, &err), -EEXIST);
    assert_non_null(strstr(err.text, partial));
    assert_int_equal(inode_of(path), volume.inode);
    assert_holds(volume.aside, "old");
    undo(&volume); /* what the fence does then */
    assert_holds(path, "old");
    assert_holds(partial, "somebody's");
    volume_clear(&volume);
}

static void test_keep_where_it_can_not_be(void **state)
{
    struct volume volume = placed("1", &raw, false);
    struct error err = ERROR_INIT;

    (void)state;
    free(volume.partial);
    assert_true(asprintf(&volume.partial, "%s/none/partial", folder) > 0);
    assert_int_equal(volume_keep(&volume, &err), -ENOENT);
    assert_non_null(strstr(err.text, volume.partial));
    assert_int_equal(inode_of(path), volume.inode);
    undo(&volume);
    assert_absent(path);
    volume_clear(&volume);
}

/* ---- taken up -------------------------------------------------------------------------------- */

static void test_take_up(void **state)
{
    struct volume before = kept(&qcow2), now = planned("2", true);
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(volume_take_up(&now, &qcow2, &before));
    assert_int_equal(inode_of(now.fresh), before.inode);
    assert_int_equal(now.inode, before.inode);
    assert_true(now.created);
    assert_absent(partial);
    undo(&before); /* what becomes of the earlier attempt, before or after this one is placed */
    assert_ok(volume_place(&now, &err), &err);
    undo(&before);
    keep(&before);
    assert_int_equal(inode_of(path), now.inode);
    assert_holds(now.aside, "old");
    keep(&now); /* it breaks off again */
    assert_int_equal(inode_of(partial), now.inode);
    assert_holds(path, "old");
    volume_clear(&before);
    volume_clear(&now);
}

/* VOLUME is not taken up for SPEC, and stays as it is. */
static void refused(const struct volume *volume, const struct volume_spec *spec)
{
    struct volume now = planned("2", false);
    struct error err = ERROR_INIT;

    assert_false(volume_take_up(&now, spec, volume));
    assert_false(now.created);
    assert_absent(now.fresh);
    assert_int_equal(inode_of(partial), volume->inode);
    assert_ok(volume_make(&now, &qcow2, &err), &err); /* so a new one is made */
    undo(&now);
    volume_clear(&now);
}

static void test_take_up_what_does_not_fit(void **state)
{
    const struct volume_spec larger = {.format = "qcow2", .size = 2 * SIZE};
    struct volume_spec over = {.format = "qcow2", .size = SIZE, .backing_format = "raw"};
    struct volume before = kept(&qcow2);
    char base[128];

    (void)state;
    snprintf(base, sizeof base, "%s/base", folder);
    over.backing = base;
    write_file(base, "base");
    refused(&before, &larger);
    refused(&before, &over);
    volume_clear(&before);
}

static void test_take_up_what_is_damaged(void **state)
{
    static const char zeroes[64];
    struct volume before = kept(&qcow2);
    int fd = open(partial, O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(pwrite(fd, zeroes, sizeof zeroes, 0), sizeof zeroes);
    close(fd);
    refused(&before, &qcow2);
    volume_clear(&before);
}

/* Of another disk, or another file by now. */
static void test_take_up_what_is_not_it(void **state)
{
    struct volume before = kept(&raw), now = planned("2", false);
    struct volume other = before;
    char name[128];

    (void)state;
    snprintf(name, sizeof name, "%s/web-vdb.img", folder);
    other.path = name;
    assert_false(volume_take_up(&now, &raw, &other));
    other = before;
    other.inode++;
    assert_false(volume_take_up(&now, &raw, &other));
    assert_int_equal(inode_of(partial), before.inode);
    volume_clear(&before);
    volume_clear(&now);
}

static void test_take_up_replaces_nothing(void **state)
{
    struct volume before = kept(&raw), now = planned("2", false);

    (void)state;
    write_file(now.fresh, "somebody's");
    assert_false(volume_take_up(&now, &raw, &before));
    assert_holds(now.fresh, "somebody's");
    assert_int_equal(inode_of(partial), before.inode);
    volume_clear(&before);
    volume_clear(&now);
}

#define VOLUME_TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        VOLUME_TEST(test_keep_puts_the_old_image_back),
        VOLUME_TEST(test_keep_what_was_only_made),
        VOLUME_TEST(test_keep_what_was_never_made),
        VOLUME_TEST(test_keep_leaves_what_is_not_ours),
        VOLUME_TEST(test_kept_and_moved_by_hand),
        VOLUME_TEST(test_keep_replaces_nothing),
        VOLUME_TEST(test_keep_where_it_can_not_be),
        VOLUME_TEST(test_take_up),
        VOLUME_TEST(test_take_up_what_does_not_fit),
        VOLUME_TEST(test_take_up_what_is_damaged),
        VOLUME_TEST(test_take_up_what_is_not_it),
        VOLUME_TEST(test_take_up_replaces_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
