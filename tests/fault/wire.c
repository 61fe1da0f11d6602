/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * wire PORT FILE [DIRECT]...: a TCP relay from a free port of 127.0.0.1, written to FILE, to PORT, and
 * from each port DIRECT of 127.0.0.1 to the same one of 127.0.0.2.  It does what it is told on its
 * standard input, and says each command back once it is done:
 *
 *     hold there      what goes there is kept, and so is all that follows
 *     hold back       the same for what comes back
 *     hold direct     the same, in both directions, for what goes through the ports DIRECT
 *     go              all that was kept goes on its way
 *     cut             each connection is reset, and what was kept is gone
 *     end             each is ended in an orderly way instead, at any byte
 *     hush            each falls silent for good, and is only reset by the next cut; new ones are carried
 *     cuts COUNT BYTES SEED   one of these three COUNT times, each after a random number of bytes,
 *                     BYTES on average: some of them while hands are being shaken
 *     port PORT       what takes PORT's place
 *
 * Cuts at random are told on the standard error.
 *
 * One loop of poll(2): pieces are read, wait in their direction's queue while that is held, and are
 * written.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THERE, BACK, DIRECTIONS };
enum { CONNECTIONS_MAX = 64, LISTENERS_MAX = 9, HANDSHAKE_BYTES = 4096 };

enum how { RESET, ORDERLY, SILENT, HOWS };
static const char *const how_names[HOWS] = {"cut", "end", "hush"};

struct piece {
    STAILQ_ENTRY(piece) link;
    uint64_t due;        /* ms */
    size_t done, length; /* of length 0: the end */
    uint8_t data[16384];
};

struct connection {
    int fd[DIRECTIONS];     /* what goes in this direction is read here, and written to the other */
    bool ended[DIRECTIONS]; /* nothing more will be read */
    bool blocked[DIRECTIONS]; /* the other end takes nothing for now */
    bool direct;              /* through one of the ports DIRECT */
    bool told_to_end;         /* what comes is dropped, until both sides have heard it */
    bool silent;              /* nothing is read or written any more */
    STAILQ_HEAD(, piece) pieces[DIRECTIONS];
};

struct listener {
    int fd;
    struct sockaddr_in to;
};

static struct connection *connections[CONNECTIONS_MAX];
static struct listener listeners[LISTENERS_MAX]; /* the first one is for PORT */
static size_t listener_count;
static bool held[DIRECTIONS], direct_held;
static struct {
    uint64_t random; /* the generator's state */
    uint64_t mean;   /* bytes between two cuts */
    uint64_t left;   /* bytes before the next one */
    unsigned done, count;
    char command[256];
} cuts;

