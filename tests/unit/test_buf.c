/* SPDX-License-Identifier: Apache-2.0 */
/* test_buf.c - base/buf: growing, ceilings, JSON output, faults. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/decimal.h"
#include "base/text.h"
#include "support/fault.h"

static void test_append(void **state)
{
    struct rr_buf b;
    size_t i, len;
    char *taken;

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 1 << 20);
    rr_buf_puts(&b, "one ");
    rr_buf_put(&b, "t\0o", 3);
    rr_buf_putc(&b, '!');
    rr_buf_printf(&b, " %d %s", 3, "four");
    assert_int_equal(b.len, 15);
    assert_memory_equal(b.data, "one t\0o! 3 four", 16);
    for (i = 0; i < 5000; i++) rr_buf_putc(&b, 'x');
    assert_int_equal(b.len, 5015);
    assert_int_equal(b.data[5015], 0);
    taken = rr_buf_take(&b, &len);
    assert_int_equal(len, 5015);
    assert_int_equal(strlen(taken + 9), len - 9);
    rr_free(taken);
    assert_null(b.data);
    rr_buf_puts(&b, "again");
    assert_string_equal(b.data, "again");
    rr_buf_free(&b);
    assert_int_equal(fault_memory_in_use(), 0);
}

static void test_printf_of_any_length(void **state)
{
    char text[1000];
    struct rr_buf b;
    size_t n;

    (void)state;
    memset(text, 'y', sizeof(text));
    rr_buf_init(&b, RR_MEM_MISC, 1 << 20);
    for (n = 0; n < sizeof(text); n++) { /* across the size of the small buffer and of the first */
        rr_buf_clear(&b);
        rr_buf_printf(&b, "%.*s", (int)n, text);
        assert_int_equal(b.len, n);
        assert_memory_equal(b.data, text, n);
        assert_int_equal(b.data[n], 0);
    }
    rr_buf_free(&b);
}

static void test_ceiling(void **state)
{
    struct rr_buf b;
    size_t len, i;

    (void)state;
    for (i = 0; i < 2; i++) {
        size_t limit = i ? 1000 : 5;

        rr_buf_init(&b, RR_MEM_MISC, limit);
        while (b.len < limit) rr_buf_putc(&b, 'z');
        assert_false(b.failed);
        assert_int_equal(strlen(b.data), limit);
        rr_buf_putc(&b, 'z');
        assert_true(b.failed);
        assert_int_equal(b.len, limit);
        rr_buf_puts(&b, ""); /* a failure sticks */
        assert_true(b.failed);
        assert_null(rr_buf_reserve(&b, 0));
        rr_buf_clear(&b);
        rr_buf_puts(&b, "ok");
        assert_false(b.failed);
        assert_string_equal(b.data, "ok");
        rr_buf_printf(&b, "%2000d", 1);
        assert_true(b.failed);
        assert_null(rr_buf_take(&b, &len));
        assert_int_equal(len, 0);
        assert_null(b.data);
    }
    rr_buf_init(&b, RR_MEM_MISC, SIZE_MAX);
    rr_buf_puts(&b, "x");
    assert_null(rr_buf_reserve(&b, SIZE_MAX)); /* the sum overflows */
    assert_true(b.failed);
    rr_buf_free(&b);
}

static void test_reserve_and_empty(void **state)
{
    struct rr_buf b;
    size_t len = 9;
    char *p;

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 100);
    p = rr_buf_take(&b, &len);
    assert_string_equal(p, "");
    assert_int_equal(len, 0);
    rr_free(p);
    p = rr_buf_reserve(&b, 100);
    assert_non_null(p);
    memset(p, 'r', 100);
    b.len += 100;
    assert_int_equal(strlen(b.data), 100);
    rr_buf_free(&b);
}

