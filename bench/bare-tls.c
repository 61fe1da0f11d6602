/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bare-tls PKI_DIR SECONDS: what one TLS connection carries with nothing around it.  Two processes, a
 * blocking TCP connection over the loopback interface, one SSL_write() and one write(2) for each 16 KiB.
 * Bytes are stamped and checked as the load generator's are, and the processor time for that is counted
 * here, some 0.1 s per GB.  Prints one JSON object, as the load generator does.
 */
#include "config.h"

#include "bench/die.h"
#include "bench/stamp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE = 16 * 1024 };

static SSL_CTX *context_new(const char *pki_dir)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    char certificate[4096], key[4096];

    snprintf(certificate, sizeof certificate, "%s/hostcert.pem", pki_dir);
    snprintf(key, sizeof key, "%s/hostkey.pem", pki_dir);
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        die(0, "can't use the certificate in %s: %s", pki_dir,
            ERR_reason_error_string(ERR_get_error()));
    SSL_CTX_set_num_tickets(context,
                            0); /* what the sender never reads would break the connection */
    return context;
}

static SSL *shake_hands(SSL_CTX *context, int fd, bool client)
{
    SSL *ssl = SSL_new(context);
    int yes = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || (client ? SSL_connect(ssl) : SSL_accept(ssl)) != 1)
        die(0, "can't shake hands: %s", ERR_reason_error_string(ERR_get_error()));
    return ssl;
}

static void send_all(SSL *ssl, double seconds)
{
    double until = clock_now() + seconds;
    static uint8_t piece[PIECE];

    for (uint64_t sent = 0; clock_now() < until; sent += sizeof piece) {
        stamp_fill(0, sent, piece, sizeof piece);
        if (SSL_write(ssl, piece, sizeof piece) != sizeof piece)
            die(errno, "can't send");
    }
    SSL_shutdown(ssl);
}

/* Returns the number of bytes up to the end. */
static uint64_t receive_all(SSL *ssl)
{
    uint64_t received = 0;
    static uint8_t piece[PIECE];
    int n;

    while ((n = SSL_read(ssl, piece, sizeof piece)) > 0) {
        if (stamp_check(0, received, piece, (size_t)n) < (size_t)n)
            die(0, "a byte after %llu is wrong", (unsigned long long)received);
        received += (uint64_t)n;
    }
    if (SSL_get_error(ssl, n) != SSL_ERROR_ZERO_RETURN)
        die(0, "the connection broke");
    return received;
}

static double cpu_of(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Two ends of a TCP connection. */
static void connect_ends(int ret[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    ret[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0 || ret[0] < 0 ||
        connect(ret[0], (struct sockaddr *)&address, sizeof address) < 0 ||
        (ret[1] = accept(listener, NULL, NULL)) < 0)
        die(errno, "can't connect");
    close(listener);
}

int main(int argc, char **argv)
{
    SSL_CTX *context;
    double begun, seconds;
    uint64_t bytes;
    int ends[2], status;
    pid_t source;
    SSL *ssl;

    if (argc != 3)
        die(0, "usage: bare-tls PKI_DIR SECONDS");
    context = context_new(argv[1]);
    connect_ends(ends);
    source = fork();
    if (source < 0)
        die(errno, "can't fork");
    if (source == 0) {
        send_all(shake_hands(context, ends[0], true), strtod(argv[2], NULL));
        exit(0);
    }
    close(ends[0]);
    ssl = shake_hands(context, ends[1], false);
    begun = clock_now();
    bytes = receive_all(ssl);
    seconds = clock_now() - begun;
    if (waitpid(source, &status, 0) < 0 || status != 0)
        die(0, "the sending process failed");
    printf("{\"bytes\": %llu, \"rate\": %f, \"cpu\": %f}\n", (unsigned long long)bytes,
           (double)bytes / seconds,
           (cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN)) / (double)bytes * 1e9);
    SSL_free(ssl);
    SSL_CTX_free(context);
    return 0;
}
