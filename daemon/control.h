/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The control socket: what local clients (the command bistream) talk to.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "common/error.h"
#include "daemon/daemon.h"
#include "rpc/dispatch.h"

#include <sys/queue.h>

struct control;

/* One local client.  Handlers of RPC_CALLER_LOCAL get it as their opaque; they run on the
 * connection's own thread and may take their time.  Reference counted: whoever keeps the pointer
 * past the handler's return takes a reference. */
struct control_connection {
    struct daemon *daemon;
    unsigned id; /* for the log: "control 7" */
    uid_t uid;   /* of the client */
};

/* Starts to accept on LISTENER (taken over also on failure).  Returns NULL with ERR. */
struct control *control_start(struct daemon *daemon, int listener,
                              const struct rpc_program *program, struct error *err);
/* Accepts nobody and begins no call any more; waits for the handlers that run.  Events still go
 * out.  Not from the handlers' threads. */
void control_quiesce(struct control *control);
/* Ends all connections, waits for their threads.  After control_quiesce().  NULL is fine. */
void control_free(struct control *control);

void control_ref(struct control_connection *connection);
void control_unref(struct control_connection *connection);

/* Sends an EVENT message.  Any thread; never blocks: what the client's socket doesn't take is
 * queued.  Returns 0; -ENOBUFS when the client does not read (BS_PROC_EVENT_MIGRATE_PROGRESS is
 * then left out, anything else ends the connection); -ECONNRESET after its end; -ENOMEM, -EINVAL
 * for a body that can't be encoded. */
int control_send_event(struct control_connection *connection, int procedure, xdrproc_t proc,
                       const void *body);

/* Something that ends with the connection. */
struct control_hook {
    /* The client is gone.  Called once, on the connection's thread and under its lock: may not
     * block nor call control_*(). */
    void (*ended)(struct control_hook *hook);
    LIST_ENTRY(control_hook) link; /* control.c's own */
    bool linked;                   /* likewise */
};
/* Returns 0, or -ECONNRESET when the connection has ended already. */
int control_hook_add(struct control_connection *connection, struct control_hook *hook);
/* When it returns, HOOK is not called and not being called.  Harmless for one that was. */
void control_hook_remove(struct control_connection *connection, struct control_hook *hook);

#endif
