/* SPDX-License-Identifier: Apache-2.0 */
/* test_parity.c - text in, logits out, against values that transformers computed (reference.jsonl
 * of each model, made as tools/make_golden.py says), on every instruction set of this machine.
 *
 * Prints a table with the largest differences.  RR_PARITY_ALL=1 runs every request on every level;
 * without it the best level runs all and the others the first eighth.  RR_TEST_ISA=level runs that
 * level's eighth.
 *
 * test_parity BACKEND DTYPE [PAIRS]: the same on another backend, the first PAIRS of each model.  Exit
 * status 77 where it has no such precision. */
#include "checkpoint_fixture.h"

#include <math.h>

#include "../support/levels.h"
#include "backend/registry.h"
#include "cpu/features.h"
#include "cpu/kern.h"
#include "engine/prompts.h"
#include "model/convert.h"
#include "model/model.h"
#include "tok/tok.h"

/* Two float32 computations that are both right differ by about 2e-5 here; a wrong constant, an
 * approximated GELU or a lost bias differ by far more. */
#define LOGIT_TOLERANCE 2e-4
#define SCORE_TOLERANCE 5e-5
#define BATCH_TOKENS 4096u
#define BATCH_SEQUENCES 32u

/* ---- requests as token ids ----------------------------------------------------------------- */

struct pair {
    uint32_t first, n; /* in ids and types */
    uint32_t request;  /* line of reference.jsonl, from 1 */
    double logit, score;
};

struct pairs {
    struct pair *pairs;
    int32_t *ids, *types;
    size_t n, cap, n_ids, cap_ids;
    uint32_t longest;
};

static void *grown(void *p, size_t n, size_t *cap, size_t size)
{
    if (n <= *cap) return p;
    *cap = 2 * n;
    p = realloc(p, *cap * size);
    assert_non_null(p);
    return p;
}

static void free_pairs(struct pairs *p)
{
    free(p->pairs);
    free(p->ids);
    free(p->types);
}

static struct rr_text text_of(const json_t *v)
{
    assert_true(json_is_string(v));
    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

/* Copies what the scratch would overwrite. */
static struct rr_tok_ids encode(const struct rr_tok *tok, struct rr_tok_scratch *scratch,
                                struct rr_text text)
{
    struct rr_tok_ids view;
    struct rr_error err;
    int32_t *copy;

    if (rr_tok_encode(tok, scratch, text, 0, 0, &view, &err)) fail_msg("%s", err.msg);
    copy = malloc((view.n + 1) * sizeof(*copy));
    assert_non_null(copy);
    if (view.n) memcpy(copy, view.ids, view.n * sizeof(*copy));
    view.ids = copy;
    return view;
}

/* A further pair, with room for max_length ids and types of it behind those of the others. */
static struct pair *new_pair(struct pairs *p, uint32_t max_length)
{
    size_t cap = p->cap_ids;
    struct pair *pair;

    p->pairs = grown(p->pairs, p->n + 1, &p->cap, sizeof(*p->pairs));
    p->ids = grown(p->ids, p->n_ids + max_length, &p->cap_ids, sizeof(*p->ids));
    p->types = grown(p->types, p->n_ids + max_length, &cap, sizeof(*p->types));
    pair = &p->pairs[p->n++];
    *pair = (struct pair){ .first = (uint32_t)p->n_ids };
    return pair;
}

/* Of a causal network: the whole pair inside its prompt. */
static void add_prompted(struct pairs *p, const struct rr_prompt *prompt,
                         struct rr_tok_scratch *scratch, struct rr_text query,
                         struct rr_text document, uint32_t max_length)
{
    struct pair *pair = new_pair(p, max_length);
    struct rr_error err;
    uint32_t full;

