/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Starting a QEMU: see launch.h.
 *
 * QEMU is a grandchild: the child in between exits at once, so that init becomes its parent.
 * Before it runs QEMU, the grandchild listens on its QMP sockets itself (that is what the kernel will
 * tell as SO_PEERCRED), reports, and waits until we hold a pidfd of it, so that its number can't be
 * taken for another process's.  When exec has happened, the socket pair between us closes by itself;
 * before that an errno comes through it.
 *
 * From fork to exec only async-signal-safe functions are called: the daemon has many threads.
 */
#include "config.h"

#include "qemu/launch.h"
#include "common/cleanup.h"
#include "qemu/qmp_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { QMP_BACKLOG = 4, KILL_MS = 10000 };

/* What a start needs, open descriptors at -1 when there is none. */
struct start {
    const struct launch *launch;
    char **argv;
    int null, log;  /* stdin; stdout and stderr */
    int qmp, admin; /* bound sockets */
    int parent;     /* the grandchild's end of the socket pair */
};

struct report {
    pid_t pid;
    int code; /* errno of a failed exec */
};

/* --- in the new process --- */

static void fail(int parent, int code)
{
    struct report report = {.pid = getpid(), .code = code};

    if (write(parent, &report, sizeof report) < 0)
        _exit(126);
    _exit(127);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL); /* refused for some, which need it not */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Closes what is open from 3 on, but START's sockets.  Exec would do so, too; but until then we wait for
 * the daemon, and if it is killed meanwhile, its locks and ports must be free, and no process that was
 * being started may hold its end of the socket pair, which is all that tells us. */
static bool close_the_rest(const struct start *start)
{
    const int keep[] = {start->qmp, start->admin, start->parent}; /* -1: none */
    unsigned from = 3;

    for (unsigned next = 0; next < ~0u; from = next + 1) {
        next = ~0u;
        for (size_t i = 0; i < sizeof keep / sizeof keep[0]; i++)
            if (keep[i] >= (int)from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next > from && close_range(from, next - 1, 0) < 0)
            return false;
    }
    return true;
}

/* The only descriptors that QEMU inherits. */
static bool hand_over_fds(const struct start *start)
{
    if (dup2(start->null, 0) < 0 || dup2(start->log, 1) < 0 || dup2(start->log, 2) < 0 ||
        !close_the_rest(start))
        return false;
    if (listen(start->qmp, QMP_BACKLOG) < 0 || fcntl(start->qmp, F_SETFD, 0) < 0)
        return false;
    return start->admin < 0 ||
           (listen(start->admin, QMP_BACKLOG) == 0 && fcntl(start->admin, F_SETFD, 0) == 0);
}

static void run_grandchild(const struct start *start)
{
    struct report report = {.pid = getpid()};
    char go;

    setsid();
    reset_signals();
    if (hand_over_fds(start)) {
        if (write(start->parent, &report, sizeof report) != sizeof report ||
            read(start->parent, &go, 1) != 1)
            _exit(126);
        execvp(start->argv[0], start->argv);
    }
    fail(start->parent, errno);
}

/* --- in the daemon --- */

