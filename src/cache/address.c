/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - see address.h. */
#include "cache/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#define FORMS \
    "expected redis://[[user:]password@]host[:port][/db], rediss://... or unix:/path[?db=N]"

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Copies text, undoing %XX.  False: it does not fit, or a % without two digits, or a NUL. */
static bool unescape(char *out, size_t cap, struct rr_text in)
{
    size_t i, n = 0;

    for (i = 0; i < in.len; i++) {
        int c = (unsigned char)in.data[i];

        if (c == '%') {
            if (i + 2 >= in.len || hex(in.data[i + 1]) < 0 || hex(in.data[i + 2]) < 0) return false;
            c = hex(in.data[i + 1]) << 4 | hex(in.data[i + 2]);
            i += 2;
        }
        if (!c || n + 1 >= cap) return false;
        out[n++] = (char)c;
    }
    out[n] = 0;
    return true;
}

static bool copy(char *out, size_t cap, struct rr_text in)
{
    if (!in.len || in.len >= cap) return false;
    memcpy(out, in.data, in.len);
    out[in.len] = 0;
    return true;
}

static bool number(uint32_t *out, struct rr_text in, uint32_t most)
{
    uint64_t v = 0;
    size_t i;

    if (!in.len || in.len > 9) return false;
    for (i = 0; i < in.len; i++) {
        if (in.data[i] < '0' || in.data[i] > '9') return false;
        v = v * 10 + (uint64_t)(in.data[i] - '0');
    }
    *out = (uint32_t)v;
    return v <= most;
}

/* What is before the first (or last) c moves out of *rest into *head; false: there is no c. */
static bool split(struct rr_text *rest, struct rr_text *head, char c, bool last)
{
    const char *at = last ? memrchr(rest->data, c, rest->len) : memchr(rest->data, c, rest->len);

    if (!at) return false;
    *head = (struct rr_text){ rest->data, (size_t)(at - rest->data) };
    *rest = (struct rr_text){ at + 1, rest->len - head->len - 1 };
    return true;
}

static int parse_login(struct rr_address *a, struct rr_text login, struct rr_error *err)
{
    struct rr_text user = { login.data, 0 };

    if (split(&login, &user, ':', false) && !unescape(a->user, sizeof(a->user), user))
        return rr_fail(err, RR_EINVAL,
                       "the user of a Redis URL is longer than %zu bytes or has a %% without two "
                       "hexadecimal digits",
                       sizeof(a->user) - 1);
    if (!unescape(a->password, sizeof(a->password), login))
        return rr_fail(err, RR_EINVAL,
                       "the password of a Redis URL is longer than %zu bytes or has a %% without "
                       "two hexadecimal digits (%% itself is %%25)",
                       sizeof(a->password) - 1);
    return RR_OK;
}

/* host, host:port, [v6], [v6]:port */
static int parse_host(struct rr_address *a, struct rr_text t, struct rr_error *err)
{
    struct rr_text host = t, port = rr_text("6379");
    uint32_t p;

    if (t.len && *t.data == '[') {
        t.data++;
        t.len--;
        if (!split(&t, &host, ']', false) || (t.len && *t.data != ':'))
            return rr_fail(err, RR_EINVAL, "a Redis URL with [ and no ] around its host; " FORMS);
        if (t.len) port = (struct rr_text){ t.data + 1, t.len - 1 };
    } else if (split(&t, &host, ':', true)) {
        port = t;
        if (memchr(host.data, ':', host.len))
            return rr_fail(err, RR_EINVAL,
                           "a Redis URL with several : in its host; an IPv6 address stands in "
                           "brackets, [::1]");
    }
    if (!copy(a->host, sizeof(a->host), host))
        return rr_fail(err, RR_EINVAL,
                       "a Redis URL with no host, or one of over 255 bytes; " FORMS);
    if (!number(&p, port, 65535) || !p)
        return rr_fail(err, RR_EINVAL,
                       "the port of a Redis URL is not a number from 1 to 65535; " FORMS);
    (void)snprintf(a->port, sizeof(a->port), "%u", p & 0xFFFFu);
    return RR_OK;
}

