/* SPDX-License-Identifier: Apache-2.0 */
/* test_model.c - from a folder to a program: what is taken, what is refused, with which words. */
#include "checkpoint_fixture.h"

#include "base/json.h"
#include "model/model.h"

static struct rr_model *open_model(const char *folder)
{
    struct rr_model *m;
    struct rr_error err;

    if (rr_model_open(&m, folder, &err)) fail_msg("%s", err.msg);
    return m;
}

static struct rr_model *open_tiny(const char *name)
{
    char path[512];

    if (!fixture_model(name, path, sizeof(path))) fail_msg("no tiny model %s", name);
    return open_model(path);
}

/* ---- programs ----------------------------------------------------------------------------- */

/* Walks a program as a backend must: every operand exists, has been written and fits. */
static void check_tensor(const struct rr_program *p, uint32_t i, uint32_t rank, uint32_t rows,
                         uint32_t columns)
{
    const struct rr_tensor *t;

    assert_true(i < p->n_tensors);
    t = &p->tensors[i];
    assert_non_null(t->name);
    assert_non_null(t->data);
    assert_int_equal((uintptr_t)t->data % (t->dtype == RR_F32 ? 4 : 2), 0);
    assert_int_equal(t->rank, rank);
    if (rows) assert_int_equal(t->shape[0], rows);
    if (rank == 2) assert_int_equal(t->shape[1], columns);
}

static void check_linear(const struct rr_program *p, const struct rr_op *op, const bool *written)
{
    const struct rr_op_linear *l = &op->u.linear;
    uint32_t out = 0;

    assert_in_range(l->n_parts, 1, 3);
    assert_true(op->dst != op->src);
    assert_int_equal(p->registers[op->dst].rows, p->registers[op->src].rows);
    for (uint32_t i = 0; i < l->n_parts; i++) {
        check_tensor(p, l->weight[i], 2, 0, p->registers[op->src].width);
        check_tensor(p, l->bias[i], 1, p->tensors[l->weight[i]].shape[0], 0);
        out += p->tensors[l->weight[i]].shape[0];
    }
    assert_int_equal(out, p->registers[op->dst].width);
    if (l->residual == RR_NONE) return;
    assert_true(written[l->residual]);
    assert_int_equal(p->registers[l->residual].width, out);
    assert_int_equal(p->registers[l->residual].rows, p->registers[op->dst].rows);
}

static void check_attention(const struct rr_program *p, const struct rr_op *op, const bool *written)
{
    const struct rr_op_attention *a = &op->u.attention;
    uint32_t width = a->heads * a->head_dim;

    assert_true(op->dst != op->src && op->dst != a->kv);
    assert_true(written[a->kv]);
    assert_int_equal(p->registers[a->kv].rows, RR_ROWS_TOKENS);
    assert_int_equal(p->registers[op->dst].width, width);
    assert_int_equal(p->registers[op->dst].rows, p->registers[op->src].rows);
    assert_true(a->q_col + width <= p->registers[op->src].width);
    assert_true(a->k_col + width <= p->registers[a->kv].width);
    assert_true(a->v_col + width <= p->registers[a->kv].width);
    assert_true(a->k_col != a->v_col);
    assert_true(a->scale * a->scale * (float)a->head_dim > 0.9999f);
    assert_true(a->scale * a->scale * (float)a->head_dim < 1.0001f);
}

