/* SPDX-License-Identifier: Apache-2.0 */
/* test_json.c - base/json: what parses, what does not and why, getters, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "support/fault.h"

static void test_parse(void **state)
{
    static const struct {
        const char *in;
        int rc;
        const char *msg, *why;
    } cases[] = {
        { "{\"a\": [1, 2.5, \"x\", null, true]}", RR_OK, "", "all types" },
        { " \n7 ", RR_OK, "", "any value at the top" },
        { "\"a\\u0000b\"", RR_OK, "", "NUL in a string" },
        { "\"\\ud83d\\ude00\"", RR_OK, "", "surrogate pair" },
        { "{\"a\":1,\"a\":2}", RR_OK, "", "duplicates allowed: the last" },
        { "", RR_EFORMAT, "JSON ends too early at column 0", "nothing" },
        { "[1,2", RR_EFORMAT, "ends too early", "truncated array" },
        { "\"abc", RR_EFORMAT, "ends too early", "truncated string" },
        { "{} {}", RR_EFORMAT, "more after the value", "two values" },
        { "[1,\n 2,\n ,]", RR_EFORMAT, "line 3", "place of a syntax error" },
        { "\"\xff\"", RR_EFORMAT, "UTF-8", "invalid UTF-8" },
        { "\"\xed\xa0\x80\"", RR_EFORMAT, "UTF-8", "surrogate as UTF-8" },
        { "\"\\ud83d\"", RR_EFORMAT, "surrogate", "lone surrogate" },
        { "\"\\ud83d\\u0041\"", RR_EFORMAT, "surrogate", "half a pair" },
        { "\"\\ude00\"", RR_EFORMAT, "surrogate", "lone second half" },
        { "\"a\nb\"", RR_EFORMAT, "control character", "newline in a string" },
        { "[1e999]", RR_EFORMAT, "out of range", "overflows to infinity" },
        { "[99999999999999999999]", RR_EFORMAT, "out of range", "integer above 64 bits" },
        { "[NaN]", RR_EFORMAT, "has NaN, Infinity or", "Python's json writes it" },
        { "{\"a\":1,\n\"b\": -Infinity}", RR_EFORMAT, "wants a number at line 2, column 6", "" },
        { "[Infinity]", RR_EFORMAT, "has NaN, Infinity or", "" },
        { "[nan]", RR_EFORMAT, "syntax error", "nobody's word" },
        { "[01]", RR_EFORMAT, "syntax error", "leading zero" },
        { "{\"secret\" 1}", RR_EFORMAT, "syntax error", "missing colon" },
        { "{\"a\\u0000\": 1}", RR_EFORMAT, "NUL byte in a key", "NUL in a key" },
        { "{'secret': 1}", RR_EFORMAT, "syntax error", "Python's quotes" },
    };
    struct rr_error err;
    json_t *v;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        int rc;

        err.msg[0] = 0;
        rc = rr_json_parse(&v, rr_text(cases[i].in), 0, RR_JSON_DUP_LAST, &err);
        if (rc != cases[i].rc || !strstr(err.msg, cases[i].msg)) {
            fail_msg("%s: %d, %s", cases[i].why, rc, err.msg);
        }
        if (strstr(err.msg, "secret")) fail_msg("%s: the message quotes the input", cases[i].why);
        if ((rc == RR_OK) != (v != NULL)) fail_msg("%s: tree and status disagree", cases[i].why);
        json_decref(v);
    }
    assert_int_equal(fault_memory_in_use(), 0);
}

static void test_duplicates(void **state)
{
    static const char twice[] = "{\"a\":1,\"a\":2}";
    struct rr_error err;
    json_t *v;

    (void)state;
    assert_int_equal(rr_json_parse(&v, rr_text(twice), 0, RR_JSON_DUP_LAST, &err), RR_OK);
    assert_int_equal(json_integer_value(json_object_get(v, "a")), 2);
    json_decref(v);
    assert_int_equal(rr_json_parse(&v, rr_text(twice), 0, RR_JSON_DUP_REJECT, &err), RR_EFORMAT);
    assert_non_null(strstr(err.msg, "a key twice"));
}

static void test_nul_is_content(void **state)
{
    struct rr_error err;
    json_t *v;

    (void)state;
    assert_int_equal(rr_json_parse(&v, rr_text("\"a\\u0000b\""), 0, RR_JSON_DUP_LAST, &err), RR_OK);
    assert_int_equal(json_string_length(v), 3);
    assert_memory_equal(json_string_value(v), "a\0b", 4);
    json_decref(v);
    assert_int_equal(rr_json_parse(&v, (struct rr_text){ "1\0", 2 }, 0, RR_JSON_DUP_LAST, &err),
                     RR_EFORMAT);
    assert_int_equal(
        rr_json_parse(&v, (struct rr_text){ "\"\\\0\"", 4 }, 0, RR_JSON_DUP_LAST, &err),
        RR_EFORMAT);
    assert_string_equal(err.msg, "JSON has a NUL byte at line 1");
    assert_int_equal(rr_json_parse(&v, (struct rr_text){ NULL, 0 }, 0, RR_JSON_DUP_LAST, &err),
                     RR_EFORMAT);
}

/* ---- long strings, which take another way ------------------------------------------------- */

