/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.c - the parts of a file side by side, with redirects, retries and a way back to a single
 * stream where a server knows no ranges.  Layer: hub (L5). */
#include "hub/fetch.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "hub/http.h"

#define TICK_MS 100

enum state { IDLE, RUNNING, COMPLETE };

struct slot { /* one part's transfer */
    struct run *run;
    struct rr_hub_http http;
    unsigned part;
    enum state state;
    unsigned tries, redirects;
    uint64_t best;     /* furthest offset so far: what is beyond it is progress */
    uint64_t start_ns; /* not before */
    bool checked;      /* the reply's headers fit */
    char url[RR_HUB_URL];
};

struct run {
    const struct rr_fetch *f;
    struct rr_partial *p;
    CURLM *multi;
    struct slot slots[RR_HUB_CONNECTIONS];
    char location[RR_HUB_URL]; /* where redirects led to; "": not known */
    uint64_t before;           /* progress->done without this file */
    bool again;                /* something ended: look for what to start without waiting */
    bool restart;              /* the server sends the whole, or another file: from 0 again */
    bool whole;                /* no ranges: one stream without Range */
    struct rr_error err;       /* of a sink; code 0: none */
};

/* ---- bytes ---------------------------------------------------------------------------------- */

static bool wrong_size(struct run *r, uint64_t found)
{
    (void)rr_fail(&r->err, RR_EFORMAT,
                  "%s: the server has %llu bytes, the hub's listing says %llu; try again later, or "
                  "another HF_ENDPOINT",
                  r->f->what, (unsigned long long)found, (unsigned long long)r->p->size);
    return false;
}

/* The first bytes are here: does the reply fit what was asked?  False: the run is to end. */
static bool check_reply(struct slot *s)
{
    struct run *r = s->run;
    const struct rr_hub_http_reply *reply = &s->http.reply;
    const struct rr_part *part = &r->p->parts[s->part];
    bool asked = !r->whole;

    if (asked && reply->status == 200) { /* no ranges, or If-Range found another file */
        r->whole = true;
        r->restart = r->p->n > 1 || part->next > 0;
        if (r->restart) return false;
        asked = false;
    }
    if (asked && (!reply->has_range || reply->first != part->next)) {
        (void)rr_fail(&r->err, RR_EFORMAT, "%s: the server sends another range than was asked for",
                      r->f->what);
        return false;
    }
    if (asked ? reply->total != r->p->size : reply->has_length && reply->length != r->p->size)
        return wrong_size(r, asked ? reply->total : reply->length);
    if (!r->p->etag[0]) {
        snprintf(r->p->etag, sizeof(r->p->etag), "%s", reply->etag);
    } else if (reply->etag[0] && strcmp(r->p->etag, reply->etag) != 0) {
        r->restart = r->whole = true; /* a server that ignores If-Range */
        return false;
    }
    memcpy(r->location, s->url, sizeof(r->location));
    return true;
}

static bool sink(void *user, const char *data, size_t len)
{
    struct slot *s = user;
    struct run *r = s->run;
    struct rr_part *part = &r->p->parts[s->part];

    if (r->restart || (!s->checked && !check_reply(s))) return false;
    s->checked = true;
    if (len > part->end - part->next) return wrong_size(r, part->next + len);
    if (rr_partial_write(r->p, s->part, data, len, &r->err)) return false;
    r->f->progress->received += len;
    if (part->next > s->best) {
        s->best = part->next;
        s->tries = 0;
    }
    return true;
}

/* ---- transfers ------------------------------------------------------------------------------ */

