/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - config.json: what is taken, what is refused and with which words. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"

/* The shape of bge-reranker-v2-m3. */
static const char base[] =
    "{\"architectures\":[\"XLMRobertaForSequenceClassification\"],\"hidden_size\":1024,"
    "\"num_hidden_layers\":24,\"num_attention_heads\":16,\"intermediate_size\":4096,"
    "\"vocab_size\":250002,\"max_position_embeddings\":8194,\"type_vocab_size\":1,"
    "\"pad_token_id\":1,\"layer_norm_eps\":1e-05,\"hidden_act\":\"gelu\","
    "\"id2label\":{\"0\":\"LABEL_0\"},\"position_embedding_type\":\"absolute\"}";

static int parse(struct rr_model_config *c, const char *patch, const char *drop,
                 struct rr_error *err)
{
    json_t *root = json_loads(base, 0, NULL);
    json_t *more = json_loads(patch, JSON_ALLOW_NUL, NULL);
    char *text;
    int rc;

    assert_non_null(root);
    assert_non_null(more);
    if (drop) assert_int_equal(json_object_del(root, drop), 0);
    assert_int_equal(json_object_update(root, more), 0);
    text = json_dumps(root, 0);
    assert_non_null(text);
    memset(err, 0, sizeof(*err));
    rc = rr_config_parse(c, (struct rr_text){ text, strlen(text) }, "config.json", err);
    free(text);
    json_decref(root);
    json_decref(more);
    return rc;
}

