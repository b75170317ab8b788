/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_gate.c - networks, heads, keys, limits and the sandbox, without a server. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "options.h"
#include "rerank.h"
#include "server/auth.h"
#include "server/frame.h"
#include "server/keys.h"
#include "server/nets.h"
#include "server/sandbox.h"

/* ---- networks ----------------------------------------------------------------------------- */

static void test_nets(void **state)
{
    static const struct {
        const char *nets, *address;
        bool in;
    } rows[] = {
        { "10.0.0.0/8", "10.255.0.1", true },
        { "10.0.0.0/8", "11.0.0.1", false },
        { "10.0.0.0/8", "::ffff:10.1.1.1", true }, /* the same address, mapped */
        { "::ffff:0:0/96", "1.2.3.4", true },
        { "0.0.0.0/0", "8.8.8.8", true },
        { "0.0.0.0/0", "2001:db8::1", false },
        { "::/0", "8.8.8.8", true },
        { "2001:db8::/33", "2001:db8:7fff::", true },
        { "2001:db8::/33", "2001:db8:8000::", false }, /* the first bit that differs */
        { "192.0.2.7", "192.0.2.7", true },
        { "192.0.2.7", "192.0.2.6", false },
        { "1.1.1.1 , 2.2.2.2/32", "2.2.2.2", true },
        { "", "1.1.1.1", false },
    };
    static const char *const bad[] = { "10.0.0.1/8", "10.0.0.0/33", "::/129",
                                       "10.0.0.0/",  "10.0.0.0/+8", "10.0.0/8",
                                       "x",          "1.1.1.1/8/8", "fe80::1%eth0" };
    struct rr_nets nets;
    struct rr_addr a;
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        assert_int_equal(rr_nets_parse(&nets, rows[i].nets, "w", &err), RR_OK);
        assert_true(rr_addr_parse(&a, rows[i].address, strlen(rows[i].address)));
        if (rr_nets_has(&nets, &a) != rows[i].in) fail_msg("%s %s", rows[i].nets, rows[i].address);
    }
    for (i = 0; i < RR_COUNT(bad); i++) {
        if (rr_nets_parse(&nets, bad[i], "w", &err) != RR_EFORMAT) fail_msg("%s", bad[i]);
        assert_memory_equal(err.msg, "w: ", 3);
    }
}

/* ---- heads -------------------------------------------------------------------------------- */

/* The bytes as the library leaves them: '|' stands for 0. */
static void test_lines(void **state)
{
    static const struct {
        const char *head;
        bool good;
    } rows[] = {
        { "HTTP/1.1||Host| x||A|b||||", true },
        { "HTTP/1.1||||", true },
        { "HTTP/1.1||Host| x||||", true },
        { "HTTP/1.1||A|||B|b||||", true }, /* an empty value */
        { "HTTP/1.1|Host| x||||", false }, /* a bare line feed in line one */
        { "HTTP/1.1||Host| x|A|b||||", false },
        { "HTTP/1.1||Host| x|||", false }, /* the empty line is a bare line feed */
        { "HTTP/1.1||Host| x|| y||||", false },
        { "HTTP/1.1||Host| a|b||||", false }, /* a NUL in a value */
        { "HTTP/1.1||Host| a||||||", false },
        { "HTTP/1.1", false },
        { "HTTP/1.1||Host", false },
    };
    char bytes[128];
    size_t i, k, len;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        len = strlen(rows[i].head);
        for (k = 0; k < len; k++) bytes[k] = rows[i].head[k] == '|' ? 0 : rows[i].head[k];
        if ((rr_frame_lines(bytes, bytes + len) == NULL) != rows[i].good)
            fail_msg("%s", rows[i].head);
    }
}

