/* SPDX-License-Identifier: Apache-2.0 */
/* golden.c - see golden.h.
 * Each line of reference.jsonl: {"query", "documents": [...], "max_length", "logits": [...]}. */
#include "server/golden.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

#define MAX_FILE_BYTES ((size_t)64 << 20)
#define MAX_LINES 8 /* enough to tell a wrong model; all of them would take long */
#define AT_ONCE 32  /* documents; between them it can be stopped */

struct check {
    struct rr_engine *engine;
    bool (*stopped)(void *user);
    void *user;
};

int rr_golden_memory(uint64_t need, struct rr_error *err)
{
    struct rr_host host;
    uint64_t have;

    rr_host_info(&host);
    have = host.memory_available;
    if (host.memory_limit) have = have ? RR_MIN(have, host.memory_limit) : host.memory_limit;
    if (!have || need <= have) return RR_OK;
    return rr_fail(err, RR_ENOMEM,
                   "another model needs %.1f MiB beside what is there, and %.1f MiB are available; "
                   "restart the server with it instead",
                   (double)need / (1 << 20), (double)have / (1 << 20));
}

/* How far logits may be from those of float32: rounding, not another model. */
static double tolerance_of(const struct rr_engine *engine)
{
    const char *dtype = rr_engine_info(engine)->dtype;

    if (strcmp(dtype, "f32") == 0) return 0.01;
    return strcmp(dtype, "bf16") == 0 ? 0.5 : 1;
}

/* The result is that of the documents from first on. */
static int compare(const struct rr_result *r, const json_t *logits, size_t first, double tolerance,
                   const char *where, struct rr_error *err)
{
    size_t i;

    for (i = 0; i < r->n_documents; i++) {
        const json_t *v = json_array_get(logits, first + i);
        double ours = (double)r->scores[i].logit, theirs = json_number_value(v);

        if (!json_is_number(v))
            return rr_fail(err, RR_EFORMAT, "%s: \"logits\" needs a number for each document",
                           where);
        if (!(fabs(ours - theirs) <= tolerance))
            return rr_fail(err, RR_EFORMAT,
                           "%s: document %zu has the logit %.4f, expected %.4f within %.2f", where,
                           first + i, ours, theirs, tolerance);
    }
    return RR_OK;
}

/* A few documents at a time: others are served between, and the end need not wait. */
static int score_all(const struct check *c, const struct rr_request *all, const json_t *logits,
                     const char *where, struct rr_error *err)
{
    double tolerance = tolerance_of(c->engine);
    struct rr_request part = *all;
    struct rr_result *result;
    size_t i;
    int rc = RR_OK;

    for (i = 0; i < all->n_documents && !rc; i += AT_ONCE) {
        if (c->stopped(c->user)) return rr_fail(err, RR_ECANCELED, "the server is shutting down");
        part.documents = all->documents + i;
        part.n_documents = RR_MIN(all->n_documents - i, (size_t)AT_ONCE);
        rc = rr_score(c->engine, &part, &result, err);
        if (!rc) rc = compare(result, logits, i, tolerance, where, err);
        rr_result_free(result);
    }
    return rc;
}

static int check_value(const struct check *c, const json_t *v, const char *where,
                       struct rr_error *err)
{
    const json_t *documents = json_object_get(v, "documents");
    struct rr_request request = { .no_cache = true, .n_documents = json_array_size(documents) };
    struct rr_text *texts;
    size_t i;
    int rc = rr_json_text(v, where, "query", &request.query, err);

    if (!rc) rc = rr_json_u32(v, where, "max_length", 0, 131072, &request.max_length, err);
    if (rc) return rc;
    /* Recorded with another window: says nothing about this one. */
    if (request.max_length > rr_engine_info(c->engine)->max_length) return RR_OK;
    if (!request.query.data || !request.n_documents)
        return rr_fail(err, RR_EFORMAT, "%s: found no \"query\" or no \"documents\"", where);
    texts = rr_calloc(RR_MEM_REQUEST, request.n_documents, sizeof(*texts));
    if (!texts) return rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    for (i = 0; i < request.n_documents; i++) {
        const json_t *d = json_array_get(documents, i);

        if (json_is_string(d))
            texts[i] = (struct rr_text){ json_string_value(d), json_string_length(d) };
    }
    request.documents = texts;
    rc = score_all(c, &request, json_object_get(v, "logits"), where, err);
    rr_free(texts);
    return rc;
}

static int check_lines(const struct check *c, const char *path, const char *text, size_t len,
                       struct rr_error *err)
{
    char where[1200];
    size_t at = 0;
    unsigned line = 0;
    int rc = RR_OK;

    while (at < len && line < MAX_LINES && !rc) {
        const char *end = memchr(text + at, '\n', len - at);
        struct rr_text one = { text + at, end ? (size_t)(end - text) - at : len - at };
        json_t *v = NULL;

        line++;
        at += one.len + 1;
        if (rr_text_blank(one)) continue;
        snprintf(where, sizeof(where), "%s: line %u", path, line);
        rc = rr_json_parse(&v, one, 0, RR_JSON_DUP_LAST, err);
        if (rc)
            rr_fail_prefix(err, "%s", where);
        else
            rc = check_value(c, v, where, err);
        json_decref(v);
    }
    return rc;
}

int rr_golden_check(struct rr_engine *engine, bool (*stopped)(void *user), void *user,
                    struct rr_error *err)
{
    struct check c = { engine, stopped, user };
    char path[1100], *text = NULL;
    size_t len = 0;
    int rc;

    if (!rr_path_join(path, sizeof(path), rr_engine_info(engine)->path, "reference.jsonl") ||
        !rr_file_exists(path))
        return RR_OK;
    rc = rr_file_read_regular(&text, &len, path, MAX_FILE_BYTES, RR_MEM_MISC, err);
    if (!rc) rc = check_lines(&c, path, text, len, err);
    rr_free(text);
    return rc;
}
