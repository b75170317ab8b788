/* SPDX-License-Identifier: Apache-2.0 */
/* rank_output.c - results of "rerankd rank", and what an interrupted run has left of them.
 * Layer: cli (L6).  Threads: one.
 *
 * A run that was killed leaves a prefix of its output.  In JSONL a list is a line, so every line
 * with its end is whole.  In TREC form a list is several lines and nothing tells which is its last,
 * so the last query is cut off and ranked again. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/rank.h"

#define LINE_LIMIT ((size_t)1 << 30)

static int io_error(const struct rr_ranking *r, const char *what, struct rr_error *err)
{
    char text[128];

    return rr_fail(err, RR_EIO, "%s: %s: %s", r->path ? r->path : "standard output", what,
                   strerror_r(errno, text, sizeof(text)));
}

/* ---- what is there -------------------------------------------------------------------------- */

/* The first word of a line, NULL-terminated and the caller's; NULL when there is none. */
static char *first_word(struct rr_text line)
{
    size_t n = 0;

    while (n < line.len && line.data[n] != ' ' && line.data[n] != '\t') n++;
    return rr_strndup(RR_MEM_MISC, line.data, n);
}

/* Where a TREC file's last query begins, or a JSONL file's last unfinished line. */
static int find_end(struct rr_ranking *r, uint64_t *end, struct rr_error *err)
{
    struct rr_file file;
    size_t at, next;
    struct rr_text last = { NULL, 0 };
    int rc = rr_file_map(&file, r->path, err);

    *end = 0;
    if (rc) return rc;
    for (at = 0; at < file.len; at = next) {
        const char *newline = memchr(file.data + at, '\n', file.len - at);
        struct rr_text word = { file.data + at, 0 };

        if (!newline) {
            if (!r->trec) *end = at;
            break;
        }
        next = (size_t)(newline - file.data) + 1;
        if (!r->trec) {
            *end = next;
            continue;
        }
        while (word.data[word.len] != ' ' && word.data[word.len] != '\n') word.len++;
        if (!last.data || !rr_text_eq(word, last)) *end = at;
        last = word;
    }
    rr_file_unmap(&file);
    return RR_OK;
}

static int resume(struct rr_ranking *r, struct rr_error *err)
{
    uint64_t end;
    int rc = find_end(r, &end, err);

    if (rc) return rc;
    if (truncate(r->path, (off_t)end)) return io_error(r, "cannot be cut", err);
    rc = rr_source_open(&r->done, r->path, RR_FORMAT_LINES, err);
    r->resuming = true;
    return rc;
}

int rr_ranking_open(struct rr_ranking *r, const char *path, bool resume_it, struct rr_error *err)
{
    int rc = RR_OK;

    r->path = path;
    r->done.fd = -1;
    rr_buf_init(&r->line, RR_MEM_MISC, LINE_LIMIT);
    if (!path) {
        r->file = stdout;
        return RR_OK;
    }
    if (rr_file_exists(path) && !resume_it)
        return rr_fail(err, RR_EINVAL,
                       "%s is there already: remove it, or say --resume to go on with it", path);
    if (rr_file_exists(path)) rc = resume(r, err);
    if (rc) return rc;
    r->file = fopen(path, "ae");
    return r->file ? RR_OK : io_error(r, "cannot be written", err);
}

int rr_ranking_close(struct rr_ranking *r, struct rr_error *err)
{
    int rc = RR_OK;

    rr_source_close(&r->done);
    rr_free(r->last);
    rr_buf_free(&r->line);
    if (r->path && r->file && fclose(r->file)) rc = io_error(r, "cannot be written", err);
    r->file = NULL;
    return rc;
}

static int read_id(struct rr_ranking *r, struct rr_text line, char **id, struct rr_error *err)
{
    json_t *v;
    int rc;

    if (r->trec) {
        *id = first_word(line);
    } else {
        rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);
        if (!rc && !json_is_string(json_object_get(v, "id"))) {
            json_decref(v);
            rc = rr_fail(err, RR_EFORMAT, "found no string \"id\"");
        }
        if (rc) {
            rr_fail_prefix(err, "%s: line %" PRIu64 ": not an output of rank", r->path,
                           r->done.lines);
            return RR_EFORMAT;
        }
        *id = rr_strdup(RR_MEM_MISC, json_string_value(json_object_get(v, "id")));
        json_decref(v);
    }
    return *id ? RR_OK : rr_fail(err, RR_ENOMEM, "%s: out of memory", r->path);
}

int rr_ranking_done(struct rr_ranking *r, const char **id, struct rr_error *err)
{
    struct rr_text line;
    bool got;
    int rc;

    for (*id = NULL; r->resuming;) {
        char *next = NULL;

        rc = rr_source_line(&r->done, &line, &got, err);
        if (!rc && got) rc = read_id(r, line, &next, err);
        if (rc) return rc;
        r->resuming = got;
        if (r->trec && next && r->last && strcmp(next, r->last) == 0) {
            rr_free(next); /* a further line of the same query */
            continue;
        }
        rr_free(r->last);
        r->last = next;
        *id = next;
        break;
    }
    return RR_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void put_id(struct rr_buf *b, const struct rr_rank_list *list, uint32_t document)
{
    if (list->ids)
        rr_buf_put(b, list->ids[document].data, list->ids[document].len);
    else
        rr_buf_printf(b, "%" PRIu32, document);
}

static void put_trec(struct rr_buf *b, const struct rr_ranking *r, const struct rr_rank_list *list,
                     const struct rr_result *result, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        uint32_t document = result->order[i];

        rr_buf_put(b, list->id.data, list->id.len);
        rr_buf_puts(b, " Q0 ");
        put_id(b, list, document);
        rr_buf_printf(b, " %zu %.9g %s\n", i + 1, (double)result->scores[document].logit, r->tag);
    }
}

static void put_json(struct rr_buf *b, const struct rr_rank_list *list,
                     const struct rr_result *result, size_t n)
{
    struct rr_json_out o = { .buf = b };
    size_t i;

    rr_out_object(&o, NULL);
    rr_out_text(&o, "id", list->id);
    rr_out_array(&o, "results");
    for (i = 0; i < n; i++) {
        const struct rr_score *s = &result->scores[result->order[i]];

        rr_out_object(&o, NULL);
        rr_out_uint(&o, "index", result->order[i]);
        if (list->ids) rr_out_text(&o, "id", list->ids[result->order[i]]);
        rr_out_double(&o, "score", s->score);
        rr_out_printf(&o, "logit", "%.9g", (double)s->logit);
        if (s->truncated) rr_out_bool(&o, "truncated", true);
        rr_out_end(&o);
    }
    rr_out_end(&o);
    rr_out_end(&o);
    rr_buf_putc(b, '\n');
}

int rr_ranking_add(struct rr_ranking *r, const struct rr_rank_list *list,
                   const struct rr_result *result, struct rr_error *err)
{
    size_t n = r->top ? RR_MIN(result->n_documents, (size_t)r->top) : result->n_documents;

    rr_buf_clear(&r->line);
    if (r->trec)
        put_trec(&r->line, r, list, result, n);
    else
        put_json(&r->line, list, result, n);
    if (r->line.failed) return rr_fail(err, RR_ENOMEM, "out of memory for the output");
    if (fwrite(r->line.data, 1, r->line.len, r->file) != r->line.len || fflush(r->file))
        return io_error(r, "cannot be written", err);
    return RR_OK;
}
