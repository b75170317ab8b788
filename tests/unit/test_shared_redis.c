/* SPDX-License-Identifier: Apache-2.0 */
/* test_shared_redis.c - the shared cache against a real redis-server in the states that production
 * brings.  Skipped where redis-server is not installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/link.h"
#include "cache/shared.h"
#include "cache/value.h"

enum { N = 20 };
#define PATIENCE (60 * RR_SECOND)
#define DEADLINE (30 * RR_SECOND)         /* for answers that come */
#define AT_ONCE (10 * RR_SECOND)          /* without waiting for a deadline, on a slow machine */
#define SHORT (200 * RR_MILLISECOND)      /* for answers that do not come */
#define SCHEDULING (150 * RR_MILLISECOND) /* what a busy machine may add to that */

struct redis {
    int port;
    pid_t pid;
    char dir[64];
};

/* ---- the server ----------------------------------------------------------------------------- */

static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&a, len));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* Runs a command in the server's folder; its output goes to the file "out" there. */
static pid_t spawn(const struct redis *r, char *const argv[])
{
    pid_t pid = fork();

    if (pid) return pid;
    if (chdir(r->dir) || !freopen("out", "w", stdout) || !freopen("err", "w", stderr)) _exit(126);
    execvp(argv[0], argv);
    _exit(127);
}

static int status_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* redis-cli with up to six words; what it printed is in out. */
static void command(const struct redis *r, char out[200], const char *words[6])
{
    char port[16], path[100], *argv[12] = { "redis-cli", "-p", port };
    FILE *file;
    size_t i, n;

    snprintf(port, sizeof(port), "%d", r->port);
    for (i = 0; i < 6 && words[i]; i++) argv[3 + i] = (char *)words[i];
    (void)status_of(spawn(r, argv));
    snprintf(path, sizeof(path), "%s/out", r->dir);
    file = fopen(path, "r");
    assert_non_null(file);
    n = fread(out, 1, 199, file);
    out[n] = 0;
    fclose(file);
}

#define COMMAND(r, out, ...) command(r, out, (const char *[6]){ __VA_ARGS__ })

static void expect(const struct redis *r, const char *answer, const char *words[6])
{
    char out[200];

    command(r, out, words);
    if (strncmp(out, answer, strlen(answer)) != 0) fail_msg("%s %s: %s", words[0], words[1], out);
}

#define EXPECT(r, answer, ...) expect(r, answer, (const char *[6]){ __VA_ARGS__ })

/* more: up to two further settings, name and value each. */
static void redis_start(struct redis *r, const char *more[4])
{
    char port[16], out[200],
        *argv[24] = { "redis-server", "--port", port,    "--bind", "127.0.0.1", "--save", "",
                      "--unixsocket", "sock",   "--dir", "." };
    uint64_t end = rr_now_ns() + PATIENCE;
    size_t i;

    snprintf(port, sizeof(port), "%d", r->port);
    for (i = 0; i < 4 && more && more[i]; i++) argv[11 + i] = (char *)more[i];
    r->pid = spawn(r, argv);
    do {
        assert_true(rr_now_ns() < end);
        usleep(5000);
        COMMAND(r, out, "PING");
    } while (!strstr(out, "PONG") && !strstr(out, "NOAUTH"));
}