    if (rr_prompt_pair(prompt, scratch, query, document, max_length, 0, p->ids + p->n_ids, &pair->n,
                       &full, &err))
        fail_msg("%s", err.msg);
    assert_true(pair->n <= max_length && full >= pair->n);
    memset(p->types + p->n_ids, 0, pair->n * sizeof(*p->types));
    p->n_ids += pair->n;
    p->longest = RR_MAX(p->longest, pair->n);
}

static void add_pair(struct pairs *p, const struct rr_tok *tok, const struct rr_tok_ids *query,
                     const struct rr_tok_ids *document, uint32_t max_length)
{
    struct pair *pair = new_pair(p, max_length);
    struct rr_error err;
    uint32_t dropped;

    if (rr_tok_pair(tok, query, document, max_length, 0, p->ids + p->n_ids, p->types + p->n_ids,
                    &pair->n, &dropped, &err))
        fail_msg("%s", err.msg);
    p->n_ids += pair->n;
    p->longest = RR_MAX(p->longest, pair->n);
}

static void add_request(struct pairs *p, const struct rr_tok *tok, struct rr_tok_scratch *scratch,
                        const struct rr_prompt *prompt, const json_t *line, uint32_t request)
{
    struct rr_tok_ids query = encode(tok, scratch, text_of(json_object_get(line, "query")));
    const json_t *documents = json_object_get(line, "documents");
    const json_t *limit = json_object_get(line, "max_length");
    uint32_t max_length = limit ? (uint32_t)json_integer_value(limit) : 512;

    assert_int_equal(json_array_size(documents), json_array_size(json_object_get(line, "logits")));
    for (size_t i = 0; i < json_array_size(documents); i++) {
        struct rr_tok_ids document = encode(tok, scratch, text_of(json_array_get(documents, i)));
        struct pair *pair;

        if (prompt)
            add_prompted(p, prompt, scratch, text_of(json_object_get(line, "query")),
                         text_of(json_array_get(documents, i)), max_length);
        else
            add_pair(p, tok, &query, &document, max_length);
        pair = &p->pairs[p->n - 1];
        pair->request = request;
        pair->logit = json_number_value(json_array_get(json_object_get(line, "logits"), i));
        pair->score = json_number_value(json_array_get(json_object_get(line, "scores"), i));
        free((void *)(uintptr_t)document.ids);
    }
    free((void *)(uintptr_t)query.ids);
}

static struct pairs read_pairs(const char *folder)
{
    struct fixture_bytes b = fixture_read(folder, "reference.jsonl");
    struct rr_tok_scratch *scratch;
    struct pairs p = { 0 };
    struct rr_error err;
    struct rr_pairing pairing;
    struct rr_model *model;
    struct rr_tok *tok;
    char *line, *rest = b.data;

    if (rr_tok_open(&tok, folder, NULL, &err)) fail_msg("%s", err.msg);
    if (rr_tok_scratch_open(&scratch, tok, &err)) fail_msg("%s", err.msg);
    if (rr_model_open(&model, folder, &err)) fail_msg("%s", err.msg);
    if (rr_pairing_open(&pairing, rr_model_info(model), tok, &err)) fail_msg("%s", err.msg);
    for (uint32_t n = 1; (line = strtok_r(rest, "\n", &rest)); n++) {
        json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL);

        assert_non_null(root);
        add_request(&p, tok, scratch, pairing.prompt, root, n);
        json_decref(root);
    }
    assert_true(p.n > 0);
    rr_tok_scratch_close(scratch);
    rr_pairing_close(&pairing);
    rr_model_close(model);
    rr_tok_close(tok);
    free(b.data);
    return p;
}

/* ---- running ------------------------------------------------------------------------------- */

/* What a precision may change in these models, whose random weights make no smooth logits.  An
 * H100, whose tensor cores add up in their own order, was at 0.054 of a score in bf16 and 0.409 in
 * fp8. */
static const struct precision {
    const char *dtype;
    double logit, score;
} precisions[] = {
    { "f32", LOGIT_TOLERANCE, SCORE_TOLERANCE },
    { "f16", 0.05, 0.01 },
    { "bf16", 0.3, 0.07 },
    { "int8", 0.8, 0.1 },
    { "fp8", 2.5, 0.5 },
};

static const char *plugin; /* backend instead of the CPU; NULL: none */
static const struct precision *precision = &precisions[0], *chosen = &precisions[0];
static size_t plugin_pairs = SIZE_MAX;

static const struct rr_backend *backend(void)
{
    const struct rr_backend *b;
    struct rr_error err = { 0 };

    if (!plugin) return rr_backend_cpu();
    if (rr_backend_find(&b, plugin, &err)) fail_msg("%s", err.msg);
    return b;
}

struct run {
    struct rr_device *device;
    struct rr_model *model;
};

/* Tells a causal network the words that judge a pair. */
static void prepare(struct rr_model *model, const char *folder)
{
    struct rr_pairing pairing;
    struct rr_error err;
    struct rr_tok *tok;

    if (rr_tok_open(&tok, folder, NULL, &err)) fail_msg("%s", err.msg);
    if (rr_pairing_open(&pairing, rr_model_info(model), tok, &err)) fail_msg("%s", err.msg);
    if (rr_pairing_judge(&pairing, model, &err)) fail_msg("%s", err.msg);
    rr_pairing_close(&pairing);
    rr_tok_close(tok);
}

