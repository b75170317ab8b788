/* SPDX-License-Identifier: Apache-2.0 */
/* test_shared_parts.c - the pieces of the shared cache: values, addresses, replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "cache/address.h"
#include "cache/replies.h"
#include "cache/value.h"

/* ---- values --------------------------------------------------------------------------------- */

static const struct rr_key key = { UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210) };

static void test_value(void **state)
{
    static const struct rr_cached values[] = {
        { 0.0f, 3, 0, 3 },
        { -0.0f, 4, 1, 99 },
        { 1.5f, INT32_MAX, 1, UINT32_MAX },
        { -3.4e38f, 0, 0, 0 },
        { 1.4e-45f, 131072, 0, 131072 },
    };
    unsigned char data[RR_VALUE_BYTES];
    char name[RR_KEY_CHARS];
    struct rr_cached out;
    size_t i;

    (void)state;
    rr_value_key(name, key);
    assert_memory_equal(name, "rr:1:fedcba98765432100123456789abcdef", RR_KEY_CHARS);
    for (i = 0; i < RR_COUNT(values); i++) {
        rr_value_encode(data, key, values[i]);
        assert_true(rr_value_decode(&out, key, (char *)data, sizeof(data)));
        assert_memory_equal(&out.logit, &values[i].logit, sizeof(float));
        assert_int_equal(out.tokens, values[i].tokens);
        assert_int_equal(out.truncated, values[i].truncated);
        assert_int_equal(out.full_tokens, values[i].full_tokens);
    }
}

