/* SPDX-License-Identifier: Apache-2.0 */
/* test_gguf.c - GGUF files: what is refused and why, weights in blocks, models and tokenizers that
 * come back as they were. */
#include "checkpoint_fixture.h"

#include <locale.h>
#include <math.h>

#include "base/buf.h"
#include "base/text.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "model/gguf.h"
#include "model/gguf_model.h"
#include "model/gguf_quant.h"
#include "model/model.h"
#include "support/fault.h"
#include "tok/tok.h"

#define GOLDEN "tests/golden/models/"

/* ---- bytes of a file ------------------------------------------------------------------------ */

static struct rr_buf file; /* of the running test */

static void put(uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) rr_buf_putc(&file, (char)(v >> (8 * i)));
}

static void put_string(const char *s)
{
    put(strlen(s), 8);
    rr_buf_puts(&file, s);
}

static void begin(uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    rr_buf_free(&file);
    rr_buf_init(&file, RR_MEM_MISC, 1 << 20);
    rr_buf_puts(&file, "GGUF");
    put(version, 4);
    put(n_tensors, 8);
    put(n_keys, 8);
}

static void key_u32(const char *key, uint32_t v)
{
    put_string(key);
    put(RR_GGUF_U32, 4);
    put(v, 4);
}

/* Two keys: the kind of tokenizer and its pieces. */
static void key_pieces(const char *kind, const char *const *pieces, size_t n)
{
    put_string("tokenizer.ggml.model");
    put(RR_GGUF_TEXT, 4);
    put_string(kind);
    put_string("tokenizer.ggml.tokens");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_TEXT, 4);
    put(n, 8);
    for (size_t i = 0; i < n; i++) put_string(pieces[i]);
}

static void tensor(const char *name, uint64_t n0, uint64_t n1, uint32_t type, uint64_t offset)
{
    put_string(name);
    put(n1 ? 2 : 1, 4);
    put(n0, 8);
    if (n1) put(n1, 8);
    put(type, 4);
    put(offset, 8);
}

/* Up to the alignment, then so many bytes of data. */
static void data(unsigned bytes)
{
    while (file.len % 32) put(0, 1);
    for (unsigned i = 0; i < bytes; i++) put(i, 1);
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void small_file(void)
{
    begin(3, 2, 1);
    key_u32("k", 7);
    tensor("a", 4, 0, 0, 0);
    tensor("b", 32, 2, 8, 32);
    data(32 + 68);
}

static void no_magic(void)
{
    small_file();
    file.data[0] = 'X';
}
static void version_1(void)
{
    begin(1, 0, 0);
}
static void big_endian(void)
{
    begin(3u << 24, 0, 0);
}
static void many_tensors(void)
{
    begin(3, UINT64_C(1) << 40, 0);
}
static void counts_cut_off(void)
{
    begin(3, 100, 100);
}
static void long_string(void)
{
    begin(3, 0, 1);
    put(UINT64_C(1) << 30, 8);
    data(64);
}
static void string_cut_off(void)
{
    begin(3, 0, 1);
    put(1000, 8);
    data(64);
}
static void unknown_kind(void)
{
    begin(3, 0, 1);
    put_string("k");
    put(13, 4);
    put(0, 8);
}
static void nested_array(void)
{
    begin(3, 0, 1);
    put_string("k");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_ARRAY, 4);
    put(1, 8);
}
static void array_cut_off(void)
{
    begin(3, 0, 1);
    put_string("k");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_F64, 4);
    put(UINT64_C(1) << 61, 8);
}
static void string_array_cut_off(void)
{
    begin(3, 0, 1);
    put_string("k");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_TEXT, 4);
    put(UINT64_C(1) << 60, 8);
}
static void key_twice(void)
{
    begin(3, 0, 2);
    key_u32("k", 1);
    key_u32("k", 2);
}
static void key_is_no_text(void)
{
    begin(3, 0, 1);
    key_u32("\xFF", 1);
}
static void alignment_2_30(void)
{
    begin(3, 0, 1);
    key_u32("general.alignment", 1u << 30);
}
static void alignment_odd(void)
{
    begin(3, 0, 1);
    key_u32("general.alignment", 33);
}
static void alignment_text(void)
{
    begin(3, 0, 1);
    put_string("general.alignment");
    put(RR_GGUF_TEXT, 4);
    put_string("32");
}
static void huge_dimension(void)
{
    begin(3, 1, 0);
    tensor("a", (UINT64_C(1) << 42) + 1, 0, 0, 0);
    data(64);
}
static void huge_product(void)
{
    begin(3, 1, 0);
    tensor("a", UINT32_MAX, UINT32_MAX, 0, 0);
    data(64);
}
static void no_elements(void)
{
    begin(3, 1, 0);
    tensor("a", 0, 0, 0, 0);
    data(64);
}
static void five_dimensions(void)
{
    begin(3, 1, 0);
    put_string("a");
    put(5, 4);
    data(64);
}
static void unknown_type(void)
{
    begin(3, 1, 0);
    tensor("a", 256, 0, 16, 0);
    data(256);
}
static void half_a_block(void)
{
    begin(3, 1, 0);
    tensor("a", 48, 0, 8, 0);
    data(64);
}
static void overlap(void)
{
    begin(3, 2, 0);
    tensor("a", 16, 0, 0, 0);
    tensor("b", 16, 0, 0, 32);
    data(128);
}
static void hole(void)
{
    begin(3, 2, 0);
    tensor("a", 16, 0, 0, 0);
    tensor("b", 16, 0, 0, 96);
    data(256);
}
static void far_offset(void)
{
    begin(3, 1, 0);
    tensor("a", 16, 0, 0, UINT64_MAX - 31);
    data(64);
}
static void data_cut_off(void)
{
    small_file();
    file.len--;
}
static void tensor_twice(void)
{
    begin(3, 2, 0);
    tensor("a", 8, 0, 0, 0);
    tensor("a", 8, 0, 0, 32);
    data(64);
}

