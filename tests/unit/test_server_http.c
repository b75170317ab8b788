/* SPDX-License-Identifier: Apache-2.0 */
/* test_server_http.c - the server over real sockets, with an engine that does as it is told.
 * rr_serve runs in a thread of this program; a signal to the process ends it, as in life. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "options.h"
#include "server/serve.h"

#include "fake_engine.c" /* in the same object, so that it is taken instead of the library's */

/* ---- a small client ----------------------------------------------------------------------- */

static unsigned port;

static int dial(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval limit = { 20, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) return fd;
    close(fd);
    return -1;
}

static void send_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0) return; /* the reply tells */
        data += n;
        len -= (size_t)n;
    }
}

static void send_request(int fd, const char *method, const char *path, const char *id,
                         const char *body)
{
    char head[512];
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\nContent-Length: %zu\r\n\r\n",
                     method, path, id, strlen(body));

    send_all(fd, head, (size_t)n);
    send_all(fd, body, strlen(body));
}

struct answer {
    int status; /* 0: the connection ended instead */
    char head[2048];
    char body[1 << 17];
};

/* Reads one answer and nothing of the next. */
static void receive(int fd, struct answer *a)
{
    size_t n = 0, length = 0;
    char *at;

    memset(a, 0, sizeof(*a));
    while (n + 1 < sizeof(a->head) && recv(fd, a->head + n, 1, 0) == 1) {
        n++;
        if (n >= 4 && memcmp(a->head + n - 4, "\r\n\r\n", 4) == 0) break;
    }
    if (sscanf(a->head, "HTTP/1.1 %d", &a->status) != 1) return;
    at = strstr(a->head, "Content-Length: ");
    if (at) length = (size_t)strtoul(at + 16, NULL, 10);
    assert_true(length < sizeof(a->body));
    for (n = 0; n < length;) {
        ssize_t got = recv(fd, a->body + n, length - n, 0);

        if (got <= 0) {
            a->status = 0;
            return;
        }
        n += (size_t)got;
    }
}

static void ask(const char *method, const char *path, const char *body, struct answer *a)
{
    int fd = dial();

    assert_true(fd >= 0);
    send_request(fd, method, path, "t", body);
    receive(fd, a);
    close(fd);
}

/* ---- a server ----------------------------------------------------------------------------- */

struct served {
    struct rr_settings settings;
    pthread_t thread;
    int exit_code;
};

static void *serve(void *arg)
{
    struct served *s = arg;

    s->exit_code = rr_serve(&s->settings);
    return NULL;
}

