/* SPDX-License-Identifier: Apache-2.0 */
/* test_modules.c - modules.json and the files of the modules: what is taken and what is refused. */
#include "checkpoint_fixture.h"

#include <limits.h>
#include <stdlib.h>

#include "base/attr.h"
#include "model/model.h"
#include "model/modules.h"

#define TRANSFORMER "{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"}"
#define MODULE(path, type) ",{\"path\":\"" path "\",\"type\":\"a.b." type "\"}"
#define POOL MODULE("1_Pooling", "Pooling")
#define HEAD POOL MODULE("2_Dense", "Dense")
#define SCORES "\"in_features\":8,\"out_features\":1,\"module_output_name\":\"scores\"," IDENTITY
#define IDENTITY "\"activation_function\":\"torch.nn.modules.linear.Identity\""

static const struct {
    const char *modules, *pooling, *dense, *third; /* NULL: no such file */
    int code;
    const char *message; /* part of it */
} rows[] = {
    { "[" TRANSFORMER HEAD "]", "{\"pooling_mode\":\"cls\"}", "{" SCORES "}", NULL, RR_OK, "" },
    { "[" TRANSFORMER HEAD "]", "{\"pooling_mode_cls_token\":true}", "{" SCORES "}", NULL, RR_OK,
      "" }, /* older flags */
    { "[" TRANSFORMER POOL MODULE("x", "Dropout") MODULE("2_Dense", "Dense") "]", "{}",
      "{" SCORES "}", NULL, RR_OK, "" }, /* has no effect on scores */
    { "[" TRANSFORMER HEAD MODULE("3_Next", "LayerNorm") "]", "{}", "{" SCORES "}",
      "{\"dimension\":1}", RR_ENOTSUP, "LayerNorm comes after the scores" },
    { NULL, NULL, NULL, NULL, RR_ENOENT, "modules.json" },
    { "[" TRANSFORMER, NULL, NULL, NULL, RR_EFORMAT, "modules.json" },
    { "{}", NULL, NULL, NULL, RR_EFORMAT, "the file is an object, expected a list" },
    { "[]", NULL, NULL, NULL, RR_EFORMAT, "the file is empty, expected a list" },
    { "[1]", NULL, NULL, NULL, RR_ENOTSUP, "expected a Transformer" },
    { "[{\"path\":\"0_Transformer\",\"type\":\"a.Transformer\"}]", NULL, NULL, NULL, RR_ENOTSUP,
      "in \"0_Transformer\", expected a Transformer in \"\"" },
    { "[" TRANSFORMER "]", NULL, NULL, NULL, RR_ENOTSUP, "no module makes scores" },
    { "[" TRANSFORMER POOL "]", "{}", NULL, NULL, RR_ENOTSUP, "this is an embedding model" },
    { "[" TRANSFORMER POOL MODULE("2_Normalize", "Normalize") "]", "{}", NULL, NULL, RR_ENOTSUP,
      "[2].type is \"a.b.Normalize\", supported are" },
    { "[" TRANSFORMER MODULE("2_Dense", "Dense") "]", NULL, "{" SCORES "}", NULL, RR_ENOTSUP,
      "2_Dense/config.json: a Dense without a pooling" },
    { "[" TRANSFORMER POOL POOL "]", "{}", NULL, NULL, RR_ENOTSUP, "pooling comes twice" },
    { "[" TRANSFORMER HEAD "]", "{\"pooling_mode\":\"max\"}", NULL, NULL, RR_ENOTSUP,
      "1_Pooling/config.json: pooling_mode is \"max\", supported are cls and mean" },
    { "[" TRANSFORMER HEAD "]",
      "{\"pooling_mode_cls_token\":true,\"pooling_mode_max_tokens\":true}", NULL, NULL, RR_ENOTSUP,
      "pooling_mode is \"another\"" },
    { "[" TRANSFORMER HEAD "]", "{\"pooling_mode\":7}", NULL, NULL, RR_EFORMAT, "pooling_mode" },
    { "[" TRANSFORMER HEAD "]", "{}", NULL, NULL, RR_ENOENT, "2_Dense/config.json" },
    /* nothing outside of the folder is read */
    { "[" TRANSFORMER MODULE("..", "Pooling") "]", NULL, NULL, NULL, RR_EFORMAT,
      "[1].path is \"..\", expected the name of a folder" },
    { "[" TRANSFORMER MODULE("../etc", "Pooling") "]", NULL, NULL, NULL, RR_EFORMAT,
      "[1].path is \"../etc\"" },
    { "[" TRANSFORMER MODULE("/etc", "Pooling") "]", NULL, NULL, NULL, RR_EFORMAT,
      "[1].path is \"/etc\"" },
    { "[" TRANSFORMER MODULE("a\\u0000b", "Pooling") "]", NULL, NULL, NULL, RR_EFORMAT,
      "[1].path" },
    { "[" TRANSFORMER MODULE("", "Pooling") "]", NULL, NULL, NULL, RR_EFORMAT, "[1].path is \"\"" },
    /* sizes */
    { "[" TRANSFORMER HEAD "]", "{}", "{\"in_features\":4294967296,\"out_features\":1}", NULL,
      RR_EFORMAT, "in_features" },
    { "[" TRANSFORMER HEAD "]", "{}", "{\"in_features\":-1,\"out_features\":1}", NULL, RR_EFORMAT,
      "in_features" },
    { "[" TRANSFORMER HEAD "]", "{}", "{\"in_features\":9,\"out_features\":1}", NULL, RR_EFORMAT,
      "in_features is 9, expected 8, the width of what comes before" },
    { "[" TRANSFORMER HEAD "]", "{}", "{\"out_features\":1}", NULL, RR_EFORMAT,
      "in_features is missing" },
    { "[" TRANSFORMER HEAD "]", "{}",
      "{\"in_features\":8,\"out_features\":3,\"module_output_name\":\"scores\"," IDENTITY "}", NULL,
      RR_ENOTSUP, "out_features is 3, expected 1" },
    { "[" TRANSFORMER HEAD "]", "{}",
      "{\"in_features\":8,\"out_features\":1,\"module_output_name\":\"other\"}", NULL, RR_ENOTSUP,
      "module_output_name is \"other\"" },
    { "[" TRANSFORMER HEAD "]", "{}",
      "{\"in_features\":8,\"out_features\":1,\"activation_function\":\"mine.Act\"}", NULL,
      RR_ENOTSUP, "activation_function is \"mine.Act\", supported are" },
    { "[" TRANSFORMER HEAD "]", "{}", "[]", NULL, RR_EFORMAT, "2_Dense/config.json" },
};

