/* SPDX-License-Identifier: Apache-2.0 */
/* test_text.c - base/text: UTF-8, blanks, "did you mean". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/text.h"

static void test_equal(void **state)
{
    struct rr_text empty = { NULL, 0 };

    (void)state;
    assert_true(rr_text_eq(empty, rr_text("")));
    assert_true(rr_text_is(rr_text("abc"), "abc"));
    assert_false(rr_text_is(rr_text("abc"), "ab"));
    assert_false(rr_text_is(rr_text("abc"), "abd"));
    assert_false(rr_text_eq((struct rr_text){ "a\0b", 3 }, (struct rr_text){ "a\0c", 3 }));
}

static void test_blank(void **state)
{
    static const struct {
        const char *in;
        bool blank;
        const char *why;
    } cases[] = {
        { "", true, "nothing" },
        { " \t\n\v\f\r", true, "ASCII" },
        { "\xc2\x85\xc2\xa0", true, "U+0085, U+00A0" },
        { "\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x8a", true, "U+1680, U+2000, U+200A" },
        { "\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaf", true, "U+2028, U+2029, U+202F" },
        { "\xe2\x81\x9f\xe3\x80\x80", true, "U+205F, U+3000" },
        { "\xe2\x80\x8b", false, "U+200B zero width space is no White_Space" },
        { "\xe1\xa0\x8e", false, "U+180E has not been one since Unicode 6.3" },
        { "\x1c", false, "U+001C is not" },
        { "  x  ", false, "a letter" },
        { "\xc2\xa1", false, "U+00A1, neighbour of U+00A0" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        if (rr_text_blank(rr_text(cases[i].in)) != cases[i].blank) fail_msg("%s", cases[i].why);
    }
    assert_false(rr_text_blank((struct rr_text){ "\0", 1 }));
}

static void test_invalid(void **state)
{
    static const struct {
        const char *in;
        size_t at;
        const char *why;
    } cases[] = {
        { "", SIZE_MAX, "nothing" },
        { "plain text, more than eight", SIZE_MAX, "ASCII" },
        { "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", SIZE_MAX, "bounds of 2 and 3 bytes" },
        { "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", SIZE_MAX, "bounds of 4 bytes" },
        { "\xed\x9f\xbf\xee\x80\x80", SIZE_MAX, "around the surrogates" },
        { "eight by\x80", 8, "lone continuation" },
        { "a\xc0\x80", 1, "overlong NUL" },
        { "\xc1\xbf", 0, "overlong, 2 bytes" },
        { "\xe0\x9f\xbf", 0, "overlong, 3 bytes" },
        { "\xf0\x8f\xbf\xbf", 0, "overlong, 4 bytes" },
        { "\xed\xa0\x80", 0, "first surrogate" },
        { "\xed\xbf\xbf", 0, "last surrogate" },
        { "\xf4\x90\x80\x80", 0, "above U+10FFFF" },
        { "\xf5\x80\x80\x80", 0, "F5 never" },
        { "\xff", 0, "FF never" },
        { "0123456789\xe2\x82", 10, "cut off" },
        { "\xe2\x82z", 0, "third byte is a letter" },
        { "\xc3\xa9\xc3(", 2, "second character is bad" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        size_t at = rr_utf8_invalid(rr_text(cases[i].in));

        if (at != cases[i].at) fail_msg("%s: at %zu", cases[i].why, at);
    }
}

static void test_every_character_round_trips(void **state)
{
    uint32_t cp, back;
    char out[4];

    (void)state;
    for (cp = 0; cp <= 0x10FFFF; cp++) {
        unsigned n;

        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        n = rr_utf8_put(out, cp);
        if (rr_utf8_invalid((struct rr_text){ out, n }) != SIZE_MAX) fail_msg("U+%04X", cp);
        if (rr_utf8_next(out, n, &back) != n || back != cp) fail_msg("U+%04X back", cp);
    }
    assert_int_equal(rr_utf8_put(out, 0xD800), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(rr_utf8_put(out, 0x110000), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
}

/* Both read eight bytes at a time: every length, every place of the byte that matters. */
static void test_plain_and_count(void **state)
{
    char text[40];
    size_t len, at;
    int byte;

    (void)state;
    for (byte = 0; byte < 256; byte++) {
        bool stops = byte < 0x20 || byte == '"' || byte == '\\';
        size_t counts = (byte & 0xC0) == 0x80 ? 0 : 1;

        for (len = 1; len < sizeof(text); len++) {
            for (at = 0; at < len; at++) {
                memset(text, 'a', len);
                text[at] = (char)byte;
                assert_int_equal(rr_text_plain(text, len), stops ? at : len);
                assert_int_equal(rr_utf8_count((struct rr_text){ text, len }), len - 1 + counts);
            }
        }
    }
    memset(text, 0x80, sizeof(text));
    assert_int_equal(rr_utf8_count((struct rr_text){ text, sizeof(text) }), 0);
    assert_int_equal(rr_text_plain(NULL, 0), 0);
}

