/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a real libvirtd 9.0 says, captured in libvirtd-9.0.txt: we read each answer as its comment
 * does, and give the same answers byte for byte where they don't depend on libvirt's procedures.
 *
 * For the latter the two change places.  Where libvirtd was asked for one of its programs, we are
 * asked for ours; where it was asked for ours, we are asked for its.  The answers must then be the
 * captured ones with the programs' numbers exchanged, in the header and in the text (where all of
 * them have nine digits).
 */
#include "config.h"

#include "rpc/dispatch.h"
#include "rpc/error.h"
#include "tests/unit/unit.h"
#include "tests/unit/vectors.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LIBVIRT_PROGRAM = 0x20008086, LIBVIRT_QEMU_PROGRAM = 0x20008087 };

struct vector {
    char name[64];
    char answer[16]; /* "", "<none>", "<closed>" */
    char comment[1024];
    uint8_t sent[64], received[512];
    size_t sent_length, received_length;
};

/* Reads the next vector and the comment right behind it.  Returns false at the end. */
static bool read_vector(FILE *file, struct vector *vector)
{
    char *line = NULL;
    size_t size = 0;
    long before;

    memset(vector, 0, sizeof *vector);
    while (vector->answer[0] == '\0' && vector->received_length == 0 &&
           vectors_line(file, &line, &size)) {
        if (strncmp(line, "name ", 5) == 0)
            snprintf(vector->name, sizeof vector->name, "%s", line + 5);
        else if (strncmp(line, "> ", 2) == 0)
            vector->sent_length = vectors_hex(line + 2, vector->sent, sizeof vector->sent);
        else if (strncmp(line, "< <", 3) == 0)
            snprintf(vector->answer, sizeof vector->answer, "%s", line + 2);
        else if (strncmp(line, "< ", 2) == 0)
            vector->received_length =
                vectors_hex(line + 2, vector->received, sizeof vector->received);
    }
    before = ftell(file);
    if (vectors_line(file, &line, &size) && strncmp(line, "# error ", 8) == 0)
        snprintf(vector->comment, sizeof vector->comment, "%s", line);
    else
        fseek(file, before, SEEK_SET);
    free(line);
    return vector->sent_length > 0;
}

/* Gathers one message. */
static int on_begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct rpc_message *message = opaque;

    message->header = *header;
    message->payload = malloc(length + 1);
    assert_non_null(message->payload);
    return 0;
}

static int on_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct rpc_message *message = opaque;

    memcpy(message->payload + message->length, data, length);
    message->length += length;
    return 0;
}

static int on_end(void *opaque)
{
    (void)opaque;
    return -ECANCELED; /* tells a whole message from one that goes on */
}

/* Returns 1 with a whole message, 0 when it goes on, or what the decoder refuses it with. */
static int decode(const uint8_t *data, size_t length, struct rpc_message *ret)
{
    static const struct rpc_decoder_callbacks callbacks = {on_begin, on_payload, on_end};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = ret};
    size_t used;
    int r;

    memset(ret, 0, sizeof *ret);
    r = rpc_decoder_feed(&decoder, data, length, &used);
    if (r != -ECANCELED)
        return r;
    assert_int_equal(used, length);
    return 1;
}

static void check_error(const struct vector *vector, const struct rpc_message *reply)
{
    struct bs_error body = {0};
    struct error err;
    char text[sizeof vector->comment];

    assert_int_equal(
        rpc_payload_decode(reply->payload, reply->length, (xdrproc_t)xdr_bs_error, &body), 0);
    assert_null(body.dom);
    assert_null(body.str3);
    assert_null(body.net);
    snprintf(text, sizeof text,
             "# error code=%d domain='%d (RPC)' message='%s' level=%d dom=None str1='%s' str2='%s' "
             "str3=None int1=%d int2=%d net=None left_over=0",
             body.code, body.domain, *body.message, body.level, *body.str1, *body.str2, body.int1,
             body.int2);
    assert_string_equal(text, vector->comment);

    assert_int_equal(rpc_error_decode(reply->payload, reply->length, &err),
                     body.code == 39 ? -ENOSYS : -EPROTO);
    assert_string_equal(err.text, *body.message);
    xdr_free((xdrproc_t)xdr_bs_error, (char *)&body);
}