static const struct {
    void (*make)(void);
    int code;
    const char *message;
} refused[] = {
    { no_magic, RR_EFORMAT, "does not begin with GGUF" },
    { version_1, RR_ENOTSUP, "version 1, supported are 2 and 3" },
    { big_endian, RR_ENOTSUP, "(a big-endian file)" },
    { many_tensors, RR_ETOOBIG, "1099511627776 tensors" },
    { counts_cut_off, RR_EFORMAT, "100 tensors and 100 keys in 24 bytes" },
    { long_string, RR_ETOOBIG, "key 0: a string of 1073741824 bytes, at most 134217728" },
    { string_cut_off, RR_EFORMAT, "key 0: 1000 bytes expected at byte 32" },
    { unknown_kind, RR_EFORMAT, "k: value type 13, expected 0 to 12" },
    { nested_array, RR_ENOTSUP, "k: an array of arrays" },
    { array_cut_off, RR_EFORMAT, "k: 2305843009213693952 bytes expected" },
    { string_array_cut_off, RR_EFORMAT, "k: 8 bytes expected" },
    { key_twice, RR_EFORMAT, "k is there twice" },
    { key_is_no_text, RR_EFORMAT, "key 0 is not a name" },
    { alignment_2_30, RR_EFORMAT, "general.alignment is 1073741824, expected 8 to 1048576" },
    { alignment_odd, RR_EFORMAT, "general.alignment is 33, expected a power of two" },
    { alignment_text, RR_EFORMAT, "general.alignment is string, expected an integer" },
    { huge_dimension, RR_EFORMAT, "tensor a: dimension 0 is 4398046511105" },
    { huge_product, RR_EFORMAT, "tensor a: dimension 1 is 4294967295" },
    { no_elements, RR_EFORMAT, "tensor a: dimension 0 is 0" },
    { five_dimensions, RR_ETOOBIG, "tensor a: 5 dimensions, expected 1 to 4" },
    { unknown_type, RR_ENOTSUP, "tensor a: type 16, supported are F32" },
    { half_a_block, RR_EFORMAT, "tensor a: rows of 48 elements, expected a multiple of 32" },
    { overlap, RR_EFORMAT, "tensor b: data at offset 32, expected 64" },
    { hole, RR_EFORMAT, "tensor b: data at offset 96, expected 64" },
    { far_offset, RR_EFORMAT, "tensor a: data at offset 18446744073709551584, expected 0" },
    { data_cut_off, RR_EFORMAT, "tensor b: 68 bytes of data at byte" },
    { tensor_twice, RR_EFORMAT, "tensor a is there twice" },
};

static int parse(struct rr_gguf **g, struct rr_error *err)
{
    memset(err, 0, sizeof(*err));
    return rr_gguf_parse(g, (struct rr_text){ file.data, file.len }, "f.gguf", err);
}

static void test_refused(void **state)
{
    struct rr_gguf *g;
    struct rr_error err;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(refused); i++) {
        refused[i].make();
        if (parse(&g, &err) != refused[i].code || g || !strstr(err.msg, refused[i].message) ||
            strncmp(err.msg, "f.gguf: ", 8) != 0)
            fail_msg("row %zu: %d %s, expected %d %s", i, err.code, err.msg, refused[i].code,
                     refused[i].message);
    }
    rr_buf_free(&file);
}

static void test_accepted(void **state)
{
    const struct rr_gguf_tensor *t;
    struct rr_gguf *g;
    struct rr_error err;
    uint32_t v = 0;
    size_t n, len;

    (void)state;
    small_file();
    assert_int_equal(parse(&g, &err), RR_OK);
    assert_int_equal(rr_gguf_u32(g, "k", true, 0, 10, &v, &err), RR_OK);
    assert_int_equal(v, 7);
    assert_int_equal(rr_gguf_u32(g, "k", true, 0, 6, &v, &err), RR_EFORMAT);
    assert_string_equal(err.msg, "f.gguf: k is 7, expected 0 to 6");
    t = rr_gguf_tensors(g, &n);
    assert_int_equal(n, 2);
    assert_int_equal(t[1].rank, 2);
    assert_int_equal(t[1].shape[0], 2); /* outermost first */
    assert_int_equal(t[1].shape[1], 32);
    assert_ptr_equal(t[1].data, file.data + file.len - 68);
    rr_gguf_close(g);
    len = file.len;
    for (file.len = 0; file.len < len; file.len++) { /* cut anywhere: an error, nothing worse */
        if (parse(&g, &err) == RR_OK) fail_msg("cut to %zu bytes and taken", file.len);
    }
    rr_buf_free(&file);
}

