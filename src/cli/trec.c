/* SPDX-License-Identifier: Apache-2.0 */
/* trec.c - see trec.h.  Layer: cli (L6). */
#include "cli/trec.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

#define MAX_FIELDS 7 /* one more than any form has */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The words of a line; at most MAX_FIELDS are looked for. */
static size_t split(struct rr_text line, struct rr_text fields[MAX_FIELDS])
{
    size_t n = 0, at = 0, from;

    while (n < MAX_FIELDS) {
        while (at < line.len && is_space(line.data[at])) at++;
        if (at == line.len) break;
        from = at;
        while (at < line.len && !is_space(line.data[at])) at++;
        fields[n++] = (struct rr_text){ line.data + from, at - from };
    }
    return n;
}

/* The whole word as a finite number. */
static bool number(struct rr_text word, double *out)
{
    char text[64], *end;

    if (word.len == 0 || word.len >= sizeof(text)) return false;
    memcpy(text, word.data, word.len);
    text[word.len] = 0;
    *out = strtod(text, &end);
    return *end == 0 && isfinite(*out);
}

static int check_utf8(struct rr_text line, const char *where, uint64_t line_no,
                      struct rr_error *err)
{
    if (rr_utf8_invalid(line) == SIZE_MAX && !memchr(line.data, 0, line.len)) return RR_OK;
    return rr_fail(err, RR_EFORMAT, "%s: line %" PRIu64 " is not text in UTF-8", where, line_no);
}

int rr_trec_run_line(struct rr_run_line *out, struct rr_text line, const char *where,
                     uint64_t line_no, bool *got, struct rr_error *err)
{
    struct rr_text f[MAX_FIELDS];
    size_t n = split(line, f);
    double score;

    *got = n > 0;
    if (n == 0) return RR_OK;
    if (n != 6)
        return rr_fail(err, RR_EFORMAT,
                       "%s: line %" PRIu64 ": found %zu%s words, expected 6: query Q0 document "
                       "rank score tag",
                       where, line_no, n, n == MAX_FIELDS ? " or more" : "");
    if (!number(f[4], &score) || !isfinite((float)score))
        return rr_fail(err, RR_EFORMAT,
                       "%s: line %" PRIu64 ": the fifth word is no score, expected a number", where,
                       line_no);
    *out = (struct rr_run_line){ f[0], f[2], f[5], (float)score };
    return check_utf8(line, where, line_no, err);
}

int rr_trec_judgement(struct rr_judgement *out, struct rr_text line, const char *where,
                      uint64_t line_no, bool *got, struct rr_error *err)
{
    struct rr_text f[MAX_FIELDS];
    size_t n = split(line, f);
    double level;

    *got = n > 0;
    if (n == 0) return RR_OK;
    if (n != 3 && n != 4)
        return rr_fail(err, RR_EFORMAT,
                       "%s: line %" PRIu64 ": found %zu words, expected 4: query 0 document "
                       "relevance, or BEIR's 3: query document relevance",
                       where, line_no, n);
    if (!number(f[n - 1], &level)) {
        if (line_no == 1 && n == 3) { /* query-id corpus-id score */
            *got = false;
            return RR_OK;
        }
        return rr_fail(err, RR_EFORMAT,
                       "%s: line %" PRIu64 ": the last word is no relevance, expected an integer",
                       where, line_no);
    }
    if (level != floor(level) || fabs(level) > 1000)
        return rr_fail(err, RR_EFORMAT,
                       "%s: line %" PRIu64 ": relevance is %g, expected an integer of at most 1000",
                       where, line_no, level);
    *out = (struct rr_judgement){ f[0], f[n - 2], (int32_t)level };
    return check_utf8(line, where, line_no, err);
}

bool rr_trec_is_word(struct rr_text id)
{
    size_t i;

    for (i = 0; i < id.len; i++)
        if ((unsigned char)id.data[i] <= ' ') return false;
    return id.len > 0;
}