static struct run start(const char *folder, const char *isa, uint32_t longest)
{
    struct rr_device_options opt = { .isa = isa, .dtype = precision->dtype };
    struct rr_limits limits = { BATCH_TOKENS, BATCH_SEQUENCES, longest };
    struct run r;
    struct rr_error err;

    if (backend()->open(&r.device, &opt, &err)) fail_msg("%s: %s", isa, err.msg);
    if (rr_model_open(&r.model, folder, &err)) fail_msg("%s", err.msg);
    if (rr_model_info(r.model)->judge) prepare(r.model, folder);
    if (rr_model_load(r.model, backend(), r.device, &limits, &err)) fail_msg("%s", err.msg);
    return r;
}

static void stop(struct run *r)
{
    rr_model_close(r->model);
    backend()->close(r->device);
}

/* Pairs [first, last) as one batch: they lie back to back. */
static void forward(const struct run *r, const struct pairs *p, size_t first, size_t last,
                    float *logits)
{
    uint32_t cu[BATCH_SEQUENCES + 1];
    struct rr_sequences s = { 0 };
    struct rr_error err;

    for (size_t i = first; i < last; i++) cu[i - first] = p->pairs[i].first - p->pairs[first].first;
    s.n_sequences = (uint32_t)(last - first);
    s.n_tokens = cu[last - 1 - first] + p->pairs[last - 1].n;
    cu[s.n_sequences] = s.n_tokens;
    s.ids = p->ids + p->pairs[first].first;
    s.types = p->types + p->pairs[first].first;
    s.cu_seqlens = cu;
    if (rr_model_forward(r->model, &s, logits, &err)) fail_msg("%s", err.msg);
}

static size_t batch_end(const struct pairs *p, size_t first)
{
    uint32_t tokens = 0;
    size_t i = first;

    while (i < p->n && i - first < BATCH_SEQUENCES && tokens + p->pairs[i].n <= BATCH_TOKENS)
        tokens += p->pairs[i++].n;
    return i;
}

static float *logits_of(const struct run *r, const struct pairs *p, size_t n)
{
    float *logits = malloc(p->n * sizeof(*logits));

    assert_non_null(logits);
    for (size_t first = 0, last; first < n; first = last) {
        last = batch_end(p, first);
        if (last > n) last = n;
        forward(r, p, first, last, logits + first);
    }
    return logits;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSTRUMENTED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INSTRUMENTED true
#endif
#endif
#ifndef INSTRUMENTED
#define INSTRUMENTED false
#endif

/* How many of the pairs to run, from the first: all on the best level, an eighth on the others;
 * under a sanitizer, where plain C is many times slower, a quarter of that. */
static size_t share(const struct pairs *p, bool best)
{
    const char *all = getenv("RR_PARITY_ALL");
    size_t part = (best ? 1 : 8) * (INSTRUMENTED ? 4 : 1);

    if (plugin) return RR_MIN(p->n, plugin_pairs);
    if (all && strcmp(all, "1") == 0) part = 1;
    return (p->n + part - 1) / part;
}

struct worst {
    double logit, score;
    uint32_t request; /* of the largest logit difference */
};

static struct worst compare(const struct pairs *p, const float *logits, size_t n)
{
    struct worst w = { 0, 0, 0 };

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)logits[i] - p->pairs[i].logit);
        double s = fabs(1 / (1 + exp(-(double)logits[i])) - p->pairs[i].score);

        if (!isfinite(logits[i])) fail_msg("request %u: not finite", p->pairs[i].request);
        if (d > w.logit) w.request = p->pairs[i].request;
        w.logit = fmax(w.logit, d);
        w.score = fmax(w.score, s);
    }
    return w;
}

/* Each pair alone must give the bits that it gave among others. */
static void check_alone(const struct run *r, const struct pairs *p, const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i += 7) {
        float alone;

        forward(r, p, i, i + 1, &alone);
        if (memcmp(&alone, &logits[i], sizeof(alone)) != 0)
            fail_msg("request %u: %.9g alone, %.9g among others", p->pairs[i].request,
                     (double)alone, (double)logits[i]);
    }
}

