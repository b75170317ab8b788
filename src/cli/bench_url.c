/* SPDX-License-Identifier: Apache-2.0 */
/* bench_url.c - "rerankd bench --url": latency and throughput of a running server over HTTP.
 * Layer: cli (L6).  Threads: one, and one for each request under way.
 *
 * A body is any JSON object with a query and an array of documents, whatever the dialect calls
 * them.  Latency is measured with the first such array cut or repeated to 20 and to 50 members. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/http_post.h"
#include "cli/sample.h"
#include "cli/shadow.h"

#define MAX_BODY_FILE ((size_t)256 << 20)
#define MAX_CONCURRENCY 1024
#define MAX_LEVELS 16
#define MAX_REASONS 4
#define REASONS_BYTES 1024 /* all of them in one line */
#define MIB 1048576.0
#define JSON_LIMIT 65536
#define TIMEOUT_NS (120 * RR_SECOND)

/* ---- bodies --------------------------------------------------------------------------------- */

static int add_body(json_t *bodies, struct rr_text line, const char *path, uint64_t number,
                    struct rr_error *err)
{
    struct rr_error why = { 0 };
    json_t *body;
    int rc = rr_json_parse(&body, line, 0, RR_JSON_DUP_LAST, &why);

    if (rc) return rr_fail(err, rc, "%s: body %" PRIu64 ": %s", path, number, why.msg);
    if (!json_is_string(json_object_get(body, "query")) || !rr_body_documents(body)) {
        json_decref(body);
        return rr_fail(err, RR_EFORMAT,
                       "%s: body %" PRIu64 ": expected an object with \"query\" and an array "
                       "\"documents\", \"texts\", \"passages\", \"candidates\" or \"chunks\"",
                       path, number);
    }
    return json_array_append_new(bodies, body) ? rr_fail(err, RR_ENOMEM, "out of memory") : RR_OK;
}

/* One JSON value, however many lines, or one a line. */
static int read_bodies(json_t *bodies, const char *path, struct rr_error *err)
{
    struct rr_error first = { 0 };
    const char *p, *end;
    char *text;
    size_t len;
    uint64_t number = 0;
    int rc = rr_file_read(&text, &len, path, MAX_BODY_FILE, RR_MEM_JSON, err);

    if (rc) return rc;
    end = text + len;
    if (add_body(bodies, (struct rr_text){ text, len }, path, 1, &first) != RR_OK) {
        for (p = text; p < end && !rc;) {
            const char *stop = memchr(p, '\n', (size_t)(end - p));
            struct rr_text line = { p, (size_t)((stop ? stop : end) - p) };

            if (!rr_text_blank(line)) rc = add_body(bodies, line, path, ++number, err);
            p = stop ? stop + 1 : end;
        }
        if (!rc && number == 0) rc = rr_fail(err, RR_EFORMAT, "%s: no bodies in it", path);
        if (rc && number == 1) *err = first; /* it was meant to be one value */
    }
    rr_free(text);
    return rc;
}

static int sample_bodies(json_t *bodies, struct rr_error *err)
{
    uint32_t i, d;

    for (i = 0; i < RR_SAMPLE_LISTS; i++) {
        struct rr_text query, docs[RR_SAMPLE_DOCS];
        json_t *body = json_object(), *list = json_array();
        long relevant;
        int bad = 0;

        rr_sample_list(i, &query, docs, &relevant);
        for (d = 0; d < RR_SAMPLE_DOCS; d++)
            bad |= json_array_append_new(list, json_stringn(docs[d].data, docs[d].len));
        bad |= json_object_set_new(body, "query", json_stringn(query.data, query.len));
        bad |= json_object_set(body, "documents", list);
        bad |= json_object_set_new(body, "texts", list); /* for servers that call them so */
        bad |= json_array_append_new(bodies, body);
        if (bad) return rr_fail(err, RR_ENOMEM, "out of memory");
    }
    return RR_OK;
}

