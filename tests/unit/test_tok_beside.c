/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_beside.c - what the files beside tokenizer.json change in it.  The ids are those of
 * transformers 5 and sentence-transformers 6 for the same folders. */
#include "checkpoint_fixture.h"
#include "tok_fixture.h"

#include "base/attr.h"
#include "support/fault.h"

#define BERT(strip, lower) \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true," \
    "\"strip_accents\":" strip ",\"lowercase\":" lower "}"
#define CASED BERT("null", "false")
#define LOWERCASE "{\"type\":\"Lowercase\"}"
#define CLASS(name) "\"tokenizer_class\":\"" name "\""
#define LOWER "{\"do_lower_case\":true,\"max_seq_length\":128}"

static const char text[] = "Foo \xc3\x89 foo\xe4\xb8\xad"; /* Foo É foo中 */

static const struct {
    const char *normalizer, *tokenizer_config, *sentence; /* the last two NULL: no such file */
    int modules;    /* 1: there is a modules.json; 2: and it is of a CrossEncoder */
    int32_t ids[5]; /* up to the first 0 */
    bool other;     /* another tokenizer than without them */
    const char *why;
} rows[] = {
    { CASED, NULL, NULL, 0, { 6, 8, 5, 10 }, false, "the file alone" },
    { CASED,
      "{" CLASS("BertTokenizer") "}",
      NULL,
      0,
      { 5, 9, 5, 10 },
      true,
      "nothing said: the class's own default is lower case" },
    { CASED, "{\"do_lower_case\":false}", NULL, 0, { 6, 8, 5, 10 }, false, "what it has" },
    { CASED,
      "{\"do_lower_case\":true," CLASS("BertTokenizer") "}",
      NULL,
      0,
      { 5, 9, 5, 10 },
      true,
      "and accents go with it" },
    { CASED, "{\"do_lower_case\":true}", NULL, 0, { 5, 9, 5, 10 }, true, "no class" },
    { CASED,
      "{\"do_lower_case\":true," CLASS("ElectraTokenizerFast") "}",
      NULL,
      0,
      { 5, 9, 5, 10 },
      true,
      "Electra's is BERT's" },
    { CASED,
      "{\"do_lower_case\":true," CLASS("PreTrainedTokenizerFast") "}",
      NULL,
      0,
      { 6, 8, 5, 10 },
      false,
      "a class that takes the file as it is" },
    { CASED,
      "{\"do_lower_case\":true,\"strip_accents\":false}",
      NULL,
      0,
      { 5, 7, 5, 10 },
      true,
      "accents stay" },
    { CASED,
      "{\"do_lower_case\":false,\"strip_accents\":true}",
      NULL,
      0,
      { 6, 13, 5, 10 },
      true,
      "accents alone" },
    { CASED,
      "{\"do_lower_case\":false,\"strip_accents\":null}",
      NULL,
      0,
      { 6, 8, 5, 10 },
      false,
      "null: as lowercase" },
    { BERT("true", "false"),
      "{\"strip_accents\":null}",
      NULL,
      0,
      { 6, 8, 5, 10 },
      true,
      "null wins, too" },
    { CASED,
      "{\"tokenize_chinese_chars\":false}",
      NULL,
      0,
      { 6, 8, 1 },
      true,
      "one word with its Chinese" },
    { CASED, "{\"do_lower_case\":7}", NULL, 0, { 6, 8, 5, 10 }, false, "no boolean" },
    { LOWERCASE, "{\"do_lower_case\":false}", NULL, 0, { 5, 7, 1 }, false, "none of BERT's" },
    { CASED, NULL, LOWER, 2, { 5, 7, 5, 10 }, true, "lower case, with its accents" },
    { CASED, "{\"do_lower_case\":true}", LOWER, 2, { 5, 9, 5, 10 }, true, "both" },
    { CASED, NULL, LOWER, 0, { 6, 8, 5, 10 }, false, "not read without modules.json" },
    { CASED, NULL, LOWER, 1, { 6, 8, 5, 10 }, false, "nor for another kind of model" },
    { CASED, NULL, "{\"do_lower_case\":false}", 2, { 6, 8, 5, 10 }, false, "false" },
    { CASED, NULL, "{}", 2, { 6, 8, 5, 10 }, false, "not said" },
    { CASED, NULL, NULL, 2, { 6, 8, 5, 10 }, false, "no such file" },
    { "null", NULL, LOWER, 2, { 5, 7, 1 }, true, "no normalizer" },
    { LOWERCASE, NULL, LOWER, 2, { 5, 7, 1 }, false, "it is one already" },
    { "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}," LOWERCASE "]}",
      NULL,
      LOWER,
      2,
      { 5, 7, 1 },
      false,
      "it has one already" },
    { "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
      "\"Foo\"},\"content\":\"Bar\"}]}",
      NULL,
      LOWER,
      2,
      { 5, 7, 1 },
      true,
      "before the steps that are there" },
};