static void check_level(const char *name, const char *folder, const struct pairs *p,
                        const char *isa, bool best)
{
    struct run r = start(folder, isa, p->longest);
    size_t n = share(p, best);
    float *logits = logits_of(&r, p, n);
    struct worst w = compare(p, logits, n);

    print_message("%-14s %-8s %-4s %5zu pairs  logit %.2e  score %.2e\n", name, isa,
                  precision->dtype, n, w.logit, w.score);
    check_alone(&r, p, logits, n);
    if (w.logit > precision->logit || w.score > precision->score)
        fail_msg("%s on %s: differs by %.2e in a logit (allowed %.0e), %.2e in a score (allowed "
                 "%.0e), request %u",
                 name, isa, w.logit, precision->logit, w.score, precision->score, w.request);
    free(logits);
    stop(&r);
}

static void check_model(const char *name, const char *folder)
{
    bool one = getenv("RR_TEST_ISA"); /* where that is set, levels are slow: an emulation */
    const struct rr_kern *best = one ? NULL : rr_kern_pick(rr_cpu_flags(), NULL);
    const struct rr_kern *const *levels;
    struct pairs p = read_pairs(folder);
    uint32_t n;

    levels = rr_kern_levels(&n);
    if (plugin) {
        check_level(name, folder, &p, precision->dtype, true);
        n = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (levels_wanted(levels[i]))
            check_level(name, folder, &p, levels[i]->name, levels[i] == best);
    }
    free_pairs(&p);
}

static void test_tiny(void **state)
{
    const char *name = *state;
    char path[512];

    if (!fixture_model(name, path, sizeof(path))) {
        print_message("%s is not here: skipped\n", name); /* larger data, not in the repository */
        skip();
    }
    check_model(name, path);
}

static void test_starter(void **state)
{
    (void)state;
    if (!rr_file_exists("models/starter/reference.jsonl")) {
        print_message("models/starter has no reference.jsonl: skipped\n");
        skip();
    }
    check_model("starter", "models/starter");
}

/* ---- other storage of the same weights ------------------------------------------------------ */

/* What is left of a weight after storage in dtype. */
static float stored(float x, const char *dtype)
{
    if (strcmp(dtype, "F16") == 0) return fixture_from_f16(fixture_f16(x));
    if (strcmp(dtype, "BF16") == 0) return fixture_from_bf16(fixture_bf16(x));
    return x;
}

static const struct {
    const char *dtype;
    size_t shards;    /* 0: one file */
    double tolerance; /* of logits against the f32 model: what rounding the weights may do */
    const char *why;
} variants[] = {
    { "F32", 3, 0, "shards change nothing" },
    { "F16", 0, 0.05, "11 bits of every weight are left" },
    { "BF16", 4, 0.4, "8 bits are left; shards as well" },
};

static void write_config(const struct fixture_folder *f, const char *from, const char *architecture)
{
    struct fixture_bytes b = fixture_read(from, "config.json");
    json_t *root = json_loadb(b.data, b.len, 0, NULL);
    char *text;

    assert_non_null(root);
    if (architecture) {
        json_object_set_new(root, "architectures", json_pack("[s]", architecture));
        json_object_set_new(root, "num_labels", json_integer(1));
    }
    text = fixture_dump(root, 0);
    fixture_write(f, "config.json", text, strlen(text));
    json_decref(root);
    free(text);
    free(b.data);
}

/* architecture: NULL, or another name.  gguf: by way of a GGUF file. */
static float *variant_logits(const char *from, const char *architecture,
                             const struct fixture_weights *w, size_t shards, bool gguf,
                             const struct pairs *p)
{
    struct fixture_folder f = fixture_folder();
    struct rr_error err;
    char path[512];
    float *logits;
    struct run r;

    write_config(&f, from, architecture);
    if (shards)
        fixture_save_shards(&f, w, shards);
    else
        fixture_save(&f, "model.safetensors", w, 0, w->n, 0);
    snprintf(path, sizeof(path), "%s%s", f.path, gguf ? "/m.gguf" : "");
    if (gguf) fixture_copy(&f, from, "tokenizer.json");
    if (gguf && rr_model_convert(f.path, path, "f32", 0, (struct rr_text){ NULL, 0 }, &err))
        fail_msg("%s", err.msg);
    r = start(path, "auto", p->longest);
    logits = logits_of(&r, p, share(p, false));
    stop(&r);
    fixture_remove(&f);
    return logits;
}

/* A narrow file must give the very bits of an f32 file that holds the rounded weights, and come
 * close to the model that it was made from. */