/* The document, with a number behind its text: a server may compute equal ones once. */
static json_t *numbered(const json_t *doc, size_t number)
{
    static const char *const texts[] = { "text", "content" };
    json_t *copy;
    size_t i;

    if (json_is_string(doc)) return json_sprintf("%s (%zu)", json_string_value(doc), number);
    copy = json_deep_copy(doc);
    for (i = 0; i < RR_COUNT(texts); i++) {
        const char *text = json_string_value(json_object_get(copy, texts[i]));

        if (text) json_object_set_new(copy, texts[i], json_sprintf("%s (%zu)", text, number));
    }
    return copy;
}

/* A copy with count documents; NULL: out of memory. */
static json_t *resized(const json_t *body, size_t count)
{
    json_t *copy = json_deep_copy(body);
    size_t l, i;

    for (l = 0; copy && l < RR_BODY_LISTS; l++) {
        json_t *list = json_object_get(copy, rr_body_lists[l]), *other;
        size_t n = json_array_size(list);

        if (!n) continue;
        other = json_array();
        for (i = 0; i < count; i++) {
            json_t *doc = json_array_get(list, i % n);

            json_array_append_new(other, i < n ? json_incref(doc) : numbered(doc, i / n));
        }
        json_object_set_new(copy, rr_body_lists[l], other);
    }
    return copy;
}

/* ---- load ----------------------------------------------------------------------------------- */

struct reason { /* of failures: what a status came with first, or one error */
    int status; /* 0: no answer */
    uint32_t count;
    char what[160]; /* one line */
};

struct load { /* shared by the senders */
    const struct rr_bench_url *how;
    struct rr_url url;
    char *key; /* NULL: none */
    const json_t *bodies;
    size_t documents; /* in each request, 0: as they are */
    uint32_t requests;
    uint64_t deadline_ns;  /* no request begins later */
    _Atomic uint32_t next; /* relaxed: only uniqueness matters, joining orders the rest */
    _Atomic uint64_t pairs;
    _Atomic uint32_t failed;
    double *ms;                    /* [requests], < 0: failed or not sent */
    uint64_t serial;               /* makes queries differ from one load to the next */
    uint32_t all_sent, all_failed; /* of all rows so far */
    pthread_mutex_t lock;
    struct reason reasons[MAX_REASONS]; /* under lock, of all rows; later ones are not kept */
    size_t n_reasons;                   /* under lock */
};

static char *render(const struct load *l, uint32_t i, size_t *pairs)
{
    const json_t *from = json_array_get(l->bodies, i % json_array_size(l->bodies));
    json_t *body = l->documents ? resized(from, l->documents) : json_deep_copy(from);
    char *text = NULL;

    if (!body) return NULL;
    if (!l->how->as_is)
        json_object_set_new(body, "query",
                            json_sprintf("%s (%llu)",
                                         json_string_value(json_object_get(body, "query")),
                                         (unsigned long long)(l->serial + i)));
    *pairs = json_array_size(rr_body_documents(body));
    text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

static void note_failure(struct load *l, struct rr_text what, int status)
{
    char line[sizeof(l->reasons->what)] = "";
    struct reason *r = l->reasons;

    for (size_t i = 0; i < RR_MIN(what.len, sizeof(line) - 1); i++)
        line[i] = (unsigned char)what.data[i] < ' ' ? ' ' : what.data[i];
    atomic_fetch_add_explicit(&l->failed, 1, memory_order_relaxed);
    pthread_mutex_lock(&l->lock);
    while (r < l->reasons + l->n_reasons &&
           (r->status != status || (!status && strcmp(r->what, line))))
        r++;
    if (r == l->reasons + l->n_reasons && l->n_reasons < MAX_REASONS) {
        r->status = status;
        memcpy(r->what, line, sizeof(line));
        l->n_reasons++;
    }
    if (r < l->reasons + l->n_reasons) r->count++;
    pthread_mutex_unlock(&l->lock);
}

static void *send_requests(void *user)
{
    struct load *l = user;
    struct rr_http_post c;
    uint32_t i;

    rr_http_post_init(&c, &l->url);
    c.key = l->key;
    while ((i = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed)) < l->requests &&
           rr_now_ns() < l->deadline_ns) {
        struct rr_text reply = { "", 0 };
        struct rr_error err = { 0 };
        size_t pairs = 0;
        char *text = render(l, i, &pairs);
        uint64_t start = rr_now_ns();
        int status, rc;

        if (!text) {
            note_failure(l, rr_text("out of memory"), 0);
            continue;
        }
        rc = rr_http_post(&c, rr_text(text), start + TIMEOUT_NS, &status, &reply, &err);
        rr_free(text);
        if (rc)
            note_failure(l, rr_text(err.msg), 0);
        else if (status != 200)
            note_failure(l, reply, status);
        if (rc || status != 200) continue;
        l->ms[i] = (double)(rr_now_ns() - start) / 1e6;
        atomic_fetch_add_explicit(&l->pairs, pairs, memory_order_relaxed);
    }
    rr_http_post_close(&c);
    return NULL;
}

