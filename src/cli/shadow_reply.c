/* SPDX-License-Identifier: Apache-2.0 */
/* shadow_reply.c - see shadow.h: what the reply of a server, whatever its dialect, says about the
 * documents of a request.  Layer: cli (L6).  Threads: any. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/shadow.h"

const char *const rr_body_lists[RR_BODY_LISTS] = { "documents",  "texts",  "passages",
                                                   "candidates", "chunks", "input" };

json_t *rr_body_documents(const json_t *body)
{
    json_t *list;
    size_t i;

    for (i = 0; i < RR_BODY_LISTS; i++) {
        list = json_object_get(body, rr_body_lists[i]);
        if (json_array_size(list)) return list;
    }
    list = json_object_get(json_object_get(body, "input"), "documents"); /* DashScope */
    if (json_array_size(list)) return list;
    list = json_object_get(body, "instances"); /* Vertex */
    if (json_array_size(list)) return list;
    list = json_object_get(body, "inputs"); /* pairs; two strings are one pair */
    return json_array_size(list) && !json_is_string(json_array_get(list, 0)) ? list : NULL;
}

void rr_ranking_free(struct rr_ranking *r)
{
    struct rr_ranking *next = r->next, *after;

    rr_free(r->key);
    rr_free(r->score);
    memset(r, 0, sizeof(*r));
    for (; next; next = after) {
        after = next->next;
        rr_free(next->key);
        rr_free(next->score);
        rr_free(next);
    }
}

/* ---- which document ------------------------------------------------------------------------- */

/* A member of the request's list and one of the reply's are the same document: by their ids, else
 * by their texts.  The reply's may have more fields, scores for example. */
static bool same_document(const json_t *asked, const json_t *got)
{
    static const char *const keys[] = { "chunk_id", "id", "_id", "text", "content" };
    const json_t *inner = json_object_get(got, "document");
    size_t i;

    if (inner) got = inner;
    if (json_is_string(asked)) {
        if (json_is_string(got)) return json_equal(asked, got) == 1;
        return json_equal(asked, json_object_get(got, "text")) == 1 ||
               json_equal(asked, json_object_get(got, "content")) == 1;
    }
    for (i = 0; i < RR_COUNT(keys); i++) {
        const json_t *value = json_object_get(asked, keys[i]);

        if (!value || json_is_null(value)) continue;
        if (json_is_string(got)) return i >= 3 && json_equal(value, got) == 1;
        if (json_object_get(got, keys[i]))
            return json_equal(value, json_object_get(got, keys[i])) == 1;
    }
    return false;
}

/* The document's place in the request; n: nowhere.  Equal documents are taken in turn. */
static size_t place_of(const struct rr_ranking *r, const json_t *documents, const json_t *member)
{
    const json_t *index = json_object_get(member, "index");
    size_t i;

    if (json_is_integer(index)) {
        json_int_t v = json_integer_value(index);

        return v >= 0 && (size_t)v < r->n ? (size_t)v : r->n;
    }
    for (i = 0; i < r->n; i++)
        if (isinf(r->key[i]) && same_document(json_array_get(documents, i), member)) break;
    return i;
}

/* ---- which score ---------------------------------------------------------------------------- */

static float score_of(const json_t *member)
{
    static const char *const keys[] = { "relevance_score", "score", "rerank_score", "logit" };
    size_t i;

    if (json_is_array(member)) member = json_array_get(member, 0);
    if (json_is_number(member)) return (float)json_number_value(member);
    for (i = 0; i < RR_COUNT(keys); i++) {
        const json_t *value = json_object_get(member, keys[i]);

        if (json_is_number(value)) return (float)json_number_value(value);
    }
    return NAN;
}

static const json_t *members_of(const json_t *reply)
{
    static const char *const names[] = { "results", "data", "rankings", "documents", "scores" };
    size_t i;

    if (json_is_array(reply)) return reply;
    if (json_is_object(json_object_get(reply, "output"))) reply = json_object_get(reply, "output");
    for (i = 0; i < RR_COUNT(names); i++) {
        const json_t *list = json_object_get(reply, names[i]);

        if (json_is_array(list)) return list;
    }
    return NULL;
}

/* ---- order ---------------------------------------------------------------------------------- */

struct placed {
    float score;
    size_t at; /* place in the reply */
    size_t document;
};

