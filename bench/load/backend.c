/* The application behind every candidate: echoes, sends for ever, swallows, or answers GET.
 *
 *     backend ADDRESS PORT
 *
 * One thread, one epoll. A connection's first byte chooses its work (net.h). Ends on SIGTERM;
 * whoever starts it sees to that.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

#define READ_BYTES (1 << 20)
#define WRITE_BYTES (1 << 18)

static char incoming[READ_BYTES];
static char outgoing[WRITE_BYTES];
static char work_of[MAX_DESCRIPTORS];
/* How much of the end of a request's head has come. */
static char ending_of[MAX_DESCRIPTORS];
static char answer[512];
static size_t answer_size;

static void watch(int poller, int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) != 0) {
        close(fd);
    }
}

static void accept_all(int poller, int listener) {
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        if (fd >= MAX_DESCRIPTORS) {
            close(fd);
            continue;
        }
        prepare(fd);
        work_of[fd] = 0;
        ending_of[fd] = 0;
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

/* Answers every request whose head ends in what was read; requests have no content. */
static int serve_http1(int fd, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        int wants_return = ending_of[fd] % 2 == 0;
        if (incoming[i] == (wants_return ? '\r' : '\n')) {
            ending_of[fd]++;
        } else {
            ending_of[fd] = incoming[i] == '\r';
        }
        if (ending_of[fd] == 4) {
            ending_of[fd] = 0;
            if (size + answer_size > sizeof outgoing) {
                return 0;
            }
            memcpy(outgoing + size, answer, answer_size);
            size += answer_size;
        }
    }
    return size == 0 || write(fd, outgoing, size) == (ssize_t)size;
}

/* Reads once and does what the connection asked for; false when the connection is over. */
static int serve_read(int poller, int fd) {
    ssize_t count = read(fd, incoming, sizeof incoming);
    if (count == 0 || (count < 0 && errno != EAGAIN)) {
        return 0;
    }
    if (count < 0) {
        return 1;
    }
    if (work_of[fd] == 0) {
        work_of[fd] = incoming[0];
        if (work_of[fd] == WORK_SEND) {
            watch(poller, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
        }
    }
    if (work_of[fd] == WORK_HTTP1) {
        return serve_http1(fd, (size_t)count);
    }
    /* A client waits for each echo, so one never exceeds what the socket's buffer takes. */
    return work_of[fd] != WORK_ECHO || write(fd, incoming, (size_t)count) == count;
}

static int serve_write(int fd) {
    return write(fd, outgoing, sizeof outgoing) >= 0 || errno == EAGAIN;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: backend ADDRESS PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    memset(outgoing, 'x', sizeof outgoing);
    answer_size = (size_t)snprintf(answer, sizeof answer,
                                   "HTTP/1.1 200 OK\r\nServer: bench\r\n"
                                   "Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
                                   "%.*s",
                                   CONTENT_BYTES, CONTENT_BYTES, outgoing);
    struct sockaddr_in where = place(argv[1], argv[2]);
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) != 0 ||
        listen(listener, 4096) != 0) {
        perror("backend: cannot listen");
        return 1;
    }
    prepare(listener);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN);

    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int count = epoll_wait(poller, events, MAX_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            int alive = 1;
            if (fd == listener) {
                accept_all(poller, listener);
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                alive = serve_read(poller, fd);
            }
            if (alive && work_of[fd] == WORK_SEND && (events[i].events & EPOLLOUT)) {
                alive = serve_write(fd);
            }
            if (!alive) {
                close(fd);
            }
        }
    }
}
