/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - see http.h.  Layer: hub (L5). */
#include "hub/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"

#define CONNECT_MS 15000L
#define TICK_MS 200L

/* ---- addresses ------------------------------------------------------------------------------ */

static bool origin_of(const char *url, char *out, size_t cap)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool good;

    good = u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
           !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
           !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
           !curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) &&
           (size_t)snprintf(out, cap, "%s://%s:%s", scheme, host, port) < cap;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return good;
}

bool rr_hub_http_same_origin(const char *a, const char *b)
{
    char x[400], y[400];

    return origin_of(a, x, sizeof(x)) && origin_of(b, y, sizeof(y)) && strcasecmp(x, y) == 0;
}

bool rr_hub_http_may_follow(const char *from, const char *to)
{
    bool secure = strncasecmp(to, "https://", 8) == 0;

    return secure || (strncasecmp(to, "http://", 7) == 0 && strncasecmp(from, "http://", 7) == 0);
}

/* "https://host:443" of a URL: what messages show, since paths of others may hold signatures. */
static const char *shown(const char *url, char out[400])
{
    return origin_of(url, out, 400) ? out : "the server";
}

/* ---- reply ---------------------------------------------------------------------------------- */

/* The value of the header line if it has this name, without white space around it. */
static bool header(const char *line, size_t len, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);

    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0) return false;
    for (n++; n < len && (line[n] == ' ' || line[n] == '\t'); n++) continue;
    while (len > n && strchr(" \t\r\n", line[len - 1])) len--;
    if (len - n >= cap) return false;
    memcpy(out, line + n, len - n);
    out[len - n] = 0;
    return true;
}

/* Seconds, or a date. */
static double retry_after(const char *value)
{
    time_t then;
    char *end;
    double v = strtod(value, &end);

    if (end != value && !*end) return v > 0.0 && v < 1e9 ? v : 0.0;
    then = curl_getdate(value, NULL);
    v = then == (time_t)-1 ? 0.0 : difftime(then, time(NULL));
    return v > 0.0 ? v : 0.0;
}

/* W/"abc" and "abc" as abc. */
static void unquote(char *etag)
{
    size_t len;

    if (strncmp(etag, "W/", 2) == 0) memmove(etag, etag + 2, strlen(etag) - 1);
    len = strlen(etag);
    if (len >= 2 && etag[0] == '"' && etag[len - 1] == '"') {
        memmove(etag, etag + 1, len - 2);
        etag[len - 2] = 0;
    }
}

static void read_range(struct rr_hub_http_reply *r, const char *value)
{
    unsigned long long first, last, total;

    if (sscanf(value, "bytes %llu-%llu/%llu", &first, &last, &total) != 3) return;
    r->has_range = true;
    r->first = first;
    r->total = total;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    struct rr_hub_http *h = user;
    struct rr_hub_http_reply *r = &h->reply;
    char value[200], *end;
    size_t len = size * n;

    if (len > 5 && strncmp(line, "HTTP/", 5) == 0) { /* a new reply: after 100, or a proxy's */
        memset(r, 0, sizeof(*r));
    } else if (header(line, len, "ETag", r->etag, sizeof(r->etag))) {
        ;
    } else if (header(line, len, "X-Linked-ETag", r->linked_etag, sizeof(r->linked_etag))) {
        unquote(r->linked_etag);
    } else if (header(line, len, "X-Error-Code", r->error_code, sizeof(r->error_code))) {
        ;
    } else if (header(line, len, "Content-Range", value, sizeof(value))) {
        read_range(r, value);
    } else if (header(line, len, "Content-Length", value, sizeof(value))) {
        r->length = strtoull(value, &end, 10);
        r->has_length = end != value && !*end;
    } else if (header(line, len, "Retry-After", value, sizeof(value))) {
        r->retry_after = retry_after(value);
    }
    return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    struct rr_hub_http *h = user;
    long status = 0;

    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    h->reply.status = status;
    if (status != 200 && status != 206) return size * n; /* an error's page */
    if (h->sink(h->user, data, size * n)) return size * n;
    h->refused = true;
    return 0;
}