static void write_tokenizer(const struct fixture_folder *f, const char *normalizer,
                            const char *post)
{
    static const char *const pieces[] = { "[PAD]",      "[UNK]", "[CLS]",        "[SEP]",
                                          "[MASK]",     "foo",   "Foo",          "\xc3\xa9",
                                          "\xc3\x89",   "e",     "\xe4\xb8\xad", "##\xc3\xa9",
                                          "##\xc3\x89", "E",     "Bar",          "bar" };
    char json[2048];
    size_t len =
        (size_t)snprintf(json, sizeof(json),
                         "{\"normalizer\":%s,\"post_processor\":%s,\"pre_tokenizer\":{\"type\":"
                         "\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\","
                         "\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
                         "\"max_input_chars_per_word\":100,\"vocab\":{",
                         normalizer, post);

    for (size_t k = 0; k < RR_COUNT(pieces); k++)
        len += (size_t)snprintf(json + len, sizeof(json) - len, "%s\"%s\":%zu", k ? "," : "",
                                pieces[k], k);
    len += (size_t)snprintf(json + len, sizeof(json) - len, "}}}");
    fixture_write(f, "tokenizer.json", json, len);
}

static void write_post(const struct fixture_folder *f, const char *post, const char *config)
{
    write_tokenizer(f, "null", post);
    if (config) fixture_write(f, "tokenizer_config.json", config, strlen(config));
}

static void write_kind(const struct fixture_folder *f)
{
    static const char kind[] = "{\"model_type\":\"CrossEncoder\"}";

    fixture_write(f, "config_sentence_transformers.json", kind, strlen(kind));
}

static void write_folder(const struct fixture_folder *f, size_t i)
{
    write_tokenizer(f, rows[i].normalizer, "null");
    if (rows[i].tokenizer_config)
        fixture_write(f, "tokenizer_config.json", rows[i].tokenizer_config,
                      strlen(rows[i].tokenizer_config));
    if (rows[i].sentence)
        fixture_write(f, "sentence_bert_config.json", rows[i].sentence, strlen(rows[i].sentence));
    if (rows[i].modules) fixture_write(f, "modules.json", "[]", 2);
    if (rows[i].modules == 2) write_kind(f);
}

static void check_ids(struct tok_fixture *t, size_t i, const char *which)
{
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    uint32_t n = 0;

    while (n < 5 && rows[i].ids[n]) n++;
    if (rr_tok_encode(t->tok, t->a, rr_text(text), 0, 0, &ids, &err)) fail_msg("%s", err.msg);
    if (ids.n != n || memcmp(ids.ids, rows[i].ids, n * sizeof(*ids.ids)) != 0)
        fail_msg("row %zu, %s (%s): %u ids, %d %d %d", i, rows[i].why, which, ids.n, ids.ids[0],
                 ids.n > 1 ? ids.ids[1] : 0, ids.n > 2 ? ids.ids[2] : 0);
}

/* The folder's tokenizer, and the text that stands for all of its files. */
static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_error err = { 0 };
        struct tok_fixture all, alone;
        struct fixture_bytes file;
        struct rr_buf whole;

        write_folder(&f, i);
        tok_fixture_open(&all, f.path);
        check_ids(&all, i, "folder");
        file = fixture_read(f.path, "tokenizer.json");
        tok_fixture_parse(&alone, (struct rr_text){ file.data, file.len }, "alone");
        if ((rr_tok_fingerprint(all.tok) != rr_tok_fingerprint(alone.tok)) != rows[i].other)
            fail_msg("row %zu, %s: fingerprint", i, rows[i].why);
        tok_fixture_close(&alone);
        tok_fixture_close(&all);
        free(file.data);
        rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
        assert_int_equal(rr_tok_json(&whole, f.path, &err), RR_OK);
        if ((whole.len > 0) != rows[i].other) fail_msg("row %zu, %s: text", i, rows[i].why);
        if (whole.len) {
            tok_fixture_parse(&all, (struct rr_text){ whole.data, whole.len }, "whole");
            check_ids(&all, i, "text");
            tok_fixture_close(&all);
        }
        rr_buf_free(&whole);
        fixture_remove(&f);
    }
}

