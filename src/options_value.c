/* SPDX-License-Identifier: Apache-2.0 */
/* options_value.c - the types of option values: whole numbers, sizes, durations, booleans, words.
 * Layer: top (L6).  Threads: any. */
#include "options_value.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/text.h"

#define MAX_WORDS 16   /* of one option's list */
#define SHOWN_BYTES 60 /* of a refused value in a message */

/* Spellings that other programs use for our words. */
static const struct {
    const char *option, *spelling, *word;
} aliases[] = {
    { "log-level", "warning", "warn" },
    { "log-level", "critical", "error" },
    { "log-level", "fatal", "error" },
    { "log-level", "trace", "debug" },
};

/* Words of other programs that only sound like ours: what is meant may not be what is nearest. */
static const struct {
    const char *option, *spelling, *word;
} meant[] = {
    { "device", "gpu", "cuda" },   { "device", "nvidia", "cuda" },  { "device", "mps", "auto" },
    { "device", "rocm", "auto" },  { "dtype", "half", "f16" },      { "dtype", "float16", "f16" },
    { "dtype", "float32", "f32" }, { "dtype", "bfloat16", "bf16" }, { "dtype", "float", "f32" },
    { "dtype", "q8_0", "int8" },
};

static const struct {
    const char *suffix;
    unsigned shift;
} size_units[] = {
    { "", 0 },    { "B", 0 },    { "K", 10 }, { "KB", 10 }, { "KiB", 10 }, { "M", 20 },
    { "MB", 20 }, { "MiB", 20 }, { "G", 30 }, { "GB", 30 }, { "GiB", 30 },
};

static const struct {
    const char *suffix;
    double seconds;
} time_units[] = {
    { "", 1.0 }, { "ms", 0.001 }, { "s", 1.0 }, { "m", 60.0 }, { "min", 60.0 }, { "h", 3600.0 },
};

static bool out_of_range(const struct rr_option *o, double v)
{
    return (o->min != 0.0 || o->max != 0.0) && (v < o->min || v > o->max);
}

/* Digits at s into *v; returns the rest, or NULL when there is no digit or v would overflow. */
static const char *read_whole(const char *s, uint64_t *v)
{
    *v = 0;
    if (!isdigit((unsigned char)*s)) return NULL;
    for (; isdigit((unsigned char)*s); s++) {
        if (__builtin_mul_overflow(*v, UINT64_C(10), v) ||
            __builtin_add_overflow(*v, (uint64_t)(*s - '0'), v))
            return NULL;
    }
    return s;
}

