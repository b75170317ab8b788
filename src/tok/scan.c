/* SPDX-License-Identifier: Apache-2.0 */
/* scan.c - see scan.h.  Layer: tok (L1). */
#include "tok/scan.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"

struct scan {
    const char *p, *end, *begin;
    const char *name, *where; /* file and JSON path, for messages */
    struct rr_draft *d;
    struct rr_error *err;
};

static int bad(struct scan *s, const char *expected)
{
    if (s->p >= s->end)
        return rr_fail(s->err, RR_EFORMAT, "%s: %s: the file ends at byte %zu, expected %s",
                       s->name, s->where, (size_t)(s->end - s->begin), expected);
    return rr_fail(s->err, RR_EFORMAT, "%s: %s: found byte 0x%02x at offset %zu, expected %s",
                   s->name, s->where, (unsigned char)*s->p, (size_t)(s->p - s->begin), expected);
}

static int no_memory(struct scan *s)
{
    return rr_fail(s->err, RR_ENOMEM, "%s: out of memory for the vocabulary", s->name);
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
        s->p++;
}

/* The next significant byte must be c. */
static int expect(struct scan *s, char c, const char *what)
{
    skip_space(s);
    if (s->p >= s->end || *s->p != c) return bad(s, what);
    s->p++;
    return RR_OK;
}

static bool peek(struct scan *s, char c)
{
    skip_space(s);
    return s->p < s->end && *s->p == c;
}

/* Over the closing quote; no check but for the end of the file. */
static int skip_string(struct scan *s)
{
    for (s->p++; s->p < s->end && *s->p != '"'; s->p++)
        if (*s->p == '\\') s->p++;
    if (s->p >= s->end) {
        s->p = s->end;
        return bad(s, "a closing quote");
    }
    s->p++;
    return RR_OK;
}

/* Over one value; brackets and strings only, the JSON parser looks at the rest later. */
static int skip_value(struct scan *s)
{
    unsigned depth = 0;

    skip_space(s);
    while (s->p < s->end) {
        char c = *s->p;

        if (c == '"') {
            if (skip_string(s)) return RR_EFORMAT;
        } else if (c == '[' || c == '{') {
            depth++;
            s->p++;
        } else if (c == ']' || c == '}') {
            if (depth == 0) return RR_OK;
            depth--;
            s->p++;
        } else if (c == ',' && depth == 0) {
            return RR_OK;
        } else {
            s->p++;
            continue;
        }
        if (depth == 0) return RR_OK;
    }
    return bad(s, "a value");
}

static int reserve_blob(struct scan *s, size_t n)
{
    struct rr_draft *d = s->d;
    size_t cap = d->blob_cap ? d->blob_cap : 1 << 16;
    char *blob;

    if (n <= d->blob_cap - d->blob_len) return RR_OK;
    while (cap - d->blob_len < n) cap *= 2;
    if (cap > UINT32_MAX / 2)
        return rr_fail(s->err, RR_ETOOBIG, "%s: %s: more than 1 GiB of text", s->name, s->where);
    blob = rr_realloc(RR_MEM_TOKENIZER, d->blob, cap, 1);
    if (!blob) return no_memory(s);
    d->blob = blob;
    d->blob_cap = (uint32_t)cap;
    return RR_OK;
}

static int hex4(struct scan *s, uint32_t *out)
{
    int i;

    *out = 0;
    for (i = 0; i < 4; i++, s->p++) {
        unsigned char c = s->p < s->end ? (unsigned char)*s->p : 0;

        if (c >= '0' && c <= '9')
            c = (unsigned char)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            c = (unsigned char)((c | 32) - 'a' + 10);
        else
            return bad(s, "four hexadecimal digits");
        *out = *out << 4 | c;
    }
    return RR_OK;
}