static int parse_again(void *user)
{
    struct rr_gguf *g;
    struct rr_error err;
    int rc = parse(&g, &err);

    (void)user;
    rr_gguf_close(g);
    return rc;
}

/* A model that is opened and its tokenizer. */
static int open_again(void *user)
{
    struct rr_model *m;
    struct rr_error err;
    struct rr_buf text;
    int rc = rr_model_open(&m, user, &err);

    if (rc) return rc;
    rr_buf_init(&text, RR_MEM_MISC, 64 << 20);
    rc = rr_model_tokenizer(m, &text, &err);
    rr_buf_free(&text);
    rr_model_close(m);
    return rc;
}

/* ---- blocks --------------------------------------------------------------------------------- */

static char *golden(const char *name, size_t *len)
{
    struct rr_error err;
    char path[256], *text;

    snprintf(path, sizeof(path), "tests/golden/gguf/%s.bin", name);
    if (rr_file_read(&text, len, path, 1 << 20, RR_MEM_MISC, &err)) fail_msg("%s", err.msg);
    return text;
}

/* Blocks of random bytes, and what the package gguf makes of them: the same bits. */
static void test_decode(void **state)
{
    static const struct {
        const char *name;
        uint32_t id;
    } rows[] = { { "Q8_0", 8 },  { "Q4_0", 2 },  { "Q4_1", 3 },    { "Q5_0", 6 },
                 { "Q5_1", 7 },  { "Q2_K", 10 }, { "Q3_K", 11 },   { "Q4_K", 12 },
                 { "Q5_K", 13 }, { "Q6_K", 14 }, { "IQ4_NL", 20 }, { "IQ4_XS", 23 } };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        const struct rr_gguf_type *t = rr_gguf_type(rows[i].id);
        size_t len, n = 4 * t->block;
        char *bytes = golden(rows[i].name, &len);
        float out[4 * 256], want;

        assert_string_equal(t->name, rows[i].name);
        assert_int_equal(len, 4 * t->bytes + n * sizeof(float));
        rr_gguf_decode(t, out, bytes, n);
        for (size_t j = 0; j < n; j++) {
            memcpy(&want, bytes + 4 * t->bytes + j * sizeof(want), sizeof(want));
            if (memcmp(&want, &out[j], sizeof(want)) != 0 && !(want == 0 && out[j] == 0))
                fail_msg("%s[%zu] is %.9g, expected %.9g", t->name, j, (double)out[j],
                         (double)want);
        }
        rr_free(bytes);
    }
}

static void test_encode(void **state)
{
    size_t len, n;
    char *bytes = golden("Q8_0.encode", &len), out[8 * 34];
    float in[512];
    uint16_t halves[512];

    (void)state;
    memcpy(in, bytes, sizeof(float) * 256);
    assert_true(rr_gguf_encode(rr_gguf_type_named("q8_0"), out, in, 256));
    assert_memory_equal(out, bytes + 1024, sizeof(out));
    rr_free(bytes);

    bytes = golden("halves", &len);
    n = len / 8; /* f32, f16, bf16 of each */
    memcpy(in, bytes, n * 4);
    assert_true(rr_gguf_encode(rr_gguf_type_named("f16"), halves, in, n));
    assert_memory_equal(halves, bytes + n * 4, n * 2);
    assert_true(rr_gguf_encode(rr_gguf_type_named("bf16"), halves, in, n));
    assert_memory_equal(halves, bytes + n * 6, n * 2);
    assert_false(rr_gguf_encode(rr_gguf_type(2), halves, in, 32));
    rr_free(bytes);
}

/* ---- whole models --------------------------------------------------------------------------- */

static const char *const models[] = {
    "tiny-bert",  "tiny-xlmr",           "tiny-xlmr-odd",        "tiny-roberta", "tiny-qwen3",
    "tiny-qwen2", "tiny-modernbert-cls", "tiny-modernbert-mean", "tiny-gemma"
};

static struct rr_model *open_model(const char *path)
{
    struct rr_model *m;
    struct rr_error err;

    if (rr_model_open(&m, path, &err)) fail_msg("%s", err.msg);
    return m;
}

static const struct rr_text as_it_is; /* the source's tokenizer */

static void convert(const char *from, const char *to, const char *dtype, uint64_t shard_bytes)
{
    struct rr_error err;

    if (rr_model_convert(from, to, dtype, shard_bytes, as_it_is, &err)) fail_msg("%s", err.msg);
}

/* The two programs are the same and their weights differ by at most share of the largest of the
 * tensor (0: not a bit).  Gemma's norms are stored with 1 added, so that their last bits go; with 1
 * added, as the network uses them, they are the same. */
static void compare(const struct rr_model *a, const struct rr_model *b, float share)
{
    const struct rr_program *p = rr_model_program(a), *q = rr_model_program(b);

    assert_int_equal(p->n_tensors, q->n_tensors);
    assert_int_equal(p->n_ops, q->n_ops);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct rr_tensor *s = &p->tensors[i], *t = &q->tensors[i];
        uint64_t n = 1;
        bool shifted = rr_gguf_shift(rr_model_info(a)->architecture, rr_text(s->name)) != 0;
        float *x, *y, most = 0, slack = shifted ? 0x1p-24f : 0;

        assert_int_equal(s->rank, t->rank);
        for (uint32_t d = 0; d < s->rank; d++) {
            assert_int_equal(s->shape[d], t->shape[d]);
            n *= s->shape[d];
        }
        x = malloc(2 * n * sizeof(*x));
        assert_non_null(x);
        y = x + n;
        rr_gguf_widen(x, s->data, s->dtype, n);
        rr_gguf_widen(y, t->data, t->dtype, n);
        for (uint64_t j = 0; j < n; j++) most = fmaxf(most, fabsf(x[j]));
        for (uint64_t j = 0; j < n; j++) {
            if (!(fabsf(x[j] - y[j]) <= share * most + slack))
                fail_msg("%s[%llu]: %.9g became %.9g", s->name, (unsigned long long)j, (double)x[j],
                         (double)y[j]);
        }
        free(x);
    }
}