static void put(const struct fixture_folder *f, const char *path, const char *text)
{
    struct fixture_folder sub;

    if (!text) return;
    if (snprintf(sub.path, sizeof(sub.path), "%s/%s", f->path, path) >= (int)sizeof(sub.path) ||
        mkdir(sub.path, 0700))
        fail_msg("%s: no folder", path);
    fixture_write(&sub, "config.json", text, strlen(text));
}

static void clear(const struct fixture_folder *f)
{
    static const char *const paths[] = { "1_Pooling", "2_Dense", "3_Next" };

    for (size_t i = 0; i < RR_COUNT(paths); i++) {
        struct fixture_folder sub;
        struct stat st;

        (void)!snprintf(sub.path, sizeof(sub.path), "%.200s/%s", f->path, paths[i]);
        if (stat(sub.path, &st) == 0) fixture_remove(&sub);
    }
    fixture_remove(f);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_modules m;
        struct rr_error err = { 0 };
        int rc;

        if (rows[i].modules)
            fixture_write(&f, "modules.json", rows[i].modules, strlen(rows[i].modules));
        put(&f, "1_Pooling", rows[i].pooling);
        put(&f, "2_Dense", rows[i].dense);
        put(&f, "3_Next", rows[i].third);
        rc = rr_modules_read(&m, f.path, 8, &err);
        if (rc != rows[i].code || (rc && !strstr(err.msg, rows[i].message)))
            fail_msg("row %zu: %d, \"%s\", expected %d, \"%s\"", i, rc, err.msg, rows[i].code,
                     rows[i].message);
        if (!rc) assert_int_equal(m.n, 1);
        clear(&f);
    }
}