static void test_storage(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-xlmr", path, sizeof(path));
    struct pairs p;

    (void)state;
    if (plugin) skip();
    assert_non_null(from);
    p = read_pairs(from);
    for (size_t i = 0; i < RR_COUNT(variants); i++) {
        struct fixture_weights w = fixture_weights(from);
        size_t n = share(&p, false);
        float *narrow, *wide;
        struct worst worst;

        for (size_t t = 0; t < w.n; t++) w.tensors[t].dtype = variants[i].dtype;
        narrow = variant_logits(from, NULL, &w, variants[i].shards, false, &p);
        for (size_t t = 0; t < w.n; t++) {
            w.tensors[t].dtype = "F32";
            for (size_t k = 0; k < w.tensors[t].elements; k++)
                w.tensors[t].values[k] = stored(w.tensors[t].values[k], variants[i].dtype);
        }
        wide = variant_logits(from, NULL, &w, 0, false, &p);
        assert_memory_equal(narrow, wide, n * sizeof(*wide));
        worst = compare(&p, narrow, n);
        print_message("tiny-xlmr as %-4s in %zu shards: logit %.2e, score %.2e\n",
                      variants[i].dtype, variants[i].shards, worst.logit, worst.score);
        if (worst.logit > variants[i].tolerance + LOGIT_TOLERANCE)
            fail_msg("%s: logit differs by %.2e", variants[i].why, worst.logit);
        free(narrow);
        free(wide);
        fixture_weights_free(&w);
    }
    free_pairs(&p);
}

/* The names of "flash" implementations; queries, keys and values move into one tensor each. */
static void rename_flash(struct fixture_weights *w)
{
    static const char *const names[][2] = {
        { "attention.output.dense", "mixer.out_proj" },
        { "attention.output.LayerNorm", "norm1" },
        { "intermediate.dense", "mlp.fc1" },
        { "output.dense", "mlp.fc2" },
        { "output.LayerNorm", "norm2" },
        { "embeddings.LayerNorm", "emb_ln" },
        { "encoder.layer.", "encoder.layers." },
    };

    for (size_t t = 0; t < w->n; t++) {
        char *name = w->tensors[t].name, old[128];

        for (size_t i = 0; i < RR_COUNT(names); i++) {
            char *at = strstr(name, names[i][0]);

            if (!at) continue;
            memcpy(old, name, sizeof(old));
            snprintf(at, sizeof(old) - (size_t)(at - name), "%s%s", names[i][1],
                     old + (at - name) + strlen(names[i][0]));
        }
    }
}

static void stack_flash(struct fixture_weights *w, uint32_t layer, const char *kind)
{
    static const char *const parts[] = { "query", "key", "value" };
    struct fixture_tensor *first = NULL;

    for (size_t i = 0; i < RR_COUNT(parts); i++) {
        struct fixture_tensor *t;
        char name[128];

        snprintf(name, sizeof(name), "roberta.encoder.layers.%u.attention.self.%s.%s", layer,
                 parts[i], kind);
        t = fixture_find(w, name);
        if (!first) {
            first = t;
            first->values = realloc(t->values, 3 * t->elements * sizeof(float));
            assert_non_null(first->values);
            snprintf(t->name, sizeof(t->name), "roberta.encoder.layers.%u.mixer.Wqkv.%s", layer,
                     kind);
            continue;
        }
        memcpy(first->values + i * t->elements, t->values, t->elements * sizeof(float));
        free(t->values);
        t->values = NULL;
        t->elements = 0;
        t->shape[0] = 0; /* taken out below */
    }
    first->elements *= 3;
    first->shape[0] *= 3;
}

static void test_flash(void **state)
{
    char path[512];
    const char *from = fixture_model("tiny-xlmr-odd", path, sizeof(path));
    struct fixture_weights w = fixture_weights(from), plain = fixture_weights(from);
    struct pairs p = read_pairs(from);
    float *got, *gguf, *want;
    size_t n = 0;

    (void)state;
    if (plugin) skip();
    rename_flash(&w);
    for (uint32_t layer = 0; layer < 2; layer++) {
        stack_flash(&w, layer, "weight");
        stack_flash(&w, layer, "bias");
    }
    for (size_t t = 0; t < w.n; t++)
        if (w.tensors[t].elements) w.tensors[n++] = w.tensors[t];
    w.n = n;
    got = variant_logits(from, NULL, &w, 0, false, &p);
    gguf = variant_logits(from, NULL, &w, 0, true, &p);
    want = variant_logits(from, NULL, &plain, 0, false, &p);
    assert_memory_equal(got, want, share(&p, false) * sizeof(*want));
    assert_memory_equal(gguf, want, share(&p, false) * sizeof(*want));
    free(got);
    free(gguf);
    free(want);
    free_pairs(&p);
    fixture_weights_free(&w);
    fixture_weights_free(&plain);
}

