/* SPDX-License-Identifier: Apache-2.0 */
/* convert_vocab.c - tokenizer.json as the tokenizer.ggml.* keys of a GGUF file, for llama.cpp.
 * Layer: model (L4).  Threads: one. */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "model/convert.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

struct piece {
    struct rr_text text; /* view into the tree; data NULL: an id without a piece */
    float score;
    uint32_t type;
};

struct vocab {
    struct rr_gguf_head *h;
    const json_t *model, *root;
    const char *where;
    struct piece *pieces; /* [n] */
    uint32_t n;
    struct rr_error *err;
};

static int bad(const struct vocab *v, const char *what)
{
    return rr_fail(v->err, RR_EFORMAT, "%s: tokenizer.json: %s", v->where, what);
}

static struct rr_text text_of(const json_t *v)
{
    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

static int set_piece(struct vocab *v, json_int_t id, struct rr_text text, double score,
                     uint32_t type)
{
    if (id < 0 || id >= v->n || !text.data) return bad(v, "a piece has an id that no row has");
    v->pieces[id] = (struct piece){ text, (float)score, type };
    return RR_OK;
}

static int read_pieces(struct vocab *v)
{
    json_t *vocab = json_object_get(v->model, "vocab"), *x;
    const char *key;
    size_t i;
    int rc = RR_OK;

    if (json_is_array(vocab)) {
        json_array_foreach(vocab, i, x)
        {
            if (!rc)
                rc = set_piece(v, (json_int_t)i, text_of(json_array_get(x, 0)),
                               json_number_value(json_array_get(x, 1)), NORMAL);
        }
        return rc;
    }
    json_object_foreach(vocab, key, x)
    {
        if (!rc)
            rc = set_piece(v, json_integer_value(x), (struct rr_text){ key, strlen(key) }, 0,
                           NORMAL);
    }
    return rc;
}

/* Added tokens, and the token for what is not known. */
static int read_added(struct vocab *v)
{
    const json_t *list = json_object_get(v->root, "added_tokens"), *x;
    const json_t *unk = json_object_get(v->model, "unk_token"),
                 *unk_id = json_object_get(v->model, "unk_id");
    size_t i;
    int rc = RR_OK;

    json_array_foreach((json_t *)list, i, x)
    {
        const json_t *id = json_object_get(x, "id");
        struct rr_text text = text_of(json_object_get(x, "content"));
        bool special = json_is_true(json_object_get(x, "special"));

        if (rc) break;
        rc = set_piece(v, json_is_integer(id) ? json_integer_value(id) : -1, text, 0,
                       special ? CONTROL : USER_DEFINED);
    }
    for (uint32_t id = 0; id < v->n; id++) {
        bool is = json_is_integer(unk_id) ? json_integer_value(unk_id) == (json_int_t)id
                                          : json_is_string(unk) && v->pieces[id].text.data &&
                                                rr_text_eq(v->pieces[id].text, text_of(unk));

        if (!is) continue;
        v->pieces[id].type = UNKNOWN;
        rr_gguf_put_u32(v->h, "tokenizer.ggml.unknown_token_id", id);
    }
    return rc;
}

static void put_pieces(struct vocab *v, bool word_pieces)
{
    static const char mark[] = "\xE2\x96\x81";

    rr_gguf_put_array(v->h, "tokenizer.ggml.tokens", RR_GGUF_TEXT, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        struct rr_text t = v->pieces[i].text;
        char name[32];
        uint64_t len;

        if (!t.data) {
            snprintf(name, sizeof(name), "[PAD%" PRIu32 "]", i);
            rr_gguf_put_string(v->h, rr_text(name));
        } else if (!word_pieces || v->pieces[i].type != NORMAL) {
            rr_gguf_put_string(v->h, t);
        } else if (t.len > 2 && memcmp(t.data, "##", 2) == 0) {
            rr_gguf_put_string(v->h, (struct rr_text){ t.data + 2, t.len - 2 });
        } else {
            len = t.len + 3;
            rr_gguf_put_raw(v->h, &len, sizeof(len));
            rr_gguf_put_raw(v->h, mark, 3);
            rr_gguf_put_raw(v->h, t.data, t.len);
        }
    }
    rr_gguf_put_array(v->h, "tokenizer.ggml.token_type", RR_GGUF_I32, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        uint32_t type = v->pieces[i].text.data ? v->pieces[i].type : UNUSED;

        rr_gguf_put_raw(v->h, &type, sizeof(type));
    }
}

/* Positions of the RoBERTa family begin behind the network's padding token, which need not be the
 * tokenizer's. */
static void put_ids(const struct vocab *v, const struct rr_model_config *config)
{
    static const char padding[] = "tokenizer.ggml.padding_token_id";
    static const struct {
        const char *key, *texts[5];
    } ids[] = {
        { "tokenizer.ggml.bos_token_id", { "<s>", "[CLS]", "<bos>" } },
        { "tokenizer.ggml.eos_token_id", { "</s>", "[SEP]", "<|im_end|>", "<eos>" } },
        { "tokenizer.ggml.cls_token_id", { "<s>", "[CLS]" } },
        { "tokenizer.ggml.seperator_token_id", { "</s>", "[SEP]" } },
        { padding, { "<pad>", "[PAD]", "<|endoftext|>" } },
        { "tokenizer.ggml.mask_token_id", { "<mask>", "[MASK]" } },
    };
    bool own = config->family == RR_FAMILY_ROBERTA;

    if (own) rr_gguf_put_u32(v->h, padding, config->pad_id);
    for (size_t i = 0; i < RR_COUNT(ids); i++) {
        if (own && ids[i].key == padding) continue;
        for (uint32_t id = 0; id < v->n; id++) {
            bool is = false;

            if (v->pieces[id].type != CONTROL) continue;
            for (size_t j = 0; ids[i].texts[j]; j++)
                is = is || rr_text_is(v->pieces[id].text, ids[i].texts[j]);
            if (!is) continue;
            rr_gguf_put_u32(v->h, ids[i].key, id);
            break;
        }
    }
}

/* ---- around the pieces ---------------------------------------------------------------------- */

/* One step after the other of a "Sequence", or the only one. */
static const json_t *step_of(const json_t *steps, const char *list, size_t i)
{
    const json_t *all = json_object_get(steps, list);

    return all ? json_array_get(all, i) : i == 0 ? steps : NULL;
}

static bool is_type(const json_t *step, const char *type)
{
    const json_t *is = json_object_get(step, "type");

    return json_is_string(is) && strcmp(json_string_value(is), type) == 0;
}

/* llama.cpp puts BOS in front of a pair, EOS and SEP between its texts and EOS behind it, each
 * where the file says so; without a word each kind of tokenizer has a habit of its own, and t5's
 * is another than XLM-RoBERTa's.  Prompts have their tokens in the text. */
static void put_template(const struct vocab *v)
{
    const json_t *post = json_object_get(v->root, "post_processor"), *step, *x;
    bool bos = true, eos = true, sep = false, known = false;
    size_t i, j;

    for (i = 0; (step = step_of(post, "processors", i)) && !known; i++) {
        size_t texts = 0, between = 0;

        sep = is_type(step, "RobertaProcessing");
        known = sep || is_type(step, "BertProcessing");
        if (!is_type(step, "TemplateProcessing")) continue;
        bos = eos = false;
        json_array_foreach(json_object_get(step, "pair"), j, x)
        {
            if (json_object_get(x, "Sequence"))
                texts++;
            else if (texts == 1)
                between++;
            else
                *(texts ? &eos : &bos) = true;
        }
        sep = between > eos;
        known = texts == 2;
    }
    if (!known) return;
    rr_gguf_put_bool(v->h, "tokenizer.ggml.add_bos_token", bos);
    rr_gguf_put_bool(v->h, "tokenizer.ggml.add_eos_token", eos);
    rr_gguf_put_bool(v->h, "tokenizer.ggml.add_sep_token", sep);
}

/* Of WordPiece; without a word llama.cpp makes all letters small and takes accents off. */
static void put_case(const struct vocab *v)
{
    const json_t *normalizer = json_object_get(v->root, "normalizer"), *step;
    bool lower = false, strip = false;

    for (size_t i = 0; (step = step_of(normalizer, "normalizers", i)); i++) {
        bool own = json_is_true(json_object_get(step, "lowercase"));
        const json_t *accents = json_object_get(step, "strip_accents");

        lower = lower || own || is_type(step, "Lowercase");
        strip = strip || is_type(step, "StripAccents") ||
                (json_is_boolean(accents) ? json_is_true(accents) : own);
    }
    rr_gguf_put_bool(v->h, "tokenizer.ggml.normalizer.lowercase", lower);
    if (strip != lower) rr_gguf_put_bool(v->h, "tokenizer.ggml.normalizer.strip_accents", strip);
}

/* ---- kinds ---------------------------------------------------------------------------------- */

/* Six bits of a base64 digit; -1: none. */
static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* The bytes of "precompiled_charsmap", wherever in the normalizer it is. */
static void put_charsmap(const struct vocab *v)
{
    const json_t *normalizer = json_object_get(v->root, "normalizer");
    const json_t *list = json_object_get(normalizer, "normalizers"), *x, *map;
    struct rr_buf bytes;
    uint32_t bits = 0;
    size_t i, n = 0;

    map = json_object_get(normalizer, "precompiled_charsmap");
    json_array_foreach((json_t *)list, i, x)
    {
        if (!map) map = json_object_get(x, "precompiled_charsmap");
    }
    if (!json_is_string(map)) return;
    rr_buf_init(&bytes, RR_MEM_MODEL, (size_t)64 << 20);
    for (i = 0; i < json_string_length(map); i++) {
        int d = digit(json_string_value(map)[i]);

        if (d < 0) break;
        bits = bits << 6 | (uint32_t)d;
        n += 6;
        if (n < 8) continue;
        n -= 8;
        rr_buf_putc(&bytes, (char)(bits >> n));
    }
    rr_gguf_put_array(v->h, "tokenizer.ggml.precompiled_charsmap", RR_GGUF_U8, bytes.len);
    rr_gguf_put_raw(v->h, bytes.data, bytes.len);
    rr_buf_free(&bytes);
}

static void put_scores(struct vocab *v)
{
    static const float unused = -10000.0f;

    rr_gguf_put_array(v->h, "tokenizer.ggml.scores", RR_GGUF_F32, v->n);
    for (uint32_t i = 0; i < v->n; i++)
        rr_gguf_put_raw(v->h, v->pieces[i].text.data ? &v->pieces[i].score : &unused, 4);
}

static void put_unigram(struct vocab *v)
{
    rr_gguf_put_text(v->h, "tokenizer.ggml.model", rr_text("t5"));
    rr_gguf_put_text(v->h, "tokenizer.ggml.pre", rr_text("default"));
    put_pieces(v, false);
    put_scores(v);
    rr_gguf_put_bool(v->h, "tokenizer.ggml.add_space_prefix", true);
    rr_gguf_put_bool(v->h, "tokenizer.ggml.remove_extra_whitespaces", true);
    put_charsmap(v);
}

/* "a b" in old files, ["a", "b"] in new ones. */
static int put_merges(struct vocab *v)
{
    const json_t *merges = json_object_get(v->model, "merges"), *x;
    size_t i;

    rr_gguf_put_array(v->h, "tokenizer.ggml.merges", RR_GGUF_TEXT, json_array_size(merges));
    json_array_foreach((json_t *)merges, i, x)
    {
        struct rr_text a = text_of(json_array_get(x, 0)), b = text_of(json_array_get(x, 1));
        uint64_t len = a.len + 1 + b.len;

        if (json_is_string(x)) {
            rr_gguf_put_string(v->h, text_of(x));
            continue;
        }
        if (!a.data || !b.data) return bad(v, "a merge is no pair of pieces");
        rr_gguf_put_raw(v->h, &len, sizeof(len));
        rr_gguf_put_raw(v->h, a.data, a.len);
        rr_gguf_put_raw(v->h, " ", 1);
        rr_gguf_put_raw(v->h, b.data, b.len);
    }
    return RR_OK;
}

/* SentencePiece's BPE, as Gemma has it: pieces are joined in the order of the merges, which is that
 * of their scores. */
static int put_scored(struct vocab *v)
{
    const json_t *merges = json_object_get(v->model, "merges"), *x, *id;
    const json_t *vocab = json_object_get(v->model, "vocab");
    size_t i;

    json_array_foreach((json_t *)merges, i, x)
    {
        struct rr_text a = text_of(json_array_get(x, 0)), b = text_of(json_array_get(x, 1));
        char joined[512];

        if (json_is_string(x)) {
            a = text_of(x);
            b.data = memchr(a.data, ' ', a.len);
            if (!b.data) return bad(v, "a merge is no pair of pieces");
            b.len = a.len - (size_t)(b.data - a.data) - 1;
            a.len = (size_t)(b.data++ - a.data);
        }
        if (!a.data || !b.data) return bad(v, "a merge is no pair of pieces");
        if (a.len + b.len >= sizeof(joined)) continue; /* longer than any text's piece */
        memcpy(joined, a.data, a.len);
        memcpy(joined + a.len, b.data, b.len);
        id = json_object_getn(vocab, joined, a.len + b.len);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= v->n)
            return bad(v, "a merge makes no piece");
        if (v->pieces[json_integer_value(id)].score == 0)
            v->pieces[json_integer_value(id)].score = -(float)(i + 1);
    }
    rr_gguf_put_text(v->h, "tokenizer.ggml.model", rr_text("llama"));
    rr_gguf_put_text(v->h, "tokenizer.ggml.pre", rr_text("default"));
    put_pieces(v, false);
    put_scores(v);
    rr_gguf_put_bool(v->h, "tokenizer.ggml.add_space_prefix", false);
    return RR_OK;
}