static void check_same(const char *text, size_t len, const char *why)
{
    size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_REJECT_DUPLICATES;
    json_error_t e;
    json_t *expected = json_loadb(text, len, flags, &e), *v;
    struct rr_error err = { 0 };
    int rc = rr_json_parse(&v, (struct rr_text){ text, len }, 64, RR_JSON_DUP_REJECT, &err);

    if ((rc == RR_OK) != (expected != NULL))
        fail_msg("%s: %d, %s; jansson: %s; in %.*s", why, rc, err.msg, e.text, (int)len, text);
    if (expected && !json_equal(v, expected))
        fail_msg("%s: trees differ, %.*s", why, (int)len, text);
    if (!expected && !strstr(err.msg, "column")) fail_msg("%s: no place in \"%s\"", why, err.msg);
    json_decref(expected);
    json_decref(v);
}

#define TEN "0123456789"
#define SIXTY TEN TEN TEN TEN TEN TEN
#define LONG SIXTY TEN

static void test_long_strings(void **state)
{
    static const struct {
        const char *in, *why;
    } cases[] = {
        { "\"" LONG "\"", "alone" },
        { "[\"" LONG "\",\"" LONG "a\",\"" LONG "\"]", "each in its place" },
        { "{\"" LONG "\": 1, \"b\": \"" LONG "\"}", "a long key stays" },
        { "{\"" LONG "\" \t\r\n: \"" LONG "\"}", "a key with blanks after it" },
        { "{\"" LONG "\": 1, \"" LONG "\": \"" LONG "\"}", "a long key twice" },
        { "[\"" LONG "\", \"\x7f"
          "00000000\"]",
          "a string like a mark" },
        { "[\"" LONG "\", \"\\u007f00000000\"]", "the same in an escape" },
        { "[\"" LONG "\", \"\\u007F00000000\"]", "and in capitals" },
        { "[\"\x7f" LONG "\"]", "a long one like a mark" },
        { "[\"" LONG "\\n\\r\\t\\b\\f\\/\\\\\\\"\"]", "all short escapes" },
        { "[\"" LONG "\\u00e9\\u0000\\uD83D\\uDE00\\uFFFF\"]", "numbered escapes" },
        { "[\"" LONG "\\ud83d\"]", "half a pair" },
        { "[\"" LONG "\\ud83d\\u0041\"]", "half a pair, then a letter" },
        { "[\"" LONG "\\ude00\"]", "the second half alone" },
        { "[\"" LONG "\\u12G4\"]", "no digit" },
        { "[\"" LONG "\\x\"]", "no escape" },
        { "[\"" LONG "\\", "ends in an escape" },
        { "[\"" LONG "\\u00", "ends in a number" },
        { "[\"" LONG "\n\"]", "a control character" },
        { "[\"" LONG "\xc3\xa9\"]", "UTF-8" },
        { "[\"" LONG "\xc3\"]", "half a character" },
        { "[\"" LONG "\xed\xa0\x80\"]", "a surrogate as UTF-8" },
        { "[\"" LONG "\"", "no end" },
        { "[\"" LONG "\" \"" LONG "\"]", "no comma" },
        { "[\"" LONG "\"] x", "more after it" },
        { "[[[{\"a\":[{\"b\":\"" LONG "\"}]}]]]", "deep" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++)
        check_same(cases[i].in, strlen(cases[i].in), cases[i].why);
    assert_int_equal(fault_memory_in_use(), 0);
}

/* Texts put together at random, most of them nearly right. */
static void test_random_strings(void **state)
{
    static const char *const pieces[] = {
        LONG,
        TEN,
        "\\n",
        "\\\"",
        "\\\\",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\xc3\xa9",
        "\\u0000",
        "\xf0\x9f\x98\x80",
        "\",\"",
        "\"],[\"",
        SIXTY,
        "\\u007f",
        "\x7f",
        "\",{\"k\":\"",
        "\\ud83d",
        "\xff",
        "\\",
        "\t",
        "\"",
    };
    uint32_t seed = 1, n;
    char text[2048];

    (void)state;
    for (n = 0; n < 20000; n++) {
        size_t len = 0, k, parts;
        /* the last ones are seldom right */
        size_t choice = n % 3 ? 13 : RR_COUNT(pieces);

        seed = seed * 1664525 + 1013904223;
        parts = seed >> 28;
        len = (size_t)snprintf(text, sizeof(text), "[\"");
        for (k = 0; k < parts; k++) {
            seed = seed * 1664525 + 1013904223;
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                    pieces[(seed >> 8) % choice]);
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\"]");
        check_same(text, len, "random");
    }
}

