/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_body.c - any bytes as the body of a rerank request, from the repair of its Unicode to its
 * reply.  The first byte pins a dialect: 'a' is the first of rr_dialects, 'A' the same as /v2.  With
 * any other first byte ('{' of an ordinary body) the rule picks one.  What is accepted is answered
 * with made-up scores, and every answer, good or bad, must be JSON again. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/body.h"
#include "server/dialect.h"

#define MAX_BODY (64 * 1024)
#define MAX_DOCUMENTS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(const struct rr_buf *out)
{
    struct rr_error err;
    json_t *tree;

    if (out->failed) abort();
    /* 8: an echo lies deeper in the reply than in the request */
    if (rr_json_parse(&tree, (struct rr_text){ out->data, out->len }, 32 + 8, RR_JSON_DUP_REJECT,
                      &err)) {
        fprintf(stderr, "%s in %.*s\n", err.msg, (int)out->len, out->data);
        abort();
    }
    json_decref(tree);
}

/* Scores that fall with the index, and one tie. */
static struct rr_result *make_result(struct rr_arena *a, const struct rr_group *g)
{
    struct rr_result *r = rr_arena_alloc(a, 1, sizeof(*r));
    size_t i;

    if (!r) abort();
    r->n_documents = g->n_docs;
    r->scores = rr_arena_alloc(a, g->n_docs, sizeof(*r->scores));
    r->order = rr_arena_alloc(a, g->n_docs, sizeof(*r->order));
    if (!r->scores || !r->order) abort();
    for (i = 0; i < g->n_docs; i++) {
        if (g->docs[i].len && !g->docs[i].data) abort();
        r->order[i] = (uint32_t)(g->n_docs - 1 - i);
        r->scores[i] = (struct rr_score){ .score = 0.5 / (double)(i / 2 + 1),
                                          .logit = (float)i,
                                          .tokens = 3,
                                          .missing = i % 5 == 4,
                                          .n_windows = (uint32_t)(i % 3),
                                          .window_end = (uint32_t)g->docs[i].len };
        r->n_missing += i % 5 == 4;
        r->tokens += 3;
    }
    return r;
}

static void answer(const struct rr_ask *ask, struct rr_buf *out)
{
    struct rr_arena arena;
    struct rr_result **results;
    struct rr_reply reply = {
        .ask = ask, .model = "m", .request_id = "id", .created = 1, .seconds = 0.001
    };
    size_t i, pairs = 0;

    rr_arena_init(&arena, RR_MEM_MISC, 1 << 20);
    results = rr_arena_alloc(&arena, ask->n_groups, sizeof(*results));
    if (!results) abort();
    for (i = 0; i < ask->n_groups; i++) {
        results[i] = make_result(&arena, &ask->groups[i]);
        pairs += ask->groups[i].n_docs;
    }
    if (pairs != ask->n_pairs || pairs > MAX_DOCUMENTS) abort();
    reply.results = results;
    ask->dialect->render(&reply, out);
    rr_arena_reset(&arena);
}

static void check_extras(const struct rr_extras *e)
{
    if (e->window.stride > e->window.size || (unsigned)e->window.pooling > RR_POOL_FIRST) abort();
    if (e->priority < RR_PRIORITY_LOW || e->priority > RR_PRIORITY_HIGH) abort();
}

static void run_dialect(json_t *root, const struct rr_dialect *dialect, bool v2)
{
    struct rr_parse_config config = { .max_documents = MAX_DOCUMENTS,
                                      .max_document_bytes = 4096,
                                      .max_query_bytes = 1024,
                                      .max_length = 512,
                                      .v2 = v2 };
    struct rr_arena arena;
    struct rr_ask ask = { .dialect = dialect };
    struct rr_problem problem = { 0 };
    struct rr_fields f = { &config, &arena, root, &ask, &problem };
    struct rr_buf out;

    rr_arena_init(&arena, RR_MEM_REQUEST, MAX_BODY + MAX_DOCUMENTS * 512 + 65536);
    rr_buf_init(&out, RR_MEM_REQUEST, 16 << 20);
    if (dialect->parse(&f) || rr_ask_check(&ask, &config, &problem)) {
        if (problem.status < 400 || !problem.msg[0] || !problem.type) abort();
        if (strchr(problem.msg, '\n')) abort();
        dialect->render_error(&problem, &out);
    } else {
        if (problem.status) abort();
        check_extras(&ask.extras);
        answer(&ask, &out);
    }
    check_json(&out);
    rr_buf_free(&out);
    rr_arena_reset(&arena);
}

/* The dialect that the first byte pins; NULL: none. */
static const struct rr_dialect *pinned_by(uint8_t byte, bool *v2)
{
    size_t n = 0, index = byte >= 'a' ? byte - (size_t)'a' : byte - (size_t)'A';

    *v2 = byte < 'a';
    while (rr_dialects[n]) n++;
    if (byte < 'A' || index >= n) return NULL;
    return rr_dialects[index];
}

/* Our way with long strings must make no difference to what jansson makes of the bytes. */
static void check_tree(const uint8_t *data, size_t size)
{
    size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES;
    struct rr_text text = { (const char *)data, size };
    struct rr_error err = { 0 };
    json_t *ours, *theirs;
    int rc = rr_json_parse(&ours, text, 32, RR_JSON_DUP_REJECT, &err);

    if (rc == RR_ETOOBIG || (size && memchr(data, 0, size))) { /* never gets to jansson */
        json_decref(ours);
        return;
    }
    theirs = json_loadb(size ? text.data : "", size, flags, NULL);
    if (!ours != !theirs || (ours && !json_equal(ours, theirs))) abort();
    json_decref(ours);
    json_decref(theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_body_rules rules = { .max_depth = 32,
                                   .max_documents = MAX_DOCUMENTS,
                                   .replace = true };
    const struct rr_dialect *dialect = NULL;
    struct rr_problem problem = { 0 };
    struct rr_buf body;
    json_t *root;
    size_t replaced;
    bool v2 = false;

    if (size > MAX_BODY) return 0;
    if (size) dialect = pinned_by(data[0], &v2);
    if (dialect) data++, size--;
    check_tree(data, size);
    rr_buf_init(&body, RR_MEM_REQUEST, MAX_BODY);
    rr_buf_put(&body, data, size);
    if (rr_body_read(&body, &rules, &root, &replaced, &problem)) {
        if (problem.status < 400 || !problem.msg[0] || strchr(problem.msg, '\n')) abort();
    } else {
        if (!dialect) dialect = rr_detect(root);
        if (dialect) run_dialect(root, dialect, v2);
        json_decref(root);
    }
    rr_buf_free(&body);
    return 0;
}