/* After a backslash; appends to the blob, in which 4 bytes are free. */
static int escape(struct scan *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    struct rr_draft *d = s->d;
    uint32_t cp, low;
    const char *at;

    if (s->p >= s->end) return bad(s, "an escape");
    at = *s->p ? strchr(from, *s->p) : NULL;
    if (at) {
        d->blob[d->blob_len++] = to[at - from];
        s->p++;
        return RR_OK;
    }
    if (*s->p != 'u') return bad(s, "a JSON escape");
    s->p++;
    if (hex4(s, &cp)) return RR_EFORMAT;
    if (cp >= 0xD800 && cp < 0xDC00) {
        if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
            return bad(s, "the second half of a surrogate pair");
        s->p += 2;
        if (hex4(s, &low)) return RR_EFORMAT;
        if (low < 0xDC00 || low > 0xDFFF) return bad(s, "the second half of a surrogate pair");
        cp = 0x10000 + ((cp - 0xD800) << 10 | (low - 0xDC00));
    } else if (cp >= 0xDC00 && cp < 0xE000) {
        return bad(s, "no lone surrogate");
    }
    d->blob_len += rr_utf8_put(d->blob + d->blob_len, cp);
    return RR_OK;
}

/* A string value, decoded, to the end of the blob. */
static int read_string(struct scan *s, uint32_t *off, uint32_t *len)
{
    struct rr_draft *d = s->d;
    unsigned char high = 0;

    if (expect(s, '"', "a string")) return RR_EFORMAT;
    *off = d->blob_len;
    for (;;) {
        const char *q = s->p;

        while (q < s->end && *q != '"' && *q != '\\' && (unsigned char)*q >= 0x20)
            high |= (unsigned char)*q++;
        if (reserve_blob(s, (size_t)(q - s->p) + 4)) return s->err->code;
        memcpy(d->blob + d->blob_len, s->p, (size_t)(q - s->p));
        d->blob_len += (uint32_t)(q - s->p);
        s->p = q;
        if (q >= s->end) return bad(s, "a closing quote");
        s->p++;
        if (*q == '"') break;
        if (*q != '\\') {
            s->p--;
            return bad(s, "no bare control character in a string");
        }
        if (escape(s)) return RR_EFORMAT;
    }
    *len = d->blob_len - *off;
    if (high >= 0x80 && rr_utf8_invalid((struct rr_text){ d->blob + *off, *len }) != SIZE_MAX)
        return bad(s, "valid UTF-8 in the string before");
    return RR_OK;
}

bool rr_scan_decimal(uint64_t digits, int exp, bool negative, double *out)
{
    static const double pow10[] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
        1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27,
        1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40,
    };
    double f = (double)digits;

    if (exp < -40 || exp > 40) {
        /* Far outside of what log probabilities look like: zero stays, the rest is refused. */
        if (digits != 0) return false;
        exp = 0;
    }
    f = exp >= 0 ? f * pow10[exp] : f / pow10[-exp];
    *out = negative ? -f : f;
    return isfinite(f);
}