static int start(struct slot *s, struct rr_error *err)
{
    struct run *r = s->run;
    struct rr_part *part = &r->p->parts[s->part];
    int rc;

    if (!s->url[0])
        snprintf(s->url, sizeof(s->url), "%s", r->location[0] ? r->location : r->f->url);
    if (r->whole) { /* from the start, each time */
        part->next = part->begin;
        r->p->etag[0] = 0;
    }
    s->checked = false;
    rc = rr_hub_http_prepare(&s->http, s->url, part->next, r->whole ? 0 : part->end,
                             part->next > part->begin || part->begin ? r->p->etag : "", err);
    if (rc) return rc;
    if (curl_multi_add_handle(r->multi, s->http.curl))
        return rr_fail(err, RR_ENOMEM, "libcurl: cannot start the transfer");
    s->state = RUNNING;
    return RR_OK;
}

static void stop(struct slot *s)
{
    if (s->state == RUNNING) curl_multi_remove_handle(s->run->multi, s->http.curl);
    s->state = IDLE;
}

/* After a failure that may pass: later, from the hub's own address, since the place that it led to
 * may be what failed. */
static int retry(struct slot *s, const struct rr_error *err)
{
    struct run *r = s->run;

    if (s->tries == r->f->hub->retries) return err->code;
    s->start_ns = rr_now_ns() + rr_hub_http_backoff_ns(++s->tries, s->http.reply.retry_after);
    s->url[0] = r->location[0] = 0;
    s->redirects = 0;
    return RR_OK;
}

/* The hub says which blob it leads to. */
static int redirect(struct slot *s, struct rr_error *err)
{
    struct run *r = s->run;
    const struct rr_hub_http_reply *reply = &s->http.reply;

    if (reply->linked_etag[0] && strcmp(reply->linked_etag, r->f->file->blob) != 0)
        return rr_fail(err, RR_EFORMAT,
                       "%s: the hub leads to another file than it lists; try again", r->f->what);
    if (++s->redirects > RR_HUB_HTTP_REDIRECTS)
        return rr_fail(err, RR_EIO, "%s: redirected more than %d times", r->f->what,
                       RR_HUB_HTTP_REDIRECTS);
    snprintf(s->url, sizeof(s->url), "%s", reply->location);
    s->start_ns = 0;
    return RR_OK;
}

static int refused(struct run *r, struct rr_error *err)
{
    if (r->err.code) {
        *err = r->err;
        return err->code;
    }
    return RR_OK; /* r->restart */
}

/* The transfer has ended. */
static int finish(struct slot *s, CURLcode result, struct rr_error *err)
{
    struct run *r = s->run;
    const struct rr_part *part = &r->p->parts[s->part];
    struct rr_hub *hub = r->f->hub;
    enum rr_hub_http_outcome outcome;

    stop(s);
    r->again = true;
    outcome = rr_hub_http_outcome(&s->http, result, hub, r->f->what, s->url, err);
    switch (outcome) {
    case RR_HUB_HTTP_REFUSED: return refused(r, err);
    case RR_HUB_HTTP_REDIRECT: return redirect(s, err);
    case RR_HUB_HTTP_RETRY: return retry(s, err);
    case RR_HUB_HTTP_DONE:
        if (part->next == part->end) {
            s->state = COMPLETE;
            return RR_OK;
        }
        if (r->whole) {
            (void)wrong_size(r, part->next);
            return refused(r, err);
        }
        hub->temporary = true;
        rr_fail(err, RR_EIO, "%s: the server ends too early", r->f->what);
        return retry(s, err);
    case RR_HUB_HTTP_FATAL:
        /* A signed address that has expired says 403: the hub gives a new one. */
        if (s->http.reply.status / 100 == 4 && !rr_hub_http_same_origin(s->url, hub->endpoint))
            return retry(s, err);
        return err->code;
    }
    return RR_OK;
}

/* ---- the run -------------------------------------------------------------------------------- */

static void set_up_slots(struct run *r)
{
    unsigned i;

    for (i = 0; i < r->p->n; i++) {
        struct slot *s = &r->slots[i];
        const struct rr_part *part = &r->p->parts[i];

        s->run = r;
        s->part = i;
        s->http.sink = sink;
        s->http.user = s;
        s->best = RR_MAX(s->best, part->next);
        s->start_ns = 0;
        s->state = part->next == part->end && part->end ? COMPLETE : IDLE;
    }
}