static void test_side(void **state)
{
    static const char left[] = "{\"truncation_side\":\"left\",\"model_max_length\":77}";
    struct fixture_folder f = fixture_folder();
    struct rr_error err = { 0 };
    struct tok_fixture t;
    struct rr_buf whole;

    (void)state;
    write_folder(&f, 0);
    fixture_write(&f, "tokenizer_config.json", left, strlen(left));
    tok_fixture_open(&t, f.path);
    assert_true(rr_tok_cuts_left(t.tok));
    assert_int_equal(rr_tok_max_length(t.tok), 77);
    tok_fixture_close(&t);
    rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
    assert_int_equal(rr_tok_json(&whole, f.path, &err), RR_OK);
    tok_fixture_parse(&t, (struct rr_text){ whole.data, whole.len }, "whole");
    assert_true(rr_tok_cuts_left(t.tok));
    tok_fixture_close(&t);
    rr_buf_free(&whole);
    fixture_remove(&f);
}

static void test_no_such_side(void **state)
{
    static const char capital[] = "{\"truncation_side\":\"Left\"}";
    struct fixture_folder f = fixture_folder();
    struct rr_error err = { 0 };
    struct rr_tok *tok;

    (void)state;
    write_folder(&f, 0);
    fixture_write(&f, "tokenizer_config.json", capital, strlen(capital));
    assert_int_equal(rr_tok_open(&tok, f.path, NULL, &err), RR_ENOTSUP);
    assert_non_null(strstr(err.msg, "truncation_side is \"Left\", expected left or right"));
    fixture_remove(&f);
}

#define TEMPLATE(b) \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{" \
    "\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{" \
    "\"Sequence\":{\"id\":\"B\",\"type_id\":" b \
    "}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":" b \
    "}}],\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]}," \
    "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false}"
#define BERT_POST "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}"
#define NO_TYPES "{\"model_input_names\":[\"input_ids\",\"attention_mask\"]}"

/* A tokenizer that does not name token_type_ids gives a network none, and it takes zeros. */
static void test_types(void **state)
{
    static const struct {
        const char *post, *config;
        int32_t ids[7]; /* of "foo" and "e", up to the first 0 */
        bool types;     /* the second text has type 1 */
        bool changed;
    } posts[] = {
        { TEMPLATE("1"), NULL, { 2, 5, 9, 3 }, true, false },
        { TEMPLATE("1"), NO_TYPES, { 2, 5, 9, 3 }, false, true },
        { TEMPLATE("1"),
          "{\"model_input_names\":[\"input_ids\",\"token_type_ids\"]}",
          { 2, 5, 9, 3 },
          true,
          false },
        { TEMPLATE("1"), "{\"model_input_names\":[]}", { 2, 5, 9, 3 }, true, false },
        { TEMPLATE("0"), NO_TYPES, { 2, 5, 9, 3 }, false, false },
        { BERT_POST, NULL, { 2, 5, 3, 9, 3 }, true, false },
        { BERT_POST, NO_TYPES, { 2, 5, 3, 9, 3 }, false, true },
        { "null", NULL, { 5, 9 }, true, false },
        { "null", NO_TYPES, { 5, 9 }, false, true },
        { BYTE_LEVEL, NO_TYPES, { 5, 9 }, false, true },
        { "{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL "," TEMPLATE("1") "]}",
          NO_TYPES,
          { 2, 5, 9, 3 },
          false,
          true },
        { "{\"type\":\"RobertaProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2],"
          "\"trim_offsets\":true,\"add_prefix_space\":false}",
          NO_TYPES,
          { 2, 5, 3, 3, 9, 3 },
          false,
          false },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(posts); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_error err = { 0 };
        struct rr_buf whole;
        uint32_t n = 0, got;

        write_post(&f, posts[i].post, posts[i].config);
        while (posts[i].ids[n]) n++;
        rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
        assert_int_equal(rr_tok_json(&whole, f.path, &err), RR_OK);
        if ((whole.len > 0) != posts[i].changed) fail_msg("row %zu: text", i);
        for (int turn = 0; turn < (whole.len ? 2 : 1); turn++) { /* the folder, the text */
            struct tok_fixture t;
            int32_t *ids, *types;

            if (turn)
                tok_fixture_parse(&t, (struct rr_text){ whole.data, whole.len }, "whole");
            else
                tok_fixture_open(&t, f.path);
            ids = tok_pair(&t, rr_text("foo"), rr_text("e"), 16, 0, 0, &types, &got);
            if (got != n || memcmp(ids, posts[i].ids, n * sizeof(*ids)) != 0)
                fail_msg("row %zu: %u ids", i, got);
            for (uint32_t k = 0, sum = 0; k < n; k++) {
                sum += types[k] != 0;
                if (k + 1 == n && (sum > 0) != posts[i].types) fail_msg("row %zu: types", i);
            }
            free(ids);
            tok_fixture_close(&t);
        }
        rr_buf_free(&whole);
        fixture_remove(&f);
    }
}

