/* SPDX-License-Identifier: Apache-2.0 */
/* test_safetensors.c - headers good and bad, shards, folders without weights. */
#include "checkpoint_fixture.h"

#include "base/json.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

static int parse(struct rr_safetensors **st, const struct fixture_bytes *b, struct rr_error *err)
{
    memset(err, 0, sizeof(*err));
    return rr_safetensors_parse(st, (struct rr_text){ b->data, b->len }, "f.safetensors", err);
}

/* ---- headers ------------------------------------------------------------------------------ */

#define A8 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define ENTRY(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    size_t data;
    int rc;
    const char *part; /* of the message */
    const char *why;
} headers[] = {
    { "{" A8 "}", 8, RR_OK, "", "the plainest file" },
    { "{" A8 "}   ", 8, RR_OK, "", "padded with spaces, as the format says" },
    { "{}", 0, RR_OK, "", "no tensors, no data" },
    { "{\"__metadata__\":{\"format\":\"pt\"}," A8 "}", 8, RR_OK, "", "metadata" },
    { ENTRY("\"F32\"", "[]", "[0,4]"), 4, RR_OK, "", "a scalar has rank 0" },
    { ENTRY("\"I64\"", "[1,3]", "[0,24]"), 24, RR_OK, "", "position_ids: listed, not used" },
    { ENTRY("\"F4\"", "[6]", "[0,3]"), 3, RR_OK, "", "elements smaller than a byte" },
    { "{\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[8,8]}," A8 "}", 8, RR_OK, "",
      "an empty tensor takes no room" },
    { "{\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[8,10]}," A8 "}", 10, RR_OK, "",
      "the header's order is free" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, RR_OK, "",
      "unknown fields of a tensor are ignored" },

    { "", 8, RR_EFORMAT, "does not begin with {", "empty header" },
    { " {" A8 "}", 8, RR_EFORMAT, "does not begin with {", "space before the header" },
    { "[]", 0, RR_EFORMAT, "does not begin with {", "not an object" },
    { "{" A8, 8, RR_EFORMAT, "ends too early", "header cut off" },
    { "{" A8 "}x", 8, RR_EFORMAT, "has more after", "something after the header" },
    { "{\"a\":[[[[[1]]]]]}", 0, RR_ETOOBIG, "nested deeper than", "nesting no header needs" },
    { "{" A8 "," A8 "}", 8, RR_EFORMAT, "key twice", "duplicate tensor" },
    { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
      RR_EFORMAT, "key twice", "duplicate field" },
    { "{\"a\":1}", 0, RR_EFORMAT, "tensor a is an integer, expected an object", "not an object" },
    { "{\"__metadata__\":[]}", 0, RR_EFORMAT, "__metadata__ is an array",
      "metadata of a wrong type" },
    { "{\"__metadata__\":{\"n\":1}}", 0, RR_EFORMAT, "has an integer as a value",
      "and its values" },

    { "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, RR_EFORMAT,
      "tensor a: dtype is missing, expected a string", "no dtype" },
    { ENTRY("7", "[2]", "[0,8]"), 8, RR_EFORMAT, "dtype is an integer", "dtype of a wrong type" },
    { ENTRY("\"Q4_K\"", "[2]", "[0,8]"), 8, RR_ENOTSUP, "dtype is \"Q4_K\", expected F32, F16",
      "a dtype that the format does not have" },
    { ENTRY("\"f32\"", "[2]", "[0,8]"), 8, RR_ENOTSUP, "dtype is \"f32\"", "case matters" },
    { ENTRY("\"F32\\u0000\"", "[2]", "[0,8]"), 8, RR_ENOTSUP, "dtype is", "NUL is not an end" },

    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, RR_EFORMAT, "shape is missing",
      "no shape" },
    { ENTRY("\"F32\"", "2", "[0,8]"), 8, RR_EFORMAT, "shape is an integer, expected an array", "" },
    { ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, RR_EFORMAT, "shape[0] is a number", "not an integer" },
    { ENTRY("\"F32\"", "[true]", "[0,8]"), 8, RR_EFORMAT, "shape[0] is a boolean", "a boolean" },
    { ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, RR_EFORMAT, "shape[0] is -2, expected 0 to", "" },
    { ENTRY("\"F32\"", "[4294967296]", "[0,8]"), 8, RR_EFORMAT, "shape[0] is 4294967296",
      "a dimension of 2^32" },
    { ENTRY("\"F32\"", "[99999999999999999999]", "[0,8]"), 8, RR_EFORMAT, "out of range",
      "a number of more than 64 bits" },
    { ENTRY("\"F32\"", "[1,1,1,1,2]", "[0,8]"), 8, RR_ETOOBIG, "5 dimensions, at most 4", "rank" },
    { ENTRY("\"F32\"", "[4294967295,4294967295,4294967295]", "[0,8]"), 8, RR_EFORMAT,
      "product of its shape overflows", "2^96 elements" },
    { ENTRY("\"F32\"", "[2147483648,2147483648]", "[0,0]"), 0, RR_EFORMAT,
      "product of its shape overflows", "2^62 elements fit, their bits do not: no wrap to 0" },
    { ENTRY("\"F32\"", "[3]", "[0,8]"), 8, RR_EFORMAT,
      "8 bytes of data, expected 12 for its shape and dtype F32", "shape and size differ" },
    { ENTRY("\"F16\"", "[2]", "[0,8]"), 8, RR_EFORMAT, "8 bytes of data, expected 4", "dtype too" },
    { ENTRY("\"F4\"", "[3]", "[0,1]"), 1, RR_EFORMAT, "1 bytes of data", "half a byte" },

    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, RR_EFORMAT, "data_offsets is missing", "" },
    { ENTRY("\"F32\"", "[2]", "8"), 8, RR_EFORMAT, "data_offsets is an integer", "not an array" },
    { ENTRY("\"F32\"", "[2]", "[8]"), 8, RR_EFORMAT, "of another length", "one offset" },
    { ENTRY("\"F32\"", "[2]", "[0,8,8]"), 8, RR_EFORMAT, "of another length", "three offsets" },
    { ENTRY("\"F32\"", "[2]", "[0,8.0]"), 8, RR_EFORMAT, "data_offsets[1] is not", "a real" },
    { ENTRY("\"F32\"", "[2]", "[-8,0]"), 8, RR_EFORMAT, "data_offsets[0] is not", "negative" },
    { ENTRY("\"F32\"", "[2]", "[8,0]"), 8, RR_EFORMAT, "begin at 8 after their end at 0", "order" },
    { ENTRY("\"F32\"", "[2]", "[0,8]"), 7, RR_EFORMAT, "data end at byte 8, but the file has 7",
      "the file is cut off" },
    { ENTRY("\"U8\"", "[1]", "[9223372036854775806,9223372036854775807]"), 1, RR_EFORMAT,
      "data end at byte 9223372036854775807", "the largest offset" },
    { "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}," A8 "}", 8, RR_EFORMAT,
      "tensor b overlaps tensor a", "overlap" },
    { "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}," A8 "}", 8, RR_EFORMAT,
      "tensor b overlaps tensor a", "two tensors share their data" },
    { "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}," A8 "}", 16, RR_EFORMAT,
      "a hole of 4 bytes before tensor b", "hole in the middle" },
    { ENTRY("\"F32\"", "[2]", "[4,12]"), 12, RR_EFORMAT, "a hole of 4 bytes before tensor a",
      "hole at the start" },
    { "{" A8 "}", 9, RR_EFORMAT, "a hole at the end: tensors take 8 bytes, the file has 9",
      "bytes after the last tensor" },
    { "{}", 4, RR_EFORMAT, "a hole at the end", "data without tensors" },
};

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(headers); i++) {
        struct fixture_bytes b = fixture_safetensors(headers[i].header, headers[i].data);
        struct rr_safetensors *st;
        struct rr_error err;
        int rc = parse(&st, &b, &err);

        if (rc != headers[i].rc || (rc && !strstr(err.msg, headers[i].part)) ||
            (rc && strncmp(err.msg, "f.safetensors: ", 15) != 0) || (rc == 0) != (st != NULL))
            fail_msg("row %zu (%s; %s): code %d, message \"%s\"", i, headers[i].header,
                     headers[i].why, rc, err.msg);
        rr_safetensors_close(st);
        free(b.data);
    }
}

