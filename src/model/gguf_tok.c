/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_tok.c - the tokenizer in a GGUF file, written as a tokenizer.json.  Layer: model (L4).
 * Threads: any.
 *
 * "tokenizer.huggingface.json" is taken as it is; rerankd convert writes it.  Files of llama.cpp
 * have pieces, scores or merges, and a name that stands for the rest: that rest is written here as
 * the reference's classes of that name have it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"
#include "model/gguf_model.h"

enum piece_kind { /* tokenizer.ggml.token_type; the numbers are the format's */
                  UNKNOWN = 2,
                  CONTROL = 3,
                  USER_DEFINED = 4,
                  UNUSED = 5
};

#define NO_ID UINT32_MAX
#define MAX_PIECES (1u << 24)

struct writer {
    const struct rr_gguf *g;
    const char *where;
    struct rr_buf *out;
    const struct rr_gguf_value *pieces, *scores, *types;
    uint32_t unk, bos, eos, cls, sep, mask; /* NO_ID: not given */
    struct rr_error *err;
};

/* ---- what the file has ---------------------------------------------------------------------- */

static int read_id(const struct writer *w, const char *key, uint32_t *id)
{
    *id = NO_ID;
    return rr_gguf_u32(w->g, key, false, 0, (uint32_t)w->pieces->n - 1, id, w->err);
}

static int read_ids(struct writer *w)
{
    int rc = read_id(w, "tokenizer.ggml.unknown_token_id", &w->unk);

    if (!rc) rc = read_id(w, "tokenizer.ggml.bos_token_id", &w->bos);
    if (!rc) rc = read_id(w, "tokenizer.ggml.eos_token_id", &w->eos);
    if (!rc) rc = read_id(w, "tokenizer.ggml.cls_token_id", &w->cls);
    if (!rc) rc = read_id(w, "tokenizer.ggml.seperator_token_id", &w->sep); /* spelt so */
    if (!rc) rc = read_id(w, "tokenizer.ggml.mask_token_id", &w->mask);
    if (w->cls == NO_ID) w->cls = w->bos;
    if (w->sep == NO_ID) w->sep = w->eos;
    return rc;
}

static int read_pieces(struct writer *w)
{
    size_t at = 0;
    uint64_t i;
    int rc = rr_gguf_array(w->g, "tokenizer.ggml.tokens", true, RR_GGUF_TEXT, &w->pieces, w->err);

    if (!rc)
        rc =
            rr_gguf_array(w->g, "tokenizer.ggml.token_type", false, RR_GGUF_I32, &w->types, w->err);
    if (rc) return rc;
    if (w->pieces->n == 0 || w->pieces->n > MAX_PIECES || (w->types && w->types->n != w->pieces->n))
        return rr_fail(w->err, RR_EFORMAT,
                       "%s: tokenizer.ggml.tokens has %" PRIu64 " pieces and token_type %" PRIu64
                       ", expected as many, 1 to %u",
                       w->where, w->pieces->n, w->types ? w->types->n : w->pieces->n, MAX_PIECES);
    for (i = 0; i < w->pieces->n; i++) {
        if (rr_utf8_invalid(rr_gguf_next_text(w->pieces, &at)) == SIZE_MAX) continue;
        return rr_fail(w->err, RR_EFORMAT, "%s: tokenizer.ggml.tokens[%" PRIu64 "] is not UTF-8",
                       w->where, i);
    }
    return read_ids(w);
}

static uint32_t type_of(const struct writer *w, uint64_t i)
{
    return w->types ? rr_gguf_u32_at(w->types, i) : 1;
}

/* From the start: for the few special ones only. */
static struct rr_text piece(const struct writer *w, uint32_t id)
{
    struct rr_text t = { "", 0 };
    size_t at = 0;

    for (uint32_t i = 0; i <= id; i++) t = rr_gguf_next_text(w->pieces, &at);
    return t;
}

static int need(const struct writer *w, uint32_t id, const char *key)
{
    if (id != NO_ID) return RR_OK;
    return rr_fail(w->err, RR_EFORMAT, "%s: tokenizer.ggml.%s is missing, expected a token's id",
                   w->where, key);
}