/* No flipped bit, no other length, no other key, no number that is none. */
static void test_value_refused(void **state)
{
    static const float not_finite[] = { INFINITY, -INFINITY, NAN };
    unsigned char data[RR_VALUE_BYTES + 1] = { 0 };
    struct rr_key other = { key.lo, key.hi ^ 1 };
    struct rr_cached out;
    size_t i;

    (void)state;
    rr_value_encode(data, key, (struct rr_cached){ 1.25f, 17, 1, 18 });
    for (i = 0; i < RR_VALUE_BYTES * 8; i++) {
        data[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_false(rr_value_decode(&out, key, (char *)data, RR_VALUE_BYTES));
        data[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    for (i = 0; i <= sizeof(data); i++)
        assert_int_equal(rr_value_decode(&out, key, (char *)data, i), i == RR_VALUE_BYTES);
    assert_false(rr_value_decode(&out, other, (char *)data, RR_VALUE_BYTES));
    for (i = 0; i < RR_COUNT(not_finite); i++) {
        rr_value_encode(data, key, (struct rr_cached){ not_finite[i], 17, 0, 17 });
        assert_false(rr_value_decode(&out, key, (char *)data, RR_VALUE_BYTES));
    }
}

/* The layout is a promise to servers of other versions. */
static void test_value_layout(void **state)
{
    static const unsigned char expected[16] = { 1,    1, 0, 0, 0, 0, 0xa0, 0x3f,
                                                0x11, 1, 0, 0, 2, 3, 0,    0 };
    unsigned char data[RR_VALUE_BYTES];

    (void)state;
    rr_value_encode(data, key, (struct rr_cached){ 1.25f, 0x111, 1, 0x302 });
    assert_memory_equal(data, expected, sizeof(expected));
}

/* ---- addresses ------------------------------------------------------------------------------ */

static void test_address(void **state)
{
    static const struct {
        const char *url, *name, *user, *password;
        uint32_t db;
    } good[] = {
        { "redis://cache", "redis://cache:6379", "", "", 0 },
        { "redis://cache/", "redis://cache:6379", "", "", 0 },
        { "redis://10.0.0.1:6380/15", "redis://10.0.0.1:6380", "", "", 15 },
        { "redis://:secret@cache", "redis://cache:6379", "", "secret", 0 },
        { "redis://secret@cache", "redis://cache:6379", "", "secret", 0 },
        { "redis://me:p%40s%2fs%25@cache:1/2", "redis://cache:1", "me", "p@s/s%", 2 },
        { "redis://me:p@s/s:@cache", "redis://cache:6379", "me", "p@s/s:", 0 },
        { "redis://me:@cache", "redis://cache:6379", "me", "", 0 },
        { "rediss://[::1]:7000/3", "rediss://[::1]:7000", "", "", 3 },
        { "redis://[fe80::1]", "redis://[fe80::1]:6379", "", "", 0 },
        { "unix:/run/redis.sock", "unix:/run/redis.sock", "", "", 0 },
        { "unix:///run/redis.sock?db=4", "unix:/run/redis.sock", "", "", 4 },
    };
    struct rr_address a;
    struct rr_error err;
    char name[300];
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(good); i++) {
        assert_int_equal(rr_address_parse(&a, good[i].url, &err), RR_OK);
        rr_address_name(&a, name, sizeof(name));
        assert_string_equal(name, good[i].name);
        assert_string_equal(a.user, good[i].user);
        assert_string_equal(a.password, good[i].password);
        assert_int_equal(a.db, good[i].db);
    }
}

static void test_address_refused(void **state)
{
    static const struct {
        const char *url, *says;
    } bad[] = {
        { "", "not a Redis URL" },
        { "http://cache", "not a Redis URL" },
        { "cache:6379", "not a Redis URL" },
        { "redis://", "no host" },
        { "redis://:6379", "no host" },
        { "redis://secret@", "no host" },
        { "redis://cache:", "port" },
        { "redis://cache:0", "port" },
        { "redis://cache:65536", "port" },
        { "redis://cache:6379x", "port" },
        { "redis://::1", "brackets" },
        { "redis://[::1", "]" },
        { "redis://[::1]6379", "]" },
        { "redis://cache/x", "database" },
        { "redis://cache/-1", "database" },
        { "redis://cache/1/2", "database" },
        { "redis://a:secret%2@cache", "password" },
        { "redis://a:secret%00@cache", "password" },
        { "redis://a%zz:secret@cache", "user" },
        { "unix:relative", "path" },
        { "unix:", "path" },
        { "unix:/p?x=1", "db=N" },
        { "unix:/p?db=", "db=N" },
    };
    char url[1024];
    struct rr_address a;
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(bad); i++) {
        if (rr_address_parse(&a, bad[i].url, &err) != RR_EINVAL) fail_msg("%s", bad[i].url);
        if (!strstr(err.msg, bad[i].says)) fail_msg("%s: %s", bad[i].url, err.msg);
        assert_null(strstr(err.msg, "secret"));
    }
    snprintf(url, sizeof(url), "redis://%0600d@cache", 1); /* longer than a password may be */
    assert_int_equal(rr_address_parse(&a, url, &err), RR_EINVAL);
    snprintf(url, sizeof(url), "redis://c%0300d", 1); /* longer than a host may be */
    assert_int_equal(rr_address_parse(&a, url, &err), RR_EINVAL);
    snprintf(url, sizeof(url), "unix:/%0120d", 1); /* longer than the kernel takes */
    assert_int_equal(rr_address_parse(&a, url, &err), RR_EINVAL);
}

/* ---- replies -------------------------------------------------------------------------------- */

struct heard {
    char text[256];
};

static void hear(void *user, size_t index, const char *data, size_t len)
{
    struct heard *h = user;
    size_t at = strlen(h->text);

    snprintf(h->text + at, sizeof(h->text) - at, "%zu=%.*s;", index, data ? (int)len : 4,
             data ? data : "none");
}

/* Feeds the bytes in pieces; one reply is expected, or an error. */
static int read_reply(const char *bytes, size_t len, size_t piece, size_t n, struct rr_reply *reply,
                      struct heard *h, bool *idle)
{
    struct rr_replies *r;
    struct rr_error err;
    bool done = false;
    size_t at = 0;
    int rc = rr_replies_open(&r, &err);

    assert_int_equal(rc, RR_OK);
    memset(h, 0, sizeof(*h));
    rr_replies_expect(r, n, 1000, hear, h);
    while (!rc && !done && at < len) {
        size_t step = RR_MIN(piece, len - at);

        rc = rr_replies_feed(r, bytes + at, step, &err);
        at += step;
        if (!rc) rc = rr_replies_next(r, reply, &done, &err);
    }
    *idle = rr_replies_idle(r) && at == len;
    rr_replies_close(r);
    if (rc) return rc;
    return done ? RR_OK : RR_EBUSY;
}

static void test_replies(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        int rc, kind;
        const char *heard, *word;
    } rows[] = {
        { "+OK\r\n", 0, RR_OK, RR_REPLY_STATUS, "", "" },
        { "-LOADING Redis is loading\r\n", 2, RR_OK, RR_REPLY_ERROR, "", "LOADING" },
        { "-weird <b>text</b>\r\n", 2, RR_OK, RR_REPLY_ERROR, "", "" },
        { "-AVERYLONGWORDOFCAPITALSANDMORE x\r\n", 2, RR_OK, RR_REPLY_ERROR, "",
          "AVERYLONGWORDOFCAPITALS" },
        { ":12\r\n", 0, RR_OK, RR_REPLY_OTHER, "", "" },
        { "$-1\r\n", 0, RR_OK, RR_REPLY_OTHER, "", "" },
        { "$3\r\nabc\r\n", 0, RR_OK, RR_REPLY_OTHER, "", "" },
        { "*2\r\n$3\r\nabc\r\n$-1\r\n", 2, RR_OK, RR_REPLY_ARRAY, "0=abc;", "" },
        { "*2\r\n:5\r\n$0\r\n\r\n", 2, RR_OK, RR_REPLY_ARRAY, "0=none;1=;", "" },
        { "*2\r\n-ERR x\r\n$1\r\nb\r\n", 2, RR_OK, RR_REPLY_ARRAY, "0=none;1=b;", "" },
        { "*-1\r\n", 2, RR_OK, RR_REPLY_OTHER, "", "" },
        { "*1\r\n$1\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*3\r\n$1\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*0\r\n", 0, RR_EFORMAT, 0, NULL, "" },
        { "*2\r\n*1\r\n$1\r\nb\r\n$1\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*2147483647\r\n$1\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*99999999999999999999\r\n$1\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*2\r\n$99999999999999999999\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*2\r\n$2147483647\r\nb\r\n", 2, RR_EBUSY, 0, NULL, "" }, /* waits, up to the limit */
        { "*2\r\n$-5\r\nb\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "%1\r\n+a\r\n+b\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "HTTP/1.1 400 Bad Request\r\n", 2, RR_EFORMAT, 0, NULL, "" },
        { "*2\r\n$3\r\nab", 2, RR_EBUSY, 0, NULL, "" },
    };
    struct rr_reply reply;
    struct heard h;
    size_t i, piece;
    bool idle;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++)
        for (piece = 1; piece < 40; piece++) {
            int rc = read_reply(rows[i].bytes, strlen(rows[i].bytes), piece, rows[i].n, &reply, &h,
                                &idle);

            if (rc != rows[i].rc) fail_msg("%s in pieces of %zu: %d", rows[i].bytes, piece, rc);
            if (rc) continue;
            assert_int_equal(reply.kind, rows[i].kind);
            assert_string_equal(reply.word, rows[i].word);
            assert_string_equal(h.text, rows[i].heard);
            assert_true(idle);
        }
}

/* A reply may not be longer than was agreed, and what follows it is noticed. */
static void test_replies_limit(void **state)
{
    char bytes[2000];
    struct rr_reply reply;
    struct heard h;
    bool idle;
    int n = snprintf(bytes, sizeof(bytes), "*1\r\n$1500\r\n%01500d\r\n", 1);

    (void)state;
    assert_int_equal(read_reply(bytes, (size_t)n, 100, 1, &reply, &h, &idle), RR_EFORMAT);
    assert_int_equal(read_reply("+OK\r\n+OK\r\n", 10, 10, 1, &reply, &h, &idle), RR_OK);
    assert_false(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value),           cmocka_unit_test(test_value_refused),
        cmocka_unit_test(test_value_layout),    cmocka_unit_test(test_address),
        cmocka_unit_test(test_address_refused), cmocka_unit_test(test_replies),
        cmocka_unit_test(test_replies_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
