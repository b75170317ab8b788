/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_out.c - base/json_out: commas, escapes, depth, faults; what is written parses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/json_out.h"
#include "support/fault.h"

/* Every kind of value, as a member and as an element, and empty things at every place. */
static void put_all(struct rr_json_out *o)
{
    rr_out_object(o, NULL);
    rr_out_array(o, "none");
    rr_out_end(o);
    rr_out_string(o, "a\"b", "c\\d\n");
    rr_out_text(o, "cut", (struct rr_text){ "abc", 2 });
    rr_out_string(o, "nothing", NULL);
    rr_out_uint(o, "most", UINT64_MAX);
    rr_out_int(o, "least", INT64_MIN);
    rr_out_hex(o, "print", 0xabc);
    rr_out_array(o, "list");
    rr_out_double(o, NULL, 0.1);
    rr_out_bool(o, NULL, true);
    rr_out_object(o, NULL);
    rr_out_end(o);
    rr_out_object(o, NULL);
    rr_out_null(o, "n");
    rr_out_bool(o, "f", false);
    rr_out_end(o);
    rr_out_array(o, NULL);
    rr_out_array(o, NULL);
    rr_out_end(o);
    rr_out_end(o);
    rr_out_end(o);
    rr_out_printf(o, "fixed", "%.2f", 1.0);
    rr_out_key(o, "own");
    rr_buf_puts(o->buf, "[7]");
    rr_out_object(o, "last");
    rr_out_end(o);
    rr_out_end(o);
}

#define COMPACT \
    "{\"none\":[],\"a\\\"b\":\"c\\\\d\\n\",\"cut\":\"ab\",\"nothing\":null," \
    "\"most\":18446744073709551615,\"least\":-9223372036854775808," \
    "\"print\":\"0000000000000abc\"," \
    "\"list\":[0.1,true,{},{\"n\":null,\"f\":false},[[]]],\"fixed\":1.00,\"own\":[7]," \
    "\"last\":{}}"
#define SPACED \
    "{\"none\": [], \"a\\\"b\": \"c\\\\d\\n\", \"cut\": \"ab\", \"nothing\": null, " \
    "\"most\": 18446744073709551615, \"least\": -9223372036854775808, " \
    "\"print\": \"0000000000000abc\", " \
    "\"list\": [0.1, true, {}, {\"n\": null, \"f\": false}, [[]]], \"fixed\": 1.00, " \
    "\"own\": [7], \"last\": {}}"

static void test_forms(void **state)
{
    static const struct {
        bool spaced;
        const char *expected;
    } rows[] = { { false, COMPACT }, { true, SPACED } };
    struct rr_buf b;
    size_t i;

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 4096);
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct rr_json_out o = { .buf = &b, .spaced = rows[i].spaced };

        rr_buf_clear(&b);
        put_all(&o);
        assert_false(b.failed);
        assert_int_equal(o.depth, 0);
        assert_string_equal(b.data, rows[i].expected);
    }
    rr_buf_free(&b);
    assert_int_equal(fault_memory_in_use(), 0);
}

/* Members may follow in an object that somebody else opened and will close. */
static void test_in_the_middle(void **state)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b, .more = true };

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 4096);
    rr_buf_puts(&b, "{\"a\":1");
    rr_out_object(&o, "b");
    rr_out_uint(&o, "c", 2);
    rr_out_end(&o);
    rr_buf_puts(&b, "}");
    assert_string_equal(b.data, "{\"a\":1,\"b\":{\"c\":2}}");
    rr_buf_free(&b);
}

static void test_depth(void **state)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };
    struct rr_error err;
    json_t *tree;
    unsigned i;

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 4096);
    for (i = 0; i < RR_JSON_OUT_DEPTH; i++)
        i % 2 ? rr_out_array(&o, "deeper") : rr_out_object(&o, NULL);
    for (i = 0; i < RR_JSON_OUT_DEPTH; i++) rr_out_end(&o);
    assert_false(b.failed);
    assert_int_equal(rr_json_parse(&tree, (struct rr_text){ b.data, b.len }, RR_JSON_OUT_DEPTH,
                                   RR_JSON_DUP_REJECT, &err),
                     RR_OK);
    json_decref(tree);

    rr_out_end(&o); /* one too many */
    assert_true(b.failed);
    rr_buf_clear(&b);
    o = (struct rr_json_out){ .buf = &b };
    for (i = 0; i <= RR_JSON_OUT_DEPTH; i++) rr_out_array(&o, NULL);
    assert_true(b.failed);
    rr_buf_free(&b);
}

static int write_all(void *user)
{
    struct rr_buf b;
    struct rr_json_out o = { .buf = &b };
    bool failed;

    (void)user;
    rr_buf_init(&b, RR_MEM_MISC, 4096);
    put_all(&o);
    failed = b.failed;
    if (!failed) assert_string_equal(b.data, COMPACT);
    rr_buf_free(&b);
    return failed ? RR_ENOMEM : RR_OK;
}

static void test_faults(void **state)
{
    struct fault_report r = fault_each(write_all, NULL);

    (void)state;
    assert_true(r.allocations >= 1);
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_in_the_middle),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("json_out", tests, NULL, NULL);
}