struct row {
    const char *what;
    uint32_t concurrency, failed;
    struct rr_times times; /* NaN: no request was answered */
    double requests_per_s, pairs_per_s;
};

static void json_ms(struct rr_json_out *o, const char *key, double ms)
{
    if (isnan(ms))
        rr_out_null(o, key);
    else
        rr_out_printf(o, key, "%.3f", ms);
}

static void json_row(const struct row *r)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "documents", r->what);
    rr_out_uint(&o, "concurrency", r->concurrency);
    rr_out_uint(&o, "requests", r->times.runs);
    rr_out_uint(&o, "failed", r->failed);
    json_ms(&o, "best_ms", r->times.best);
    json_ms(&o, "median_ms", r->times.median);
    json_ms(&o, "p95_ms", r->times.p95);
    rr_out_printf(&o, "requests_per_s", "%.3f", r->requests_per_s);
    rr_out_printf(&o, "pairs_per_s", "%.2f", r->pairs_per_s);
    rr_out_end(&o);
    rr_cli_print(stdout, &b);
}

static void print_row(enum rr_bench_format format, const struct row *r, bool first)
{
    switch (format) {
    case RR_BENCH_TABLE:
        if (first)
            printf("%-14s %8s %8s %6s %9s %9s %9s %10s %9s\n", "documents", "at once", "requests",
                   "failed", "best ms", "median", "p95", "requests/s", "pairs/s");
        printf("%-14s %8" PRIu32 " %8" PRIu32 " %6" PRIu32 " %9.2f %9.2f %9.2f %10.2f %9.1f\n",
               r->what, r->concurrency, r->times.runs, r->failed, r->times.best, r->times.median,
               r->times.p95, r->requests_per_s, r->pairs_per_s);
        break;
    case RR_BENCH_CSV:
        if (first)
            printf("documents,concurrency,requests,failed,best_ms,median_ms,p95_ms,"
                   "requests_per_s,pairs_per_s\n");
        printf("%s,%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%.3f,%.3f,%.3f,%.3f,%.2f\n", r->what,
               r->concurrency, r->times.runs, r->failed, r->times.best, r->times.median,
               r->times.p95, r->requests_per_s, r->pairs_per_s);
        break;
    default:
        if (format == RR_BENCH_JSON && !first) printf(", ");
        json_row(r);
        if (format != RR_BENCH_JSON) printf("\n");
    }
    fflush(stdout);
}

/* "2 with status 503: {...}; 1: no answer in time" */
static void list_reasons(const struct load *l, char *out, size_t cap)
{
    uint32_t other = l->all_failed;
    size_t len = 0;

    for (size_t i = 0; i < l->n_reasons; i++) {
        const struct reason *r = &l->reasons[i];
        char status[32] = "";

        if (r->status) snprintf(status, sizeof(status), " with status %d", r->status);
        len += (size_t)snprintf(out + len, cap - len, "%s%" PRIu32 "%s: %s", len ? "; " : "",
                                r->count, status, r->what);
        other -= r->count;
    }
    if (other) snprintf(out + len, cap - len, "; %" PRIu32 " for other reasons", other);
}