static int parse_nested(const char *open, const char *close, size_t n, unsigned max)
{
    size_t no = strlen(open), nc = strlen(close), i;
    char *text = malloc(n * (no + nc) + 2);
    struct rr_error err = { 0, "" };
    json_t *v;
    int rc;

    assert_non_null(text);
    for (i = 0; i < n; i++) memcpy(text + i * no, open, no);
    text[n * no] = '1';
    for (i = 0; i < n; i++) memcpy(text + n * no + 1 + i * nc, close, nc);
    rc =
        rr_json_parse(&v, (struct rr_text){ text, n * (no + nc) + 1 }, max, RR_JSON_DUP_LAST, &err);
    json_decref(v);
    free(text);
    return rc;
}

static void test_depth(void **state)
{
    struct rr_error err;
    json_t *v;

    (void)state;
    assert_int_equal(parse_nested("[", "]", RR_JSON_DEPTH, 0), RR_OK);
    assert_int_equal(parse_nested("[", "]", RR_JSON_DEPTH + 1, 0), RR_ETOOBIG);
    assert_int_equal(parse_nested("{\"[{\":", "}", 4, 4), RR_OK);
    assert_int_equal(parse_nested("{\"[{\":", "}", 5, 4), RR_ETOOBIG);
    assert_int_equal(parse_nested("[", "]", 5000000, 0), RR_ETOOBIG);
    /* Brackets in strings, after escaped quotes, and wide but flat values do not nest. */
    assert_int_equal(rr_json_parse(&v, rr_text("[\"[[[[\\\"[[[[\", [1], [2], {}, [[3]]]"), 3,
                                   RR_JSON_DUP_LAST, &err),
                     RR_OK);
    json_decref(v);
    assert_int_equal(rr_json_parse(&v, rr_text("[\n[\n[1]]]"), 2, RR_JSON_DUP_LAST, &err),
                     RR_ETOOBIG);
    assert_string_equal(err.msg, "JSON is nested deeper than 2 levels at line 3");
    /* More closing than opening must not make the count wrap. */
    assert_int_equal(rr_json_parse(&v, rr_text("]]]]["), 2, RR_JSON_DUP_LAST, &err), RR_EFORMAT);
}

static const char config[] = "{\"n\": 12, \"f\": 1e-05, \"b\": true, \"t\": \"abc\", \"z\": null,"
                             " \"neg\": -1, \"big\": 4294967296, \"real\": 12.0, \"huge\": 1e39}";