static void in_folder(char path[512], const struct fixture_folder *f, const char *name)
{
    snprintf(path, 512, "%s/%s", f->path, name);
}

/* To GGUF in each precision, and from there to safetensors. */
static void test_round_trip(void **state)
{
    static const struct {
        const char *dtype;
        float share; /* half a step; of q8_0 1/254 and the rounding of the scale, 2^-11 */
    } rows[] = {
        { "f32", 0 }, { "f16", 0x1p-11f }, { "bf16", 0x1p-8f }, { "q8_0", 1 / 254.0f + 0x1p-11f }
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(models); i++) {
        char from[128];
        struct rr_model *a;

        snprintf(from, sizeof(from), GOLDEN "%s", models[i]);
        a = open_model(from);
        for (size_t j = 0; j < RR_COUNT(rows); j++) {
            struct fixture_folder f = fixture_folder(), g = fixture_folder();
            struct rr_model *b, *c;
            char path[512];

            in_folder(path, &f, "m.gguf");
            convert(from, path, rows[j].dtype, 0);
            b = open_model(path);
            compare(a, b, rows[j].share);
            assert_int_equal(rr_model_info(a)->max_length, rr_model_info(b)->max_length);
            convert(path, g.path, "f32", j ? 0 : 100000);
            c = open_model(g.path);
            compare(b, c, 0);
            rr_model_close(b);
            rr_model_close(c);
            fixture_remove(&f);
            fixture_remove(&g);
        }
        rr_model_close(a);
    }
}

/* ---- tokenizers ----------------------------------------------------------------------------- */

static struct rr_tok *tokenizer_of(const char *path)
{
    struct rr_model *m = open_model(path);
    struct rr_error err;
    struct rr_buf text;
    struct rr_tok *tok;

    rr_buf_init(&text, RR_MEM_MISC, 64 << 20);
    if (rr_model_tokenizer(m, &text, &err)) fail_msg("%s", err.msg);
    if (rr_tok_parse(&tok, (struct rr_text){ text.data, text.len }, path, &err))
        fail_msg("%s", err.msg);
    rr_buf_free(&text);
    rr_model_close(m);
    return tok;
}

static void same_ids(struct rr_tok *a, struct rr_tok *b, struct rr_text text, const char *where)
{
    struct rr_tok_scratch *s, *t;
    struct rr_tok_ids x, y;
    struct rr_error err;
    int32_t ids[2][600], types[2][600];
    uint32_t n[2], dropped;

    assert_int_equal(rr_tok_scratch_open(&s, a, &err), RR_OK);
    assert_int_equal(rr_tok_scratch_open(&t, b, &err), RR_OK);
    if (rr_tok_encode(a, s, text, 0, 0, &x, &err)) fail_msg("%s", err.msg);
    if (rr_tok_encode(b, t, text, 0, 0, &y, &err)) fail_msg("%s", err.msg);
    if (x.n != y.n || memcmp(x.ids, y.ids, x.n * sizeof(*x.ids)) != 0)
        fail_msg("%s: other tokens for \"%.*s\"", where, (int)RR_MIN(text.len, 200), text.data);
    assert_int_equal(rr_tok_pair(a, &x, &x, 600, 0, ids[0], types[0], &n[0], &dropped, &err), 0);
    assert_int_equal(rr_tok_pair(b, &y, &y, 600, 0, ids[1], types[1], &n[1], &dropped, &err), 0);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], n[0] * sizeof(int32_t));
    assert_memory_equal(types[0], types[1], n[0] * sizeof(int32_t));
    rr_tok_scratch_close(s);
    rr_tok_scratch_close(t);
}

/* Every text of the model's references, by both tokenizers. */
static void same_tokenizer(struct rr_tok *a, struct rr_tok *b, const char *folder)
{
    char path[256], *text, *line, *rest;
    struct rr_error err;
    size_t len;

    snprintf(path, sizeof(path), "%s/reference.jsonl", folder);
    if (rr_file_read(&text, &len, path, 16 << 20, RR_MEM_MISC, &err)) fail_msg("%s", err.msg);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *v = json_loads(line, JSON_ALLOW_NUL, NULL), *docs, *d;
        size_t i;

        assert_non_null(v);
        d = json_object_get(v, "query");
        same_ids(a, b, (struct rr_text){ json_string_value(d), json_string_length(d) }, folder);
        docs = json_object_get(v, "documents");
        json_array_foreach(docs, i, d)
            same_ids(a, b, (struct rr_text){ json_string_value(d), json_string_length(d) }, folder);
        json_decref(v);
    }
    rr_free(text);
}