static void check_op(const struct rr_program *p, const struct rr_op *op, bool *written)
{
    assert_true(op->dst < p->n_registers);
    if (op->kind != RR_OP_EMBED) {
        assert_true(op->src < p->n_registers);
        assert_true(written[op->src]);
    }
    switch (op->kind) {
    case RR_OP_EMBED:
        assert_int_equal(op->src, RR_NONE);
        check_tensor(p, op->u.embed.word, 2, 0, p->registers[op->dst].width);
        check_tensor(p, op->u.embed.position, 2, 0, p->registers[op->dst].width);
        check_tensor(p, op->u.embed.type, 2, 0, p->registers[op->dst].width);
        break;
    case RR_OP_FIRST:
        assert_int_equal(p->registers[op->src].rows, RR_ROWS_TOKENS);
        assert_int_equal(p->registers[op->dst].rows, RR_ROWS_SEQUENCES);
        assert_int_equal(p->registers[op->dst].width, p->registers[op->src].width);
        break;
    case RR_OP_NORM:
        check_tensor(p, op->u.norm.gamma, 1, p->registers[op->dst].width, 0);
        check_tensor(p, op->u.norm.beta, 1, p->registers[op->dst].width, 0);
        break;
    case RR_OP_LINEAR: check_linear(p, op, written); break;
    case RR_OP_ATTENTION: check_attention(p, op, written); break;
    case RR_OP_LAST:
    case RR_OP_MEAN:
    case RR_OP_GLU:
    case RR_OP_ROTARY: fail_msg("BERT has no operation of kind %d", (int)op->kind);
    }
    written[op->dst] = true;
}

static void check_program(const struct rr_program *p, uint32_t layers)
{
    bool written[64] = { false }, used[2048] = { false };
    uint32_t token_linears = 0;

    assert_true(p->n_registers <= 64 && p->n_tensors <= 2048);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct rr_op *op = &p->ops[i];

        check_op(p, op, written);
        if (op->kind != RR_OP_LINEAR) continue;
        token_linears += p->registers[op->dst].rows == RR_ROWS_TOKENS;
        for (uint32_t k = 0; k < op->u.linear.n_parts; k++) {
            assert_false(used[op->u.linear.weight[k]]); /* no matrix twice: a wrong name */
            used[op->u.linear.weight[k]] = true;
        }
    }
    /* Four per layer on all tokens, but in the last layer keys and values only. */
    assert_int_equal(token_linears, 4 * (layers - 1) + 1);
    assert_true(p->output < p->n_registers && written[p->output]);
    assert_int_equal(p->registers[p->output].width, 1);
    assert_int_equal(p->registers[p->output].rows, RR_ROWS_SEQUENCES);
}

static const struct {
    const char *name, *architecture;
    uint32_t layers, hidden, heads, intermediate, vocab, types, max_length;
} tiny[] = {
    { "tiny-xlmr", "XLMRobertaForSequenceClassification", 3, 128, 2, 512, 2400, 1, 512 },
    { "tiny-xlmr-odd", "XLMRobertaForSequenceClassification", 2, 96, 3, 200, 1777, 1, 512 },
    { "tiny-bert", "BertForSequenceClassification", 2, 128, 4, 384, 3000, 2, 512 },
    { "tiny-roberta", "RobertaForSequenceClassification", 2, 96, 4, 256, 2000, 1, 512 },
};

static void test_tiny_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(tiny); i++) {
        struct rr_model *m = open_tiny(tiny[i].name);
        const struct rr_model_info *info = rr_model_info(m);

        assert_string_equal(info->architecture, tiny[i].architecture);
        assert_string_equal(info->weights_dtype, "f32");
        assert_int_equal(info->layers, tiny[i].layers);
        assert_int_equal(info->hidden, tiny[i].hidden);
        assert_int_equal(info->heads, tiny[i].heads);
        assert_int_equal(info->intermediate, tiny[i].intermediate);
        assert_int_equal(info->vocab, tiny[i].vocab);
        assert_int_equal(info->types, tiny[i].types);
        assert_int_equal(info->max_length, tiny[i].max_length);
        /* The files hold the network's parameters in f32, nothing else, and a small header. */
        assert_true(info->file_bytes > 4 * info->parameters);
        assert_true(info->file_bytes < 4 * info->parameters + 10000);
        check_program(rr_model_program(m), tiny[i].layers);
        rr_model_close(m);
    }
}

/* ---- folders that are not as they should be ------------------------------------------------ */