static void test_paths(void **state)
{
    static const struct {
        const char *target, *path;
    } rows[] = {
        { "/", "/" },         { "//a///b/", "/a/b" },        { "http://h/a", "/a" },
        { "HTTPS://h", "/" }, { "http://h:8002//a/", "/a" }, { "", "" },
    };
    static const struct {
        const char *target;
        bool plain;
    } targets[] = {
        { "/", true },        { "/a/b", true },     { "/a?b=//%20/", true }, { "//a", false },
        { "/a/", false },     { "/a/?b", false },   { "/%61", false },       { "http://h/a", false },
        { "/a//b?c", false }, { "http:///a", false }, { "*", false },         { "", false },
    };
    char path[RR_PATH_MAX], longest[RR_PATH_MAX + 8];
    unsigned status;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        assert_true(rr_frame_path(path, rows[i].target, RR_GET));
        assert_string_equal(path, rows[i].path);
    }
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[RR_PATH_MAX] = 0;
    assert_false(rr_frame_path(path, longest, RR_GET));
    longest[RR_PATH_MAX - 1] = 0;
    assert_true(rr_frame_path(path, longest, RR_GET));
    for (i = 0; i < RR_COUNT(targets); i++)
        if (rr_frame_plain(targets[i].target) != targets[i].plain) fail_msg("%s", targets[i].target);
    assert_null(rr_frame_target("/a?b=%20", &status));
    assert_non_null(rr_frame_target("/a%0", &status));
    assert_non_null(rr_frame_target("/a%00", &status));
}

/* ---- keys --------------------------------------------------------------------------------- */

static void test_key_files(void **state)
{
    static const char hash[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char salt[] = "salt 00112233445566778899aabbccddeeff\n";
    static const struct {
        const char *line;
        bool good;
    } rows[] = {
        { "key a HASH", true },
        { "  key a HASH rate=1.5 tokens=10 day=3 day-tokens=4 priority=high\r", true },
        { "# comment", true },
        { "key a HASH rate=", false },
        { "key a HASH rate=-1", false },
        { "key a HASH rate=1e3", false },
        { "key a HASH rate=.5", false },
        { "key a HASH priority=top", false },
        { "key a HASH other=1", false },
        { "key a/b HASH", false },
        { "key a HAS", false },
        { "key a", false },
        { "key", false },
        { "kex a HASH", false },
        { "key a HASH\nkey a HASH", false },
        { "salt 00112233445566778899aabbccddeeff", false }, /* a second one */
    };
    struct rr_keys keys;
    struct rr_error err;
    char text[1024];
    size_t i, n;
    const char *s;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        n = (size_t)snprintf(text, sizeof(text), "%s", salt);
        for (s = rows[i].line; *s;) {
            bool is_hash = strncmp(s, "HASH", 4) == 0;

            n += (size_t)snprintf(text + n, sizeof(text) - n, is_hash ? "%s" : "%.1s",
                                  is_hash ? hash : s);
            s += is_hash ? 4 : 1;
        }
        if ((rr_keys_parse(&keys, text, n, "f", &err) == RR_OK) != rows[i].good)
            fail_msg("%s: %s", rows[i].line, err.msg);
        rr_keys_free(&keys);
    }
    assert_int_equal(rr_keys_parse(&keys, "", 0, "f", &err), RR_EFORMAT);
    assert_int_equal(rr_keys_parse(&keys, "key a x\n", 8, "f", &err), RR_EFORMAT);
    rr_keys_free(&keys);
}

