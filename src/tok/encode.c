/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - one text through all stages.  Layer: tok (L1).
 *
 * Long texts are normalized in parts where that cannot change a word (struct rr_tok.local): cut
 * before a single space between two visible ASCII characters.  So the work on a text of which a few
 * hundred tokens are wanted ends after a few kilobytes, and the work space stays small. */
#include "base/err.h"
#include "tok/internal.h"
#include "tok/unidata.h"

#define PART 4096u /* bytes before a cut is looked for */
#define MAX_TEXT (1u << 30)

struct job {
    const struct rr_tok *tok;
    struct rr_tok_scratch *s;
    struct rr_text text;
    struct rr_error *err;
};

static bool visible(char c)
{
    return c > 0x20 && c < 0x7F;
}

/* Where the part that starts at from ends. */
static size_t part_end(const struct job *j, size_t from, size_t to)
{
    const char *s = j->text.data;
    size_t i = from + PART;

    if (!j->tok->local) return to;
    while (i + 1 < to) {
        const char *hit = memchr(s + i, ' ', to - 1 - i);

        if (!hit) break;
        i = (size_t)(hit - s);
        if (visible(s[i - 1]) && visible(s[i + 1])) return i;
        i++;
    }
    return to;
}

/* A copy of text[from .. to) that knows its place. */
static bool align_raw(struct job *j, size_t from, size_t to, struct rr_view *out)
{
    struct rr_str *raw = &j->s->raw;
    struct rr_text t = { j->text.data + from, to - from };
    size_t i, k, n;
    uint32_t cp;

    raw->len = 0;
    if (!rr_str_grow(raw, t.len, true)) return false;
    memcpy(raw->s, t.data, t.len);
    raw->len = t.len;
    for (i = 0; i < t.len; i += n) {
        n = rr_utf8_next(t.data + i, t.len - i, &cp);
        for (k = 0; k < n; k++) {
            raw->a[i + k] = (uint32_t)(from + i);
            raw->b[i + k] = (uint32_t)(from + i + n);
        }
    }
    *out = rr_str_view(raw, true);
    return true;
}

static int put_added(struct job *j, const struct rr_added *a, size_t from, size_t to)
{
    if (!rr_scratch_put(j->s, (int32_t)a->id, (uint32_t)from, (uint32_t)to))
        return rr_fail(j->err, RR_ENOMEM, "tokenizer: out of memory");
    return j->s->n > j->s->limit ? RR_TOK_STOP : RR_OK;
}

/* Normalized text: added tokens that match there, and the words between them. */
static int run_normalized(struct job *j, struct rr_view v)
{
    struct rr_added_iter it;
    struct rr_added_match m;
    size_t done = 0;
    int rc = RR_OK;

    rr_added_begin(&it, &j->tok->norm_set, j->tok, v.s, v.len, j->s->literal);
    while (!rc && rr_added_next(&it, &m)) {
        if (m.from > done)
            rc = rr_pretok_run(j->tok, j->s, 0, rr_view_cut(v, done, m.from), j->err);
        if (!rc) rc = put_added(j, m.token, v.a ? v.a[m.from] : 0, v.a ? v.b[m.to - 1] : 0);
        it.done = done = m.to;
    }
    if (!rc && done < v.len)
        rc = rr_pretok_run(j->tok, j->s, 0, rr_view_cut(v, done, v.len), j->err);
    return rc;
}

static int run_part(struct job *j, size_t from, size_t to, bool first, bool last)
{
    struct rr_view v = { j->text.data + from, to - from, NULL, NULL };
    int rc;

    if (rr_utf8_invalid((struct rr_text){ v.s, v.len }) != SIZE_MAX)
        return rr_fail(j->err, RR_EINVAL, "tokenizer: the text is not valid UTF-8");
    if ((j->s->offsets || j->tok->need_align) && !align_raw(j, from, to, &v))
        return rr_fail(j->err, RR_ENOMEM, "tokenizer: out of memory");
    rc = rr_norm_run(&j->tok->norm, &j->s->norm, v, first, last, &v, j->err);
    return rc ? rc : run_normalized(j, v);
}

/* Text without raw added tokens. */
static int run_segment(struct job *j, size_t from, size_t to)
{
    size_t at = from, end;
    int rc = RR_OK;

    for (; at < to && !rc; at = end) {
        end = part_end(j, at, to);
        rc = run_part(j, at, end, at == from, end == to);
    }
    return rc;
}

static int run_text(struct job *j)
{
    struct rr_added_iter it;
    struct rr_added_match m;
    size_t done = 0;
    int rc = RR_OK;

    rr_added_begin(&it, &j->tok->raw_set, j->tok, j->text.data, j->text.len, j->s->literal);
    while (!rc && rr_added_next(&it, &m)) {
        if (m.from > done) rc = run_segment(j, done, m.from);
        if (!rc) rc = put_added(j, m.token, m.from, m.to);
        it.done = done = m.to;
    }
    if (!rc && done < j->text.len) rc = run_segment(j, done, j->text.len);
    return rc;
}