static void patch_config(const struct fixture_folder *f, const char *from, const char *patch)
{
    struct fixture_bytes b = fixture_read(from, "config.json");
    json_t *root = json_loadb(b.data, b.len, 0, NULL);
    json_t *more = json_loads(patch, 0, NULL);
    char *text;

    assert_non_null(root);
    assert_non_null(more);
    json_object_update(root, more);
    text = fixture_dump(root, JSON_INDENT(2));
    fixture_write(f, "config.json", text, strlen(text));
    free(text);
    json_decref(root);
    json_decref(more);
    free(b.data);
}

enum change { NOTHING, RENAME, RESHAPE, RANK, RETYPE };

struct damage {
    const char *config; /* patch */
    enum change change;
    const char *tensor, *to;
    int rc;
    const char *part;
    const char *why;
};

static const struct damage damaged[] = {
    { "{}", NOTHING, NULL, NULL, RR_OK, "", "the copy itself works" },
    { "{\"architectures\":[\"T5\"]}", NOTHING, NULL, NULL, RR_ENOTSUP,
      "config.json: architectures[0] is \"T5\"", "another architecture" },
    { "{\"architectures\":[\"BertForSequenceClassification\"]}", NOTHING, NULL, NULL, RR_EFORMAT,
      "model.safetensors: tensor bert.embeddings.word_embeddings.weight is missing, expected with "
      "shape [2000, 96]",
      "config.json of another model" },
    { "{\"vocab_size\":2001}", NOTHING, NULL, NULL, RR_EFORMAT,
      "tensor roberta.embeddings.word_embeddings.weight: shape is [2000, 96], expected [2001, 96]",
      "vocabulary" },
    { "{\"max_position_embeddings\":512}", NOTHING, NULL, NULL, RR_EFORMAT,
      "tensor roberta.embeddings.position_embeddings.weight: shape is [514, 96], expected "
      "[512, 96]",
      "positions" },
    { "{\"type_vocab_size\":2}", NOTHING, NULL, NULL, RR_EFORMAT,
      "tensor roberta.embeddings.token_type_embeddings.weight: shape is [1, 96]", "types" },
    { "{\"hidden_size\":192}", NOTHING, NULL, NULL, RR_EFORMAT, "expected [2000, 192]", "hidden" },
    { "{\"intermediate_size\":255}", NOTHING, NULL, NULL, RR_EFORMAT,
      "tensor roberta.encoder.layer.0.intermediate.dense.weight: shape is [256, 96], expected "
      "[255, 96]",
      "intermediate" },
    { "{\"num_hidden_layers\":3}", NOTHING, NULL, NULL, RR_EFORMAT,
      "tensor roberta.encoder.layer.2.attention.self.query.weight is missing, expected with shape "
      "[96, 96]",
      "a layer more than there is" },
    { "{}", RENAME, "classifier.out_proj.bias", "classifier.bias", RR_EFORMAT,
      "tensor classifier.out_proj.bias is missing, expected with shape [1]", "no head" },
    { "{}", RENAME, "roberta.encoder.layer.1.output.LayerNorm.bias", "x", RR_EFORMAT,
      "tensor roberta.encoder.layer.1.output.LayerNorm.bias is missing", "a norm is missing" },
    { "{}", RESHAPE, "classifier.out_proj.weight", NULL, RR_EFORMAT,
      "tensor classifier.out_proj.weight: shape is [96, 1], expected [1, 96]", "transposed" },
    { "{}", RANK, "roberta.encoder.layer.0.attention.self.key.bias", NULL, RR_EFORMAT,
      "tensor roberta.encoder.layer.0.attention.self.key.bias: shape is [96, 1], expected [96]",
      "rank" },
    { "{}", RETYPE, "roberta.encoder.layer.0.attention.self.value.weight", "I32", RR_ENOTSUP,
      "tensor roberta.encoder.layer.0.attention.self.value.weight: dtype is I32, expected F32, F16 "
      "or BF16",
      "dtype that only a quantised file would have" },
};

