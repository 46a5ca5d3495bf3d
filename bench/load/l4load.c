/* The client of every candidate: one thread, one epoll, a stated number of connections.
 *
 *     l4load throughput ADDRESS PORT CONNECTIONS WARM_MS RUN_MS down|up
 *     l4load round-trip ADDRESS PORT CONNECTIONS WARM_MS RUN_MS BYTES
 *     l4load connect    ADDRESS PORT IN_FLIGHT   WARM_MS RUN_MS
 *     l4load http1      ADDRESS PORT CONNECTIONS WARM_MS RUN_MS
 *     l4load paced      ADDRESS PORT CONNECTIONS WARM_MS RUN_MS RATE
 *     l4load idle       ADDRESS PORT CONNECTIONS MAX_MS
 *
 * `http1` has one request in flight on each connection, with the fields that a browser and a
 * tracer send; the trace id of each is its own. `paced` sends the same, RATE a second
 * as chance has it (a Poisson process, the same in each run), whatever comes back: each waits for
 * a free connection, and its time counts from when it was due; what was due in the window is
 * waited for after its end. There a lost connection ends the run.
 *
 * All but the last print {"event": "window"} when the warm-up is over and everything before is
 * forgotten, not before something has come of every connection, if that takes no longer than five
 * seconds; then {"event": "done", ...} at the end of the run. `idle` opens its connections one
 * after the other, each with one echoed byte, prints {"event": "open", ...} and holds them until
 * its standard input ends or MAX_MS have passed. Exit status: 0 measured, 1 nothing could be
 * measured (reason on standard error), 2 usage.
 */
#define _GNU_SOURCE
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"
#include "net.h"

#define BUFFER_BYTES (1 << 20)
#define WRITE_BYTES (1 << 18)
#define MAX_MESSAGE (1 << 14)
#define MAX_RUN_MS 600000
#define MAX_RATE 100000
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull
/* How long more is waited for connections to be warm, and after the window's end for answers to
 * paced requests. */
#define PATIENCE_NS (5 * NS_PER_S)

enum kind { THROUGHPUT_DOWN, THROUGHPUT_UP, ROUND_TRIP, CONNECT, HTTP1, PACED };

/* One connection; the table is indexed by descriptor. */
struct connection {
    uint64_t since; /* when its operation began, in ns */
    size_t received;
    size_t expected; /* octets of the response under way; 0: its head has not come whole */
    int started; /* its first bytes are sent */
    int warm; /* something has come of it */
};

/* The field whose value is another one in every request; hexadecimal digits go to its zeros. */
#define TRACE "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n"
#define REQUEST                                                                                    \
    "GET /api/v1/items/42?limit=10 HTTP/1.1\r\nHost: server.bench.svc.cluster.local\r\n"           \
    "User-Agent: bench/1.0 (x86_64)\r\nAccept: application/json, text/plain, */*\r\n"             \
    "Accept-Encoding: gzip, deflate, br\r\n"                                                       \
    "X-Tenant: 5d2a1c1e-7e3b-4f7e-9a2d-3f1f3c1b2a77\r\n"                                           \
    "Authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.c2lnbmF0dXJl\r\n" TRACE "\r\n"
#define MAX_HEAD 2048

static char incoming[BUFFER_BYTES];
static char outgoing[BUFFER_BYTES];
static char heads[MAX_DESCRIPTORS][MAX_HEAD];
static struct connection connections[MAX_DESCRIPTORS];
static struct latency latencies;

static enum kind kind;
static struct sockaddr_in target;
static int poller;
static size_t message = 1;
static uint64_t done_bytes, done_operations, errors;
static long alive, cold; /* connections; of them those of which nothing has come */

/* Of PACED: the connections without a request, first come first; when the next one is due. */
static int resting[MAX_DESCRIPTORS];
static size_t first_resting, resting_count;
static double interval; /* the mean, in ns */
static uint64_t next_due, last_due = UINT64_MAX;
static int pacer = -1;

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * NS_PER_S + (uint64_t)at.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "l4load: %s: %s\n", what, errno ? strerror(errno) : "closed");
    exit(1);
}

