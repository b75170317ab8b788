/* SPDX-License-Identifier: Apache-2.0 */
/* tokens.c - rr_tokenize, rr_decode and friends: the tokenizer seen through rerank.h.
 * Layer: engine (L5). */
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"

#define MAX_DECODED (256u << 20)

static struct rr_tokens *tokens_new(size_t n)
{
    struct rr_tokens *t = rr_calloc(RR_MEM_REQUEST, 1, sizeof(*t) + n * sizeof(*t->tokens));

    if (!t) return NULL;
    t->n = n;
    t->tokens = (struct rr_token *)(t + 1);
    return t;
}

/* Writes ids with their offsets; with specials around them, the ids' own come where the template
 * puts them: after as many specials as the template has in front. */
static void fill(struct rr_engine *e, struct rr_tokens *t, const int32_t *ids, size_t n,
                 const struct rr_tok_ids *plain, size_t lead)
{
    size_t i;

    for (i = 0; i < n; i++) {
        struct rr_token *token = &t->tokens[i];

        token->id = ids[i];
        token->special = rr_tok_is_special(e->tok, ids[i]);
        if (i < lead || i - lead >= plain->n) continue;
        token->start = plain->starts[i - lead];
        token->end = plain->ends[i - lead];
    }
}

/* plain with special tokens around it: ids [n], and *lead of them are in front of it.  Where that
 * is says a mark in its place: plain itself may begin with a token of the template. */
static int surround(const struct rr_engine *e, const struct rr_tok_ids *plain, uint32_t cap,
                    int32_t *ids, uint32_t *n, uint32_t *lead, struct rr_error *err)
{
    static const int32_t mark = -1;
    const struct rr_tok_ids marked = { .ids = &mark, .n = 1 };
    uint32_t dropped;
    int rc = rr_tok_single(e->tok, &marked, cap, 0, ids, ids + cap, n, &dropped, err);

    if (rc) return rc;
    for (*lead = 0; *lead < *n && ids[*lead] != mark; ++*lead) {
    }
    return rr_tok_single(e->tok, plain, cap, 0, ids, ids + cap, n, &dropped, err);
}

/* Lock of the scratch held. */
static int tokenize(struct rr_engine *e, struct rr_text text, bool add_special,
                    struct rr_tokens **out, struct rr_error *err)
{
    struct rr_tok_ids plain;
    int32_t *ids = NULL;
    uint32_t n, cap, lead = 0;
    int rc = rr_tok_encode(e->tok, e->tokenize_scratch, text, 0, e->tok_flags | RR_TOK_OFFSETS,
                           &plain, err);

    if (rc) return rc;
    n = plain.n;
    cap = n + rr_tok_pair_specials(e->tok) + 2; /* a single has no more specials than a pair */
    if (add_special) {
        ids = rr_alloc(RR_MEM_REQUEST, cap, 2 * sizeof(*ids));
        if (!ids) return rr_fail(err, RR_ENOMEM, "out of memory for %u tokens", cap);
        rc = surround(e, &plain, cap, ids, &n, &lead, err);
        if (rc) goto done;
    }
    *out = tokens_new(n);
    if (!*out) {
        rc = rr_fail(err, RR_ENOMEM, "out of memory for %u tokens", n);
        goto done;
    }
    fill(e, *out, ids ? ids : plain.ids, n, &plain, lead);
done:
    rr_free(ids);
    return rc;
}

int rr_tokenize(struct rr_engine *e, struct rr_text text, bool add_special, struct rr_tokens **out,
                struct rr_error *err)
{
    int rc;

    *out = NULL;
    pthread_mutex_lock(&e->tokenize_lock);
    rc = tokenize(e, text, add_special, out, err);
    pthread_mutex_unlock(&e->tokenize_lock);
    return rc;
}

void rr_tokens_free(struct rr_tokens *tokens)
{
    rr_free(tokens);
}

struct rr_text rr_token_piece(const struct rr_engine *e, int32_t id)
{
    return rr_tok_piece(e->tok, id);
}

int rr_decode(struct rr_engine *e, const int32_t *ids, size_t n, bool skip_special,
              struct rr_text *out, struct rr_error *err)
{
    struct rr_buf text;
    int rc;

    *out = (struct rr_text){ NULL, 0 };
    rr_buf_init(&text, RR_MEM_REQUEST, MAX_DECODED);
    rc = rr_tok_decode(e->tok, ids, n, skip_special, &text, err);
    if (!rc) out->data = rr_buf_take(&text, &out->len);
    rr_buf_free(&text);
    if (!rc && !out->data) rc = rr_fail(err, RR_ENOMEM, "out of memory for the text of %zu ids", n);
    return rc;
}

void rr_text_free(struct rr_text text)
{
    rr_free((char *)(uintptr_t)text.data);
}
