/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_body.c - the bytes of a body: headers, Unicode, amounts, and what JSON allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/body.h"
#include "support/fault.h"

static const struct {
    const char *type, *encoding;
    unsigned status; /* 0: accepted */
    const char *why;
} media[] = {
    { NULL, NULL, 0, "no header at all" },
    { "", NULL, 0, "an empty one" },
    { "application/json", NULL, 0, "the usual" },
    { "Application/JSON; charset=UTF-8", NULL, 0, "in any case of letters" },
    { "application/json;charset=\"utf-8\" ; x=y", NULL, 0, "quoted, with other parameters" },
    { "application/vnd.api+json", NULL, 0, "a kind of JSON" },
    { "text/plain", "identity", 0, "sent out of habit" },
    { "application/x-www-form-urlencoded", NULL, 0, "curl -d" },
    { "application/json; charset=us-ascii", NULL, 0, "a part of UTF-8" },
    { "application/json; charset=iso-8859-1", NULL, 415, "other bytes for the same letters" },
    { "application/json; charset=utf-16", NULL, 415, "UTF-16" },
    { "multipart/form-data; boundary=x", NULL, 415, "a form with files" },
    { "application/xml", NULL, 415, "XML" },
    { "json", NULL, 415, "no type" },
    { "application/json", "gzip", 415, "compressed" },
    { NULL, " br ", 415, "compressed, without a type" },
};

static void test_media(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(media); i++) {
        struct rr_problem p = { 0 };
        int rc = rr_body_media(media[i].type, media[i].encoding, &p);

        if (p.status != media[i].status || (rc != 0) != (p.status != 0))
            fail_msg("%s: %u %s", media[i].why, p.status, p.msg);
    }
}

/* ---- bodies ------------------------------------------------------------------------------- */

struct read {
    json_t *root;
    struct rr_problem problem;
    size_t replaced;
    int rc;
};

static void read_bytes(struct read *r, const char *data, size_t len, bool replace)
{
    struct rr_body_rules rules = { .max_depth = 8, .max_documents = 5, .replace = replace };
    struct rr_buf body;

    memset(r, 0, sizeof(*r));
    rr_buf_init(&body, RR_MEM_REQUEST, 64 << 20);
    rr_buf_put(&body, data, len);
    r->rc = rr_body_read(&body, &rules, &r->root, &r->replaced, &r->problem);
    if ((r->rc == 0) != (r->root != NULL) || (r->rc != 0) != (r->problem.status != 0))
        fail_msg("rc %d, status %u", r->rc, r->problem.status);
    rr_buf_free(&body);
}

#define FFFD "\xEF\xBF\xBD"

