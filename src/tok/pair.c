/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - truncation and the template of special tokens.  Layer: tok (L1). */
#include "base/err.h"
#include "tok/internal.h"

/* longest_first of the reference.  n counts a cut text as one longer than it came, which decides
 * who is "longer" between a text that was cut and one that was not. */
static void longest_first(size_t n[2], size_t max)
{
    size_t a = n[0], b = n[1], t;
    bool swap = a > b;

    if (a + b <= max) return;
    if (swap) {
        t = a;
        a = b;
        b = t;
    }
    b = a > max ? a : RR_MAX(a, max - a); /* the longer one gives way first */
    if (a + b > max) {
        a = max / 2;
        b = a + max % 2;
    }
    n[0] = swap ? b : a;
    n[1] = swap ? a : b;
}

static int fill(const struct rr_template *t, const struct rr_tok_ids *const seq[2],
                const size_t take[2], unsigned flags, uint32_t max, int32_t *ids, int32_t *types,
                uint32_t *n, struct rr_error *err)
{
    unsigned i;
    uint32_t at = 0;

    for (i = 0; i < t->n; i++) {
        const struct rr_template_item *item = &t->items[i];
        const int32_t *from = &item->id;
        size_t count = 1, k;

        if (item->what != RR_TPL_TOKEN) {
            const struct rr_tok_ids *s = seq[item->what == RR_TPL_B];

            count = take[item->what == RR_TPL_B];
            from = s->ids + (flags & RR_TOK_KEEP_END ? s->n - count : 0);
        }
        /* Only a template that names one sequence twice can pass max. */
        if (count > max - at)
            return rr_fail(err, RR_EINVAL,
                           "tokenizer: the template makes more than max_length %u "
                           "tokens",
                           max);
        if (count) memcpy(ids + at, from, count * sizeof(*ids));
        for (k = 0; k < count; k++) types[at + k] = item->type;
        at += (uint32_t)count;
    }
    *n = at;
    return RR_OK;
}

static int check_length(const struct rr_template *t, uint32_t max_length, struct rr_error *err)
{
    if (max_length >= t->specials) return RR_OK;
    return rr_fail(err, RR_EINVAL,
                   "tokenizer: found max_length %u, expected at least %u for the "
                   "special tokens",
                   max_length, t->specials);
}

int rr_tok_pair(const struct rr_tok *tok, const struct rr_tok_ids *a, const struct rr_tok_ids *b,
                uint32_t max_length, unsigned flags, int32_t *ids, int32_t *types, uint32_t *n,
                uint32_t *dropped, struct rr_error *err)
{
    const struct rr_tok_ids *seq[2] = { a, b };
    size_t take[2] = { (size_t)a->n + a->cut, (size_t)b->n + b->cut };
    int rc = check_length(&tok->pair, max_length, err);

    *n = *dropped = 0;
    if (rc) return rc;
    longest_first(take, max_length - tok->pair.specials);
    take[0] = RR_MIN(take[0], (size_t)a->n);
    take[1] = RR_MIN(take[1], (size_t)b->n);
    *dropped = (uint32_t)((size_t)a->n + a->cut - take[0] + b->n + b->cut - take[1]);
    return fill(&tok->pair, seq, take, flags, max_length, ids, types, n, err);
}

int rr_tok_single(const struct rr_tok *tok, const struct rr_tok_ids *a, uint32_t max_length,
                  unsigned flags, int32_t *ids, int32_t *types, uint32_t *n, uint32_t *dropped,
                  struct rr_error *err)
{
    const struct rr_tok_ids *seq[2] = { a, a };
    size_t take[2] = { 0, 0 };
    int rc = check_length(&tok->single, max_length, err);

    *n = *dropped = 0;
    if (rc) return rc;
    take[0] = RR_MIN((size_t)a->n, (size_t)(max_length - tok->single.specials));
    *dropped = (uint32_t)((size_t)a->n + a->cut - take[0]);
    return fill(&tok->single, seq, take, flags, max_length, ids, types, n, err);
}

uint32_t rr_tok_pair_specials(const struct rr_tok *tok)
{
    return tok->pair.specials;
}