/* ---- parts of the JSON ---------------------------------------------------------------------- */

static void put(struct writer *w, const char *s)
{
    rr_buf_puts(w->out, s);
}

static void put_piece(struct writer *w, uint32_t id)
{
    rr_buf_json_string(w->out, piece(w, id));
}

static void put_added(struct writer *w, uint32_t id, struct rr_text content, bool special,
                      const char **comma)
{
    rr_buf_printf(w->out, "%s{\"id\":%" PRIu32 ",\"content\":", *comma, id);
    rr_buf_json_string(w->out, content);
    rr_buf_printf(w->out,
                  ",\"single_word\":false,\"lstrip\":%s,\"rstrip\":false,\"normalized\":false,"
                  "\"special\":%s}",
                  id == w->mask ? "true" : "false", special ? "true" : "false");
    *comma = ",";
}

/* Those that texts can spell.  The place of the mask token is unused in files of llama.cpp. */
static void put_all_added(struct writer *w)
{
    const char *comma = "";
    size_t at = 0;

    put(w, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (uint32_t i = 0; i < (uint32_t)w->pieces->n; i++) {
        struct rr_text text = rr_gguf_next_text(w->pieces, &at);
        uint32_t type = type_of(w, i);

        if (i == w->mask && type == UNUSED) text = rr_text("<mask>");
        if (type == CONTROL || type == UNKNOWN || type == USER_DEFINED || i == w->mask)
            put_added(w, i, text, type != USER_DEFINED, &comma);
    }
    put(w, "],");
}

/* "name":{"id":"...","ids":[n],"tokens":["..."]} */
static void put_special(struct writer *w, uint32_t id)
{
    put_piece(w, id);
    put(w, ":{\"id\":");
    put_piece(w, id);
    rr_buf_printf(w->out, ",\"ids\":[%" PRIu32 "],\"tokens\":[", id);
    put_piece(w, id);
    put(w, "]}");
}

static void put_token(struct writer *w, uint32_t id, int type)
{
    put(w, "{\"SpecialToken\":{\"id\":");
    put_piece(w, id);
    rr_buf_printf(w->out, ",\"type_id\":%d}}", type);
}

/* cls A sep [sep] B sep; types: B and what follows has type 1. */
static void put_template(struct writer *w, bool double_sep, bool types)
{
    put(w, "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[");
    put_token(w, w->cls, 0);
    put(w, ",{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},");
    put_token(w, w->sep, 0);
    put(w, "],\"pair\":[");
    put_token(w, w->cls, 0);
    put(w, ",{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},");
    put_token(w, w->sep, 0);
    if (double_sep) {
        put(w, ",");
        put_token(w, w->sep, 0);
    }
    rr_buf_printf(w->out, ",{\"Sequence\":{\"id\":\"B\",\"type_id\":%d}},", types);
    put_token(w, w->sep, types);
    put(w, "],\"special_tokens\":{");
    put_special(w, w->cls);
    put(w, ",");
    put_special(w, w->sep);
    put(w, "}},");
}

/* ---- Unigram: XLM-RoBERTa ------------------------------------------------------------------- */

static void put_base64(struct rr_buf *b, const struct rr_gguf_value *v)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)v->data;

    for (size_t i = 0; i < v->len; i += 3) {
        size_t n = RR_MIN(v->len - i, (size_t)3);
        uint32_t x = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (n > 2 ? (uint32_t)p[i + 2] : 0);

        rr_buf_putc(b, digits[x >> 18]);
        rr_buf_putc(b, digits[x >> 12 & 63]);
        rr_buf_putc(b, n > 1 ? digits[x >> 6 & 63] : '=');
        rr_buf_putc(b, n > 2 ? digits[x & 63] : '=');
    }
}

static int read_scores(struct writer *w)
{
    int rc = rr_gguf_array(w->g, "tokenizer.ggml.scores", true, RR_GGUF_F32, &w->scores, w->err);

    if (rc || w->scores->n == w->pieces->n) return rc;
    return rr_fail(w->err, RR_EFORMAT,
                   "%s: tokenizer.ggml.scores has %" PRIu64 " numbers, expected %" PRIu64
                   ", one for each token",
                   w->where, w->scores->n, w->pieces->n);
}

