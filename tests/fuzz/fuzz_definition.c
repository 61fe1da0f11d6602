/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Definitions of guests that come from a peer.  Each is refused with a sentence, or it names no
 * path, keeps the limits, and means the same when it is written out and read again.
 */
#include "config.h"

#include "daemon/definition.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check_file(const char *file)
{
    MUST(!file || (file[0] != '.' && file[0] != '-' && file[0] != '\0' && !strchr(file, '/') &&
                   !strchr(file, ',') && strlen(file) <= DEFINITION_FILE_MAX));
}

static void check_taken(const struct definition *definition)
{
    MUST(definition_check_name(definition->name, NULL) == 0);
    MUST(definition->memory > 0 && definition->memory % (1 << 20) == 0);
    MUST(definition->vcpus > 0);
    MUST(definition->machine && !strchr(definition->machine, ','));
    MUST(definition->disk_count <= BS_DISKS_MAX);
    MUST(definition->nic_count <= DEFINITION_NICS_MAX);
    check_file(definition->firmware);
    check_file(definition->serial_log);
    for (size_t i = 0; i < definition->disk_count; i++) {
        MUST(strncmp(definition->disks[i].target, "vd", 2) == 0);
        check_file(definition->disks[i].file);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error err = ERROR_INIT;
    struct definition *definition, *again;
    char *text, *text_again;

    definition = definition_parse((const char *)data, length, DEFINITION_PEER, &err);
    MUST(!definition == (err.code != 0));
    MUST(definition || err.text[0]);
    if (!definition)
        return 0;
    check_taken(definition);
    text = definition_to_text(definition, DEFINITION_PEER);
    MUST(text);
    again = definition_parse(text, strlen(text), DEFINITION_PEER, &err);
    MUST(again);
    text_again = definition_to_text(again, DEFINITION_PEER);
    MUST(strcmp(text, text_again) == 0);
    free(text);
    free(text_again);
    definition_free(definition);
    definition_free(again);
    return 0;
}