/* With the whole tokenizer in the file, and as llama.cpp leaves it: pieces, scores or merges. */
static void test_tokenizer(void **state)
{
    static const char key[] = "tokenizer.huggingface.json";

    (void)state;
    for (size_t i = 0; i < RR_COUNT(models); i++) {
        struct fixture_folder f = fixture_folder();
        char from[128], path[512], *bytes, *at;
        struct rr_tok *a, *b;
        struct rr_error err;
        size_t len;

        snprintf(from, sizeof(from), GOLDEN "%s", models[i]);
        fixture_copy(&f, from, "tokenizer.json"); /* alone: other files can change it */
        if (rr_tok_open(&a, f.path, NULL, &err)) fail_msg("%s", err.msg);
        in_folder(path, &f, "m.gguf");
        convert(from, path, "bf16", 0);
        b = tokenizer_of(path);
        assert_int_equal(rr_tok_fingerprint(a), rr_tok_fingerprint(b)); /* byte by byte */
        rr_tok_close(b);
        if (strcmp(models[i], "tiny-xlmr-odd") != 0) { /* has a normalizer that GGUF cannot say */
            if (rr_file_read(&bytes, &len, path, 64 << 20, RR_MEM_MISC, &err))
                fail_msg("%s", err.msg);
            at = memmem(bytes, len, key, sizeof(key) - 1);
            assert_non_null(at);
            at[sizeof(key) - 2] = 'X';
            fixture_write(&f, "m.gguf", bytes, len);
            rr_free(bytes);
            b = tokenizer_of(path);
            same_tokenizer(a, b, from);
            rr_tok_close(b);
        }
        rr_tok_close(a);
        fixture_remove(&f);
    }
}

/* What a converted file says in a key: 0, 1, or -1 where it says nothing. */
static int said(const struct rr_gguf *g, const char *key)
{
    struct rr_error err;
    bool value;

    if (!rr_gguf_find(g, key)) return -1;
    if (rr_gguf_bool(g, key, &value, &err)) fail_msg("%s", err.msg);
    return value;
}

/* With which tokens around a pair, and which letters, llama.cpp is to read the texts. */
static void test_said_to_llama_cpp(void **state)
{
    static const char bert[] = "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],"
                               "\"cls\":[\"[CLS]\",2]}";
    static const char cased[] = "{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                                "\"handle_chinese_chars\":true,\"strip_accents\":null,"
                                "\"lowercase\":false}";
    static const char small[] = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},"
                                "{\"type\":\"Lowercase\"}]}";
    static const struct {
        const char *name, *key, *text; /* this in the place of what tokenizer.json has */
        int bos, eos, sep, lower, strip;
    } rows[] = {
        { "tiny-xlmr", NULL, NULL, 1, 1, 1, -1, -1 }, /* <s> A </s></s> B </s> */
        { "tiny-roberta", NULL, NULL, 1, 1, 1, -1, -1 },
        { "tiny-modernbert-cls", NULL, NULL, 1, 1, 0, -1, -1 },
        { "tiny-bert", NULL, NULL, 1, 1, 0, 1, -1 }, /* [CLS] A [SEP] B [SEP] */
        { "tiny-bert", "post_processor", bert, 1, 1, 0, 1, -1 },
        { "tiny-bert", "normalizer", cased, 1, 1, 0, 0, -1 },
        { "tiny-bert", "normalizer", small, 1, 1, 0, 1, 0 },
        { "tiny-qwen3", NULL, NULL, -1, -1, -1, -1, -1 }, /* the prompt has its tokens */
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        char from[128], path[512], *text;
        struct fixture_bytes b;
        struct rr_gguf *g;
        struct rr_error err;
        json_t *root;
        size_t len;

        snprintf(from, sizeof(from), GOLDEN "%s", rows[i].name);
        in_folder(path, &f, "m.gguf");
        b = fixture_read(from, "tokenizer.json");
        root = json_loadb(b.data, b.len, JSON_ALLOW_NUL, NULL);
        assert_non_null(root);
        if (rows[i].key) json_object_set_new(root, rows[i].key, json_loads(rows[i].text, 0, NULL));
        text = fixture_dump(root, 0);
        json_decref(root);
        if (rr_model_convert(from, path, "bf16", 0, rr_text(text), &err)) fail_msg("%s", err.msg);
        free(text);
        free(b.data);
        if (rr_file_read(&text, &len, path, 64 << 20, RR_MEM_MISC, &err)) fail_msg("%s", err.msg);
        if (rr_gguf_parse(&g, (struct rr_text){ text, len }, path, &err)) fail_msg("%s", err.msg);
        assert_int_equal(said(g, "tokenizer.ggml.add_bos_token"), rows[i].bos);
        assert_int_equal(said(g, "tokenizer.ggml.add_eos_token"), rows[i].eos);
        assert_int_equal(said(g, "tokenizer.ggml.add_sep_token"), rows[i].sep);
        assert_int_equal(said(g, "tokenizer.ggml.normalizer.lowercase"), rows[i].lower);
        assert_int_equal(said(g, "tokenizer.ggml.normalizer.strip_accents"), rows[i].strip);
        rr_gguf_close(g);
        rr_free(text);
        fixture_remove(&f);
    }
}

