/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Numbers on the command line: see number.h. */
#include "config.h"

#include "client/number.h"

#include "common/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Digits only, no sign and no blanks, up to *RET_END.  Returns false when there are none, or too
 * many. */
static bool read_digits(const char *text, uint64_t *ret, char **ret_end)
{
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *ret = strtoull(text, ret_end, 10);
    return errno == 0;
}

int number_parse(const char *option, const char *text, const char *unit, uint64_t minimum,
                 uint64_t maximum, uint64_t *ret, struct error *err)
{
    uint64_t number;
    char *end;

    if (!read_digits(text, &number, &end) || *end || number < minimum || number > maximum)
        return error_set(err, EINVAL, "%s wants %s, %" PRIu64 " to %" PRIu64 ", not '%s'", option,
                         unit, minimum, maximum, text);
    *ret = number;
    return 0;
}

int number_parse_rate(const char *option, const char *text, uint64_t *ret, struct error *err)
{
    static const char suffixes[] = "KMGT";
    const char *suffix = "M";
    uint64_t number;
    char *end;

    if (!read_digits(text, &number, &end))
        end = NULL;
    else if (*end)
        suffix = end++;
    /* An empty suffix would be found too, at the end of the string. */
    if (!end || *end || !strchr(suffixes, *suffix) ||
        !checked_mul_u64(number, UINT64_C(1) << (10 * (strchr(suffixes, *suffix) - suffixes + 1)),
                         &number))
        return error_set(err, EINVAL,
                         "%s wants a rate such as 500K, 100M or 2G (bytes per second), not '%s'",
                         option, text);
    *ret = number;
    return 0;
}