static int begin_again(struct run *r, struct rr_error *err)
{
    unsigned i;
    int rc;

    for (i = 0; i < r->p->n; i++) stop(&r->slots[i]);
    r->restart = false;
    r->err.code = 0;
    /* More than that is a server that changes its mind all the time. */
    if (r->slots[0].tries++ >= r->f->hub->retries)
        return rr_fail(err, RR_EIO, "%s: the server sends other bytes each time; try again later",
                       r->f->what);
    rc = rr_partial_reset(r->p, r->whole ? 1 : r->f->hub->connections, err);
    if (!rc) set_up_slots(r);
    return rc;
}

static int start_due(struct run *r, bool *complete, const char **waiting, struct rr_error *err)
{
    uint64_t now = rr_now_ns();
    unsigned i, running = 0;
    int rc = RR_OK;

    *complete = true;
    for (i = 0; !rc && i < r->p->n; i++) {
        struct slot *s = &r->slots[i];

        if (s->state == COMPLETE) continue;
        *complete = false;
        if (s->state == IDLE && now >= s->start_ns) rc = start(s, err);
        running += s->state == RUNNING;
    }
    *waiting = running ? NULL : err->msg;
    return rc;
}

static int take_finished(struct run *r, struct rr_error *err)
{
    CURLMsg *m;
    int left, rc = RR_OK;

    while (!rc && !r->restart && (m = curl_multi_info_read(r->multi, &left))) {
        struct rr_hub_http *h = NULL;

        if (m->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &h);
        rc = finish(h->user, m->data.result, err);
    }
    return rc;
}

static int loop(struct run *r, struct rr_error *err)
{
    struct rr_hub *hub = r->f->hub;
    bool complete = false;
    int rc = RR_OK, running;

    while (!rc) {
        rc = start_due(r, &complete, &r->f->progress->waiting, err);
        if (rc || complete) break;
        if (curl_multi_perform(r->multi, &running))
            return rr_fail(err, RR_EINTERNAL, "libcurl: the transfers cannot go on");
        rc = take_finished(r, err);
        if (!rc && r->restart) rc = begin_again(r, err);
        r->f->progress->done = r->before + rr_partial_done(r->p);
        if (hub->progress) hub->progress(hub->user, r->f->progress);
        if (!rc && hub->stopped && hub->stopped(hub->user))
            rc = rr_fail(err, RR_ECANCELED, "interrupted; run it again, it goes on from here");
        if (!rc && !r->again) (void)curl_multi_poll(r->multi, NULL, 0, TICK_MS, NULL);
        r->again = false;
    }
    r->f->progress->waiting = NULL;
    return rc;
}

int rr_fetch_parts(const struct rr_fetch *f, struct rr_partial *p, struct rr_error *err)
{
    struct run *r = rr_calloc(RR_MEM_MISC, 1, sizeof(*r));
    unsigned i;
    int rc = RR_OK;

    if (!r) return rr_fail(err, RR_ENOMEM, "out of memory");
    r->f = f;
    r->p = p;
    r->before = f->progress->done - rr_partial_done(p);
    r->multi = curl_multi_init();
    if (!r->multi) rc = rr_fail(err, RR_ENOMEM, "libcurl: out of memory");
    for (i = 0; !rc && i < RR_HUB_CONNECTIONS; i++)
        rc = rr_hub_http_init(&r->slots[i].http, f->hub, err);
    if (!rc && p->size == 0 && rr_partial_done(p) == 0) r->whole = true;
    if (!rc) {
        set_up_slots(r);
        rc = loop(r, err);
    }
    for (i = 0; i < RR_HUB_CONNECTIONS; i++) {
        stop(&r->slots[i]);
        rr_hub_http_free(&r->slots[i].http);
    }
    curl_multi_cleanup(r->multi);
    rr_free(r);
    return rc;
}