static const struct {
    const char *patch; /* put into base */
    const char *drop;  /* taken out of base before */
    int rc;
    const char *part; /* of the message */
    const char *why;
} cases[] = {
    { "{}", NULL, RR_OK, "", "the base itself" },
    { "{\"architectures\":[\"RobertaForSequenceClassification\"]}", NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"CamembertForSequenceClassification\"]}", NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"BertForSequenceClassification\"]}", NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"BertForSequenceClassification\",\"X\"]}", NULL, RR_OK, "",
      "the first one decides" },
    { "{\"hidden_act\":\"gelu_python\"}", NULL, RR_OK, "", "the same function" },
    { "{\"hidden_act\":\"relu\"}", NULL, RR_OK, "", "the operations have it" },
    { "{\"hidden_act\":null}", NULL, RR_OK, "", "null is the default" },
    { "{\"is_decoder\":false,\"add_cross_attention\":false}", NULL, RR_OK, "",
      "as usually written" },
    { "{\"num_labels\":1}", "id2label", RR_OK, "", "the other way to say one label" },
    { "{\"num_labels\":1,\"id2label\":{\"0\":\"a\",\"1\":\"b\"}}", NULL, RR_OK, "",
      "num_labels beats id2label, as in transformers 5" },
    { "{\"num_labels\":null}", NULL, RR_OK, "", "null says nothing" },
    { "{\"layer_norm_eps\":1}", NULL, RR_OK, "", "an integer is a number" },

    { "{}", "architectures", RR_EFORMAT, "architectures is missing", "" },
    { "{\"architectures\":null}", NULL, RR_EFORMAT, "architectures is missing", "null" },
    { "{\"architectures\":[]}", NULL, RR_EFORMAT, "without a string at its start", "none" },
    { "{\"architectures\":[7]}", NULL, RR_EFORMAT, "without a string at its start", "a number" },
    { "{\"architectures\":\"BertForSequenceClassification\"}", NULL, RR_EFORMAT,
      "architectures is a string, expected an array", "not an array" },
    { "{\"architectures\":[\"MPNetModel\"]}", NULL, RR_ENOTSUP,
      "architectures[0] is \"MPNetModel\", supported are XLMRobertaForSequenceClassification, "
      "RobertaForSequenceClassification, CamembertForSequenceClassification, "
      "BertForSequenceClassification",
      "an embedding model: the list helps" },
    { "{\"architectures\":[\"LlamaForCausalLM\"]}", NULL, RR_ENOTSUP, "\"LlamaForCausalLM\"", "" },
    { "{\"architectures\":[\"BertForSequenceClassification\\u0000\"]}", NULL, RR_ENOTSUP,
      "supported are", "NUL is not an end" },

    { "{\"id2label\":{\"0\":\"a\",\"1\":\"b\",\"2\":\"c\"}}", NULL, RR_ENOTSUP,
      "id2label has 3 labels, expected 1", "natural language inference" },
    { "{\"id2label\":{}}", NULL, RR_ENOTSUP, "id2label has 0 labels", "" },
    { "{\"id2label\":[\"a\"]}", NULL, RR_EFORMAT, "id2label is an array", "wrong type" },
    { "{\"num_labels\":3}", NULL, RR_ENOTSUP, "num_labels is 3, expected 1",
      "that one label is named does not help" },
    { "{\"num_labels\":2}", "id2label", RR_ENOTSUP, "num_labels is 2, expected 1", "" },
    { "{}", "id2label", RR_ENOTSUP, "num_labels is 2 by default",
      "the reference writes no id2label for two labels" },
    { "{\"num_labels\":\"1\"}", "id2label", RR_EFORMAT, "num_labels: found a string", "" },

    { "{\"position_embedding_type\":\"relative_key\"}", NULL, RR_ENOTSUP,
      "position_embedding_type is \"relative_key\", supported is absolute", "" },
    { "{\"is_decoder\":true}", NULL, RR_ENOTSUP, "is_decoder is true, supported is false", "" },
    { "{\"add_cross_attention\":true}", NULL, RR_ENOTSUP, "add_cross_attention is true", "" },
    { "{\"is_decoder\":1}", NULL, RR_EFORMAT, "is_decoder: found an integer", "" },
    { "{\"hidden_act\":\"gelu_new\"}", NULL, RR_ENOTSUP,
      "hidden_act is \"gelu_new\", supported are gelu, gelu_python, relu",
      "the tanh form differs in the fourth digit" },
    { "{\"hidden_act\":7}", NULL, RR_EFORMAT, "hidden_act: found an integer", "" },

    { "{}", "hidden_size", RR_EFORMAT, "hidden_size is missing, expected 1 to 65536", "" },
    { "{}", "num_hidden_layers", RR_EFORMAT, "num_hidden_layers is missing", "" },
    { "{}", "num_attention_heads", RR_EFORMAT, "num_attention_heads is missing", "" },
    { "{}", "intermediate_size", RR_EFORMAT, "intermediate_size is missing", "" },
    { "{}", "vocab_size", RR_EFORMAT, "vocab_size is missing", "" },
    { "{}", "max_position_embeddings", RR_EFORMAT, "max_position_embeddings is missing", "" },
    { "{\"hidden_size\":null}", NULL, RR_EFORMAT, "hidden_size is missing", "null is no size" },
    { "{\"hidden_size\":0}", NULL, RR_EFORMAT, "hidden_size: found 0, expected 1 to", "" },
    { "{\"hidden_size\":-1}", NULL, RR_EFORMAT, "hidden_size: found -1", "" },
    { "{\"hidden_size\":4294967296}", NULL, RR_EFORMAT, "hidden_size: found 4294967296", "2^32" },
    { "{\"hidden_size\":1024.0}", NULL, RR_EFORMAT, "hidden_size: found a number", "a real" },
    { "{\"hidden_size\":\"1024\"}", NULL, RR_EFORMAT, "hidden_size: found a string", "" },
    { "{\"hidden_size\":1000}", NULL, RR_EFORMAT,
      "hidden_size is 1000, expected a multiple of num_attention_heads, 16", "" },
    { "{\"num_attention_heads\":2048}", NULL, RR_EFORMAT,
      "hidden_size is 1024, expected a multiple", "more heads than columns" },
    { "{\"num_hidden_layers\":0}", NULL, RR_EFORMAT, "num_hidden_layers: found 0", "" },
    { "{\"num_hidden_layers\":100000}", NULL, RR_EFORMAT, "num_hidden_layers: found 100000", "" },
    { "{\"vocab_size\":2147483648}", NULL, RR_EFORMAT, "vocab_size: found 2147483648", "" },
    { "{\"type_vocab_size\":0}", NULL, RR_EFORMAT, "type_vocab_size: found 0", "no table" },
    { "{\"pad_token_id\":-1}", NULL, RR_EFORMAT, "pad_token_id: found -1", "" },
    { "{\"pad_token_id\":250002}", NULL, RR_EFORMAT, "pad_token_id is 250002, expected less than",
      "" },
    { "{\"max_position_embeddings\":2}", NULL, RR_EFORMAT,
      "max_position_embeddings is 2, expected more than pad_token_id + 1, 2",
      "no room for a token" },
    { "{\"layer_norm_eps\":\"1e-5\"}", NULL, RR_EFORMAT, "layer_norm_eps: found a string", "" },
    { "{\"layer_norm_eps\":-1e-5}", NULL, RR_EFORMAT, "layer_norm_eps is -1e-05", "" },
    { "{\"layer_norm_eps\":0}", NULL, RR_EFORMAT,
      "layer_norm_eps is 0, expected more than 0 and at most 1",
      "equal values would be divided by 0" },
    { "{\"layer_norm_eps\":-0.0}", NULL, RR_EFORMAT, "layer_norm_eps is -0", "" },
    { "{\"layer_norm_eps\":1e-50}", NULL, RR_EFORMAT, "layer_norm_eps is 0", "in float32" },
    { "{\"layer_norm_eps\":1.5}", NULL, RR_EFORMAT, "layer_norm_eps is 1.5", "" },
    { "{\"layer_norm_eps\":1e300}", NULL, RR_EFORMAT, "layer_norm_eps: found 1e+300", "" },

    { "{\"architectures\":[\"ModernBertForSequenceClassification\"]}", NULL, RR_OK, "",
      "defaults of the rest" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"layer_types\":[\"full_attention\"]}",
      NULL, RR_EFORMAT, "layer_types has 1 entries, expected", "one short" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"num_hidden_layers\":1,\"layer_types\":[\"linear_attention\"]}",
      NULL, RR_ENOTSUP, "layer_types[0] is \"linear_attention\"", "unknown" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"num_hidden_layers\":1,\"layer_types\":[3]}",
      NULL, RR_ENOTSUP, "\"not a string\"", "" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"classifier_pooling\":\"max\"}",
      NULL, RR_ENOTSUP, "classifier_pooling is \"max\", expected cls or mean", "" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"local_attention\":0}", NULL,
      RR_EFORMAT, "local_attention: found 0", "" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"global_rope_theta\":0}", NULL,
      RR_EFORMAT, "global_rope_theta is 0", "" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"yarn\"}}}",
      NULL, RR_ENOTSUP, "type \"yarn\", supported is default", "" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"rope_scaling\":{\"type\":\"linear\"}}",
      NULL, RR_ENOTSUP, "type \"linear\"", "the older field" },
    { "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"num_attention_heads\":1024}",
      NULL, RR_EFORMAT, "heads of 1 columns, expected an even number", "" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"]}", NULL, RR_OK, "",
      "no relative attention by default" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"pos_att_type\":[\"c2p\",\"p2p\"]}",
      NULL, RR_ENOTSUP, "supported are c2p and p2c", "" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"pos_att_type\":\"p2c|c2p\"}",
      NULL, RR_OK, "", "the older form" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"pos_att_type\":7}", NULL,
      RR_EFORMAT, "pos_att_type is an integer", "" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"conv_kernel_size\":3}", NULL,
      RR_ENOTSUP, "conv_kernel_size is 3, supported is 0", "the xlarge network" },
    { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"embedding_size\":128}", NULL,
      RR_ENOTSUP, "embedding_size is 128, supported is 1024", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\"}", NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"id2label\":{\"0\":\"a\",\"1\":\"b\"}}",
      NULL, RR_OK, "", "a causal network has no labels" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"num_key_value_heads\":3}",
      NULL, RR_EFORMAT, "num_key_value_heads is 3, expected a divisor", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"head_dim\":33}", NULL,
      RR_EFORMAT, "heads of 33 columns, expected an even number", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true}",
      NULL, RR_OK, "", "a window begins at layer 28, of 24" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":23}",
      NULL, RR_ENOTSUP, "windows of 4096 tokens", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":24}",
      NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":0,\"sliding_window\":null}",
      NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":0,\"sliding_window\":8193}",
      NULL, RR_ENOTSUP, "windows of 8193 tokens", "one position more" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":0,\"sliding_window\":8194}",
      NULL, RR_OK, "", "all tokens fit" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"max_window_layers\":0,\"layer_types\":[\"full_attention\"]}",
      NULL, RR_OK, "", "layer_types beats max_window_layers" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"use_sliding_window\":true,\"layer_types\":[\"full_attention\",\"sliding_attention\"]}",
      NULL, RR_ENOTSUP, "use_sliding_window is true and layers have windows", "" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"is_causal\":false}",
      NULL, RR_ENOTSUP, "is_causal is false, supported is true",
      "the reference then sees all tokens" },
    { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"is_causal\":true}", NULL,
      RR_OK, "", "" },
    { "{\"architectures\":[\"GemmaForCausalLM\"],\"hidden_act\":\"gelu_pytorch_tanh\"}", NULL,
      RR_OK, "", "" },
    { "{\"architectures\":[\"GemmaForCausalLM\"],\"use_bidirectional_attention\":true}", NULL,
      RR_ENOTSUP, "use_bidirectional_attention is true, supported is false", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"],\"position_embedding_type\":\"rope\"}",
      NULL, RR_OK, "", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"]}", NULL, RR_ENOTSUP,
      "position_embedding_type is \"absolute\"", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"],\"position_embedding_type\":\"rope\",\"layer_norm_type\":\"rms_norm\"}",
      NULL, RR_ENOTSUP, "layer_norm_type is \"rms_norm\"", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"],\"position_embedding_type\":\"rope\",\"logn_attention_scale\":true}",
      NULL, RR_ENOTSUP, "logn_attention_scale is true", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"],\"position_embedding_type\":\"rope\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}",
      NULL, RR_ENOTSUP, "supported is ntk", "" },
    { "{\"architectures\":[\"NewForSequenceClassification\"],\"position_embedding_type\":\"rope\",\"rope_scaling\":{\"type\":\"ntk\",\"factor\":0.5}}",
      NULL, RR_EFORMAT, "rope_scaling.factor 0.5", "" },
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rr_model_config c;
        struct rr_error err;
        int rc = parse(&c, cases[i].patch, cases[i].drop, &err);

        if (rc != cases[i].rc || (rc && !strstr(err.msg, cases[i].part)) ||
            (rc && strncmp(err.msg, "config.json: ", 13) != 0))
            fail_msg("%s without %s (%s): code %d, message \"%s\"", cases[i].patch,
                     cases[i].drop ? cases[i].drop : "nothing", cases[i].why, rc, err.msg);
    }
}