/* Gemma's tokenizer, as llama.cpp stores it: pieces with scores; the merges are made of them. */
static void test_scored_tokenizer(void **state)
{
    static const char *const pieces[] = { "<unk>", "<bos>", "\xE2\x96\x81", "a",     "b",     "c",
                                          "ab",    "bc",    "abc",          "abcab", "<0x0A>" };
    static const float scores[] = { 0, 0, -6, -7, -8, -9.5f, -2, -1, -3, -4, 0 };
    static const int32_t kinds[] = { 2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 6 };
    /* best whole first; of one whole, the longer left side first */
    static const char merges[] = "[[\"b\",\"c\"],[\"a\",\"b\"],[\"ab\",\"c\"],[\"a\",\"bc\"],"
                                 "[\"abc\",\"ab\"]]";
    static const struct {
        const char *text;
        int32_t ids[6];
        uint32_t n;
    } rows[] = {
        { "abc", { 8 }, 1 },         /* b c is joined before a b */
        { "ab ab", { 6, 2, 6 }, 3 }, /* a space is a piece, never joined over */
        { "abcab", { 9 }, 1 },       /* bc, ab, then both */
        { "a\nd", { 3, 10, 0 }, 3 }, /* a byte's piece; a character without one */
    };
    struct rr_gguf *g;
    struct rr_error err;
    struct rr_tok *tok;
    struct rr_tok_scratch *s;
    struct rr_tok_ids ids;
    struct rr_buf text;

    (void)state;
    begin(3, 0, 6);
    key_pieces("llama", pieces, RR_COUNT(pieces));
    put_string("tokenizer.ggml.scores");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_F32, 4);
    put(RR_COUNT(scores), 8);
    rr_buf_put(&file, scores, sizeof(scores));
    put_string("tokenizer.ggml.token_type");
    put(RR_GGUF_ARRAY, 4);
    put(RR_GGUF_I32, 4);
    put(RR_COUNT(kinds), 8);
    rr_buf_put(&file, kinds, sizeof(kinds));
    key_u32("tokenizer.ggml.bos_token_id", 1);
    key_u32("tokenizer.ggml.unknown_token_id", 0);
    if (parse(&g, &err)) fail_msg("%s", err.msg);
    rr_buf_init(&text, RR_MEM_MISC, 1 << 20);
    if (rr_gguf_tokenizer(g, "f.gguf", &text, &err)) fail_msg("%s", err.msg);
    assert_non_null(memmem(text.data, text.len, merges, sizeof(merges) - 1));
    if (rr_tok_parse(&tok, (struct rr_text){ text.data, text.len }, "t", &err))
        fail_msg("%s", err.msg);
    assert_int_equal(rr_tok_scratch_open(&s, tok, &err), RR_OK);
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        if (rr_tok_encode(tok, s, rr_text(rows[i].text), 0, 0, &ids, &err)) fail_msg("%s", err.msg);
        if (ids.n != rows[i].n || memcmp(ids.ids, rows[i].ids, ids.n * sizeof(*ids.ids)) != 0)
            fail_msg("row %zu: %u tokens, the first %d", i, ids.n, (int)ids.ids[0]);
    }
    rr_tok_scratch_close(s);
    rr_tok_close(tok);
    rr_gguf_close(g);
    rr_buf_free(&text);
    rr_buf_free(&file);
}

/* ---- files that are no rerankers ------------------------------------------------------------ */

