/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_errors.c - broken, hostile and unsupported tokenizer.json: one-line errors that name file,
 * field, found and expected; never a crash, never much memory; failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/mem.h"
#include "support/fault.h"
#include "tok_fixture.h"

#define UNI "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1]]}"
#define BPE(rest) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}," rest "}}"
#define WP(rest) \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"##\"," \
    "\"max_input_chars_per_word\":9," rest "}}"
#define ADDED(fields) "{\"added_tokens\":[{" fields "}]," UNI "}"
#define FLAGS "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false"

static const struct {
    const char *json;
    int rc;
    const char *says[3]; /* parts of the message */
    const char *why;
} broken[] = {
    { "", RR_EFORMAT, { "t.json", "ends at byte 0", "an object" }, "nothing" },
    { "[]", RR_EFORMAT, { "expected an object" }, "no object" },
    { "{}", RR_EFORMAT, { "model.vocab", "found nothing" }, "no model" },
    { "{\"model\":{}}", RR_EFORMAT, { "model.vocab" }, "no vocabulary" },
    { "{\"model\":3}", RR_EFORMAT, { "model.vocab" }, "model of a wrong type" },
    { "{" UNI "} x", RR_EFORMAT, { "t.json" }, "more after the object" },
    { "{" UNI "," UNI "}", RR_EFORMAT, { "model.vocab", "twice" }, "two models" },
    { "{\"version\":\"2.0\"," UNI "}", RR_ENOTSUP, { "version", "2.0", "1.0" }, "version" },
    { "{\"version\":1," UNI "}", RR_EFORMAT, { "version", "expected a string" }, "version type" },
    { "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}",
      RR_ENOTSUP,
      { "model.type", "WordLevel", "Unigram, WordPiece or BPE" },
      "model kind" },
    { "{\"model\":{\"vocab\":[]}}", RR_EFORMAT, { "model.type", "found nothing" }, "no kind" },
    /* vocabulary */
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",1e999]]}}",
      RR_EFORMAT,
      { "model.vocab", "out of range" },
      "infinite score" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",NaN]]}}",
      RR_EFORMAT,
      { "model.vocab", "offset", "a number" },
      "NaN" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
      RR_EFORMAT,
      { "model.vocab", "a score" },
      "no score" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[1,2]]}}",
      RR_EFORMAT,
      { "model.vocab", "a string" },
      "piece is a number" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"\\ud800\",2]]}}",
      RR_EFORMAT,
      { "model.vocab", "surrogate" },
      "lone surrogate" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"\xff\",2]]}}",
      RR_EFORMAT,
      { "model.vocab", "UTF-8" },
      "invalid UTF-8 in a piece" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\n\",2]]}}",
      RR_EFORMAT,
      { "model.vocab", "control character" },
      "bare control character" },
    { "{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}",
      RR_EFORMAT,
      { "model.vocab", "Unigram" },
      "a map for a Unigram model" },
    { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"a\",0]]}}",
      RR_EFORMAT,
      { "model.unk_id", "found 2" },
      "unk_id outside" },
    { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":\"x\",\"vocab\":[[\"a\",0]]}}",
      RR_EFORMAT,
      { "model.unk_id", "a string", "an integer" },
      "unk_id of a wrong type" },
    { WP("\"vocab\":{\"a\":-1}"), RR_EFORMAT, { "model.vocab", "id -1" }, "negative id" },
    { WP("\"vocab\":{\"a\":1.5}"), RR_EFORMAT, { "model.vocab", "id 1.5" }, "fractional id" },
    { WP("\"vocab\":{\"a\":4294967296}"), RR_EFORMAT, { "model.vocab" }, "huge id" },
    { WP("\"vocab\":{\"a\":200000000}"), RR_EFORMAT, { "model.vocab", "holes" }, "one large hole" },
    { WP("\"vocab\":{\"a\":0,\"b\":0}"), RR_EFORMAT, { "id 0 twice" }, "id twice" },
    { WP("\"vocab\":{\"a\":0,\"a\":1}"), RR_EFORMAT, { "same piece" }, "piece twice" },
    { WP("\"vocab\":[[\"a\",0]]"),
      RR_EFORMAT,
      { "model.vocab", "WordPiece" },
      "list for WordPiece" },
    { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}",
      RR_EFORMAT,
      { "model.unk_token", "found nothing" },
      "WordPiece without unk_token" },
    /* merges */
    { BPE("\"x\":0"), RR_EFORMAT, { "model.merges", "found nothing" }, "no merges" },
    { BPE("\"merges\":[\"a c\"]"), RR_EFORMAT, { "model.merges[0]" }, "unknown piece" },
    { BPE("\"merges\":[\"a b\",\"b a\"]"), RR_EFORMAT, { "model.merges[1]" }, "unknown result" },
    { BPE("\"merges\":[\"ab\"]"), RR_EFORMAT, { "model.merges[0]", "space" }, "no space" },
    { BPE("\"merges\":[\"a b\",[\"a\",\"b\"]]"),
      RR_EFORMAT,
      { "model.merges[1]", "mixed" },
      "mixed" },
    { BPE("\"merges\":[[\"a\"]]"), RR_EFORMAT, { "model.merges" }, "half a pair" },
    { BPE("\"merges\":{}"), RR_EFORMAT, { "model.merges", "an array" }, "merges of a wrong type" },
    { BPE("\"merges\":[],\"dropout\":0.1"), RR_ENOTSUP, { "model.dropout", "0.1" }, "random ids" },
    { BPE("\"merges\":[],\"fuse_unk\":1"),
      RR_EFORMAT,
      { "model.fuse_unk", "an integer" },
      "flag type" },
    /* normalizers */
    { "{\"normalizer\":{\"type\":\"Foo\"}," UNI "}",
      RR_ENOTSUP,
      { "t.json: normalizer.type", "\"Foo\"", "Precompiled" },
      "unknown normalizer" },
    { "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Bar\"}]}," UNI
      "}",
      RR_ENOTSUP,
      { "normalizer.normalizers[1].type", "\"Bar\"" },
      "unknown, nested" },
    { "{\"normalizer\":{\"type\":\"Sequence\"}," UNI "}",
      RR_EFORMAT,
      { "normalizer.normalizers" },
      "no list" },
    { "{\"normalizer\":[]," UNI "}",
      RR_EFORMAT,
      { "normalizer", "an array", "an object" },
      "type" },
    { "{\"normalizer\":{\"type\":\"Strip\"}," UNI "}",
      RR_EFORMAT,
      { "normalizer.strip_left" },
      "Strip without flags" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}," UNI
      "}",
      RR_EFORMAT,
      { "normalizer.pattern", "wrong at byte 1" },
      "pattern does not compile" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\bx\"},\"content\":\"\"}," UNI
      "}",
      RR_ENOTSUP,
      { "normalizer.pattern", "differently" },
      "\\b is another thing elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"content\":\"\"}," UNI
      "}",
      RR_ENOTSUP,
      { "intersection" },
      "class intersection" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[[:alpha:]]+\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "named class" },
      "marks are alphabetic elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[^[:^punct:]]\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "named class" },
      "a named class, inverted" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[[:digit:][:^space:]\\\\p{Lu}\\\\P{^M}]\"},"
      "\"content\":\"\"}," UNI "}",
      RR_OK,
      { NULL },
      "classes that are the same" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\p{Han}\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "property" },
      "a script" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[\\\\P{Alphabetic}]\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "property" },
      "a property" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\pL\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "property" },
      "text elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\v\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "escape" },
      "one character elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a{,2}\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "quantifier" },
      "text in PCRE2" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a(?i)b|c\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "(?i)" },
      "the rest of the group elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(?i)a|b\"},"
      "\"content\":\"\"}," UNI "}",
      RR_OK,
      { NULL },
      "the whole pattern in both" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(?i:Ss)\"},"
      "\"content\":\"\"}," UNI "}",
      RR_ENOTSUP,
      { "several" },
      "U+00DF elsewhere" },
    { "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)\"},"
      "\"content\":\"\"}," UNI "}",
      RR_OK,
      { NULL },
      "Llama's contractions" },
    { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}," UNI "}",
      RR_EFORMAT,
      { "normalizer.precompiled_charsmap", "0 bytes" },
      "empty map" },
    { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"@@@@\"}," UNI "}",
      RR_EFORMAT,
      { "precompiled_charsmap", "base64" },
      "not base64" },
    { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAAAAA=\"}," UNI
      "}",
      RR_EFORMAT,
      { "precompiled_charsmap", "4294967295" },
      "trie longer than the field" },
    { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":"
      "\"EAAAAAAAAABh/P9/AAAAAAAAAABhAA==\"}," UNI "}",
      RR_OK,
      { NULL },
      "unreachable state" },
    { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":"
      "\"CAAAAAAAAAAB/P9/AGEA\"}," UNI "}",
      RR_EFORMAT,
      { "precompiled_charsmap", "outside" },
      "state that points outside" },
    /* pre-tokenizers */
    { "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," UNI "}",
      RR_ENOTSUP,
      { "pre_tokenizer.type", "UnicodeScripts" },
      "unknown pre-tokenizer" },
    { "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}," UNI "}",
      RR_EFORMAT,
      { "pre_tokenizer.replacement", "one character" },
      "two characters" },
    { "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}," UNI
      "}",
      RR_ENOTSUP,
      { "prepend_scheme", "\"x\"" },
      "unknown scheme" },
    { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Removed\",\"invert\":false}," UNI
      "}",
      RR_EFORMAT,
      { "pre_tokenizer.pattern.Regex" },
      "no pattern" },
    { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":\"Odd\","
      "\"invert\":false}," UNI "}",
      RR_ENOTSUP,
      { "behavior", "\"Odd\"" },
      "unknown behaviour" },
    /* post-processors */
    { "{\"post_processor\":{\"type\":\"Foo\"}," UNI "}",
      RR_ENOTSUP,
      { "post_processor.type" },
      "kind" },
    { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
      "\"S\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}," UNI "}",
      RR_EFORMAT,
      { "post_processor.special_tokens.S", "found nothing" },
      "unknown special token" },
    { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\","
      "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}," UNI "}",
      RR_EFORMAT,
      { "single[0].Sequence.id", "\"A\"" },
      "B in the single template" },
    { "{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"s\",-1],\"cls\":[\"c\",0]}," UNI
      "}",
      RR_EFORMAT,
      { "post_processor.sep", "[token, id]" },
      "negative id" },
    /* added tokens */
    { ADDED("\"id\":1"), RR_EFORMAT, { "added_tokens[0].single_word" }, "no flags" },
    { ADDED("\"id\":1," FLAGS ",\"special\":true"),
      RR_EFORMAT,
      { "added_tokens[0].content" },
      "no text" },
    { ADDED("\"id\":-1," FLAGS ",\"special\":true,\"content\":\"x\""),
      RR_EFORMAT,
      { "added_tokens[0].id", "found -1" },
      "negative id" },
    { ADDED("\"id\":99999999999," FLAGS ",\"special\":true,\"content\":\"x\""),
      RR_EFORMAT,
      { "added_tokens[0].id" },
      "id beyond 32 bits" },
    { "{\"added_tokens\":[7]," UNI "}",
      RR_EFORMAT,
      { "added_tokens[0]", "an object" },
      "no object" },
    /* decoder: malformed is an error at open, unknown is not */
    { "{\"decoder\":{\"type\":\"WordPiece\"}," UNI "}", RR_EFORMAT, { "decoder.prefix" }, "field" },
    { "{\"decoder\":{\"type\":\"CTC\"}," UNI "}", RR_OK, { NULL }, "unknown decoder" },
    { "{\"truncation\":{\"max_length\":1},\"padding\":7," UNI "}",
      RR_OK,
      { NULL },
      "ignored sections" },
    { "{\"truncation\":{\"direction\":\"Middle\"}," UNI "}",
      RR_ENOTSUP,
      { "truncation.direction", "\"Middle\"", "Left or Right" },
      "no side to cut at" },
};