static void apply(struct fixture_weights *w, enum change change, const char *name, const char *to)
{
    struct fixture_tensor *t = change == NOTHING ? NULL : fixture_find(w, name);

    switch (change) {
    case NOTHING: break;
    case RENAME: snprintf(t->name, sizeof(t->name), "%s", to); break;
    case RETYPE: t->dtype = to; break;
    case RESHAPE: {
        uint32_t rows = t->shape[0];

        t->shape[0] = t->shape[1];
        t->shape[1] = rows;
        break;
    }
    case RANK: t->shape[t->rank++] = 1; break;
    }
}

/* A copy of the model with the damage opens, or fails with its code and words. */
static void check_damage(const char *name, const struct damage *d)
{
    char path[512];
    const char *from = fixture_model(name, path, sizeof(path));
    struct fixture_folder f = fixture_folder();
    struct rr_model *m = NULL;
    struct rr_error err = { 0, "" };
    struct fixture_weights w;
    int rc;

    assert_non_null(from);
    w = fixture_weights(from);
    apply(&w, d->change, d->tensor, d->to);
    patch_config(&f, from, d->config);
    fixture_save(&f, "model.safetensors", &w, 0, w.n, 0);
    rc = rr_model_open(&m, f.path, &err);
    if (rc != d->rc || (rc && !strstr(err.msg, d->part)) || (rc && !strstr(err.msg, f.path)) ||
        (rc == 0) != (m != NULL))
        fail_msg("%s: code %d, message \"%s\"", d->why, rc, err.msg);
    rr_model_close(m);
    fixture_weights_free(&w);
    fixture_remove(&f);
}

static void test_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(damaged); i++) check_damage("tiny-roberta", &damaged[i]);
}

/* A causal network whose output layer was lost must not be judged by its table of words. */
static void test_lost_output_layer(void **state)
{
    static const struct damage rows[] = {
        { "{\"tie_word_embeddings\":true}", NOTHING, NULL, NULL, RR_OK, "", "tied" },
        { "{\"tie_word_embeddings\":null}", NOTHING, NULL, NULL, RR_OK, "", "nothing said" },
        { "{\"tie_word_embeddings\":false}", NOTHING, NULL, NULL, RR_EFORMAT,
          "lm_head.weight is missing", "not tied" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) check_damage("tiny-qwen2", &rows[i]);
}

static void test_no_folder(void **state)
{
    struct fixture_folder f = fixture_folder();
    char path[5000];
    struct rr_model *m;
    struct rr_error err;

    (void)state;
    assert_int_equal(rr_model_open(&m, f.path, &err), RR_ENOENT);
    assert_non_null(strstr(err.msg, "config.json: not found; expected a model folder"));
    assert_null(m);
    fixture_remove(&f);
    assert_int_equal(rr_model_open(&m, f.path, &err), RR_ENOENT);
    assert_int_equal(rr_model_open(&m, "", &err), RR_ENOENT);
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = 0;
    assert_int_equal(rr_model_open(&m, path, &err), RR_EINVAL);
    rr_model_close(NULL);
}

/* ---- other spellings of the same weights --------------------------------------------------- */

static void strip(char *name, const char *prefix)
{
    size_t n = strlen(prefix);

    if (strncmp(name, prefix, n) == 0) memmove(name, name + n, strlen(name + n) + 1);
}

static void rename_tail(char *name, const char *from, const char *to)
{
    char *tail = strlen(name) > strlen(from) ? name + strlen(name) - strlen(from) : name;

    if (strcmp(tail, from) == 0) strcpy(tail, to);
}

static void expect_same_weights(const struct rr_model *a, const struct rr_model *b)
{
    const struct rr_program *p = rr_model_program(a), *q = rr_model_program(b);

    assert_int_equal(p->n_tensors, q->n_tensors);
    assert_int_equal(p->n_ops, q->n_ops);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct rr_tensor *s = &p->tensors[i], *t = &q->tensors[i];
        size_t n = 4 * (size_t)s->shape[0] * (s->rank == 2 ? s->shape[1] : 1);

        assert_int_equal(s->rank, t->rank);
        assert_memory_equal(s->shape, t->shape, sizeof(s->shape));
        assert_memory_equal(s->data, t->data, n);
        assert_int_equal((uintptr_t)t->data % 4, 0);
    }
}