/* Sends l->requests, so many at once, and fills in r.  RR_EIO: none was ever answered. */
static int run_load(struct load *l, struct row *r, struct rr_error *err)
{
    pthread_t threads[MAX_CONCURRENCY];
    uint64_t start = rr_now_ns();
    uint32_t i, started = 0, good = 0;
    char why[REASONS_BYTES];
    double seconds;

    for (i = 0; i < l->requests; i++) l->ms[i] = -1;
    l->serial += l->requests;
    atomic_store(&l->next, 0);
    atomic_store(&l->pairs, 0);
    atomic_store(&l->failed, 0);
    l->deadline_ns = start + (uint64_t)(l->how->seconds * 1e9);
    while (started < r->concurrency &&
           pthread_create(&threads[started], NULL, send_requests, l) == 0)
        started++;
    for (i = 0; i < started; i++) pthread_join(threads[i], NULL);
    seconds = (double)(rr_now_ns() - start) / 1e9;
    for (i = 0; i < l->requests; i++)
        if (l->ms[i] >= 0) l->ms[good++] = l->ms[i];
    if (started < r->concurrency)
        return rr_fail(err, RR_EIO, "cannot start %" PRIu32 " senders", r->concurrency);
    r->failed = atomic_load(&l->failed);
    l->all_sent += good + r->failed;
    l->all_failed += r->failed;
    if (l->all_failed == l->all_sent) {
        list_reasons(l, why, sizeof(why));
        return rr_fail(err, RR_EIO, "no request was answered: %s", why);
    }
    r->times = (struct rr_times){ .best = NAN, .median = NAN, .p95 = NAN };
    if (good) rr_times_of(&r->times, l->ms, good);
    r->requests_per_s = good / seconds;
    r->pairs_per_s = (double)atomic_load(&l->pairs) / seconds;
    return RR_OK;
}

/* ---- the rows ------------------------------------------------------------------------------- */

static int parse_levels(const char *list, uint32_t *levels, uint32_t *n, struct rr_error *err)
{
    char *end;

    for (*n = 0; *list; list = end + (*end == ',')) {
        unsigned long v = strtoul(list, &end, 10);

        if (end == list || (*end && *end != ',') || v < 1 || v > MAX_CONCURRENCY ||
            *n == MAX_LEVELS)
            return rr_fail(err, RR_EINVAL,
                           "--concurrency: found \"%.40s\", expected up to %d numbers from 1 to %d",
                           list, MAX_LEVELS, MAX_CONCURRENCY);
        levels[(*n)++] = (uint32_t)v;
    }
    return RR_OK;
}

/* Up to the rows, which follow one by one. */
static void json_head(const char *url)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, NULL);
    rr_out_string(&o, "url", url);
    rr_out_array(&o, "rows");
    rr_cli_print(stdout, &b);
}

static void json_memory(const char *device, double weights, double workspace)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .spaced = true, .more = true };

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    rr_out_object(&o, "memory");
    rr_out_string(&o, "device", device);
    rr_out_printf(&o, "weights_bytes", "%.0f", weights);
    rr_out_printf(&o, "workspace_bytes", "%.0f", workspace);
    rr_out_end(&o);
    rr_cli_print(stdout, &b);
}

