/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - ids back to text.  Layer: tok (L1).
 * A list of pieces goes through the decoder's steps, each of which makes a new list; the result is
 * the list without anything between its members. */
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"

#define MAX_TEXT (256u << 20)

struct list { /* pieces, one after the other */
    struct rr_buf text;
    struct rr_buf ends; /* size_t each: where a piece ends */
};

static void list_init(struct list *l)
{
    rr_buf_init(&l->text, RR_MEM_REQUEST, MAX_TEXT);
    rr_buf_init(&l->ends, RR_MEM_REQUEST, MAX_TEXT);
}

static void list_free(struct list *l)
{
    rr_buf_free(&l->text);
    rr_buf_free(&l->ends);
}

static void list_end(struct list *l)
{
    rr_buf_put(&l->ends, &l->text.len, sizeof(l->text.len));
}

static size_t list_n(const struct list *l)
{
    return l->ends.len / sizeof(size_t);
}

static struct rr_text list_get(const struct list *l, size_t i)
{
    size_t from = 0, to;

    if (i > 0) memcpy(&from, l->ends.data + (i - 1) * sizeof(from), sizeof(from));
    memcpy(&to, l->ends.data + i * sizeof(to), sizeof(to));
    return (struct rr_text){ l->text.data ? l->text.data + from : "", to - from };
}

static void metaspace(const struct rr_decode_step *st, struct rr_text t, bool first,
                      struct rr_buf *out)
{
    size_t i, n;
    uint32_t cp;

    for (i = 0; i < t.len; i += n) {
        n = rr_utf8_next(t.data + i, t.len - i, &cp);
        if (cp != st->ch)
            rr_buf_put(out, t.data + i, n);
        else if (!first || st->keep_first)
            rr_buf_putc(out, ' ');
    }
}

/* Every "from" in out's bytes after start becomes "to", which is not longer. */
static void swap_text(struct rr_buf *out, size_t start, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to), i = start, w = start;

    while (i < out->len) {
        if (out->len - i >= n && !memcmp(out->data + i, from, n)) {
            memcpy(out->data + w, to, m);
            w += m;
            i += n;
        } else {
            out->data[w++] = out->data[i++];
        }
    }
    out->len = w;
}

static void wordpiece(const struct rr_decode_step *st, struct rr_text t, bool first,
                      struct rr_buf *out)
{
    static const char *const clean[][2] = {
        { " .", "." },   { " ?", "?" },     { " !", "!" },     { " ,", "," },
        { " ' ", "'" },  { " n't", "n't" }, { " 'm", "'m" },   { " do not", " don't" },
        { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };
    size_t start = out->len, i;

    if (!first) {
        if (t.len >= st->text_len && !memcmp(t.data, st->text, st->text_len)) {
            t.data += st->text_len;
            t.len -= st->text_len;
        } else {
            rr_buf_putc(out, ' ');
        }
    }
    rr_buf_put(out, t.data, t.len);
    for (i = 0; st->cleanup && !out->failed && i < RR_COUNT(clean); i++)
        swap_text(out, start, clean[i][0], clean[i][1]);
}

/* At most start and stop of one character off the ends.  The reference fails on pieces shorter than
 * stop; here they become empty. */
static void strip(const struct rr_decode_step *st, struct rr_text t, struct rr_buf *out)
{
    char ch[4];
    size_t n = rr_utf8_put(ch, st->ch);
    uint32_t k;

    for (k = 0; k < st->start && t.len >= n && !memcmp(t.data, ch, n); k++) {
        t.data += n;
        t.len -= n;
    }
    for (k = 0; k < st->stop && t.len >= n && !memcmp(t.data + t.len - n, ch, n); k++) t.len -= n;
    rr_buf_put(out, t.data, t.len);
}

static int replace(const struct rr_regex *re, struct rr_text with, struct rr_text t,
                   struct rr_buf *out, struct rr_error *err)
{
    struct rr_matcher *m = rr_matcher_open();
    struct rr_match_iter it;
    size_t from, to, done = 0;
    int rc, more = 0;