static int best_first(const void *pa, const void *pb)
{
    const struct placed *a = pa, *b = pb;

    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Keys from the reply: by score where all have one, since some replies are in the request's order;
 * else by place. */
static void set_keys(struct rr_ranking *r, struct placed *p)
{
    bool scored = r->n_scored == r->n_returned;
    size_t i;
    float key = 0;

    if (scored) qsort(p, r->n_returned, sizeof(*p), best_first);
    for (i = 0; i < r->n_returned; i++) {
        if (i && !(scored && p[i].score == p[i - 1].score)) key = -(float)i;
        r->key[p[i].document] = key;
    }
}

static int read_members(struct rr_ranking *r, const json_t *documents, const json_t *members,
                        struct placed *p, struct rr_error *err)
{
    size_t i, count = json_array_size(members);

    for (i = 0; i < count; i++) {
        const json_t *member = json_array_get(members, i);
        /* Bare numbers are scores in the order of the request, and so are the labels of pairs. */
        bool bare = json_is_number(member) || json_is_array(member);
        size_t d = bare ? i : place_of(r, documents, member);

        if (d >= r->n)
            return rr_fail(err, RR_EFORMAT, "member %zu of the reply is no document of the request",
                           i);
        if (!isinf(r->key[d]))
            return rr_fail(err, RR_EFORMAT, "document %zu is twice in the reply", d);
        r->key[d] = 0;
        r->score[d] = score_of(member);
        r->n_scored += !isnan(r->score[d]);
        p[r->n_returned] = (struct placed){ r->score[d], i, d };
        r->n_returned++;
    }
    set_keys(r, p);
    return RR_OK;
}

static int read_list(struct rr_ranking *out, const json_t *documents, const json_t *members,
                     struct rr_error *err)
{
    size_t n = json_array_size(documents), i;
    struct placed *p = rr_alloc(RR_MEM_MISC, n, sizeof(*p));
    int rc;

    out->n = n;
    out->key = rr_alloc(RR_MEM_MISC, n, sizeof(*out->key));
    out->score = rr_alloc(RR_MEM_MISC, n, sizeof(*out->score));
    if (!p || !out->key || !out->score) {
        rr_free(p);
        return rr_fail(err, RR_ENOMEM, "out of memory for %zu documents", n);
    }
    for (i = 0; i < n; i++) {
        out->key[i] = -INFINITY;
        out->score[i] = NAN;
    }
    rc = read_members(out, documents, members, p, err);
    rr_free(p);
    return rc;
}

/* Each instance has a query of its own: its documents are compared among themselves. */
static int read_instances(struct rr_ranking *out, const json_t *instances, const json_t *reply,
                          struct rr_error *err)
{
    const json_t *lists = json_object_get(reply, "predictions");
    size_t i, n = json_array_size(instances);
    int rc = RR_OK;

    if (json_array_size(lists) != n)
        return rr_fail(err, RR_EFORMAT, "the reply has no list \"predictions\" of %zu lists", n);
    for (i = 0; i < n && !rc; i++) {
        const json_t *list = json_array_get(lists, i);

        if (!json_is_array(list))
            return rr_fail(err, RR_EFORMAT, "predictions[%zu] of the reply is no list", i);
        if (i) out = out->next = rr_calloc(RR_MEM_MISC, 1, sizeof(*out));
        if (!out) return rr_fail(err, RR_ENOMEM, "out of memory for %zu instances", n);
        rc = read_list(out, json_object_get(json_array_get(instances, i), "texts"), list, err);
    }
    return rc;
}

int rr_ranking_read(struct rr_ranking *out, const json_t *documents, struct rr_text reply,
                    struct rr_error *err)
{
    json_t *tree = NULL;
    const json_t *members, *first = json_array_get(documents, 0);
    int rc = rr_json_parse(&tree, reply, 0, RR_JSON_DUP_LAST, err);

    memset(out, 0, sizeof(*out));
    if (rc) return rc;
    members = members_of(tree);
    if (json_object_get(first, "query") && json_is_array(json_object_get(first, "texts")))
        rc = read_instances(out, documents, tree, err);
    else if (members)
        rc = read_list(out, documents, members, err);
    else
        rc = rr_fail(err, RR_EFORMAT,
                     "the reply has no list \"results\", \"data\", \"rankings\", "
                     "\"documents\" or \"scores\"");
    json_decref(tree);
    return rc;
}
