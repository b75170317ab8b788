/* SPDX-License-Identifier: Apache-2.0 */
/* cors.c - see cors.h. */
#include "server/cors.h"

#include <string.h>

#include "base/err.h"
#include "base/text.h"

static bool is_origin(const char *s, size_t len)
{
    size_t scheme = len > 8 && memcmp(s, "https://", 8) == 0  ? 8
                    : len > 7 && memcmp(s, "http://", 7) == 0 ? 7
                                                              : 0;
    size_t i;

    if (!scheme || len >= RR_HTTP_VALUE_MAX) return false;
    for (i = scheme; i < len; i++) /* a host in small letters, perhaps a port: no path, no blank */
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') ||
              memchr("-.:[]", s[i], 5)))
            return false;
    return true;
}

int rr_cors_check(const char *origins, struct rr_error *err)
{
    struct rr_text word;

    if (strcmp(origins, "*") == 0) return RR_OK;
    while (rr_text_word(&origins, &word)) {
        if (!is_origin(word.data, word.len))
            return rr_fail(err, RR_EFORMAT,
                           "cors-origins: found \"%.*s\", expected origins such as "
                           "https://app.example.com, or * alone",
                           (int)RR_MIN(word.len, 60), word.data);
    }
    return RR_OK;
}

bool rr_cors_answer(const char *origins, struct rr_exchange *x)
{
    const char *origin = rr_http_given(x, "Origin", 0);
    bool any = strcmp(origins, "*") == 0;
    bool preflight =
        x->method == RR_OPTIONS && origin && rr_http_given(x, "Access-Control-Request-Method", 0);

    if (!*origins) return preflight;
    if (!any) rr_http_header(x, "Vary", "Origin"); /* also where it is not allowed: caches */
    if (!origin || rr_http_given(x, "Origin", 1) || !(any || rr_text_listed(origins, origin)))
        return preflight;
    rr_http_header(x, "Access-Control-Allow-Origin", "%s", any ? "*" : origin);
    if (!preflight) {
        rr_http_header(x, "Access-Control-Expose-Headers", "*");
        return false;
    }
    rr_http_header(x, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    /* SDKs add some of their own; the star does not cover the one that could be a password. */
    rr_http_header(x, "Access-Control-Allow-Headers", "Authorization, *");
    rr_http_header(x, "Access-Control-Max-Age", "600");
    return true;
}