static void test_broken(void **state)
{
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(broken); i++) {
        struct rr_error err = { 0 };
        struct rr_tok *tok;
        int rc = rr_tok_parse(&tok, rr_text(broken[i].json), "t.json", &err);

        if (rc != broken[i].rc)
            fail_msg("%s: status %d, expected %d (%s)", broken[i].why, rc, broken[i].rc, err.msg);
        assert_true((rc == RR_OK) == (tok != NULL));
        for (k = 0; k < 3 && broken[i].says[k]; k++)
            if (!strstr(err.msg, broken[i].says[k]))
                fail_msg("%s: \"%s\" does not say \"%s\"", broken[i].why, err.msg,
                         broken[i].says[k]);
        if (rc) {
            assert_int_equal(err.code, rc);
            assert_non_null(strstr(err.msg, "t.json"));
            assert_null(strchr(err.msg, '\n'));
        }
        rr_tok_close(tok);
    }
}

static void test_unknown_decoder(void **state)
{
    struct rr_text json = rr_text("{\"decoder\":{\"type\":\"CTC\"}," UNI "}");
    struct rr_error err = { 0 };
    struct tok_fixture f;
    struct rr_buf out;
    int32_t id = 1;

    (void)state;
    tok_fixture_parse(&f, json, "t.json");
    rr_buf_init(&out, RR_MEM_MISC, 100);
    assert_int_equal(rr_tok_decode(f.tok, &id, 1, true, &out, &err), RR_ENOTSUP);
    assert_non_null(strstr(err.msg, "decoder.type"));
    assert_int_equal(out.len, 0);
    rr_buf_free(&out);
    tok_fixture_close(&f);
}

