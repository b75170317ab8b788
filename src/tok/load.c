/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - the root of tokenizer.json, the sections model (without vocabulary) and added_tokens.
 * Layer: tok (L1). */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "tok/internal.h"

/* ---- model ---- */

static int load_unigram(struct rr_tok *tok, const struct rr_field *f)
{
    uint32_t unk = UINT32_MAX;
    int rc;

    if (!tok->vocab.scores && tok->vocab.n)
        return rr_field_wrong(f, "vocab", "an array of [piece, score] for a Unigram model");
    rc = rr_field_u32(f, "unk_id", RR_OPTIONAL, INT32_MAX, &unk);
    if (!rc) rc = rr_field_bool(f, "byte_fallback", RR_OPTIONAL, &tok->model.byte_fallback);
    if (rc) return rc;
    if (unk != UINT32_MAX && unk >= tok->vocab.n)
        return rr_fail(f->err, RR_EFORMAT,
                       "%s: model.unk_id: found %u, expected less than the %u "
                       "pieces",
                       f->file, unk, tok->vocab.n);
    tok->model.unk = unk == UINT32_MAX ? -1 : (int32_t)unk;
    tok->model.unk_score = tok->vocab.min_score - 10.0; /* the reference's penalty */
    return RR_OK;
}

/* WordPiece and BPE: the id of unk_token; -1 if it is not a piece (an error when needed). */
static int load_unk_token(struct rr_tok *tok, const struct rr_field *f, enum rr_need need)
{
    struct rr_model *m = &tok->model;
    size_t len = 0;
    int rc = rr_field_copy(f, "unk_token", need, &m->unk_token, &len);

    m->unk = -1;
    if (rc || !m->unk_token) return rc;
    m->unk = rr_trie_find(&tok->vocab.trie, m->unk_token, len);
    return RR_OK;
}

static int load_wordpiece(struct rr_tok *tok, const struct rr_field *f)
{
    struct rr_model *m = &tok->model;
    size_t i;
    int rc = load_unk_token(tok, f, RR_REQUIRED);

    if (!rc)
        rc = rr_field_copy(f, "continuing_subword_prefix", RR_REQUIRED, &m->prefix, &m->prefix_len);
    if (!rc)
        rc = rr_field_u32(f, "max_input_chars_per_word", RR_REQUIRED, UINT32_MAX, &m->max_chars);
    if (rc) return rc;
    if (tok->vocab.scores)
        return rr_field_wrong(f, "vocab", "an object of piece: id for a WordPiece model");
    m->has_prefix_pos = true;
    m->after_prefix = (struct rr_trie_pos){ RR_TRIE_ROOT, 0 };
    for (i = 0; i < m->prefix_len && m->has_prefix_pos; i++)
        m->has_prefix_pos =
            rr_trie_step(&tok->vocab.trie, &m->after_prefix, (unsigned char)m->prefix[i]);
    return RR_OK;
}

static int load_bpe(struct rr_tok *tok, const struct rr_field *f)
{
    struct rr_model *m = &tok->model;
    const json_t *dropout = json_object_get(f->obj, "dropout");
    int rc;

    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return rr_fail(f->err, RR_ENOTSUP,
                       "%s: model.dropout: found %g, expected null: ids must "
                       "not be random",
                       f->file, json_number_value(dropout));
    rc = load_unk_token(tok, f, RR_OPTIONAL);
    if (!rc)
        rc = rr_field_copy(f, "continuing_subword_prefix", RR_OPTIONAL, &m->prefix, &m->prefix_len);
    if (!rc) rc = rr_field_copy(f, "end_of_word_suffix", RR_OPTIONAL, &m->suffix, &m->suffix_len);
    if (!rc) rc = rr_field_bool(f, "fuse_unk", RR_OPTIONAL, &m->fuse_unk);
    if (!rc) rc = rr_field_bool(f, "byte_fallback", RR_OPTIONAL, &m->byte_fallback);
    if (!rc) rc = rr_field_bool(f, "ignore_merges", RR_OPTIONAL, &m->ignore_merges);
    if (rc) return rc;
    if (tok->vocab.scores)
        return rr_field_wrong(f, "vocab", "an object of piece: id for a BPE model");
    if (tok->vocab.merge_cap == 0) return rr_field_wrong(f, "merges", "an array of merges");
    return RR_OK;
}

