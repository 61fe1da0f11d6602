/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The control socket's calls about domains: see domain_service.h. */
#include "config.h"

#include "daemon/domain_service.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "daemon/control.h"
#include "daemon/domain.h"
#include "rpc/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct domains *domains_of(void *opaque)
{
    const struct control_connection *connection = opaque;

    return connection->daemon->domains;
}

int domain_handle_start(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_domain_start_args *start = args;
    struct definition *definition = NULL;
    int r;

    (void)ret;
    if (start->definition[0]) {
        definition = definition_parse(start->definition, strlen(start->definition),
                                      DEFINITION_OPERATOR, err);
        if (!definition)
            return -err->code;
    }
    r = domain_start(domains_of(opaque), start->name, definition, start->force, err);
    definition_free(definition);
    return r;
}

int domain_handle_attach(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_domain_attach_args *attach = args;

    (void)ret;
    return domain_attach(domains_of(opaque), attach->name, attach->qmp, attach->incoming, err);
}

static int describe(struct domain *domain, struct bs_domain *ret)
{
    char state[BS_TEXT_MAX];

    domain_state_text(domain, state, sizeof state);
    ret->name = strdup(domain_name(domain));
    ret->state = strdup(state);
    domain_uuid(domain, (uint8_t *)ret->uuid);
    ret->pid = domain_pid(domain);
    ret->attached = domain_attached(domain);
    ret->persistent = domain_persistent(domain);
    return ret->name && ret->state ? 0 : -ENOMEM;
}

int domain_handle_list(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_domain_list_args *list = args;
    struct bs_domain_list_ret *result = ret;
    struct domain **all = NULL;
    size_t count = 0, used = 0;
    int r;

    r = domains_list(domains_of(opaque), &all, &count);
    if (r == 0 && count > BS_DOMAINS_MAX) {
        log_warning("of %zu domains only %d are listed", count, BS_DOMAINS_MAX);
    }
    result->domains.domains_val = calloc(count + 1, sizeof(struct bs_domain));
    if (!result->domains.domains_val)
        r = -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        if (r == 0 && used < BS_DOMAINS_MAX && (list->all || domain_pid(all[i]))) {
            r = describe(all[i], &result->domains.domains_val[used]);
            result->domains.domains_len = (u_int)++used;
        }
        domain_unref(all[i]);
    }
    free(all);
    return r < 0 ? error_set(err, ENOMEM, "no memory to list the domains") : 0;
}

int domain_handle_info(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_domain_name_args *which = args;
    struct bs_domain_info_ret *result = ret;
    struct domain *domain = domains_find(domains_of(opaque), which->name, err);
    json_t *json;

    if (!domain)
        return -err->code;
    json = domain_info(domain);
    domain_unref(domain);
    result->json = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return result->json ? 0 : error_set(err, ENOMEM, "no memory to describe %s", which->name);
}

/* Looks the domain up and does FUNCTION to it. */
static int with_domain(void *opaque, const void *args,
                       int (*function)(struct domain *domain, struct error *err), struct error *err)
{
    const struct bs_domain_name_args *which = args;
    struct domain *domain = domains_find(domains_of(opaque), which->name, err);
    int r = domain ? function(domain, err) : -err->code;

    domain_unref(domain);
    return r;
}

int domain_handle_shutdown(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)ret;
    return with_domain(opaque, args, domain_shutdown, err);
}

int domain_handle_destroy(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)ret;
    return with_domain(opaque, args, domain_destroy, err);
}

int domain_handle_undefine(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)ret;
    return with_domain(opaque, args, domain_undefine, err);
}
