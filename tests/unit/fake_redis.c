/* SPDX-License-Identifier: Apache-2.0 */
/* fake_redis.c - see fake_redis.h. */
#include "fake_redis.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_ENTRIES = 8192, MAX_WORDS = 2048, MAX_BYTES = 1 << 18, MAX_CONNECTIONS = 512 };

struct entry {
    char key[64], value[64];
    size_t key_len, value_len;
};

struct connection {
    struct fake_redis *f;
    int fd;
    pthread_t thread;
    bool in; /* logged in */
    char bytes[MAX_BYTES];
    size_t len, at;
    char replies[4096]; /* of SET, until nothing is left to be read, as Redis does */
    size_t n_replies;
};

struct fake_redis {
    int fd, port;
    char password[64];
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the mode */
    enum fake_mode mode;
    const char *error;
    struct entry entries[MAX_ENTRIES];
    size_t n_entries;
    struct connection *connections[MAX_CONNECTIONS];
    unsigned n_connections, db;
};

struct word {
    const char *data;
    size_t len;
};

/* ---- reading commands ----------------------------------------------------------------------- */

static bool fill(struct connection *c)
{
    ssize_t n;

    if (c->at) {
        memmove(c->bytes, c->bytes + c->at, c->len - c->at);
        c->len -= c->at;
        c->at = 0;
    }
    n = recv(c->fd, c->bytes + c->len, sizeof(c->bytes) - c->len, 0);
    if (n <= 0) return false;
    c->len += (size_t)n;
    return true;
}

/* "*3\r\n" or "$5\r\n" at *at; false: not all there yet. */
static bool parse_number(const struct connection *c, size_t *at, char sign, size_t *out)
{
    const char *end = memchr(c->bytes + *at, '\n', c->len - *at);

    if (!end) return false;
    if (c->bytes[*at] != sign) abort(); /* our client is broken */
    *out = (size_t)strtoul(c->bytes + *at + 1, NULL, 10);
    *at = (size_t)(end + 1 - c->bytes);
    return true;
}

static size_t parse_command(struct connection *c, struct word *words)
{
    size_t at = c->at, n, i, len;

    if (at == c->len || !parse_number(c, &at, '*', &n)) return 0;
    if (!n || n > MAX_WORDS) abort();
    for (i = 0; i < n; i++) {
        if (at >= c->len || !parse_number(c, &at, '$', &len)) return 0;
        if (c->len - at < len + 2) return 0;
        words[i] = (struct word){ c->bytes + at, len };
        at += len + 2;
    }
    c->at = at;
    return n;
}

/* ---- answering ------------------------------------------------------------------------------ */