/* The pieces of single bytes: byte-level characters, or <0x00> .. <0xFF> to fall back to. */
static void find_bytes(struct rr_tok *tok)
{
    static const char hex[] = "0123456789ABCDEF";
    struct rr_model *m = &tok->model;
    unsigned b, n;

    for (b = 0; b < 256; b++) {
        char name[7] = { '<', '0', 'x', hex[b >> 4], hex[b & 15], '>', 0 };

        n = 6;
        if (m->bytes) n = rr_utf8_put(name, rr_byte_char((unsigned char)b));
        m->byte_id[b] = rr_trie_find(&tok->vocab.trie, name, n);
    }
}

int rr_load_model(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_text type = { "", 0 };
    struct rr_model *m = &tok->model;
    struct rr_field f;
    int rc = rr_field_object(root, "model", RR_REQUIRED, &f);

    if (!rc) rc = rr_field_text(&f, "type", RR_REQUIRED, &type);
    if (rc) return rc;
    if (rr_text_is(type, "Unigram")) {
        m->kind = RR_MODEL_UNIGRAM;
        rc = load_unigram(tok, &f);
    } else if (rr_text_is(type, "WordPiece")) {
        m->kind = RR_MODEL_WORDPIECE;
        rc = load_wordpiece(tok, &f);
    } else if (rr_text_is(type, "BPE")) {
        m->kind = RR_MODEL_BPE;
        rc = load_bpe(tok, &f);
    } else {
        return rr_field_unknown(&f, "type", type, "Unigram, WordPiece or BPE");
    }
    if (rc) return rc;
    m->bytes = m->kind == RR_MODEL_BPE && !m->prefix_len && !m->suffix_len && !m->byte_fallback &&
               tok->n_pre && tok->pre[tok->n_pre - 1].kind == RR_PRE_BYTE_LEVEL;
    find_bytes(tok);
    return RR_OK;
}

/* ---- added tokens ---- */

struct contents {    /* content -> entry, while reading */
    uint32_t *slots; /* index + 1, 0: free */
    uint32_t cap;    /* a power of two */
};

/* The slot of a content: taken by an entry with it, or free. */
static uint32_t *find_content(const struct rr_tok *tok, const struct contents *c, const char *s,
                              size_t len)
{
    uint32_t i = (uint32_t)XXH3_64bits(s, len) & (c->cap - 1);

    for (; c->slots[i]; i = (i + 1) & (c->cap - 1)) {
        const struct rr_added *a = &tok->added[c->slots[i] - 1];

        if (a->len == len && !memcmp(a->content, s, len)) break;
    }
    return &c->slots[i];
}

static bool same_flags(const struct rr_added *a, const struct rr_added *b)
{
    return a->single_word == b->single_word && a->lstrip == b->lstrip && a->rstrip == b->rstrip &&
           a->normalized == b->normalized && a->special == b->special;
}

static int read_added(const struct rr_field *f, struct rr_added *a)
{
    int rc = rr_field_u32(f, "id", RR_REQUIRED, INT32_MAX, &a->id);

    if (!rc) rc = rr_field_bool(f, "single_word", RR_REQUIRED, &a->single_word);
    if (!rc) rc = rr_field_bool(f, "lstrip", RR_REQUIRED, &a->lstrip);
    if (!rc) rc = rr_field_bool(f, "rstrip", RR_REQUIRED, &a->rstrip);
    if (!rc) rc = rr_field_bool(f, "normalized", RR_REQUIRED, &a->normalized);
    if (!rc) rc = rr_field_bool(f, "special", RR_REQUIRED, &a->special);
    if (!rc) rc = rr_field_copy(f, "content", RR_REQUIRED, &a->content, &a->len);
    return rc;
}

/* Gives the entry the id that the reference gives it: that of an earlier entry or of a piece with
 * the same text, else the next free one.  The file's own id is only compared, the first difference
 * reported. */
