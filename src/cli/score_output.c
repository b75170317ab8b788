/* SPDX-License-Identifier: Apache-2.0 */
/* score_output.c - results of "rerankd score" as a table or as JSONL.
 * Layer: cli (L6).  Threads: one. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json_out.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/score.h"

#define BAR_COLUMNS 10
#define PREFIX_COLUMNS (6 + 2 + 6 + 2 + BAR_COLUMNS + 2) /* before the text in the table */
#define LINE_LIMIT ((size_t)128 << 20)
#define MIN_KEPT 1024 /* rows beyond the top that are kept before the worst are dropped */

void rr_results_init(struct rr_results *r)
{
    memset(r, 0, sizeof(*r));
    rr_buf_init(&r->line, RR_MEM_MISC, LINE_LIMIT);
    r->width = rr_cli_width(stdout);
    r->colors = rr_cli_colors(stdout);
}

static void drop_rows(struct rr_results *r, size_t from)
{
    size_t i;

    for (i = from; i < r->n; i++) rr_free(r->rows[i].text);
    r->n = RR_MIN(r->n, from);
}

void rr_results_free(struct rr_results *r)
{
    drop_rows(r, 0);
    rr_free(r->rows);
    r->rows = NULL;
    rr_buf_free(&r->line);
}

/* ---- printing ------------------------------------------------------------------------------- */

/* The fewest digits that read back as the same float. */
static void put_float(struct rr_buf *b, float v)
{
    char text[32];
    int digits;

    for (digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    rr_buf_puts(b, text);
}

static void print_json(struct rr_results *r, const struct rr_row *row)
{
    struct rr_buf *b = &r->line;
    struct rr_json_out o = { .buf = b };

    rr_buf_clear(b);
    rr_out_object(&o, NULL);
    rr_out_uint(&o, "index", row->index);
    rr_out_double(&o, "score", row->score.score);
    rr_out_key(&o, "logit");
    put_float(b, row->score.logit);
    if (row->score.truncated) rr_out_bool(&o, "truncated", true);
    if (row->text) rr_out_text(&o, "text", (struct rr_text){ row->text, row->text_len });
    rr_out_end(&o);
    rr_buf_putc(b, '\n');
    if (!b->failed) fwrite(b->data, 1, b->len, stdout);
}

/* Eighths of a column: U+2588 full, U+258F one eighth. */
static void put_bar(struct rr_buf *b, double score)
{
    unsigned eighths = (unsigned)(score * BAR_COLUMNS * 8 + 0.5), i;
    char c[4];

    for (i = 0; i < BAR_COLUMNS; i++, eighths -= RR_MIN(eighths, 8)) {
        if (eighths == 0)
            rr_buf_putc(b, ' ');
        else
            rr_buf_put(b, c, rr_utf8_put(c, 0x2590 - RR_MIN(eighths, 8)));
    }
}

/* One line whatever the text is: a control character could also command the terminal. */
static void put_line_of(struct rr_buf *b, const char *text, size_t len)
{
    size_t i;
    unsigned n;
    uint32_t cp;

    for (i = 0; i < len; i += n) {
        n = rr_utf8_next(text + i, len - i, &cp);
        if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029)
            rr_buf_putc(b, ' ');
        else
            rr_buf_put(b, text + i, n);
    }
}

static void put_text(struct rr_results *r, const struct rr_row *row)
{
    int room = r->width - PREFIX_COLUMNS;
    size_t fits = rr_cli_fit(row->text, row->text_len, room);

    if (fits < row->text_len) fits = rr_cli_fit(row->text, row->text_len, room - 1);
    put_line_of(&r->line, row->text, fits);
    if (fits < row->text_len) rr_buf_puts(&r->line, "\xE2\x80\xA6"); /* an ellipsis */
}

