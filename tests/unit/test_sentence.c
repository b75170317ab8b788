/* SPDX-License-Identifier: Apache-2.0 */
/* test_sentence.c - what sentence-transformers writes beside a CrossEncoder. */
#include "checkpoint_fixture.h"

#include "base/attr.h"
#include "model/sentence.h"

static const struct {
    const char *config, *own, *bert; /* NULL: no such file */
    int code;
    bool identity;
    uint32_t max_length;
    const char *message;
} rows[] = {
    { NULL, NULL, NULL, RR_OK, false, 0, "" },
    { "{}", NULL, "{}", RR_OK, false, 0, "" },
    { "{\"sbert_ce_default_activation_function\":\"torch.nn.modules.linear.Identity\"}", NULL, NULL,
      RR_OK, true, 0, "" },
    { "{\"sbert_ce_default_activation_function\":null}", NULL, NULL, RR_OK, false, 0, "" },
    { "{\"sentence_transformers\":{\"activation_fn\":\"torch.nn.modules.linear.Identity\"}}", NULL,
      NULL, RR_OK, true, 0, "" },
    { "{\"sentence_transformers\":{\"activation_fn\":\"torch.nn.modules.activation.Sigmoid\"},"
      "\"sbert_ce_default_activation_function\":\"torch.nn.modules.linear.Identity\"}",
      NULL, NULL, RR_OK, false, 0, "" }, /* the newer field wins */
    { "{\"sbert_ce_default_activation_function\":\"torch.nn.modules.linear.Identity\"}",
      "{\"activation_fn\":\"torch.nn.modules.activation.Sigmoid\"}", NULL, RR_OK, false, 0, "" },
    { NULL, "{\"activation_fn\":\"Identity\",\"prompts\":{}}", "{\"max_seq_length\":256}", RR_OK,
      true, 256, "" },
    { NULL, NULL, "{\"max_seq_length\":null}", RR_OK, false, 0, "" },
    { NULL, "{\"activation_fn\":\"torch.nn.modules.activation.Tanh\"}", NULL, RR_ENOTSUP, false, 0,
      "config_sentence_transformers.json: activation_fn is \"torch.nn.modules.activation.Tanh\", "
      "supported are Identity and Sigmoid" },
    { NULL, "{\"activation_fn\":1}", NULL, RR_EFORMAT, false, 0, "activation_fn" },
    { NULL, "{\"prompts\":{\"q\":\"query: \"},\"default_prompt_name\":\"q\"}", NULL, RR_OK, false,
      0, "" },
    { NULL, "{\"prompts\":{\"q\":\"query: \"},\"default_prompt_name\":null}", NULL, RR_OK, false, 0,
      "" },
    { NULL, "{\"prompts\":{},\"default_prompt_name\":\"q\"}", NULL, RR_EFORMAT, false, 0,
      "config_sentence_transformers.json: default_prompt_name names no string of prompts" },
    { NULL, "{\"prompts\":{\"q\":\"a\\u0000b\"},\"default_prompt_name\":\"q\"}", NULL, RR_ETOOBIG,
      false, 0, "the default prompt has 3 bytes, expected at most 1023 without NUL" },
    { NULL, "{", NULL, RR_EFORMAT, false, 0, "config_sentence_transformers.json" },
    { NULL, NULL, "{\"processing_kwargs\":{\"text\":{\"max_length\":96}},\"max_seq_length\":256}",
      RR_OK, false, 96, "" },
    { NULL, NULL, "{\"processing_kwargs\":{\"common\":{\"max_length\":96}}}", RR_OK, false, 96,
      "" },
    { NULL, NULL,
      "{\"processing_kwargs\":{\"text\":{\"truncation\":\"longest_first\",\"padding\":true,"
      "\"add_special_tokens\":true},\"image\":{\"truncation\":false}}}",
      RR_OK, false, 0, "" },
    { NULL, NULL, "{\"processing_kwargs\":{\"text\":{\"truncation\":true}}}", RR_OK, false, 0, "" },
    { NULL, NULL, "{\"processing_kwargs\":{\"text\":{\"truncation\":\"only_second\"}}}", RR_ENOTSUP,
      false, 0,
      "sentence_bert_config.json: processing_kwargs has truncation \"only_second\", supported is "
      "longest_first" },
    { NULL, NULL, "{\"processing_kwargs\":{\"common\":{\"truncation\":false}}}", RR_ENOTSUP, false,
      0, "truncation false" },
    { NULL, NULL, "{\"processing_kwargs\":{\"text\":{\"add_special_tokens\":false}}}", RR_ENOTSUP,
      false, 0, "add_special_tokens false" },
    { NULL, NULL, "{\"max_seq_length\":0}", RR_EFORMAT, false, 0, "max_seq_length" },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_sentence s;
        struct rr_error err = { 0 };
        int rc;

        if (rows[i].config)
            fixture_write(&f, "config.json", rows[i].config, strlen(rows[i].config));
        if (rows[i].own)
            fixture_write(&f, "config_sentence_transformers.json", rows[i].own,
                          strlen(rows[i].own));
        if (rows[i].bert)
            fixture_write(&f, "sentence_bert_config.json", rows[i].bert, strlen(rows[i].bert));
        rc = rr_sentence_read(&s, f.path, &err);
        if (rc != rows[i].code || !strstr(err.msg, rows[i].message))
            fail_msg("row %zu: %d %s", i, rc, err.msg);
        if (!rc && strcmp(s.prompt, rows[i].own && strstr(rows[i].own, "\"q\"}") ? "query: " : ""))
            fail_msg("row %zu: prompt \"%s\"", i, s.prompt);
        if (!rc && (s.identity != rows[i].identity || s.max_length != rows[i].max_length))
            fail_msg("row %zu: identity %d, %u tokens", i, s.identity, s.max_length);
        fixture_remove(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