static void test_key_round_trip(void **state)
{
    struct rr_key_limits limits = { 1.5, 100, 7, 8, RR_PRIORITY_LOW };
    struct rr_keys keys, again;
    struct rr_error err;
    char one[RR_KEY_TEXT], two[RR_KEY_TEXT];
    struct rr_buf out;

    (void)state;
    assert_int_equal(rr_keys_init(&keys, &err), RR_OK);
    assert_int_equal(rr_keys_add(&keys, "one", &limits, one, &err), RR_OK);
    assert_int_equal(rr_keys_add(&keys, "two", &limits, two, &err), RR_OK);
    assert_int_equal(rr_keys_add(&keys, "two", &limits, two, &err), RR_EINVAL);
    rr_buf_init(&out, RR_MEM_MISC, 65536);
    rr_keys_put(&keys, &out);
    assert_null(strstr(out.data, one + 3));
    assert_int_equal(rr_keys_parse(&again, out.data, out.len, "f", &err), RR_OK);
    assert_int_equal(again.n, 2);
    assert_string_equal(again.list[1].name, "two");
    assert_memory_equal(again.list[1].hash, keys.list[1].hash, RR_KEY_HASH);
    assert_true(again.list[1].limits.rate == 1.5 && again.list[1].limits.tokens == 100);
    assert_int_equal(again.list[1].limits.day, 7);
    assert_int_equal(again.list[1].limits.day_tokens, 8);
    assert_int_equal(again.list[1].limits.max_priority, RR_PRIORITY_LOW);
    assert_int_equal(rr_keys_find(&again, one, strlen(one)), 0);
    assert_int_equal(rr_keys_find(&again, one, strlen(one) - 1), SIZE_MAX);
    assert_int_equal(rr_keys_find(&again, "", 0), SIZE_MAX);
    assert_true(rr_keys_remove(&again, "one"));
    assert_false(rr_keys_remove(&again, "one"));
    assert_int_equal(rr_keys_find(&again, two, strlen(two)), 0);
    assert_true(rr_keys_tenant("one") != rr_keys_tenant("two"));
    rr_buf_free(&out);
    rr_keys_free(&keys);
    rr_keys_free(&again);
}

/* ---- limits ------------------------------------------------------------------------------- */

static uint64_t fake_now;

static uint64_t read_fake_now(void)
{
    return fake_now;
}

static struct rr_auth *auth_of(const char *path, struct rr_key_limits limits, char key[RR_KEY_TEXT])
{
    struct rr_auth_config config = { "", "", path, "", "" };
    struct rr_auth *auth;
    struct rr_keys keys;
    struct rr_error err;

    assert_int_equal(rr_keys_init(&keys, &err), RR_OK);
    assert_int_equal(rr_keys_add(&keys, "k", &limits, key, &err), RR_OK);
    assert_int_equal(rr_keys_write(&keys, path, &err), RR_OK);
    rr_keys_free(&keys);
    assert_int_equal(rr_auth_open(&auth, &config, &err), RR_OK);
    return auth;
}

static void test_limits(void **state)
{
    char path[] = "/tmp/test_server_gate.XXXXXX", key[RR_KEY_TEXT];
    struct rr_grant g;
    struct rr_auth *auth;
    struct rr_error err;
    int fd = mkstemp(path), i;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    fake_now = RR_SECOND;
    rr_clock_fake(read_fake_now);
    auth = auth_of(path, (struct rr_key_limits){ .rate = 4, .tokens = 100 }, key);
    for (i = 0; i < 4; i++)
        assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_SPENT);
    assert_int_equal(g.retry_after, 1);
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, false, &g), RR_AUTH_YES);
    fake_now += RR_SECOND / 4; /* brings one */
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_SPENT);
    fake_now += 100 * RR_SECOND; /* no more than a second's worth is kept */
    rr_auth_charge(auth, g.tenant, 600);
    assert_int_equal(rr_auth_reload(auth, &err), RR_OK); /* forgives nothing */
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
    rr_auth_charge(auth, g.tenant, 600); /* a long one: five seconds too much */
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_SPENT);
    assert_string_equal(g.limit, "tokens per second");
    assert_int_equal(g.retry_after, 5);
    fake_now += 6 * RR_SECOND;
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
    assert_int_equal(rr_auth_check(auth, "other", RR_NEED_KEY, true, &g), RR_AUTH_WRONG);
    assert_int_equal(rr_auth_check(auth, NULL, RR_NEED_KEY, true, &g), RR_AUTH_MISSING);
    assert_int_equal(rr_auth_check(auth, NULL, RR_NEED_NOTHING, true, &g), RR_AUTH_YES);
    rr_auth_close(auth);
    rr_clock_fake(NULL);
    unlink(path);
}

static void write_limits(const char *path, struct rr_keys *keys, struct rr_key_limits limits)
{
    struct rr_error err;

    keys->list[0].limits = limits;
    assert_int_equal(rr_keys_write(keys, path, &err), RR_OK);
}

