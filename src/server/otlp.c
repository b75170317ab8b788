/* SPDX-License-Identifier: Apache-2.0 */
/* otlp.c - see otlp.h.  OpenTelemetry Protocol 1.x, HTTP with JSON. */
#include "server/otlp.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json_out.h"
#include "base/log.h"
#include "server/access.h"

#define MAX_ENDPOINT 512
#define WHY 300      /* bytes of a reason */
#define QUEUE 1024   /* requests; about 300 KiB */
#define BATCH 128    /* requests in one message */
#define PAUSE_MS 500 /* to let a batch fill */
#define CONNECT_MS 1000L
#define TRANSFER_MS 3000L
#define CLOSE_MS 1000L /* for all that is left at the end */

struct record { /* one request */
    struct rr_trace trace;
    char id[RR_REQUEST_ID_MAX + 1];
    const char *dialect; /* static */
    unsigned status;
    uint64_t end_ns; /* wall clock */
    uint64_t total_ns, prep_ns, queue_ns, compute_ns;
    uint64_t documents, tokens, cached;
};

struct rr_otlp {
    char url[600];
    struct rr_metrics *metrics;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;              /* lock */
    struct record *records; /* [QUEUE], a ring; lock */
    size_t first, n;        /* lock */
    struct record *batch;   /* [BATCH], the thread's own */
    bool failing;           /* the thread's own: the last batch was lost */
};

/* ---- text ----------------------------------------------------------------------------------- */

static void put_attribute(struct rr_json_out *o, const char *key, const char *type,
                          const char *value)
{
    rr_out_object(o, NULL);
    rr_out_string(o, "key", key);
    rr_out_object(o, "value");
    rr_out_string(o, type, value);
    rr_out_end(o);
    rr_out_end(o);
}

/* The caller ends the object. */
static void put_span(struct rr_json_out *o, const struct record *r, const char *span,
                     const char *parent, const char *name, int kind, uint64_t start, uint64_t end)
{
    rr_out_object(o, NULL);
    rr_out_string(o, "traceId", r->trace.id);
    rr_out_string(o, "spanId", span);
    if (parent[0]) rr_out_string(o, "parentSpanId", parent);
    rr_out_string(o, "name", name);
    rr_out_int(o, "kind", kind);
    rr_out_string(o, "startTimeUnixNano", rr_num(start)); /* 64 bits are strings in this JSON */
    rr_out_string(o, "endTimeUnixNano", rr_num(end));
}

/* prep, queue and compute follow each other; what is left before them is parsing, after them the
 * writing of the reply. */
static void put_children(struct rr_json_out *o, const struct record *r, uint64_t start)
{
    const struct {
        const char *name;
        uint64_t ns;
    } parts[] = { { "prep", r->prep_ns }, { "queue", r->queue_ns }, { "compute", r->compute_ns } };
    uint64_t sum = r->prep_ns + r->queue_ns + r->compute_ns, at = start;
    char span[17];
    size_t i;

    if (!sum) return;
    if (sum < r->total_ns) at += (r->total_ns - sum) / 2;
    for (i = 0; i < RR_COUNT(parts); i++) {
        rr_trace_new_id(span);
        put_span(o, r, span, r->trace.span, parts[i].name, 1, at, at + parts[i].ns);
        rr_out_end(o);
        at += parts[i].ns;
    }
}

static void put_record(struct rr_json_out *o, const struct record *r)
{
    uint64_t start = r->end_ns - r->total_ns;

    put_span(o, r, r->trace.span, r->trace.parent, "rerank", 2, start, r->end_ns);
    rr_out_array(o, "attributes");
    put_attribute(o, "http.request.method", "stringValue", "POST");
    put_attribute(o, "http.response.status_code", "intValue", rr_num(r->status));
    put_attribute(o, "rerank.request_id", "stringValue", r->id);
    put_attribute(o, "rerank.dialect", "stringValue", r->dialect);
    put_attribute(o, "rerank.documents", "intValue", rr_num(r->documents));
    put_attribute(o, "rerank.tokens", "intValue", rr_num(r->tokens));
    put_attribute(o, "rerank.cached", "intValue", rr_num(r->cached));
    rr_out_end(o);
    rr_out_object(o, "status");
    if (r->status >= 500) rr_out_int(o, "code", 2);
    rr_out_end(o);
    rr_out_end(o);
    put_children(o, r, start);
}