static unsigned free_port(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

/* Waits for that answer to GET /ready. */
static void await_ready(int status)
{
    uint64_t until = rr_now_ns() + 20 * RR_SECOND;
    struct answer a;
    int fd;

    for (;;) {
        assert_true(rr_now_ns() < until);
        fd = dial();
        if (fd < 0) {
            sched_yield();
            continue;
        }
        send_request(fd, "GET", "/ready", "t", "");
        receive(fd, &a);
        close(fd);
        if (a.status == status) return;
    }
}

/* options: ended by NULL. */
static struct served *start_server(const char *const *options, int status)
{
    struct served *s = calloc(1, sizeof(*s));
    char number[16], *argv[24], *rest[24];
    struct rr_error err;
    int argc = 0, n_rest;

    assert_non_null(s);
    port = free_port();
    snprintf(number, sizeof(number), "%u", port);
    argv[argc++] = (char *)(uintptr_t)"--port";
    argv[argc++] = number;
    argv[argc++] = (char *)(uintptr_t)"--model";
    argv[argc++] = (char *)(uintptr_t)"fake";
    argv[argc++] = (char *)(uintptr_t)"--log-level";
    argv[argc++] = (char *)(uintptr_t)"error";
    argv[argc++] = (char *)(uintptr_t)"--drain-delay";
    argv[argc++] = (char *)(uintptr_t)"0";
    argv[argc++] = (char *)(uintptr_t)"--sandbox"; /* it would be this program's, for good */
    argv[argc++] = (char *)(uintptr_t)"off";
    while (*options) argv[argc++] = (char *)(uintptr_t)*options++;
    if (rr_settings_load(&s->settings, argc, argv, rest, &n_rest, &err)) fail_msg("%s", err.msg);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    await_ready(status);
    return s;
}

static int join_server(struct served *s)
{
    int code;

    pthread_join(s->thread, NULL);
    code = s->exit_code;
    rr_settings_free(&s->settings);
    free(s);
    return code;
}

static int stop_server(struct served *s)
{
    kill(getpid(), SIGTERM);
    return join_server(s);
}

static const char *const plain[] = { NULL };

#define TEXTS(query) "{\"query\":\"" query "\",\"texts\":[\"a b\",\"b\",\"c\"],\"raw_scores\":true}"

/* ---- start ------------------------------------------------------------------------------- */

static void test_loading(void **state)
{
    struct served *s;
    struct answer a;

    (void)state;
    fake_engine_hold_open(true);
    s = start_server(plain, 503);
    ask("GET", "/", "", &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"service\":\"Serveur de reranking\",\"model\":\"fake\","
                                "\"status\":\"loading\"}");
    ask("GET", "/health", "", &a);
    assert_int_equal(a.status, 503);
    assert_string_equal(a.body, "{\"status\":\"loading\",\"device\":\"auto\",\"model\":\"fake\"}");
    assert_non_null(strstr(a.head, "Retry-After: "));
    ask("GET", "/live", "", &a);
    assert_int_equal(a.status, 200);
    ask("GET", "/info", "", &a);
    assert_int_equal(a.status, 503);
    ask("POST", "/rerank", TEXTS("a"), &a);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.head, "Retry-After: "));
    ask("POST", "/rerank", "{\"query\":\"\",\"documents\":[{\"content\":\"a\"}]}", &a);
    assert_int_equal(a.status, 503); /* ragfab's order: schema, model, then query */
    assert_non_null(strstr(a.body, "\"detail\":\"Mod\xc3\xa8le non charg\xc3\xa9\""));
    ask("POST", "/rerank", "{\"query\":5,\"documents\":[{\"content\":\"a\"}]}", &a);
    assert_int_equal(a.status, 422);
    fake_engine_hold_open(false);
    await_ready(200);
    ask("POST", "/rerank", TEXTS("a"), &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(stop_server(s), 0);
}

/* A signal while the model loads: refuses at once, ends when the model is there. */
static void test_stop_while_loading(void **state)
{
    struct served *s;

    (void)state;
    fake_engine_hold_open(true);
    s = start_server(plain, 503);
    kill(getpid(), SIGTERM);
    fake_engine_hold_open(false);
    assert_int_equal(join_server(s), 0);
}

/* ---- answers ------------------------------------------------------------------------------ */

static void test_answers(void **state)
{
    struct served *s = start_server(plain, 200);
    struct answer a;

    (void)state;
    ask("POST", "/rerank", TEXTS("a b"), &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "[{\"index\":0,\"score\":4.0},{\"index\":1,\"score\":0.0},"
                                "{\"index\":2,\"score\":-4.0}]");
    assert_non_null(strstr(a.head, "X-Request-Id: t\r\n"));
    assert_non_null(strstr(a.head, "x-total-time: "));
    ask("GET", "/health", "", &a);
    assert_string_equal(a.body, "{\"status\":\"healthy\",\"device\":\"cpu\",\"model\":\"fake\"}");
    ask("PUT", "/rerank", "", &a);
    assert_int_equal(a.status, 405);
    assert_non_null(strstr(a.head, "Allow: POST, OPTIONS\r\n"));
    ask("POST", "/none", "{}", &a);
    assert_int_equal(a.status, 404);
    assert_int_equal(stop_server(s), 0);
}