/* A LogitScore behind a causal network with a vocabulary of 100 tokens. */
#define LOGIT "[" TRANSFORMER MODULE("1_Pooling", "LogitScore") "]"
static const struct {
    const char *modules, *config; /* NULL: no such file */
    int code;
    const char *message;
    int32_t yes, no;
} word_rows[] = {
    { NULL, NULL, RR_OK, "nothing is said", -1, -1 },
    { LOGIT, "{\"true_token_id\":7,\"false_token_id\":0}", RR_OK, "", 7, 0 },
    { LOGIT, "{\"true_token_id\":99,\"false_token_id\":null}", RR_OK, "", 99, -1 },
    { LOGIT, "{\"true_token_id\":0,\"module_input_name\":\"causal_logits\"}", RR_OK, "", 0, -1 },
    { LOGIT, "{\"true_token_id\":100}", RR_EFORMAT,
      "1_Pooling/config.json: true_token_id: found 100, expected 0 to 99", -1, -1 },
    { LOGIT, "{\"true_token_id\":7,\"false_token_id\":4294967303}", RR_EFORMAT,
      "false_token_id: found 4294967303, expected 0 to 99", -1, -1 }, /* 7 in 32 bits */
    { LOGIT, "{\"true_token_id\":-1}", RR_EFORMAT, "true_token_id: found -1, expected 0 to 99", -1,
      -1 }, /* Python would take the last one */
    { LOGIT, "{\"true_token_id\":7,\"false_token_id\":-2}", RR_EFORMAT,
      "false_token_id: found -2, expected 0 to 99", -1, -1 },
    { LOGIT, "{\"true_token_id\":7,\"false_token_id\":7}", RR_EFORMAT,
      "false_token_id is 7, as true_token_id is, expected another", -1, -1 },
    { LOGIT, "{\"false_token_id\":7}", RR_EFORMAT,
      "true_token_id is missing, expected a token's id, 0 to 99", -1, -1 },
    { LOGIT, "{\"true_token_id\":null}", RR_EFORMAT, "true_token_id is missing", -1, -1 },
    { LOGIT, "{\"true_token_id\":\"yes\"}", RR_EFORMAT,
      "1_Pooling/config.json: true_token_id: found a string, expected an integer", -1, -1 },
    { LOGIT, "{\"true_token_id\":7,\"false_token_id\":\"0\"}", RR_EFORMAT,
      "false_token_id: found a string, expected an integer", -1, -1 },
    { LOGIT, "{\"true_token_id\":7.0}", RR_EFORMAT, "true_token_id: found", -1, -1 },
    { LOGIT, "{\"true_token_id\":true}", RR_EFORMAT, "true_token_id: found", -1, -1 },
    { LOGIT, "{\"true_token_id\":[7]}", RR_EFORMAT, "true_token_id: found an array", -1, -1 },
    { LOGIT, "{\"true_token_id\":7,\"module_input_name\":\"x\"}", RR_ENOTSUP,
      "module_input_name is \"x\", supported is \"causal_logits\"", -1, -1 },
    { LOGIT, NULL, RR_ENOENT, "1_Pooling/config.json", -1, -1 },
    { LOGIT, "[]", RR_EFORMAT, "1_Pooling/config.json", -1, -1 },
    { "[" TRANSFORMER "]", NULL, RR_ENOTSUP, "no module makes scores, expected a LogitScore", -1,
      -1 },
    { "[" TRANSFORMER POOL "]", "{}", RR_ENOTSUP, /* Qwen3-Embedding */
      "[1].type is \"a.b.Pooling\", expected one LogitScore", -1, -1 },
    { "[" TRANSFORMER MODULE("1_Pooling", "LogitScore") MODULE("1_Pooling", "LogitScore") "]",
      "{\"true_token_id\":7}", RR_ENOTSUP, "[2].type", -1, -1 },
    { "[" TRANSFORMER MODULE("..", "LogitScore") "]", NULL, RR_EFORMAT, "[1].path is \"..\"", -1,
      -1 },
    { "{}", NULL, RR_EFORMAT, "the file is an object, expected a list", -1, -1 },
};