static const struct {
    const char *field; /* 8 bytes */
    int rc;
    const char *part;
    const char *why;
} lengths[] = {
    { "\xff\xff\xff\xff\xff\xff\xff\xff", RR_ETOOBIG, "18446744073709551615 bytes, at most",
      "2^64 - 1: adding 8 wraps" },
    { "\x01\xe1\xf5\x05\0\0\0\0", RR_ETOOBIG, "100000001 bytes", "one above the limit" },
    { "\x00\xe1\xf5\x05\0\0\0\0", RR_EFORMAT, "100000000 bytes in a file of", "the limit itself" },
    { "\x00\0\0\0\0\0\0\0", RR_EFORMAT, "does not begin with {", "zero" },
    { "\x01\0\0\0\0\0\0\0", RR_EFORMAT, "ends too early", "only the brace" },
    { "\x00\0\0\0\0\0\0\x80", RR_ETOOBIG, "9223372036854775808", "negative, if it were signed" },
};

static void test_length_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < RR_COUNT(lengths); i++) {
        struct fixture_bytes b = fixture_safetensors("{" A8 "}", 8);
        struct rr_safetensors *st;
        struct rr_error err;
        int rc;

        memcpy(b.data, lengths[i].field, 8);
        rc = parse(&st, &b, &err);
        if (rc != lengths[i].rc || !strstr(err.msg, lengths[i].part) || st)
            fail_msg("%s: code %d, message \"%s\"", lengths[i].why, rc, err.msg);
        free(b.data);
    }
}

