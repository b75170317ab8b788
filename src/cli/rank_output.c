/* SPDX-License-Identifier: Apache-2.0 */
/* rank_output.c - results of "rerankd rank", and what an interrupted run has left of them.
 * Layer: cli (L6).  Threads: one.
 *
 * A run that was killed leaves a prefix of its output.  In JSONL a list is a line, so every line
 * with its end is whole.  In TREC form a list is several lines and nothing tells which is its last,
 * so the last query is cut off and ranked again.  Nothing is cut off before the rest is known to be
 * the output of the same input: the file could be any other one, named by mistake. */
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
#include "cli/cli.h"
#include "cli/rank.h"
#include "cli/trec.h"

#define LINE_LIMIT ((size_t)1 << 30)

static int io_error(struct rr_ranking *r, const char *what, struct rr_error *err)
{
    r->cannot_write = true;
    return rr_fail_errno(err, RR_EIO, r->path ? r->path : "standard output", what, errno);
}

/* ---- what is there -------------------------------------------------------------------------- */

/* Where a TREC file's last query begins, or a JSONL file's last unfinished line; and where the last
 * line with an end ends. */
static int find_ends(struct rr_ranking *r, struct rr_error *err)
{
    struct rr_file file;
    size_t at, next;
    struct rr_text last = { NULL, 0 };
    int rc = rr_file_map(&file, r->path, err);

    if (rc) return rc;
    for (at = 0; at < file.len; at = next) {
        const char *newline = memchr(file.data + at, '\n', file.len - at);
        struct rr_text word = { file.data + at, 0 };

        if (!newline) break;
        next = (size_t)(newline - file.data) + 1;
        r->lines = next;
        if (!r->trec) {
            r->whole = next;
            continue;
        }
        while (word.data[word.len] != ' ' && word.data[word.len] != '\n') word.len++;
        if (!last.data || !rr_text_eq(word, last)) r->whole = at;
        last = word;
    }
    rr_file_unmap(&file);
    return RR_OK;
}

int rr_ranking_open(struct rr_ranking *r, const char *path, bool resume, struct rr_error *err)
{
    int rc;

    r->path = path;
    r->done.fd = -1;
    rr_buf_init(&r->line, RR_MEM_MISC, LINE_LIMIT);
    if (!path || !rr_file_exists(path)) return RR_OK;
    if (!resume)
        return rr_fail(err, RR_EINVAL,
                       "%s is there already: remove it, or say --resume to go on with it", path);
    rc = find_ends(r, err);
    if (!rc) rc = rr_source_open(&r->done, path, RR_FORMAT_LINES, err);
    if (!r->trec) r->done.max_line = RR_SOURCE_LIST;
    r->resuming = true;
    return rc;
}

int rr_ranking_begin(struct rr_ranking *r, struct rr_error *err)
{
    if (!r->path) {
        r->file = stdout;
        return RR_OK;
    }
    if (r->resuming && truncate(r->path, (off_t)r->whole)) return io_error(r, "cannot be cut", err);
    r->file = fopen(r->path, "ae");
    return r->file ? RR_OK : io_error(r, "cannot be written", err);
}

int rr_ranking_close(struct rr_ranking *r, struct rr_error *err)
{
    int rc = RR_OK;

    rr_source_close(&r->done);
    rr_free(r->last);
    rr_free(r->next);
    rr_buf_free(&r->line);
    if (r->path && r->file && fclose(r->file)) rc = io_error(r, "cannot be written", err);
    r->file = NULL;
    return rc;
}

static int not_ours(const struct rr_ranking *r, const char *found, const char *expected,
                    struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 ": found %.60s, expected %.60s", r->path,
                   r->done.lines, found, expected);
}

static int read_trec_id(const struct rr_ranking *r, struct rr_text line, char **id,
                        struct rr_error *err)
{
    struct rr_run_line row;
    bool got;
    int rc = rr_trec_run_line(&row, line, r->path, r->done.lines, &got, err);

    if (rc) return rc;
    if (!got || !rr_text_is(row.tag, r->tag)) return not_ours(r, "another tag", r->tag, err);
    *id = rr_strndup(RR_MEM_MISC, row.query.data, row.query.len);
    return RR_OK;
}

static int read_json_id(const struct rr_ranking *r, struct rr_text line, char **id, size_t *n,
                        struct rr_error *err)
{
    json_t *v;
    const char *text;
    int rc = rr_json_parse(&v, line, 0, RR_JSON_DUP_LAST, err);

    if (rc) {
        rr_fail_prefix(err, "%s: line %" PRIu64, r->path, r->done.lines);
        return RR_EFORMAT;
    }
    text = json_string_value(json_object_get(v, "id"));
    *n = json_array_size(json_object_get(v, "results"));
    if (text)
        *id = rr_strdup(RR_MEM_MISC, text);
    else
        rc = not_ours(r, "no \"id\"", "a result with one", err);
    json_decref(v);
    return rc;
}

