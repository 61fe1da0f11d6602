/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What both kinds of bistream pki check find, and how it is said: see pki.h. */
#include "config.h"

#include "client/pki.h"

#include "client/output.h"

#include <stdarg.h>
#include <stdio.h>

enum { WARN_DAYS = 30, DAY = 86400 };

void pki_finding(json_t *list, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(list, output_json_string(text));
}

void pki_check_expiry(struct pki_findings *findings, const char *what, time_t expires)
{
    char date[PKI_DATE_MAX];
    time_t left = expires - time(NULL);

    pki_day(expires, date);
    if (left <= 0)
        pki_finding(findings->problems, "%s expired on %s", what, date);
    else if (left < (time_t)WARN_DAYS * DAY)
        pki_finding(findings->warnings, "%s expires in %ld days, on %s", what, (long)left / DAY,
                    date);
}

json_t *pki_describe(const char *subject, json_t *names, time_t expires)
{
    char date[PKI_DATE_MAX];

    return json_pack("{so so ss}", "subject", output_json_string(subject), "names", names,
                     "expires", pki_date(expires, date));
}

void pki_print_description(const char *label, const json_t *description)
{
    const json_t *name;
    size_t i;

    if (!json_is_object(description))
        return;
    printf("%-13s ", label);
    output_text(json_string_value(json_object_get(description, "subject")));
    json_array_foreach (json_object_get(description, "names"), i, name) {
        fputs(i ? ", " : "; for ", stdout);
        output_text(json_string_value(name));
    }
    /* The day is what people want to know. */
    printf("; valid until %.10s\n", json_string_value(json_object_get(description, "expires")));
}

enum command_exit pki_report(const struct client *client, json_t *facts,
                             struct pki_findings *findings)
{
    bool ok = json_array_size(findings->problems) == 0;
    const json_t *sentence;
    size_t i;

    fflush(stdout);
    json_array_foreach (findings->problems, i, sentence)
        fprintf(stderr, "bistream: %s\n", json_string_value(sentence));
    json_array_foreach (findings->warnings, i, sentence)
        fprintf(stderr, "bistream: warning: %s\n", json_string_value(sentence));
    json_object_set_new(facts, "ok", json_boolean(ok));
    json_object_set_new(facts, "problems", findings->problems);
    json_object_set_new(facts, "warnings", findings->warnings);
    if (client->json)
        output_json(facts);
    else
        json_decref(facts);
    return ok ? COMMAND_DONE : COMMAND_FAILED;
}