/* A number.  Digits that no longer fit into 64 bits are dropped, as the reference does. */
static int read_number(struct scan *s, double *out, bool *integer)
{
    uint64_t digits = 0;
    int exp = 0, e = 0;
    bool negative = false, full = false, e_negative = false;
    const char *start;

    skip_space(s);
    *integer = true;
    if (s->p < s->end && *s->p == '-') {
        negative = true;
        s->p++;
    }
    for (start = s->p; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
        unsigned v = (unsigned)(*s->p - '0');

        if (!full && digits <= (UINT64_MAX - v) / 10)
            digits = digits * 10 + v;
        else
            full = true, exp++;
    }
    if (s->p == start || (*start == '0' && s->p - start > 1)) return bad(s, "a number");
    if (s->p < s->end && *s->p == '.') {
        *integer = false;
        for (start = ++s->p; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
            unsigned v = (unsigned)(*s->p - '0');

            if (!full && digits <= (UINT64_MAX - v) / 10)
                digits = digits * 10 + v, exp--;
            else
                full = true;
        }
        if (s->p == start) return bad(s, "digits after the point");
    }
    if (s->p < s->end && (*s->p | 32) == 'e') {
        *integer = false;
        s->p++;
        if (s->p < s->end && (*s->p == '-' || *s->p == '+')) e_negative = *s->p++ == '-';
        for (start = s->p; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
            if (e < 100000) e = e * 10 + (*s->p - '0');
        if (s->p == start) return bad(s, "digits in the exponent");
        exp += e_negative ? -e : e;
    }
    if (!rr_scan_decimal(digits, exp, negative, out))
        return rr_fail(s->err, RR_EFORMAT, "%s: %s: a number before offset %zu is out of range",
                       s->name, s->where, (size_t)(s->p - s->begin));
    return RR_OK;
}

static int add_piece(struct scan *s, struct rr_draft_piece piece, double score)
{
    struct rr_draft *d = s->d;

    if (d->n == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 4096;
        struct rr_draft_piece *pieces;
        double *scores;

        if (cap > 1u << 26)
            return rr_fail(s->err, RR_ETOOBIG, "%s: %s: more than %u pieces", s->name, s->where,
                           1u << 26);
        pieces = rr_realloc(RR_MEM_TOKENIZER, d->pieces, cap, sizeof(*pieces));
        if (!pieces) return no_memory(s);
        d->pieces = pieces;
        if (d->form == RR_DRAFT_LIST) {
            scores = rr_realloc(RR_MEM_TOKENIZER, d->scores, cap, sizeof(*scores));
            if (!scores) return no_memory(s);
            d->scores = scores;
        }
        d->cap = cap;
    }
    if (d->scores) d->scores[d->n] = score;
    d->pieces[d->n++] = piece;
    return RR_OK;
}

/* [["piece", score], ...] */
static int read_list(struct scan *s)
{
    struct rr_draft_piece piece;
    double score;
    bool integer;
    int rc = RR_OK;

    s->d->form = RR_DRAFT_LIST;
    if (expect(s, '[', "'['")) return RR_EFORMAT;
    if (peek(s, ']')) {
        s->p++;
        return RR_OK;
    }
    for (;;) {
        if (expect(s, '[', "a [piece, score] pair")) return RR_EFORMAT;
        rc = read_string(s, &piece.off, &piece.len);
        if (rc) return rc;
        if (expect(s, ',', "',' and a score")) return RR_EFORMAT;
        rc = read_number(s, &score, &integer);
        if (rc) return rc;
        if (expect(s, ']', "']' after the score")) return RR_EFORMAT;
        piece.id = s->d->n;
        rc = add_piece(s, piece, score);
        if (rc) return rc;
        if (peek(s, ']')) break;
        if (expect(s, ',', "',' or ']'")) return RR_EFORMAT;
    }
    s->p++;
    return RR_OK;
}

/* {"piece": id, ...} */
static int read_map(struct scan *s)
{
    struct rr_draft_piece piece;
    double id;
    bool integer;
    int rc = RR_OK;

    s->d->form = RR_DRAFT_MAP;
    if (expect(s, '{', "'{'")) return RR_EFORMAT;
    if (peek(s, '}')) {
        s->p++;
        return RR_OK;
    }
    for (;;) {
        rc = read_string(s, &piece.off, &piece.len);
        if (rc) return rc;
        if (expect(s, ':', "':' and an id")) return RR_EFORMAT;
        rc = read_number(s, &id, &integer);
        if (rc) return rc;
        if (!integer || id < 0 || id >= (1u << 28))
            return rr_fail(s->err, RR_EFORMAT,
                           "%s: %s: found id %g before offset %zu, expected an integer from 0 to "
                           "%u",
                           s->name, s->where, id, (size_t)(s->p - s->begin), (1u << 28) - 1);
        piece.id = (uint32_t)id;
        rc = add_piece(s, piece, 0);
        if (rc) return rc;
        if (peek(s, '}')) break;
        if (expect(s, ',', "',' or '}'")) return RR_EFORMAT;
    }
    s->p++;
    return RR_OK;
}

static int read_vocab(struct scan *s)
{
    s->where = "model.vocab";
    if (s->d->form != RR_DRAFT_NONE)
        return rr_fail(s->err, RR_EFORMAT, "%s: model.vocab: found twice, expected once", s->name);
    if (peek(s, '[')) return read_list(s);
    if (peek(s, '{')) return read_map(s);
    return bad(s, "an array of [piece, score] or an object of piece: id");
}

static int read_merge(struct scan *s, struct rr_draft_merge *m)
{
    int rc;

    *m = (struct rr_draft_merge){ .b = UINT32_MAX };
    if (!peek(s, '[')) return read_string(s, &m->a, &m->a_len);
    s->p++;
    rc = read_string(s, &m->a, &m->a_len);
    if (rc) return rc;
    if (expect(s, ',', "',' and the second piece")) return RR_EFORMAT;
    rc = read_string(s, &m->b, &m->b_len);
    if (rc) return rc;
    return expect(s, ']', "']' after two pieces");
}

/* ["a b", ...] or [["a", "b"], ...] */
static int read_merges(struct scan *s)
{
    struct rr_draft *d = s->d;
    int rc;

    s->where = "model.merges";
    if (d->has_merges)
        return rr_fail(s->err, RR_EFORMAT, "%s: model.merges: found twice, expected once", s->name);
    d->has_merges = true;
    if (expect(s, '[', "an array")) return RR_EFORMAT;
    if (peek(s, ']')) {
        s->p++;
        return RR_OK;
    }
    for (;;) {
        if (d->n_merges == d->merges_cap) {
            uint32_t cap = d->merges_cap ? d->merges_cap * 2 : 4096;
            struct rr_draft_merge *m = NULL;

            if (cap <= 1u << 26) m = rr_realloc(RR_MEM_TOKENIZER, d->merges, cap, sizeof(*m));
            if (!m) return no_memory(s);
            d->merges = m;
            d->merges_cap = cap;
        }
        rc = read_merge(s, &d->merges[d->n_merges]);
        if (rc) return rc;
        d->n_merges++;
        if (peek(s, ']')) break;
        if (expect(s, ',', "',' or ']'")) return RR_EFORMAT;
    }
    s->p++;
    return RR_OK;
}

/* Copies what was not taken out since *copied, then null. */
static void cut_out(struct scan *s, struct rr_buf *rest, const char **copied, const char *from)
{
    rr_buf_put(rest, *copied, (size_t)(from - *copied));
    rr_buf_puts(rest, "null");
    *copied = s->p;
}

/* The members of one object; of the model's, vocab and merges are taken out. */
static int read_object(struct scan *s, struct rr_buf *rest, const char **copied, bool model)
{
    if (expect(s, '{', "an object")) return RR_EFORMAT;
    if (peek(s, '}')) {
        s->p++;
        return RR_OK;
    }
    for (;;) {
        const char *key, *from;
        size_t len;
        int rc;

        s->where = model ? "model" : "top level";
        if (!peek(s, '"')) return bad(s, "a key");
        key = s->p + 1;
        if (skip_string(s)) return RR_EFORMAT;
        len = (size_t)(s->p - 1 - key);
        if (expect(s, ':', "':'")) return RR_EFORMAT;
        skip_space(s);
        from = s->p;
        if (!model && len == 5 && !memcmp(key, "model", 5) && peek(s, '{')) {
            rc = read_object(s, rest, copied, true);
        } else if (model && len == 5 && !memcmp(key, "vocab", 5)) {
            rc = read_vocab(s);
            if (!rc) cut_out(s, rest, copied, from);
        } else if (model && len == 6 && !memcmp(key, "merges", 6) && !peek(s, 'n')) {
            rc = read_merges(s);
            if (!rc) cut_out(s, rest, copied, from);
        } else {
            rc = skip_value(s);
        }
        if (rc) return rc;
        s->where = model ? "model" : "top level";
        if (peek(s, '}')) break;
        if (expect(s, ',', "',' or '}'")) return RR_EFORMAT;
    }
    s->p++;
    return RR_OK;
}

int rr_scan_tokenizer(struct rr_draft *draft, struct rr_buf *rest, struct rr_text json,
                      const char *name, struct rr_error *err)
{
    struct rr_error own = { 0 };
    struct scan s = { json.data, json.data + json.len, json.data, name, "top level",
                      draft,     err ? err : &own };
    const char *copied = json.data;
    int rc;

    memset(draft, 0, sizeof(*draft));
    if (json.len >= UINT32_MAX / 4)
        return rr_fail(err, RR_ETOOBIG, "%s: found %zu bytes, expected less than 1 GiB", name,
                       json.len);
    rc = read_object(&s, rest, &copied, false);
    if (rc) return rc;
    rr_buf_put(rest, copied, (size_t)(s.end - copied));
    if (rest->failed && json.len > rest->limit)
        return rr_fail(err, RR_ETOOBIG, "%s: more than %zu bytes beside vocabulary and merges",
                       name, rest->limit);
    if (rest->failed) return no_memory(&s);
    return RR_OK;
}

void rr_draft_free(struct rr_draft *d)
{
    rr_free(d->pieces);
    rr_free(d->scores);
    rr_free(d->merges);
    rr_free(d->blob);
    memset(d, 0, sizeof(*d));
}