static void watch(int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) != 0) {
        fail("epoll_ctl");
    }
}

static void open_one(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fd >= MAX_DESCRIPTORS) {
        fail("socket");
    }
    prepare(fd);
    if (connect(fd, (struct sockaddr *)&target, sizeof target) != 0 && errno != EINPROGRESS) {
        fail("connect");
    }
    connections[fd] = (struct connection){.since = now_ns(), .warm = kind == CONNECT};
    watch(EPOLL_CTL_ADD, fd, EPOLLOUT);
    alive++;
    cold += !connections[fd].warm;
}

static void warm_up(int fd) {
    cold -= !connections[fd].warm;
    connections[fd].warm = 1;
}

/* Counts an error and gives the connection up; only `connect` opens another in its place. */
static void lose(int fd) {
    if (kind == PACED) {
        errno = 0;
        fail("a connection was lost");
    }
    errors++;
    alive--;
    warm_up(fd);
    close(fd);
    if (kind == CONNECT) {
        open_one();
    }
}

/* Gives the request that is sent next a trace id of its own. */
static void mark_request(void) {
    static uint64_t serial;
    char digits[17];
    /* Odd and large: consecutive numbers differ in most digits, as drawn ones do. */
    snprintf(digits, sizeof digits, "%016llx",
             (unsigned long long)(++serial * 0x9E3779B97F4A7C15ull));
    char *trace = outgoing + sizeof REQUEST - sizeof TRACE - 2 + strlen("traceparent: 00-");
    memcpy(trace, digits, 16);
    memcpy(trace + 16, digits, 16);
}

/* Has a connection wait for the request after the next ones. */
static void rest(int fd) {
    connections[fd].received = 0;
    connections[fd].expected = 0;
    resting[(first_resting + resting_count++) % MAX_DESCRIPTORS] = fd;
}

/* Returns how long after a request the next one is due. */
static uint64_t drawn_gap(void) {
    static uint64_t state = 0x9E3779B97F4A7C15ull;
    state ^= state << 13; /* xorshift64 (Marsaglia) */
    state ^= state >> 7;
    state ^= state << 17;
    double share = (double)((state >> 11) + 1) / 9007199254740992.0; /* above 0, 1 at most */
    return (uint64_t)(-log(share) * interval);
}

/* Sends what is due, as far as there are connections for it, and waits for what is due next. */
static void send_due(void) {
    while (resting_count > 0 && next_due <= now_ns() && next_due < last_due) {
        int fd = resting[first_resting];
        first_resting = (first_resting + 1) % MAX_DESCRIPTORS;
        resting_count--;
        connections[fd].since = next_due;
        next_due += drawn_gap();
        mark_request();
        if (write(fd, outgoing, message) != (ssize_t)message) {
            lose(fd);
        }
    }
    /* Without a free connection it is the next answer that is waited for. */
    uint64_t at = resting_count > 0 && next_due < last_due ? next_due : 0;
    struct itimerspec once = {.it_value = {.tv_sec = (time_t)(at / NS_PER_S),
                                           .tv_nsec = (long)(at % NS_PER_S)}};
    if (timerfd_settime(pacer, TFD_TIMER_ABSTIME, &once, NULL) != 0) {
        fail("timerfd_settime");
    }
}

/* Whether a request that was due before `last_due` is still to be answered. */
static int is_awaited(void) { return next_due < last_due || (long)resting_count < alive; }

static void start_pacer(void) {
    pacer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (pacer < 0) {
        fail("timerfd_create");
    }
    next_due = now_ns() + drawn_gap();
    watch(EPOLL_CTL_ADD, pacer, EPOLLIN);
}

