/* Sockets as both load tools want them: non-blocking, without Nagle's delay, and led nowhere but
 * to the addresses of a bench: loopback's, and those of its own network namespaces. */
#ifndef PILLION_BENCH_NET_H
#define PILLION_BENCH_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The most sockets a tool holds at once; its tables are indexed by file descriptor. */
#define MAX_DESCRIPTORS 16384
#define MAX_EVENTS 256

/* The first byte of a connection says what the backend is to do with it. */
#define WORK_ECHO 'E'
#define WORK_SEND 'D'
#define WORK_SINK 'S'
/* A method of HTTP/1, whose requests are answered with CONTENT_BYTES. */
#define WORK_HTTP1 'G'
#define CONTENT_BYTES 100

/* Reads a whole number within bounds from an argument, or ends the program with status 2. */
static inline long number(const char *text, const char *name, long low, long high) {
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        fprintf(stderr, "%s is %s, want a whole number from %ld to %ld\n", name, text, low, high);
        exit(2);
    }
    return value;
}

/* Reads ADDRESS and PORT; only 127.0.0.0/8, 10.0.0.0/8 and 240.0.0.0/8 are taken. */
static inline struct sockaddr_in place(const char *address, const char *port) {
    struct sockaddr_in where;
    memset(&where, 0, sizeof where);
    where.sin_family = AF_INET;
    where.sin_port = htons((unsigned short)number(port, "PORT", 1, 65535));
    int is_read = inet_pton(AF_INET, address, &where.sin_addr) == 1;
    unsigned network = ntohl(where.sin_addr.s_addr) >> 24;
    if (!is_read || (network != 127 && network != 10 && network != 240)) {
        fprintf(stderr, "ADDRESS is %s, want one of 127.0.0.0/8, 10.0.0.0/8, 240.0.0.0/8\n",
                address);
        exit(2);
    }
    return where;
}

/* Makes a socket non-blocking and sends small writes at once. */
static inline void prepare(int fd) {
    int on = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

#endif
