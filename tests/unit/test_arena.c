/* SPDX-License-Identifier: Apache-2.0 */
/* test_arena.c - base/arena: limits, alignment, no overlap, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "rerank_types.h"
#include "support/fault.h"

static void test_objects_do_not_overlap(void **state)
{
    static const size_t sizes[] = { 1, 16, 17, 0, 4000, 5000, 3, 300000, 8, 8, 100000 };
    unsigned char *p[RR_COUNT(sizes)];
    struct rr_arena a;
    size_t i, k, round;

    (void)state;
    rr_arena_init(&a, RR_MEM_REQUEST, 1 << 20);
    for (round = 0; round < 2; round++) {
        for (i = 0; i < RR_COUNT(sizes); i++) {
            p[i] = rr_arena_alloc(&a, sizes[i], 1);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            for (k = 0; k < sizes[i]; k++) assert_int_equal(p[i][k], 0);
            memset(p[i], (int)i + 1, sizes[i]);
        }
        for (i = 0; i < RR_COUNT(sizes); i++) {
            for (k = 0; k < sizes[i]; k++) assert_int_equal(p[i][k], i + 1);
            for (k = 0; k < i; k++) assert_ptr_not_equal(p[i], p[k]);
        }
        rr_arena_reset(&a);
        assert_int_equal(a.used, 0);
        assert_int_equal(fault_memory_in_use(), 0);
    }
}

static void test_limit(void **state)
{
    struct rr_arena a;

    (void)state;
    rr_arena_init(&a, RR_MEM_REQUEST, 64);
    assert_null(rr_arena_alloc(&a, 65, 1));
    assert_non_null(rr_arena_alloc(&a, 48, 1));
    assert_null(rr_arena_alloc(&a, 17, 1)); /* 17 take 32 */
    assert_non_null(rr_arena_alloc(&a, 16, 1));
    assert_null(rr_arena_alloc(&a, 0, 1)); /* even nothing takes an address */
    rr_arena_reset(&a);
    assert_non_null(rr_arena_alloc(&a, 64, 1));
    rr_arena_reset(&a);
}

static void test_overflow(void **state)
{
    struct rr_arena a;

    (void)state;
    rr_arena_init(&a, RR_MEM_REQUEST, SIZE_MAX);
    assert_null(rr_arena_alloc(&a, SIZE_MAX, 2));
    assert_null(rr_arena_alloc(&a, SIZE_MAX, 1));
    assert_null(rr_arena_alloc(&a, SIZE_MAX - 31, 1)); /* no room for the block's header */
    assert_null(rr_arena_strndup(&a, "x", SIZE_MAX));
    assert_int_equal(a.used, 0);
    rr_arena_reset(&a);
}

static void test_strndup(void **state)
{
    struct rr_arena a;

    (void)state;
    rr_arena_init(&a, RR_MEM_REQUEST, 1000);
    assert_memory_equal(rr_arena_strndup(&a, "a\0b", 3), "a\0b\0", 4);
    assert_string_equal(rr_arena_strndup(&a, NULL, 0), "");
    rr_arena_reset(&a);
}

static int many_objects(void *user)
{
    struct rr_arena a;
    size_t i;

    (void)user;
    rr_arena_init(&a, RR_MEM_REQUEST, SIZE_MAX);
    for (i = 0; i < 60; i++) {
        if (!rr_arena_alloc(&a, i * 100, 1)) break;
    }
    rr_arena_reset(&a);
    return i == 60 ? RR_OK : RR_ENOMEM;
}

static void test_faults(void **state)
{
    struct fault_report r = fault_each(many_objects, NULL);

    (void)state;
    assert_true(r.allocations >= 3); /* it did need several blocks */
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_do_not_overlap),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_strndup),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
