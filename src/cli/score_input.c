/* SPDX-License-Identifier: Apache-2.0 */
/* score_input.c - records of "rerankd score": lines of text, or JSONL.
 * Layer: cli (L6).  Threads: one. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/score.h"

#define FIRST_CAP ((size_t)64 << 10)
#define MAX_LINE_BYTES ((size_t)16 << 20)

int rr_source_open(struct rr_source *s, const char *path, enum rr_format format,
                   struct rr_error *err)
{
    char text[128];
    struct stat st;

    memset(s, 0, sizeof(*s));
    s->format = format;
    s->max_line = MAX_LINE_BYTES;
    s->fd = STDIN_FILENO;
    snprintf(s->name, sizeof(s->name), "standard input");
    if (path && strcmp(path, "-") != 0) {
        snprintf(s->name, sizeof(s->name), "%.250s", path);
        s->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (s->fd < 0)
            return rr_fail(err, RR_ENOENT, "%s: %s", s->name,
                           strerror_r(errno, text, sizeof(text)));
    }
    if (fstat(s->fd, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return rr_fail(err, RR_ENOENT, "%s: found a folder, expected a file", s->name);
        if (S_ISREG(st.st_mode)) s->total = (uint64_t)st.st_size;
    }
    s->cap = FIRST_CAP;
    s->data = rr_alloc(RR_MEM_MISC, s->cap, 1);
    return s->data ? RR_OK : rr_fail(err, RR_ENOMEM, "%s: out of memory", s->name);
}

void rr_source_close(struct rr_source *s)
{
    rr_free(s->data);
    s->data = NULL;
    if (s->fd > STDIN_FILENO) close(s->fd);
    s->fd = -1;
}

/* Makes room behind end and reads more; sets eof. */
static int fill(struct rr_source *s, struct rr_error *err)
{
    char text[128], *bigger;
    ssize_t n;

    if (s->begin > 0) {
        memmove(s->data, s->data + s->begin, s->end - s->begin);
        s->end -= s->begin;
        s->begin = 0;
    }
    if (s->end == s->cap) {
        if (s->cap >= s->max_line)
            return rr_fail(err, RR_EFORMAT, "%s: line %llu is longer than %zu MiB", s->name,
                           (unsigned long long)s->lines + 1, s->max_line >> 20);
        bigger = rr_realloc(RR_MEM_MISC, s->data, s->cap * 2, 1);
        if (!bigger) return rr_fail(err, RR_ENOMEM, "%s: out of memory", s->name);
        s->data = bigger;
        s->cap *= 2;
    }
    do {
        n = read(s->fd, s->data + s->end, s->cap - s->end);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return rr_fail(err, RR_EIO, "%s: %s", s->name, strerror_r(errno, text, sizeof(text)));
    s->eof = n == 0;
    s->end += (size_t)n;
    return RR_OK;
}

int rr_source_line(struct rr_source *s, struct rr_text *line, bool *got, struct rr_error *err)
{
    char *end = NULL;
    size_t searched = 0;
    int rc;

    *got = false;
    for (;;) {
        if (s->end > s->begin + searched)
            end = memchr(s->data + s->begin + searched, '\n', s->end - s->begin - searched);
        if (end || s->eof) break;
        searched = s->end - s->begin;
        rc = fill(s, err);
        if (rc) return rc;
    }
    *line = (struct rr_text){ s->data + s->begin, s->end - s->begin };
    if (end) line->len = (size_t)(end - line->data);
    if (!end && line->len == 0) return RR_OK;
    s->begin += line->len + (end ? 1 : 0);
    s->bytes += line->len + (end ? 1 : 0);
    s->lines++;
    if (line->len > 0 && line->data[line->len - 1] == '\r') line->len--;
    if (s->lines == 1) *line = rr_text_unmarked(*line);
    *got = true;
    return RR_OK;
}

/* White space of JSON and of people; what is not UTF-8 is not blank. */
static bool is_blank(struct rr_text line)
{
    return rr_utf8_invalid(line) == SIZE_MAX && rr_text_blank(line);
}

static int copy_text(struct rr_arena *arena, struct rr_text from, struct rr_text *to,
                     struct rr_error *err)
{
    to->len = from.len;
    to->data = rr_arena_strndup(arena, from.data, from.len);
    return to->data ? RR_OK : rr_fail(err, RR_ENOMEM, "out of memory for the texts");
}

/* The text of a JSON string, or of the first of the object's keys that holds one. */
static bool find_text(const json_t *v, struct rr_text *out)
{
    static const char *const keys[] = { "text", "content", "document" };
    const json_t *s = json_is_string(v) ? v : NULL;
    size_t i;

    for (i = 0; !s && i < RR_COUNT(keys); i++) {
        if (json_is_string(json_object_get(v, keys[i]))) s = json_object_get(v, keys[i]);
    }
    if (s) *out = (struct rr_text){ json_string_value(s), json_string_length(s) };
    return s != NULL;
}

static int parse_json_record(const struct rr_source *s, struct rr_text line, struct rr_arena *arena,
                             struct rr_record *out, struct rr_error *err)
{
    json_t *v = NULL, *query;
    struct rr_text text;
    int rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);

    if (rc) {
        rr_fail_prefix(err, "%s: line %llu: not JSON (if this is plain text, say --format lines)",
                       s->name, (unsigned long long)s->lines);
        return RR_EFORMAT;
    }
    query = json_object_get(v, "query");
    if (!find_text(v, &text)) {
        rc = rr_fail(err, RR_EFORMAT,
                     "%s: line %llu: found %s, expected a string, or an object with \"text\", "
                     "\"content\" or \"document\"%s",
                     s->name, (unsigned long long)s->lines, rr_json_type_name(v),
                     json_is_array(json_object_get(v, "documents"))
                         ? "; rerankd rank takes lists with \"documents\""
                         : "");
    } else if (query && !json_is_string(query)) {
        rc = rr_fail(err, RR_EFORMAT, "%s: line %llu: query: found %s, expected a string", s->name,
                     (unsigned long long)s->lines, rr_json_type_name(query));
    } else {
        rc = copy_text(arena, text, &out->text, err);
        if (!rc && query) {
            text = (struct rr_text){ json_string_value(query), json_string_length(query) };
            rc = copy_text(arena, text, &out->query, err);
        }
    }
    json_decref(v);
    return rc;
}

int rr_source_next(struct rr_source *s, struct rr_arena *arena, struct rr_record *out, bool *got,
                   struct rr_error *err)
{
    struct rr_text line = { "", 0 };
    size_t bad;
    int rc;

    do {
        rc = rr_source_line(s, &line, got, err);
        if (rc || !*got) return rc;
    } while (is_blank(line));

    *got = false;
    memset(out, 0, sizeof(*out));
    out->index = s->lines - 1;
    bad = rr_utf8_invalid(line);
    if (bad != SIZE_MAX)
        return rr_fail(err, RR_EFORMAT, "%s: line %llu is not UTF-8, from byte %zu on", s->name,
                       (unsigned long long)s->lines, bad + 1);
    if (s->format == RR_FORMAT_AUTO) {
        size_t i = 0;

        while (line.data[i] == ' ' || line.data[i] == '\t') i++;
        s->format = line.data[i] == '{' || line.data[i] == '"' ? RR_FORMAT_JSONL : RR_FORMAT_LINES;
    }
    if (s->format == RR_FORMAT_JSONL)
        rc = parse_json_record(s, line, arena, out, err);
    else
        rc = copy_text(arena, line, &out->text, err);
    *got = rc == RR_OK;
    return rc;
}