static int on_tick(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct rr_hub *hub = user;

    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return hub->stopped && hub->stopped(hub->user);
}

/* ---- request -------------------------------------------------------------------------------- */

int rr_hub_http_init(struct rr_hub_http *h, const struct rr_hub *hub, struct rr_error *err)
{
    memset(h, 0, sizeof(*h));
    h->hub = hub;
    h->curl = curl_easy_init();
    return h->curl ? RR_OK : rr_fail(err, RR_ENOMEM, "libcurl: out of memory");
}

void rr_hub_http_free(struct rr_hub_http *h)
{
    curl_easy_cleanup(h->curl);
    curl_slist_free_all(h->headers);
    memset(h, 0, sizeof(*h));
}

static bool add_header(struct rr_hub_http *h, const char *name, const char *value)
{
    char line[2200];
    struct curl_slist *list;

    if ((size_t)snprintf(line, sizeof(line), "%s: %s", name, value) >= sizeof(line)) return false;
    list = curl_slist_append(h->headers, line);
    if (list) h->headers = list;
    return list != NULL;
}

int rr_hub_http_prepare(struct rr_hub_http *h, const char *url, uint64_t first, uint64_t end,
                        const char *etag, struct rr_error *err)
{
    const struct rr_hub *hub = h->hub;
    char text[2100];
    bool good = true;
    CURL *c = h->curl;

    curl_easy_reset(c);
    curl_slist_free_all(h->headers);
    h->headers = NULL;
    memset(&h->reply, 0, sizeof(h->reply));
    h->refused = false;
    h->why[0] = 0;
    if (hub->token && rr_hub_http_same_origin(url, hub->endpoint)) {
        good = (size_t)snprintf(text, sizeof(text), "Bearer %s", hub->token) < sizeof(text) &&
               add_header(h, "Authorization", text);
    }
    if (end && etag[0] == '"') good = good && add_header(h, "If-Range", etag);
    if (end) {
        snprintf(text, sizeof(text), "%llu-%llu", (unsigned long long)first,
                 (unsigned long long)end - 1);
        good = good && !curl_easy_setopt(c, CURLOPT_RANGE, text);
    }
    if (hub->ca_file) good = good && !curl_easy_setopt(c, CURLOPT_CAINFO, hub->ca_file);
    good = good && !curl_easy_setopt(c, CURLOPT_URL, url) &&
           !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, h->headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, hub->agent);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->why);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, (void *)(uintptr_t)hub);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PRIVATE, h);
    /* One connection for each part: on a shared one of HTTP/2 they would only share its rate. */
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)RR_MAX(hub->timeout, 1.0));
    return good ? RR_OK : rr_fail(err, RR_ENOMEM, "libcurl: cannot prepare the request");
}

/* ---- outcome -------------------------------------------------------------------------------- */

static enum rr_hub_http_outcome of_curl(const struct rr_hub_http *h, CURLcode result,
                                        struct rr_hub *hub, const char *what, const char *url,
                                        struct rr_error *err)
{
    const char *why = h->why[0] ? h->why : curl_easy_strerror(result);
    char host[400];