static void test_string_end(void **state)
{
    static const struct {
        const char *in;
        size_t end;
        const char *why;
    } cases[] = {
        { "", 0, "nothing" },
        { "\"", 0, "an empty string" },
        { "ab\"c\"", 2, "the first one" },
        { "abc", 3, "none" },
        { "a\\\"b\"", 4, "one in an escape" },
        { "a\\\\\"b", 3, "a backslash in an escape before it" },
        { "\\\\\\\"\"", 4, "three backslashes" },
        { "\\\"", 2, "only one in an escape" },
        { "\\", 1, "half an escape" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++)
        if (rr_text_string_end(cases[i].in, strlen(cases[i].in)) != cases[i].end)
            fail_msg("%s", cases[i].why);
    assert_int_equal(rr_text_string_end(NULL, 0), 0);
}

static void test_stem(void **state)
{
    static const struct {
        const char *s;
        size_t stem;
        const char *why;
    } cases[] = {
        { "m.gguf", 1, "with the end" },
        { "m.gguf.gguf", 6, "twice: once is the end" },
        { ".gguf", 0, "nothing but the end" },
        { "gguf", 0, "shorter than the end" },
        { "", 0, "empty" },
        { "m.gguf.bin", 0, "the end is inside" },
        { "m.GGUF", 0, "another case" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++)
        if (rr_text_stem(cases[i].s, ".gguf") != cases[i].stem) fail_msg("%s", cases[i].why);
}

static void test_words(void **state)
{
    static const struct {
        const char *list, *words, *why; /* words: each with a | behind it */
    } cases[] = {
        { "", "", "empty" },
        { ", ,\t", "", "nothing but what stands between words" },
        { "a", "a|", "one" },
        { "a,b", "a|b|", "a comma" },
        { " a ,\tbc,,d, ", "a|bc|d|", "many between them, and at the ends" },
        { "a;b|c\nd", "a;b|c\nd|", "other characters belong to words" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        const char *at = cases[i].list;
        struct rr_text word;
        char got[64] = "";

        while (rr_text_word(&at, &word)) {
            strncat(got, word.data, word.len);
            strcat(got, "|");
        }
        if (strcmp(got, cases[i].words) || *at || word.len) fail_msg("%s: %s", cases[i].why, got);
    }
}

static void test_listed(void **state)
{
    (void)state;
    assert_true(rr_text_listed("/a, /bc", "/a"));
    assert_true(rr_text_listed("/a, /bc", "/bc"));
    assert_false(rr_text_listed("/a, /bc", "/b"));
    assert_false(rr_text_listed("/a, /bc", "/bcd"));
    assert_false(rr_text_listed("/a, /bc", "/a, /bc"));
    assert_false(rr_text_listed("/a, /bc", ""));
    assert_false(rr_text_listed("", ""));
}

static void test_nearest(void **state)
{
    static const char *const names[] = { "model", "max-length", "port",
                                         "host",  "threads",    "prep-threads" };
    static const struct {
        const char *word, *nearest, *why;
    } cases[] = {
        { "modle", "model", "swapped letters" },
        { "MODEL", "model", "case" },
        { "prt", "port", "missing letter" },
        { "hosts", "host", "extra letter" },
        { "max_length", "max-length", "underscore" },
        { "maxlength", "max-length", "no hyphen" },
        { "thread", "threads", "singular" },
        { "prep-thread", "prep-threads", "the nearer of two" },
        { "zzz", NULL, "nothing is near" },
        { "temperature", NULL, "nothing is near" },
        { "", NULL, "empty" },
        { "a-word-that-is-longer-than-any-option-name-that-we-have", NULL, "too long" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        const char *got = rr_text_nearest(cases[i].word, names, RR_COUNT(names));

        if (!got != !cases[i].nearest || (got && strcmp(got, cases[i].nearest))) {
            fail_msg("%s: got %s", cases[i].why, got ? got : "nothing");
        }
    }
    assert_null(rr_text_nearest("x", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),   cmocka_unit_test(test_blank),
        cmocka_unit_test(test_invalid), cmocka_unit_test(test_every_character_round_trips),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_stem),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_listed),
        cmocka_unit_test(test_plain_and_count),
        cmocka_unit_test(test_string_end),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
