/* SPDX-License-Identifier: Apache-2.0 */
/* test_mem.c - base/mem and base/clock: sizes, accounting, fault points. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

static size_t in_use(enum rr_mem_tag tag)
{
    size_t now, peak;

    rr_mem_usage(tag, &now, &peak);
    assert_true(peak >= now);
    return now;
}

static void test_overflow(void **state)
{
    static const struct {
        size_t n, size;
        const char *why;
    } cases[] = {
        { SIZE_MAX, 2, "product" },
        { SIZE_MAX / 2 + 1, 2, "product is exactly 2^64" },
        { SIZE_MAX, 1, "header would not fit" },
        { SIZE_MAX - 15, 1, "header wraps to 0" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        void *p = rr_alloc(RR_MEM_MISC, 1, 1);

        if (rr_alloc(RR_MEM_MISC, cases[i].n, cases[i].size)) fail_msg("alloc: %s", cases[i].why);
        if (rr_calloc(RR_MEM_MISC, cases[i].n, cases[i].size)) fail_msg("calloc: %s", cases[i].why);
        if (rr_realloc(RR_MEM_MISC, p, cases[i].n, cases[i].size)) {
            fail_msg("realloc: %s", cases[i].why);
        }
        rr_free(p); /* a failed realloc has left it alone */
    }
    assert_null(rr_pages_alloc(RR_MEM_MISC, SIZE_MAX));
    assert_null(rr_pages_alloc(RR_MEM_MISC, SIZE_MAX - 4096));
    assert_null(rr_strndup(RR_MEM_MISC, "x", SIZE_MAX));
    assert_int_equal(in_use(RR_MEM_MISC), 0);
}

static void test_zero_alignment_accounting(void **state)
{
    size_t sizes[] = { 0, 1, 15, 16, 17, 4095, 100000 }, total = 0, i, k;
    unsigned char *p[RR_COUNT(sizes)];

    (void)state;
    for (i = 0; i < RR_COUNT(sizes); i++) {
        p[i] = rr_calloc(RR_MEM_MODEL, sizes[i], 1);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        for (k = 0; k < sizes[i]; k++) assert_int_equal(p[i][k], 0);
        total += sizes[i];
        assert_int_equal(in_use(RR_MEM_MODEL), total);
    }
    for (i = 0; i < RR_COUNT(sizes); i++) rr_free(p[i]);
    assert_int_equal(in_use(RR_MEM_MODEL), 0);
    rr_free(NULL);
}

static void test_resize(void **state)
{
    size_t now, peak, i;
    unsigned char *p = rr_realloc(RR_MEM_CACHE, NULL, 10, 1);

    (void)state;
    assert_non_null(p);
    memset(p, 7, 10);
    p = rr_realloc(RR_MEM_MISC, p, 1000, 10);
    assert_non_null(p);
    for (i = 0; i < 10000; i++) assert_int_equal(p[i], i < 10 ? 7 : 0);
    assert_int_equal(in_use(RR_MEM_CACHE), 10000); /* the tag it was born with */
    assert_int_equal(in_use(RR_MEM_MISC), 0);
    p = rr_realloc(RR_MEM_MISC, p, 4, 1);
    assert_non_null(p);
    rr_mem_usage(RR_MEM_CACHE, &now, &peak);
    assert_int_equal(now, 4);
    assert_int_equal(peak, 10000);
    rr_free(p);
    assert_int_equal(in_use(RR_MEM_CACHE), 0);
}

static void test_strings(void **state)
{
    char *a = rr_strdup(RR_MEM_MISC, "abc"), *b = rr_strndup(RR_MEM_MISC, "a\0c-", 3);
    char *c = rr_strndup(RR_MEM_MISC, NULL, 0);

    (void)state;
    assert_string_equal(a, "abc");
    assert_memory_equal(b, "a\0c\0", 4);
    assert_string_equal(c, "");
    rr_free(a);
    rr_free(b);
    rr_free(c);
}

