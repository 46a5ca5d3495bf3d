/* A cable with a delay between two network namespaces, for kernels without netem.
 *
 *     cable NAMESPACE DEVICE NAMESPACE DEVICE DELAY_US
 *
 * Makes a TUN device in each namespace (named by a path) and carries packets between them, each
 * DELAY_US after it was read, in order. The devices are down until the caller sets them up, and go
 * with this program, which SIGTERM ends. Prints {"event": "ready"} when they are there. A queue
 * that is full, or a device that is down, loses the packet, as a network does. Exit status: 1
 * cannot make the devices (reason on standard error), 2 usage.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

#define MAX_PACKET 2048
#define MAX_QUEUE 1024 /* packets under way in one direction */
#define MAX_DELAY_US 1000000
#define NS_PER_US 1000ull
#define NS_PER_S 1000000000ull

struct packet {
    uint64_t due;
    size_t size;
    char octets[MAX_PACKET];
};

/* One direction. */
struct way {
    int from, to;
    size_t first, count;
    struct packet queue[MAX_QUEUE];
};

static struct way ways[2];
static uint64_t delay;

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * NS_PER_S + (uint64_t)at.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "cable: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_or_fail(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        fail(path);
    }
    return fd;
}

/* Makes a device in a namespace; this thread is back in its own afterwards. */
static int make_device(const char *namespace, const char *name) {
    int home = open_or_fail("/proc/self/ns/net", O_RDONLY);
    int there = open_or_fail(namespace, O_RDONLY);
    if (setns(there, CLONE_NEWNET) != 0) {
        fail(namespace);
    }
    int fd = open_or_fail("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(wanted.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, TUNSETIFF, &wanted) != 0) {
        fail(name);
    }
    if (setns(home, CLONE_NEWNET) != 0) {
        fail("setns");
    }
    close(home);
    close(there);
    return fd;
}

static void take_in(struct way *way) {
    uint64_t due = now_ns() + delay;
    char lost[MAX_PACKET];
    for (;;) {
        struct packet *last = &way->queue[(way->first + way->count) % MAX_QUEUE];
        int is_full = way->count == MAX_QUEUE;
        ssize_t size = read(way->from, is_full ? lost : last->octets, MAX_PACKET);
        if (size <= 0) {
            return;
        }
        if (!is_full) {
            last->due = due;
            last->size = (size_t)size;
            way->count++;
        }
    }
}

static void hand_out(struct way *way) {
    while (way->count > 0) {
        struct packet *next = &way->queue[way->first];
        if (next->due > now_ns()) {
            return;
        }
        ssize_t written = write(way->to, next->octets, next->size);
        (void)written; /* the network on the other side may be down */
        way->first = (way->first + 1) % MAX_QUEUE;
        way->count--;
    }
}

/* Sets the clock to when the next packet is due; never, while nothing is under way. */
static void set_clock(int clock) {
    uint64_t due = 0;
    for (int i = 0; i < 2; i++) {
        if (ways[i].count > 0) {
            uint64_t own = ways[i].queue[ways[i].first].due;
            due = due == 0 || own < due ? own : due;
        }
    }
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(due / NS_PER_S),
                                         .tv_nsec = (long)(due % NS_PER_S)}};
    if (timerfd_settime(clock, TFD_TIMER_ABSTIME, &at, NULL) != 0) {
        fail("timerfd_settime");
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: cable NAMESPACE DEVICE NAMESPACE DEVICE DELAY_US\n");
        return 2;
    }
    delay = (uint64_t)number(argv[5], "DELAY_US", 0, MAX_DELAY_US) * NS_PER_US;
    int ends[2] = {make_device(argv[1], argv[2]), make_device(argv[3], argv[4])};
    int poller = epoll_create1(EPOLL_CLOEXEC);
    int clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int watched[3] = {ends[0], ends[1], clock};
    for (int i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = watched[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, watched[i], &event) != 0) {
            fail("epoll_ctl");
        }
    }
    for (int i = 0; i < 2; i++) {
        ways[i].from = ends[i];
        ways[i].to = ends[1 - i];
    }
    /* A wire waits for no process; where this is not allowed, it is a little slower. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 2});
    puts("{\"event\": \"ready\"}");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[3];
        int ready = epoll_wait(poller, events, 3, -1);
        for (int i = 0; i < ready; i++) {
            for (int end = 0; end < 2; end++) {
                if (events[i].data.fd == ends[end]) {
                    take_in(&ways[end]);
                }
            }
        }
        hand_out(&ways[0]);
        hand_out(&ways[1]);
        set_clock(clock);
    }
}