static void test_getters(void **state)
{
    uint32_t n = 5;
    float f = 5;
    bool b = false;
    struct rr_text t = { "d", 1 };
    struct rr_error err = { 0, "" };
    json_t *v;

    (void)state;
    assert_int_equal(rr_json_parse(&v, rr_text(config), 0, RR_JSON_DUP_REJECT, &err), RR_OK);
    assert_int_equal(rr_json_u32(v, "c", "none", 0, 9, &n, &err), RR_OK);
    assert_int_equal(rr_json_u32(v, "c", "z", 0, 9, &n, &err), RR_OK);
    assert_int_equal(n, 5); /* missing and null keep the default */
    assert_int_equal(rr_json_u32(v, "c", "n", 12, 12, &n, &err), RR_OK);
    assert_int_equal(n, 12);
    assert_int_equal(rr_json_f32(v, "c", "f", &f, &err), RR_OK);
    assert_true(f == 1e-05f);
    assert_int_equal(rr_json_f32(v, "c", "n", &f, &err), RR_OK);
    assert_true(f == 12);
    assert_int_equal(rr_json_bool(v, "c", "b", &b, &err), RR_OK);
    assert_true(b);
    assert_int_equal(rr_json_text(v, "c", "t", &t, &err), RR_OK);
    assert_true(rr_text_is(t, "abc"));
    assert_int_equal(rr_json_text(v, "c", "z", &t, &err), RR_OK);
    json_decref(v);
}

static void test_getter_errors(void **state)
{
    static const struct {
        char getter;
        const char *key, *msg;
    } cases[] = {
        { 'u', "t", "c.json: t: found a string, expected an integer" },
        { 'u', "real", "c.json: real: found a number, expected an integer" },
        { 'u', "b", "c.json: b: found a boolean, expected an integer" },
        { 'u', "neg", "c.json: neg: found -1, expected 0 to 11" },
        { 'u', "n", "c.json: n: found 12, expected 0 to 11" },
        { 'u', "big", "c.json: big: found 4294967296, expected 0 to 11" },
        { 'f', "t", "c.json: t: found a string, expected a number" },
        { 'f', "huge", "c.json: huge: found 1e+39, expected a number that fits float32" },
        { 'b', "n", "c.json: n: found an integer, expected a boolean" },
        { 't', "n", "c.json: n: found an integer, expected a string" },
    };
    uint32_t n = 5;
    float f = 5;
    bool b = false;
    struct rr_text t = { "d", 1 };
    struct rr_error err;
    json_t *v;
    size_t i;

    (void)state;
    assert_int_equal(rr_json_parse(&v, rr_text(config), 0, RR_JSON_DUP_REJECT, &err), RR_OK);
    for (i = 0; i < RR_COUNT(cases); i++) {
        const char *key = cases[i].key;
        int rc = cases[i].getter == 'u'   ? rr_json_u32(v, "c.json", key, 0, 11, &n, &err)
                 : cases[i].getter == 'f' ? rr_json_f32(v, "c.json", key, &f, &err)
                 : cases[i].getter == 'b' ? rr_json_bool(v, "c.json", key, &b, &err)
                                          : rr_json_text(v, "c.json", key, &t, &err);

        assert_int_equal(rc, RR_EFORMAT);
        assert_string_equal(err.msg, cases[i].msg);
    }
    assert_true(n == 5 && f == 5 && !b && rr_text_is(t, "d"));
    json_decref(v);
}

static void test_type_names(void **state)
{
    static const char *const expected[] = { "an object", "an array",  "a string",  "an integer",
                                            "a number",  "a boolean", "a boolean", "null" };
    struct rr_error err;
    json_t *v;
    size_t i;

    (void)state;
    assert_int_equal(rr_json_parse(&v, rr_text("[{}, [], \"\", 1, 1.5, true, false, null]"), 0,
                                   RR_JSON_DUP_LAST, &err),
                     RR_OK);
    for (i = 0; i < RR_COUNT(expected); i++) {
        assert_string_equal(rr_json_type_name(json_array_get(v, i)), expected[i]);
    }
    assert_string_equal(rr_json_type_name(NULL), "nothing");
    json_decref(v);
}