/* Every shorter file is refused, and no read leaves the shorter buffer (under AddressSanitizer). */
static void test_truncated_everywhere(void **state)
{
    struct fixture_bytes b = fixture_safetensors(
        "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],"
        "\"data_offsets\":[8,16]}," A8 "}",
        16);

    (void)state;
    for (size_t len = 0; len <= b.len; len++) {
        struct fixture_bytes cut = { malloc(len + !len), len };
        struct rr_safetensors *st;
        struct rr_error err;
        int rc;

        assert_non_null(cut.data);
        memcpy(cut.data, b.data, len);
        rc = parse(&st, &cut, &err);
        if (len == b.len)
            assert_int_equal(rc, RR_OK);
        else if (rc != RR_EFORMAT || st || !err.msg[0])
            fail_msg("cut to %zu of %zu bytes: code %d", len, b.len, rc);
        rr_safetensors_close(st);
        free(cut.data);
    }
    free(b.data);
}

/* Any byte of header or length changed: an error or a table whose entries lie inside the file. */
static void test_flipped_bytes(void **state)
{
    static const unsigned char masks[] = { 0x01, 0x02, 0x10, 0x80, 0xFF };
    struct fixture_bytes b = fixture_safetensors("{" A8 "}", 8);

    (void)state;
    for (size_t i = 0; i < b.len * RR_COUNT(masks); i++) {
        size_t at = i / RR_COUNT(masks), n = 0;
        const struct rr_safetensors_entry *e;
        struct rr_safetensors *st;
        struct rr_error err;

        b.data[at] = (char)(b.data[at] ^ masks[i % RR_COUNT(masks)]);
        if (parse(&st, &b, &err) == RR_OK) {
            e = rr_safetensors_entries(st, &n);
            for (size_t k = 0; k < n; k++)
                assert_true((const char *)e[k].data + (e[k].end - e[k].begin) <= b.data + b.len);
        } else {
            assert_null(st);
        }
        rr_safetensors_close(st);
        b.data[at] = (char)(b.data[at] ^ masks[i % RR_COUNT(masks)]);
    }
    free(b.data);
}