static void test_json_string(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out, *why;
    } cases[] = {
        { "", 0, "\"\"", "empty" },
        { "abc", 3, "\"abc\"", "plain" },
        { "a\"b\\c", 5, "\"a\\\"b\\\\c\"", "quote and backslash" },
        { "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"", "short escapes" },
        { "\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"", "NUL and other controls" },
        { "\xc3\xa9\xf0\x9f\x98\x80/", 7, "\"\xc3\xa9\xf0\x9f\x98\x80/\"", "UTF-8 and / stay" },
    };
    struct rr_buf b;
    size_t i;

    (void)state;
    rr_buf_init(&b, RR_MEM_MISC, 1000);
    for (i = 0; i < RR_COUNT(cases); i++) {
        rr_buf_clear(&b);
        rr_buf_json_string(&b, (struct rr_text){ cases[i].in, cases[i].len });
        if (strcmp(b.data, cases[i].out)) fail_msg("%s: got %s", cases[i].why, b.data);
    }
    rr_buf_free(&b);
}

static void check_doubles(void)
{
    static const struct {
        double in;
        const char *out, *why;
    } cases[] = {
        { 0, "0.0", "zero stays a real number" },
        { -0.0, "-0.0", "its sign too" },
        { 1, "1.0", "whole" },
        { 0.1, "0.1", "15 digits suffice" },
        { 0.3, "0.3", "15 digits suffice" },
        { 0.1 + 0.2, "0.30000000000000004", "17 needed" },
        { 0.9970317035913467, "0.9970317035913467", "16 needed" },
        { 1.0 / 3, "0.3333333333333333", "16 needed" },
        { -12345.678, "-12345.678", "negative" },
        { 1e-7, "1e-07", "exponent without a point" },
        { 1e300, "1e+300", "large" },
        { DBL_MAX, "1.7976931348623157e+308", "largest" },
        { 5e-324, "5e-324", "smallest subnormal" },
    };
    struct rr_buf b;
    size_t i;

    rr_buf_init(&b, RR_MEM_MISC, 1000);
    for (i = 0; i < RR_COUNT(cases); i++) {
        rr_buf_clear(&b);
        rr_buf_json_double(&b, cases[i].in);
        if (strcmp(b.data, cases[i].out)) fail_msg("%s: got %s", cases[i].why, b.data);
    }
    rr_buf_clear(&b);
    rr_buf_json_float(&b, -0.1f);
    rr_buf_putc(&b, ' ');
    rr_buf_json_float(&b, 3e-7f);
    rr_buf_putc(&b, ' ');
    rr_buf_json_float(&b, 12);
    rr_buf_putc(&b, ' ');
    rr_buf_json_float(&b, NAN);
    assert_string_equal(b.data, "-0.100000001 3.00000011e-07 12 null");
    rr_buf_free(&b);
}

static void test_json_double(void **state)
{
    static const char *const locales[] = { "fr_FR.UTF-8", "de_DE.UTF-8", "fr_FR", "C.UTF-8" };
    uint64_t bits = 88172645463325252u;
    struct rr_buf b;
    size_t i;

    (void)state;
    check_doubles();
    rr_buf_init(&b, RR_MEM_MISC, 1000);
    for (i = 0; i < 20000; i++) { /* xorshift64 over all bit patterns */
        double v;

        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&v, &bits, sizeof(v));
        if (!isfinite(v)) continue;
        rr_buf_clear(&b);
        rr_buf_json_double(&b, v);
        if (strtod(b.data, NULL) != v) fail_msg("%a became %s", v, b.data);
    }
    rr_buf_json_double(&b, NAN);
    assert_true(b.failed);
    rr_buf_free(&b);
    for (i = 0; i < RR_COUNT(locales); i++) { /* those that this machine has */
        if (setlocale(LC_NUMERIC, locales[i])) check_doubles();
    }
    setlocale(LC_NUMERIC, "C");
}

static int write_and_take(void *user)
{
    struct rr_buf b;
    size_t i, len;
    char *p;

    (void)user;
    rr_buf_init(&b, RR_MEM_MISC, 1 << 20);
    for (i = 0; i < 300; i++) rr_buf_printf(&b, "%zu,", i);
    rr_buf_json_string(&b, rr_text("text\n"));
    rr_buf_printf(&b, "%600d", 1);
    p = rr_buf_take(&b, &len);
    rr_free(p);
    return p ? RR_OK : RR_ENOMEM;
}

/* The same digits as printf's, which is what other values than these are written with. */
static void check_digits(double v)
{
    char text[RR_DECIMAL_TEXT], expected[400];
    int digits = 15;

    if (!rr_decimal_short(v, text)) {
        if (fabs(v) >= 1e-4 && fabs(v) < 1e6) fail_msg("%a was not written", v);
        return;
    }
    do {
        snprintf(expected, sizeof(expected), "%.*g", digits++, v);
    } while (strtod(expected, NULL) != v);
    if (!strpbrk(expected, ".")) strcat(expected, ".0");
    if (strcmp(text, expected)) fail_msg("%a became %s, expected %s", v, text, expected);
}

static void test_common_doubles(void **state)
{
    uint64_t bits = 1;
    int i;

    (void)state;
    for (i = -14; i < 22; i++) { /* around powers of two and of ten */
        check_digits(ldexp(1, i));
        check_digits(nextafter(ldexp(1, i), 0));
        check_digits(-nextafter(ldexp(1, i), HUGE_VAL));
        check_digits(pow(10, i));
        check_digits(nextafter(pow(10, i), 0));
        check_digits(nextafter(pow(10, i), HUGE_VAL));
    }
    for (i = 0; i < 60000; i++) {
        double u;

        bits = bits * 6364136223846793005u + 1442695040888963407u;
        u = (double)(bits >> 11) * 0x1p-53;
        check_digits(u);
        check_digits(-(double)(float)(40 * u - 20)); /* a logit */
        check_digits(1 / (1 + exp(20 - 40 * u)));    /* a probability */
        check_digits(round(u * 1e4) / 1e4);
        check_digits(1e6 * u);
    }
    check_digits(0.5);
    check_digits(0);
    check_digits(NAN);
    check_digits(HUGE_VAL);
}

static void test_faults(void **state)
{
    struct fault_report r = fault_each(write_and_take, NULL);

    (void)state;
    assert_true(r.allocations >= 3);
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),         cmocka_unit_test(test_printf_of_any_length),
        cmocka_unit_test(test_ceiling),        cmocka_unit_test(test_reserve_and_empty),
        cmocka_unit_test(test_json_string),    cmocka_unit_test(test_json_double),
        cmocka_unit_test(test_common_doubles), cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