    shown(url, host);
    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        rr_fail(err, RR_EIO,
                "%s: %s: the name is not found (DNS); check the network, HTTPS_PROXY and "
                "HF_ENDPOINT",
                what, host);
        break;
    case CURLE_COULDNT_CONNECT:
        rr_fail(err, RR_EIO,
                "%s: cannot connect to %s; check the network, HTTPS_PROXY and "
                "HF_ENDPOINT",
                what, host);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        rr_fail(err, RR_ETIMEDOUT, "%s: %s is silent for too long; try again, it goes on from here",
                what, host);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        rr_fail(err, RR_EIO,
                "%s: %s: its certificate is not accepted (%.120s); if a proxy of yours signs it, "
                "give that proxy's certificate with --ca-file",
                what, host, why);
        return RR_HUB_HTTP_FATAL;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_OUT_OF_MEMORY:
        rr_fail(err, result == CURLE_OUT_OF_MEMORY ? RR_ENOMEM : RR_EINVAL, "%s: %s: %.120s", what,
                host, why);
        return RR_HUB_HTTP_FATAL;
    default:
        rr_fail(err, RR_EIO,
                "%s: %s: the transfer broke off (%.120s); try again, it goes on from "
                "here",
                what, host, why);
        break;
    }
    hub->temporary = true;
    return RR_HUB_HTTP_RETRY;
}

static enum rr_hub_http_outcome unexpected(const struct rr_hub_http_reply *r, const char *what,
                                           const char *host, struct rr_error *err)
{
    rr_fail(err, RR_EIO, "%s: %s answers %ld, expected 200; is HF_ENDPOINT a hub?", what, host,
            r->status);
    return RR_HUB_HTTP_FATAL;
}

static void say_denied(const struct rr_hub_http *h, struct rr_hub *hub, const char *what,
                       const char *host, struct rr_error *err)
{
    const struct rr_hub_http_reply *r = &h->reply;

    hub->denied = true;
    if (strcmp(r->error_code, "GatedRepo") == 0)
        rr_fail(err, RR_ENOENT,
                "%s: gated: accept its conditions on its page in a browser, then set HF_TOKEN to a "
                "token of that account%s",
                what, hub->token ? " (the one that was sent has no access)" : "");
    else if (hub->token)
        rr_fail(err, RR_ENOENT,
                "%s: %s answers %ld: the model is not there, or the token may not read it; check "
                "the name, and the token's rights",
                what, host, r->status);
    else
        rr_fail(err, RR_ENOENT,
                "%s: %s answers %ld: the model is not there, or private; check the name, or set "
                "HF_TOKEN",
                what, host, r->status);
}

static enum rr_hub_http_outcome of_status(const struct rr_hub_http *h, struct rr_hub *hub,
                                          const char *what, const char *url, struct rr_error *err)
{
    const struct rr_hub_http_reply *r = &h->reply;
    char host[400];

    shown(url, host);
    switch (r->status) {
    case 401:
    case 403:
        /* A storage that the hub led to knows no tokens. */
        if (!rr_hub_http_same_origin(url, hub->endpoint)) return unexpected(r, what, host, err);
        say_denied(h, hub, what, host, err);
        return RR_HUB_HTTP_FATAL;
    case 404:
    case 410:
        if (strcmp(r->error_code, "RevisionNotFound") == 0)
            rr_fail(err, RR_ENOENT, "%s: the model has no such revision; check --revision", what);
        else
            rr_fail(err, RR_ENOENT, "%s: %s has no such model or file; check the name", what, host);
        return RR_HUB_HTTP_FATAL;
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        hub->temporary = true;
        rr_fail(err, r->status == 504 || r->status == 408 ? RR_ETIMEDOUT : RR_EBUSY,
                "%s: %s answers %ld, %s; try again later", what, host, r->status,
                r->status == 429 ? "too many requests" : "it has a problem");
        if (r->retry_after > RR_HUB_HTTP_MAX_WAIT) {
            rr_fail(err, RR_EBUSY, "%s: %s answers %ld and asks to come back in %.0f seconds", what,
                    host, r->status, r->retry_after);
            return RR_HUB_HTTP_FATAL;
        }
        return RR_HUB_HTTP_RETRY;
    default: return unexpected(r, what, host, err);
    }
}

enum rr_hub_http_outcome rr_hub_http_outcome(struct rr_hub_http *h, CURLcode result,
                                             struct rr_hub *hub, const char *what, const char *url,
                                             struct rr_error *err)
{
    struct rr_hub_http_reply *r = &h->reply;
    char *location = NULL;

