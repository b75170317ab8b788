/* SPDX-License-Identifier: Apache-2.0 */
/* test_forward.c - from ids to what a backend is given: positions, types, and what is refused.
 * The backend here records its batch; that the numbers are right is test_parity's matter. */
#include "checkpoint_fixture.h"

#include "model/model.h"

/* ---- a backend that records --------------------------------------------------------------- */

struct rr_loaded {
    int unused;
};

static struct {
    struct rr_loaded loaded;
    int rc; /* of load */
    int loads, unloads, runs;
    struct rr_batch batch;
    int32_t positions[64], types[64];
} seen;

static int fake_load(struct rr_device *device, const struct rr_program *program,
                     const struct rr_limits *limits, struct rr_loaded **out, struct rr_error *err)
{
    (void)device;
    (void)program;
    (void)limits;
    seen.loads++;
    *out = seen.rc ? NULL : &seen.loaded;
    if (err) err->code = seen.rc;
    return seen.rc;
}

static void fake_unload(struct rr_loaded *loaded)
{
    assert_ptr_equal(loaded, &seen.loaded);
    seen.unloads++;
}

static int fake_run(struct rr_loaded *loaded, const struct rr_batch *batch, float *logits,
                    struct rr_error *err)
{
    (void)err;
    assert_ptr_equal(loaded, &seen.loaded);
    assert_true(batch->n_tokens <= 64);
    seen.runs++;
    seen.batch = *batch;
    memcpy(seen.positions, batch->positions, batch->n_tokens * sizeof(int32_t));
    memcpy(seen.types, batch->types, batch->n_tokens * sizeof(int32_t));
    for (uint32_t i = 0; i < batch->n_sequences; i++) logits[i] = (float)i;
    return RR_OK;
}

static const struct rr_backend fake = {
    .abi = RR_BACKEND_ABI,
    .name = "fake",
    .load = fake_load,
    .unload = fake_unload,
    .run = fake_run,
};

static const struct rr_limits limits = { .max_tokens = 32, .max_sequences = 4, .max_length = 16 };

static struct rr_model *open_tiny(const char *name)
{
    char path[512];
    struct rr_model *m;
    struct rr_error err;

    if (!fixture_model(name, path, sizeof(path))) fail_msg("no tiny model %s", name);
    if (rr_model_open(&m, path, &err)) fail_msg("%s", err.msg);
    return m;
}

static int forward(struct rr_model *m, const int32_t *ids, const int32_t *types, uint32_t n_tokens,
                   const uint32_t *cu, uint32_t n_sequences, struct rr_error *err)
{
    struct rr_sequences s = { n_tokens, n_sequences, ids, types, cu };
    float logits[8] = { 0 };

    memset(err, 0, sizeof(*err));
    return rr_model_forward(m, &s, logits, err);
}

static void test_positions(void **state)
{
    /* pad is 1 for RoBERTa, 0 for BERT; both occur as ordinary ids of the other. */
    static const int32_t ids[9] = { 0, 7, 1, 8, 2, 0, 1, 1, 2 };
    static const int32_t types[9] = { 0, 0, 0, 1, 1, 0, 0, 1, 1 };
    static const uint32_t cu[3] = { 0, 5, 9 };
    static const int32_t roberta[9] = { 2, 3, 1, 4, 5, 2, 1, 1, 3 };
    static const int32_t bert[9] = { 0, 1, 2, 3, 4, 0, 1, 2, 3 };
    static const int32_t zeros[9] = { 0 };
    struct rr_error err;
    struct rr_model *m;

    (void)state;
    m = open_tiny("tiny-xlmr");
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_OK);
    assert_int_equal(forward(m, ids, types, 9, cu, 2, &err), RR_OK);
    assert_memory_equal(seen.positions, roberta, sizeof(roberta));
    assert_memory_equal(seen.types, zeros,
                        sizeof(zeros)); /* one type: the template's are ignored */
    assert_ptr_equal(seen.batch.ids, ids);
    assert_int_equal(seen.batch.n_tokens, 9);
    assert_int_equal(seen.batch.n_sequences, 2);
    rr_model_close(m);

    m = open_tiny("tiny-bert");
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_OK);
    assert_int_equal(forward(m, ids, types, 9, cu, 2, &err), RR_OK);
    assert_memory_equal(seen.positions, bert, sizeof(bert));
    assert_memory_equal(seen.types, types, sizeof(types));
    rr_model_close(m);
}

