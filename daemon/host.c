/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What HOST_INFO says of this host: see host.h.
 *
 * A peer chooses a migration's mode by it, so nothing may be missing only because it isn't known yet:
 * QEMU is asked before the port is opened.  It answers within a fraction of a second; one that doesn't
 * at all holds up the start for ASK_TIMEOUT_MS.  QEMU's own certificates are looked at each time, as
 * they may be renewed, or expire, while we run.
 */
#include "config.h"

#include "daemon/host.h"
#include "daemon/direct_pki.h"
#include "daemon/peer.h"
#include "daemon/socket_folder.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/caps.h"
#include "rpc/protocol.h"

#include <errno.h>
#include <string.h>

enum { ASK_TIMEOUT_MS = 5000 };

static int ask(struct daemon *daemon, struct qemu_caps *ret, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(ASK_TIMEOUT_MS);
    CLEANUP_FREE char *folder = socket_folder_name(daemon->config->run_dir, "ask", "qemu");
    int r;

    if (!folder)
        return error_set(err, ENOMEM, "no memory for a folder's name");
    r = socket_folder_make(folder, err);
    if (r < 0 && r != -EEXIST) /* a killed daemon's */
        return r;
    r = qemu_caps_of_binary(daemon->qmp, daemon->config->qemu_binary, folder, ret, &wait, err);
    socket_folder_remove(folder);
    return r;
}

void host_ask_qemu(struct daemon *daemon)
{
    struct error err = ERROR_INIT;
    struct qemu_caps caps;

    if (ask(daemon, &caps, &err) < 0) {
        log_warning("no QEMU, so guests can't run here: %s", err.text);
        return;
    }
    snprintf(daemon->qemu_version, sizeof daemon->qemu_version, "%u.%u.%u", caps.major, caps.minor,
             caps.micro);
    daemon->qemu_features =
        (qemu_caps_nbd(&caps) ? BS_FEATURE_QEMU_NBD : 0) | (caps.block ? BS_FEATURE_QEMU_BLOCK : 0);
}

/* BS_FEATURE_*, as they are now. */
static uint64_t features_of(const struct daemon *daemon)
{
    const struct config *config = daemon->config;
    uint64_t features = BS_FEATURE_TUNNEL | daemon->qemu_features;

    if (config->offer_bistream)
        features |= BS_FEATURE_BISTREAM;
    if (config->direct_first)
        features |= BS_FEATURE_DIRECT | BS_FEATURE_DIRECT_ID;
    if (direct_pki_check(config->direct_pki_dir, NULL, NULL) == 0)
        features |= BS_FEATURE_DIRECT_TLS;
    return features;
}

static int describe(const struct daemon *daemon, struct bs_host_info_ret *info, struct error *err)
{
    info->vers = strdup(PACKAGE_VERSION);
    info->hostname = strdup(daemon->hostname);
    info->qemu_version = strdup(daemon->qemu_version);
    info->features = features_of(daemon);
    if (!info->vers || !info->hostname || !info->qemu_version)
        return error_set(err, ENOMEM, "memory is short");
    return 0;
}

int host_handle_info(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct peer_link *link = opaque;

    (void)args;
    return describe(link->daemon, ret, err);
}

int host_handle_info_in_session(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct peer_session *session = opaque;

    (void)args;
    return describe(session->daemon, ret, err);
}
