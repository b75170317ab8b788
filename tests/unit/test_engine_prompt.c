/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_prompt.c - models that read a pair inside a wording of their own: the same scores, cuts,
 * windows and refusals as for others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint_fixture.h"
#include "engine/prompts.h"
#include "engine_support.h"

#define MODEL "tests/golden/models/tiny-qwen3"

static struct rr_engine *engine;
static char text[20000]; /* many short words */

static int open_engine(void **state)
{
    struct rr_options opt = engine_options("cpu");

    (void)state;
    opt.model = MODEL;
    opt.cache_bytes = 1 << 20;
    engine = engine_open(&opt);
    for (size_t i = 0; i + 4 < sizeof(text); i += 4)
        memcpy(text + i, (i / 4) % 3 ? "mot " : "fin ", 4);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    rr_close(engine);
    return 0;
}

static struct rr_request request(const struct rr_text *doc)
{
    return (struct rr_request){ .query = { "fin ?", 5 }, .documents = doc, .n_documents = 1 };
}

static struct rr_score score(const struct rr_request *req)
{
    struct rr_error err = { 0 };
    struct rr_result *r;
    struct rr_score s;

    if (rr_score(engine, req, &r, &err)) fail_msg("%s", err.msg);
    s = r->scores[0];
    rr_result_free(r);
    assert_true(isfinite(s.logit));
    return s;
}

/* The suffix stays whole, so a cut pair is as long as allowed and says that it was cut. */
static void test_cut(void **state)
{
    struct rr_text doc = { text, 8000 };
    struct rr_request req = request(&doc);
    struct rr_score s = score(&req), again = score(&req);

    (void)state;
    assert_int_equal(s.tokens, rr_engine_info(engine)->max_length);
    assert_true(s.truncated);
    assert_memory_equal(&s.logit, &again.logit, sizeof(s.logit)); /* from the cache */
    doc.len = 8; /* what is left of a short text is all of it */
    s = score(&req);
    assert_false(s.truncated);
    assert_int_equal(s.tokens, s.full_tokens);
}

/* The best window alone, as a document of its own, has the score of the whole. */
static void test_windows(void **state)
{
    struct rr_text doc = { text, 6000 }, best;
    struct rr_request req = request(&doc), alone = request(&best);
    struct rr_score s, one;

    (void)state;
    req.window = (struct rr_window){ 100, 50, RR_POOL_MAX_SCORE };
    s = score(&req);
    assert_true(s.n_windows > 2);
    best = (struct rr_text){ text + s.window_start, s.window_end - s.window_start };
    one = score(&alone);
    assert_memory_equal(&s.logit, &one.logit, sizeof(s.logit));
}

static void test_refused(void **state)
{
    struct rr_text doc = { text, 100 };
    struct rr_request req = request(&doc);
    struct rr_error err = { 0 };
    struct rr_result *r;

    (void)state;
    req.truncate_side = RR_TRUNCATE_LEFT;
    assert_int_equal(rr_score(engine, &req, &r, &err), RR_EINVAL);
    assert_non_null(strstr(err.msg, "from the left"));
    req = request(&doc);
    req.max_length = 40; /* the wording alone has more */
    assert_int_equal(rr_score(engine, &req, &r, &err), RR_EINVAL);
    assert_non_null(strstr(err.msg, "max_length is 40, allowed are"));
}

/* A LogitScore's folder with a chat template of its own, which we do not follow. */
static void test_other_template(void **state)
{
#define OURS \
    "Judge whether the Document meets the requirements based on the Query and the Instruct " \
    "provided. Note that the answer can only be \\\"yes\\\""
    static const struct {
        const char *file, *text;
        bool other;
    } rows[] = {
        { "chat_template.jinja", "{{ messages }} judge it!", true },
        { "chat_template.jinja", "{{ '<|im_start|>system\\n" OURS "' }}", false },
        { "tokenizer_config.json", "{\"chat_template\":\"{{ messages }}\"}", true },
        { "tokenizer_config.json", "{\"chat_template\":\"system\\n" OURS "\"}", false },
        { "tokenizer_config.json",
          "{\"chat_template\":[{\"name\":\"a\",\"template\":\"x\"},{\"name\":\"b\",\"template\":\"" OURS
          "\"}]}",
          false },
        { "tokenizer_config.json", "{\"chat_template\":null}", false },
        { "tokenizer_config.json", "{}", false },
    };
    struct rr_model_info info = { .architecture = "Qwen3ForCausalLM",
                                  .judge = true,
                                  .modules = true,
                                  .words = { .given = true } };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct fixture_folder f = fixture_folder();

        fixture_write(&f, rows[i].file, rows[i].text, strlen(rows[i].text));
        if (rr_pairing_other_template(&info, f.path) != rows[i].other) fail_msg("row %zu", i);
        info.words.given = false; /* the network's own code has the wording */
        assert_false(rr_pairing_other_template(&info, f.path));
        info.words.given = true;
        fixture_remove(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_other_template),
    };

    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
