/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.h - request and reply shapes of the rerank APIs in use, behind one interface.
 * Layer: server (L6).  Threads: pure functions on what they are given.
 *
 * A dialect turns a JSON tree into a struct rr_ask and results into a JSON text.  It never sees
 * HTTP, the engine or the clock.  docs/API.md says which body belongs to which dialect. */
#ifndef RR_SERVER_DIALECT_H
#define RR_SERVER_DIALECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/attr.h"
#include "base/buf.h"
#include "rerank.h"
#include "server/problem.h"

struct rr_cut {                 /* of pairs that are too long */
    bool never;                 /* refuse them instead */
    enum rr_truncate_side side; /* RR_TRUNCATE_MODEL: not said */
};

/* One query with the documents to be scored against it.  Most requests have one group; those made
 * of free pairs have one for each pair. */
struct rr_group {
    struct rr_text query;
    const char *query_name; /* what the request calls it, for messages; NULL: query */
    struct rr_text *docs;   /* [n_docs] in the arena; the bytes are in the JSON tree or the arena */
    size_t n_docs;
    const char *name;  /* what the request calls docs, for messages; NULL: documents */
    bool lone;         /* ... which is one of them, not a list */
    json_t *source;    /* the array that docs came from, or a lone string; for echoes */
    bool raw_scores;   /* logits instead of probabilities */
    bool probability;  /* probabilities even where the model's own scores are logits: TEI's rule */
    bool echo;         /* documents go into the reply */
    struct rr_cut cut; /* beside the ask's own */
};

/* What a request of any dialect may ask for beyond the dialect's own options. */
struct rr_extras {
    bool has_threshold;
    double threshold; /* scores below, as the client would see them, are left out */
    bool logits;      /* a logit beside each score */
    bool explain;
    bool no_cache, allow_partial;
    enum rr_priority priority;
    uint64_t timeout_ns;     /* 0: not asked for */
    bool has_exact;
    size_t exact_top_k;
    struct rr_window window; /* size 0: not asked for */
};

struct rr_ask {
    const struct rr_dialect *dialect;
    struct rr_group *groups; /* [n_groups] in the arena */
    size_t n_groups;
    size_t n_pairs; /* sum of n_docs */
    bool has_limit; /* top_n, top_k */
    int64_t limit;
    bool raw_scores; /* asked for outside the groups */
    struct rr_cut cut;
    uint32_t max_length; /* 0: the engine's */
    struct rr_extras extras;
    int form; /* for the dialect's own use */
};

/* Where a request came in decides a few defaults. */
enum rr_echo { RR_ECHO_AUTO, RR_ECHO_YES, RR_ECHO_NO };

struct rr_parse_config {
    enum rr_echo echo; /* --return-documents */
    size_t max_documents, max_document_bytes, max_query_bytes;
    uint32_t max_length; /* largest that the engine takes; 0 while unknown */
    bool v2;             /* Cohere's second version */
};

/* What a parser works on. */
struct rr_fields {
    const struct rr_parse_config *config;
    struct rr_arena *arena;
    json_t *root; /* an object */
    struct rr_ask *ask;
    struct rr_problem *problem;
};

struct rr_reply {
    const struct rr_ask *ask;
    struct rr_result *const *results; /* [ask->n_groups] */
    const char *model;
    const char *request_id;
    double created;            /* seconds since 1970 */
    double seconds;            /* from the last byte of the request until now */
    struct rr_timings timings; /* of the longest group */
    uint64_t parse_ns;
    size_t replaced; /* characters of the body that were not Unicode */
};

struct rr_dialect {
    const char *name;
    /* 0, or -1 with f->problem filled.  Checks shape and types; blank queries, empty lists and
     * limits are checked for all dialects by rr_ask_check. */
    int (*parse)(struct rr_fields *f);
    void (*render)(const struct rr_reply *r, struct rr_buf *out);
    void (*render_error)(const struct rr_problem *p, struct rr_buf *out);
    unsigned backend_status; /* of an inference failure */
    unsigned invalid_status; /* of a request that is JSON, but not as it must be */
    const char *blank_query; /* messages for these two; NULL: English ones */
    const char *no_documents;
    const char *not_loaded;
};

extern const struct rr_dialect rr_dialect_ragfab;
extern const struct rr_dialect rr_dialect_tei;
extern const struct rr_dialect rr_dialect_union;  /* Cohere v1 and v2, Jina, vLLM, ... */
extern const struct rr_dialect rr_dialect_cohere; /* as union, documents only when asked for */
extern const struct rr_dialect rr_dialect_jina;
extern const struct rr_dialect rr_dialect_vllm;
extern const struct rr_dialect rr_dialect_llamacpp;
extern const struct rr_dialect rr_dialect_infinity;
extern const struct rr_dialect rr_dialect_xinference;
extern const struct rr_dialect rr_dialect_ollama; /* a plug-in's /api/rerank */
extern const struct rr_dialect rr_dialect_voyage;
extern const struct rr_dialect rr_dialect_mixedbread;
extern const struct rr_dialect rr_dialect_pinecone;
extern const struct rr_dialect rr_dialect_isaacus;
extern const struct rr_dialect rr_dialect_nim;
extern const struct rr_dialect rr_dialect_weaviate;
extern const struct rr_dialect rr_dialect_dashscope;
extern const struct rr_dialect rr_dialect_score;   /* vLLM's /score */
extern const struct rr_dialect rr_dialect_predict; /* TEI's /predict, Hugging Face pipelines */
extern const struct rr_dialect rr_dialect_vertex;

/* All of them, ended by NULL. */
extern const struct rr_dialect *const rr_dialects[];

/* Defines rr_dialect_ID, whose inference failures are 500; invalid: invalid_status. */
#define RR_DIALECT(id, parse_fn, render_fn, errors, invalid) \
    const struct rr_dialect rr_dialect_##id = { .name = #id, \
                                                .parse = parse_fn, \
                                                .render = render_fn, \
                                                .render_error = errors, \
                                                .backend_status = 500, \
                                                .invalid_status = invalid }

/* The dialect of that name or of an API that speaks it, or NULL. */
const struct rr_dialect *rr_dialect_find(const char *name, size_t len);

/* The status that clients of this API know for what others call status. */
unsigned rr_dialect_status(const struct rr_dialect *dialect, unsigned status);

/* The rule that picks a dialect by the keys of the body; NULL: none fits (docs/API.md). */
const struct rr_dialect *rr_detect(const json_t *root);

/* What all dialects refuse: no documents, a blank query, more or longer texts than allowed. */
int rr_ask_check(const struct rr_ask *ask, const struct rr_parse_config *config,
                 struct rr_problem *problem);

/* Walks over the documents of a group that go into the reply: those with a score, and with none
 * below the threshold, best first (or in_order: as they came) up to the limit.
 *     struct rr_pick pick = { 0 };
 *     while (rr_reply_next(r, group, in_order, &pick)) ... pick.at ... */
struct rr_pick {
    uint32_t at;  /* index of the document in its group */
    size_t count; /* documents so far, with this one */
    size_t next;
};
bool rr_reply_next(const struct rr_reply *r, size_t group, bool in_order, struct rr_pick *pick);
size_t rr_reply_count(const struct rr_reply *r, size_t group);
/* What the client sees as the score: a probability, or the logit if it asked for that. */
double rr_reply_score(const struct rr_group *g, const struct rr_score *s);
uint64_t rr_reply_tokens(const struct rr_reply *r);

#endif