static void test_old_names(void **state)
{
    static const char *const names[] = { "tiny-bert", "tiny-roberta" };
    char path[512];

    (void)state;
    for (size_t i = 0; i < RR_COUNT(names); i++) {
        const char *from = fixture_model(names[i], path, sizeof(path));
        struct fixture_folder f = fixture_folder();
        struct rr_model *a, *b;
        struct fixture_weights w;

        assert_non_null(from);
        w = fixture_weights(from);
        for (size_t k = 0; k < w.n; k++) {
            strip(w.tensors[k].name, "bert.");
            strip(w.tensors[k].name, "roberta.");
            rename_tail(w.tensors[k].name, "LayerNorm.weight", "LayerNorm.gamma");
            rename_tail(w.tensors[k].name, "LayerNorm.bias", "LayerNorm.beta");
        }
        fixture_copy(&f, from, "config.json");
        fixture_save(&f, "model.safetensors", &w, 0, w.n, 0);
        a = open_model(from);
        b = open_model(f.path);
        expect_same_weights(a, b);
        rr_model_close(a);
        rr_model_close(b);
        fixture_weights_free(&w);
        fixture_remove(&f);
    }
}

/* Old writers did not pad the header: all data lie askew and are copied. */
static void test_misaligned(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-roberta", path, sizeof(path));

    (void)state;
    assert_non_null(from);
    for (size_t pad = 1; pad <= 4; pad++) { /* 4: aligned for f32 all the same */
        struct fixture_folder f = fixture_folder();
        struct fixture_weights w = fixture_weights(from);
        size_t before, during, peak;
        struct rr_model *a, *b;

        fixture_copy(&f, from, "config.json");
        fixture_save(&f, "model.safetensors", &w, 0, w.n, pad);
        rr_mem_usage(RR_MEM_WEIGHTS, &before, &peak);
        a = open_model(from);
        rr_mem_usage(RR_MEM_WEIGHTS, &during, &peak);
        assert_int_equal(before, during); /* no copy where none is needed */
        b = open_model(f.path);
        expect_same_weights(a, b);
        for (uint32_t i = 0; i < rr_model_program(b)->n_tensors; i++) {
            const struct rr_tensor *t = &rr_model_program(b)->tensors[i];

            /* A backend drops the pages of what is in a file; a copy would come back as zeros. */
            assert_true(rr_model_program(a)->tensors[i].in_file);
            assert_int_equal(t->in_file, pad % 4 == 0);
        }
        rr_model_close(a);
        rr_model_close(b);
        rr_mem_usage(RR_MEM_WEIGHTS, &during, &peak);
        assert_int_equal(before, during);
        fixture_weights_free(&w);
        fixture_remove(&f);
    }
}

static void test_dtypes(void **state)
{
    static const struct {
        const char *dtype;
        size_t count; /* tensors of it, from the first */
        const char *expected;
    } rows[] = {
        { "F16", SIZE_MAX, "f16" },
        { "BF16", SIZE_MAX, "bf16" },
        { "F16", 5, "mixed" },
    };
    char path[512];
    const char *from = fixture_model("tiny-roberta", path, sizeof(path));
    struct rr_model *plain;

    (void)state;
    assert_non_null(from);
    plain = open_model(from);
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        struct fixture_weights w = fixture_weights(from);
        struct rr_model *m;

        for (size_t k = 0; k < w.n && k < rows[i].count; k++) w.tensors[k].dtype = rows[i].dtype;
        fixture_copy(&f, from, "config.json");
        fixture_save_shards(&f, &w, 3);
        m = open_model(f.path);
        assert_string_equal(rr_model_info(m)->weights_dtype, rows[i].expected);
        assert_int_equal(rr_model_info(m)->parameters, rr_model_info(plain)->parameters);
        check_program(rr_model_program(m), 2);
        rr_model_close(m);
        fixture_weights_free(&w);
        fixture_remove(&f);
    }
    rr_model_close(plain);
}

