/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c - growable bytes.  Layer: base (L0).  Threads: one at a time. */
#include "base/buf.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/decimal.h"
#include "base/text.h"

#define FIRST_CAP ((size_t)256)

void rr_buf_init(struct rr_buf *b, enum rr_mem_tag tag, size_t limit)
{
    *b = (struct rr_buf){ .limit = limit, .tag = tag };
}

void rr_buf_free(struct rr_buf *b)
{
    rr_free(b->data);
    rr_buf_init(b, b->tag, b->limit);
}

void rr_buf_clear(struct rr_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

char *rr_buf_reserve(struct rr_buf *b, size_t n)
{
    size_t need, cap;
    char *data;

    if (b->failed) return NULL;
    /* One byte more than asked for: the terminating zero. */
    if (!rr_add(b->len, n, &need) || need > b->limit || !rr_add(need, 1, &need)) goto fail;
    if (need > b->cap) {
        cap = RR_MAX(b->cap, FIRST_CAP);
        while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        if (cap - 1 > b->limit) cap = RR_MAX(need, b->limit + 1);
        data = rr_realloc(b->tag, b->data, cap, 1);
        if (!data) goto fail;
        b->data = data;
        b->cap = cap;
    }
    b->data[b->len] = 0;
    b->data[need - 1] = 0; /* a caller that fills all n bytes has a terminated string */
    return b->data + b->len;
fail:
    b->failed = true;
    return NULL;
}

void rr_buf_put(struct rr_buf *b, const void *data, size_t len)
{
    char *p = rr_buf_reserve(b, len);

    if (!p) return;
    if (len) memcpy(p, data, len);
    b->len += len;
}

void rr_buf_puts(struct rr_buf *b, const char *s)
{
    rr_buf_put(b, s, strlen(s));
}

void rr_buf_putc(struct rr_buf *b, char c)
{
    rr_buf_put(b, &c, 1);
}

void rr_buf_vprintf(struct rr_buf *b, const char *fmt, va_list args)
{
    char small[256];
    va_list again;
    int n;
    char *p;

    va_copy(again, args);
    n = vsnprintf(small, sizeof(small), fmt, args);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof(small)) {
        rr_buf_put(b, small, (size_t)n);
    } else if ((p = rr_buf_reserve(b, (size_t)n)) != NULL) {
        vsnprintf(p, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void rr_buf_printf(struct rr_buf *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    rr_buf_vprintf(b, fmt, args);
    va_end(args);
}

char *rr_buf_take(struct rr_buf *b, size_t *len)
{
    char *data;

    *len = 0;
    if (!rr_buf_reserve(b, 0)) { /* nothing was appended yet: an empty string is made here */
        rr_buf_free(b);
        return NULL;
    }
    data = b->data;
    *len = b->len;
    rr_buf_init(b, b->tag, b->limit);
    return data;
}

/* What stands inside a JSON string for c, which may not stand there itself. */
static const char *json_escape(unsigned char c, char hex[7])
{
    static const char digits[] = "0123456789abcdef";

    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
    }
    memcpy(hex, "\\u00", 4);
    hex[4] = digits[c >> 4];
    hex[5] = digits[c & 15];
    hex[6] = 0;
    return hex;
}

void rr_buf_json_string(struct rr_buf *b, struct rr_text s)
{
    char hex[7];
    size_t plain;

    rr_buf_reserve(b, s.len + 2); /* once, when nothing needs an escape */
    rr_buf_putc(b, '"');
    for (;;) {
        plain = rr_text_plain(s.data, s.len);
        rr_buf_put(b, s.data, plain);
        if (plain == s.len) break;
        rr_buf_puts(b, json_escape((unsigned char)s.data[plain], hex));
        s.data += plain + 1;
        s.len -= plain + 1;
    }
    rr_buf_putc(b, '"');
}

/* Appends a number that printf has written; the decimal point of the locale, of however many bytes,
 * becomes one '.'.  False: it is a whole one. */
static bool put_number(struct rr_buf *b, const char *text)
{
    char out[44];
    size_t n = 0;
    bool is_real = false;
    const char *p;

    for (p = text; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == 'e';

        if (plain) {
            out[n++] = *p;
        } else if (n == 0 || out[n - 1] != '.') {
            out[n++] = '.';
        }
        if (!plain || *p == 'e') is_real = true;
    }
    rr_buf_put(b, out, n);
    return is_real;
}

void rr_buf_json_float(struct rr_buf *b, float v)
{
    char text[40];

    snprintf(text, sizeof(text), "%.9g", (double)v);
    if (isfinite(v))
        (void)put_number(b, text);
    else
        rr_buf_puts(b, "null");
}

void rr_buf_json_double(struct rr_buf *b, double v)
{
    char text[40];
    /* 15 digits always survive, 17 always suffice; subnormal numbers have fewer good digits. */
    int digits = fabs(v) < DBL_MIN ? 1 : 15;

    if (!isfinite(v)) {
        b->failed = true;
        return;
    }
    if (rr_decimal_short(v, text)) {
        rr_buf_puts(b, text);
        return;
    }
    do {
        snprintf(text, sizeof(text), "%.*g", digits++, v);
    } while (digits <= 17 && strtod(text, NULL) != v);
    if (!put_number(b, text)) rr_buf_puts(b, ".0");
}
