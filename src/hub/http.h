/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - one GET of the hub's protocol: what is asked, what came back, and what an answer other
 * than 200 and 206 means.  Layer: hub (L5).  Threads: one at a time.
 *
 * Redirects are the caller's, by reply.location: the token goes to the hub and nobody else. */
#ifndef RR_HUB_HTTP_H
#define RR_HUB_HTTP_H

#include <curl/curl.h>

#include "hub/hub.h"

/* Takes bytes of a body of status 200 or 206; false ends the transfer. */
typedef bool rr_hub_http_sink(void *user, const char *data, size_t len);

struct rr_hub_http_reply {
    long status;
    char etag[160];       /* with quotes, or "" */
    char linked_etag[80]; /* the blob's name, without quotes, or "" */
    char error_code[64];  /* the hub's word for what is wrong, or "" */
    char location[RR_HUB_URL];
    bool has_range;
    uint64_t first, total; /* of Content-Range */
    bool has_length;
    uint64_t length;    /* of Content-Length */
    double retry_after; /* seconds; 0: not said */
};

struct rr_hub_http {
    const struct rr_hub *hub;
    CURL *curl;
    struct curl_slist *headers;
    struct rr_hub_http_reply reply;
    rr_hub_http_sink *sink;
    void *user;
    bool refused; /* by sink */
    char why[CURL_ERROR_SIZE];
};

enum rr_hub_http_outcome {
    RR_HUB_HTTP_DONE,     /* 200 or 206, to the end */
    RR_HUB_HTTP_REDIRECT, /* to reply.location */
    RR_HUB_HTTP_REFUSED,  /* the sink wanted no more */
    RR_HUB_HTTP_RETRY,    /* may go well next time */
    RR_HUB_HTTP_FATAL
};

RR_NODISCARD int rr_hub_http_init(struct rr_hub_http *h, const struct rr_hub *hub,
                                  struct rr_error *err);
void rr_hub_http_free(struct rr_hub_http *h); /* a zeroed one is allowed */

/* Makes h->curl ready for a GET of url.  first, end: the bytes that are wanted, end 0: all; etag:
 * of the bytes that are there already, "" if there are none. */
RR_NODISCARD int rr_hub_http_prepare(struct rr_hub_http *h, const char *url, uint64_t first,
                                     uint64_t end, const char *etag, struct rr_error *err);

/* What came of it; err is filled in for RETRY and FATAL.  what: "ORG/NAME" or "ORG/NAME: FILE".
 * hub gets its denied and temporary. */
enum rr_hub_http_outcome rr_hub_http_outcome(struct rr_hub_http *h, CURLcode result,
                                             struct rr_hub *hub, const char *what, const char *url,
                                             struct rr_error *err);

/* A GET with redirects and retries whose body goes to sink; restart(user) comes before each try. */
RR_NODISCARD int rr_hub_http_get(struct rr_hub *hub, const char *url, const char *what,
                                 rr_hub_http_sink *sink, void (*restart)(void *user), void *user,
                                 struct rr_error *err);

/* Scheme, host and port are the same. */
bool rr_hub_http_same_origin(const char *a, const char *b);

/* Whether a redirect may be followed: http or https, and never from https to http. */
bool rr_hub_http_may_follow(const char *from, const char *to);

/* Nanoseconds to wait before try number tries (from 1), with what the server asked for. */
uint64_t rr_hub_http_backoff_ns(unsigned tries, double retry_after);

#define RR_HUB_HTTP_REDIRECTS 8
#define RR_HUB_HTTP_MAX_WAIT 300.0 /* seconds; who asks for more is not waited for */

#endif