/* A text that no piece covers, in a model without an unknown token: an error, not another id. */
static void test_no_unknown_token(void **state)
{
    static const char *const files[] = {
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[[\"a\",-1]]}}",
        WP("\"vocab\":{\"a\":0}"),
        BPE("\"merges\":[],\"unk_token\":\"none\""),
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(files); i++) {
        struct rr_error err = { 0 };
        struct rr_tok_ids ids;
        struct tok_fixture f;

        tok_fixture_parse(&f, rr_text(files[i]), "t.json");
        assert_int_equal(rr_tok_encode(f.tok, f.a, rr_text("aza"), 0, 0, &ids, &err), RR_ENOTSUP);
        assert_non_null(strstr(err.msg, "model.unk"));
        assert_int_equal(rr_tok_encode(f.tok, f.a, rr_text("a"), 0, 0, &ids, &err), RR_OK);
        assert_int_equal(ids.n, 1);
        tok_fixture_close(&f);
    }
}

static const char *const goldens[] = {
    "tests/golden/models/tiny-bert/tokenizer.json",
    "tests/golden/models/tiny-roberta/tokenizer.json",
    "tests/golden/models/tiny-xlmr-odd/tokenizer.json",
    "tests/golden/models/tiny-qwen3/tokenizer.json",
};

/* Opens a damaged file and, if that works, uses it. */
static void try_file(struct rr_text json, const char *what, size_t at)
{
    struct rr_error err = { 0 };
    struct rr_tok_scratch *s = NULL;
    struct rr_tok_ids ids;
    struct rr_tok *tok;
    size_t now, peak;
    int rc = rr_tok_parse(&tok, json, "t.json", &err);

    if (rc) {
        if (!err.msg[0] || !strstr(err.msg, "t.json") || strchr(err.msg, '\n'))
            fail_msg("%s at %zu: message \"%s\"", what, at, err.msg);
        return;
    }
    assert_int_equal(rr_tok_scratch_open(&s, tok, &err), RR_OK);
    rc = rr_tok_encode(tok, s,
                       rr_text("D\xc3\xa9lai de 14 jours, <mask> </s> \xed\x95\x9c e\xcc\x81 "
                               "don't  x"),
                       0, RR_TOK_OFFSETS, &ids, &err);
    if (rc != RR_OK && rc != RR_ENOTSUP) fail_msg("%s at %zu: status %d", what, at, rc);
    rr_tok_scratch_close(s);
    rr_tok_close(tok);
    rr_mem_usage(RR_MEM_TOKENIZER, &now, &peak);
    assert_int_equal(now, 0);
    assert_true(peak < 64u << 20);
}

static void test_cut(void **state)
{
    size_t i, at, len, step;

    (void)state;
    for (i = 0; i < RR_COUNT(goldens); i++) {
        char *text = tok_read(goldens[i], &len);

        /* Every byte of the first and last 300, and steps of a prime in between. */
        for (at = 0; at < len; at += step) {
            struct rr_error err = { 0 };
            struct rr_tok *tok;
            char *part = malloc(at + 1);

            assert_non_null(part);
            memcpy(part, text, at); /* of its own, so that a sanitizer sees a read past the cut */
            if (rr_tok_parse(&tok, (struct rr_text){ part, at }, "t.json", &err) == RR_OK) {
                /* Only white space may be missing. */
                if (strspn(text + at, " \r\n\t") != len - at)
                    fail_msg("%s cut at %zu was opened", goldens[i], at);
                rr_tok_close(tok);
            } else if (!strstr(err.msg, "t.json")) {
                fail_msg("%s cut at %zu: message \"%s\"", goldens[i], at, err.msg);
            }
            free(part);
            step = at < 300 || len - at < 300 ? 1 : RR_MIN(4001, len - at - 299);
        }
        free(text);
    }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_mutated(void **state)
{
    static const char *const words[] = { "null", "-1",         "1e400",   "[]",   "{}",
                                         "\"\"", "4294967295", "\\ud800", "\xff", "\"type\"",
                                         "]",    "}",          "true" };
    uint32_t seed = 20240229, round, k;
    size_t i, len;

    (void)state;
    for (i = 0; i < RR_COUNT(goldens); i++) {
        char *text = tok_read(goldens[i], &len), *copy = malloc(len);

        assert_non_null(copy);
        for (round = 0; round < 120; round++) {
            memcpy(copy, text, len);
            for (k = 1 + next_random(&seed) % 3; k > 0; k--) {
                /* Half of the changes in the small sections, which are at the start. */
                size_t at = next_random(&seed) % (round % 2 ? len : RR_MIN(len, (size_t)4000));
                const char *w = words[next_random(&seed) % RR_COUNT(words)];

                if (next_random(&seed) % 2)
                    copy[at] = (char)next_random(&seed);
                else
                    memcpy(copy + at, w, RR_MIN(strlen(w), len - at));
            }
            try_file((struct rr_text){ copy, len }, goldens[i], round);
        }
        free(copy);
        free(text);
    }
}

static void test_invalid_text(void **state)
{
    static const char *const texts[] = { "\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                         "a \x80 b" };
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    struct tok_fixture f;
    size_t i;

    (void)state;
    tok_fixture_open(&f, "tests/golden/models/tiny-xlmr");
    for (i = 0; i < RR_COUNT(texts); i++) {
        assert_int_equal(rr_tok_encode(f.tok, f.a, rr_text(texts[i]), 0, 0, &ids, &err), RR_EINVAL);
        assert_non_null(strstr(err.msg, "UTF-8"));
    }
    tok_fixture_close(&f);
}

/* ---- failing allocations ----
 * Those of this layer.  jansson keeps the C library's allocator here: it asserts when memory runs out
 * inside a string with escapes. */

struct torture {
    const char *path;
    char *json;
    size_t len;
};

static int open_and_use(void *user)
{
    const struct torture *t = user;
    struct rr_tok_scratch *s = NULL;
    struct rr_tok *tok = NULL;
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    struct rr_buf out;
    int rc = rr_tok_parse(&tok, (struct rr_text){ t->json, t->len }, "t.json", &err);

    rr_buf_init(&out, RR_MEM_MISC, 1 << 20);
    if (!rc) rc = rr_tok_scratch_open(&s, tok, &err);
    if (!rc)
        rc =
            rr_tok_encode(tok, s, rr_text("D\xc3\xa9lai de 14 jours \xe4\xb8\xad\xe6\x96\x87 a  b"),
                          0, RR_TOK_OFFSETS, &ids, &err);
    if (!rc) rc = rr_tok_decode(tok, ids.ids, ids.n, true, &out, &err);
    rr_buf_free(&out);
    rr_tok_scratch_close(s);
    rr_tok_close(tok);
    return rc;
}

static void test_allocations(void **state)
{
    static const char *const small[] = {
        "{\"added_tokens\":[{\"id\":1," FLAGS ",\"special\":true,\"content\":\"a\"}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
        "\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"_\"},{\"type\":\"BertNormalizer\","
        "\"clean_text\":true,\"handle_chinese_chars\":true,\"lowercase\":true,\"strip_accents\":null}]},"
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
        "\"_\"},\"content\":\" \"},{\"type\":\"Fuse\"}]}," UNI "}",
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true},"
        "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"a\",0],\"cls\":[\"b\",1],"
        "\"trim_offsets\":true,\"add_prefix_space\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}",
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(small); i++) {
        struct torture t = { "", (char *)(uintptr_t)small[i], strlen(small[i]) };
        struct fault_report r = fault_each(open_and_use, &t);

        assert_true(r.allocations > 30);
        /* What may fail without harm: just-in-time code of patterns. */
        print_message("%llu allocations, %llu not needed\n", (unsigned long long)r.allocations,
                      (unsigned long long)r.survived);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken),           cmocka_unit_test(test_unknown_decoder),
        cmocka_unit_test(test_no_unknown_token), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_mutated),          cmocka_unit_test(test_invalid_text),
        cmocka_unit_test(test_allocations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