#define NETWORK(type) "{\"model_type\":\"" type "\"}"
#define METASPACE(scheme) \
    "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"" scheme \
    "\",\"split\":true}"
#define BYTES(add) \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":false}," \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":" add \
    ",\"trim_offsets\":true,\"use_regex\":false}]}"

/* What the class of the tokenizer, named or the network's, makes of its configuration.  As
 * transformers 5.23 does with such files; the ids are those of "A.a". */
static void test_classes(void **state)
{
    static const char json[] =
        "{\"normalizer\":%s,\"pre_tokenizer\":%s,\"model\":{\"type\":\"WordPiece\",\"unk_token\":"
        "\"?\",\"continuing_subword_prefix\":\"\",\"max_input_chars_per_word\":100,\"vocab\":{"
        "\"?\":0,\"A\":1,\"a\":2,\".\":3,\"\xe2\x96\x81\":4,\"\xc4\xa0\":5,\"\xe2\x96\x81.\":6}}}";
    static const struct {
        const char *norm, *pre, *config, *net; /* the last two NULL: no such file */
        int32_t ids[7];
        const char *why;
    } cases[] = {
        { CASED, "null", NULL, NETWORK("bert"), { 1, 3, 2 }, "no such file, so nothing said" },
        { CASED, "null", "{}", NETWORK("electra"), { 2, 3, 2 }, "a BERT's by its network" },
        { CASED, "null", "{\"do_lower_case\":false}", NETWORK("bert"), { 1, 3, 2 }, "said" },
        { CASED, "null", "{}", NETWORK("new"), { 1, 3, 2 }, "a network with none of its own" },
        { CASED,
          "null",
          "{" CLASS("BertTokenizer") "}",
          NETWORK("modernbert"),
          { 1, 3, 2 },
          "ModernBERT takes the file as it is" },
        { CASED,
          "null",
          "{}",
          "{\"tokenizer_class\":\"BertTokenizer\"}",
          { 2, 3, 2 },
          "config.json can name it, too" },
        { "null",
          BYTES("false"),
          "{\"add_prefix_space\":true}",
          NETWORK("qwen3"),
          { 5, 1, 3, 2 },
          "Qwen's" },
        { "null", BYTES("true"), "{}", NETWORK("qwen3"), { 1, 3, 2 }, "not, by default" },
        { "null",
          BYTES("false"),
          "{\"add_prefix_space\":true," CLASS("Qwen2TokenizerFast") "}",
          NULL,
          { 5, 1, 3, 2 },
          "by name" },
        { "null",
          BYTES("false"),
          "{\"add_prefix_space\":true," CLASS("PreTrainedTokenizerFast") "}",
          NETWORK("qwen3"),
          { 1, 3, 2 },
          "the file as it is" },
        { "null",
          BYTES("false"),
          "{\"add_prefix_space\":true," CLASS("PreTrainedTokenizerFast") "}",
          NETWORK("qwen2"),
          { 5, 1, 3, 2 },
          "the name of a Qwen2's class does not count" },
        { "null",
          BYTES("false"),
          "{\"add_prefix_space\":true}",
          NULL,
          { 1, 3, 2 },
          "nothing tells whose" },
        { "null",
          METASPACE("always"),
          "{\"add_prefix_space\":false}",
          NETWORK("xlm-roberta"),
          { 1, 3, 2 },
          "XLM-RoBERTa's" },
        { "null", METASPACE("never"), "{}", NETWORK("xlm-roberta"), { 4, 1, 3, 2 }, "by default" },
        { "null",
          METASPACE("always"),
          "{\"add_prefix_space\":false}",
          NETWORK("deberta-v2"),
          { 4, 1, 3, 2 },
          "DeBERTa's is still first" },
        { "null",
          METASPACE("always"),
          "{\"do_lower_case\":true}",
          NETWORK("deberta-v2"),
          { 4, 2, 3, 2 },
          "DeBERTa's lower case" },
        { LOWERCASE,
          METASPACE("always"),
          "{}",
          NETWORK("deberta-v2"),
          { 4, 2, 3, 2 },
          "and that of the file" },
        { "null",
          METASPACE("always"),
          "{\"split_by_punct\":true," CLASS("DebertaV2TokenizerFast") "}",
          NULL,
          { 4, 1, 6, 4, 2 },
          "DeBERTa's punctuation" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_error err = { 0 };
        struct tok_fixture t;
        struct rr_tok_ids ids;
        char file[1024];
        uint32_t n = 0;
        size_t len = (size_t)snprintf(file, sizeof(file), json, cases[i].norm, cases[i].pre);

        fixture_write(&f, "tokenizer.json", file, len);
        if (cases[i].config)
            fixture_write(&f, "tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        if (cases[i].net) fixture_write(&f, "config.json", cases[i].net, strlen(cases[i].net));
        tok_fixture_open(&t, f.path);
        assert_int_equal(rr_tok_encode(t.tok, t.a, rr_text("A.a"), 0, 0, &ids, &err), RR_OK);
        while (cases[i].ids[n]) n++;
        if (ids.n != n || memcmp(ids.ids, cases[i].ids, n * sizeof(*ids.ids)) != 0)
            fail_msg("row %zu, %s: %u ids, %d %d", i, cases[i].why, ids.n, ids.ids[0], ids.ids[1]);
        tok_fixture_close(&t);
        fixture_remove(&f);
    }
}

/* split_special_tokens: what is spelled like a special token is text, for every call. */
static void test_split_special(void **state)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":false,\"special\":true}],\"model\":{\"type\":\"WordPiece\","
        "\"unk_token\":\"?\",\"continuing_subword_prefix\":\"\",\"max_input_chars_per_word\":100,"
        "\"vocab\":{\"?\":0,\"<\":1,\"s>\":2}}}";
    static const char split[] = "{\"split_special_tokens\":true}";
    struct fixture_folder f = fixture_folder();
    struct rr_error err = { 0 };
    struct tok_fixture t, alone;
    struct rr_tok_ids ids;
    struct rr_buf whole;

    (void)state;
    fixture_write(&f, "tokenizer.json", json, strlen(json));
    fixture_write(&f, "tokenizer_config.json", split, strlen(split));
    tok_fixture_open(&t, f.path);
    assert_int_equal(rr_tok_encode(t.tok, t.a, rr_text("<s>"), 0, 0, &ids, &err), RR_OK);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 2);
    tok_fixture_parse(&alone, (struct rr_text){ json, strlen(json) }, "alone");
    assert_true(rr_tok_fingerprint(t.tok) != rr_tok_fingerprint(alone.tok));
    tok_fixture_close(&alone);
    tok_fixture_close(&t);
    rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
    assert_int_equal(rr_tok_json(&whole, f.path, &err), RR_ENOTSUP);
    assert_non_null(strstr(err.msg, "split_special_tokens"));
    rr_buf_free(&whole);
    fixture_remove(&f);
}