static bool flush(struct connection *c)
{
    size_t len = c->n_replies;

    c->n_replies = 0;
    return !len || send(c->fd, c->replies, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool say(struct connection *c, const void *data, size_t len)
{
    return flush(c) && send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool say_text(struct connection *c, const char *text)
{
    return say(c, text, strlen(text));
}

static const struct entry *find(struct fake_redis *f, struct word key)
{
    size_t i;

    for (i = f->n_entries; i-- > 0;)
        if (f->entries[i].key_len == key.len && !memcmp(f->entries[i].key, key.data, key.len))
            return &f->entries[i];
    return NULL;
}

static size_t put_value(char *out, const struct entry *e, enum fake_mode mode)
{
    char value[64];
    size_t len, n;

    if (!e) return (size_t)sprintf(out, "$-1\r\n");
    len = e->value_len;
    memcpy(value, e->value, len);
    if (mode == FAKE_WRONG_LENGTH) len--;
    if (mode == FAKE_FLIPPED) value[5] ^= 4;
    n = (size_t)sprintf(out, "$%zu\r\n", len);
    memcpy(out + n, value, len);
    memcpy(out + n + len, "\r\n", 2);
    return n + len + 2;
}

static bool say_values(struct connection *c, const struct word *keys, size_t n, enum fake_mode mode)
{
    static _Thread_local char out[MAX_BYTES];
    size_t len = 0, i, told = mode == FAKE_SHORT_ARRAY ? n - 1 : n;

    len += (size_t)sprintf(out, "*%zu\r\n", told);
    pthread_mutex_lock(&c->f->lock);
    while (mode == FAKE_LATE && c->f->mode == FAKE_LATE)
        pthread_cond_wait(&c->f->changed, &c->f->lock);
    for (i = 0; i < told; i++) {
        struct word key = keys[mode == FAKE_SWAPPED ? (i + 1) % n : i];

        if (mode == FAKE_NESTED)
            len += (size_t)sprintf(out + len, "*1\r\n$1\r\nx\r\n");
        else if (mode == FAKE_NUMBERS)
            len += (size_t)sprintf(out + len, ":%zu\r\n", i);
        else
            len += put_value(out + len, find(c->f, key), mode);
    }
    pthread_mutex_unlock(&c->f->lock);
    if (mode == FAKE_EXTRA) len += (size_t)sprintf(out + len, "*1\r\n$1\r\nx\r\n");
    if (mode == FAKE_CUT) {
        (void)say(c, out, len / 2);
        return false;
    }
    for (i = 0; mode == FAKE_BYTEWISE && i < len; i++)
        if (!say(c, out + i, 1)) return false;
    return mode == FAKE_BYTEWISE || say(c, out, len);
}

static bool mget(struct connection *c, const struct word *keys, size_t n, enum fake_mode mode)
{
    char element[] = "$20\r\n01234567890123456789\r\n";

    switch (mode) {
    case FAKE_GARBAGE: return say_text(c, "HTTP/1.1 400 Bad Request\r\n\r\n");
    case FAKE_HUGE_BULK: return say_text(c, "*2\r\n$2147483647\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx");
    case FAKE_HUGE_ARRAY: return say_text(c, "*2147483647\r\n$1\r\nx\r\n$1\r\nx\r\n");
    case FAKE_NOT_ARRAY: return say_text(c, "+PONG\r\n");
    case FAKE_RESP3: return say_text(c, "%1\r\n+a\r\n+b\r\n");
    case FAKE_FLOOD:
        if (!say_text(c, "*1\r\n$536870912\r\n")) return false;
        while (say(c, element, sizeof(element) - 1)) {
        }
        return false;
    default: return say_values(c, keys, n, mode);
    }
}

static bool set(struct connection *c, const struct word *words)
{
    struct fake_redis *f = c->f;
    struct entry *e;

    if (words[1].len > 64 || words[2].len > 64) abort();
    pthread_mutex_lock(&f->lock);
    e = (struct entry *)find(f, words[1]);
    if (!e) {
        if (f->n_entries == MAX_ENTRIES) f->n_entries = 0;
        e = &f->entries[f->n_entries++];
    }
    memcpy(e->key, words[1].data, words[1].len);
    memcpy(e->value, words[2].data, words[2].len);
    e->key_len = words[1].len;
    e->value_len = words[2].len;
    pthread_mutex_unlock(&f->lock);
    if (c->n_replies + 5 > sizeof(c->replies) && !flush(c)) return false;
    memcpy(c->replies + c->n_replies, "+OK\r\n", 5);
    c->n_replies += 5;
    return true;
}

static bool is(struct word w, const char *text)
{
    return w.len == strlen(text) && memcmp(w.data, text, w.len) == 0;
}

static bool answer(struct connection *c, const struct word *words, size_t n)
{
    struct fake_redis *f = c->f;
    enum fake_mode mode;
    const char *error;

    pthread_mutex_lock(&f->lock);
    mode = f->mode;
    error = f->error;
    pthread_mutex_unlock(&f->lock);
    if (mode == FAKE_SILENT) return true;
    if (mode == FAKE_ERROR) return say_text(c, error) && say_text(c, "\r\n");
    if (is(words[0], "AUTH")) {
        c->in = is(words[n - 1], f->password);
        return say_text(c, c->in ? "+OK\r\n" : "-WRONGPASS invalid username-password pair\r\n");
    }
    if (f->password[0] && !c->in) return say_text(c, "-NOAUTH Authentication required.\r\n");
    if (is(words[0], "SELECT")) {
        pthread_mutex_lock(&f->lock);
        f->db = (unsigned)atoi(words[1].data);
        pthread_mutex_unlock(&f->lock);
        return say_text(c, "+OK\r\n");
    }
    if (is(words[0], "MGET")) return mget(c, words + 1, n - 1, mode);
    if (is(words[0], "SET") && n == 5) return set(c, words);
    abort(); /* our client is broken */
}

static void *serve(void *arg)
{
    static _Thread_local struct word words[MAX_WORDS];
    struct connection *c = arg;
    bool alive = true;

    while (alive) {
        size_t n = parse_command(c, words);

        alive = n ? answer(c, words, n) : flush(c) && fill(c);
    }
    shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct fake_redis *f = arg;
    int fd, on = 1;

    while ((fd = accept(f->fd, NULL, NULL)) >= 0) {
        struct connection *c = calloc(1, sizeof(*c));

        if (!c || f->n_connections == MAX_CONNECTIONS) abort();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        c->f = f;
        c->fd = fd;
        pthread_mutex_lock(&f->lock);
        f->connections[f->n_connections++] = c;
        pthread_mutex_unlock(&f->lock);
        if (pthread_create(&c->thread, NULL, serve, c)) abort();
    }
    return NULL;
}

/* ---- for the tests -------------------------------------------------------------------------- */

struct fake_redis *fake_redis_start(int port, const char *password)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(a);
    struct fake_redis *f = calloc(1, sizeof(*f));
    int on = 1;

    if (!f) abort();
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (password) snprintf(f->password, sizeof(f->password), "%s", password);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(f->fd, (struct sockaddr *)&a, sizeof(a)) || listen(f->fd, 64) ||
        getsockname(f->fd, (struct sockaddr *)&a, &len)) {
        close(f->fd);
        free(f);
        return NULL;
    }
    f->port = ntohs(a.sin_port);
    if (pthread_create(&f->acceptor, NULL, accept_all, f)) abort();
    return f;
}

void fake_redis_stop(struct fake_redis *f)
{
    unsigned i;

    fake_redis_mode(f, FAKE_GOOD, NULL);
    shutdown(f->fd, SHUT_RDWR);
    pthread_join(f->acceptor, NULL);
    close(f->fd);
    for (i = 0; i < f->n_connections; i++) {
        shutdown(f->connections[i]->fd, SHUT_RDWR);
        pthread_join(f->connections[i]->thread, NULL);
        close(f->connections[i]->fd);
        free(f->connections[i]);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int fake_redis_port(const struct fake_redis *f)
{
    return f->port;
}

void fake_redis_mode(struct fake_redis *f, enum fake_mode mode, const char *error)
{
    pthread_mutex_lock(&f->lock);
    f->mode = mode;
    f->error = error;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

unsigned fake_redis_connections(struct fake_redis *f)
{
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->n_connections;
    pthread_mutex_unlock(&f->lock);
    return n;
}

size_t fake_redis_stored(struct fake_redis *f)
{
    size_t n;

    pthread_mutex_lock(&f->lock);
    n = f->n_entries;
    pthread_mutex_unlock(&f->lock);
    return n;
}

unsigned fake_redis_db(struct fake_redis *f)
{
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->db;
    pthread_mutex_unlock(&f->lock);
    return n;
}
