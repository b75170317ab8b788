/* SPDX-License-Identifier: Apache-2.0 */
/* test_err.c - base/err: messages are one line of valid UTF-8 that fits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/text.h"

static void test_fail_fills(void **state)
{
    struct rr_error err = { 0, "old" };

    (void)state;
    assert_int_equal(rr_fail(&err, RR_EFORMAT, "%s: found %d", "a.json", 3), RR_EFORMAT);
    assert_int_equal(err.code, RR_EFORMAT);
    assert_string_equal(err.msg, "a.json: found 3");
    assert_int_equal(rr_fail(NULL, RR_EIO, "nobody listens"), RR_EIO);
}

static void test_messages_are_clean(void **state)
{
    static const struct {
        const char *in, *out, *why;
    } cases[] = {
        { "a\nb\tc", "a?b?c", "one line, no control characters" },
        { "\x1b[31m", "?[31m", "no terminal sequences from file names" },
        { "caf\xc3\xa9", "caf\xc3\xa9", "UTF-8 stays" },
        { "caf\xe9", "caf?", "Latin-1 from a file name" },
        { "\xed\xa0\x80", "???", "a surrogate in UTF-8 form" },
    };
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        rr_fail(&err, RR_EIO, "%s", cases[i].in);
        if (strcmp(err.msg, cases[i].out)) fail_msg("%s: got \"%s\"", cases[i].why, err.msg);
    }
}

/* Whatever the offset of a character at the cut, no half of it stays. */
static void test_cut_at_character(void **state)
{
    static const char *const characters[] = { "x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
    char text[1024];
    struct rr_error err;
    size_t i, shift;

    (void)state;
    for (i = 0; i < RR_COUNT(characters); i++) {
        for (shift = 0; shift < 4; shift++) {
            size_t n = strlen(characters[i]), len = 0, cut;

            while (len < shift) text[len++] = '-';
            while (len + n < sizeof(text)) {
                memcpy(text + len, characters[i], n);
                len += n;
            }
            text[len] = 0;
            rr_fail(&err, RR_EIO, "%s", text);
            cut = strlen(err.msg);
            assert_in_range(cut, sizeof(err.msg) - 4, sizeof(err.msg) - 1);
            assert_memory_equal(err.msg, text, cut);
            assert_true(rr_utf8_invalid(rr_text(err.msg)) == SIZE_MAX);
        }
    }
}

static void test_prefix(void **state)
{
    struct rr_error err;
    char longer[600];

    (void)state;
    rr_fail(&err, RR_EFORMAT, "found 1, expected 2");
    assert_int_equal(rr_fail_prefix(&err, "%s: %s", "config.json", "hidden_size"), RR_EFORMAT);
    assert_string_equal(err.msg, "config.json: hidden_size: found 1, expected 2");

    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    assert_int_equal(rr_fail_prefix(&err, "%s", longer), RR_EFORMAT);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);

    rr_fail(&err, RR_EIO, "%.*s", 400, longer);
    rr_fail_prefix(&err, "%.*s", 100, longer);
    assert_int_equal(strlen(err.msg), 502);
    rr_fail_prefix(&err, "end");
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    assert_memory_equal(err.msg, "end: ppp", 8);
}

static void test_errno(void **state)
{
    struct rr_error err = { 0 };

    (void)state;
    assert_int_equal(rr_fail_errno(&err, RR_EIO, "some/file", "cannot write", ENOSPC), RR_EIO);
    assert_int_equal(err.code, RR_EIO);
    assert_string_equal(err.msg, "some/file: cannot write: No space left on device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_fail_fills),
        cmocka_unit_test(test_messages_are_clean),
        cmocka_unit_test(test_cut_at_character),
        cmocka_unit_test(test_prefix),
    };

    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