    if (!m) return rr_fail(err, RR_ENOMEM, "tokenizer: out of memory");
    rc = rr_match_begin(&it, re, m, t.data, t.len, err);
    if (!rc) {
        while (t.len && (more = rr_match_next(&it, &from, &to, err)) > 0) {
            rr_buf_put(out, t.data + done, from - done);
            rr_buf_put(out, with.data, with.len);
            done = to;
        }
        rr_match_end(&it);
        rr_buf_put(out, t.data + done, t.len - done);
        if (more < 0) rc = it.rc;
    }
    rr_matcher_close(m);
    return rc;
}

/* The suffix at the end of words becomes a space, at the very end nothing. */
static void bpe_suffix(const struct rr_decode_step *st, struct rr_text t, bool last,
                       struct rr_buf *out)
{
    size_t i = 0;

    while (i < t.len) {
        if (st->text_len && t.len - i >= st->text_len &&
            !memcmp(t.data + i, st->text, st->text_len)) {
            if (!last) rr_buf_putc(out, ' ');
            i += st->text_len;
        } else {
            rr_buf_putc(out, t.data[i++]);
        }
    }
}

/* Appends bytes with U+FFFD for each maximal part that is no UTF-8, as the Unicode standard says
 * (section 3.9, "substitution of maximal subparts"). */
static void put_lossy(struct rr_buf *out, struct rr_text t)
{
    size_t bad, n;

    while ((bad = rr_utf8_invalid(t)) != SIZE_MAX) {
        unsigned char c = (unsigned char)t.data[bad], lo = 0x80, hi = 0xBF;
        size_t want = c >= 0xC2 && c < 0xE0   ? 2
                      : c >= 0xE0 && c < 0xF0 ? 3
                      : c >= 0xF0 && c < 0xF5 ? 4
                                              : 1;

        if (c == 0xE0) lo = 0xA0;
        if (c == 0xED) hi = 0x9F;
        if (c == 0xF0) lo = 0x90;
        if (c == 0xF4) hi = 0x8F;
        for (n = 1; n < want && bad + n < t.len; n++, lo = 0x80, hi = 0xBF) {
            unsigned char d = (unsigned char)t.data[bad + n];

            if (d < lo || d > hi) break;
        }
        rr_buf_put(out, t.data, bad);
        rr_buf_puts(out, "\xEF\xBF\xBD");
        t.data += bad + n;
        t.len -= bad + n;
    }
    rr_buf_put(out, t.data, t.len);
}

/* All pieces become one: their characters stand for bytes. */
static void byte_level(const struct list *in, struct list *out)
{
    struct rr_buf bytes;
    size_t i, k, n;
    uint32_t cp;

    rr_buf_init(&bytes, RR_MEM_REQUEST, MAX_TEXT);
    for (i = 0; i < list_n(in); i++) {
        struct rr_text t = list_get(in, i);
        size_t start = bytes.len;

        for (k = 0; k < t.len; k += n) {
            n = rr_utf8_next(t.data + k, t.len - k, &cp);
            if (rr_char_byte(cp) < 0) break;
            rr_buf_putc(&bytes, (char)rr_char_byte(cp));
        }
        if (k == t.len) continue;
        bytes.len = start; /* one other character: the piece stands for itself */
        rr_buf_put(&bytes, t.data, t.len);
    }
    put_lossy(&out->text, (struct rr_text){ bytes.data ? bytes.data : "", bytes.len });
    out->text.failed |= bytes.failed;
    list_end(out);
    rr_buf_free(&bytes);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" -> its byte, -1: another piece. */
static int byte_piece(struct rr_text t)
{
    if (t.len != 6 || memcmp(t.data, "<0x", 3) != 0 || t.data[5] != '>') return -1;
    if (t.data[3] == '+' && hex_digit(t.data[4]) >= 0) return hex_digit(t.data[4]);
    if (hex_digit(t.data[3]) < 0 || hex_digit(t.data[4]) < 0) return -1;
    return hex_digit(t.data[3]) << 4 | hex_digit(t.data[4]);
}

/* Byte pieces in a row become their text, or U+FFFD for each if they are no UTF-8. */
static void byte_fallback(const struct list *in, struct list *out)
{
    struct rr_buf run;
    size_t i, k;

    rr_buf_init(&run, RR_MEM_REQUEST, MAX_TEXT);
    for (i = 0; i <= list_n(in); i++) {
        struct rr_text t = i < list_n(in) ? list_get(in, i) : (struct rr_text){ "", 0 };
        int byte = byte_piece(t);

        if (byte >= 0) {
            rr_buf_putc(&run, (char)byte);
            continue;
        }
        if (run.len && rr_utf8_invalid((struct rr_text){ run.data, run.len }) == SIZE_MAX) {
            rr_buf_put(&out->text, run.data, run.len);
            list_end(out);
        } else {
            for (k = 0; k < run.len; k++) {
                rr_buf_puts(&out->text, "\xEF\xBF\xBD");
                list_end(out);
            }
        }
        rr_buf_clear(&run);
        if (i == list_n(in)) break;
        rr_buf_put(&out->text, t.data, t.len);
        list_end(out);
    }
    out->text.failed |= run.failed;
    rr_buf_free(&run);
}

static int run_step(const struct rr_decode_step *st, const struct list *in, struct list *out,
                    struct rr_error *err)
{
    size_t i, n = list_n(in);
    int rc = RR_OK;

    if (st->kind == RR_DEC_BYTE_LEVEL)
        byte_level(in, out);
    else if (st->kind == RR_DEC_BYTE_FALLBACK)
        byte_fallback(in, out);
    if (st->kind == RR_DEC_BYTE_LEVEL || st->kind == RR_DEC_BYTE_FALLBACK) return RR_OK;
    if (st->kind == RR_DEC_FUSE) {
        rr_buf_put(&out->text, in->text.data ? in->text.data : "", in->text.len);
        list_end(out);
        return RR_OK;
    }
    for (i = 0; i < n && !rc; i++) {
        struct rr_text t = list_get(in, i), with = { st->text, st->text_len };

        switch (st->kind) {
        case RR_DEC_METASPACE: metaspace(st, t, i == 0, &out->text); break;
        case RR_DEC_WORDPIECE: wordpiece(st, t, i == 0, &out->text); break;
        case RR_DEC_STRIP: strip(st, t, &out->text); break;
        case RR_DEC_REPLACE: rc = replace(st->re, with, t, &out->text, err); break;
        case RR_DEC_BPE: bpe_suffix(st, t, i + 1 == n, &out->text); break;
        default: break;
        }
        list_end(out);
    }
    return rc;
}

/* Special by its text, as the reference tests it: a piece with the text of a special token is
 * one. */
static bool is_special_text(const struct rr_tok *tok, struct rr_text t)
{
    uint32_t i;

    for (i = 0; i < tok->n_added; i++)
        if (tok->added[i].in_special_set && tok->added[i].len == t.len &&
            !memcmp(tok->added[i].content, t.data, t.len))
            return true;
    return false;
}

static void collect(const struct rr_tok *tok, const int32_t *ids, size_t n, bool skip_special,
                    struct list *out)
{
    size_t i;

    for (i = 0; i < n; i++) {
        struct rr_text t = rr_tok_piece(tok, ids[i]);
        const struct rr_added *a = ids[i] < 0 ? NULL : rr_added_by_id(tok, (uint32_t)ids[i]);

        if (!t.data) continue;
        if (skip_special && (a ? a->in_special_set : is_special_text(tok, t))) continue;
        if (!tok->has_decoder && out->ends.len) rr_buf_putc(&out->text, ' ');
        rr_buf_put(&out->text, t.data, t.len);
        list_end(out);
    }
}

int rr_tok_decode(const struct rr_tok *tok, const int32_t *ids, size_t n, bool skip_special,
                  struct rr_buf *out, struct rr_error *err)
{
    struct list a, b, swap;
    unsigned i;
    int rc = RR_OK;

    if (tok->no_decoder) return rr_fail(err, RR_ENOTSUP, "%s", tok->no_decoder);
    list_init(&a);
    list_init(&b);
    collect(tok, ids, n, skip_special, &a);
    for (i = 0; i < tok->n_dec && !rc; i++) {
        rr_buf_clear(&b.text);
        rr_buf_clear(&b.ends);
        rc = run_step(&tok->dec[i], &a, &b, err);
        swap = a;
        a = b;
        b = swap;
        if (a.text.failed || a.ends.failed) break;
    }
    if (!rc && (a.text.failed || a.ends.failed))
        rc = rr_fail(err, RR_ENOMEM, "tokenizer: no memory for the text of %zu ids", n);
    if (!rc) rr_buf_put(out, a.text.data ? a.text.data : "", a.text.len);
    if (!rc && out->failed) rc = rr_fail(err, RR_ENOMEM, "tokenizer: no room for the text");
    list_free(&a);
    list_free(&b);
    return rc;
}