static void set_id(struct rr_tok *tok, const struct rr_field *f, uint32_t earlier,
                   struct rr_added *a, uint32_t *next, bool *told)
{
    int32_t piece = rr_trie_find(&tok->vocab.trie, a->content, a->len);
    uint32_t id = earlier ? tok->added[earlier - 1].id : piece >= 0 ? (uint32_t)piece : (*next)++;

    if (id != a->id && !*told)
        rr_log(RR_WARN, "%s: %s: the token gets id %u as in the reference library, not %u", f->file,
               f->path, id, a->id);
    *told |= id != a->id;
    a->id = id;
}

static int add_all(struct rr_tok *tok, const struct rr_field *root, const json_t *list,
                   struct contents *c)
{
    uint32_t next = tok->vocab.count;
    bool told = false;
    struct rr_field f;
    size_t i;
    int rc;

    for (i = 0; i < json_array_size(list); i++) {
        struct rr_added *a = &tok->added[tok->n_added];
        uint32_t *slot;

        rc = rr_field_element(root, "added_tokens", list, i, &f);
        if (!rc) rc = read_added(&f, a);
        if (rc) {
            rr_free(a->content);
            return rc;
        }
        slot = find_content(tok, c, a->content, a->len);
        if (a->len == 0 || (*slot && same_flags(&tok->added[*slot - 1], a))) {
            rr_free(a->content); /* said before, or nothing: the reference ignores it */
            memset(a, 0, sizeof(*a));
            continue;
        }
        set_id(tok, &f, *slot, a, &next, &told);
        *slot = ++tok->n_added;
        if (a->id >= tok->vocab_size) tok->vocab_size = a->id + 1;
    }
    return RR_OK;
}

int rr_load_added(struct rr_tok *tok, const struct rr_field *root)
{
    struct contents c = { NULL, 16 };
    const json_t *list;
    size_t n;
    int rc = rr_field_array(root, "added_tokens", RR_OPTIONAL, &list);

    if (rc || !list) return rc;
    n = json_array_size(list);
    if (n > 1u << 20)
        return rr_fail(root->err, RR_ETOOBIG, "%s: added_tokens: found %zu, expected at most %u",
                       root->file, n, 1u << 20);
    while (c.cap < 2 * n) c.cap *= 2;
    c.slots = rr_calloc(RR_MEM_TOKENIZER, c.cap, sizeof(*c.slots));
    tok->added = rr_calloc(RR_MEM_TOKENIZER, n + 1, sizeof(*tok->added));
    if (c.slots && tok->added)
        rc = add_all(tok, root, list, &c);
    else
        rc = rr_fail(root->err, RR_ENOMEM, "%s: out of memory", root->file);
    rr_free(c.slots);
    return rc;
}

/* ---- the whole ---- */

/* Texts may be handled in parts if no stage looks across a single space: see encode.c. */
static bool is_local(const struct rr_tok *tok)
{
    uint32_t i;

    if (!rr_norm_local(&tok->norm) || !rr_pretok_local(tok)) return false;
    for (i = 0; i < tok->n_added; i++) {
        const struct rr_added *a = &tok->added[i];

        if (a->normalized && (a->rstrip || memchr(a->content, ' ', a->len))) return false;
    }
    return true;
}

int rr_load_config(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_text version = { "1.0", 3 };
    unsigned i;
    int rc = rr_field_text(root, "version", RR_OPTIONAL, &version);

    if (!rc && !rr_text_is(version, "1.0")) rc = rr_field_unknown(root, "version", version, "1.0");
    if (!rc) rc = rr_load_normalizer(tok, root);
    if (!rc) rc = rr_load_pretok(tok, root);
    if (!rc) rc = rr_load_model(tok, root);
    if (!rc) rc = rr_load_post(tok, root);
    if (!rc) rc = rr_load_decoder(tok, root);
    tok->vocab_size = tok->vocab.n;
    if (!rc) rc = rr_load_added(tok, root);
    if (!rc) rc = rr_added_build(tok, root->file, root->err);
    if (rc) return rc;
    for (i = 0; i < tok->n_pre; i++)
        tok->need_align |=
            tok->pre[i].kind == RR_PRE_METASPACE && tok->pre[i].prepend == RR_PREPEND_FIRST;
    tok->local = is_local(tok);
    return RR_OK;
}