/* The query of the next line, the caller's, and its results. */
static int read_id(struct rr_ranking *r, char **id, size_t *n, struct rr_error *err)
{
    struct rr_text line;
    bool got;
    int rc = rr_source_line(&r->done, &line, &got, err);

    *id = NULL;
    *n = 1;
    if (rc) return rc;
    rc = r->trec ? read_trec_id(r, line, id, err) : read_json_id(r, line, id, n, err);
    if (rc) {
        rr_fail_prefix(err, "not an output of this run");
        return rc;
    }
    return *id ? RR_OK : rr_fail(err, RR_ENOMEM, "%s: out of memory", r->path);
}

/* What will be cut off: lines like the others, and the start of one. */
static int check_tail(struct rr_ranking *r, struct rr_error *err)
{
    static const char json[] = "{\"id\":\"", trec[] = " Q0 ";
    struct rr_text line, want = rr_text(r->trec ? trec : json);
    bool got;
    int rc = RR_OK;

    while (!rc && r->done.bytes < r->lines) {
        char *id;
        size_t n;

        rc = read_id(r, &id, &n, err);
        rr_free(id);
    }
    if (!rc) rc = rr_source_line(&r->done, &line, &got, err);
    if (rc || !got) return rc;
    while (r->trec && line.len && *line.data != ' ') line.data++, line.len--;
    if (memcmp(line.data, want.data, RR_MIN(line.len, want.len)) == 0) return RR_OK;
    rc = not_ours(r, "something else", "the start of a result", err);
    rr_fail_prefix(err, "not an output of this run");
    return rc;
}

/* Reads one line ahead into next; NULL where no whole list is left. */
static int read_ahead(struct rr_ranking *r, struct rr_error *err)
{
    rr_free(r->next);
    r->next = NULL;
    return r->done.bytes < r->whole ? read_id(r, &r->next, &r->n_next, err) : RR_OK;
}

int rr_ranking_done(struct rr_ranking *r, const char **id, size_t *n, struct rr_error *err)
{
    int rc = RR_OK;

    *id = NULL;
    *n = 0;
    if (!r->resuming) return RR_OK;
    if (!r->last) rc = read_ahead(r, err);
    if (rc) return rc;
    if (!r->next) return check_tail(r, err);
    rr_free(r->last);
    r->last = r->next;
    r->next = NULL;
    *n = r->n_next;
    rc = read_ahead(r, err);
    while (!rc && r->trec && r->next && strcmp(r->next, r->last) == 0) {
        ++*n;
        rc = read_ahead(r, err);
    }
    if (!rc) *id = r->last;
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Readers of runs refuse a document that is there twice: it would count twice. */
static int check_unique(const struct rr_rank_list *list, struct rr_error *err)
{
    struct rr_ids ids = { 0 };
    uint32_t number;
    int rc = RR_OK;

    for (size_t i = 0; i < list->n && !rc; i++) {
        rc = rr_ids_add(&ids, NULL, list->ids[i], &number, err);
        if (!rc && number < i)
            rc = rr_fail(err, RR_EFORMAT,
                         "line %" PRIu64 ": query %.80s has document %.80s twice, which a TREC run "
                         "must not; --format jsonl takes it",
                         list->line, list->id.data, list->ids[i].data);
    }
    rr_ids_free(&ids);
    return rc;
}

int rr_ranking_check(const struct rr_ranking *r, const struct rr_rank_list *list,
                     struct rr_error *err)
{
    const struct rr_text *bad = rr_trec_is_word(list->id) ? NULL : &list->id;
    size_t i;

    for (i = 0; list->ids && i < list->n && !bad; i++)
        if (!rr_trec_is_word(list->ids[i])) bad = &list->ids[i];
    if (!r->trec) return RR_OK;
    if (!bad) return list->ids ? check_unique(list, err) : RR_OK;
    return rr_fail(err, RR_EFORMAT,
                   "line %" PRIu64 ": the id \"%.*s\" cannot be written in TREC form, expected one "
                   "word without spaces; --format jsonl takes any",
                   list->line, (int)RR_MIN(bad->len, 80), bad->data);
}

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

size_t rr_ranking_count(const struct rr_ranking *r, size_t n)
{
    return r->top ? RR_MIN(n, (size_t)r->top) : n;
}

int rr_ranking_add(struct rr_ranking *r, const struct rr_rank_list *list,
                   const struct rr_result *result, struct rr_error *err)
{
    size_t n = rr_ranking_count(r, result->n_documents);
    int code, e, rc;

    rr_buf_clear(&r->line);
    if (r->trec)
        put_trec(&r->line, r, list, result, n);
    else
        put_json(&r->line, list, result, n);
    if (r->line.failed) return rr_fail(err, RR_ENOMEM, "out of memory for the output");
    if (fwrite(r->line.data, 1, r->line.len, r->file) == r->line.len && !fflush(r->file))
        return RR_OK;
    e = errno;
    rc = io_error(r, "cannot be written", err);
    r->told = !r->path;
    if (r->told) rr_cli_output_failed(e, &code);
    return rc;
}