static void die(const char *what)
{
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void say(const char *command)
{
    printf("%s\n", command);
    fflush(stdout);
}

/* ---- connections ------------------------------------------------------------------------------ */

static void drop_first(struct connection *connection, int direction)
{
    struct piece *piece = STAILQ_FIRST(&connection->pieces[direction]);

    STAILQ_REMOVE_HEAD(&connection->pieces[direction], link);
    free(piece);
}

static void drop_all(struct connection *connection)
{
    for (int direction = THERE; direction < DIRECTIONS; direction++)
        while (!STAILQ_EMPTY(&connection->pieces[direction]))
            drop_first(connection, direction);
}

/* By RST rather than FIN if RESET. */
static void close_connection(struct connection **slot, bool reset)
{
    const struct linger linger = {.l_onoff = 1};

    drop_all(*slot);
    for (int direction = THERE; direction < DIRECTIONS; direction++) {
        if (reset)
            setsockopt((*slot)->fd[direction], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close((*slot)->fd[direction]);
    }
    free(*slot);
    *slot = NULL;
}

static void read_piece(struct connection *connection, int direction)
{
    struct piece *piece = malloc(sizeof *piece);
    ssize_t n;

    if (!piece)
        die("no memory");
    n = recv(connection->fd[direction], piece->data, sizeof piece->data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        free(piece);
        return;
    }
    piece->done = 0;
    piece->length = n > 0 ? (size_t)n : 0;
    connection->ended[direction] = n <= 0;
    if (connection->told_to_end)
        free(piece);
    else
        STAILQ_INSERT_TAIL(&connection->pieces[direction], piece, link);
}

/* How much of a piece may be written before the next cut at random. */
static size_t until_cut(size_t length)
{
    return cuts.done < cuts.count && cuts.left < length ? (size_t)cuts.left : length;
}

/* Returns false when there has to be a cut first. */
static bool write_piece(struct connection *connection, int direction, struct piece *piece)
{
    size_t length = until_cut(piece->length - piece->done);
    int to = connection->fd[!direction];
    ssize_t n;

    if (piece->length == 0) {
        shutdown(to, SHUT_WR);
        drop_first(connection, direction);
        return true;
    }
    if (length == 0)
        return false;
    n = send(to, piece->data + piece->done, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    connection->blocked[direction] = n < 0 && errno == EAGAIN;
    if (n < 0 && errno != EAGAIN) /* it takes no more, and its sender will hear of it */
        n = (ssize_t)(piece->length - piece->done);
    else if (n > 0 && cuts.done < cuts.count)
        cuts.left -= (size_t)n;
    piece->done += n > 0 ? (size_t)n : 0;
    if (piece->done == piece->length)
        drop_first(connection, direction);
    return true;
}

static bool is_held(const struct connection *connection, int direction)
{
    return held[direction] || (direct_held && connection->direct);
}

/* Writes what is not held. */
static void write_pieces(struct connection *connection, int direction)
{
    struct piece *piece;

    while (!is_held(connection, direction) && !connection->silent &&
           !connection->blocked[direction] &&
           (piece = STAILQ_FIRST(&connection->pieces[direction])))
        if (!write_piece(connection, direction, piece))
            return;
}

static bool is_over(const struct connection *connection)
{
    return connection->ended[THERE] && connection->ended[BACK] &&
           STAILQ_EMPTY(&connection->pieces[THERE]) && STAILQ_EMPTY(&connection->pieces[BACK]);
}

/* Port PORT of 127.0.0.LAST. */
static struct sockaddr_in local_address(uint32_t last, const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + last)};
}

/* Returns -1 where nobody listens. */
static int dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0)
        die("no socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void accept_one(const struct listener *listener)
{
    int in = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC), out = dial(&listener->to);
    struct connection *connection;
    size_t i = 0;

    if (in < 0)
        die("can't accept");
    if (out < 0) {
        close(in);
        return;
    }
    while (i < CONNECTIONS_MAX && connections[i])
        i++;
    connection = calloc(1, sizeof *connection);
    if (!connection || i == CONNECTIONS_MAX)
        die("no room for a connection");
    *connection =
        (struct connection){.fd = {[THERE] = in, [BACK] = out}, .direct = listener != listeners};
    STAILQ_INIT(&connection->pieces[THERE]);
    STAILQ_INIT(&connection->pieces[BACK]);
    connections[i] = connection;
}

/* ---- cuts ------------------------------------------------------------------------------------- */

static void end_connection(struct connection *connection)
{
    connection->told_to_end = true;
    drop_all(connection);
    for (int direction = THERE; direction < DIRECTIONS; direction++)
        shutdown(connection->fd[direction], SHUT_WR);
}

static void cut_all(enum how how)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (!connections[i])
            continue;
        if (how == RESET || connections[i]->silent)
            close_connection(&connections[i], true);
        else if (how == ORDERLY)
            end_connection(connections[i]);
        else
            connections[i]->silent = true;
    }
}

/* splitmix64, below BOUND */
static uint64_t draw(uint64_t bound)
{
    uint64_t z = cuts.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % bound;
}

/* One in eight comes before, or while, another connection takes the place of the last. */
static void draw_next_cut(void)
{
    cuts.left = 1 + (draw(8) == 0 ? draw(HANDSHAKE_BYTES) : draw(2 * cuts.mean));
}

static void cut_at_random(void)
{
    enum how how;

    if (cuts.done == cuts.count || cuts.left > 0)
        return;
    how = (enum how)draw(HOWS);
    cut_all(how);
    cuts.done++;
    fprintf(stderr, "wire: %u of %u: %s\n", cuts.done, cuts.count, how_names[how]);
    draw_next_cut();
    if (cuts.done == cuts.count)
        say(cuts.command);
}

static void begin_cuts(const char *command)
{
    if (sscanf(command, "cuts %u %" SCNu64 " %" SCNu64, &cuts.count, &cuts.mean, &cuts.random) !=
            3 ||
        cuts.mean == 0) {
        errno = EINVAL;
        die(command);
    }
    snprintf(cuts.command, sizeof cuts.command, "%s", command);
    cuts.done = 0;
    draw_next_cut();
}

/* ---- commands --------------------------------------------------------------------------------- */