static void test_pipeline(void **state)
{
    enum { N = 200 };
    struct served *s = start_server(plain, 200);
    struct answer a;
    char id[16], expected[48];
    int fd = dial(), i;

    (void)state;
    for (i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "p%d", i);
        if (i % 3 == 0)
            send_request(fd, "GET", "/health", id, "");
        else
            send_request(fd, "POST", "/rerank", id, TEXTS("a b"));
    }
    for (i = 0; i < N; i++) {
        receive(fd, &a);
        assert_int_equal(a.status, 200);
        snprintf(expected, sizeof(expected), "X-Request-Id: p%d\r\n", i);
        assert_non_null(strstr(a.head, expected));
    }
    close(fd);
    assert_int_equal(stop_server(s), 0);
}

static void test_engine_errors(void **state)
{
    static const struct {
        int refuse, fail, union_status, tei_status;
        const char *retry;
    } rows[] = {
        { RR_EBUSY, 0, 429, 429, "Retry-After: " },
        { RR_ECLOSED, 0, 503, 503, "Retry-After: " },
        { 0, RR_ETIMEDOUT, 504, 504, NULL },
        { 0, RR_ETOOBIG, 422, 422, NULL },
        { 0, RR_ENONFINITE, 500, 424, NULL },
        { 0, RR_EDEVICE, 503, 503, "Retry-After: " },
    };
    struct served *s = start_server(plain, 200);
    struct answer a;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        fake_engine_refuse(rows[i].refuse);
        fake_engine_fail(rows[i].fail);
        ask("POST", "/rerank", "{\"query\":\"a\",\"documents\":[\"a\"]}", &a);
        assert_int_equal(a.status, rows[i].union_status);
        if (rows[i].retry) assert_non_null(strstr(a.head, rows[i].retry));
        ask("POST", "/rerank", TEXTS("a"), &a);
        assert_int_equal(a.status, rows[i].tei_status);
    }
    fake_engine_refuse(0);
    fake_engine_fail(0);
    ask("POST", "/rerank", TEXTS("a"), &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(stop_server(s), 0);
}

static void test_overload_503(void **state)
{
    static const char *const options[] = { "--overload-status", "503", NULL };
    struct served *s = start_server(options, 200);
    struct answer a;

    (void)state;
    fake_engine_refuse(RR_EBUSY);
    ask("POST", "/rerank", TEXTS("a"), &a);
    fake_engine_refuse(0);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.head, "Retry-After: "));
    assert_non_null(strstr(a.body, "\"error_type\":\"Overloaded\""));
    assert_int_equal(stop_server(s), 0);
}

/* The third of five pairs is refused.  By a queue that others filled: it waits for the two before it,
 * then goes in.  Because the engine closes: the two are given back, once each. */
static void test_parts(void **state)
{
    static const char body[] = "{\"inputs\":[[\"a\",\"a\"],[\"b\",\"a\"],[\"c\",\"c\"],[\"d\",\"d\"],"
                               "[\"e\",\"x\"]],\"raw_scores\":true}";
    struct served *s = start_server(plain, 200);
    struct answer a;
    int round;

    (void)state;
    for (round = 0; round < 50; round++) {
        fake_engine_refuse_after(2, RR_ECLOSED);
        ask("POST", "/predict", body, &a);
        assert_int_equal(a.status, 503);
        fake_engine_refuse(RR_EBUSY);
        ask("POST", "/predict", body, &a);
        assert_int_equal(a.status, 429);
        fake_engine_refuse_after(round % 3 + 1, RR_EBUSY);
        ask("POST", "/predict", body, &a);
        fake_engine_refuse(0);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body,
                            "[[{\"score\":4.0,\"label\":\"LABEL_0\"}],[{\"score\":-4.0,\"label\":"
                            "\"LABEL_0\"}],[{\"score\":4.0,\"label\":\"LABEL_0\"}],[{\"score\":4.0,"
                            "\"label\":\"LABEL_0\"}],[{\"score\":-4.0,\"label\":\"LABEL_0\"}]]");
    }
    assert_int_equal(stop_server(s), 0);
}

/* ---- pages -------------------------------------------------------------------------------- */