static void test_its_answers_are_understood(void **state)
{
    FILE *file = vectors_open("libvirtd-9.0.txt");
    struct vector vector;
    int errors = 0, results = 0;

    (void)state;
    while (read_vector(file, &vector)) {
        struct rpc_message reply;

        if (vector.received_length == 0)
            continue;
        assert_int_equal(decode(vector.received, vector.received_length, &reply), 1);
        assert_int_equal(reply.header.type, BS_REPLY);
        assert_memory_equal(vector.received + 4, vector.sent + 4, 12);  /* program to procedure */
        assert_memory_equal(vector.received + 20, vector.sent + 20, 4); /* serial */
        assert_int_equal(reply.header.status, vector.comment[0] ? BS_ERROR : BS_OK);
        if (vector.comment[0]) {
            check_error(&vector, &reply);
            errors++;
        } else {
            results++;
        }
        rpc_message_clear(&reply);
    }
    assert_int_equal(errors, 11);
    assert_int_equal(results, 3);
    fclose(file);
}

static uint32_t other_program(uint32_t program)
{
    if (program == LIBVIRT_PROGRAM || program == LIBVIRT_QEMU_PROGRAM)
        return BS_PROGRAM;
    return program == BS_PROGRAM ? LIBVIRT_PROGRAM : program;
}

static void replace_all(uint8_t *data, size_t length, const char *from, const char *to)
{
    size_t n = strlen(from);

    for (size_t i = 0; i + n <= length; i++)
        if (memcmp(data + i, from, n) == 0)
            memcpy(data + i, to, n);
}

/* Exchanges the programs in a message that is as long as LENGTH. */
static void change_places(uint8_t *data, size_t length)
{
    uint32_t from = 0, to;
    char from_text[16], to_text[16];

    for (size_t i = 4; i < 8; i++)
        from = from << 8 | data[i];
    to = other_program(from);
    for (size_t i = 0; i < 4; i++)
        data[4 + i] = (uint8_t)(to >> (24 - 8 * i));
    snprintf(from_text, sizeof from_text, "%u", from);
    snprintf(to_text, sizeof to_text, "%u", to);
    assert_int_equal(strlen(from_text), strlen(to_text));
    replace_all(data + 28, length - 28, from_text, to_text);
}

static bool is_about_libvirts_procedures(const struct vector *vector)
{
    return !strstr(vector->comment, "message='unknown procedure: ") &&
           !strstr(vector->comment, "message='Cannot find program ");
}

/* Returns true when we answer as libvirtd did; fails the test when we answer otherwise. */
static bool check_our_answer(struct vector *vector)
{
    const struct rpc_program nothing = {NULL, 0};
    struct rpc_message call;
    uint8_t *data = NULL;
    size_t length = 0;
    bool same = true;
    int r;

    change_places(vector->sent, vector->sent_length);
    r = decode(vector->sent, vector->sent_length, &call);
    if (r < 0) {
        assert_string_equal(vector->answer, "<closed>");
    } else if (r == 0) {
        assert_string_equal(vector->answer, "<none>");
    } else if (call.header.type != BS_CALL) {
        assert_string_equal(vector->answer, "<none>");
        assert_int_equal(rpc_dispatch(&nothing, RPC_CALLER_LINK, NULL, &call, &data, &length),
                         -EPROTO);
    } else if (is_about_libvirts_procedures(vector)) {
        same = false;
    } else {
        assert_int_equal(rpc_dispatch(&nothing, RPC_CALLER_LINK, NULL, &call, &data, &length), 0);
        change_places(vector->received, vector->received_length);
        assert_int_equal(length, vector->received_length);
        assert_memory_equal(data, vector->received, length);
    }
    free(data);
    rpc_message_clear(&call);
    return same;
}

static void test_we_answer_as_it_does(void **state)
{
    FILE *file = vectors_open("libvirtd-9.0.txt");
    struct vector vector;
    int same = 0, own = 0;

    (void)state;
    while (read_vector(file, &vector)) {
        print_message("%s\n", vector.name);
        if (check_our_answer(&vector))
            same++;
        else
            own++;
    }
    assert_int_equal(same, 14);
    assert_int_equal(own, 5);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_its_answers_are_understood),
        cmocka_unit_test(test_we_answer_as_it_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