static void test_lookup(void **state)
{
    enum { N = 3000 };
    char *header = malloc(N * 80), name[32];
    struct fixture_bytes b;
    struct rr_safetensors *st;
    struct rr_error err;
    size_t len = 0, n;

    (void)state;
    assert_non_null(header);
    for (int i = 0; i < N; i++)
        len += (size_t)sprintf(header + len,
                               "%s\"t.%d\":{\"dtype\":\"U8\",\"shape\":[1,2],"
                               "\"data_offsets\":[%d,%d]}",
                               i ? "," : "{", i, 2 * i, 2 * i + 2);
    strcpy(header + len, "}");
    b = fixture_safetensors(header, 2 * N);
    assert_int_equal(parse(&st, &b, &err), RR_OK);
    assert_int_equal(rr_safetensors_header_bytes(st), 8 + len + 1);
    rr_safetensors_entries(st, &n);
    assert_int_equal(n, N);
    for (int i = 0; i < N; i++) {
        const struct rr_safetensors_entry *e;

        sprintf(name, "t.%d", i);
        e = rr_safetensors_find(st, name);
        assert_non_null(e);
        assert_string_equal(e->name, name);
        assert_int_equal(e->begin, 2 * i);
        assert_ptr_equal(e->data, b.data + 8 + len + 1 + 2 * i);
        assert_int_equal(e->rank, 2);
        assert_int_equal(e->shape[1], 2);
    }
    assert_null(rr_safetensors_find(st, "t.3000"));
    assert_null(rr_safetensors_find(st, ""));
    rr_safetensors_close(st);
    free(b.data);
    free(header);
}

/* Every allocation fails once: an error, no crash, no leak (under LeakSanitizer). */
static void test_out_of_memory(void **state)
{
    struct fixture_bytes b = fixture_safetensors("{" A8 "}", 8);
    struct rr_safetensors *st = NULL;
    struct rr_error err;
    int rc = RR_ENOMEM;
    uint64_t nth;

    (void)state;
    for (nth = 1; rc != RR_OK; nth++) {
        rr_mem_fault(nth, true);
        rc = parse(&st, &b, &err);
        rr_mem_fault(0, false);
        if (rc) assert_null(st);
        assert_true(nth < 1000);
    }
    assert_true(nth > 4);
    rr_safetensors_close(st);
    free(b.data);
}

/* ---- folders ------------------------------------------------------------------------------ */

#define B8 "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define INDEX "model.safetensors.index.json"
#define MAP(text) "{\"weight_map\":" text "}"

/* Two shards, one.safetensors with a and two.safetensors with b, beside the given file. */
static const struct {
    const char *name, *text; /* one more file */
    int rc;
    const char *part;
    const char *why;
} folders[] = {
    { INDEX, MAP("{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}"), RR_OK, "",
      "two shards" },
    { INDEX, MAP("{\"a\":\"one.safetensors\"}"), RR_OK, "",
      "a shard may hold more than is listed" },
    { INDEX, MAP("{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}"), RR_EFORMAT,
      "says that one.safetensors has tensor b, but it has not", "listed in the wrong shard" },
    { INDEX, MAP("{\"a\":\"three.safetensors\"}"), RR_ENOENT, "three.safetensors",
      "missing shard" },
    { INDEX, MAP("{\"a\":\"../one.safetensors\"}"), RR_EFORMAT, "expected a plain file name",
      "parent folder" },
    { INDEX, MAP("{\"a\":\"/etc/passwd\"}"), RR_EFORMAT, "expected a plain file name", "absolute" },
    { INDEX, MAP("{\"a\":\"sub/one.safetensors\"}"), RR_EFORMAT, "expected a plain file name",
      "sub-folder" },
    { INDEX, MAP("{\"a\":\"sub\\\\one.safetensors\"}"), RR_EFORMAT, "expected a plain file name",
      "the other separator" },
    { INDEX, MAP("{\"a\":\"..\"}"), RR_EFORMAT, "expected a plain file name", "a folder" },
    { INDEX, MAP("{\"a\":\".\"}"), RR_EFORMAT, "expected a plain file name", "a folder" },
    { INDEX, MAP("{\"a\":\"\"}"), RR_EFORMAT, "expected a plain file name", "no name" },
    { INDEX, MAP("{\"a\":\"one.safetensors\\u0000x\"}"), RR_EFORMAT, "expected a plain file name",
      "NUL would cut the name" },
    { INDEX, MAP("{\"a\":7}"), RR_EFORMAT, "has an integer as a value", "not a string" },
    { INDEX, MAP("{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}"), RR_EFORMAT, "key twice",
      "duplicate tensor" },
    { INDEX, MAP("{\"a\":\"" INDEX "\"}"), RR_ETOOBIG, "not a safetensors file",
      "a shard that is something else" },
    { INDEX, MAP("{}"), RR_EFORMAT, "weight_map is empty", "no tensors" },
    { INDEX, MAP("[]"), RR_EFORMAT, "weight_map is an array", "wrong type" },
    { INDEX, "{}", RR_EFORMAT, "weight_map is missing", "no map" },
    { INDEX, "[]", RR_EFORMAT, "weight_map is missing", "not an object" },
    { INDEX, "{\"weight_map\":", RR_EFORMAT, "ends too early", "cut off" },
    { "model.safetensors", "12345678", RR_ETOOBIG, "model.safetensors: ", "not what it says" },
    { "model.safetensors", "", RR_EFORMAT, "0 bytes, expected at least 8", "an empty file" },
    { "pytorch_model.bin", "x", RR_ENOTSUP, "convert it: load the model with transformers",
      "weights that only a pickle reader could read" },
    { "pytorch_model.bin.index.json", "x", RR_ENOTSUP, "has pytorch_model.bin.index.json", "same" },
    { "model.onnx", "x", RR_ENOTSUP, "has model.onnx but no model.safetensors", "ONNX" },
    { "tf_model.h5", "x", RR_ENOTSUP, "has tf_model.h5", "TensorFlow" },
    { "readme", "x", RR_ENOENT, "looked for model.safetensors and model.safetensors.index.json",
      "no weights at all" },
};

