/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The fake daemon's guests: see fake_daemon.h. */
#include "config.h"

#include "tests/client/fake_daemon.h"

#include <stdlib.h>
#include <string.h>

int handle_start(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_start_args *args = in;

    (void)opaque, (void)out;
    fprintf(fake_calls, "start name='%s' definition='%s' force=%d\n", args->name, args->definition,
            args->force);
    return strcmp(args->name, "missing") == 0 ? fake_no_domain(args->name, err) : 0;
}

int handle_attach(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_attach_args *args = in;

    (void)opaque, (void)out, (void)err;
    fprintf(fake_calls, "attach name='%s' qmp='%s' incoming=%d\n", args->name, args->qmp,
            args->incoming);
    return 0;
}

int handle_list(void *opaque, const void *in, void *out, struct error *err)
{
    static const struct {
        const char *name, *state;
        int pid, attached, persistent;
    } domains[] = {{"web", "running", 4242, 0, 1},
                   {"db\033[2J", "paused", 17, 1, 0},
                   {"moved", "moved to b.example", 0, 0, 1}};
    const struct bs_domain_list_args *args = in;
    struct bs_domain_list_ret *ret = out;
    u_int count = args->all ? 3 : 2;

    (void)opaque, (void)err;
    ret->domains.domains_val = calloc(count, sizeof *ret->domains.domains_val);
    if (!ret->domains.domains_val)
        abort();
    ret->domains.domains_len = count;
    for (u_int i = 0; i < count; i++) {
        struct bs_domain *domain = &ret->domains.domains_val[i];

        domain->name = fake_copy(domains[i].name);
        domain->state = fake_copy(domains[i].state);
        domain->pid = domains[i].pid;
        domain->attached = domains[i].attached;
        domain->persistent = domains[i].persistent;
        memset(domain->uuid, 0x10 + (int)i, sizeof domain->uuid);
    }
    return 0;
}

int handle_info(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_name_args *args = in;
    struct bs_domain_info_ret *ret = out;

    (void)opaque;
    if (strcmp(args->name, "web") != 0)
        return fake_no_domain(args->name, err);
    ret->json =
        fake_copy("{\"name\":\"web\",\"uuid\":\"10101010-1010-1010-1010-101010101010\","
                  "\"state\":\"running\",\"pid\":4242,\"attached\":false,\"persistent\":false,"
                  "\"machine\":\"q35\","
                  "\"vcpus\":2,\"memory\":268435456,\"disks\":[{\"target\":\"vda\",\"file\":"
                  "\"/pool/web.qcow2\",\"format\":\"qcow2\",\"size\":1073741824,\"readonly\":"
                  "false,\"empty\":false},{\"target\":\"cd\",\"file\":null,\"readonly\":true,"
                  "\"empty\":true}],\"qmp\":\"/run/web.qmp\",\"moved_to\":null,\"job\":null}");
    return 0;
}

static int handle_named(const char *call, const void *in, struct error *err)
{
    const struct bs_domain_name_args *args = in;

    fprintf(fake_calls, "%s name='%s'\n", call, args->name);
    return strcmp(args->name, "web") == 0 ? 0 : fake_no_domain(args->name, err);
}

int handle_shutdown(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("shutdown", in, err);
}

int handle_destroy(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("destroy", in, err);
}

int handle_undefine(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("undefine", in, err);
}