static void execute(char *command)
{
    enum how how = RESET;

    while (how < HOWS && strcmp(command, how_names[how]) != 0)
        how++;
    if (how < HOWS) {
        cut_all(how);
    } else if (strcmp(command, "hold there") == 0) {
        held[THERE] = true;
    } else if (strcmp(command, "hold back") == 0) {
        held[BACK] = true;
    } else if (strcmp(command, "hold direct") == 0) {
        direct_held = true;
    } else if (strcmp(command, "go") == 0) {
        held[THERE] = held[BACK] = direct_held = false;
    } else if (strncmp(command, "cuts ", 5) == 0) {
        begin_cuts(command);
        return;
    } else if (strncmp(command, "port ", 5) == 0) {
        listeners[0].to = local_address(1, command + 5);
    } else {
        errno = EINVAL;
        die(command);
    }
    say(command);
}

/* Returns false at the end of commands. */
static bool read_commands(void)
{
    static char line[256];
    static size_t used;
    ssize_t n = read(STDIN_FILENO, line + used, sizeof line - 1 - used);
    char *end;

    if (n <= 0)
        return false;
    used += (size_t)n;
    line[used] = '\0';
    while ((end = strchr(line, '\n'))) {
        *end = '\0';
        execute(line);
        used -= (size_t)(end + 1 - line);
        memmove(line, end + 1, used + 1);
    }
    return true;
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void write_all(void)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        for (int direction = THERE; connections[i] && direction < DIRECTIONS; direction++)
            write_pieces(connections[i], direction);
        if (connections[i] && is_over(connections[i]))
            close_connection(&connections[i], false);
    }
}

static short events_of(const struct connection *connection, int direction)
{
    short events = 0;

    if (!connection->ended[direction])
        events |= POLLIN;
    if (connection->blocked[!direction])
        events |= POLLOUT;
    return connection->silent ? 0 : events;
}

static void handle_connection(struct connection *connection, int direction, short revents)
{
    if (revents & (POLLOUT | POLLERR | POLLHUP))
        connection->blocked[!direction] = false;
    if (revents & (POLLIN | POLLERR | POLLHUP) && !connection->ended[direction])
        read_piece(connection, direction);
}

static void wait_and_read(int *commands)
{
    struct pollfd fds[1 + LISTENERS_MAX + CONNECTIONS_MAX * DIRECTIONS] = {
        {.fd = *commands, .events = POLLIN}};
    struct pollfd *of_listeners = fds + 1, *of_connections = fds + 1 + LISTENERS_MAX;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        of_listeners[i] =
            (struct pollfd){.fd = i < listener_count ? listeners[i].fd : -1, .events = POLLIN};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        for (int direction = THERE; direction < DIRECTIONS; direction++) {
            struct pollfd *fd = &of_connections[i * DIRECTIONS + (size_t)direction];

            *fd = (struct pollfd){.fd = -1};
            if (!connections[i])
                continue;
            fd->events = events_of(connections[i], direction);
            /* poll(2) says POLLHUP even if not asked: don't ask about what has ended. */
            fd->fd = fd->events ? connections[i]->fd[direction] : -1;
        }
    }
    if (poll(fds, sizeof fds / sizeof *fds, -1) < 0)
        die("can't wait");
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        for (int direction = THERE; connections[i] && direction < DIRECTIONS; direction++)
            handle_connection(connections[i], direction,
                              of_connections[i * DIRECTIONS + (size_t)direction].revents);
    for (size_t i = 0; i < listener_count; i++)
        if (of_listeners[i].revents)
            accept_one(&listeners[i]);
    if (fds[0].revents && !read_commands())
        *commands = -1;
}

/* At the port that FROM names, 0: any.  Returns the port. */
static uint16_t listen_at(struct sockaddr_in from, struct sockaddr_in to)
{
    const int on = 1;
    socklen_t length = sizeof from;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&from, sizeof from) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&from, &length) < 0)
        die("can't listen");
    listeners[listener_count++] = (struct listener){.fd = fd, .to = to};
    return ntohs(from.sin_port);
}

int main(int argc, char **argv)
{
    int commands = STDIN_FILENO;
    uint16_t port;
    FILE *out;

    if (argc < 3 || argc > 2 + LISTENERS_MAX) {
        fputs("usage: wire PORT FILE [DIRECT]...\n", stderr);
        return 2;
    }
    port = listen_at(local_address(1, "0"), local_address(1, argv[1]));
    for (int i = 3; i < argc; i++)
        listen_at(local_address(1, argv[i]), local_address(2, argv[i]));
    out = fopen(argv[2], "we");
    if (!out || fprintf(out, "%d\n", port) < 0 || fclose(out) != 0)
        die("can't write the port");
    for (;;) {
        write_all();
        cut_at_random();
        wait_and_read(&commands);
    }
}