/* What a key did while it had no limits is not held against the limits it is given later. */
static void test_limits_given_later(void **state)
{
    char path[] = "/tmp/test_server_gate.XXXXXX", key[RR_KEY_TEXT];
    struct rr_key_limits none = { 0 };
    struct rr_grant g;
    struct rr_auth *auth;
    struct rr_keys keys;
    struct rr_error err;
    int fd = mkstemp(path), i;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    fake_now = RR_SECOND;
    rr_clock_fake(read_fake_now);
    auth = auth_of(path, none, key);
    assert_int_equal(rr_keys_read(&keys, path, &err), RR_OK);
    for (i = 0; i < 1000; i++) {
        assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
        assert_false(g.rate.known);
        rr_auth_charge(auth, g.tenant, 50);
    }
    write_limits(path, &keys, (struct rr_key_limits){ .rate = 4, .tokens = 100 });
    assert_int_equal(rr_auth_reload(auth, &err), RR_OK);
    for (i = 0; i < 4; i++) {
        assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_YES);
        assert_int_equal(g.rate.left, 3 - i);
    }
    assert_int_equal(rr_auth_check(auth, key, RR_NEED_KEY, true, &g), RR_AUTH_SPENT);
    assert_int_equal(g.retry_after, 1);
    rr_keys_free(&keys);
    rr_auth_close(auth);
    rr_clock_fake(NULL);
    unlink(path);
}

/* ---- the sandbox -------------------------------------------------------------------------- */

static void *touch_memory(void *arg)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p != MAP_FAILED) *(char *)p = 1;
    return p == MAP_FAILED ? NULL : arg;
}

/* 0, or the number of the first thing that is not as it must be. */
static int inside(const struct rr_settings *s)
{
    char *const argv[] = { (char *)(uintptr_t) "true", NULL };
    struct rr_error err;
    pthread_t thread;
    void *result = NULL;
    bool on;

    if (rr_sandbox_files(s, &on, &err)) return 77; /* a kernel without it */
    if (!on || rr_sandbox_calls(s, &on, &err) || !on) return 1;
    if (open("/etc/shadow", O_RDONLY) >= 0 || errno != EACCES) return 2;
    if (open("/root", O_RDONLY | O_DIRECTORY) >= 0) return 3;
    if (open("/tmp/rerankd-sandbox", O_CREAT | O_WRONLY, 0600) >= 0) return 4;
    if (open("models/starter/config.json", O_WRONLY) >= 0) return 5;
    if (execv("/bin/true", argv) == 0 || errno != EPERM) return 6;
    if (socket(AF_NETLINK, SOCK_RAW, 0) >= 0) return 7;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0) return 8;
    if (fork() >= 0) return 9;
    if (kill(getppid(), 0) == 0) return 10;
    if (open("models/starter/config.json", O_RDONLY) < 0) return 11;
    if (open("/proc/self/statm", O_RDONLY) < 0) return 12;
    if (socket(AF_INET, SOCK_STREAM, 0) < 0) return 13;
    if (pthread_create(&thread, NULL, touch_memory, &on)) return 14;
    pthread_join(thread, &result);
    return result ? 0 : 15;
}

static void test_sandbox(void **state)
{
    static char *argv[] = { (char *)(uintptr_t) "--sandbox", (char *)(uintptr_t) "on",
                            (char *)(uintptr_t) "--model", (char *)(uintptr_t) "models/starter" };
    struct rr_settings s = { 0 };
    struct rr_error err;
    char *rest[4];
    int n_rest, status;
    pid_t child;

    (void)state;
    if (rr_settings_load(&s, 4, argv, rest, &n_rest, &err)) fail_msg("%s", err.msg);
    child = fork();
    if (child == 0) _exit(inside(&s));
    assert_int_equal(waitpid(child, &status, 0), child);
    rr_settings_free(&s);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nets),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_key_files),
        cmocka_unit_test(test_key_round_trip),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_limits_given_later),
        cmocka_unit_test(test_sandbox),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
