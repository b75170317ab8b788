/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.c - see prompt.h.  Layer: tok (L1). */
#include "tok/prompt.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct fixed { /* ids of a segment without query and document */
    int32_t *ids;
    uint32_t n;
};

struct rr_prompt {
    const struct rr_tok *tok;
    struct rr_prompt_form form;
    uint32_t n; /* segments */
    struct fixed fixed[RR_PROMPT_SEGMENTS];
    uint32_t n_fixed; /* tokens of all of them */
    uint32_t least;   /* tokens of a pair of empty texts */
};

static bool is_fixed(const struct rr_prompt_segment *s)
{
    for (size_t i = 0; i < RR_COUNT(s->pieces) && s->pieces[i].what; i++)
        if (s->pieces[i].what != RR_PROMPT_TEXT) return false;
    return true;
}

/* The segment's text; pages of it live in buf. */
static int join(const struct rr_prompt_segment *s, struct rr_text query, struct rr_text document,
                struct rr_buf *buf, struct rr_error *err)
{
    rr_buf_clear(buf);
    for (size_t i = 0; i < RR_COUNT(s->pieces) && s->pieces[i].what; i++) {
        const struct rr_prompt_piece *p = &s->pieces[i];

        if (p->what == RR_PROMPT_TEXT)
            rr_buf_puts(buf, p->text);
        else if (p->what == RR_PROMPT_QUERY)
            rr_buf_put(buf, query.data, query.len);
        else
            rr_buf_put(buf, document.data, document.len);
    }
    if (buf->failed) return rr_fail(err, RR_ENOMEM, "out of memory for a prompt");
    return RR_OK;
}

static int encode_fixed(struct rr_prompt *p, struct rr_tok_scratch *scratch, struct rr_buf *buf,
                        struct rr_error *err)
{
    const struct rr_text none = { "", 0 };

    for (uint32_t i = 0; i < p->n; i++) {
        struct rr_tok_ids view;
        int rc;

        if (!is_fixed(&p->form.segments[i])) continue;
        rc = join(&p->form.segments[i], none, none, buf, err);
        if (!rc)
            rc = rr_tok_encode(p->tok, scratch, (struct rr_text){ buf->data, buf->len }, 0, 0,
                               &view, err);
        if (rc) return rc;
        p->fixed[i].ids = rr_alloc(RR_MEM_TOKENIZER, view.n + 1, sizeof(int32_t));
        if (!p->fixed[i].ids) return rr_fail(err, RR_ENOMEM, "out of memory for a prompt");
        if (view.n) memcpy(p->fixed[i].ids, view.ids, view.n * sizeof(int32_t));
        p->fixed[i].n = view.n;
        p->n_fixed += view.n;
    }
    return RR_OK;
}

static int measure(struct rr_prompt *p, struct rr_tok_scratch *scratch, struct rr_error *err)
{
    const struct rr_text none = { "", 0 };
    uint32_t max = p->n_fixed + 256, full; /* words like "query: " have a few tokens */
    int32_t *ids = rr_alloc(RR_MEM_TOKENIZER, max, sizeof(*ids));
    int rc;

    if (!ids) return rr_fail(err, RR_ENOMEM, "out of memory for a prompt");
    rc = rr_prompt_pair(p, scratch, none, none, max, 0, ids, &p->least, &full, err);
    rr_free(ids);
    return rc;
}

int rr_prompt_open(struct rr_prompt **out, const struct rr_tok *tok,
                   const struct rr_prompt_form *form, struct rr_error *err)
{
    struct rr_prompt *p = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*p));
    struct rr_tok_scratch *scratch = NULL;
    struct rr_buf buf;
    int rc;

    *out = NULL;
    if (!p) return rr_fail(err, RR_ENOMEM, "out of memory for a prompt");
    p->tok = tok;
    p->form = *form;
    while (p->n < RR_PROMPT_SEGMENTS && form->segments[p->n].pieces[0].what) p->n++;
    rr_buf_init(&buf, RR_MEM_TOKENIZER, 1u << 20);
    rc = rr_tok_scratch_open(&scratch, tok, err);
    if (!rc) rc = encode_fixed(p, scratch, &buf, err);
    if (!rc) rc = measure(p, scratch, err);
    rr_tok_scratch_close(scratch);
    rr_buf_free(&buf);
    if (rc)
        rr_prompt_close(p);
    else
        *out = p;
    return rc;
}

void rr_prompt_close(struct rr_prompt *p)
{
    if (!p) return;
    for (uint32_t i = 0; i < p->n; i++) rr_free(p->fixed[i].ids);
    rr_free(p);
}

uint32_t rr_prompt_fixed(const struct rr_prompt *p)
{
    return p->least;
}

int rr_prompt_pair(const struct rr_prompt *p, struct rr_tok_scratch *s, struct rr_text query,
                   struct rr_text document, uint32_t max_length, unsigned flags, int32_t *ids,
                   uint32_t *n, uint32_t *full, struct rr_error *err)
{
    uint32_t room, left, at = 0;
    struct rr_buf buf;
    int rc = RR_OK;

    *n = *full = 0;
    if (max_length <= p->n_fixed)
        return rr_fail(err, RR_EINVAL,
                       "max_length is %" PRIu32 ", the model's prompt alone has %" PRIu32 " tokens",
                       max_length, p->n_fixed);
    room = left = max_length - p->n_fixed;
    rr_buf_init(&buf, RR_MEM_TOKENIZER, query.len + document.len + (1u << 20));
    for (uint32_t i = 0; i < p->n && !rc; i++) {
        const struct rr_prompt_segment *segment = &p->form.segments[i];
        struct rr_tok_ids view = { .ids = p->fixed[i].ids, .n = p->fixed[i].n };
        uint32_t most = segment->most ? (uint32_t)((uint64_t)room * segment->most / 4) : left;

        if (!is_fixed(segment)) {
            most = RR_MIN(most, left);
            rc = join(segment, query, document, &buf, err);
            if (!rc)
                rc = rr_tok_encode(p->tok, s, (struct rr_text){ buf.data, buf.len }, most + 1,
                                   flags & RR_TOK_LITERAL_SPECIALS, &view, err);
            if (rc) break;
            *full += view.n + view.cut;
            view.n = RR_MIN(view.n, most);
            left -= view.n;
        }
        if (view.n) memcpy(ids + at, view.ids, view.n * sizeof(*ids));
        at += view.n;
    }
    rr_buf_free(&buf);
    if (rc) return rc;
    *n = at;
    *full += p->n_fixed;
    return RR_OK;
}