static const struct {
    const char *body;
    size_t len; /* 0: strlen */
    const char *text; /* of "t" after replacing; NULL: refused all the same */
    size_t replaced;
    bool strict; /* accepted without replacing, too */
    const char *why;
} unicode[] = {
    { "{\"t\":\"abc\"}", 0, "abc", 0, true, "nothing to do" },
    { "{\"t\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}", 0, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 0,
      true, "two, three and four bytes" },
    { "{\"t\":\"a\xff" "b\"}", 0, "a" FFFD "b", 1, false, "a byte that UTF-8 never has" },
    { "{\"t\":\"\xc0\xaf\"}", 0, FFFD FFFD, 2, false, "an overlong slash" },
    { "{\"t\":\"\xe2\x82\"}", 0, FFFD, 1, false, "two of three bytes are one" },
    { "{\"t\":\"\xf0\x9f\x98" "x\"}", 0, FFFD "x", 1, false, "three of four bytes are one" },
    { "{\"t\":\"\xed\xa0\x80\"}", 0, FFFD FFFD FFFD, 3, false, "a surrogate in UTF-8" },
    { "{\"t\":\"\xf4\x90\x80\x80\"}", 0, FFFD FFFD FFFD FFFD, 4, false, "above U+10FFFF" },
    { "{\"t\":\"\xe9t\xe9\"}", 0, FFFD "t" FFFD, 2, false, "Latin-1" },
    { "{\"t\":\"\\ud83d\"}", 0, FFFD, 1, false, "the first half of a pair" },
    { "{\"t\":\"\\uDE00x\"}", 0, FFFD "x", 1, false, "the second half" },
    { "{\"t\":\"\\ud83d\\ude00\"}", 0, "\xf0\x9f\x98\x80", 0, true, "a whole pair" },
    { "{\"t\":\"\\ud83d\\ud83d\\ude00\"}", 0, FFFD "\xf0\x9f\x98\x80", 1, false, "half and whole" },
    { "{\"t\":\"\\ud83d\\n\"}", 0, FFFD "\n", 1, false, "half and another escape" },
    { "{\"t\":\"\\\\ud83d\"}", 0, "\\ud83d", 0, true, "a backslash, then plain letters" },
    { "{\"t\":\"\\ude0\"}", 0, NULL, 0, false, "three digits are a syntax error" },
    { "{\"t\":\"a\\", 0, NULL, 0, false, "ends in an escape" },
    { "{\"t\":\"\\u", 0, NULL, 0, false, "ends in a longer one" },
    { "{\"t\":\"\\u0000\"}", 0, "", 0, true, "NUL is a character" },
    { "{\"t\":\"\xef\xbf\xbe\x7f\"}", 0, "\xef\xbf\xbe\x7f", 0, true, "U+FFFE and DEL are characters" },
    { "\xef\xbb\xbf{\"t\":\"a\"}", 0, "a", 0, false, "a byte order mark" },
    { "{\"t\":\"a\0b\"}", 11, NULL, 0, false, "a raw NUL is no JSON" },
    { "\xff\xfe{\0\"\0", 6, NULL, 0, false, "UTF-16 with its mark" },
    { "{\0\"\0t\0", 6, NULL, 0, false, "UTF-16 without" },
};

static void test_unicode(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(unicode); i++) {
        size_t len = unicode[i].len ? unicode[i].len : strlen(unicode[i].body);
        struct read r;

        read_bytes(&r, unicode[i].body, len, false);
        if ((r.rc == 0) != unicode[i].strict)
            fail_msg("%s, strict: %s", unicode[i].why, r.problem.msg);
        if (r.rc && r.problem.status != 400) fail_msg("%s: %u", unicode[i].why, r.problem.status);
        json_decref(r.root);
        read_bytes(&r, unicode[i].body, len, true);
        if ((r.rc == 0) != (unicode[i].text != NULL))
            fail_msg("%s: %s", unicode[i].why, r.problem.msg);
        if (r.rc == 0) {
            const char *text = json_string_value(json_object_get(r.root, "t"));

            if (strcmp(text, unicode[i].text) != 0 || r.replaced != unicode[i].replaced)
                fail_msg("%s: %s, %zu replaced", unicode[i].why, text, r.replaced);
        }
        json_decref(r.root);
    }
}

static const struct {
    const char *body;
    unsigned status; /* 0: accepted */
    const char *part; /* of the message */
    const char *why;
} bodies[] = {
    { "{}", 0, NULL, "the least" },
    { "{\"texts\":[1,2,3,4,5]}", 0, NULL, "as many as allowed" },
    { "{\"texts\":[1,2,3,4,5,6]}", 422, "texts: found 6, at most 5", "one more" },
    { "{\"texts\":[[1,2,3,4],[1,2,3,4]]}", 0, NULL, "what is inside does not count" },
    { "{\"texts\":[{\"v\":[1,2,3,4,5,6,7]}]}", 0, NULL, "metadata may be longer" },
    { "{\"vector\":[1,2,3,4,5,6,7]}", 0, NULL, "other lists may be longer" },
    { "{\"q\":\"\\\"texts\",\"v\":[1,2,3,4,5,6,7]}", 0, NULL, "a string is not a key" },
    { "{\"input\":{\"query\":\"q\",\"documents\":[1,2,3,4,5,6]}}", 422, "documents: found 6",
      "dashscope's list" },
    { "{\"q\":\"[[[[[[[[[[[[[[\"}", 0, NULL, "brackets in a string" },
    { "{\"a\":[[[[[[[[1]]]]]]]]}", 400, "nested deeper than 8", "too deep" },
    { "{\"q\":1,\"q\":2}", 400, "has a key twice", "a key twice" },
    { "{\"q\":1,\"\\u0071\":2}", 400, "has a key twice", "twice, spelled differently" },
    { "{\"a\\u0000\":1}", 400, "NUL byte in a key", "NUL in a key" },
    { "{\"id\":9223372036854775807}", 0, NULL, "the largest integer" },
    { "{\"id\":9223372036854775808}", 400, "number that is out of range", "one more" },
    { "{\"id\":1e400}", 400, "number that is out of range", "a real that is none" },
    { "{\"a\":01}", 400, "syntax", "a leading zero" },
    { "{\"a\":NaN}", 400, "NaN", "not a number" },
    { "[1]", 400, "an array, expected a JSON object", "not an object" },
    { "\"texts\"", 400, "a string", "a string" },
    { "", 400, "empty", "nothing" },
    { "]]]]", 400, NULL, "closing brackets alone" },
    { "{\"texts\":[", 400, NULL, "cut off inside the list" },
};

