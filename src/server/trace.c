/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - see trace.h.  W3C Trace Context, level 1, section 3.2. */
#include "server/trace.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

enum { VERSION_AT = 0, ID_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, LENGTH = 55 };

/* Splitmix64 (Steele, Lea, Flood 2014) over a random start: unique in the process, and another
 * process starts elsewhere. */
static uint64_t random_bits(void)
{
    static _Atomic uint64_t state;
    uint64_t z = atomic_load_explicit(&state, memory_order_relaxed), none = 0;

    if (!z) {
        if (getrandom(&z, sizeof(z), GRND_NONBLOCK) != (ssize_t)sizeof(z)) z = rr_now_ns();
        z |= 1;
        /* Relaxed: losing the race only means that the other thread's start counts. */
        atomic_compare_exchange_strong_explicit(&state, &none, z, memory_order_relaxed,
                                                memory_order_relaxed);
    }
    z = atomic_fetch_add_explicit(&state, UINT64_C(0x9E3779B97F4A7C15), memory_order_relaxed);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return z ? z : 1; /* an id of zeros means "none" */
}

void rr_trace_new_id(char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)random_bits());
}

/* n lower case hexadecimal digits, as the recommendation demands. */
static bool hex(const char *s, size_t n)
{
    return strspn(s, "0123456789abcdef") >= n;
}

static bool zeros(const char *s, size_t n)
{
    return strspn(s, "0") >= n;
}

static bool valid(const char *h)
{
    size_t len = h ? strlen(h) : 0;

    if (len < LENGTH) return false;
    if (!hex(h + VERSION_AT, 2) || strncmp(h, "ff", 2) == 0) return false;
    /* Version 00 ends here; later ones may go on after another dash. */
    if (len > LENGTH && (strncmp(h, "00", 2) == 0 || h[LENGTH] != '-')) return false;
    return h[2] == '-' && h[35] == '-' && h[52] == '-' && hex(h + ID_AT, 32) &&
           !zeros(h + ID_AT, 32) && hex(h + SPAN_AT, 16) && !zeros(h + SPAN_AT, 16) &&
           hex(h + FLAGS_AT, 2);
}

void rr_trace_begin(struct rr_trace *t, const char *header)
{
    rr_trace_new_id(t->span);
    if (!valid(header)) {
        snprintf(t->id, sizeof(t->id), "%016llx%016llx", (unsigned long long)random_bits(),
                 (unsigned long long)random_bits());
        t->parent[0] = 0;
        t->sampled = true;
        return;
    }
    snprintf(t->id, sizeof(t->id), "%.32s", header + ID_AT);
    snprintf(t->parent, sizeof(t->parent), "%.16s", header + SPAN_AT);
    t->sampled = strchr("13579bdf", header[FLAGS_AT + 1]) != NULL; /* bit 0 */
}
