/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - see keys.h. */
#include "server/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "rerank.h"
#include "server/secret.h"

#define MAX_FILE ((size_t)4 << 20)
#define BLANKS " \t\r"

_Static_assert(RR_KEY_HASH == RR_HASH_BYTES, "one size of hashes");

static const struct {
    const char *word;
    int priority;
} priorities[] = { { "low", RR_PRIORITY_LOW },
                   { "normal", RR_PRIORITY_NORMAL },
                   { "high", RR_PRIORITY_HIGH } };

/* ---- reading ------------------------------------------------------------------------------ */

static bool valid_name(const char *s, size_t len)
{
    size_t i;

    if (len == 0 || len > RR_KEY_NAME_MAX) return false;
    for (i = 0; i < len; i++) {
        char c = s[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

/* Digits with at most one dot; by hand, since strtod takes more and knows locales. */
static bool parse_number(const char *s, size_t len, double *out)
{
    double v = 0, scale = 1;
    bool dot = false;
    size_t i;

    if (len == 0 || len > 15 || s[0] == '.' || s[len - 1] == '.') return false;
    for (i = 0; i < len; i++) {
        if (s[i] == '.' && !dot) {
            dot = true;
        } else if (s[i] >= '0' && s[i] <= '9') {
            v = v * 10 + (s[i] - '0');
            if (dot) scale *= 10;
        } else {
            return false;
        }
    }
    *out = v / scale;
    return true;
}

int rr_keys_limit(struct rr_key_limits *limits, const char *word, size_t len, const char *where,
                  struct rr_error *err)
{
    static const char *const names[] = { "rate=", "tokens=", "day=", "day-tokens=" };
    double values[] = { limits->rate, limits->tokens, (double)limits->day,
                        (double)limits->day_tokens };
    size_t i, prefix;

    for (i = 0; i < RR_COUNT(names); i++) {
        prefix = strlen(names[i]);
        if (len < prefix || memcmp(word, names[i], prefix) != 0) continue;
        if (!parse_number(word + prefix, len - prefix, &values[i])) break;
        limits->rate = values[0];
        limits->tokens = values[1];
        limits->day = (uint64_t)values[2];
        limits->day_tokens = (uint64_t)values[3];
        return RR_OK;
    }
    for (i = 0; i < RR_COUNT(priorities); i++) {
        if (len != 9 + strlen(priorities[i].word) || memcmp(word, "priority=", 9) != 0) continue;
        if (memcmp(word + 9, priorities[i].word, len - 9) != 0) continue;
        limits->max_priority = priorities[i].priority;
        return RR_OK;
    }
    return rr_fail(err, RR_EFORMAT,
                   "%s: found \"%.*s\", expected rate=N, tokens=N, day=N, day-tokens=N or "
                   "priority=low|normal|high",
                   where, (int)RR_MIN(len, 40), word);
}

/* The next word of the line; false at its end. */
static bool next_word(const char **at, const char *end, const char **word, size_t *len)
{
    const char *s = *at;

    while (s < end && strchr(BLANKS, *s)) s++;
    *word = s;
    while (s < end && !strchr(BLANKS, *s)) s++;
    *len = (size_t)(s - *word);
    *at = s;
    return *len > 0;
}

static size_t find_name(const struct rr_keys *keys, const char *name, size_t len)
{
    size_t i;

    for (i = 0; i < keys->n; i++)
        if (strlen(keys->list[i].name) == len && memcmp(keys->list[i].name, name, len) == 0)
            return i;
    return SIZE_MAX;
}

static struct rr_key *append(struct rr_keys *keys)
{
    size_t cap = keys->cap ? keys->cap * 2 : 16;
    struct rr_key *bigger;

    if (keys->n == keys->cap) {
        bigger = rr_realloc(RR_MEM_SERVER, keys->list, cap, sizeof(*bigger));
        if (!bigger) return NULL;
        keys->list = bigger;
        keys->cap = cap;
    }
    memset(&keys->list[keys->n], 0, sizeof(keys->list[0]));
    return &keys->list[keys->n];
}

static int parse_key(struct rr_keys *keys, const char *at, const char *end, const char *where,
                     struct rr_error *err)
{
    struct rr_key *key;
    const char *word;
    size_t len;
    int rc = RR_OK;

    if (keys->n == RR_KEYS_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: more than %d keys", where, RR_KEYS_MAX);
    key = append(keys);
    if (!key) return rr_fail(err, RR_ENOMEM, "%s: out of memory", where);
    if (!next_word(&at, end, &word, &len) || !valid_name(word, len))
        return rr_fail(err, RR_EFORMAT,
                       "%s: expected a name of letters, digits, dots, dashes and underscores",
                       where);
    if (find_name(keys, word, len) != SIZE_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: the name %.*s is there twice", where, (int)len, word);
    memcpy(key->name, word, len);
    if (!next_word(&at, end, &word, &len) || !rr_secret_unhex(key->hash, RR_KEY_HASH, word, len))
        return rr_fail(err, RR_EFORMAT, "%s: expected a hash of 64 hexadecimal digits", where);
    while (!rc && next_word(&at, end, &word, &len))
        rc = rr_keys_limit(&key->limits, word, len, where, err);
    if (!rc) keys->n++;
    return rc;
}

static int parse_line(struct rr_keys *keys, const char *line, const char *end, bool *salted,
                      const char *where, struct rr_error *err)
{
    const char *at = line, *word;
    size_t len;

    if (!next_word(&at, end, &word, &len) || word[0] == '#') return RR_OK;
    if (len == 4 && memcmp(word, "salt", 4) == 0 && !*salted) {
        *salted = true;
        if (next_word(&at, end, &word, &len) &&
            rr_secret_unhex(keys->salt, RR_KEY_SALT, word, len) &&
            !next_word(&at, end, &word, &len))
            return RR_OK;
        return rr_fail(err, RR_EFORMAT, "%s: expected a salt of 32 hexadecimal digits", where);
    }
    if (len == 3 && memcmp(word, "key", 3) == 0 && *salted)
        return parse_key(keys, at, end, where, err);
    return rr_fail(err, RR_EFORMAT,
                   "%s: expected one line \"salt ...\" and then lines \"key NAME HASH ...\"; "
                   "rerankd keys add writes such a file",
                   where);
}

int rr_keys_parse(struct rr_keys *out, const char *text, size_t len, const char *where,
                  struct rr_error *err)
{
    const char *end = text + len, *line_end;
    bool salted = false;
    unsigned line = 1;
    char place[400];
    int rc = RR_OK;

    memset(out, 0, sizeof(*out));
    for (; !rc && text < end; text = line_end + 1, line++) {
        line_end = memchr(text, '\n', (size_t)(end - text));
        if (!line_end) line_end = end;
        snprintf(place, sizeof(place), "%.380s:%u", where, line);
        if (memchr(text, 0, (size_t)(line_end - text)))
            return rr_fail(err, RR_EFORMAT, "%s: found a NUL, expected text", place);
        rc = parse_line(out, text, line_end, &salted, place, err);
    }
    if (!rc && !salted) rc = rr_fail(err, RR_EFORMAT, "%s: found no line \"salt ...\"", where);
    return rc;
}

int rr_keys_read(struct rr_keys *out, const char *path, struct rr_error *err)
{
    char *text;
    size_t len;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = rr_file_read(&text, &len, path, MAX_FILE, RR_MEM_SERVER, err);
    if (rc == RR_ENOENT)
        rr_fail(err, rc, "%.200s: not found; rerankd keys add NAME --api-keys-file %.200s makes it",
                path, path);
    if (rc) return rc;
    rc = rr_keys_parse(out, text, len, path, err);
    rr_free(text);
    return rc;
}

void rr_keys_free(struct rr_keys *keys)
{
    rr_free(keys->list);
    memset(keys, 0, sizeof(*keys));
}

/* ---- changing ----------------------------------------------------------------------------- */

int rr_keys_init(struct rr_keys *out, struct rr_error *err)
{
    memset(out, 0, sizeof(*out));
    if (rr_secret_random(out->salt, sizeof(out->salt))) return RR_OK;
    return rr_fail(err, RR_EIO, "the system gives no random bytes");
}

int rr_keys_add(struct rr_keys *keys, const char *name, const struct rr_key_limits *limits,
                char text[RR_KEY_TEXT], struct rr_error *err)
{
    uint8_t secret[24];
    struct rr_key *key;

    if (!valid_name(name, strlen(name)))
        return rr_fail(
            err, RR_EINVAL,
            "found the name \"%.70s\", expected 1 to %d letters, digits, dots, dashes or "
            "underscores",
            name, RR_KEY_NAME_MAX);
    if (find_name(keys, name, strlen(name)) != SIZE_MAX)
        return rr_fail(err, RR_EINVAL, "there is a key named %s already; remove it first", name);
    if (keys->n == RR_KEYS_MAX) return rr_fail(err, RR_EINVAL, "more than %d keys", RR_KEYS_MAX);
    key = append(keys);
    if (!key) return rr_fail(err, RR_ENOMEM, "keys: out of memory");
    if (!rr_secret_random(secret, sizeof(secret)))
        return rr_fail(err, RR_EIO, "the system gives no random bytes");
    memcpy(text, "rk_", 3);
    rr_secret_hex(text + 3, secret, sizeof(secret));
    explicit_bzero(secret, sizeof(secret));
    if (!rr_secret_hash(key->hash, keys->salt, RR_KEY_SALT, text, strlen(text)))
        return rr_fail(err, RR_EINTERNAL, "HMAC-SHA-256 is not to be had");
    snprintf(key->name, sizeof(key->name), "%s", name);
    key->limits = *limits;
    keys->n++;
    return RR_OK;
}

bool rr_keys_remove(struct rr_keys *keys, const char *name)
{
    size_t i = find_name(keys, name, strlen(name));

    if (i == SIZE_MAX) return false;
    keys->n--;
    memmove(&keys->list[i], &keys->list[i + 1], (keys->n - i) * sizeof(keys->list[0]));
    return true;
}

/* ---- writing ------------------------------------------------------------------------------ */

void rr_keys_put_limits(const struct rr_key_limits *l, struct rr_buf *out)
{
    size_t i;

    if (l->rate > 0) rr_buf_printf(out, " rate=%.10g", l->rate);
    if (l->tokens > 0) rr_buf_printf(out, " tokens=%.15g", l->tokens);
    if (l->day) rr_buf_printf(out, " day=%llu", (unsigned long long)l->day);
    if (l->day_tokens) rr_buf_printf(out, " day-tokens=%llu", (unsigned long long)l->day_tokens);
    for (i = 0; i < RR_COUNT(priorities) && l->max_priority != RR_PRIORITY_NORMAL; i++)
        if (priorities[i].priority == l->max_priority)
            rr_buf_printf(out, " priority=%s", priorities[i].word);
}

void rr_keys_put(const struct rr_keys *keys, struct rr_buf *out)
{
    char hex[2 * RR_KEY_HASH + 1];
    size_t i;

    rr_buf_puts(out, "# Written by \"rerankd keys\".  It holds hashes: a lost key cannot be found "
                     "again, only replaced.\n");
    rr_secret_hex(hex, keys->salt, RR_KEY_SALT);
    rr_buf_printf(out, "salt %s\n", hex);
    for (i = 0; i < keys->n; i++) {
        rr_secret_hex(hex, keys->list[i].hash, RR_KEY_HASH);
        rr_buf_printf(out, "key %s %s", keys->list[i].name, hex);
        rr_keys_put_limits(&keys->list[i].limits, out);
        rr_buf_putc(out, '\n');
    }
}

static int write_all(int fd, const struct rr_buf *b)
{
    size_t done = 0;

    while (done < b->len) {
        ssize_t n = write(fd, b->data + done, b->len - done);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        done += (size_t)n;
    }
    return fsync(fd);
}

int rr_keys_write(const struct rr_keys *keys, const char *path, struct rr_error *err)
{
    struct rr_buf text;
    char temporary[4096];
    int fd, rc = RR_OK;

    if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
        return rr_fail(err, RR_EINVAL, "the name of the key file is too long");
    rr_buf_init(&text, RR_MEM_SERVER, MAX_FILE);
    rr_keys_put(keys, &text);
    if (text.failed) {
        rr_buf_free(&text);
        return rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    }
    fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0) {
        rc = rr_fail(err, RR_EIO, "%s: %s", path, strerror(errno));
    } else {
        if (write_all(fd, &text) || rename(temporary, path)) {
            rc = rr_fail(err, RR_EIO, "%s: %s", path, strerror(errno));
            (void)unlink(temporary);
        }
        close(fd);
    }
    rr_buf_free(&text);
    return rc;
}

/* ---- using -------------------------------------------------------------------------------- */

uint64_t rr_keys_tenant(const char *name)
{
    static const uint8_t salt[] = "rerankd tenant";
    uint8_t hash[RR_HASH_BYTES];
    uint64_t id = 0;

    if (rr_secret_hash(hash, salt, sizeof(salt), name, strlen(name))) memcpy(&id, hash, sizeof(id));
    return id ? id : 1;
}

size_t rr_keys_find(const struct rr_keys *keys, const char *text, size_t len)
{
    uint8_t hash[RR_HASH_BYTES];
    size_t i, found = SIZE_MAX;

    if (!rr_secret_hash(hash, keys->salt, RR_KEY_SALT, text, len)) return SIZE_MAX;
    for (i = 0; i < keys->n; i++) /* to the end, whichever it is */
        if (rr_secret_equal(hash, keys->list[i].hash, RR_KEY_HASH)) found = i;
    return found;
}