static void print_heading(struct rr_results *r)
{
    const char *number = rr_tr(r->french, r->sorted ? "rank" : "line");
    const char *score = rr_tr(r->french, "score"), *text = rr_tr(r->french, "text");

    printf("%s%*s%s  %-6s  %*s  %s%s\n", r->colors ? "\033[1m" : "",
           6 - rr_cli_columns(number, strlen(number)), "", number, score, BAR_COLUMNS, "",
           r->with_text ? text : "", r->colors ? "\033[0m" : "");
}

static void print_table_row(struct rr_results *r, const struct rr_row *row)
{
    struct rr_buf *b = &r->line;
    double score = row->score.score;
    const char *color = score >= 0.5 ? "\033[32m" : score >= 0.1 ? "\033[33m" : "\033[2m";

    if (r->n_printed == 0) print_heading(r);
    rr_buf_clear(b);
    rr_buf_printf(b, "%6llu  %.4f  ",
                  (unsigned long long)(r->sorted ? r->n_printed + 1 : row->index + 1), score);
    if (r->colors) rr_buf_puts(b, color);
    put_bar(b, score);
    if (r->colors) rr_buf_puts(b, "\033[0m");
    rr_buf_puts(b, "  ");
    if (row->text) put_text(r, row);
    while (b->len && b->data[b->len - 1] == ' ') b->len--;
    rr_buf_putc(b, '\n');
    if (!b->failed) fwrite(b->data, 1, b->len, stdout);
}

static void print_row(struct rr_results *r, const struct rr_row *row)
{
    if (r->table)
        print_table_row(r, row);
    else
        print_json(r, row);
    r->n_printed++;
}

/* ---- keeping -------------------------------------------------------------------------------- */

/* Best first, ties by the earlier line: the engine's order. */
static int by_logit(const void *a, const void *b)
{
    const struct rr_row *x = a, *y = b;

    if (x->score.logit != y->score.logit) return x->score.logit > y->score.logit ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_index(const void *a, const void *b)
{
    const struct rr_row *x = a, *y = b;

    return x->index < y->index ? -1 : x->index > y->index;
}

static void sort_rows(struct rr_results *r, int (*order)(const void *, const void *))
{
    if (r->n) qsort(r->rows, r->n, sizeof(r->rows[0]), order);
}

static int keep(struct rr_results *r, const struct rr_row *row, struct rr_error *err)
{
    struct rr_row *bigger;
    size_t cap;

    if (r->top && r->n >= 2 * (size_t)r->top + MIN_KEPT) {
        sort_rows(r, by_logit);
        drop_rows(r, r->top);
    }
    if (r->n == r->cap) {
        cap = r->cap ? 2 * r->cap : 256;
        bigger = rr_realloc(RR_MEM_MISC, r->rows, cap, sizeof(*r->rows));
        if (!bigger) return rr_fail(err, RR_ENOMEM, "out of memory for %zu results", cap);
        r->rows = bigger;
        r->cap = cap;
    }
    r->rows[r->n++] = *row;
    return RR_OK;
}

int rr_results_add(struct rr_results *r, uint64_t index, const struct rr_score *score,
                   struct rr_text text, struct rr_error *err)
{
    struct rr_row row = { .index = index, .score = *score, .text_len = text.len };
    int rc;

    if (r->with_text) {
        row.text = rr_strndup(RR_MEM_MISC, text.data, text.len);
        if (!row.text) return rr_fail(err, RR_ENOMEM, "out of memory for the results");
    }
    if (r->sorted || r->top) {
        rc = keep(r, &row, err);
        if (rc) rr_free(row.text);
        return rc;
    }
    print_row(r, &row);
    rr_free(row.text);
    return RR_OK;
}

void rr_results_finish(struct rr_results *r)
{
    size_t i;

    sort_rows(r, by_logit);
    if (r->top && r->n > r->top) drop_rows(r, r->top);
    if (!r->sorted) sort_rows(r, by_index);
    for (i = 0; i < r->n && !ferror(stdout); i++) print_row(r, &r->rows[i]);
    drop_rows(r, 0);
}
