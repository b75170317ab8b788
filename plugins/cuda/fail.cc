/* SPDX-License-Identifier: Apache-2.0 */
/* fail.cc - base/err.h for the plugin.  The program's own err.c needs its text library, which a
 * plugin should not bring along a second time. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plan.h"

namespace
{

/* A message that was cut must not end inside a character. */
void end_at_character(char *s, size_t len)
{
    size_t start = len;

    while (start > 0 && ((unsigned char)s[start - 1] & 0xC0) == 0x80) start--;
    if (start > 0 && (unsigned char)s[start - 1] >= 0xC0) s[start - 1] = 0;
}

void format(struct rr_error *err, const char *fmt, va_list args)
{
    int n = vsnprintf(err->msg, sizeof(err->msg), fmt, args);

    if (n >= (int)sizeof(err->msg)) end_at_character(err->msg, sizeof(err->msg) - 1);
}

} // namespace

int rr_fail(struct rr_error *err, int code, const char *fmt, ...)
{
    va_list args;

    if (!err) return code;
    va_start(args, fmt);
    format(err, fmt, args);
    va_end(args);
    err->code = code;
    return code;
}

int rr_fail_prefix(struct rr_error *err, const char *fmt, ...)
{
    char old[sizeof(err->msg)];
    size_t len;
    va_list args;

    if (!err) return RR_OK;
    memcpy(old, err->msg, sizeof(old));
    va_start(args, fmt);
    format(err, fmt, args);
    va_end(args);
    len = strlen(err->msg);
    if (snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", old) >=
        (int)(sizeof(err->msg) - len))
        end_at_character(err->msg, sizeof(err->msg) - 1);
    return err->code;
}