/* What the model takes on the server's device, where the server says so. */
static void print_memory(struct load *l)
{
    struct rr_http_post c;
    struct rr_text reply = { "", 0 };
    struct rr_error err = { 0 };
    json_t *info = NULL, *memory;
    const char *device;
    double weights, workspace;
    int status = 0;

    rr_http_post_init(&c, &l->url);
    c.key = l->key;
    if (rr_http_fetch(&c, "/info", rr_now_ns() + 5 * RR_SECOND, &status, &reply, &err) ||
        status != 200 || rr_json_parse(&info, reply, 0, RR_JSON_DUP_LAST, &err))
        info = NULL; /* another server, which does not say */
    memory = json_object_get(info, "memory");
    device = json_string_value(json_object_get(json_object_get(info, "device"), "name"));
    weights = json_number_value(json_object_get(memory, "weights_bytes"));
    workspace = json_number_value(json_object_get(memory, "workspace_bytes"));
    if (device && weights > 0 && l->how->format == RR_BENCH_TABLE)
        printf("memory: %.1f MiB of %s, weights %.1f and workspace %.1f\n",
               (weights + workspace) / MIB, strcmp(device, "cpu") == 0 ? "the machine" : "the GPU",
               weights / MIB, workspace / MIB);
    if (device && weights > 0 && l->how->format == RR_BENCH_JSON)
        json_memory(device, weights, workspace);
    json_decref(info);
    rr_http_post_close(&c);
}

static int run_rows(struct load *l, struct rr_error *err)
{
    static const struct {
        const char *what;
        size_t documents;
    } latency[] = { { "20", 20 }, { "50", 50 } };
    uint32_t levels[MAX_LEVELS], n, i;
    char why[REASONS_BYTES];
    enum rr_bench_format format = l->how->format;
    int rc = parse_levels(l->how->concurrency, levels, &n, err);

    for (i = 0; i < RR_COUNT(latency) + n && !rc; i++) {
        bool alone = i < RR_COUNT(latency);
        struct row r = { .what = alone ? latency[i].what : "as given" };

        l->documents = alone ? latency[i].documents : 0;
        r.concurrency = alone ? 1 : levels[i - RR_COUNT(latency)];
        if (rr_cli_is_terminal(stderr)) {
            fprintf(stderr, "\r%s documents, %" PRIu32 " at once ...\033[K", r.what, r.concurrency);
            fflush(stderr);
        }
        rc = run_load(l, &r, err);
        if (rr_cli_is_terminal(stderr)) fputs("\r\033[K", stderr);
        if (!rc && i == 0 && format == RR_BENCH_JSON) json_head(l->how->url);
        if (!rc) print_row(format, &r, i == 0);
    }
    if (!rc && format == RR_BENCH_JSON) printf("]");
    if (!rc) print_memory(l);
    if (!rc && format == RR_BENCH_JSON) printf("}\n");
    fflush(stdout);
    if (!rc && l->all_failed) {
        list_reasons(l, why, sizeof(why));
        rr_cli_complain("bench", "%" PRIu32 " of %" PRIu32 " requests failed: %s", l->all_failed,
                        l->all_sent, why);
    }
    return rc;
}

int rr_bench_url(const struct rr_bench_url *b)
{
    struct load l = { .how = b, .requests = b->runs, .lock = PTHREAD_MUTEX_INITIALIZER };
    struct rr_error err = { 0 };
    json_t *bodies = json_array();
    int rc = rr_url_parse(&l.url, b->url, &err);

    if (!rc) rc = rr_http_key(&l.key, b->key_file, &err);
    l.bodies = bodies;
    l.serial = rr_now_ns() / RR_SECOND * 1000; /* not those of an earlier run */
    l.ms = rr_calloc(RR_MEM_MISC, b->runs, sizeof(*l.ms));
    if (!rc && (!l.ms || !bodies)) rc = rr_fail(&err, RR_ENOMEM, "out of memory");
    if (!rc)
        rc = *b->requests ? read_bodies(bodies, b->requests, &err) : sample_bodies(bodies, &err);
    if (!rc) rc = run_rows(&l, &err);
    rr_free(l.ms);
    rr_free(l.key);
    json_decref(bodies);
    if (!rc) return l.all_failed ? RR_EXIT_FAILURE : RR_EXIT_OK;
    rr_cli_complain("bench", "%s", err.msg);
    return rr_exit_code_of_data(rc);
}