/* ---- the table of networks ------------------------------------------------------------------ */

static const char *const golden[] = {
    "tiny-xlmr",           "tiny-roberta",         "tiny-bert",    "tiny-electra",
    "tiny-modernbert-cls", "tiny-modernbert-mean", "tiny-deberta", "tiny-qwen3",
    "tiny-qwen2",          "tiny-gemma",           "tiny-gte",     "tiny-modules",
    "tiny-modules-mean",
};

/* Each model in the other precisions, against the same float32 reference.  Without VNNI sums of four
 * weights are limited (cpu/kern.h), which these random weights, all of one size, feel most; logits
 * are spread over -6 to 6, so that a wrong layer shows all the same. */
static const struct precision on_cpu[] = { { "bf16", 0.3, 0.05 }, { "int8", 1.5, 0.3 } };

static void test_precisions(void **state)
{
    (void)state;
    if (plugin) skip();
    for (size_t i = 0; i < RR_COUNT(golden); i++) {
        char path[512];
        const char *folder = fixture_model(golden[i], path, sizeof(path));
        struct pairs p = read_pairs(folder);

        for (size_t k = 0; k < RR_COUNT(on_cpu); k++) {
            precision = &on_cpu[k];
            check_level(golden[i], folder, &p, "auto", false);
        }
        free_pairs(&p);
    }
}

/* Also after a failure. */
static int as_chosen(void **state)
{
    (void)state;
    precision = chosen;
    return 0;
}

/* Names that share a network with a golden model: score.weight is what judges its words. */
static const struct {
    const char *name, *model, *yes, *no; /* NULL: has a classifier */
} renamed[] = {
    { "CamembertForSequenceClassification", "tiny-roberta", NULL, NULL },
    { "Qwen3ForSequenceClassification", "tiny-qwen3", "yes", "no" },
    { "Qwen2ForSequenceClassification", "tiny-qwen2", "1", "0" },
};

static const float *row_of_word(const char *folder, struct fixture_tensor *t, const char *word)
{
    struct rr_tok_scratch *scratch;
    struct rr_tok_ids ids;
    struct rr_error err;
    struct rr_tok *tok;
    const float *row;

    if (rr_tok_open(&tok, folder, NULL, &err)) fail_msg("%s", err.msg);
    if (rr_tok_scratch_open(&scratch, tok, &err)) fail_msg("%s", err.msg);
    ids = encode(tok, scratch, (struct rr_text){ word, strlen(word) });
    row = t->values + (size_t)ids.ids[0] * t->shape[1];
    free((void *)(uintptr_t)ids.ids);
    rr_tok_scratch_close(scratch);
    rr_tok_close(tok);
    return row;
}

static void add_score(struct fixture_weights *w, const char *folder, const char *yes,
                      const char *no)
{
    struct fixture_tensor *table = fixture_find(w, "model.embed_tokens.weight"), *t;
    uint32_t columns = table->shape[1];

    w->tensors = realloc(w->tensors, (w->n + 1) * sizeof(*w->tensors));
    assert_non_null(w->tensors);
    table = fixture_find(w, "model.embed_tokens.weight");
    t = &w->tensors[w->n++];
    *t = (struct fixture_tensor){ .name = "score.weight",
                                  .dtype = "F32",
                                  .rank = 2,
                                  .shape = { 1, columns },
                                  .elements = columns };
    t->values = malloc(columns * sizeof(float));
    assert_non_null(t->values);
    for (uint32_t i = 0; i < columns; i++)
        t->values[i] = row_of_word(folder, table, yes)[i] - row_of_word(folder, table, no)[i];
}

static void test_renamed(void **state)
{
    (void)state;
    if (plugin) skip();
    for (size_t i = 0; i < RR_COUNT(renamed); i++) {
        char path[512];
        const char *from = fixture_model(renamed[i].model, path, sizeof(path));
        struct fixture_weights w = fixture_weights(from);
        struct pairs p = read_pairs(from);
        size_t n = share(&p, false);
        float *logits, *gguf;
        struct worst worst;

        if (renamed[i].yes) add_score(&w, from, renamed[i].yes, renamed[i].no);
        logits = variant_logits(from, renamed[i].name, &w, 0, false, &p);
        gguf = variant_logits(from, renamed[i].name, &w, 0, true, &p);
        worst = compare(&p, logits, n);
        if (worst.logit > LOGIT_TOLERANCE)
            fail_msg("%s: differs by %.2e in a logit", renamed[i].name, worst.logit);
        assert_memory_equal(logits, gguf, n * sizeof(*gguf));
        free(logits);
        free(gguf);
        free_pairs(&p);
        fixture_weights_free(&w);
    }
}

