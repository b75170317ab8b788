/* SPDX-License-Identifier: Apache-2.0 */
/* json_out.c - see json_out.h. */
#include "base/json_out.h"

#include <inttypes.h>

#include "base/text.h"

void rr_out_key(struct rr_json_out *o, const char *key)
{
    if (o->more) rr_buf_puts(o->buf, o->spaced ? ", " : ",");
    o->more = true;
    if (!key) return;
    rr_buf_json_string(o->buf, rr_text(key));
    rr_buf_puts(o->buf, o->spaced ? ": " : ":");
}

static void begin(struct rr_json_out *o, const char *key, bool array)
{
    rr_out_key(o, key);
    if (o->depth == RR_JSON_OUT_DEPTH) {
        o->buf->failed = true;
        return;
    }
    rr_buf_putc(o->buf, array ? '[' : '{');
    o->depth++;
    o->arrays = o->arrays << 1 | array;
    o->more = false;
}

void rr_out_object(struct rr_json_out *o, const char *key)
{
    begin(o, key, false);
}

void rr_out_array(struct rr_json_out *o, const char *key)
{
    begin(o, key, true);
}

void rr_out_end(struct rr_json_out *o)
{
    if (o->depth == 0) {
        o->buf->failed = true;
        return;
    }
    rr_buf_putc(o->buf, o->arrays & 1 ? ']' : '}');
    o->depth--;
    o->arrays >>= 1;
    o->more = true;
}

void rr_out_text(struct rr_json_out *o, const char *key, struct rr_text value)
{
    rr_out_key(o, key);
    rr_buf_json_string(o->buf, value);
}

void rr_out_string(struct rr_json_out *o, const char *key, const char *value)
{
    if (value)
        rr_out_text(o, key, rr_text(value));
    else
        rr_out_null(o, key);
}

void rr_out_uint(struct rr_json_out *o, const char *key, uint64_t value)
{
    rr_out_key(o, key);
    rr_buf_printf(o->buf, "%" PRIu64, value);
}

void rr_out_int(struct rr_json_out *o, const char *key, int64_t value)
{
    rr_out_key(o, key);
    rr_buf_printf(o->buf, "%" PRId64, value);
}

void rr_out_hex(struct rr_json_out *o, const char *key, uint64_t value)
{
    rr_out_printf(o, key, "\"%016" PRIx64 "\"", value);
}

void rr_out_double(struct rr_json_out *o, const char *key, double value)
{
    rr_out_key(o, key);
    rr_buf_json_double(o->buf, value);
}

void rr_out_bool(struct rr_json_out *o, const char *key, bool value)
{
    rr_out_key(o, key);
    rr_buf_puts(o->buf, value ? "true" : "false");
}

void rr_out_null(struct rr_json_out *o, const char *key)
{
    rr_out_key(o, key);
    rr_buf_puts(o->buf, "null");
}

void rr_out_printf(struct rr_json_out *o, const char *key, const char *fmt, ...)
{
    va_list args;

    rr_out_key(o, key);
    va_start(args, fmt);
    rr_buf_vprintf(o->buf, fmt, args);
    va_end(args);
}