static void test_bodies(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(bodies); i++) {
        struct read r;

        read_bytes(&r, bodies[i].body, strlen(bodies[i].body), true);
        if (r.problem.status != bodies[i].status)
            fail_msg("%s: %u %s", bodies[i].why, r.problem.status, r.problem.msg);
        if (bodies[i].part && !strstr(r.problem.msg, bodies[i].part))
            fail_msg("%s: %s", bodies[i].why, r.problem.msg);
        json_decref(r.root);
    }
}

/* What is too much is refused before anything is built: quickly, and within a few bytes. */
static void test_refused_early(void **state)
{
    static const struct {
        const char *head, *item, *tail;
        size_t n;
        unsigned status;
        const char *why;
    } rows[] = {
        { "{\"query\":\"q\",\"texts\":[", "\"a\",", "\"a\"]}", 1000000, 422, "a million tiny documents" },
        { "{\"query\":\"q\",\"documents\":[", "[],", "[]]}", 1000000, 422, "a million empty lists" },
        { "{\"x\":[", "1,", "1]}", 1100000, 400, "too many values anywhere" },
        { "", "[", "", 5000000, 400, "five million brackets" },
    };
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        size_t step = strlen(rows[i].item), head = strlen(rows[i].head);
        size_t len = head + rows[i].n * step + strlen(rows[i].tail);
        char *text = malloc(len + 1);
        uint64_t begun;
        struct read r;

        assert_non_null(text);
        memcpy(text, rows[i].head, head);
        for (k = 0; k < rows[i].n; k++) memcpy(text + head + k * step, rows[i].item, step);
        strcpy(text + head + k * step, rows[i].tail);
        begun = rr_now_ns();
        read_bytes(&r, text, len, true);
        if (r.problem.status != rows[i].status)
            fail_msg("%s: %u %s", rows[i].why, r.problem.status, r.problem.msg);
        /* Milliseconds; the bound leaves room for sanitizers on a busy machine. */
        assert_true(rr_now_ns() - begun < 2 * RR_SECOND);
        free(text);
    }
}

static int read_again(void *user)
{
    static const char text[] = "{\"query\":\"\xff\",\"texts\":[\"a\",{\"b\":[1.5,null]}]}";
    struct rr_body_rules rules = { .max_depth = 8, .max_documents = 5, .replace = true };
    struct rr_problem problem = { 0 };
    struct rr_buf body;
    json_t *root = NULL;
    size_t replaced;
    int rc = RR_ENOMEM;

    (void)user;
    rr_buf_init(&body, RR_MEM_REQUEST, 1000);
    rr_buf_puts(&body, text);
    if (!body.failed) rc = rr_body_read(&body, &rules, &root, &replaced, &problem);
    json_decref(root);
    rr_buf_free(&body);
    return rc == -1 && problem.status == 503 ? RR_ENOMEM : rc;
}

static void test_no_memory(void **state)
{
    struct fault_report r = fault_each(read_again, NULL);

    (void)state;
    assert_true(r.allocations > 5);
    assert_int_equal(r.survived, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media),  cmocka_unit_test(test_unicode),
        cmocka_unit_test(test_bodies), cmocka_unit_test(test_refused_early),
        cmocka_unit_test(test_no_memory),
    };

    rr_json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