/* Heads written down as sentence-transformers does: the same numbers, to the bit. */
static const struct {
    const char *name, *model, *dense, *out, *act;
} composed[] = {
    { "XLMRobertaModel", "tiny-xlmr", "classifier.dense", "classifier.out_proj", "Tanh" },
    { "RobertaModel", "tiny-roberta", "classifier.dense", "classifier.out_proj", "Tanh" },
    { "ElectraModel", "tiny-electra", "classifier.dense", "classifier.out_proj", "GELU" },
    { "BertModel", "tiny-bert", "bert.pooler.dense", "classifier", "Tanh" },
    { "DebertaV2Model", "tiny-deberta", "pooler.dense", "classifier", "GELU" },
};

static void write_text(const struct fixture_folder *f, const char *name, const char *text)
{
    fixture_write(f, name, text, strlen(text));
}

/* A dense module from the tensors named source.weight and source.bias. */
static void write_dense(const struct fixture_folder *f, const char *path, struct fixture_weights *w,
                        const char *source, const char *act, bool last)
{
    struct fixture_tensor two[2];
    struct fixture_weights part = { two, 2 };
    struct fixture_folder sub;
    char text[400];

    for (size_t i = 0; i < 2; i++) {
        snprintf(text, sizeof(text), "%s%s", source, i ? ".bias" : ".weight");
        two[i] = *fixture_find(w, text);
        snprintf(two[i].name, sizeof(two[i].name), "linear%s", i ? ".bias" : ".weight");
    }
    if (snprintf(sub.path, sizeof(sub.path), "%s/%s", f->path, path) >= (int)sizeof(sub.path) ||
        mkdir(sub.path, 0700))
        fail_msg("%s: no folder", path);
    snprintf(text, sizeof(text),
             "{\"in_features\":%u,\"out_features\":%u,\"bias\":true,\"activation_function\":"
             "\"torch.nn.modules.%s\",\"module_output_name\":\"%s\"}",
             two[0].shape[1], two[0].shape[0], act, last ? "scores" : "sentence_embedding");
    write_text(&sub, "config.json", text);
    fixture_save(&sub, "model.safetensors", &part, 0, 2, 0);
}

static void remove_modules(const struct fixture_folder *f)
{
    static const char *const paths[] = { "1_Pooling", "2_Dense", "3_Dense" };

    for (size_t i = 0; i < RR_COUNT(paths); i++) {
        struct fixture_folder sub;

        (void)!snprintf(sub.path, sizeof(sub.path), "%.200s/%s", f->path, paths[i]);
        fixture_remove(&sub);
    }
    fixture_remove(f);
}

static float *composed_logits(size_t row, const char *from, struct fixture_weights *w,
                              const struct pairs *p)
{
    struct fixture_folder f = fixture_folder(), pooling;
    char act[64];
    float *logits;
    struct run r;

    write_config(&f, from, composed[row].name);
    fixture_save(&f, "model.safetensors", w, 0, w->n, 0);
    write_text(&f, "modules.json",
               "[{\"idx\":0,\"path\":\"\",\"type\":\"a.Transformer\"},"
               "{\"idx\":1,\"path\":\"1_Pooling\",\"type\":\"a.Pooling\"},"
               "{\"idx\":2,\"path\":\"2_Dense\",\"type\":\"a.Dense\"},"
               "{\"idx\":3,\"path\":\"3_Dense\",\"type\":\"a.Dense\"}]");
    (void)!snprintf(pooling.path, sizeof(pooling.path), "%.200s/1_Pooling", f.path);
    assert_int_equal(mkdir(pooling.path, 0700), 0);
    write_text(&pooling, "config.json", "{\"pooling_mode_cls_token\":true}");
    snprintf(act, sizeof(act), "activation.%s", composed[row].act);
    write_dense(&f, "2_Dense", w, composed[row].dense, act, false);
    write_dense(&f, "3_Dense", w, composed[row].out, "linear.Identity", true);
    r = start(f.path, "auto", p->longest);
    logits = logits_of(&r, p, share(p, false));
    stop(&r);
    remove_modules(&f);
    return logits;
}