static int parse_db(struct rr_address *a, struct rr_text db, struct rr_error *err)
{
    if (number(&a->db, db, 999999)) return RR_OK;
    return rr_fail(err, RR_EINVAL,
                   "the database of a Redis URL is not a number from 0 to 999999; " FORMS);
}

static int parse_network(struct rr_address *a, struct rr_text t, struct rr_error *err)
{
    struct rr_text login, db = { NULL, 0 }, rest = t;
    int rc = RR_OK;

    if (split(&rest, &login, '@', true)) { /* a password may hold / and @ */
        rc = parse_login(a, login, err);
        t = rest;
    }
    rest = t;
    if (split(&rest, &t, '/', false)) db = rest;
    if (!rc) rc = parse_host(a, t, err);
    if (!rc && db.len) rc = parse_db(a, db, err);
    return rc;
}

static int parse_local(struct rr_address *a, struct rr_text t, struct rr_error *err)
{
    const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    struct rr_text path = t;

    a->local = true;
    if (t.len > 2 && t.data[0] == '/' && t.data[1] == '/')
        t = path = (struct rr_text){ t.data + 2, t.len - 2 };
    if (split(&t, &path, '?', false)) {
        if (t.len < 3 || memcmp(t.data, "db=", 3) != 0)
            return rr_fail(err, RR_EINVAL, "after the ? of a unix: URL only db=N is known; " FORMS);
        if (parse_db(a, (struct rr_text){ t.data + 3, t.len - 3 }, err)) return RR_EINVAL;
    }
    if (!path.len || *path.data != '/' || path.len > most || !copy(a->host, sizeof(a->host), path))
        return rr_fail(err, RR_EINVAL,
                       "the path of a unix: URL must start with / and be at most %zu bytes long",
                       most);
    return RR_OK;
}

int rr_address_parse(struct rr_address *out, const char *url, struct rr_error *err)
{
    static const char redis[] = "redis://", rediss[] = "rediss://", local[] = "unix:";

    memset(out, 0, sizeof(*out));
    if (strncmp(url, local, strlen(local)) == 0)
        return parse_local(out, rr_text(url + strlen(local)), err);
    if (strncmp(url, redis, strlen(redis)) == 0)
        return parse_network(out, rr_text(url + strlen(redis)), err);
    if (strncmp(url, rediss, strlen(rediss)) == 0) {
        out->tls = true;
        return parse_network(out, rr_text(url + strlen(rediss)), err);
    }
    if (strchr(url, '@')) /* may hold a password */
        return rr_fail(err, RR_EINVAL, "not a Redis URL; " FORMS);
    return rr_fail(err, RR_EINVAL, "found \"%.80s\", not a Redis URL; " FORMS, url);
}

int rr_address_password(struct rr_address *a, const char *path, struct rr_error *err)
{
    char *text;
    size_t len;
    int rc;

    if (!path) return RR_OK;
    rc = rr_file_read(&text, &len, path, 64 << 10, RR_MEM_CACHE, err);
    if (rc) return rr_fail_prefix(err, "redis-password-file"), rc;
    len = strcspn(text, "\r\n");
    if (!len || len >= sizeof(a->password)) {
        rc = rr_fail(err, RR_EFORMAT,
                     "%s: a first line of %zu bytes, expected a password of 1 to "
                     "%zu",
                     path, len, sizeof(a->password) - 1);
    } else {
        memcpy(a->password, text, len);
        a->password[len] = 0;
    }
    explicit_bzero(text, len);
    rr_free(text);
    return rc;
}

void rr_address_name(const struct rr_address *a, char *out, size_t cap)
{
    bool v6 = strchr(a->host, ':') && !a->local;

    if (a->local)
        (void)snprintf(out, cap, "unix:%s", a->host);
    else
        (void)snprintf(out, cap, "%s://%s%s%s:%s", a->tls ? "rediss" : "redis", v6 ? "[" : "",
                       a->host, v6 ? "]" : "", a->port);
}
