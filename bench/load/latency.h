/* Times in nanoseconds, counted in buckets at most 0.05 % wide: constant memory, any duration. */
#ifndef PILLION_BENCH_LATENCY_H
#define PILLION_BENCH_LATENCY_H

#include <stdint.h>
#include <string.h>

#define FINE_BITS 11
#define FINE (1u << FINE_BITS)
#define BUCKETS ((64u - FINE_BITS + 1u) * FINE)

struct latency {
    uint64_t count[BUCKETS];
    uint64_t total;
};

static inline unsigned bucket_of(uint64_t ns) {
    if (ns < FINE) {
        return (unsigned)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - FINE_BITS;
    return (shift + 1u) * FINE + (unsigned)((ns >> shift) - FINE);
}

/* The middle of a bucket, in nanoseconds. */
static inline double middle_of(unsigned bucket) {
    if (bucket < FINE) {
        return bucket;
    }
    unsigned shift = bucket / FINE - 1u;
    uint64_t low = (uint64_t)(FINE + bucket % FINE) << shift;
    return (double)low + (double)((uint64_t)1 << shift) / 2.0;
}

static inline void latency_add(struct latency *all, uint64_t ns) {
    all->count[bucket_of(ns)]++;
    all->total++;
}

static inline void latency_clear(struct latency *all) { memset(all, 0, sizeof *all); }

/* The smallest time that `share` (0 to 1) of all do not exceed, in microseconds; 0 for none. */
static inline double latency_us(const struct latency *all, double share) {
    uint64_t wanted = (uint64_t)(share * (double)all->total);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        seen += all->count[bucket];
        if (seen > wanted || (seen == all->total && seen > 0)) {
            return middle_of(bucket) / 1000.0;
        }
    }
    return 0.0;
}

#endif
