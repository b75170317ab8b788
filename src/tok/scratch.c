/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.c - one thread's work space.  Layer: tok (L1).  It only grows, up to what the largest
 * text needed; nothing in it is shared. */
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"

#define KEEP_BYTES (4u << 20) /* larger arrays are given back after the call that needed them */

bool rr_scratch_array(void **p, size_t *cap, size_t need, size_t size)
{
    size_t n = RR_MAX(need, *cap + *cap / 2 + 64);
    void *q;

    if (need <= *cap) return true;
    rr_free(*p); /* contents are not kept: no copy */
    *cap = 0;
    *p = q = rr_alloc(RR_MEM_TOKENIZER, n, size);
    if (!q) return false;
    *cap = n;
    return true;
}

static bool grow_offsets(struct rr_tok_scratch *s)
{
    uint32_t *starts = rr_realloc(RR_MEM_TOKENIZER, s->starts, s->cap, sizeof(*starts)), *ends;

    if (!starts) return false;
    s->starts = starts;
    ends = rr_realloc(RR_MEM_TOKENIZER, s->ends, s->cap, sizeof(*ends));
    if (!ends) return false;
    s->ends = ends;
    s->offsets_cap = s->cap;
    return true;
}

bool rr_scratch_grow(struct rr_tok_scratch *s, size_t extra)
{
    if (s->cap - s->n < extra) {
        size_t cap = RR_MAX(s->n + extra, s->cap + s->cap / 2 + 512);
        int32_t *ids = rr_realloc(RR_MEM_TOKENIZER, s->ids, cap, sizeof(*ids));

        if (!ids) return false;
        s->ids = ids;
        s->cap = cap;
    }
    return !s->offsets || s->offsets_cap >= s->cap || grow_offsets(s);
}

int rr_tok_scratch_open(struct rr_tok_scratch **out, const struct rr_tok *tok, struct rr_error *err)
{
    struct rr_tok_scratch *s = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*s));

    *out = NULL;
    if (s) {
        s->tok = tok;
        s->words = rr_calloc(RR_MEM_TOKENIZER, RR_WORDS, sizeof(*s->words));
        s->matcher = rr_matcher_open();
        s->norm.matcher = s->matcher;
    }
    if (!s || !s->words || !s->matcher || !rr_scratch_grow(s, 1)) {
        rr_tok_scratch_close(s);
        return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory for a scratch");
    }
    *out = s;
    return RR_OK;
}

static void shrink_str(struct rr_str *t)
{
    if (t->cap > KEEP_BYTES) rr_str_free(t);
}

static void shrink_array(void **p, size_t *cap, size_t size)
{
    if (*cap * size <= KEEP_BYTES) return;
    rr_free(*p);
    *p = NULL;
    *cap = 0;
}

void rr_scratch_shrink(struct rr_tok_scratch *s)
{
    unsigned i;

    shrink_str(&s->raw);
    shrink_str(&s->norm.buf[0]);
    shrink_str(&s->norm.buf[1]);
    for (i = 0; i < RR_TOK_MAX_STEPS; i++) {
        shrink_str(&s->level[i]);
        shrink_str(&s->bytes[i]);
    }
    shrink_array((void **)&s->norm.marks, &s->norm.marks_cap, 2 * sizeof(*s->norm.marks));
    shrink_array((void **)&s->viterbi, &s->viterbi_cap, sizeof(*s->viterbi));
    shrink_array((void **)&s->symbols, &s->symbols_cap, sizeof(*s->symbols));
    shrink_array((void **)&s->heap, &s->heap_cap, sizeof(*s->heap));
}

void rr_tok_scratch_close(struct rr_tok_scratch *s)
{
    unsigned i;

    if (!s) return;
    rr_free(s->ids);
    rr_free(s->starts);
    rr_free(s->ends);
    rr_free(s->viterbi);
    rr_free(s->symbols);
    rr_free(s->heap);
    rr_free(s->words);
    rr_norm_work_free(&s->norm);
    rr_str_free(&s->raw);
    rr_str_free(&s->piece);
    for (i = 0; i < RR_TOK_MAX_STEPS; i++) {
        rr_str_free(&s->level[i]);
        rr_str_free(&s->bytes[i]);
    }
    rr_matcher_close(s->matcher);
    rr_free(s);
}