static const struct {
    int32_t ids[3], types[3];
    uint32_t n_tokens, n_sequences, cu[4];
    const char *part;
    const char *why;
} refused[] = {
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 1, { 0, 3 }, NULL, "taken" },
    { { 0, 2999, 2 }, { 0, 1, 0 }, 3, 3, { 0, 1, 2, 3 }, NULL, "largest id and type, shortest" },
    { { 0, 3000, 2 }, { 0, 0, 0 }, 3, 1, { 0, 3 }, "id 3000 is outside", "id beyond the table" },
    { { 0, -1, 2 }, { 0, 0, 0 }, 3, 1, { 0, 3 }, "id -1 is outside", "negative id" },
    { { 0, 5, 2 }, { 0, 2, 0 }, 3, 1, { 0, 3 }, "type 2 is outside", "type beyond the table" },
    { { 0, 5, 2 }, { 0, -1, 0 }, 3, 1, { 0, 3 }, "type -1 is outside", "negative type" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 0, { 0, 3 }, "batch of 0 sequences", "nothing" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 5, { 0, 3 }, "batch of 5 sequences", "too many sequences" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 33, 1, { 0, 33 }, "and 33 tokens", "too many tokens" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 17, 1, { 0, 17 }, "spans 0 to 17", "too long a sequence" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 1, { 1, 3 }, "span 1 to 3, expected 0 to 3", "start" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 1, { 0, 2 }, "span 0 to 2, expected 0 to 3", "end" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 2, { 0, 0, 3 }, "sequence 0 spans 0 to 0", "empty sequence" },
    { { 0, 5, 2 }, { 0, 0, 0 }, 3, 3, { 0, 2, 1, 3 }, "sequence 1 spans 2 to 1", "backwards" },
    { { 0, 5, 2 },
      { 0, 0, 0 },
      3,
      3,
      { 0, 9, 1, 3 },
      "sequence 0 spans 0 to 9",
      "leaves the batch" },
};

static void test_forward_checks(void **state)
{
    struct rr_model *m = open_tiny("tiny-bert");
    struct rr_error err;

    (void)state;
    assert_int_equal(forward(m, refused[0].ids, refused[0].types, 3, refused[0].cu, 1, &err),
                     RR_EINVAL);
    assert_non_null(strstr(err.msg, "not loaded"));
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_OK);
    for (size_t i = 0; i < RR_COUNT(refused); i++) {
        int runs = seen.runs;
        int rc = forward(m, refused[i].ids, refused[i].types, refused[i].n_tokens, refused[i].cu,
                         refused[i].n_sequences, &err);
        bool taken = !refused[i].part;

        if (rc != (taken ? RR_OK : RR_EINVAL) || (!taken && !strstr(err.msg, refused[i].part)) ||
            seen.runs != runs + taken)
            fail_msg("%s: code %d, message \"%s\"", refused[i].why, rc, err.msg);
    }
    rr_model_close(m);
}

static void test_load(void **state)
{
    static const struct {
        struct rr_limits limits;
        int rc;
    } rows[] = {
        { { 512, 1, 512 }, RR_OK },     { { 512, 1, 513 }, RR_EINVAL },
        { { 600, 1, 513 }, RR_EINVAL }, { { 512, 1, 0 }, RR_EINVAL },
        { { 511, 1, 512 }, RR_EINVAL }, { { 512, 0, 512 }, RR_EINVAL },
    };
    struct rr_model *m = open_tiny("tiny-roberta");
    struct rr_error err;
    int loads = seen.loads, unloads = seen.unloads;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        assert_int_equal(rr_model_load(m, &fake, NULL, &rows[i].limits, &err), rows[i].rc);
        rr_model_unload(m);
    }
    assert_int_equal(seen.loads, loads + 1);
    assert_int_equal(seen.unloads, unloads + 1);

    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_OK);
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_EINVAL); /* twice */
    rr_model_unload(m);
    rr_model_unload(m);
    assert_int_equal(seen.unloads, unloads + 2);

    seen.rc = RR_ENOMEM; /* what the device says is passed on, and nothing is left behind */
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_ENOMEM);
    seen.rc = RR_OK;
    assert_int_equal(rr_model_load(m, &fake, NULL, &limits, &err), RR_OK);
    rr_model_close(m); /* unloads */
    assert_int_equal(seen.unloads, unloads + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_forward_checks),
        cmocka_unit_test(test_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