static void test_fields(void **state)
{
    struct rr_model_config c;
    struct rr_error err;

    (void)state;
    assert_int_equal(parse(&c, "{}", NULL, &err), RR_OK);
    assert_string_equal(c.architecture, "XLMRobertaForSequenceClassification");
    assert_int_equal(c.family, RR_FAMILY_ROBERTA);
    assert_int_equal(c.vocab, 250002);
    assert_int_equal(c.hidden, 1024);
    assert_int_equal(c.layers, 24);
    assert_int_equal(c.heads, 16);
    assert_int_equal(c.intermediate, 4096);
    assert_int_equal(c.positions, 8194);
    assert_int_equal(c.max_length, 8192); /* positions start at pad_token_id + 1 */
    assert_int_equal(c.types, 1);
    assert_int_equal(c.pad_id, 1);
    assert_int_equal(c.act, RR_ACT_GELU);
    assert_true(c.norm_eps == 1e-5f);

    assert_int_equal(parse(&c,
                           "{\"architectures\":[\"BertForSequenceClassification\"],"
                           "\"hidden_act\":\"relu\",\"pad_token_id\":null}",
                           "layer_norm_eps", &err),
                     RR_OK);
    assert_int_equal(c.family, RR_FAMILY_BERT);
    assert_int_equal(c.max_length, 8194); /* positions start at 0 */
    assert_int_equal(c.pad_id, 0);        /* the reference's default for BERT */
    assert_int_equal(c.act, RR_ACT_RELU);
    assert_true(c.norm_eps == 1e-12f);

    assert_int_equal(parse(&c, "{\"pad_token_id\":5}", NULL, &err), RR_OK);
    assert_int_equal(c.max_length, 8194 - 6);
    assert_int_equal(parse(&c, "{}", "type_vocab_size", &err), RR_OK);
    assert_int_equal(c.types, 2); /* the reference's default */
}

