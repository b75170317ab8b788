/* SPDX-License-Identifier: Apache-2.0 */
/* options_file.c - see options_file.h.  Layer: top (L6). */
#include "options_file.h"

#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *s)
{
    size_t n;

    while (is_space(*s)) s++;
    for (n = strlen(s); n > 0 && is_space(s[n - 1]); n--) s[n - 1] = 0;
    return s;
}

/* Takes quotes or a comment off the value at v, in place; NULL when a quote is not closed or
 * something follows it. */
static char *unquote(char *v)
{
    char quote = *v, *out, *in;

    if (quote != '"' && quote != '\'') {
        for (in = v; *in; in++) {
            if (*in == '#' && (in == v || is_space(in[-1]))) {
                *in = 0;
                break;
            }
        }
        return trim(v);
    }
    for (in = v + 1, out = v; *in && *in != quote; in++) {
        if (quote == '"' && *in == '\\' && (in[1] == '"' || in[1] == '\\')) in++;
        *out++ = *in;
    }
    if (!*in) return NULL;
    in = trim(in + 1);
    if (*in && *in != '#') return NULL;
    *out = 0;
    return v;
}

int rr_config_line(char *line, const char *where, char **key, char **value, struct rr_error *err)
{
    char *text = trim(line), *eq;

    *key = *value = NULL;
    if (!*text || *text == '#') return RR_OK;
    if (rr_utf8_invalid(rr_text(text)) != SIZE_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: not UTF-8", where);
    eq = strchr(text, '=');
    if (!eq)
        return rr_fail(err, RR_EFORMAT, "%s: found \"%.60s\", expected \"name = value\"", where,
                       text);
    *eq = 0;
    *key = trim(text);
    *value = unquote(trim(eq + 1));
    return RR_OK;
}