static void test_folders(void **state)
{
    struct fixture_bytes one = fixture_safetensors("{" A8 "}", 8);
    struct fixture_bytes two = fixture_safetensors("{" B8 "}", 8);

    (void)state;
    for (size_t i = 0; i < RR_COUNT(folders); i++) {
        struct fixture_folder f = fixture_folder();
        struct rr_checkpoint *c = NULL;
        struct rr_error err = { 0, "" };
        int rc;

        fixture_write(&f, "one.safetensors", one.data, one.len);
        fixture_write(&f, "two.safetensors", two.data, two.len);
        fixture_write(&f, folders[i].name, folders[i].text, strlen(folders[i].text));
        rc = rr_checkpoint_open(&c, f.path, &err);
        if (rc != folders[i].rc || (rc && !strstr(err.msg, folders[i].part)) ||
            (rc && !strstr(err.msg, f.path)) || (rc == 0) != (c != NULL))
            fail_msg("%s (%s): code %d, message \"%s\"", folders[i].text, folders[i].why, rc,
                     err.msg);
        rr_checkpoint_close(c);
        fixture_remove(&f);
    }
    free(one.data);
    free(two.data);
}

static void test_shards_lookup(void **state)
{
    struct fixture_bytes one = fixture_safetensors("{" A8 "}", 8);
    struct fixture_bytes two = fixture_safetensors("{" B8 "}", 8);
    const char *index = MAP("{\"b\":\"link.safetensors\"}");
    struct fixture_folder f = fixture_folder();
    char link[512], target[512];
    struct rr_checkpoint *c;
    struct rr_error err;

    (void)state;
    fixture_write(&f, "one.safetensors", one.data, one.len);
    fixture_write(&f, "blob", two.data, two.len);
    fixture_write(&f, INDEX, index, strlen(index));
    snprintf(link, sizeof(link), "%s/link.safetensors", f.path);
    snprintf(target, sizeof(target), "%s/blob", f.path);
    assert_int_equal(symlink(target, link), 0); /* as in the hub's cache */
    assert_int_equal(rr_checkpoint_open(&c, f.path, &err), RR_OK);
    assert_non_null(rr_checkpoint_find(c, "b"));
    assert_null(rr_checkpoint_find(c, "a")); /* in the folder, not in the index */
    assert_int_equal(rr_checkpoint_bytes(c), two.len);
    rr_checkpoint_close(c);

    /* A single file wins over an index. */
    fixture_write(&f, "model.safetensors", one.data, one.len);
    assert_int_equal(rr_checkpoint_open(&c, f.path, &err), RR_OK);
    assert_non_null(rr_checkpoint_find(c, "a"));
    assert_null(rr_checkpoint_find(c, "b"));
    assert_string_equal(strrchr(rr_checkpoint_path(c), '/'), "/model.safetensors");
    rr_checkpoint_close(c);
    fixture_remove(&f);
    free(one.data);
    free(two.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_length_field),
        cmocka_unit_test(test_truncated_everywhere),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_shards_lookup),
    };

    rr_json_init(); /* so that faults reach the JSON tree as well */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