/* Fields whose words mean something else than they say. */
static void test_meanings(void **state)
{
    struct rr_model_config c;
    struct rr_error err;

    (void)state;
    assert_int_equal(parse(&c, "{\"architectures\":[\"GemmaForCausalLM\"]}", NULL, &err), RR_OK);
    assert_int_equal(c.act, RR_ACT_GELU_TANH); /* "gelu", as the first files have it */
    assert_int_equal(
        parse(&c, "{\"architectures\":[\"GemmaForCausalLM\"],\"hidden_act\":\"silu\"}", NULL, &err),
        RR_OK);
    assert_int_equal(c.act, RR_ACT_SILU);
    assert_int_equal(
        parse(&c, "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"gelu\"}", NULL, &err),
        RR_ENOTSUP); /* exact, as it says, which we have not */

    assert_int_equal(
        parse(&c, "{\"architectures\":[\"ModernBertForSequenceClassification\"]}", NULL, &err),
        RR_OK);
    assert_true(c.theta == 160000.0f && c.local_theta == 10000.0f);
    assert_int_equal(parse(&c,
                           "{\"architectures\":[\"ModernBertForSequenceClassification\"],"
                           "\"global_rope_theta\":80000,\"local_rope_theta\":null}",
                           NULL, &err),
                     RR_OK);
    assert_true(c.theta == 80000.0f && c.local_theta == 80000.0f); /* null: as global ones */
}