/* GET or HEAD with one more header line, which may be "". */
static void ask_page(const char *method, const char *path, const char *line, struct answer *a)
{
    char head[512];
    int fd = dial(), n;

    n = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
                 method, path, line);
    send_all(fd, head, (size_t)n);
    receive(fd, a);
    if (!a->status && !a->body[0]) sscanf(a->head, "HTTP/1.1 %d", &a->status); /* HEAD, 304 */
    close(fd);
}

static const char *const page_headers[] = {
    "Content-Type: text/html; charset=utf-8\r\n",
    "Cache-Control: no-cache\r\n",
    "X-Content-Type-Options: nosniff\r\n",
    "Referrer-Policy: no-referrer\r\n",
    "Content-Security-Policy: default-src 'none'; style-src 'sha256-",
    "; script-src 'sha256-",
    "; connect-src 'self'; img-src data:; require-trusted-types-for 'script'; trusted-types 'none'; ",
    "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
};

static void test_pages(void **state)
{
    static const struct {
        const char *method, *path, *line;
        int status;
        const char *why;
    } rows[] = {
        { "GET", "/ui", "", 200, "the playground" },
        { "GET", "/ui/", "", 200, "a slash at the end does not matter" },
        { "GET", "/ui/status", "", 200, "the charts" },
        { "HEAD", "/ui", "", 200, "the same without a body" },
        { "GET", "/ui", "If-None-Match: \"0\"\r\n", 200, "a page of another release" },
        { "GET", "/ui", "If-None-Match: *\r\n", 304, "whichever it is" },
        { "GET", "/ui/x", "", 404, "no such page" },
        { "GET", "/ui/status/x", "", 404, "no such page" },
        { "POST", "/ui", "Content-Length: 0\r\n", 405, "pages are read" },
    };
    static const char *const around[][2] = { /* what may be around a tag */
                                             { "", "" },
                                             { "W/", "" },
                                             { "\"a\", ", " ,\"b\"" } };
    struct served *s = start_server(plain, 200);
    char line[96], tag[32], length[40];
    struct answer a;
    size_t i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        ask_page(rows[i].method, rows[i].path, rows[i].line, &a);
        if (a.status != rows[i].status) fail_msg("%s: status %d", rows[i].why, a.status);
        for (k = 0; a.status == 200 && k < RR_COUNT(page_headers); k++)
            assert_non_null(strstr(a.head, page_headers[k]));
        if (a.status == 404 || a.status == 405) assert_non_null(strstr(a.body, "\"error_type\":"));
        assert_int_equal(*a.body != 0, a.status != 304 && rows[i].method[0] != 'H');
    }
    ask_page("GET", "/ui/status", "", &a);
    assert_int_equal(sscanf(strstr(a.head, "ETag: "), "ETag: %31s", tag), 1);
    snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(a.body));
    for (i = 0; i < RR_COUNT(around); i++) {
        snprintf(line, sizeof(line), "If-None-Match: %s%s%s\r\n", around[i][0], tag, around[i][1]);
        ask_page("GET", "/ui/status", line, &a);
        assert_int_equal(a.status, 304);
        assert_non_null(strstr(a.head, tag));
        assert_non_null(strstr(a.head, length)); /* the page's, or none: RFC 9110, 8.6 */
        ask_page("GET", "/ui", line, &a); /* another page's */
        assert_int_equal(a.status, 200);
    }
    assert_int_equal(stop_server(s), 0);
}

/* A page is whole or not there: a part of one would stay in the browser. */
static void test_page_no_memory(void **state)
{
    struct served *s = start_server(plain, 200);
    struct answer a;
    unsigned failed = 0, n;

    (void)state;
    for (n = 1; n <= 12; n++) {
        rr_mem_fault(n, false);
        ask("GET", "/ui", "", &a);
        rr_mem_fault(0, false);
        if (a.status == 200)
            assert_string_equal(a.body + strlen(a.body) - 8, "</html>\n");
        else
            failed++;
        assert_true(a.status == 0 || a.status == 200 || a.status == 503);
        if (a.status == 503) assert_null(strstr(a.head, "ETag"));
    }
    assert_true(failed > 0);
    assert_int_equal(stop_server(s), 0);
}