static uint64_t fingerprint(const char *folder)
{
    struct rr_model *m = open_model(folder);
    uint64_t h = rr_model_info(m)->fingerprint;

    rr_model_close(m);
    return h;
}

static void test_fingerprint(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-roberta", path, sizeof(path));
    struct fixture_folder f = fixture_folder();
    struct fixture_bytes b;
    uint64_t h;

    (void)state;
    assert_non_null(from);
    fixture_copy(&f, from, "config.json");
    fixture_copy(&f, from, "model.safetensors");
    h = fingerprint(from);
    assert_true(h != 0);
    assert_true(h == fingerprint(f.path)); /* the folder's place does not matter */

    patch_config(&f, from, "{\"layer_norm_eps\":1e-6}");
    assert_true(h != fingerprint(f.path));
    fixture_copy(&f, from, "config.json");

    b = fixture_read(from, "model.safetensors");
    for (int i = 0; i < 3; i++) { /* first, middle and last byte of the data */
        uint64_t n;
        size_t at, data;

        memcpy(&n, b.data, 8);
        data = b.len - 8 - n;
        at = 8 + n + (i == 0 ? 0 : i == 1 ? data / 2 : data - 1);
        b.data[at] = (char)(b.data[at] ^ 1);
        fixture_write(&f, "model.safetensors", b.data, b.len);
        assert_true(h != fingerprint(f.path));
        b.data[at] = (char)(b.data[at] ^ 1);
    }
    free(b.data);
    fixture_remove(&f);
}

/* Training a part of a model changes a part of its tensors, wherever in the file they lie: caches
 * of scores and packed weights of the one must not serve the other. */
static void test_fingerprint_of_each_tensor(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-roberta", path, sizeof(path));
    struct fixture_folder f = fixture_folder();
    struct fixture_weights w;
    uint64_t h;

    (void)state;
    assert_non_null(from);
    w = fixture_weights(from);
    fixture_copy(&f, from, "config.json");
    fixture_save(&f, "model.safetensors", &w, 0, w.n, 0);
    h = fingerprint(f.path);
    for (size_t i = 0; i < w.n; i++) {
        struct fixture_tensor *t = &w.tensors[i];
        float *before = t->values;

        t->values = malloc(t->elements * sizeof(*before));
        assert_non_null(t->values);
        for (size_t k = 0; k < t->elements; k++) t->values[k] = before[k] + 0.5f;
        fixture_save(&f, "model.safetensors", &w, 0, w.n, 0);
        free(t->values);
        t->values = before;
        if (fingerprint(f.path) == h) fail_msg("%s was trained on, nothing tells", t->name);
    }
    fixture_weights_free(&w);
    fixture_remove(&f);
}

static void test_out_of_memory(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-xlmr-odd", path, sizeof(path));
    struct rr_model *m = NULL;
    struct rr_error err;
    int rc = RR_ENOMEM;
    uint64_t nth;

    (void)state;
    assert_non_null(from);
    for (nth = 1; rc != RR_OK; nth++) {
        rr_mem_fault(nth, true);
        rc = rr_model_open(&m, from, &err);
        rr_mem_fault(0, false);
        if (rc) assert_null(m);
        assert_true(nth < 10000);
    }
    assert_true(nth > 10);
    rr_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_models),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_lost_output_layer),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_old_names),
        cmocka_unit_test(test_misaligned),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_fingerprint_of_each_tensor),
        cmocka_unit_test(test_out_of_memory),
    };

    rr_json_init(); /* so that faults reach the JSON trees as well */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