/* U+0120 is the byte-level form of a space. */
static bool blank(uint32_t cp)
{
    return cp == 0x120 || rr_uni_space(cp);
}

/* White space at both ends of a token, in characters. */
static void count_blanks(struct rr_text p, size_t *lead, size_t *trail)
{
    size_t k, n;
    uint32_t cp;

    for (k = *lead = 0; k < p.len; k += n, ++*lead) {
        n = rr_utf8_next(p.data + k, p.len - k, &cp);
        if (!blank(cp)) break;
    }
    for (k = p.len, *trail = 0; k > 0; k = n, ++*trail) {
        for (n = k - 1; n > 0 && ((unsigned char)p.data[n] & 0xC0) == 0x80; n--) continue;
        rr_utf8_next(p.data + n, k - n, &cp);
        if (!blank(cp)) break;
    }
}

/* Offsets without the white space at the ends of a token, where the file asks for it.  Counted in
 * characters of the text, as the reference does. */
static void trim_offsets(struct job *j)
{
    struct rr_tok_scratch *s = j->s;
    const char *text = j->text.data;
    size_t i, lead, trail;

    for (i = 0; i < s->n; i++) {
        uint32_t *from = &s->starts[i], *to = &s->ends[i];
        struct rr_text p = rr_tok_piece(j->tok, s->ids[i]);

        /* An added token is the text that it took, with lstrip and rstrip. */
        if (rr_added_by_id(j->tok, (uint32_t)s->ids[i]))
            p = (struct rr_text){ text + *from, *to - *from };
        count_blanks(p, &lead, &trail);
        if (lead == 1 && j->tok->trim_prefix_space && (i == 0 || *from == 0)) lead = 0;
        for (; lead > 0 && *from < *to; lead--) {
            ++*from;
            while (*from < *to && ((unsigned char)text[*from] & 0xC0) == 0x80) ++*from;
        }
        for (; trail > 0 && *to > *from; trail--) {
            --*to;
            while (*to > *from && ((unsigned char)text[*to] & 0xC0) == 0x80) --*to;
        }
    }
}

/* The text's bytes as ids, all of them or one more than the limit. */
static int take_bytes(struct job *j, uint32_t max_tokens)
{
    struct rr_tok_scratch *s = j->s;
    size_t n = max_tokens && s->limit != SIZE_MAX ? RR_MIN(j->text.len, (size_t)max_tokens + 1)
                                                  : j->text.len;

    if (!rr_scratch_grow(s, n)) return rr_fail(j->err, RR_ENOMEM, "tokenizer: out of memory");
    for (size_t i = 0; i < n; i++) s->ids[i] = (unsigned char)j->text.data[i];
    for (size_t i = 0; s->offsets && i < n; i++) {
        s->starts[i] = (uint32_t)i;
        s->ends[i] = (uint32_t)i + 1;
    }
    s->n = n;
    return RR_OK;
}

int rr_tok_encode(const struct rr_tok *tok, struct rr_tok_scratch *s, struct rr_text text,
                  uint32_t max_tokens, unsigned flags, struct rr_tok_ids *out, struct rr_error *err)
{
    struct job j = { tok, s, text, err };
    size_t skip = 0;
    int rc;

    memset(out, 0, sizeof(*out));
    if (text.len > MAX_TEXT)
        return rr_fail(err, RR_ETOOBIG, "tokenizer: found a text of %zu bytes, expected at most %u",
                       text.len, MAX_TEXT);
    s->n = 0;
    s->offsets = (flags & RR_TOK_OFFSETS) != 0;
    s->literal = tok->literal || (flags & RR_TOK_LITERAL_SPECIALS) != 0;
    s->limit = max_tokens && !(flags & RR_TOK_KEEP_END) ? max_tokens : SIZE_MAX;
    if (!rr_scratch_grow(s, 1)) return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
    rc = tok->bytes ? take_bytes(&j, max_tokens) : run_text(&j);
    rr_scratch_shrink(s);
    if (rc && rc != RR_TOK_STOP) return rc;
    if (s->offsets && tok->trim_offsets) trim_offsets(&j);
    out->cut = max_tokens && s->n > max_tokens;
    if (out->cut && (flags & RR_TOK_KEEP_END)) skip = s->n - max_tokens;
    out->n = out->cut ? max_tokens : (uint32_t)s->n;
    out->ids = s->ids + skip;
    if (s->offsets) {
        out->starts = s->starts + skip;
        out->ends = s->ends + skip;
    }
    return RR_OK;
}