static int parse_config(void *user)
{
    struct rr_error err;
    json_t *v;
    int rc = rr_json_parse(&v, rr_text(user), 0, RR_JSON_DUP_REJECT, &err);

    json_decref(v);
    return rc;
}

static void test_faults(void **state)
{
    char text[] = "{\"a\": [1, 2.5, {\"b\": \"long enough to need memory\"}], \"c\": \"\\u00e9\"}";
    struct fault_report r = fault_each(parse_config, text);

    (void)state;
    assert_true(r.allocations >= 8);
    assert_int_equal(r.survived, 0);
}

/* Without the memory to lift strings jansson reads them where they are. */
static void test_faults_of_long_strings(void **state)
{
    char text[] = "{\"a\": [\"" LONG "\", \"" LONG LONG "\\n\"]}";
    struct fault_report r = fault_each(parse_config, text);

    (void)state;
    assert_true(r.allocations >= 8);
    assert_true(r.survived >= 1);
    assert_int_equal(fault_memory_in_use(), 0);
}

static size_t to_give; /* so many allocations, then one is refused */
static bool refused;

static void *give(size_t bytes)
{
    if (to_give-- == 0) {
        refused = true;
        return NULL;
    }
    return malloc(bytes);
}

/* In a program with a jansson of its own, which never calls rr_json_init: a tree is whole or there
 * is none, and that is for want of memory. */
static void test_faults_of_a_guest(void **state)
{
    static const char text[] = "{\"max_position_embeddings\": 12345678901234567,"
                               " \"architectures\": [\"XLMRobertaForSequenceClassification\"],"
                               " \"a\": [1, \"0123456789012345678901234567890123456789\"]}";
    json_t *truth, *v;
    size_t n;

    (void)state;
    json_set_alloc_funcs(malloc, free);
    assert_non_null(truth = json_loads(text, 0, NULL));
    json_set_alloc_funcs(give, free);
    for (n = 0, refused = true; refused; n++) {
        struct rr_error err = { 0 };
        int rc;

        to_give = n;
        refused = false;
        rc = rr_json_parse(&v, rr_text(text), 0, RR_JSON_DUP_REJECT, &err);
        to_give = SIZE_MAX;
        assert_int_equal(rc, refused ? RR_ENOMEM : RR_OK);
        assert_int_equal(json_equal(v, truth), !refused);
        json_decref(v);
    }
    assert_true(n > 20);
    json_decref(truth);
    rr_json_init();
}

/* A file of a folder that may be missing. */
static void test_read_beside(void **state)
{
    char folder[] = "/tmp/rr_json_XXXXXX", path[PATH_MAX];
    char far[PATH_MAX + 1]; /* a path that no file has */
    struct rr_error err = { 0 };
    json_t *v = json_true();
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(rr_json_read_beside(&v, path, folder, "a.json", 16, RR_JSON_DUP_LAST, &err),
                     RR_OK);
    assert_null(v);
    memset(far, 'a', PATH_MAX);
    far[PATH_MAX] = 0;
    v = json_true();
    assert_int_equal(rr_json_read_beside(&v, path, far, "a.json", 16, RR_JSON_DUP_LAST, &err),
                     RR_OK);
    assert_null(v);

    assert_true(rr_path_join(path, sizeof(path), folder, "a.json"));
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"a\":1}", f);
    fclose(f);
    memset(path, 0, sizeof(path));
    assert_int_equal(rr_json_read_beside(&v, path, folder, "a.json", 16, RR_JSON_REALS, &err),
                     RR_OK);
    assert_true(json_is_real(json_object_get(v, "a")));
    json_decref(v);
    assert_int_equal(rr_json_read_beside(&v, path, folder, "a.json", 4, RR_JSON_DUP_LAST, &err),
                     RR_ETOOBIG);
    assert_null(v);
    assert_non_null(strstr(err.msg, folder));
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_nul_is_content),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_getters),
        cmocka_unit_test(test_getter_errors),
        cmocka_unit_test(test_type_names),
        cmocka_unit_test(test_read_beside),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_long_strings),
        cmocka_unit_test(test_random_strings),
        cmocka_unit_test(test_faults_of_long_strings),
        cmocka_unit_test(test_faults_of_a_guest),
    };

    rr_json_init();
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
