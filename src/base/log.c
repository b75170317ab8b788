/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - the sink.  One lock makes lines whole; the level is read without it.
 * Layer: base (L0).  Threads: any.  A sink must not log: the lock is held while it runs. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define LINE_MAX_BYTES 4096 /* with the terminating zero */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static rr_log_sink *sink_fn; /* lock */
static void *sink_user;      /* lock */
static atomic_int max_level = RR_WARN;

void rr_log_set(rr_log_sink *sink, void *user, int level)
{
    pthread_mutex_lock(&lock);
    sink_fn = sink;
    sink_user = user;
    pthread_mutex_unlock(&lock);
    atomic_store_explicit(&max_level, level, memory_order_relaxed);
}

bool rr_log_on(enum rr_level level)
{
    /* Relaxed: a line more or less while the level changes hurts nobody. */
    return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* Copies what a terminal and a log collector can take: control characters (C0, DEL, C1) and bytes
 * that are not UTF-8 become \n, \t or \xNN.  Stops before the line would be too long. */
static void clean(char *out, size_t cap, const char *in, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t i = 0, o = 0;

    while (i < len) {
        unsigned char c = (unsigned char)in[i];
        unsigned n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        bool ok = c >= 0x20 && c != 0x7F && n <= len - i;

        if (ok && rr_utf8_invalid((struct rr_text){ in + i, n }) != SIZE_MAX) ok = false;
        if (ok && c == 0xC2 && (unsigned char)in[i + 1] < 0xA0) ok = false;
        if (o + 5 > cap) break;
        if (ok) {
            memcpy(out + o, in + i, n);
            o += n;
            i += n;
            continue;
        }
        out[o++] = '\\';
        if (c == '\n' || c == '\t') {
            out[o++] = c == '\n' ? 'n' : 't';
        } else {
            out[o++] = 'x';
            out[o++] = digits[c >> 4];
            out[o++] = digits[c & 15];
        }
        i++;
    }
    out[o] = 0;
}

void rr_log(enum rr_level level, const char *fmt, ...)
{
    static const char *const names[] = { "error", "warning", "info", "debug" };
    char raw[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
    va_list args;
    int n;

    if (!rr_log_on(level)) return;
    va_start(args, fmt);
    n = vsnprintf(raw, sizeof(raw), fmt, args);
    va_end(args);
    if (n < 0) return;
    clean(line, sizeof(line), raw, RR_MIN((size_t)n, sizeof(raw) - 1));

    pthread_mutex_lock(&lock);
    if (sink_fn) {
        sink_fn(sink_user, (int)level, line);
    } else {
        fprintf(stderr, "%s: %s\n", names[(unsigned)level % RR_COUNT(names)], line);
    }
    pthread_mutex_unlock(&lock);
}