static int put_unigram(struct writer *w)
{
    const char *key = "tokenizer.ggml.precompiled_charsmap";
    const struct rr_gguf_value *map = rr_gguf_find(w->g, key);
    size_t at = 0;
    int rc = read_scores(w);

    if (!rc && map && !(map->kind == RR_GGUF_ARRAY && map->element <= RR_GGUF_I8))
        rc = rr_fail(w->err, RR_EFORMAT, "%s: %s is not an array of u8", w->where, key);
    if (!rc) rc = need(w, w->cls, "bos_token_id");
    if (!rc) rc = need(w, w->sep, "eos_token_id");
    if (!rc) rc = need(w, w->unk, "unknown_token_id");
    if (rc) return rc;
    put_all_added(w);
    put(w, "\"normalizer\":");
    if (map) {
        put(w, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        put_base64(w->out, map);
        put(w, "\"},");
    } else {
        put(w, "null,");
    }
    put(w, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
           "\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\","
           "\"prepend_scheme\":\"always\",\"split\":true}]},");
    put_template(w, true, false);
    put(w, "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\","
           "\"prepend_scheme\":\"always\",\"split\":true},");
    rr_buf_printf(w->out, "\"model\":{\"type\":\"Unigram\",\"unk_id\":%" PRIu32 ",\"vocab\":[",
                  w->unk);
    for (uint32_t i = 0; i < (uint32_t)w->pieces->n; i++) {
        struct rr_text text = rr_gguf_next_text(w->pieces, &at);

        if (i == w->mask && type_of(w, i) == UNUSED) text = rr_text("<mask>");
        put(w, i ? ",[" : "[");
        rr_buf_json_string(w->out, text);
        put(w, ",");
        rr_buf_json_float(w->out, rr_gguf_f32_at(w->scores, i));
        put(w, "]");
    }
    put(w, "],\"byte_fallback\":false}}");
    return RR_OK;
}

/* ---- WordPiece: BERT ------------------------------------------------------------------------ */

/* llama.cpp marks beginnings of words, U+2581, where BERT marks the other pieces, "##". */
static void put_wordpiece_text(struct writer *w, struct rr_text text, uint32_t type)
{
    static const char mark[] = "\xE2\x96\x81";
    char marked[1024];

    if (type == CONTROL || type == UNKNOWN) {
        rr_buf_json_string(w->out, text);
    } else if (text.len > 3 && memcmp(text.data, mark, 3) == 0) {
        rr_buf_json_string(w->out, (struct rr_text){ text.data + 3, text.len - 3 });
    } else {
        size_t n = RR_MIN(text.len, sizeof(marked) - 2); /* pieces are far shorter */

        memcpy(marked, "##", 2);
        memcpy(marked + 2, text.data, n);
        rr_buf_json_string(w->out, (struct rr_text){ marked, n + 2 });
    }
}

/* A vocabulary with capitals is one of a network that tells them apart; files of older converters
 * have nothing else that says so. */
static bool has_capitals(const struct writer *w)
{
    size_t at = 0;

    for (uint32_t i = 0; i < (uint32_t)w->pieces->n; i++) {
        struct rr_text text = rr_gguf_next_text(w->pieces, &at);

        if (type_of(w, i) != 1 || (text.len && text.data[text.len - 1] == ']')) continue;
        for (size_t j = 0; j < text.len; j++)
            if (text.data[j] >= 'A' && text.data[j] <= 'Z') return true;
    }
    return false;
}

static int put_wordpiece(struct writer *w)
{
    static const char accents[] = "tokenizer.ggml.normalizer.strip_accents";
    bool lower = !has_capitals(w), strip = false;
    size_t at = 0;
    int rc = need(w, w->cls, "cls_token_id");

    if (!rc) rc = need(w, w->sep, "seperator_token_id");
    if (!rc) rc = need(w, w->unk, "unknown_token_id");
    if (!rc) rc = rr_gguf_bool(w->g, "tokenizer.ggml.normalizer.lowercase", &lower, w->err);
    if (!rc) rc = rr_gguf_bool(w->g, accents, &strip, w->err);
    if (rc) return rc;
    put_all_added(w);
    rr_buf_printf(w->out,
                  "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                  "\"handle_chinese_chars\":true,\"strip_accents\":%s,\"lowercase\":%s},"
                  "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},",
                  !rr_gguf_find(w->g, accents) ? "null"
                  : strip                      ? "true"
                                               : "false",
                  lower ? "true" : "false");
    put_template(w, false, true);
    put(w, "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
           "\"model\":{\"type\":\"WordPiece\",\"unk_token\":");
    put_piece(w, w->unk);
    put(w, ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{");
    for (uint32_t i = 0; i < (uint32_t)w->pieces->n; i++) {
        if (i) put(w, ",");
        put_wordpiece_text(w, rr_gguf_next_text(w->pieces, &at), type_of(w, i));
        rr_buf_printf(w->out, ":%" PRIu32, i);
    }
    put(w, "}}}");
    return RR_OK;
}

/* ---- byte-level BPE: RoBERTa, Qwen ---------------------------------------------------------- */

static const struct {
    const char *pre;    /* tokenizer.ggml.pre */
    const char *before; /* normalizer and pre-tokenizer */
} bpe_kinds[] = {
    { "qwen2",
      "\"normalizer\":{\"type\":\"NFC\"},"
      "\"pre_tokenizer\":{\"type\":\"Sequence\","
      "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
      "{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
      "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
      "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},"
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
      "\"use_regex\":false}]}," },
    { "modern-bert", "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}," },
    { "roberta-bpe",
      "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
      "\"trim_offsets\":true,\"use_regex\":true}," },
    { "gpt-2",
      "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
      "\"trim_offsets\":true,\"use_regex\":true}," },
};

static int put_merges(struct writer *w)
{
    const struct rr_gguf_value *merges;
    size_t at = 0;
    int rc = rr_gguf_array(w->g, "tokenizer.ggml.merges", true, RR_GGUF_TEXT, &merges, w->err);

    if (rc) return rc;
    put(w, "},\"merges\":[");
    for (uint64_t i = 0; i < merges->n; i++) {
        struct rr_text text = rr_gguf_next_text(merges, &at);

        if (rr_utf8_invalid(text) != SIZE_MAX)
            return rr_fail(w->err, RR_EFORMAT,
                           "%s: tokenizer.ggml.merges[%" PRIu64 "] is not UTF-8", w->where, i);
        if (i) put(w, ",");
        rr_buf_json_string(w->out, text);
    }
    put(w, "]}}");
    return RR_OK;
}

static int put_roberta_ends(struct writer *w)
{
    int rc = need(w, w->cls, "bos_token_id");

    if (!rc) rc = need(w, w->sep, "eos_token_id");
    if (rc) return rc;
    put(w, "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[");
    put_piece(w, w->sep);
    rr_buf_printf(w->out, ",%" PRIu32 "],\"cls\":[", w->sep);
    put_piece(w, w->cls);
    rr_buf_printf(w->out, ",%" PRIu32 "],\"trim_offsets\":true,\"add_prefix_space\":false},",
                  w->cls);
    return RR_OK;
}

static int put_modernbert_ends(struct writer *w)
{
    int rc = need(w, w->cls, "cls_token_id");

    if (!rc) rc = need(w, w->sep, "seperator_token_id");
    if (!rc) put_template(w, false, false);
    return rc;
}

static int put_bpe(struct writer *w)
{
    struct rr_text pre = { "gpt-2", 5 }, arch = { "", 0 };
    size_t at = 0, i;
    int rc = rr_gguf_text(w->g, "tokenizer.ggml.pre", false, &pre, w->err);

    if (!rc) rc = rr_gguf_text(w->g, "general.architecture", true, &arch, w->err);
    if (rc) return rc;
    for (i = 0; i < RR_COUNT(bpe_kinds) && !rr_text_is(pre, bpe_kinds[i].pre);) i++;
    if (i == RR_COUNT(bpe_kinds))
        return rr_fail(
            w->err, RR_ENOTSUP,
            "%s: tokenizer.ggml.pre is \"%.*s\", supported are qwen2, modern-bert, "
            "roberta-bpe and gpt-2; rerankd convert writes files that have the whole tokenizer",
            w->where, (int)RR_MIN(pre.len, 60), pre.data);
    put_all_added(w);
    put(w, bpe_kinds[i].before);
    if (rr_text_is(arch, "bert"))
        rc = put_roberta_ends(w);
    else if (rr_text_is(arch, "modern-bert"))
        rc = put_modernbert_ends(w);
    else
        put(w, "\"post_processor\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
               "\"trim_offsets\":false,\"use_regex\":false},");
    if (rc) return rc;
    put(w, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
           "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"vocab\":{");
    for (i = 0; i < w->pieces->n; i++) {
        if (i) put(w, ",");
        rr_buf_json_string(w->out, rr_gguf_next_text(w->pieces, &at));
        rr_buf_printf(w->out, ":%zu", i);
    }
    return put_merges(w);
}

/* ---- SentencePiece's BPE: Gemma ------------------------------------------------------------- */

static int put_scored(struct writer *w)
{
    bool prefix = false;
    size_t at = 0;
    int rc = read_scores(w);

    if (!rc) rc = need(w, w->bos, "bos_token_id");
    if (!rc) rc = need(w, w->unk, "unknown_token_id");
    if (!rc) rc = rr_gguf_bool(w->g, "tokenizer.ggml.add_space_prefix", &prefix, w->err);
    if (rc) return rc;
    if (prefix)
        return rr_fail(w->err, RR_ENOTSUP,
                       "%s: tokenizer.ggml.add_space_prefix is true, supported is Gemma's false",
                       w->where);
    put_all_added(w);
    put(w, "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
           "\"\xE2\x96\x81\"},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" "
           "\"},\"behavior\":\"MergedWithPrevious\",\"invert\":false},\"post_processor\":{"
           "\"type\":\"TemplateProcessing\",\"single\":[");
    put_token(w, w->bos, 0);
    put(w, ",{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[");
    put_token(w, w->bos, 0);
    put(w, ",{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},");
    put_token(w, w->bos, 1);
    put(w, ",{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{");
    put_special(w, w->bos);
    put(w, "}},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
           "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},{\"type\":"
           "\"ByteFallback\"},{\"type\":\"Fuse\"}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
           "\"unk_token\":");
    put_piece(w, w->unk);
    put(w, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
           "\"byte_fallback\":true,\"ignore_merges\":false,\"vocab\":{");
    for (uint32_t i = 0; i < (uint32_t)w->pieces->n; i++) {
        if (i) put(w, ",");
        rr_buf_json_string(w->out, rr_gguf_next_text(w->pieces, &at));
        rr_buf_printf(w->out, ":%" PRIu32, i);
    }
    put(w, "},\"merges\":[");
    rc = rr_gguf_merges(w->pieces, w->scores, w->out);
    if (rc) return rr_fail(w->err, rc, "%s: out of memory for merges", w->where);
    put(w, "]}}");
    return RR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------ */

int rr_gguf_tokenizer(const struct rr_gguf *g, const char *where, struct rr_buf *out,
                      struct rr_error *err)
{
    struct writer w = { .g = g, .where = where, .out = out, .err = err };
    struct rr_text whole = { NULL, 0 }, model = { "", 0 };
    int rc = rr_gguf_text(g, "tokenizer.huggingface.json", false, &whole, err);

    if (rc) return rc;
    if (whole.data) {
        rr_buf_put(out, whole.data, whole.len);
    } else {
        rc = rr_gguf_text(g, "tokenizer.ggml.model", true, &model, err);
        if (!rc) rc = read_pieces(&w);
        if (rc) return rc;
        if (rr_text_is(model, "t5"))
            rc = put_unigram(&w);
        else if (rr_text_is(model, "bert"))
            rc = put_wordpiece(&w);
        else if (rr_text_is(model, "gpt2"))
            rc = put_bpe(&w);
        else if (rr_text_is(model, "llama"))
            rc = put_scored(&w);
        else
            rc = rr_fail(err, RR_ENOTSUP,
                         "%s: tokenizer.ggml.model is \"%.*s\", supported are bert, t5, gpt2 "
                         "and llama",
                         where, (int)RR_MIN(model.len, 60), model.data);
    }
    if (!rc && out->failed) rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    return rc;
}