/* With a key, pages come without one and hold nothing of this server. */
static void test_pages_and_key(void **state)
{
    static const char *const options[] = { "--api-key", "canary-key", NULL };
    static const char *const closed[] = { "/v1/models", "/info", "/metrics", "/docs" };
    struct served *s = start_server(options, 200);
    struct answer a;
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        ask_page("GET", i ? "/ui/status" : "/ui", "", &a);
        assert_int_equal(a.status, 200);
        assert_null(strstr(a.body, "fake")); /* the model's name */
        assert_null(strstr(a.body, "canary"));
    }
    for (i = 0; i < RR_COUNT(closed); i++) {
        ask_page("GET", closed[i], "", &a);
        assert_int_equal(a.status, 401);
        ask_page("GET", closed[i], "Authorization: Bearer canary-key\r\n", &a);
        assert_int_equal(a.status, 200);
    }
    assert_int_equal(stop_server(s), 0);
}

static void test_no_pages(void **state)
{
    static const char *const options[] = { "--no-ui", NULL };
    struct served *s = start_server(options, 200);
    struct answer a, other;

    (void)state;
    ask_page("GET", "/none", "", &other);
    ask_page("GET", "/ui", "", &a);
    assert_int_equal(a.status, 404);
    assert_string_equal(a.body, other.body);
    ask_page("GET", "/ui/status", "If-None-Match: *\r\n", &a);
    assert_int_equal(a.status, 404);
    ask_page("GET", "/docs", "", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(stop_server(s), 0);
}

/* ---- clients that leave ------------------------------------------------------------------- */

static void test_client_leaves(void **state)
{
    enum { N = 20 };
    struct served *s = start_server(plain, 200);
    size_t before = fake_engine_canceled();
    uint64_t until = rr_now_ns() + 10 * RR_SECOND;
    struct answer a;
    int fds[N], i;

    (void)state;
    fake_engine_hold(true);
    for (i = 0; i < N; i++) {
        struct linger reset = { 1, 0 };

        fds[i] = dial();
        send_request(fds[i], "POST", "/rerank", "t", TEXTS("a"));
        if (i % 2) (void)setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    assert_true(fake_engine_await(N));
    for (i = 0; i < N; i++) close(fds[i]); /* half of them by reset */
    while (fake_engine_canceled() - before < N && rr_now_ns() < until) sched_yield();
    assert_int_equal(fake_engine_canceled() - before, N);
    fake_engine_hold(false);
    ask("POST", "/rerank", TEXTS("a"), &a);
    assert_int_equal(a.status, 200);
    do { /* counted when the connections have been woken */
        ask("GET", "/metrics", "", &a);
        assert_true(rr_now_ns() < until);
    } while (!strstr(a.body, "rerank_requests_cancelled_total{stage=\"waiting\"} 20\n"));
    assert_int_equal(stop_server(s), 0);
}

static void test_half_close(void **state)
{
    static const char *const patient[] = { "--half-close", NULL };
    struct served *s = start_server(plain, 200);
    struct answer a;
    int fd = dial();

    (void)state;
    fake_engine_hold(true);
    send_request(fd, "POST", "/rerank", "t", TEXTS("a"));
    shutdown(fd, SHUT_WR);
    receive(fd, &a); /* without being released */
    assert_int_equal(a.status, 499);
    close(fd);
    fake_engine_hold(false);
    assert_int_equal(stop_server(s), 0);

    s = start_server(patient, 200);
    fake_engine_hold(true);
    fd = dial();
    send_request(fd, "POST", "/rerank", "t", TEXTS("a"));
    shutdown(fd, SHUT_WR);
    assert_true(fake_engine_await(1));
    fake_engine_hold(false);
    receive(fd, &a);
    assert_int_equal(a.status, 200);
    close(fd);
    assert_int_equal(stop_server(s), 0);
}

/* Clients come and go at random points while others expect right answers. */
static void *restless(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    struct answer a;
    int i;

    for (i = 0; i < 150; i++) {
        int fd = dial();

        if (fd < 0) return arg;
        send_request(fd, "POST", "/rerank", "t", TEXTS("a b"));
        if (rand_r(&seed) % 2) {
            receive(fd, &a);
            if (a.status != 200 || !strstr(a.body, "{\"index\":0,\"score\":4.0}")) return arg;
        }
        close(fd);
    }
    return NULL;
}

static void test_restless_clients(void **state)
{
    enum { N = 6 };
    struct served *s = start_server(plain, 200);
    pthread_t threads[N];
    unsigned seeds[N], i;
    void *bad;

    (void)state;
    for (i = 0; i < N; i++) {
        seeds[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, restless, &seeds[i]), 0);
    }
    for (i = 0; i < N; i++) {
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_int_equal(stop_server(s), 0);
}

/* ---- the end ------------------------------------------------------------------------------ */

static void test_drain(void **state)
{
    enum { N = 16 };
    struct served *s = start_server(plain, 200);
    uint64_t until = rr_now_ns() + 10 * RR_SECOND;
    struct answer a;
    int fds[N], idle, i;

    (void)state;
    idle = dial();
    fake_engine_hold(true);
    for (i = 0; i < N; i++) {
        fds[i] = dial();
        send_request(fds[i], "POST", "/rerank", "t", TEXTS("a b"));
    }
    assert_true(fake_engine_await(N));
    kill(getpid(), SIGTERM);
    do { /* the signal arrives in its own time */
        ask("GET", "/ready", "", &a);
        assert_true(rr_now_ns() < until);
    } while (a.status == 200);
    send_request(idle, "POST", "/rerank", "t", TEXTS("a b"));
    receive(idle, &a);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.head, "Connection: close\r\n"));
    assert_non_null(strstr(a.head, "Retry-After: "));
    fake_engine_hold(false);
    for (i = 0; i < N; i++) {
        receive(fds[i], &a);
        assert_int_equal(a.status, 200);
        close(fds[i]);
    }
    close(idle);
    assert_int_equal(join_server(s), 0);
}