static void test_pages(void **state)
{
    static const size_t sizes[] = { 0, 1, 4096, 100000, (4u << 20) - 1, 4u << 20, (9u << 20) + 5 };
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(sizes); i++) {
        unsigned char *p = rr_pages_alloc(RR_MEM_WEIGHTS, sizes[i]);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (sizes[i] >= 4u << 20 ? 2u << 20 : 64), 0);
        for (k = 0; k < sizes[i]; k += 4096) assert_int_equal(p[k], 0);
        if (sizes[i]) p[sizes[i] - 1] = 1;
        assert_true(in_use(RR_MEM_WEIGHTS) >= sizes[i]);
        rr_pages_free(RR_MEM_WEIGHTS, p, sizes[i]);
        assert_int_equal(in_use(RR_MEM_WEIGHTS), 0);
    }
    rr_pages_free(RR_MEM_WEIGHTS, NULL, 100);
}

/* Four allocations; returns bit i set when the i-th gave memory. */
static unsigned four_allocations(void)
{
    void *p[4] = { rr_alloc(RR_MEM_MISC, 1, 1), rr_calloc(RR_MEM_MISC, 1, 1),
                   rr_pages_alloc(RR_MEM_MISC, 1), rr_realloc(RR_MEM_MISC, NULL, 1, 1) };
    unsigned got = 0, i;

    for (i = 0; i < 4; i++) got |= p[i] ? 1u << i : 0;
    rr_pages_free(RR_MEM_MISC, p[2], 1);
    p[2] = NULL;
    for (i = 0; i < 4; i++) rr_free(p[i]);
    return got;
}

static void test_fault_points(void **state)
{
    static const struct {
        uint64_t nth;
        bool repeat;
        unsigned got;
        const char *why;
    } cases[] = {
        { 0, false, 15, "none" },
        { 1, false, 14, "the next only" },
        { 3, false, 11, "the third only" },
        { 3, true, 3, "the third and all after" },
        { 5, true, 15, "too late to matter" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        unsigned got;

        rr_mem_fault(cases[i].nth, cases[i].repeat);
        got = four_allocations();
        assert_int_equal(rr_mem_fault_count(), 4);
        rr_mem_fault(0, false);
        if (got != cases[i].got) fail_msg("%s: got %x", cases[i].why, got);
        assert_int_equal(in_use(RR_MEM_MISC), 0);
    }
}

static void test_tag_names(void **state)
{
    int i, k;

    (void)state;
    for (i = 0; i < RR_MEM_TAGS; i++) {
        const char *name = rr_mem_tag_name((enum rr_mem_tag)i);

        assert_non_null(name);
        for (k = 0; k < i; k++) assert_string_not_equal(name, rr_mem_tag_name((enum rr_mem_tag)k));
    }
    assert_string_equal(rr_mem_tag_name(RR_MEM_TAGS), "unknown");
}

static void *allocate_much(void *user)
{
    int i;

    for (i = 0; i < 20000; i++) {
        void *p = rr_alloc(RR_MEM_REQUEST, (size_t)(i % 100), 1);

        if (!p) return NULL;
        rr_free(p);
    }
    return user;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    int here = 0;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_much, &here), 0);
    }
    for (i = 0; i < RR_COUNT(threads); i++) {
        void *result;

        pthread_join(threads[i], &result);
        assert_ptr_equal(result, &here);
    }
    assert_int_equal(in_use(RR_MEM_REQUEST), 0);
}

static uint64_t noon(void)
{
    return 12;
}

static void test_clock(void **state)
{
    uint64_t a = rr_now_ns(), b = rr_now_ns();

    (void)state;
    assert_true(a > 0 && b >= a);
    assert_true(rr_unix_time() > 1.6e9);
    rr_clock_fake(noon);
    assert_int_equal(rr_now_ns(), 12);
    rr_clock_fake(NULL);
    assert_true(rr_now_ns() >= b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overflow),  cmocka_unit_test(test_zero_alignment_accounting),
        cmocka_unit_test(test_resize),    cmocka_unit_test(test_strings),
        cmocka_unit_test(test_pages),     cmocka_unit_test(test_fault_points),
        cmocka_unit_test(test_tag_names), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_clock),
    };

    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