/* Reads the grandchild's report.  Returns its size, 0 at the end. */
static ssize_t read_report(int fd, struct report *ret)
{
    ssize_t n;

    do
        n = recv(fd, ret, sizeof *ret, MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    return n;
}

static int cannot_run(const struct start *start, int code, struct error *err)
{
    return error_set_errno(err, code, "QEMU (%s) can't be run", start->launch->binary);
}

/* Forks twice; the grandchild reports through FD. */
static int fork_twice(const struct start *start, struct error *err)
{
    pid_t child = fork();
    int status;

    if (child < 0)
        return cannot_run(start, errno, err);
    if (child == 0) {
        pid_t grandchild = fork();

        if (grandchild == 0)
            run_grandchild(start);
        if (grandchild < 0)
            fail(start->parent, errno);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

/* Lets the grandchild go on to QEMU.  Returns its pidfd, or a negative errno with ERR set. */
static int spawn(struct start *start, pid_t *ret_pid, struct error *err)
{
    CLEANUP_CLOSE int ours = -1, pidfd = -1;
    struct report report;
    int pair[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return cannot_run(start, errno, err);
    ours = pair[0];
    start->parent = pair[1];
    r = fork_twice(start, err);
    close(pair[1]);
    if (r < 0)
        return r;
    if (read_report(ours, &report) != sizeof report)
        return cannot_run(start, ECHILD, err);
    if (report.code)
        return cannot_run(start, report.code, err);
    r = qmp_peer(start->launch->qmp_socket, ret_pid, &pidfd, err);
    if (r < 0)
        return r;
    if (send(ours, "", 1, MSG_NOSIGNAL) != 1)
        return cannot_run(start, errno, err);
    if (read_report(ours, &report) == sizeof report)
        return cannot_run(start, report.code, err);
    return take_fd(&pidfd);
}

/* A socket bound to PATH, for the owner alone; nobody listens yet. */
static int bind_socket(const char *path, struct error *err)
{
    CLEANUP_CLOSE int fd = -1, pidfd = -1;
    struct sockaddr_un address;
    pid_t pid;
    int r;

    r = qmp_socket_address(path, &address, err);
    if (r < 0)
        return r;
    if (qmp_peer(path, &pid, &pidfd, NULL) == 0)
        return error_set(err, EEXIST, "can't start QEMU: process %d already listens on %s",
                         (int)pid, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "can't make QEMU's socket %s", path);
    if ((unlink(path) < 0 && errno != ENOENT) ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0)
        return error_set_errno(err, errno, "can't make QEMU's socket %s", path);
    return take_fd(&fd);
}

/* False: ERR says what couldn't be had. */
static bool open_all(struct start *start, struct error *err)
{
    const struct launch *launch = start->launch;

    start->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (start->null < 0) {
        error_set_errno(err, errno, "can't open /dev/null");
        return false;
    }
    start->log = open(launch->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (start->log < 0) {
        error_set_errno(err, errno, "can't open QEMU's log file %s", launch->log);
        return false;
    }
    start->qmp = bind_socket(launch->qmp_socket, err);
    if (start->qmp < 0)
        return false;
    if (launch->admin_socket) {
        start->admin = bind_socket(launch->admin_socket, err);
        if (start->admin < 0)
            return false;
    }
    start->argv = launch_argv(launch, start->qmp, start->admin, err);
    return start->argv;
}

static void close_all(struct start *start)
{
    cleanup_close(&start->null);
    cleanup_close(&start->log);
    cleanup_close(&start->qmp);
    cleanup_close(&start->admin);
    launch_free_argv(start->argv);
}

/* A QEMU that has hung up is about to end; its last words are better than our sentence. */
static void explain(const struct launch *launch, off_t log_start, int pidfd, struct error *err)
{
    char words[512];

    if (err->code != ENOTCONN && err->code != ECONNREFUSED)
        return;
    if (!launch_wait_end(pidfd, KILL_MS))
        return;
    launch_words_since(launch->log, log_start, words, sizeof words);
    error_set(err, EIO, "QEMU (%s) ended at its start: %s", launch->binary,
              words[0] ? words : "it gave no reason");
}

/* Who kills PID must have killed the guest.  QEMU alone locks the pid file. */
static int check_process(const struct launch *launch, pid_t pid, struct error *err)
{
    pid_t holder = launch_lock_holder(launch->pidfile);

    if (holder == pid)
        return 0;
    if (holder < 0)
        return error_set_errno(err, -holder, "can't see who holds QEMU's pid file %s",
                               launch->pidfile);
    return error_set(err, EINVAL,
                     "%s has started QEMU as process %d and goes on as process %d, so that who "
                     "ends the one does not end the other; a script must end with \"exec\" of QEMU",
                     launch->binary, (int)holder, (int)pid);
}

/* Connects to the QEMU that was started, and makes sure that it is the one. */
static struct qmp *greet(struct qmp_thread *thread, const struct launch *launch, pid_t pid,
                         const struct qmp_wait *wait, const struct qmp_handlers *handlers,
                         void *opaque, struct error *err)
{
    struct qmp *qmp = qmp_connect(thread, launch->qmp_socket, wait, handlers, opaque, err);

    if (qmp && qmp_pid(qmp) != pid) {
        error_set(err, EEXIST, "process %d listens on %s instead of the QEMU just started",
                  (int)qmp_pid(qmp), launch->qmp_socket);
        qmp_free(qmp);
        qmp = NULL;
    }
    if (qmp && check_process(launch, pid, err) < 0) {
        qmp_free(qmp);
        qmp = NULL;
    }
    return qmp;
}

/* Kills what was started; also what a script has started in its turn, as long as it waits. */
static void kill_group(pid_t pid, int pidfd)
{
    /* It leads a session since setsid(), and while it lives its number is its own. */
    if (!launch_ended(pidfd))
        kill(-pid, SIGKILL);
    launch_kill(pidfd, KILL_MS, NULL);
}

/* The sockets that we have bound; of a QEMU that was STARTED and is dead, also what it has made. */
static void remove_files(const struct start *start, bool started)
{
    static const char vnc[] = "vnc=unix:";
    const struct launch *launch = start->launch;

    if (start->qmp >= 0)
        unlink(launch->qmp_socket);
    if (start->admin >= 0)
        unlink(launch->admin_socket);
    if (!started)
        return;
    unlink(launch->pidfile);
    if (launch->display && strncmp(launch->display, vnc, strlen(vnc)) == 0)
        unlink(launch->display + strlen(vnc));
}

struct qmp *launch_qemu(struct qmp_thread *thread, const struct launch *launch,
                        const struct qmp_wait *wait, const struct qmp_handlers *handlers,
                        void *opaque, struct error *err)
{
    struct start start = {
        .launch = launch, .null = -1, .log = -1, .qmp = -1, .admin = -1, .parent = -1};
    CLEANUP_CLOSE int pidfd = -1;
    struct error reason = ERROR_INIT;
    struct qmp *qmp = NULL;
    off_t log_start = 0;
    pid_t pid = 0;

    if (open_all(&start, &reason)) {
        log_start = lseek(start.log, 0, SEEK_END);
        pidfd = spawn(&start, &pid, &reason);
    }
    close_all(&start); /* from here on QEMU alone holds its sockets: when it ends, we are told */
    if (pidfd >= 0)
        qmp = greet(thread, launch, pid, wait, handlers, opaque, &reason);
    if (qmp)
        return qmp;
    if (pidfd >= 0) {
        explain(launch, log_start, pidfd, &reason);
        kill_group(pid, pidfd);
    }
    remove_files(&start, pidfd >= 0);
    error_set(err, reason.code, "%s", reason.text);
    return NULL;
}