    hub->temporary = hub->denied = false;
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &r->status);
    if (h->refused) return RR_HUB_HTTP_REFUSED;
    if (result == CURLE_ABORTED_BY_CALLBACK) {
        rr_fail(err, RR_ECANCELED, "interrupted; run it again, it goes on from here");
        return RR_HUB_HTTP_FATAL;
    }
    if (result != CURLE_OK) return of_curl(h, result, hub, what, url, err);
    if (r->status == 200 || r->status == 206) return RR_HUB_HTTP_DONE;
    curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &location);
    if (r->status / 100 != 3 || !location) return of_status(h, hub, what, url, err);
    if (strlen(location) < sizeof(r->location) && rr_hub_http_may_follow(url, location)) {
        snprintf(r->location, sizeof(r->location), "%s", location);
        return RR_HUB_HTTP_REDIRECT;
    }
    rr_fail(err, RR_EIO,
            "%s: redirected to an address that is not followed: from https to http, too long, or "
            "of another kind",
            what);
    return RR_HUB_HTTP_FATAL;
}

uint64_t rr_hub_http_backoff_ns(unsigned tries, double retry_after)
{
    uint64_t ns = (RR_SECOND / 2) << RR_MIN(tries - 1, 5u);

    /* Up to a quarter more, so that many who failed together do not come back together. */
    ns += rr_now_ns() % (ns / 4);
    return retry_after > 0.0 ? RR_MAX(ns, (uint64_t)(retry_after * 1e9)) : ns;
}

/* ---- a whole request ------------------------------------------------------------------------ */

static bool wait_for(struct rr_hub *hub, uint64_t ns, const char *why)
{
    const struct rr_hub_progress waiting = { .file = "", .waiting = why };
    uint64_t end = rr_now_ns() + ns;

    while (rr_now_ns() < end) {
        uint64_t left = RR_MIN(end - rr_now_ns(), TICK_MS * RR_MILLISECOND);
        struct timespec pause = { .tv_nsec = (long)left };

        if (hub->stopped && hub->stopped(hub->user)) return false;
        if (hub->progress) hub->progress(hub->user, &waiting);
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

int rr_hub_http_get(struct rr_hub *hub, const char *url, const char *what, rr_hub_http_sink *sink,
                    void (*restart)(void *user), void *user, struct rr_error *err)
{
    struct rr_hub_http h;
    char at[RR_HUB_URL];
    unsigned tries = 0, redirects = 0;
    int rc = rr_hub_http_init(&h, hub, err);

    h.sink = sink;
    h.user = user;
    snprintf(at, sizeof(at), "%s", url);
    while (!rc) {
        enum rr_hub_http_outcome outcome;

        restart(user);
        rc = rr_hub_http_prepare(&h, at, 0, 0, "", err);
        if (rc) break;
        outcome = rr_hub_http_outcome(&h, curl_easy_perform(h.curl), hub, what, at, err);
        if (outcome == RR_HUB_HTTP_DONE) break;
        if (outcome == RR_HUB_HTTP_REDIRECT && redirects++ < RR_HUB_HTTP_REDIRECTS) {
            snprintf(at, sizeof(at), "%s", h.reply.location);
        } else if (outcome == RR_HUB_HTTP_REDIRECT) {
            rc = rr_fail(err, RR_EIO, "%s: redirected more than %d times", what,
                         RR_HUB_HTTP_REDIRECTS);
        } else if (outcome == RR_HUB_HTTP_REFUSED) {
            rc = rr_fail(err, RR_ETOOBIG, "%s: the answer is too long", what);
        } else if (outcome == RR_HUB_HTTP_FATAL || tries == hub->retries) {
            rc = err->code;
        } else if (!wait_for(hub, rr_hub_http_backoff_ns(++tries, h.reply.retry_after), err->msg)) {
            rc = rr_fail(err, RR_ECANCELED, "interrupted");
        }
    }
    rr_hub_http_free(&h);
    return rc;
}
