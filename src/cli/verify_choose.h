/* SPDX-License-Identifier: Apache-2.0 */
/* verify_choose.h - which precision of a device to take: the table of "rerankd verify --choose".
 * Pure but for printing.  Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_VERIFY_CHOOSE_H
#define RR_CLI_VERIFY_CHOOSE_H

#include "cli/verify.h"

struct rr_candidate {
    const char *dtype;
    bool ran;   /* false: why says what the device said */
    bool holds; /* the gate; false: why says what is missing */
    char why[256];
    double per_second;              /* pairs */
    struct rr_verify_report report; /* against f32 */
};

/* The quickest of those that hold; the first of them when they are equal; n: none does.  rows[0] is
 * f32, which always holds when it is what the others are compared with. */
size_t rr_choose(const struct rr_candidate *rows, size_t n);

/* Why it was chosen, in a line, with the day of unix_time. */
void rr_choose_why(const struct rr_candidate *rows, size_t chosen, double unix_time, char *out,
                   size_t cap);

/* chosen: n for none.  against: what the rows are compared with, in f32; NULL: rows[0]. */
void rr_choose_text(FILE *out, const struct rr_info *info, const char *against,
                    const struct rr_candidate *rows, size_t n, size_t chosen);
void rr_choose_json(FILE *out, const struct rr_info *info, const char *against,
                    const struct rr_candidate *rows, size_t n, size_t chosen);

#endif