static void put_message(struct rr_buf *out, const struct record *records, size_t n)
{
    struct rr_json_out o = { .buf = out };
    size_t i;

    rr_out_object(&o, NULL);
    rr_out_array(&o, "resourceSpans");
    rr_out_object(&o, NULL);
    rr_out_object(&o, "resource");
    rr_out_array(&o, "attributes");
    put_attribute(&o, "service.name", "stringValue", "rerankd");
    put_attribute(&o, "service.version", "stringValue", rr_version());
    rr_out_end(&o);
    rr_out_end(&o);
    rr_out_array(&o, "scopeSpans");
    rr_out_object(&o, NULL);
    rr_out_object(&o, "scope");
    rr_out_string(&o, "name", "rerankd");
    rr_out_end(&o);
    rr_out_array(&o, "spans");
    for (i = 0; i < n; i++) put_record(&o, &records[i]);
    while (o.depth) rr_out_end(&o);
}

/* ---- sending -------------------------------------------------------------------------------- */

static size_t swallow(char *data, size_t size, size_t n, void *user)
{
    (void)data;
    (void)user;
    return size * n;
}

static bool post(CURL *curl, const struct rr_otlp *o, const struct rr_buf *body, long timeout_ms,
                 char why[WHY])
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    char detail[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode rc = CURLE_OUT_OF_MEMORY;

    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, o->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->len);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, swallow);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L); /* there are other threads */
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    if (headers) rc = curl_easy_perform(curl);
    if (!rc) rc = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    if (rc)
        snprintf(why, WHY, "%s", detail[0] ? detail : curl_easy_strerror(rc));
    else
        snprintf(why, WHY, "HTTP status %ld", status);
    return !rc && status / 100 == 2;
}

/* A line when the collector fails and one when it is back, not one for each batch. */
static void say(struct rr_otlp *o, bool sent, const char *why)
{
    if (sent && o->failing) rr_log(RR_INFO, "otlp-endpoint: traces are sent again");
    if (!sent && !o->failing)
        rr_log(RR_WARN,
               "otlp-endpoint: traces are lost: %s; expected a collector that takes OTLP "
               "over HTTP, mostly on port 4318",
               why);
    o->failing = !sent;
}

static void count(const struct rr_otlp *o, bool sent, size_t n)
{
    rr_metrics_add(o->metrics, RR_M_TRACES, sent ? 0 : 1, n);
}

static void send_batch(struct rr_otlp *o, CURL *curl, size_t n, long timeout_ms)
{
    char why[WHY] = "out of memory";
    struct rr_buf body;
    bool sent;

    rr_buf_init(&body, RR_MEM_SERVER, 4u << 20);
    put_message(&body, o->batch, n);
    sent = curl && !body.failed && post(curl, o, &body, timeout_ms, why);
    rr_buf_free(&body);
    say(o, sent, why);
    count(o, sent, n);
}

/* Lock held.  Waits until there is something to send or to stop for. */
static void await(struct rr_otlp *o)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PAUSE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (!o->stop && o->n < BATCH)
        if (pthread_cond_timedwait(&o->wake, &o->lock, &until) == ETIMEDOUT) break;
}

/* Lock held. */
static size_t take_batch(struct rr_otlp *o)
{
    size_t n = RR_MIN(o->n, (size_t)BATCH), i;

    for (i = 0; i < n; i++) o->batch[i] = o->records[(o->first + i) % QUEUE];
    o->first = (o->first + n) % QUEUE;
    o->n -= n;
    return n;
}