static bool parse_u32(const struct rr_option *o, const char *text, uint32_t *out)
{
    uint64_t v;
    const char *end = read_whole(text, &v);

    if (!end || *end || v > UINT32_MAX || out_of_range(o, (double)v)) return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_size(const struct rr_option *o, const char *text, size_t *out)
{
    uint64_t v;
    const char *end = read_whole(text, &v);
    size_t i;

    if (!end) return false;
    while (*end == ' ') end++;
    for (i = 0; i < RR_COUNT(size_units); i++) {
        if (strcasecmp(end, size_units[i].suffix) == 0) break;
    }
    if (i == RR_COUNT(size_units)) return false;
    if (__builtin_mul_overflow(v, UINT64_C(1) << size_units[i].shift, &v)) return false;
    if (v > SIZE_MAX || out_of_range(o, (double)v)) return false;
    *out = (size_t)v;
    return true;
}

/* By hand: strtod would also take "inf", "0x10" and the comma of a locale. */
static bool parse_seconds(const struct rr_option *o, const char *text, double *out)
{
    double v = 0.0, scale = 1.0;
    const char *s = text;
    size_t i;

    if (!isdigit((unsigned char)*s)) return false;
    for (; isdigit((unsigned char)*s); s++) v = v * 10.0 + (*s - '0');
    if (*s == '.') {
        if (!isdigit((unsigned char)*++s)) return false;
        for (; isdigit((unsigned char)*s); s++, scale *= 10.0) v = v * 10.0 + (*s - '0');
    }
    while (*s == ' ') s++;
    for (i = 0; i < RR_COUNT(time_units); i++) {
        if (strcmp(s, time_units[i].suffix) == 0) break;
    }
    if (i == RR_COUNT(time_units)) return false;
    v = v / scale * time_units[i].seconds;
    if (out_of_range(o, v)) return false;
    *out = v;
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = { "true", "yes", "on", "1" };
    static const char *const no[] = { "false", "no", "off", "0" };
    size_t i;

    for (i = 0; i < RR_COUNT(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* Splits "auto|cpu" into words; returns how many. */
static size_t split_words(const char *list, char words[MAX_WORDS][32])
{
    size_t n = 0;

    while (n < MAX_WORDS) {
        size_t len = strcspn(list, "|");

        snprintf(words[n++], 32, "%.*s", (int)RR_MIN(len, 31), list);
        if (!list[len]) break;
        list += len + 1;
    }
    return n;
}

/* True when text is word, or, for a word such as cuda:N, when it has a small number for the N.
 * Case does not matter: LOG_LEVEL=INFO is what other programs are given. */
static bool word_matches(const char *text, const char *word)
{
    size_t len = strlen(word), i;

    if (len < 2 || strcmp(word + len - 2, ":N") != 0) return strcasecmp(text, word) == 0;
    if (strncasecmp(text, word, len - 1) != 0) return false;
    for (i = len - 1; isdigit((unsigned char)text[i]); i++) continue;
    return i > len - 1 && i < len + 2 && !text[i];
}

/* Devices that exist for tests only, see docs/internals/engine.md.  The engine checks the rest. */
static bool is_test_device(const struct rr_option *o, const char *text)
{
    return strcmp(o->name, "device") == 0 &&
           (strncmp(text, "null", 4) == 0 || strncmp(text, "fault", 5) == 0);
}

static const char *unalias(const struct rr_option *o, const char *text)
{
    size_t i;

    for (i = 0; i < RR_COUNT(aliases); i++) {
        if (strcmp(o->name, aliases[i].option) == 0 && strcasecmp(text, aliases[i].spelling) == 0)
            return aliases[i].word;
    }
    return text;
}

bool rr_option_is_text(const struct rr_option *o)
{
    return o->type == RR_OPTION_STR || o->type == RR_OPTION_LIST || o->type == RR_OPTION_SECRET;
}

void rr_option_allowed(const struct rr_option *o, char *out, size_t cap)
{
    char words[MAX_WORDS][32];
    size_t n, i, len = 0;

    if (o->type != RR_OPTION_BOOL && strchr(o->arg, '|')) {
        n = split_words(o->arg, words);
        out[0] = 0;
        for (i = 0; i < n && len < cap; i++) {
            len += (size_t)snprintf(out + len, cap - len, "%s%s", words[i],
                                    i + 2 < n   ? ", "
                                    : i + 1 < n ? " or "
                                                : "");
        }
        return;
    }
    switch (o->type) {
    case RR_OPTION_STR:
    case RR_OPTION_SECRET: snprintf(out, cap, "text without line breaks, in UTF-8"); break;
    case RR_OPTION_LIST: snprintf(out, cap, "text in UTF-8, any number of lines"); break;
    case RR_OPTION_BOOL: snprintf(out, cap, "true or false"); break;
    case RR_OPTION_U32:
        snprintf(out, cap, "a whole number from %.0f to %.0f", o->min,
                 o->max > 0.0 ? o->max : (double)UINT32_MAX);
        break;
    case RR_OPTION_SIZE:
        if (o->max > 0.0)
            snprintf(out, cap, "a whole number from %.0f to %.0f; K, M and G are understood",
                     o->min, o->max);
        else
            snprintf(out, cap, "a whole number from 0 to %zu; K, M and G are understood", SIZE_MAX);
        break;
    case RR_OPTION_SECONDS:
        snprintf(out, cap,
                 "a duration from %.10g to %.10g seconds, such as 30, 0.5, 500ms or 2m", o->min,
                 o->max);
        break;
    }
}

/* One line, however strange the value is. */
static void show_found(const char *text, char out[SHOWN_BYTES + 8])
{
    size_t n = 0;

    if (rr_utf8_invalid(rr_text(text)) != SIZE_MAX) {
        snprintf(out, SHOWN_BYTES + 8, "bytes that are not UTF-8");
        return;
    }
    out[n++] = '"';
    for (; *text && n < SHOWN_BYTES; text++) {
        out[n++] = (unsigned char)*text < 0x20 || *text == 0x7F ? '?' : *text;
    }
    while (*text && n > 1 && ((unsigned char)out[n - 1] & 0xC0) == 0x80) n--;
    if (*text && n > 1 && (unsigned char)out[n - 1] >= 0xC0) n--; /* no half character */
    snprintf(out + n, SHOWN_BYTES + 8 - n, "%s\"", *text ? "..." : "");
}

static int refuse(const struct rr_option *o, const char *text, int code, const char *where,
                  struct rr_error *err)
{
    char found[SHOWN_BYTES + 8], allowed[200], words[MAX_WORDS][32];
    const char *list[MAX_WORDS], *near = NULL;
    size_t n, i;

    if (o->type == RR_OPTION_SECRET)
        snprintf(found, sizeof(found), "something else");
    else
        show_found(text, found);
    rr_option_allowed(o, allowed, sizeof(allowed));
    if (o->type != RR_OPTION_BOOL && strchr(o->arg, '|')) {
        n = split_words(o->arg, words);
        for (i = 0; i < n; i++) list[i] = words[i];
        near = rr_text_nearest(text, list, n);
    }
    for (i = 0; i < RR_COUNT(meant); i++) {
        if (strcmp(o->name, meant[i].option) == 0 && strcasecmp(text, meant[i].spelling) == 0)
            near = meant[i].word;
    }
    if (near)
        return rr_fail(err, code, "%s: found %s, expected %s; did you mean %s?", where, found,
                       allowed, near);
    return rr_fail(err, code, "%s: found %s, expected %s", where, *text ? found : "nothing",
                   allowed);
}

/* Copies text; a word of a list in the list's own spelling. */
static int store_string(const struct rr_option *o, const char *text, const char **field,
                        struct rr_arena *arena, int code, const char *where, struct rr_error *err)
{
    char words[MAX_WORDS][32];
    char *copy;
    size_t n, i;

    if (strchr(o->arg, '|')) {
        text = unalias(o, text);
        n = split_words(o->arg, words);
        for (i = 0; i < n && !word_matches(text, words[i]); i++) continue;
        if (i == n && !is_test_device(o, text)) return refuse(o, text, code, where, err);
    } else if (strpbrk(text, o->type == RR_OPTION_LIST ? "\r" : "\r\n") ||
               rr_utf8_invalid(rr_text(text)) != SIZE_MAX) {
        return refuse(o, text, code, where, err);
    }
    copy = rr_arena_strndup(arena, text, strlen(text));
    if (!copy) return rr_fail(err, RR_ENOMEM, "%s: out of memory for the value", where);
    if (strchr(o->arg, '|')) {
        for (i = 0; copy[i]; i++) copy[i] = (char)tolower((unsigned char)copy[i]);
    }
    *field = copy;
    return RR_OK;
}

int rr_option_parse(const struct rr_option *o, const char *text, void *fields,
                    struct rr_arena *arena, int code, const char *where, struct rr_error *err)
{
    char *field = (char *)fields + o->offset;
    char words[MAX_WORDS][32];
    size_t n, i;
    bool ok = false;

    if (rr_option_is_text(o))
        return store_string(o, text, (const char **)(void *)field, arena, code, where, err);
    switch (o->type) {
    case RR_OPTION_STR:
    case RR_OPTION_LIST:
    case RR_OPTION_SECRET: break;
    case RR_OPTION_U32: ok = parse_u32(o, text, (uint32_t *)(void *)field); break;
    case RR_OPTION_SIZE: ok = parse_size(o, text, (size_t *)(void *)field); break;
    case RR_OPTION_BOOL: ok = parse_bool(text, (bool *)(void *)field); break;
    case RR_OPTION_SECONDS: ok = parse_seconds(o, text, (double *)(void *)field); break;
    }
    if (ok && o->type != RR_OPTION_BOOL && strchr(o->arg, '|')) { /* "429|503" */
        n = split_words(o->arg, words);
        for (i = 0; i < n && strcmp(text, words[i]) != 0; i++) continue;
        ok = i < n;
    }
    return ok ? RR_OK : refuse(o, text, code, where, err);
}

void rr_option_value(const struct rr_option *o, const void *fields, char *out, size_t cap)
{
    const char *field = (const char *)fields + o->offset;
    size_t v, i;

    switch (o->type) {
    case RR_OPTION_STR:
    case RR_OPTION_LIST:
    case RR_OPTION_SECRET:
        snprintf(out, cap, "%s", *(const char *const *)(const void *)field);
        break;
    case RR_OPTION_U32: snprintf(out, cap, "%u", *(const uint32_t *)(const void *)field); break;
    case RR_OPTION_BOOL:
        snprintf(out, cap, "%s", *(const bool *)(const void *)field ? "true" : "false");
        break;
    case RR_OPTION_SECONDS:
        snprintf(out, cap, "%.15g", *(const double *)(const void *)field);
        break;
    case RR_OPTION_SIZE:
        v = *(const size_t *)(const void *)field;
        for (i = 3; i > 0; i--) {
            if (v && v % ((size_t)1 << 10 * i) == 0) break;
        }
        snprintf(out, cap, "%zu%.*s", v >> 10 * i, i > 0, &"BKMG"[i]);
        break;
    }
}

void rr_option_env_name(const struct rr_option *o, char *out, size_t cap)
{
    size_t i, n = (size_t)snprintf(out, cap, "RERANKD_%s", o->name);

    for (i = 8; i < RR_MIN(n, cap - 1); i++) {
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
    }
}