static int put_kind(struct vocab *v, const struct rr_model_config *config)
{
    enum rr_family family = config->family;
    struct rr_text type = text_of(json_object_get(v->model, "type"));
    int rc = RR_OK;

    if (type.data && rr_text_is(type, "Unigram")) {
        put_unigram(v);
    } else if (type.data && rr_text_is(type, "WordPiece")) {
        rr_gguf_put_text(v->h, "tokenizer.ggml.model", rr_text("bert"));
        rr_gguf_put_text(v->h, "tokenizer.ggml.pre", rr_text("default"));
        put_pieces(v, true);
        put_case(v);
    } else if (type.data && rr_text_is(type, "BPE") &&
               json_is_true(json_object_get(v->model, "byte_fallback"))) {
        rc = put_scored(v);
    } else if (type.data && rr_text_is(type, "BPE")) {
        rr_gguf_put_text(v->h, "tokenizer.ggml.model", rr_text("gpt2"));
        rr_gguf_put_text(v->h, "tokenizer.ggml.pre",
                         rr_text(family == RR_FAMILY_DECODER      ? "qwen2"
                                 : family == RR_FAMILY_MODERNBERT ? "modern-bert"
                                                                  : "roberta-bpe"));
        put_pieces(v, false);
        rc = put_merges(v);
    } else {
        rc = bad(v, "model.type is not Unigram, WordPiece or BPE");
    }
    if (rc) return rc;
    put_ids(v, config);
    put_template(v);
    return RR_OK;
}

int rr_convert_vocab(struct rr_gguf_head *h, struct rr_text json, const char *where,
                     const struct rr_model_config *config, struct rr_error *err)
{
    struct vocab v = { .h = h, .where = where, .n = config->vocab, .err = err };
    json_t *root;
    int rc = rr_json_parse(&root, json, 0, RR_JSON_DUP_LAST, err);

    if (rc) {
        rr_fail_prefix(err, "%s: tokenizer.json", where);
        return rc;
    }
    v.root = root;
    v.model = json_object_get(root, "model");
    v.pieces = rr_calloc(RR_MEM_MODEL, v.n, sizeof(*v.pieces));
    rc = v.pieces ? read_pieces(&v) : rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    if (!rc) rc = read_added(&v);
    if (!rc) rc = put_kind(&v, config);
    rr_free(v.pieces);
    json_decref(root);
    return rc;
}
