/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What other threads ask of the pump: to close an endpoint, for figures, for a cap on what is sent.
 * Each request lies on its caller's stack and is run by loop_call().
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/checked.h"

#include <errno.h>
#include <string.h>

static struct pump_endpoint *find_endpoint(struct pump *pump, const char *name)
{
    struct pump_endpoint *endpoint;

    TAILQ_FOREACH(endpoint, &pump->endpoints, link)
    {
        if (strcmp(endpoint->name, name) == 0)
            return endpoint;
    }
    return NULL;
}

struct endpoint_request {
    struct pump *pump;
    const char *endpoint;
    struct pump_stats *ret;
};

static int close_endpoint(void *opaque)
{
    const struct endpoint_request *request = opaque;
    struct pump *pump = request->pump;
    struct pump_endpoint *endpoint = NULL;
    struct pump_channel *channel;

    if (request->endpoint) {
        endpoint = find_endpoint(pump, request->endpoint);
        if (!endpoint)
            return 0;
    }
    pump_close_sockets(pump, endpoint);
    TAILQ_FOREACH(channel, &pump->channels, link)
    {
        if (!endpoint || channel->endpoint == endpoint)
            mux_channel_reset(pump->session, channel->number, BS_RESET_CANCELLED,
                              "it was given up");
    }
    return 0;
}

void pump_close_endpoint(struct pump *pump, const char *endpoint)
{
    struct endpoint_request request = {pump, endpoint, NULL};

    loop_call(pump->loop, close_endpoint, &request);
}

static void add_endpoint(const struct pump *pump, const struct pump_endpoint *endpoint,
                         struct pump_stats *ret)
{
    uint64_t now = loop_now(pump->loop);

    ret->channels += endpoint->channels;
    if (endpoint->waiting_since < now)
        ret->waiting = max_u64(ret->waiting, now - endpoint->waiting_since);
}

static int get_stats(void *opaque)
{
    const struct endpoint_request *request = opaque;
    struct pump *pump = request->pump;
    struct pump_stats *ret = request->ret;
    struct mux_session_stats session;
    const struct pump_endpoint *endpoint;

    mux_session_get_stats(pump->session, &session);
    *ret = (struct pump_stats){
        .round_trip = session.round_trip,
        .link_losses = pump->link_losses,
        .away = pump_away(pump),
        .away_total = pump->away_total + pump_away(pump),
    };
    ret->silent = mux_session_silent(pump->session, loop_now(pump->loop), &ret->silent_total);
    if (!request->endpoint) {
        ret->sent = pump->sent;
        ret->received = pump->received;
        TAILQ_FOREACH(endpoint, &pump->endpoints, link)
        {
            add_endpoint(pump, endpoint, ret);
        }
    } else if ((endpoint = find_endpoint(pump, request->endpoint))) {
        ret->sent = endpoint->sent;
        ret->received = endpoint->received;
        add_endpoint(pump, endpoint, ret);
    }
    return 0;
}

void pump_get_stats(struct pump *pump, const char *endpoint, struct pump_stats *ret)
{
    struct endpoint_request request = {pump, endpoint, ret};

    loop_call(pump->loop, get_stats, &request);
}

struct bandwidth_request {
    struct pump *pump;
    uint64_t rate;
};

static int set_bandwidth(void *opaque)
{
    const struct bandwidth_request *request = opaque;
    struct pump *pump = request->pump;

    if (pump->session_over)
        return -ECONNRESET;
    mux_session_set_bandwidth(pump->session, request->rate, loop_now(pump->loop));
    return 0;
}

int pump_set_bandwidth(struct pump *pump, uint64_t bytes_per_second)
{
    struct bandwidth_request request = {pump, bytes_per_second};

    return loop_call(pump->loop, set_bandwidth, &request);
}