static void test_drain_timeout(void **state)
{
    static const char *const options[] = { "--drain-timeout", "0.2", NULL };
    struct served *s = start_server(options, 200);
    struct answer a;
    int fd = dial();

    (void)state;
    fake_engine_hold(true);
    send_request(fd, "POST", "/rerank", "t", TEXTS("a b"));
    assert_true(fake_engine_await(1));
    kill(getpid(), SIGTERM);
    receive(fd, &a); /* given up, but answered */
    assert_int_equal(a.status, 503);
    close(fd);
    fake_engine_hold(false);
    assert_int_equal(join_server(s), 0);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Each allocation of a request fails once: an error or a closed connection, never a crash or a
 * hang, and the next request is answered. */
static void test_no_memory(void **state)
{
    struct served *s = start_server(plain, 200);
    struct answer a;
    uint64_t n;
    unsigned failed = 0;

    (void)state;
    for (n = 1; n <= 60; n++) {
        rr_mem_fault(n, false);
        ask("POST", "/rerank", TEXTS("a b"), &a);
        rr_mem_fault(0, false);
        if (a.status != 200) failed++;
        assert_true(a.status == 0 || a.status == 200 || a.status == 500 || a.status == 503 ||
                    a.status == 424);
        ask("POST", "/rerank", TEXTS("a b"), &a);
        assert_int_equal(a.status, 200);
    }
    assert_true(failed > 10); /* the fault points were reached */
    assert_int_equal(stop_server(s), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loading),         cmocka_unit_test(test_stop_while_loading),
        cmocka_unit_test(test_answers),         cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_engine_errors),   cmocka_unit_test(test_overload_503),
        cmocka_unit_test(test_parts),           cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_half_close),      cmocka_unit_test(test_restless_clients),
        cmocka_unit_test(test_drain),           cmocka_unit_test(test_drain_timeout),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_pages),
        cmocka_unit_test(test_pages_and_key),   cmocka_unit_test(test_no_pages),
        cmocka_unit_test(test_page_no_memory),
    };
    sigset_t set;

    rr_json_init();
    sigemptyset(&set);
    sigaddset(&set, SIGTERM); /* only the server reads it */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
