/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - see calibrate.h. */
#include "engine/calibrate.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

void rr_texts_free(struct rr_texts *t)
{
    rr_free(t->ids);
    rr_free(t->types);
    rr_free(t->lengths);
    memset(t, 0, sizeof(*t));
}

/* Makes *p at least cap things of size large; p may be NULL. */
static bool grow(void *p, size_t cap, size_t size)
{
    void *old, *bigger;

    memcpy(&old, p, sizeof(old));
    bigger = old ? rr_realloc(RR_MEM_MISC, old, cap, size) : rr_alloc(RR_MEM_MISC, cap, size);
    if (bigger) memcpy(p, &bigger, sizeof(bigger));
    return bigger != NULL;
}

/* Room for one more pair of max_length tokens. */
static bool make_room(struct rr_texts *t, uint32_t max_length)
{
    if (t->n_pairs == t->cap_pairs) {
        size_t cap = 2 * t->cap_pairs + 64;

        if (!grow(&t->lengths, cap, sizeof(*t->lengths))) return false;
        t->cap_pairs = cap;
    }
    if (t->n_tokens + max_length > t->cap_tokens) {
        size_t cap = 2 * t->cap_tokens + 4 * (size_t)max_length;

        if (!grow(&t->ids, cap, sizeof(*t->ids)) || !grow(&t->types, cap, sizeof(*t->types)))
            return false;
        t->cap_tokens = cap;
    }
    return true;
}

static int add_list(struct rr_texts *t, const struct rr_setup *s, unsigned flags,
                    struct rr_tok_scratch *scratch, int32_t *query, const struct rr_list *list,
                    struct rr_error *err)
{
    uint32_t max = s->info.max_length, dropped;
    int rc = RR_OK;

    for (size_t i = 0; i < list->n_documents && !rc; i++) {
        struct rr_text pair[2] = { list->query, list->documents[i] };

        if (!make_room(t, max)) return rr_fail(err, RR_ENOMEM, "out of memory for texts");
        rc = rr_pairing_ids(&s->pairing, s->tok, scratch, pair, flags, max, query,
                            t->ids + t->n_tokens, t->types + t->n_tokens, &t->lengths[t->n_pairs],
                            &dropped, err);
        if (!rc) t->n_tokens += t->lengths[t->n_pairs++];
    }
    return rc;
}

int rr_texts_make(struct rr_texts *t, const struct rr_setup *s, unsigned flags,
                  const struct rr_list *lists, size_t n, struct rr_error *err)
{
    int32_t *query = rr_alloc(RR_MEM_MISC, s->info.max_length, sizeof(*query));
    struct rr_tok_scratch *scratch = NULL;
    int rc = query ? rr_tok_scratch_open(&scratch, s->tok, err)
                   : rr_fail(err, RR_ENOMEM, "out of memory for texts");

    flags |= rr_pairing_flags(&s->pairing, s->tok);
    memset(t, 0, sizeof(*t));
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_list(t, s, flags, scratch, query, &lists[i], err);
    rr_tok_scratch_close(scratch);
    rr_free(query);
    if (rc) rr_texts_free(t);
    return rc;
}

/* Pairs from `first` on that make a batch; cu gets their places. */
static size_t next_batch(const struct rr_texts *t, const struct rr_limits *limits, size_t first,
                         size_t end, uint32_t *cu)
{
    size_t n = 0;

    cu[0] = 0;
    while (first + n < end && n < limits->max_sequences &&
           cu[n] + t->lengths[first + n] <= limits->max_tokens) {
        cu[n + 1] = cu[n] + t->lengths[first + n];
        n++;
    }
    return n;
}

int rr_texts_run(const struct rr_texts *t, const struct rr_setup *s, size_t n_pairs, float *logits,
                 struct rr_error *err)
{
    uint32_t *cu = rr_alloc(RR_MEM_MISC, (size_t)s->lanes[0].limits.max_sequences + 1, sizeof(*cu));
    float *out = rr_alloc(RR_MEM_MISC, s->lanes[0].limits.max_sequences, sizeof(*out));
    size_t token = 0, n;
    int rc = RR_OK;

    if (!cu || !out) rc = rr_fail(err, RR_ENOMEM, "out of memory for a batch");
    for (size_t i = 0; i < n_pairs && !rc; i += n) {
        struct rr_sequences seqs;

        n = next_batch(t, &s->lanes[0].limits, i, n_pairs, cu);
        seqs = (struct rr_sequences){ cu[n], (uint32_t)n, t->ids + token, t->types + token, cu };
        rc = rr_model_forward(s->lanes[0].nets[RR_PASS_MAIN].model, &seqs, out, err);
        for (size_t j = 0; j < n && !rc; j++)
            if (!isfinite(out[j]))
                rc = rr_fail(err, RR_ENONFINITE,
                             "pair %zu of the texts has a logit that is not "
                             "finite",
                             i + j);
        if (!rc && logits) memcpy(logits + i, out, n * sizeof(*out));
        token += cu[n];
    }
    rr_free(out);
    rr_free(cu);
    return rc;
}