static void test_composed(void **state)
{
    (void)state;
    if (plugin) skip();
    for (size_t i = 0; i < RR_COUNT(composed); i++) {
        char path[512];
        const char *from = fixture_model(composed[i].model, path, sizeof(path));
        struct fixture_weights w = fixture_weights(from);
        struct pairs p = read_pairs(from);
        float *want = variant_logits(from, NULL, &w, 0, false, &p);
        float *got = composed_logits(i, from, &w, &p);

        assert_memory_equal(got, want, share(&p, false) * sizeof(*want));
        free(got);
        free(want);
        free_pairs(&p);
        fixture_weights_free(&w);
    }
}

/* No row of the table, which README.md shows as tested, is left out by these tests. */
static void test_every_network(void **state)
{
    const char *name, *types, *models;

    (void)state;
    for (size_t i = 0; (name = rr_model_supported(i, &types, &models)) != NULL; i++) {
        bool found = false;

        for (size_t k = 0; k < RR_COUNT(renamed); k++)
            found = found || strcmp(renamed[k].name, name) == 0;
        for (size_t k = 0; k < RR_COUNT(composed); k++)
            found = found || strcmp(composed[k].name, name) == 0;
        for (size_t k = 0; k < RR_COUNT(golden) && !found; k++) {
            char path[512];
            struct fixture_bytes b =
                fixture_read(fixture_model(golden[k], path, sizeof(path)), "config.json");

            found = strstr(b.data, name) != NULL;
            free(b.data);
        }
        if (!found) fail_msg("%s: no model of it is tested", name);
    }
}

/* False: the plugin's device has no such precision, which was said. */
static bool choose(int argc, char **argv)
{
    struct rr_device_options opt = { 0 };
    const struct rr_backend *b;
    struct rr_error err = { 0 };
    struct rr_device *d;
    int rc;

    if (argc < 3) return true;
    plugin = argv[1];
    chosen = NULL;
    for (size_t i = 0; i < RR_COUNT(precisions); i++)
        if (strcmp(precisions[i].dtype, argv[2]) == 0) precision = chosen = &precisions[i];
    if (argc > 3) plugin_pairs = strtoul(argv[3], NULL, 10);
    opt.dtype = argv[2];
    if (!chosen || rr_backend_find(&b, plugin, &err)) {
        fprintf(stderr, "test_parity: %s, %s: %s\n", plugin, argv[2], err.msg);
        exit(1);
    }
    rc = b->open(&d, &opt, &err);
    if (rc == RR_ENOTSUP) printf("SKIP: %s\n", err.msg);
    if (!rc) b->close(d);
    return rc != RR_ENOTSUP;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        { "tiny-xlmr", test_tiny, NULL, NULL, (void *)"tiny-xlmr" },
        { "tiny-xlmr-odd", test_tiny, NULL, NULL, (void *)"tiny-xlmr-odd" },
        { "tiny-bert", test_tiny, NULL, NULL, (void *)"tiny-bert" },
        { "tiny-roberta", test_tiny, NULL, NULL, (void *)"tiny-roberta" },
        { "tiny-modernbert-cls", test_tiny, NULL, NULL, (void *)"tiny-modernbert-cls" },
        { "tiny-modernbert-mean", test_tiny, NULL, NULL, (void *)"tiny-modernbert-mean" },
        { "tiny-deberta", test_tiny, NULL, NULL, (void *)"tiny-deberta" },
        { "tiny-qwen3", test_tiny, NULL, NULL, (void *)"tiny-qwen3" },
        { "tiny-modules", test_tiny, NULL, NULL, (void *)"tiny-modules" },
        { "tiny-modules-mean", test_tiny, NULL, NULL, (void *)"tiny-modules-mean" },
        { "tiny-electra", test_tiny, NULL, NULL, (void *)"tiny-electra" },
        { "tiny-qwen2", test_tiny, NULL, NULL, (void *)"tiny-qwen2" },
        { "tiny-gemma", test_tiny, NULL, NULL, (void *)"tiny-gemma" },
        { "tiny-gte", test_tiny, NULL, NULL, (void *)"tiny-gte" },
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_flash),
        cmocka_unit_test_teardown(test_precisions, as_chosen),
        cmocka_unit_test(test_renamed),
        cmocka_unit_test(test_composed),
        cmocka_unit_test(test_every_network),
        cmocka_unit_test(test_starter),
    };

    if (!choose(argc, argv)) return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
