/* SPDX-License-Identifier: Apache-2.0 */
/* echo.c - see echo.h.  jansson's own writer prints 17 digits of a real, so that 0.85 would come
 * back as 0.84999999999999998; this one prints the shortest form. */
#include "server/echo.h"

#include <string.h>

#include "base/text.h"

static bool skipped(const char *key, const char *const *skip)
{
    for (; skip && *skip; skip++)
        if (strcmp(key, *skip) == 0) return true;
    return false;
}

static void put_comma(struct rr_buf *out, bool spaced)
{
    rr_buf_puts(out, spaced ? ", " : ",");
}

bool rr_echo_members(struct rr_buf *out, const json_t *obj, const char *const *skip, bool spaced)
{
    json_t *o = (json_t *)(uintptr_t)obj; /* the iterator reads only, though its type says no */
    void *it;
    bool any = false;

    for (it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
        const char *key = json_object_iter_key(it);

        if (skipped(key, skip)) continue;
        if (any) put_comma(out, spaced);
        any = true;
        rr_buf_json_string(out, rr_text(key));
        rr_buf_puts(out, spaced ? ": " : ":");
        rr_echo_json(out, json_object_iter_value(it), spaced);
    }
    return any;
}

static void put_array(struct rr_buf *out, const json_t *v, bool spaced)
{
    size_t i;
    const json_t *item;

    rr_buf_putc(out, '[');
    json_array_foreach(v, i, item)
    {
        if (i) put_comma(out, spaced);
        rr_echo_json(out, item, spaced);
    }
    rr_buf_putc(out, ']');
}

void rr_echo_json(struct rr_buf *out, const json_t *v, bool spaced)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        rr_buf_putc(out, '{');
        rr_echo_members(out, v, NULL, spaced);
        rr_buf_putc(out, '}');
        break;
    case JSON_ARRAY: put_array(out, v, spaced); break;
    case JSON_STRING:
        rr_buf_json_string(out, (struct rr_text){ json_string_value(v), json_string_length(v) });
        break;
    case JSON_INTEGER: rr_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); break;
    case JSON_REAL: rr_buf_json_double(out, json_real_value(v)); break;
    case JSON_TRUE: rr_buf_puts(out, "true"); break;
    case JSON_FALSE: rr_buf_puts(out, "false"); break;
    case JSON_NULL: rr_buf_puts(out, "null"); break;
    }
}