static void redis_init(struct redis *r)
{
    strcpy(r->dir, "/tmp/rr_redis_XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    r->port = free_port();
}

static void redis_kill(struct redis *r)
{
    kill(r->pid, SIGKILL);
    (void)status_of(r->pid);
}

static void redis_end(struct redis *r)
{
    char *argv[] = { "rm", "-rf", r->dir, NULL };
    struct redis here = { .dir = "/tmp" };

    redis_kill(r);
    assert_int_equal(status_of(spawn(&here, argv)), 0);
}

/* ---- the cache ------------------------------------------------------------------------------ */

static struct rr_shared *open_shared(const char *url, const char *ca_file, uint64_t deadline_ns)
{
    struct rr_shared_cache config = {
        .url = url, .ca_file = ca_file, .ttl_seconds = 1000, .deadline_ns = deadline_ns
    };
    struct rr_shared *s;
    struct rr_error err;

    if (rr_shared_open(&s, &config, &err)) fail_msg("%s: %s", url, err.msg);
    return s;
}

static struct rr_shared *open_at(const struct redis *r, uint64_t deadline_ns)
{
    char url[100];

    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", r->port);
    return open_shared(url, NULL, deadline_ns);
}

static struct rr_shared_stats stats_of(struct rr_shared *s)
{
    struct rr_shared_stats stats;

    rr_shared_stats(s, &stats);
    return stats;
}

static void wait_up(struct rr_shared *s)
{
    uint64_t end = rr_now_ns() + PATIENCE;

    while (!stats_of(s).up) {
        assert_true(rr_now_ns() < end);
        usleep(1000);
    }
}

static struct rr_key key_of(size_t i)
{
    return (struct rr_key){ 77 + i, i * UINT64_C(0x9E3779B97F4A7C15) };
}

static void put(struct rr_shared *s)
{
    size_t i;

    for (i = 0; i < N; i++) {
        struct rr_key key = key_of(i);
        struct rr_cached value = { (float)i / 3, (uint32_t)i, i & 1, 0 };

        rr_shared_put(s, &key, &value, 1);
    }
}

static void put_and_wait(struct rr_shared *s)
{
    uint64_t end = rr_now_ns() + PATIENCE, before = stats_of(s).stored;

    put(s);
    while (stats_of(s).stored < before + N) {
        assert_true(rr_now_ns() < end);
        usleep(1000);
    }
}

static size_t get(struct rr_shared *s)
{
    struct rr_key keys[N];
    struct rr_cached out[N];
    bool hit[N];
    size_t i, n;

    for (i = 0; i < N; i++) keys[i] = key_of(i);
    n = rr_shared_get(s, keys, N, out, hit);
    for (i = 0; i < N; i++)
        if (hit[i]) assert_true(out[i].logit == (float)i / 3 && out[i].tokens == i);
    return n;
}

/* Of a server that answers again, within a short deadline: in the end. */
static void get_all(struct rr_shared *s)
{
    uint64_t end = rr_now_ns() + PATIENCE;

    do {
        assert_true(rr_now_ns() < end);
        wait_up(s);
    } while (get(s) != N);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_values(void **state)
{
    struct redis *r = *state;
    struct rr_shared *s = open_at(r, DEADLINE);
    char name[RR_KEY_CHARS + 1] = { 0 }, out[200];

    wait_up(s);
    put_and_wait(s);
    assert_int_equal(get(s), N);
    rr_value_key(name, key_of(3));
    COMMAND(r, out, "TTL", name);
    assert_true(atoi(out) > 900 && atoi(out) <= 1000);
    EXPECT(r, "24", "STRLEN", name);
    EXPECT(r, "1", "DEL", name);
    EXPECT(r, "1", "RPUSH", name, "a list"); /* MGET says nil */
    rr_value_key(name, key_of(4));
    EXPECT(r, "OK", "SET", name, "a text of someone else");
    assert_int_equal(get(s), N - 2);
    assert_int_equal(stats_of(s).invalid, 1);
    put_and_wait(s); /* mended by the next store, over the list too */
    assert_int_equal(get(s), N);
    rr_shared_close(s);
}

static void test_unix_socket(void **state)
{
    struct redis *r = *state;
    struct rr_shared *s;
    char url[120], out[200];

    EXPECT(r, "OK", "FLUSHALL");
    snprintf(url, sizeof(url), "unix:%s/sock?db=3", r->dir);
    s = open_shared(url, NULL, DEADLINE);
    wait_up(s);
    put_and_wait(s);
    assert_int_equal(get(s), N);
    COMMAND(r, out, "-n", "3", "DBSIZE");
    assert_int_equal(atoi(out), N);
    EXPECT(r, "0", "DBSIZE");
    rr_shared_close(s);
}

static void test_stopped_and_killed(void **state)
{
    struct redis *r = *state;
    struct rr_shared *s = open_at(r, SHORT);
    uint64_t start, took;
    bool in_time = false;
    int i, k;

    wait_up(s);
    put_and_wait(s);
    for (i = 0; i < 20 && !in_time; i++) { /* again: the machine may be busy elsewhere */
        wait_up(s);
        kill(r->pid, SIGSTOP); /* connects still work, answers never come */
        start = rr_now_ns();
        assert_int_equal(get(s), 0);
        took = rr_now_ns() - start;
        in_time = took >= SHORT && took < SHORT + SCHEDULING;
        start = rr_now_ns();
        for (k = 0; k < 100; k++) assert_int_equal(get(s), 0);
        assert_true(rr_now_ns() - start < AT_ONCE); /* not 100 deadlines */
        kill(r->pid, SIGCONT);
    }
    assert_true(in_time);
    get_all(s);
    redis_kill(r);
    start = rr_now_ns();
    for (i = 0; i < 100; i++) assert_int_equal(get(s), 0);
    assert_true(rr_now_ns() - start < AT_ONCE);
    redis_start(r, NULL);
    wait_up(s);
    put_and_wait(s);
    get_all(s);
    rr_shared_close(s);
}

/* Full memory, a replica: stores are refused, look-ups go on. */
static void test_refused_stores(void **state)
{
    struct redis *r = *state;
    struct rr_shared *s = open_at(r, DEADLINE);
    uint64_t end;

    wait_up(s);
    put_and_wait(s);
    EXPECT(r, "OK", "CONFIG", "SET", "maxmemory", "1");
    put(s);
    end = rr_now_ns() + PATIENCE;
    while (!stats_of(s).dropped && rr_now_ns() < end) usleep(1000);
    assert_true(stats_of(s).dropped > 0 && stats_of(s).up);
    assert_int_equal(get(s), N);
    EXPECT(r, "OK", "CONFIG", "SET", "maxmemory", "0");
    put_and_wait(s);
    rr_shared_close(s);

    s = open_at(r, DEADLINE);
    wait_up(s);
    EXPECT(r, "OK", "REPLICAOF", "127.0.0.1", "1"); /* of nobody: data stay, writes are refused */
    put(s);
    end = rr_now_ns() + PATIENCE;
    while (!stats_of(s).dropped && rr_now_ns() < end) usleep(1000);
    assert_true(stats_of(s).dropped > 0);
    wait_up(s);
    assert_int_equal(get(s), N);
    EXPECT(r, "OK", "REPLICAOF", "NO", "ONE");
    put_and_wait(s);
    rr_shared_close(s);
}

static void test_users(void **state)
{
    struct redis *r = *state;
    struct rr_shared *s;
    char url[100];

    EXPECT(r, "OK", "ACL", "SETUSER", "rerank", "on", ">pa:ss");
    EXPECT(r, "OK", "ACL", "SETUSER", "rerank", "~rr:*", "+mget");
    snprintf(url, sizeof(url), "redis://rerank:pa%%3Ass@127.0.0.1:%d", r->port);
    s = open_shared(url, NULL, DEADLINE);
    wait_up(s); /* look-ups are allowed */
    put(s);
    while (!stats_of(s).dropped) usleep(1000);
    assert_true(stats_of(s).up); /* stores are not */
    EXPECT(r, "OK", "ACL", "SETUSER", "rerank", "-mget", "+set");
    assert_int_equal(get(s), 0);
    assert_false(stats_of(s).up);
    EXPECT(r, "OK", "ACL", "SETUSER", "rerank", "+mget");
    wait_up(s);
    put_and_wait(s);
    assert_int_equal(get(s), N);
    EXPECT(r, "1", "ACL", "DELUSER", "rerank"); /* it is disconnected, then cannot log in */
    assert_int_equal(get(s), 0);
    usleep(300000); /* some tries */
    assert_int_equal(get(s), 0);
    assert_false(stats_of(s).up);
    rr_shared_close(s);
}

/* Settings that a healthy server refuses: the message says which. */
static void test_refused_settings(void **state)
{
    static const struct {
        const char *login, *db, *expected;
    } rows[] = {
        { "", "/99", "SELECT with an error (ERR): it has no database of that number" },
        { ":secret@", "", "AUTH with an error (ERR): it wants no password, or another one" },
        { "nobody:secret@", "", "WRONGPASS: user or password are wrong" },
    };
    struct redis *r = *state;
    size_t i;

    for (i = 0; i < RR_COUNT(rows); i++) {
        struct rr_error err = { 0 };
        struct rr_address at;
        struct rr_link *l;
        char url[100];

        snprintf(url, sizeof(url), "redis://%s127.0.0.1:%d%s", rows[i].login, r->port, rows[i].db);
        assert_int_equal(rr_address_parse(&at, url, &err), RR_OK);
        assert_int_equal(rr_link_open(&l, &at, NULL, rr_now_ns() + RR_SECOND, &err), RR_EBUSY);
        if (!strstr(err.msg, rows[i].expected)) fail_msg("%s: %s", url, err.msg);
    }
}

/* A node of a cluster is not what we speak to, even when it has our keys by chance. */
static void test_cluster(void **state)
{
    char port[16]; /* the bus would be 10000 above the port, and that may not exist */
    const char *more[4] = { "--cluster-enabled", "yes", "--cluster-port", port };
    struct redis r;
    struct rr_shared *s;

    (void)state;
    snprintf(port, sizeof(port), "%d", free_port());
    redis_init(&r);
    redis_start(&r, more);
    s = open_at(&r, DEADLINE);
    usleep(300000);
    assert_false(stats_of(s).up);
    EXPECT(&r, "OK", "CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    usleep(1500000);
    assert_false(stats_of(s).up);
    rr_shared_close(s);
    redis_end(&r);
}

/* For localhost, signed by itself. */
static bool make_certificate(const struct redis *r, const char *name)
{
    char key[64], crt[64];
    char *argv[] = { "openssl",
                     "req",
                     "-x509",
                     "-newkey",
                     "ec",
                     "-pkeyopt",
                     "ec_paramgen_curve:P-256",
                     "-nodes",
                     "-days",
                     "2",
                     "-keyout",
                     key,
                     "-out",
                     crt,
                     "-subj",
                     "/CN=localhost",
                     "-addext",
                     "subjectAltName=DNS:localhost",
                     NULL };

    snprintf(key, sizeof(key), "%s.key", name);
    snprintf(crt, sizeof(crt), "%s.crt", name);
    return status_of(spawn(r, argv)) == 0;
}

static void test_tls(void **state)
{
    char port[16], url[100], ca[128];
    struct rr_shared_cache config = { .url = url, .ca_file = ca };
    struct rr_error err;
    struct rr_shared *s;
    struct redis r;
    int tls_port;

    (void)state;
    redis_init(&r);
    if (!make_certificate(&r, "good") || !make_certificate(&r, "other")) {
        print_message("SKIP: no openssl to make certificates\n");
        skip();
    }
    tls_port = free_port();
    snprintf(port, sizeof(port), "%d", tls_port);
    redis_start(&r, NULL);
    EXPECT(&r, "OK", "CONFIG", "SET", "tls-auth-clients", "no");
    EXPECT(&r, "OK", "CONFIG", "SET", "tls-cert-file", "good.crt", "tls-key-file", "good.key");
    EXPECT(&r, "OK", "CONFIG", "SET", "tls-port", port);

    snprintf(url, sizeof(url), "rediss://localhost:%d", tls_port);
    snprintf(ca, sizeof(ca), "%s/good.crt", r.dir);
    s = open_shared(url, ca, SHORT);
    wait_up(s);
    put_and_wait(s);
    get_all(s);
    kill(r.pid, SIGSTOP);
    assert_int_equal(get(s), 0);
    kill(r.pid, SIGCONT);
    get_all(s);
    rr_shared_close(s);

    snprintf(ca, sizeof(ca), "%s/other.crt", r.dir); /* signed by somebody else */
    s = open_shared(url, ca, DEADLINE);
    usleep(400000);
    assert_false(stats_of(s).up);
    rr_shared_close(s);
    snprintf(ca, sizeof(ca), "%s/good.crt", r.dir); /* of another host */
    snprintf(url, sizeof(url), "rediss://127.0.0.1:%d", tls_port);
    s = open_shared(url, ca, DEADLINE);
    usleep(400000);
    assert_false(stats_of(s).up);
    rr_shared_close(s);
    snprintf(url, sizeof(url), "rediss://localhost:%d", r.port); /* no TLS there */
    s = open_shared(url, ca, DEADLINE);
    usleep(400000);
    assert_false(stats_of(s).up);
    rr_shared_close(s);
    snprintf(ca, sizeof(ca), "%s/out", r.dir); /* no certificate in it */
    assert_int_equal(rr_shared_open(&s, &config, &err), RR_EINVAL);
    redis_end(&r);
}

static int setup(void **state)
{
    static struct redis r;

    rr_log_set(NULL, NULL, RR_ERROR);
    redis_init(&r);
    redis_start(&r, NULL);
    *state = &r;
    return 0;
}

static int teardown(void **state)
{
    redis_end(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_refused_stores),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_refused_settings),
        cmocka_unit_test(test_stopped_and_killed),
        cmocka_unit_test(test_cluster),
        cmocka_unit_test(test_tls),
    };

    if (access("/usr/bin/redis-server", X_OK)) {
        printf("SKIP: redis-server is not installed\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