static void *run(void *arg)
{
    struct rr_otlp *o = arg;
    CURL *curl = curl_easy_init();
    uint64_t stopped_ns = 0;
    size_t n;
    bool stop;

    pthread_mutex_lock(&o->lock);
    for (;;) {
        await(o);
        stop = o->stop;
        n = take_batch(o);
        if (!n && stop) break;
        pthread_mutex_unlock(&o->lock);
        if (stop && !stopped_ns) stopped_ns = rr_now_ns();
        if (stop && rr_now_ns() - stopped_ns > CLOSE_MS * RR_MILLISECOND)
            count(o, false, n); /* time is up */
        else if (n)
            send_batch(o, curl, n, stop ? CLOSE_MS : TRANSFER_MS);
        pthread_mutex_lock(&o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    curl_easy_cleanup(curl);
    return NULL;
}

/* ---- interface ------------------------------------------------------------------------------ */

static void free_all(struct rr_otlp *o)
{
    pthread_cond_destroy(&o->wake);
    pthread_mutex_destroy(&o->lock);
    rr_free(o->records);
    rr_free(o->batch);
    rr_free(o);
    curl_global_cleanup();
}

int rr_otlp_check(const char *endpoint, struct rr_error *err)
{
    const char *rest = strstr(endpoint, "://");
    int scheme = rest ? (int)RR_MIN(rest - endpoint, 20) : 4; /* none: libcurl takes http */

    if (strlen(endpoint) > MAX_ENDPOINT)
        return rr_fail(err, RR_EFORMAT, "otlp-endpoint: found %zu bytes, expected at most %d",
                       strlen(endpoint), MAX_ENDPOINT);
    if (!rest || ((scheme == 4 || scheme == 5) && !strncasecmp(endpoint, "https", (size_t)scheme)))
        return RR_OK;
    return rr_fail(err, RR_EFORMAT, /* the rest may hold a password */
                   "otlp-endpoint: found %.*s://..., expected the URL of a collector's port for "
                   "OTLP over HTTP, such as http://collector:4318",
                   scheme, endpoint);
}

int rr_otlp_open(struct rr_otlp **out, const char *endpoint, struct rr_metrics *m,
                 struct rr_error *err)
{
    struct rr_otlp *o;
    pthread_condattr_t monotonic;
    size_t len = strlen(endpoint);

    *out = NULL;
    if (rr_otlp_check(endpoint, err)) return err->code;
    o = rr_calloc(RR_MEM_SERVER, 1, sizeof(*o));
    if (!o) return rr_fail(err, RR_ENOMEM, "out of memory");
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) {
        rr_free(o);
        return rr_fail(err, RR_EIO, "otlp-endpoint: libcurl cannot be initialized");
    }
    pthread_mutex_init(&o->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&o->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    while (len && endpoint[len - 1] == '/') len--;
    snprintf(o->url, sizeof(o->url), "%.*s/v1/traces", (int)len, endpoint);
    o->metrics = m;
    o->records = rr_calloc(RR_MEM_SERVER, QUEUE, sizeof(*o->records));
    o->batch = rr_calloc(RR_MEM_SERVER, BATCH, sizeof(*o->batch));
    if (!o->records || !o->batch || pthread_create(&o->thread, NULL, run, o)) {
        free_all(o);
        return rr_fail(err, RR_ENOMEM, "otlp-endpoint: no memory or no thread for the exporter");
    }
    *out = o;
    return RR_OK;
}

void rr_otlp_close(struct rr_otlp *o)
{
    if (!o) return;
    pthread_mutex_lock(&o->lock);
    o->stop = true;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    free_all(o);
}

/* The trace's id is random, so it decides; other servers of the trace decide the same. */
static bool sampled(const struct rr_trace *t, uint32_t percent)
{
    unsigned value = 0;

    if (!t->sampled || t->parent[0]) return t->sampled;
    (void)sscanf(t->id + 26, "%6x", &value);
    return value % 100 < percent;
}

void rr_otlp_add(struct rr_otlp *o, const struct rr_exchange *x, const struct rr_access *a,
                 uint32_t percent)
{
    struct record *r;
    bool dropped;

    if (!sampled(&x->trace, percent)) return;
    pthread_mutex_lock(&o->lock);
    dropped = o->n == QUEUE;
    if (!dropped) {
        r = &o->records[(o->first + o->n++) % QUEUE];
        *r = (struct record){
            .trace = x->trace,
            .dialect = a->dialect,
            .status = a->status,
            .end_ns = (uint64_t)(rr_unix_time() * 1e9),
            .total_ns = a->total_ns,
            .prep_ns = a->timings.tokenize_ns,
            .queue_ns = a->timings.queue_ns,
            .compute_ns = a->timings.compute_ns,
            .documents = a->documents,
            .tokens = a->tokens,
            .cached = a->cached,
        };
        memcpy(r->id, x->request_id, sizeof(r->id));
        if (o->n == BATCH) pthread_cond_signal(&o->wake);
    }
    pthread_mutex_unlock(&o->lock);
    if (dropped) count(o, false, 1);
}