/* The configuration of an architecture with this activation and these fields. */
static void parse_as(struct rr_model_config *c, const char *architecture, const char *act,
                     const char *fields)
{
    struct rr_error err;
    char patch[400];

    snprintf(patch, sizeof(patch), "{\"architectures\":[\"%s\"],\"hidden_act\":\"%s\",%s}",
             architecture, act, fields);
    assert_int_equal(parse(c, patch, NULL, &err), RR_OK);
}

/* What attention by distance is told in capitals: as in the reference, where it is a text. */
static void test_relative_terms(void **state)
{
    static const struct {
        const char *fields;
        bool content_position, position_content, norm;
    } rows[] = {
        { "\"pos_att_type\":\"P2C|C2P\",\"norm_rel_ebd\":\"LAYER_NORM\"", true, true, true },
        { "\"pos_att_type\":\"c2p\",\"norm_rel_ebd\":\"none\"", true, false, false },
        { "\"pos_att_type\":[\"P2C\",\"c2p\"]", true, false, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rr_model_config c;

        parse_as(&c, "DebertaV2ForSequenceClassification", "gelu", rows[i].fields);
        if (c.relative.content_position != rows[i].content_position ||
            c.relative.position_content != rows[i].position_content ||
            c.relative.norm != rows[i].norm)
            fail_msg("%s: read otherwise", rows[i].fields);
    }
}

/* How far a local layer of ModernBERT sees to each side. */
static void test_window(void **state)
{
    static const struct {
        const char *fields;
        uint32_t window;
    } rows[] = {
        { "\"sliding_window\":null", 64 },
        { "\"local_attention\":32", 16 },
        { "\"local_attention\":7", 3 },
        { "\"sliding_window\":5", 5 },
        { "\"local_attention\":32,\"sliding_window\":5", 5 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rr_model_config c;

        parse_as(&c, "ModernBertForSequenceClassification", "gelu", rows[i].fields);
        if (c.window != rows[i].window) fail_msg("%s: %u", rows[i].fields, c.window);
    }
}

/* Where the base of the rotary angles may stand, and which place wins. */
static void test_rotary_base(void **state)
{
    static const struct {
        const char *fields;
        float theta;
    } rows[] = {
        { "\"rope_scaling\":null", 10000.0f },
        { "\"rope_theta\":1e6,\"rope_scaling\":{\"rope_type\":\"default\"}", 1e6f },
        { "\"rope_theta\":1e6,\"rope_parameters\":{\"rope_theta\":5e6}", 5e6f },
        { "\"rope_scaling\":{\"rope_type\":\"default\",\"rope_theta\":2e6}", 2e6f },
        { "\"rope_theta\":1e6,\"rope_scaling\":{\"rope_theta\":2e6},"
          "\"rope_parameters\":{\"rope_theta\":5e6}",
          2e6f },
        { "\"rope_scaling\":{\"rope_type\":\"default\"},\"rope_parameters\":{\"rope_theta\":5e6}",
          10000.0f },
        { "\"rope_scaling\":{},\"rope_parameters\":{\"rope_theta\":5e6}", 5e6f },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rr_model_config c;

        parse_as(&c, "Qwen3ForCausalLM", "silu", rows[i].fields);
        if (c.theta != rows[i].theta) fail_msg("%s: %g", rows[i].fields, (double)c.theta);
    }
}

/* What the reference takes where config.json says nothing is not what the other sizes suggest. */
static void test_defaults(void **state)
{
    static const struct {
        const char *patch;
        uint32_t head_dim, embedding;
        enum rr_act head_act;
    } rows[] = {
        { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\"}", 128, 0, 0 },
        { "{\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_act\":\"silu\",\"head_dim\":32}", 32,
          0, 0 },
        { "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_act\":\"silu\"}", 64, 0, 0 },
        { "{\"architectures\":[\"GemmaForCausalLM\"]}", 256, 0, 0 },
        { "{\"architectures\":[\"ElectraForSequenceClassification\"]}", 64, 128, RR_ACT_GELU },
        { "{\"architectures\":[\"ElectraForSequenceClassification\"],\"embedding_size\":1024}", 64,
          1024, RR_ACT_GELU },
        { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"]}", 64, 0, RR_ACT_GELU },
        { "{\"architectures\":[\"DebertaV2ForSequenceClassification\"],\"pooler_hidden_act\":\"tanh\"}",
          64, 0, RR_ACT_TANH },
        { "{\"architectures\":[\"ModernBertForSequenceClassification\"],"
          "\"classifier_activation\":\"tanh\"}",
          64, 0, RR_ACT_TANH },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rr_model_config c;
        struct rr_error err;

        if (parse(&c, rows[i].patch, NULL, &err)) fail_msg("%s: %s", rows[i].patch, err.msg);
        if (c.head_dim != rows[i].head_dim || c.embedding != rows[i].embedding ||
            c.head_act != rows[i].head_act)
            fail_msg("%s: %u columns a head, tables of %u, activation %d", rows[i].patch,
                     c.head_dim, c.embedding, (int)c.head_act);
    }
}

/* Texts that are not a JSON object at all. */
static void test_malformed(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *part;
    } rows[] = {
        { "", RR_EFORMAT, "config.json: JSON ends too early" },
        { "[]", RR_EFORMAT, "config.json: the file is an array, expected an object" },
        { "null", RR_EFORMAT, "config.json: the file is null" },
        { "{\"a\":1}x", RR_EFORMAT, "config.json: JSON has more after" },
        { "{\"a\":NaN}", RR_EFORMAT, "config.json: JSON" },
        { "{\"a\":\"\xff\"}", RR_EFORMAT, "not valid UTF-8" },
    };
    struct rr_model_config c;
    struct rr_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rr_text text = { rows[i].text, strlen(rows[i].text) };

        assert_int_equal(rr_config_parse(&c, text, "config.json", &err), rows[i].rc);
        if (!strstr(err.msg, rows[i].part)) fail_msg("%s: \"%s\"", rows[i].text, err.msg);
    }
    for (size_t len = 0; len < sizeof(base) - 1; len++) { /* cut at every byte */
        char *cut = malloc(len + !len);

        assert_non_null(cut);
        memcpy(cut, base, len);
        assert_int_equal(rr_config_parse(&c, (struct rr_text){ cut, len }, "config.json", &err),
                         RR_EFORMAT);
        free(cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),    cmocka_unit_test(test_fields),
        cmocka_unit_test(test_meanings), cmocka_unit_test(test_rotary_base),
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_window),   cmocka_unit_test(test_relative_terms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
