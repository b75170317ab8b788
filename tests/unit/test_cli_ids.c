/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_ids.c - numbers of ids: the same for equal ones, in order, however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/text.h"
#include "cli/ids.h"
#include "support/fault.h"

#define MANY 5000 /* the table grows several times */

/* Adds MANY ids twice, from memory that changes between the calls. */
static int add_many(void *user)
{
    struct rr_ids ids = { 0 };
    struct rr_arena arena;
    struct rr_error err;
    int rc = RR_OK;

    (void)user;
    rr_arena_init(&arena, RR_MEM_MISC, SIZE_MAX / 2);
    for (uint32_t i = 0; i < 2 * MANY && !rc; i++) {
        char text[16];
        uint32_t number;

        snprintf(text, sizeof(text), "%u", i % MANY);
        rc = rr_ids_add(&ids, &arena, rr_text(text), &number, &err);
        if (rc) break;
        assert_int_equal(number, i % MANY);
        assert_true(rr_text_is(ids.list[number], text));
        assert_int_equal(ids.n, i < MANY ? i + 1 : MANY);
    }
    rr_ids_free(&ids);
    rr_arena_reset(&arena);
    return rc;
}

static void test_many(void **state)
{
    (void)state;
    assert_int_equal(add_many(NULL), RR_OK);
}

static void test_views(void **state)
{
    static const char text[] = "abab\0b";
    const struct {
        size_t from, len;
        uint32_t number;
        const char *why;
    } rows[] = {
        { 0, 2, 0, "the first" },          { 2, 2, 0, "the same elsewhere" },
        { 0, 1, 1, "its start" },          { 0, 0, 2, "nothing" },
        { 3, 3, 3, "with a NUL inside" },  { 3, 2, 4, "with a NUL at the end" },
        { 5, 0, 2, "nothing, elsewhere" },
    };
    struct rr_ids ids = { 0 };
    struct rr_error err;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(rows); i++) {
        uint32_t number;
        struct rr_text id = { text + rows[i].from, rows[i].len };

        assert_int_equal(rr_ids_add(&ids, NULL, id, &number, &err), RR_OK);
        if (number != rows[i].number) fail_msg("%s: %u", rows[i].why, number);
    }
    assert_ptr_equal(ids.list[0].data, text); /* not copied */
    rr_ids_free(&ids);
    assert_int_equal(fault_memory_in_use(), 0);
}

static void test_faults(void **state)
{
    struct fault_report r = fault_each(add_many, NULL);

    (void)state;
    assert_true(r.allocations >= 10);
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("cli_ids", tests, NULL, NULL);
}
