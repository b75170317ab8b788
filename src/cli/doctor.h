/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.h - what "rerankd doctor" finds, between the looking and the telling.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_DOCTOR_H
#define RR_CLI_DOCTOR_H

#include <stdbool.h>

#include "options.h"
#include "rerank.h"

#define RR_DOCTOR_FILES 16
#define RR_DOCTOR_REMARKS 12
#define RR_DOCTOR_GPUS 8

struct rr_remark { /* a problem, or a warning, and what to do about it */
    bool problem;
    char what[640];
    char remedy[320];
};

struct rr_findings {
    const struct rr_settings *settings;
    struct rr_host host;
    struct rr_gpu gpus[RR_DOCTOR_GPUS]; /* those that compute rightly have a name */
    unsigned n_gpus;

    char cache[1100]; /* the folder, "" for none */
    const char *cache_state;

    const char *model; /* the folder */
    struct {
        char name[64];
        uint64_t bytes;
    } files[RR_DOCTOR_FILES];
    unsigned n_files, n_more_files;

    bool has_info; /* the model can be opened */
    struct rr_info info;

    char address[300];
    bool port_free;

    struct rr_remark remarks[RR_DOCTOR_REMARKS];
    unsigned n_remarks;
};

bool rr_doctor_ready(const struct rr_findings *f); /* no remark is a problem */
void rr_doctor_text(FILE *out, const struct rr_findings *f);
void rr_doctor_json(FILE *out, const struct rr_findings *f);

#endif
