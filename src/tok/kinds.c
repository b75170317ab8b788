/* SPDX-License-Identifier: Apache-2.0 */
/* kinds.c - the sections normalizer and pre_tokenizer of the file.  Layer: tok (L1).
 * Nested Sequences become one flat list.  A type that is not in the tables is an error that names
 * it: another id is never given silently. */
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"

#define GPT2_PATTERN \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Patterns known to start a word at every single space after a visible character, so that a long
 * text may be cut there: those of GPT-2, Llama 3 and Qwen 2. */
static const char *const local_patterns[] = {
    GPT2_PATTERN,
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

/* {"String": text} or {"Regex": text} */
static int read_pattern(const struct rr_field *f, struct rr_regex **re, struct rr_text *text,
                        bool *literal)
{
    struct rr_field p;
    char where[RR_FIELD_WHERE];
    int rc = rr_field_object(f, "pattern", RR_REQUIRED, &p);

    if (rc) return rc;
    *literal = json_object_get(p.obj, "String") != NULL;
    rc = rr_field_text(&p, *literal ? "String" : "Regex", RR_REQUIRED, text);
    if (rc) return rc;
    return rr_regex_open(re, *text, *literal, rr_field_where(f, "pattern", where), f->err);
}

/* ---- normalizers ---- */

static struct rr_norm_step *add_norm(struct rr_tok *tok, const struct rr_field *f,
                                     enum rr_norm_kind kind)
{
    struct rr_norm_step *st;

    if (tok->norm.n == RR_TOK_MAX_STEPS) {
        rr_fail(f->err, RR_ETOOBIG, "%s: normalizer: more than %d steps", f->file,
                RR_TOK_MAX_STEPS);
        return NULL;
    }
    st = &tok->norm.steps[tok->norm.n++];
    memset(st, 0, sizeof(*st));
    st->kind = kind;
    return st;
}

static int norm_bert(struct rr_tok *tok, const struct rr_field *f)
{
    bool clean = false, chinese = false, lower = false, accents;
    int rc = rr_field_bool(f, "clean_text", RR_REQUIRED, &clean);

    if (!rc) rc = rr_field_bool(f, "handle_chinese_chars", RR_REQUIRED, &chinese);
    if (!rc) rc = rr_field_bool(f, "lowercase", RR_REQUIRED, &lower);
    accents = lower; /* null: as lowercase */
    if (!rc) rc = rr_field_bool(f, "strip_accents", RR_OPTIONAL, &accents);
    if (rc) return rc;
    if (clean && !add_norm(tok, f, RR_NORM_BERT_CLEAN)) return RR_ETOOBIG;
    if (chinese && !add_norm(tok, f, RR_NORM_BERT_CHINESE)) return RR_ETOOBIG;
    if (accents && !add_norm(tok, f, RR_NORM_NFD)) return RR_ETOOBIG;
    if (accents && !add_norm(tok, f, RR_NORM_BERT_ACCENTS)) return RR_ETOOBIG;
    if (lower && !add_norm(tok, f, RR_NORM_LOWERCASE)) return RR_ETOOBIG;
    return RR_OK;
}

/* True if a cut before a single space cannot change what the pattern matches, nor the match make
 * white space or nothing of a visible ASCII character. */
static bool replace_is_local(struct rr_text p, bool literal)
{
    size_t i;

    if (!literal) return rr_text_is(p, " {2,}");
    for (i = 0; i < p.len; i++)
        if (p.data[i] >= 0x20 && p.data[i] < 0x7F) return false;
    return p.len > 0;
}

static int norm_params(const struct rr_field *f, bool checked, struct rr_norm_step *st)
{
    struct rr_text t = { "", 0 };
    char where[RR_FIELD_WHERE];
    bool literal;
    int rc = RR_OK;

    switch (st->kind) {
    case RR_NORM_STRIP:
        rc = rr_field_bool(f, "strip_left", RR_REQUIRED, &st->left);
        if (!rc) rc = rr_field_bool(f, "strip_right", RR_REQUIRED, &st->right);
        return rc;
    case RR_NORM_PREPEND: return rr_field_copy(f, "prepend", RR_REQUIRED, &st->text, &st->text_len);
    case RR_NORM_PRECOMPILED:
        rc = rr_field_text(f, "precompiled_charsmap", RR_REQUIRED, &t);
        if (rc) return rc;
        return rr_charsmap_open(&st->map, t, checked,
                                rr_field_where(f, "precompiled_charsmap", where), f->err);
    case RR_NORM_REPLACE:
        rc = read_pattern(f, &st->re, &t, &literal);
        if (rc) return rc;
        st->local = replace_is_local(t, literal);
        return rr_field_copy(f, "content", RR_REQUIRED, &st->text, &st->text_len);
    default: return RR_OK;
    }
}

static int read_norm(void *user, const struct rr_field *f, struct rr_text type)
{
    static const struct {
        const char *type;
        enum rr_norm_kind kind;
    } kinds[] = {
        { "Precompiled", RR_NORM_PRECOMPILED },
        { "Strip", RR_NORM_STRIP },
        { "Replace", RR_NORM_REPLACE },
        { "NFC", RR_NORM_NFC },
        { "NFD", RR_NORM_NFD },
        { "NFKC", RR_NORM_NFKC },
        { "NFKD", RR_NORM_NFKD },
        { "Lowercase", RR_NORM_LOWERCASE },
        { "StripAccents", RR_NORM_STRIP_ACCENTS },
        { "Nmt", RR_NORM_NMT },
        { "Prepend", RR_NORM_PREPEND },
        { "ByteLevel", RR_NORM_BYTE_LEVEL },
    };
    struct rr_tok *tok = user;
    size_t i;

    if (rr_text_is(type, "BertNormalizer")) return norm_bert(tok, f);
    for (i = 0; i < RR_COUNT(kinds); i++) {
        struct rr_norm_step *st;

        if (!rr_text_is(type, kinds[i].type)) continue;
        st = add_norm(tok, f, kinds[i].kind);
        return st ? norm_params(f, tok->from_cache, st) : RR_ETOOBIG;
    }
    return rr_field_unknown(f, "type", type,
                            "Precompiled, Sequence, Strip, Replace, NFC, NFD, "
                            "NFKC, NFKD, Lowercase, StripAccents, BertNormalizer, Nmt, Prepend or "
                            "ByteLevel");
}

int rr_load_normalizer(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_field f;
    int rc = rr_field_object(root, "normalizer", RR_OPTIONAL, &f);

    if (rc || !f.obj) return rc;
    tok->norm.steps = rr_calloc(RR_MEM_TOKENIZER, RR_TOK_MAX_STEPS, sizeof(*tok->norm.steps));
    if (!tok->norm.steps) return rr_fail(f.err, RR_ENOMEM, "%s: out of memory", f.file);
    return rr_field_steps(&f, "normalizers", read_norm, tok);
}

/* ---- pre-tokenizers ---- */

static int read_behavior(const struct rr_field *f, enum rr_need need, enum rr_behavior *out)
{
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous" };
    struct rr_text t = { NULL, 0 };
    size_t i;
    int rc = rr_field_text(f, "behavior", need, &t);

    if (rc || !t.data) return rc;
    for (i = 0; i < RR_COUNT(names); i++) {
        if (!rr_text_is(t, names[i])) continue;
        *out = (enum rr_behavior)i;
        return RR_OK;
    }
    return rr_field_unknown(f, "behavior", t,
                            "Removed, Isolated, MergedWithPrevious, "
                            "MergedWithNext or Contiguous");
}

static int pre_metaspace(const struct rr_field *f, struct rr_pretok_step *st)
{
    struct rr_text scheme = { "always", 6 };
    bool add_prefix = true;
    uint32_t cp = 0;
    int rc = rr_field_char(f, "replacement", &cp);

    if (!rc) rc = rr_field_text(f, "prepend_scheme", RR_OPTIONAL, &scheme);
    if (!rc) rc = rr_field_bool(f, "add_prefix_space", RR_OPTIONAL, &add_prefix);
    st->split = true;
    if (!rc) rc = rr_field_bool(f, "split", RR_OPTIONAL, &st->split);
    if (rc) return rc;
    st->repl_len = rr_utf8_put(st->repl, cp);
    if (rr_text_is(scheme, "always"))
        st->prepend = RR_PREPEND_ALWAYS;
    else if (rr_text_is(scheme, "first"))
        st->prepend = RR_PREPEND_FIRST;
    else if (rr_text_is(scheme, "never"))
        st->prepend = RR_PREPEND_NEVER;
    else
        return rr_field_unknown(f, "prepend_scheme", scheme, "always, first or never");
    if (!add_prefix && st->prepend != RR_PREPEND_NEVER)
        return rr_field_wrong(f, "add_prefix_space", "no contradiction to prepend_scheme");
    return RR_OK;
}

static int pre_split(const struct rr_field *f, struct rr_pretok_step *st)
{
    struct rr_text t = { "", 0 };
    bool literal;
    size_t i;
    int rc = read_pattern(f, &st->re, &t, &literal);

    if (!rc) rc = read_behavior(f, RR_REQUIRED, &st->behavior);
    if (!rc) rc = rr_field_bool(f, "invert", RR_REQUIRED, &st->invert);
    if (rc) return rc;
    for (i = 0; i < RR_COUNT(local_patterns) && !literal; i++)
        if (rr_text_is(t, local_patterns[i]))
            st->local = st->behavior == RR_ISOLATED || st->behavior == RR_REMOVED;
    return RR_OK;
}

static int pre_byte_level(const struct rr_field *f, struct rr_pretok_step *st)
{
    struct rr_text gpt2 = rr_text(GPT2_PATTERN);
    bool use_regex = true, trim;
    char where[RR_FIELD_WHERE];
    int rc = rr_field_bool(f, "add_prefix_space", RR_REQUIRED, &st->add_prefix_space);

    if (!rc) rc = rr_field_bool(f, "trim_offsets", RR_REQUIRED, &trim);
    if (!rc) rc = rr_field_bool(f, "use_regex", RR_OPTIONAL, &use_regex);
    if (rc || !use_regex) return rc;
    return rr_regex_open(&st->re, gpt2, false, rr_field_where(f, "use_regex", where), f->err);
}

static int pre_params(const struct rr_field *f, struct rr_pretok_step *st)
{
    switch (st->kind) {
    case RR_PRE_METASPACE: return pre_metaspace(f, st);
    case RR_PRE_BYTE_LEVEL: return pre_byte_level(f, st);
    case RR_PRE_SPLIT: return pre_split(f, st);
    case RR_PRE_PUNCTUATION:
        st->behavior = RR_ISOLATED;
        return read_behavior(f, RR_OPTIONAL, &st->behavior);
    case RR_PRE_DIGITS: {
        int rc = rr_field_bool(f, "individual_digits", RR_REQUIRED, &st->individual);

        st->behavior = st->individual ? RR_ISOLATED : RR_CONTIGUOUS;
        return rc;
    }
    default: return RR_OK;
    }
}

static int read_pretok(void *user, const struct rr_field *f, struct rr_text type)
{
    static const struct {
        const char *type;
        enum rr_pretok_kind kind;
    } kinds[] = {
        { "WhitespaceSplit", RR_PRE_WHITESPACE_SPLIT },
        { "Whitespace", RR_PRE_WHITESPACE },
        { "Metaspace", RR_PRE_METASPACE },
        { "BertPreTokenizer", RR_PRE_BERT },
        { "ByteLevel", RR_PRE_BYTE_LEVEL },
        { "Split", RR_PRE_SPLIT },
        { "Punctuation", RR_PRE_PUNCTUATION },
        { "Digits", RR_PRE_DIGITS },
    };
    struct rr_tok *tok = user;
    size_t i;

    for (i = 0; i < RR_COUNT(kinds); i++) {
        if (!rr_text_is(type, kinds[i].type)) continue;
        if (tok->n_pre == RR_TOK_MAX_STEPS - 1)
            return rr_fail(f->err, RR_ETOOBIG, "%s: pre_tokenizer: more than %d steps", f->file,
                           RR_TOK_MAX_STEPS - 1);
        tok->pre[tok->n_pre].kind = kinds[i].kind;
        return pre_params(f, &tok->pre[tok->n_pre++]);
    }
    return rr_field_unknown(f, "type", type,
                            "WhitespaceSplit, Whitespace, Metaspace, Sequence, "
                            "BertPreTokenizer, ByteLevel, Split, Punctuation or Digits");
}

int rr_load_pretok(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_field f;
    int rc = rr_field_object(root, "pre_tokenizer", RR_OPTIONAL, &f);

    return rc || !f.obj ? rc : rr_field_steps(&f, "pretokenizers", read_pretok, tok);
}