/* RoBERTa's add_prefix_space, true of false files and the other way round. */
static void test_prefix_space(void **state)
{
    static const char json[] =
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,\"trim_offsets\":true},"
        "\"post_processor\":%s,\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"a\":1,"
        "\"\xc4\xa0\":2,\"\xc4\xa0"
        "a\":3},\"merges\":[[\"\xc4\xa0\",\"a\"]]}}";
    static const char roberta[] = "{\"type\":\"RobertaProcessing\",\"sep\":[\"<s>\",0],\"cls\":"
                                  "[\"<s>\",0],\"trim_offsets\":true,\"add_prefix_space\":false}";
    static const struct {
        const char *file, *post, *config;
        int32_t id; /* of "a": 3 with a space before it */
        bool other;
    } spaces[] = {
        { "false", roberta, "{}", 1, false },
        { "true", roberta, "{}", 3, false },
        { "false", "null", "{\"add_prefix_space\":true," CLASS("RobertaTokenizer") "}", 3, true },
        { "true", "null", "{\"add_prefix_space\":false," CLASS("RobertaTokenizerFast") "}", 1,
          true },
        { "true", "null", "{\"add_prefix_space\":true," CLASS("RobertaTokenizer") "}", 3, false },
        { "false", roberta, "{\"add_prefix_space\":true}", 3, true },
        { "false", "null", "{\"add_prefix_space\":true}", 1, false },
        { "false", roberta, "{\"add_prefix_space\":1}", 1, false },
        { "false", roberta, "{\"add_prefix_space\":true," CLASS("PreTrainedTokenizerFast") "}", 1,
          false },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(spaces); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_error err = { 0 };
        struct tok_fixture all, alone;
        struct rr_tok_ids ids;
        char file[1024];
        size_t len = (size_t)snprintf(file, sizeof(file), json, spaces[i].file, spaces[i].post);

        fixture_write(&f, "tokenizer.json", file, len);
        fixture_write(&f, "tokenizer_config.json", spaces[i].config, strlen(spaces[i].config));
        tok_fixture_open(&all, f.path);
        assert_int_equal(rr_tok_encode(all.tok, all.a, rr_text("a"), 0, 0, &ids, &err), RR_OK);
        if (ids.n != 1 || ids.ids[0] != spaces[i].id)
            fail_msg("row %zu: %u ids, the first is %d", i, ids.n, ids.ids[0]);
        tok_fixture_parse(&alone, (struct rr_text){ file, len }, "alone");
        if ((rr_tok_fingerprint(all.tok) != rr_tok_fingerprint(alone.tok)) != spaces[i].other)
            fail_msg("row %zu: fingerprint", i);
        tok_fixture_close(&alone);
        tok_fixture_close(&all);
        fixture_remove(&f);
    }
}

