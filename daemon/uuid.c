/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* UUIDs as text and back: see uuid.h. */
#include "config.h"

#include "daemon/uuid.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/random.h>

static bool dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_to_text(const uint8_t uuid[UUID_SIZE], char ret[UUID_TEXT_SIZE])
{
    char *at = ret;

    for (size_t i = 0; i < UUID_SIZE; i++)
        at += sprintf(at, dash_before(i) ? "-%02x" : "%02x", uuid[i]);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int uuid_from_text(const char *text, uint8_t ret[UUID_SIZE])
{
    uint8_t uuid[UUID_SIZE];

    for (size_t i = 0; i < UUID_SIZE; i++) {
        int high, low;

        if (dash_before(i) && *text++ != '-')
            return -EINVAL;
        high = hex_digit(text[0]);
        low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return -EINVAL;
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    for (size_t i = 0; i < UUID_SIZE; i++)
        ret[i] = uuid[i];
    return 0;
}

int uuid_make(uint8_t ret[UUID_SIZE])
{
    if (getrandom(ret, UUID_SIZE, 0) != UUID_SIZE)
        return -errno;
    ret[6] = (uint8_t)((ret[6] & 0x0f) | 0x40); /* RFC 9562: version 4, random */
    ret[8] = (uint8_t)((ret[8] & 0x3f) | 0x80); /* its variant */
    return 0;
}
