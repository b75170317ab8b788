/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - see frame.h.  The rules are those of RFC 9110 and RFC 9112, read strictly. */
#include "server/frame.h"

#include <string.h>
#include <strings.h>

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool rr_frame_token(const char *s)
{
    if (!*s) return false;
    for (; *s; s++)
        if (!alnum(*s) && !strchr("!#$%&'*+-.^_`|~", *s)) return false;
    return true;
}

static bool clean_value(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7F) return false;
    return true;
}

/* "name", "name:80", "[::1]:80"; nothing is allowed too. */
static bool valid_host(const char *s)
{
    for (; *s; s++)
        if (!alnum(*s) && !strchr("-._~!$&'()*+;=:[]%", *s)) return false;
    return true;
}

void rr_frame_header(struct rr_frame *f, const char *name, const char *value)
{
    f->n++;
    if (!value) value = "";
    if (!rr_frame_token(name)) f->bad_name = true;
    if (!clean_value(value)) f->bad_value = true;
    if (strcasecmp(name, "Content-Length") == 0) {
        f->lengths++;
        f->length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->transfers++;
        f->transfer = value;
    } else if (strcasecmp(name, "Host") == 0) {
        f->hosts++;
        f->host = value;
    } else if (strcasecmp(name, "Expect") == 0) {
        f->expects++;
        f->expect = value;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        f->request_id = value;
    }
}

const char *rr_frame_problem(const struct rr_frame *f, const char *version, unsigned *status)
{
    *status = 431;
    if (f->n > RR_HEADERS_MAX) return "more than 100 header lines";
    *status = 400;
    if (f->bad_name) return "a header name holds characters that are not allowed";
    if (f->bad_value) return "a header value holds control characters";
    if (f->hosts > 1) return "more than one Host header";
    if (f->host && !valid_host(f->host)) return "the Host header is not a host";
    if (f->transfers && f->lengths) return "Content-Length together with Transfer-Encoding";
    if (f->lengths > 1) return "more than one Content-Length header";
    if (f->transfers > 1) return "more than one Transfer-Encoding header";
    if (f->transfers && strcmp(version, "HTTP/1.0") == 0) return "Transfer-Encoding in HTTP/1.0";
    *status = 501;
    if (f->transfers && strcasecmp(f->transfer, "chunked") != 0)
        return "only the transfer encoding chunked is known";
    return NULL;
}

const char *rr_frame_lines(const char *version, const char *end)
{
    static const char bare[] = "a line does not end with CR LF, or a NUL is in the headers";
    const char *p = version + strnlen(version, (size_t)(end - version));

    for (;;) {
        if (end - p < 4 || p[0] || p[1]) return bare; /* the line's end, and more behind it */
        p += 2;
        if (!*p) return !p[1] && p + 2 == end ? NULL : bare;
        if (*p == ' ' || *p == '\t') return "a header is continued on a second line";
        p += strnlen(p, (size_t)(end - p)); /* the name, up to where the colon was */
        if (p == end) return bare;
        p++;
        p += strnlen(p, (size_t)(end - p));
    }
}

const char *rr_frame_target(const char *target, unsigned *status)
{
    size_t i;

    *status = 414;
    for (i = 0; target[i]; i++)
        if (i >= RR_TARGET_MAX) return "the request target is too long";
    *status = 400;
    for (i = 0; target[i]; i++) {
        const char *s = target + i;

        if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7F)
            return "the request target holds characters that are not allowed";
        if (*s == '%' && (!hex(s[1]) || !hex(s[2]) || (s[1] == '0' && s[2] == '0')))
            return "the request target holds a broken percent-encoding";
    }
    return NULL;
}

bool rr_frame_plain(const char *target)
{
    size_t len = strcspn(target, "?"), i;

    for (i = 0; i < len; i++)
        if (target[i] == '%' || (target[i] == '/' && i + 1 < len && target[i + 1] == '/'))
            return false;
    return target[0] == '/' && (len == 1 || target[len - 1] != '/');
}

bool rr_frame_id(const char *id)
{
    size_t len = id ? strlen(id) : 0, i;

    if (len == 0 || len > RR_REQUEST_ID_MAX) return false;
    for (i = 0; i < len; i++)
        if (!alnum(id[i]) && id[i] != '.' && id[i] != '_' && id[i] != '-') return false;
    return true;
}

enum rr_method rr_frame_method(const char *name)
{
    static const struct {
        const char *name;
        enum rr_method method;
    } known[] = {
        { "GET", RR_GET }, { "HEAD", RR_HEAD }, { "POST", RR_POST }, { "OPTIONS", RR_OPTIONS }
    };
    size_t i;

    for (i = 0; i < RR_COUNT(known); i++)
        if (strcmp(name, known[i].name) == 0) return known[i].method;
    return RR_OTHER_METHOD;
}

bool rr_frame_path(char out[RR_PATH_MAX], const char *target, enum rr_method method)
{
    size_t n = 0;

    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        target = strstr(target, "//") + 2;
        target += strcspn(target, "/");
        if (!*target) target = "/";
    }
    if (method == RR_OPTIONS && strcmp(target, "*") == 0) target = "/"; /* about the whole server */
    for (; *target; target++) {
        if (*target == '/' && n && out[n - 1] == '/') continue;
        if (n + 1 >= RR_PATH_MAX) {
            out[n] = 0;
            return false;
        }
        out[n++] = *target;
    }
    while (n > 1 && out[n - 1] == '/') n--;
    out[n] = 0;
    return true;
}