static void test_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(word_rows); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_words w;
        struct rr_error err = { 0 };
        int rc;

        if (word_rows[i].modules)
            fixture_write(&f, "modules.json", word_rows[i].modules, strlen(word_rows[i].modules));
        put(&f, "1_Pooling", word_rows[i].config);
        rc = rr_modules_words(&w, f.path, 100, &err);
        if (rc != word_rows[i].code || (rc && !strstr(err.msg, word_rows[i].message)))
            fail_msg("row %zu: %d, \"%s\", expected %d, \"%s\"", i, rc, err.msg, word_rows[i].code,
                     word_rows[i].message);
        if (!rc) {
            assert_int_equal(w.given, word_rows[i].modules != NULL);
            assert_int_equal(w.yes, word_rows[i].yes);
            assert_int_equal(w.no, word_rows[i].no);
        }
        clear(&f);
    }
}

/* Long lists end at a limit. */
static void test_many(void **state)
{
    struct fixture_folder f = fixture_folder();
    struct rr_modules m;
    struct rr_error err = { 0 };
    char text[2048] = "[" TRANSFORMER POOL;

    (void)state;
    for (size_t i = 0; i <= RR_MODULES_MAX; i++) strcat(text, MODULE("2_Dense", "Dense"));
    strcat(text, "]");
    fixture_write(&f, "modules.json", text, strlen(text));
    put(&f, "1_Pooling", "{}");
    put(&f, "2_Dense", "{\"in_features\":8,\"out_features\":8}");
    assert_int_equal(rr_modules_read(&m, f.path, 8, &err), RR_ETOOBIG);
    assert_non_null(strstr(err.msg, "modules.json: more than 8 layers"));
    clear(&f);
}

static void link_to(const struct fixture_folder *f, const char *folder, const char *name)
{
    char from[PATH_MAX + 64], to[512];

    (void)!snprintf(from, sizeof(from), "%s/%s", folder, name);
    (void)!snprintf(to, sizeof(to), "%s/%s", f->path, name);
    assert_int_equal(symlink(from, to), 0);
}

static uint64_t fingerprint_of(const char *folder)
{
    struct rr_model *m;
    struct rr_error err;
    uint64_t print;

    if (rr_model_open(&m, folder, &err)) fail_msg("%s", err.msg);
    print = rr_model_info(m)->fingerprint;
    rr_model_close(m);
    return print;
}

/* The same weights with another activation between them are another model: caches ask. */
static void test_fingerprint(void **state)
{
    static const char *const same[] = { "config.json", "model.safetensors", "modules.json",
                                        "1_Pooling",   "3_LayerNorm",       "4_Dense" };
    static const char tanh_module[] = "{\"in_features\":48,\"out_features\":48,\"bias\":false}";
    struct fixture_folder f = fixture_folder(), dense;
    char path[512], folder[PATH_MAX], module[PATH_MAX + 16];
    uint64_t prints[2];

    (void)state;
    assert_non_null(realpath(fixture_model("tiny-modules", path, sizeof(path)), folder));
    (void)!snprintf(module, sizeof(module), "%s/2_Dense", folder);
    for (size_t i = 0; i < RR_COUNT(same); i++) link_to(&f, folder, same[i]);
    put(&f, "2_Dense",
        "{\"in_features\":48,\"out_features\":48,\"bias\":false,"
        "\"activation_function\":\"torch.nn.modules.activation.GELU\"}");
    (void)!snprintf(dense.path, sizeof(dense.path), "%.200s/2_Dense", f.path);
    link_to(&dense, module, "model.safetensors");
    prints[0] = fingerprint_of(f.path);
    assert_true(prints[0] == fingerprint_of(folder));
    fixture_write(&dense, "config.json", tanh_module, sizeof(tanh_module) - 1);
    prints[1] = fingerprint_of(f.path);
    assert_true(prints[0] != prints[1]);
    fixture_remove(&dense);
    fixture_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_fingerprint),
    };

    return cmocka_run_group_tests_name("modules", tests, NULL, NULL);
}
