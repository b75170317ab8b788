/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - see access.h. */
#include "server/access.h"

#include <math.h>

#include "base/clock.h"
#include "server/otlp.h"

/* The probability that a logit stands for; scores themselves may be logits. */
static uint64_t millionths(float logit)
{
    return (uint64_t)(1e6 / (1 + exp(-(double)logit)) + 0.5);
}

void rr_access_results(struct rr_access *a, const struct rr_job *job)
{
    struct rr_metrics *m = job->server->metrics;
    size_t i, k;

    for (i = 0; i < job->ask.n_groups; i++) {
        const struct rr_result *r = job->results[i];
        const struct rr_timings *t = &r->timings;

        a->documents += r->n_documents;
        a->tokens += r->tokens;
        a->cached += r->n_cached;
        a->coalesced += r->n_coalesced;
        a->rescored += r->n_rescored;
        a->timings.tokenize_ns = RR_MAX(a->timings.tokenize_ns, t->tokenize_ns);
        a->timings.queue_ns = RR_MAX(a->timings.queue_ns, t->queue_ns);
        a->timings.compute_ns = RR_MAX(a->timings.compute_ns, t->compute_ns);
        a->timings.total_ns = RR_MAX(a->timings.total_ns, t->total_ns);
        if (r->n_documents > r->n_missing)
            rr_metrics_observe(m, RR_M_TOP_SCORE, 0, millionths(r->scores[r->order[0]].logit));
        for (k = 0; k < r->n_documents; k++) {
            a->truncated += r->scores[k].truncated;
            rr_metrics_observe(m, RR_M_PAIR_TOKENS, 0, r->scores[k].tokens);
        }
    }
}

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

static void put_fields(const struct rr_console *c, struct rr_buf *out, const struct rr_exchange *x,
                       const struct rr_access *a)
{
    rr_line_text(c, out, "id", x->request_id);
    rr_line_text(c, out, "trace", x->trace.id);
    rr_line_text(c, out, "span", x->trace.span);
    rr_line_text(c, out, "client", x->peer);
    if (x->key_name) rr_line_text(c, out, "key", x->key_name);
    rr_line_text(c, out, "dialect", a->dialect);
    rr_line_text(c, out, "model", a->model);
    rr_line_number(c, out, "status", a->status, 0);
    rr_line_number(c, out, "documents", (double)a->documents, 0);
    rr_line_number(c, out, "results", (double)a->results, 0);
    rr_line_number(c, out, "tokens", (double)a->tokens, 0);
    rr_line_number(c, out, "cached", (double)a->cached, 0);
    rr_line_number(c, out, "coalesced", (double)a->coalesced, 0);
    rr_line_number(c, out, "rescored", (double)a->rescored, 0);
    rr_line_number(c, out, "truncated", (double)a->truncated, 0);
    rr_line_number(c, out, "bytes", (double)x->body_bytes, 0);
    rr_line_number(c, out, "ms", ms(a->total_ns), 3);
    rr_line_number(c, out, "prep_ms", ms(a->timings.tokenize_ns), 3);
    rr_line_number(c, out, "queue_ms", ms(a->timings.queue_ns), 3);
    rr_line_number(c, out, "compute_ms", ms(a->timings.compute_ns), 3);
}

static void log_line(struct rr_console *c, const struct rr_exchange *x, const struct rr_access *a)
{
    const char *const done[] = { rr_num(a->documents), rr_num(a->results), rr_num1(ms(a->total_ns)),
                                 rr_num(a->tokens),    a->dialect,         x->request_id };
    const char *const refused[] = { rr_num(a->status), a->problem, a->dialect, x->request_id };
    enum rr_level level = a->problem && a->status >= 500 ? RR_WARN : RR_INFO;
    struct rr_buf text, out;

    if (!rr_log_on(level)) return;
    rr_buf_init(&text, RR_MEM_SERVER, 8192);
    if (a->status == 499)
        rr_message_write(&text, RR_SAY_CLIENT_LEFT, c->french, &done[5], 1);
    else if (a->problem)
        rr_message_write(&text, RR_SAY_REFUSED, c->french, refused, RR_COUNT(refused));
    else
        rr_message_write(&text, RR_SAY_REQUEST, c->french, done, RR_COUNT(done));
    if (!text.failed && rr_line_begin(c, &out, RR_LINE_ACCESS, level, text.data)) {
        put_fields(c, &out, x, a);
        rr_line_end(c, &out, level);
    }
    rr_buf_free(&text);
}

void rr_access_log(struct rr_server *s, const struct rr_exchange *x, const struct rr_access *a)
{
    log_line(&s->console, x, a);
    if (s->otlp) rr_otlp_add(s->otlp, x, a, s->settings->otlp_sample);
}

void rr_access_refused(struct rr_server *s, const struct rr_exchange *x, const char *why)
{
    struct rr_access a = {
        .dialect = "http", .problem = why, .model = rr_server_model(s, x), .status = x->status
    };

    log_line(&s->console, x, &a);
}
