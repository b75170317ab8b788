/* SPDX-License-Identifier: Apache-2.0 */
/* trec.h - lines of the text forms that retrieval people exchange: runs and relevance judgements.
 * Layer: cli (L6).  Threads: any.  Source: the trec_eval README, "format of the input files". */
#ifndef RR_CLI_TREC_H
#define RR_CLI_TREC_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_types.h"

/* "query Q0 document rank score tag"; views into the line. */
struct rr_run_line {
    struct rr_text query, document, tag;
    float score; /* trec_eval orders by 32 bits, too */
};

/* "query iteration document relevance", or "query document relevance" as BEIR writes it. */
struct rr_judgement {
    struct rr_text query, document;
    int32_t relevance;
};

/* RR_EFORMAT says what was found; where is the file and line_no its line, from 1.  *got is false
 * for a blank line and, in judgements, for BEIR's heading in line 1. */
RR_NODISCARD int rr_trec_run_line(struct rr_run_line *out, struct rr_text line, const char *where,
                                  uint64_t line_no, bool *got, struct rr_error *err);
RR_NODISCARD int rr_trec_judgement(struct rr_judgement *out, struct rr_text line, const char *where,
                                   uint64_t line_no, bool *got, struct rr_error *err);

/* Whether a run can hold id: not empty, without white space. */
bool rr_trec_is_word(struct rr_text id);

#endif