/* Sends the first bytes, which choose the backend's work, as soon as the socket is connected. */
static void start(int fd) {
    size_t first = kind == ROUND_TRIP || kind == HTTP1 ? message : 1;
    if (kind == PACED) {
        connections[fd].started = 1;
        rest(fd);
        watch(EPOLL_CTL_MOD, fd, EPOLLIN);
        return;
    }
    if (kind == HTTP1) {
        mark_request();
    }
    if (write(fd, outgoing, first) != (ssize_t)first) {
        lose(fd);
        return;
    }
    connections[fd].started = 1;
    if (kind != CONNECT) {
        connections[fd].since = now_ns();
    }
    watch(EPOLL_CTL_MOD, fd, kind == THROUGHPUT_UP ? EPOLLOUT : EPOLLIN);
}

static void send_bulk(int fd) {
    ssize_t count = write(fd, outgoing, WRITE_BYTES);
    if (count > 0) {
        done_bytes += (uint64_t)count;
        warm_up(fd);
    } else if (errno != EAGAIN) {
        lose(fd);
    }
}

static void finish_operation(int fd) {
    uint64_t now = now_ns();
    latency_add(&latencies, now - connections[fd].since);
    warm_up(fd);
    done_operations++;
    if (kind == CONNECT) {
        alive--;
        close(fd);
        open_one();
        return;
    }
    if (kind == PACED) {
        rest(fd);
        return;
    }
    connections[fd].since = now;
    connections[fd].received = 0;
    connections[fd].expected = 0;
    if (kind == HTTP1) {
        mark_request();
    }
    if (write(fd, outgoing, message) != (ssize_t)message) {
        lose(fd);
    }
}

/* Reads a response; its operation is done when all of it has come. */
static void receive_response(int fd, size_t count) {
    struct connection *own = &connections[fd];
    if (own->expected == 0) {
        if (own->received + count >= MAX_HEAD) {
            lose(fd);
            return;
        }
        memcpy(heads[fd] + own->received, incoming, count);
        heads[fd][own->received + count] = 0;
    }
    own->received += count;
    if (own->expected == 0) {
        const char *end = strstr(heads[fd], "\r\n\r\n");
        if (end == NULL) {
            return;
        }
        const char *length = strcasestr(heads[fd], "\r\ncontent-length:");
        if (strncmp(heads[fd], "HTTP/1.1 200", 12) != 0 || length == NULL || length > end) {
            lose(fd);
            return;
        }
        own->expected = (size_t)(end + 4 - heads[fd]) + strtoul(length + 17, NULL, 10);
    }
    if (own->received >= own->expected) {
        finish_operation(fd);
    }
}

static void receive(int fd) {
    ssize_t count = read(fd, incoming, sizeof incoming);
    if (count < 0 && errno == EAGAIN) {
        return;
    }
    if (count <= 0) {
        lose(fd);
        return;
    }
    if (kind == THROUGHPUT_DOWN) {
        done_bytes += (uint64_t)count;
        warm_up(fd);
        return;
    }
    if (kind == HTTP1 || kind == PACED) {
        receive_response(fd, (size_t)count);
        return;
    }
    connections[fd].received += (size_t)count;
    if (connections[fd].received >= message) {
        finish_operation(fd);
    }
}

static void serve(const struct epoll_event *event) {
    int fd = event->data.fd;
    if (fd == pacer) {
        return; /* what is due is sent once all answers are in */
    }
    if (!connections[fd].started) {
        start(fd);
    } else if (kind == THROUGHPUT_UP) {
        send_bulk(fd);
    } else {
        receive(fd);
    }
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

static int run(long count, long warm_ms, long run_ms) {
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < count; i++) {
        open_one();
    }
    if (kind == PACED) {
        start_pacer();
    }
    uint64_t window = now_ns() + (uint64_t)warm_ms * NS_PER_MS;
    uint64_t end = UINT64_MAX;
    int warm = 0;
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        uint64_t now = now_ns();
        if (!warm && now >= window && (cold == 0 || now >= window + PATIENCE_NS)) {
            warm = 1;
            window = now;
            end = now + (uint64_t)run_ms * NS_PER_MS;
            done_bytes = done_operations = 0;
            latency_clear(&latencies);
            say("{\"event\": \"window\"}");
        }
        if (now >= end && kind == PACED) {
            last_due = end;
            if (!is_awaited()) {
                break;
            }
            if (now >= end + PATIENCE_NS) {
                errno = ETIMEDOUT;
                fail("a request is still unanswered five seconds after the window");
            }
        } else if (now >= end) {
            end = now;
            break;
        }
        if (alive == 0) {
            errno = 0;
            fail("every connection was lost");
        }
        int ready = epoll_wait(poller, events, MAX_EVENTS, 20);
        for (int i = 0; i < ready; i++) {
            serve(&events[i]);
        }
        if (kind == PACED) {
            send_due();
        }
    }
    if (done_bytes == 0 && done_operations == 0) {
        errno = ETIMEDOUT;
        fail("nothing was done");
    }
    printf("{\"event\": \"done\", \"seconds\": %.6f, \"bytes\": %llu, \"operations\": %llu, "
           "\"errors\": %llu, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
           (double)(end - window) / 1e9, (unsigned long long)done_bytes,
           (unsigned long long)done_operations, (unsigned long long)errors,
           latency_us(&latencies, 0.5), latency_us(&latencies, 0.99),
           latency_us(&latencies, 0.999));
    return 0;
}

