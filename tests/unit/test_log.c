/* SPDX-License-Identifier: Apache-2.0 */
/* test_log.c - base/log: levels, clean lines, length, one line at a time. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/text.h"

struct seen {
    int level, lines;
    char line[8192];
};

static void keep(void *user, int level, const char *line)
{
    struct seen *s = user;

    s->level = level;
    s->lines++;
    snprintf(s->line, sizeof(s->line), "%s", line);
}

static void test_levels(void **state)
{
    struct seen s = { 0 };
    int max, level;

    (void)state;
    for (max = RR_ERROR; max <= RR_DEBUG; max++) {
        rr_log_set(keep, &s, max);
        for (level = RR_ERROR; level <= RR_DEBUG; level++) {
            s.lines = 0;
            rr_log((enum rr_level)level, "level %d", level);
            assert_int_equal(rr_log_on((enum rr_level)level), level <= max);
            assert_int_equal(s.lines, level <= max);
            if (s.lines) assert_int_equal(s.level, level);
        }
    }
    assert_string_equal(s.line, "level 3");
    rr_log_set(NULL, NULL, RR_WARN);
}

static void test_clean(void **state)
{
    static const struct {
        const char *in, *out, *why;
    } cases[] = {
        { "plain", "plain", "stays" },
        { "a\nb\tc\r", "a\\nb\\tc\\x0d", "one line" },
        { "\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f", "no terminal sequences" },
        { "\xc2\x9b"
          "31m",
          "\\xc2\\x9b31m", "C1 control: an escape sequence in disguise" },
        { "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
          "UTF-8 stays" },
        { "caf\xe9!", "caf\\xe9!", "Latin-1" },
        { "\xe2\x82", "\\xe2\\x82", "cut off" },
        { "\xc2\xa0", "\xc2\xa0", "above the C1 controls" },
    };
    struct seen s;
    size_t i;

    (void)state;
    rr_log_set(keep, &s, RR_INFO);
    for (i = 0; i < RR_COUNT(cases); i++) {
        rr_log(RR_INFO, "%s", cases[i].in);
        if (strcmp(s.line, cases[i].out)) fail_msg("%s: got %s", cases[i].why, s.line);
    }
    rr_log_set(NULL, NULL, RR_WARN);
}

static void test_long_lines(void **state)
{
    static const char *const characters[] = { "x", "\xe2\x82\xac", "\n" };
    char text[12000];
    struct seen s;
    size_t i;

    (void)state;
    rr_log_set(keep, &s, RR_INFO);
    for (i = 0; i < RR_COUNT(characters); i++) {
        size_t n = strlen(characters[i]), len;

        for (len = 0; len + n < sizeof(text); len += n) memcpy(text + len, characters[i], n);
        text[len] = 0;
        rr_log(RR_INFO, "%s", text);
        assert_in_range(strlen(s.line), 4080, 4095);
        assert_true(rr_utf8_invalid(rr_text(s.line)) == SIZE_MAX);
    }
    rr_log_set(NULL, NULL, RR_WARN);
}

/* The default sink writes to stderr, which goes to a pipe for a moment. */
static void test_stderr(void **state)
{
    int fds[2], saved = dup(2);
    char text[100];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], 2);
    rr_log(RR_WARN, "careful");
    rr_log(RR_INFO, "unseen");
    dup2(saved, 2);
    close(saved);
    close(fds[1]);
    n = read(fds[0], text, sizeof(text));
    close(fds[0]);
    assert_int_equal(n, 17);
    assert_memory_equal(text, "warning: careful\n", 17);
}

static int inside, together; /* plain on purpose: the log's lock guards them */

static void count(void *user, int level, const char *line)
{
    (void)level;
    (void)line;
    if (++inside != 1) together++;
    ++*(int *)user;
    inside--;
}

static void *log_much(void *user)
{
    int i;

    for (i = 0; i < 1000; i++) rr_log(RR_INFO, "line %d", i);
    return user;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    int lines = 0;
    size_t i;

    (void)state;
    rr_log_set(count, &lines, RR_INFO);
    for (i = 0; i < RR_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, NULL), 0);
    }
    for (i = 0; i < RR_COUNT(threads); i++) pthread_join(threads[i], NULL);
    rr_log_set(NULL, NULL, RR_WARN);
    assert_int_equal(lines, 4000);
    assert_int_equal(together, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stderr), /* first: the default sink */
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_clean),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
