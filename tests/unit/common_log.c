/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The log: one whole line per call, whatever a peer wrote into it. */
#include "config.h"

#include "common/log.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Standard error goes into a file while lines are written. */
struct capture {
    FILE *file;
    int stderr_before;
};

static struct capture begin(void)
{
    struct capture capture = {.file = tmpfile(), .stderr_before = dup(STDERR_FILENO)};

    assert_non_null(capture.file);
    dup2(fileno(capture.file), STDERR_FILENO);
    return capture;
}

static void end(struct capture *capture, char *text, size_t size)
{
    size_t length;

    dup2(capture->stderr_before, STDERR_FILENO);
    close(capture->stderr_before);
    rewind(capture->file);
    length = fread(text, 1, size - 1, capture->file);
    text[length] = '\0';
    fclose(capture->file);
}

static void test_lines(void **state)
{
    struct capture capture = begin();
    char text[4096];

    (void)state;
    log_error("session %s: %d", "3f2a", 5);
    log_debug("not at this level");
    log_info("a\nb\033c\177");
    end(&capture, text, sizeof text);
    assert_non_null(strstr(text, " error: session 3f2a: 5\n"));
    assert_null(strstr(text, "level"));
    assert_non_null(strstr(text, " a b c \n"));
}

static void test_long_line(void **state)
{
    struct capture capture = begin();
    char long_text[3000], text[4096];

    (void)state;
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    log_info("%s", long_text);
    end(&capture, text, sizeof text);
    assert_in_range(strlen(text), 2000, 2048);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_errno_is_left_alone(void **state)
{
    struct capture capture = begin();
    char text[256];

    (void)state;
    close(STDERR_FILENO); /* so that writing fails */
    errno = ENOENT;
    log_info("nobody hears it");
    assert_int_equal(errno, ENOENT);
    dup2(fileno(capture.file), STDERR_FILENO);
    end(&capture, text, sizeof text);
    assert_string_equal(text, "");
}

static void test_journal(void **state)
{
    struct capture capture = begin();
    char text[256], stream[64];
    struct stat st;

    (void)state;
    setenv("JOURNAL_STREAM", "1:1", 1); /* inherited: another one's */
    log_warning("to a terminal");
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_warning("to the journal");
    unsetenv("JOURNAL_STREAM");
    end(&capture, text, sizeof text);
    assert_non_null(strstr(text, " warning: to a terminal\n<4>to the journal\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_errno_is_left_alone),
        cmocka_unit_test(test_journal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