static int hold(long count, long max_ms) {
    struct timeval patience = {.tv_sec = 5};
    for (long i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) {
            fail("socket");
        }
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        errno = 0;
        if (connect(fd, (struct sockaddr *)&target, sizeof target) != 0 ||
            write(fd, outgoing, 1) != 1 || read(fd, incoming, 1) != 1) {
            fail("connection without an echo");
        }
    }
    printf("{\"event\": \"open\", \"connections\": %ld}\n", count);
    fflush(stdout);
    struct pollfd standard_input = {.fd = 0, .events = POLLIN};
    poll(&standard_input, 1, (int)max_ms);
    return 0;
}

static int usage(void) {
    fprintf(stderr, "usage: l4load throughput|round-trip|connect|http1|paced ADDRESS PORT CONNECTIONS "
                    "WARM_MS RUN_MS [down|up|BYTES|RATE]\n       l4load idle ADDRESS PORT CONNECTIONS MAX_MS\n");
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        return usage();
    }
    signal(SIGPIPE, SIG_IGN);
    target = place(argv[2], argv[3]);
    long count = number(argv[4], "CONNECTIONS", 1, MAX_DESCRIPTORS - 64);
    memset(outgoing, WORK_ECHO, sizeof outgoing);
    if (strcmp(argv[1], "idle") == 0 && argc == 6) {
        return hold(count, number(argv[5], "MAX_MS", 1, MAX_RUN_MS));
    }
    long warm_ms = number(argv[5], "WARM_MS", 0, MAX_RUN_MS);
    if (argc < 7) {
        return usage();
    }
    long run_ms = number(argv[6], "RUN_MS", 1, MAX_RUN_MS);
    if (strcmp(argv[1], "connect") == 0 && argc == 7) {
        kind = CONNECT;
    } else if (strcmp(argv[1], "http1") == 0 && argc == 7) {
        kind = HTTP1;
        message = strlen(REQUEST);
        memcpy(outgoing, REQUEST, message);
    } else if (strcmp(argv[1], "paced") == 0 && argc == 8) {
        kind = PACED;
        interval = (double)NS_PER_S / (double)number(argv[7], "RATE", 1, MAX_RATE);
        message = strlen(REQUEST);
        memcpy(outgoing, REQUEST, message);
    } else if (strcmp(argv[1], "round-trip") == 0 && argc == 8) {
        kind = ROUND_TRIP;
        message = (size_t)number(argv[7], "BYTES", 1, MAX_MESSAGE);
    } else if (strcmp(argv[1], "throughput") == 0 && argc == 8) {
        int down = strcmp(argv[7], "down") == 0;
        if (!down && strcmp(argv[7], "up") != 0) {
            return usage();
        }
        kind = down ? THROUGHPUT_DOWN : THROUGHPUT_UP;
        outgoing[0] = down ? WORK_SEND : WORK_SINK;
    } else {
        return usage();
    }
    return run(count, warm_ms, run_ms);
}
