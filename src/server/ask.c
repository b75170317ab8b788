/* SPDX-License-Identifier: Apache-2.0 */
/* ask.c - what all dialects have in common once a body is parsed and once scores are there.
 * Layer: server (L6).  Threads: pure. */
#include <math.h>
#include <stdio.h>

#include "base/text.h"
#include "server/dialect.h"
#include "server/fields.h"

static int check_group(const struct rr_ask *ask, const struct rr_group *g,
                       const struct rr_parse_config *config, struct rr_problem *problem)
{
    const struct rr_dialect *d = ask->dialect;
    const char *name = g->name ? g->name : "documents";
    const char *query_name = g->query_name ? g->query_name : "query";
    size_t i;

    if (rr_text_blank(g->query) && d->blank_query)
        return rr_problem_set(problem, 400, "%s", d->blank_query);
    if (rr_text_blank(g->query))
        return rr_problem_set(problem, 400, "%s must not be blank", query_name);
    if (g->n_docs == 0) {
        if (d->no_documents)
            rr_problem_set(problem, 400, "%s", d->no_documents);
        else
            rr_problem_set(problem, 400, "%s must not be empty", name);
        problem->type = "Empty";
        return -1;
    }
    if (g->query.len > config->max_query_bytes)
        return rr_problem_field(problem, query_name, "string_too_long",
                                "%zu bytes, at most %zu are allowed (--max-query-bytes)",
                                g->query.len, config->max_query_bytes);
    for (i = 0; i < g->n_docs; i++) {
        char path[RR_FIELD_PATH];

        if (g->docs[i].len <= config->max_document_bytes) continue;
        rr_fields_doc_path(path, g, i);
        return rr_problem_field(problem, path, "string_too_long",
                                "%zu bytes, at most %zu are allowed (--max-document-bytes)",
                                g->docs[i].len, config->max_document_bytes);
    }
    return 0;
}

int rr_ask_check(const struct rr_ask *ask, const struct rr_parse_config *config,
                 struct rr_problem *problem)
{
    size_t i;

    if (ask->n_groups == 0) {
        rr_problem_set(problem, 400, "the list of inputs must not be empty");
        problem->type = "Empty";
        return -1;
    }
    if (ask->n_pairs > config->max_documents)
        return rr_problem_set(problem, 422,
                              "found %zu pairs, at most %zu are allowed (--max-documents)",
                              ask->n_pairs, config->max_documents);
    for (i = 0; i < ask->n_groups; i++)
        if (check_group(ask, &ask->groups[i], config, problem)) return -1;
    return 0;
}

unsigned rr_dialect_status(const struct rr_dialect *dialect, unsigned status)
{
    return status == 422 ? dialect->invalid_status : status;
}

static bool wanted(const struct rr_reply *r, const struct rr_group *g, const struct rr_score *s)
{
    const struct rr_extras *e = &r->ask->extras;

    return !s->missing && !(e->has_threshold && rr_reply_score(g, s) < e->threshold);
}

bool rr_reply_next(const struct rr_reply *r, size_t group, bool in_order, struct rr_pick *pick)
{
    const struct rr_group *g = &r->ask->groups[group];
    const struct rr_result *result = r->results[group];

    if (r->ask->has_limit && r->ask->limit >= 0 && pick->count >= (uint64_t)r->ask->limit)
        return false;
    while (pick->next < g->n_docs) {
        uint32_t at = in_order ? (uint32_t)pick->next : result->order[pick->next];

        pick->next++;
        if (!wanted(r, g, &result->scores[at])) continue;
        pick->at = at;
        pick->count++;
        return true;
    }
    return false;
}

size_t rr_reply_count(const struct rr_reply *r, size_t group)
{
    struct rr_pick pick = { 0 };

    while (rr_reply_next(r, group, false, &pick)) continue;
    return pick.count;
}

double rr_reply_score(const struct rr_group *g, const struct rr_score *s)
{
    double e = exp(-fabs((double)s->logit));

    if (g->raw_scores) return (double)s->logit;
    if (!g->probability || s->score != (double)s->logit) return s->score;
    return s->logit >= 0 ? 1 / (1 + e) : e / (1 + e); /* as the engine computes it */
}

uint64_t rr_reply_tokens(const struct rr_reply *r)
{
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < r->ask->n_groups; i++) sum += r->results[i]->tokens;
    return sum;
}