static int open_folder(void *user)
{
    const struct fixture_folder *f = user;
    struct rr_tok *tok = NULL;
    struct rr_error err = { 0 };
    struct rr_buf whole;
    int rc = rr_tok_open(&tok, f->path, NULL, &err);

    rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
    if (!rc) rc = rr_tok_json(&whole, f->path, &err);
    rr_buf_free(&whole);
    rr_tok_close(tok);
    return rc;
}

/* Allocations of ours; jansson keeps the C library's. */
static void test_allocations(void **state)
{
    static const char all[] =
        "{\"model_input_names\":[\"input_ids\"],\"truncation_side\":\"left\"}";
    struct fixture_folder f = fixture_folder();

    (void)state;
    write_post(&f, BERT_POST, all);
    fixture_write(&f, "modules.json", "[]", 2);
    write_kind(&f);
    fixture_write(&f, "sentence_bert_config.json", LOWER, strlen(LOWER));
    assert_true(fault_each(open_folder, &f).allocations > 20);
    fixture_remove(&f);
}

static void test_refused(void **state)
{
    struct fixture_folder f = fixture_folder();
    struct rr_error err = { 0 };
    struct rr_tok *tok;
    struct rr_buf whole;

    (void)state;
    write_folder(&f, 0);
    fixture_write(&f, "modules.json", "[]", 2);
    write_kind(&f);
    fixture_write(&f, "sentence_bert_config.json", "{\"do_lower_case\":1}", 19);
    assert_int_equal(rr_tok_open(&tok, f.path, NULL, &err), RR_EFORMAT);
    assert_non_null(strstr(err.msg, "sentence_bert_config.json: do_lower_case"));
    rr_buf_init(&whole, RR_MEM_TOKENIZER, 1 << 20);
    assert_int_equal(rr_tok_json(&whole, f.path, &err), RR_EFORMAT);
    assert_int_equal(whole.len, 0);
    rr_buf_free(&whole);
    fixture_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),        cmocka_unit_test(test_side),
        cmocka_unit_test(test_types),       cmocka_unit_test(test_prefix_space),
        cmocka_unit_test(test_classes),     cmocka_unit_test(test_split_special),
        cmocka_unit_test(test_allocations), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_such_side)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