/* Changes one occurrence of a name in a converted file, all names of the same length. */
static void test_networks(void **state)
{
    static const struct {
        const char *model, *from, *to;
        int code;
        const char *message;
    } rows[] = {
        { "tiny-bert", "cls.output.weight", "cls.outpux.weight", RR_ENOTSUP, "embedding model" },
        { "tiny-bert", "cls.weight", "clx.weight", RR_ENOTSUP, "leaves out the pooler" },
        { "tiny-bert", "token_types.weight", "token_typex.weight", RR_ENOTSUP,
          "token_types.weight is missing, expected a row for each type of token: DistilBERT" },
        { "tiny-bert", "bert.block_count", "bert.blocx_count", RR_EFORMAT,
          "bert.block_count is missing" },
        { "tiny-bert", "token_embd.weight", "token_embx.weight", RR_EFORMAT,
          "token_embd.weight is missing" },
        { "tiny-bert", "blk.1.ffn_up.weight", "blk.1.ffn_ux.weight", RR_EFORMAT,
          "encoder.layer.1.intermediate.dense.weight is missing" },
        { "tiny-bert", "tokenizer.ggml.model", "tokenizer.ggml.modex", RR_EFORMAT,
          "tokenizer.ggml.model is missing" },
        { "tiny-modernbert-cls", "cls.norm.weight", "cls.nxrm.weight", RR_ENOTSUP,
          "cls.norm.weight is missing" },
        { "tiny-modernbert-cls", "sliding_window", "sliding_windox", RR_EFORMAT,
          "modern-bert.attention.sliding_window is missing" },
        { "tiny-qwen3", "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0qwen3",
          "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama", RR_ENOTSUP,
          "general.architecture is \"llama\"" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct fixture_folder f = fixture_folder();
        size_t n = i + 1 == RR_COUNT(rows) ? 37 : strlen(rows[i].from), len;
        char from[128], path[512], *bytes, *at;
        struct rr_model *m;
        struct rr_error err = { 0 };

        snprintf(from, sizeof(from), GOLDEN "%s", rows[i].model);
        in_folder(path, &f, "m.gguf");
        convert(from, path, "f32", 0);
        assert_int_equal(rr_file_read(&bytes, &len, path, 64 << 20, RR_MEM_MISC, &err), RR_OK);
        at = memmem(bytes, len, rows[i].from, n);
        assert_non_null(at);
        memcpy(at, rows[i].to, n);
        fixture_write(&f, "m.gguf", bytes, len);
        rr_free(bytes);
        if (rr_model_open(&m, path, &err) != rows[i].code || !strstr(err.msg, rows[i].message))
            fail_msg("row %zu: %d %s, expected %s", i, err.code, err.msg, rows[i].message);
        fixture_remove(&f);
    }
}

/* Each network that is said to be read from GGUF goes there and back above; the others share a
 * network and go the way in test_parity.c. */
static void test_every_network(void **state)
{
    static const char *const there[] = { "CamembertForSequenceClassification",
                                         "Qwen3ForSequenceClassification",
                                         "Qwen2ForSequenceClassification" };
    const char *name, *types, *known;

    (void)state;
    for (size_t i = 0; (name = rr_model_supported(i, &types, &known)) != NULL; i++) {
        bool found = !*types;

        for (size_t k = 0; k < RR_COUNT(there); k++) found = found || strcmp(there[k], name) == 0;
        for (size_t k = 0; k < RR_COUNT(models) && !found; k++) {
            char path[128];
            struct fixture_bytes b;

            snprintf(path, sizeof(path), GOLDEN "%s", models[k]);
            b = fixture_read(path, "config.json");
            found = strstr(b.data, name) != NULL;
            free(b.data);
        }
        if (!found) fail_msg("%s: not tested in GGUF", name);
    }
}

/* A part of a model that was split, which has not all of it. */
static void test_split(void **state)
{
    static const char arch[] = "general.architecture";
    struct rr_gguf_model *m;
    struct rr_error err = { 0 };

    (void)state;
    for (uint32_t parts = 0; parts <= 2; parts++) {
        begin(3, 0, 2);
        put_string(arch);
        put(RR_GGUF_TEXT, 4);
        put_string("qwen3x");
        key_u32("split.count", parts);
        data(32);
        assert_int_equal(
            rr_gguf_model_parse(&m, (struct rr_text){ file.data, file.len }, "f.gguf", &err),
            RR_ENOTSUP);
        assert_non_null(strstr(err.msg, parts < 2 ? "general.architecture is \"qwen3x\""
                                                  : "f.gguf: split.count is 2, expected a model in "
                                                    "one file: join the parts with llama-gguf"));
    }
    rr_buf_free(&file);
}

/* What a WordPiece file says of case and accents, and what its pieces say where it does not. */
static void test_wordpiece_case(void **state)
{
    static const char *const tokens[] = { "[UNK]", "[CLS]", "[SEP]", "▁a", "B" };
    static const struct {
        int lower, strip; /* -1: no such key */
        const char *want;
        const char *why;
    } rows[] = {
        { -1, -1, "\"strip_accents\":null,\"lowercase\":false", "there is a capital" },
        { 1, -1, "\"strip_accents\":null,\"lowercase\":true", "the key counts more" },
        { 0, 1, "\"strip_accents\":true,\"lowercase\":false", "both said" },
        { 1, 0, "\"strip_accents\":false,\"lowercase\":true", "false is not nothing" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        struct rr_gguf *g;
        struct rr_error err;
        struct rr_buf text;

        begin(3, 0, (uint64_t)5 + (rows[i].lower >= 0) + (rows[i].strip >= 0));
        key_pieces("bert", tokens, RR_COUNT(tokens));
        key_u32("tokenizer.ggml.unknown_token_id", 0);
        key_u32("tokenizer.ggml.bos_token_id", 1); /* no cls_token_id in the converter's files */
        key_u32("tokenizer.ggml.seperator_token_id", 2);
        for (int k = 0; k < 2; k++) {
            if ((k ? rows[i].strip : rows[i].lower) < 0) continue;
            put_string(k ? "tokenizer.ggml.normalizer.strip_accents"
                         : "tokenizer.ggml.normalizer.lowercase");
            put(RR_GGUF_BOOL, 4);
            put((uint64_t)(k ? rows[i].strip : rows[i].lower), 1);
        }
        if (parse(&g, &err)) fail_msg("%s", err.msg);
        rr_buf_init(&text, RR_MEM_MISC, 1 << 20);
        if (rr_gguf_tokenizer(g, "f.gguf", &text, &err)) fail_msg("%s", err.msg);
        if (!memmem(text.data, text.len, rows[i].want, strlen(rows[i].want)))
            fail_msg("%s: no %s", rows[i].why, rows[i].want);
        rr_buf_free(&text);
        rr_gguf_close(g);
    }
    rr_buf_free(&file);
}

/* A host of librerank may have set a locale, and what a GGUF file says becomes JSON. */
static void test_decimal_comma(void **state)
{
    static const char *const locales[] = { "fr_FR.UTF-8", "de_DE.UTF-8", "fr_FR" };
    struct fixture_folder f = fixture_folder();
    struct rr_model *m;
    struct rr_error err;
    char path[512];

    (void)state;
    in_folder(path, &f, "m.gguf");
    convert(GOLDEN "tiny-xlmr", path, "f32", 0);
    for (size_t i = 0; i < RR_COUNT(locales); i++) { /* those that this machine has */
        if (!setlocale(LC_NUMERIC, locales[i])) continue;
        if (rr_model_open(&m, path, &err)) fail_msg("%s: %s", locales[i], err.msg);
        rr_model_close(m);
        test_scored_tokenizer(state);
    }
    setlocale(LC_NUMERIC, "C");
    fixture_remove(&f);
}

/* A RoBERTa's padding token by config.json, which is another than the tokenizer's: positions begin
 * behind it. */
static void test_other_padding(void **state)
{
    static const char from[] = GOLDEN "tiny-roberta";
    struct fixture_folder f = fixture_folder();
    struct fixture_bytes b = fixture_read(from, "config.json");
    char path[512], *text;
    struct rr_model *m, *g;
    json_t *root = json_loadb(b.data, b.len, 0, NULL);

    (void)state;
    assert_non_null(root);
    json_object_set_new(root, "pad_token_id", json_integer(5));
    text = fixture_dump(root, 0);
    fixture_write(&f, "config.json", text, strlen(text));
    fixture_copy(&f, from, "tokenizer.json");
    fixture_copy(&f, from, "model.safetensors");
    in_folder(path, &f, "m.gguf");
    convert(f.path, path, "f32", 0);
    m = open_model(f.path);
    g = open_model(path);
    assert_int_equal(rr_model_config(g)->pad_id, 5);
    assert_int_equal(rr_model_config(g)->positions, rr_model_config(m)->positions);
    compare(m, g, 0);
    rr_model_close(g);
    rr_model_close(m);
    free(text);
    json_decref(root);
    free(b.data);
    fixture_remove(&f);
}

/* Other weights are another model, whichever tensor they are in. */
static void test_fingerprint_of_each_tensor(void **state)
{
    const struct rr_gguf_tensor *tensors;
    struct fixture_folder f = fixture_folder();
    struct fixture_bytes b;
    struct rr_gguf *g;
    struct rr_model *m;
    struct rr_error err;
    char path[512];
    uint64_t h;
    size_t n;

    (void)state;
    in_folder(path, &f, "m.gguf");
    convert(GOLDEN "tiny-roberta", path, "f32", 0);
    m = open_model(path);
    h = rr_model_info(m)->fingerprint;
    rr_model_close(m);
    b = fixture_read(f.path, "m.gguf");
    if (rr_gguf_parse(&g, (struct rr_text){ b.data, b.len }, path, &err)) fail_msg("%s", err.msg);
    tensors = rr_gguf_tensors(g, &n);
    for (size_t i = 1; i < n; i += 4) { /* each fourth: a file is written for it */
        char *middle = b.data + ((const char *)tensors[i].data - b.data) + tensors[i].bytes / 2;

        *middle = (char)(*middle ^ 1);
        fixture_write(&f, "m.gguf", b.data, b.len);
        m = open_model(path);
        if (rr_model_info(m)->fingerprint == h) fail_msg("tensor %zu: nothing tells", i);
        rr_model_close(m);
        *middle = (char)(*middle ^ 1);
    }
    rr_gguf_close(g);
    free(b.data);
    fixture_remove(&f);
}

static void test_convert_refused(void **state)
{
    struct fixture_folder f = fixture_folder();
    struct rr_error err;
    char path[512];

    (void)state;
    in_folder(path, &f, "m.gguf");
    assert_int_equal(rr_model_convert(GOLDEN "tiny-bert", path, "f64", 0, as_it_is, &err),
                     RR_EINVAL);
    assert_int_equal(rr_model_convert(GOLDEN "tiny-bert", f.path, "q8_0", 0, as_it_is, &err),
                     RR_ENOTSUP);
    assert_int_equal(rr_model_convert(GOLDEN "tiny-deberta", path, "f32", 0, as_it_is, &err),
                     RR_ENOTSUP);
    assert_int_equal(rr_model_convert(GOLDEN "tiny-gte", path, "f32", 0, as_it_is, &err),
                     RR_ENOTSUP);
    assert_int_equal(rr_model_convert(GOLDEN "tiny-electra", path, "f32", 0, as_it_is, &err),
                     RR_ENOTSUP);
    assert_non_null(strstr(err.msg, "GGUF, which has no such network"));
    convert(GOLDEN "tiny-bert", path, "f32", 0);
    assert_int_equal(rr_model_convert(GOLDEN "tiny-bert", path, "f32", 0, as_it_is, &err),
                     RR_EINVAL);
    assert_non_null(strstr(err.msg, "is there already"));
    fixture_remove(&f);
}

static void test_memory(void **state)
{
    struct fixture_folder f = fixture_folder();
    char path[512];

    (void)state;
    small_file();
    assert_true(fault_each(parse_again, NULL).allocations > 3);
    rr_buf_free(&file);
    in_folder(path, &f, "m.gguf");
    convert(GOLDEN "tiny-xlmr", path, "q8_0", 0);
    assert_true(fault_each(open_again, path).allocations > 30);
    fixture_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_other_padding),
        cmocka_unit_test(test_fingerprint_of_each_tensor),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_said_to_llama_cpp),
        cmocka_unit_test(test_scored_tokenizer),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_convert_refused),
        cmocka_unit_test(test_every_network),
        cmocka_unit_test(test_decimal_comma),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_wordpiece_case),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
