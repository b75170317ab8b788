/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - error messages: one line of valid UTF-8, whatever went into them.
 * Layer: base (L0).  Threads: any. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Drops a character whose bytes were cut off at the end of s. */
static size_t whole_characters(const char *s, size_t len)
{
    size_t start = len;
    unsigned char c;

    while (start > 0 && len - start < 3 && ((unsigned char)s[start - 1] & 0xC0) == 0x80) start--;
    if (start == 0) return len;
    c = (unsigned char)s[start - 1];
    if (c >= 0xC0 && start - 1 + (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u) > len) return start - 1;
    return len;
}

/* Paths and names from files may hold anything; a message may not. */
static void clean(char *s)
{
    size_t len = strlen(s), i;

    for (i = 0; i < len; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7F) s[i] = '?';
    }
    while ((i = rr_utf8_invalid((struct rr_text){ s, len })) != SIZE_MAX) s[i] = '?';
}

RR_PRINTF(3, 0)
static void format(char *out, size_t cap, const char *fmt, va_list args)
{
    int n = vsnprintf(out, cap, fmt, args);

    if (n < 0) out[0] = 0;
    if (n >= (int)cap) out[whole_characters(out, cap - 1)] = 0;
}

int rr_fail(struct rr_error *err, int code, const char *fmt, ...)
{
    va_list args;

    if (!err) return code;
    err->code = code;
    va_start(args, fmt);
    format(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    clean(err->msg);
    return code;
}

int rr_fail_errno(struct rr_error *err, int code, const char *path, const char *what, int e)
{
    char text[128];

    /* The GNU form: returns the text, which need not be in the buffer. */
    return rr_fail(err, code, "%s: %s: %s", path, what, strerror_r(e, text, sizeof(text)));
}

int rr_fail_prefix(struct rr_error *err, const char *fmt, ...)
{
    char msg[sizeof(err->msg)];
    size_t len;
    va_list args;

    if (!err) return RR_EINTERNAL;
    va_start(args, fmt);
    format(msg, sizeof(msg), fmt, args);
    va_end(args);
    len = strlen(msg);
    if (len + 2 < sizeof(msg)) {
        size_t room = sizeof(msg) - len - 3, old = strlen(err->msg);

        memcpy(msg + len, ": ", 2);
        if (old > room) old = whole_characters(err->msg, room);
        memcpy(msg + len + 2, err->msg, old);
        msg[len + 2 + old] = 0;
    }
    memcpy(err->msg, msg, sizeof(msg));
    clean(err->msg);
    return err->code;
}
