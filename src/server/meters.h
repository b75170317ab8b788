/* SPDX-License-Identifier: Apache-2.0 */
/* meters.h - the metrics of metrics.def and their sets of labels.
 * Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_METERS_H
#define RR_SERVER_METERS_H

#include "base/attr.h"
#include "base/metrics.h"
#include "rerank.h"

enum rr_meter {
#define RR_METRIC(id, type, name, help, scale, labels, buckets) RR_M_##id,
#include "server/metrics.def"
#undef RR_METRIC
    RR_METERS
};

enum rr_meter_outcome { RR_OUTCOME_OK, RR_OUTCOME_ERROR, RR_OUTCOME_CANCELLED };
enum rr_meter_stage {
    RR_STAGE_PARSE,
    RR_STAGE_TOKENIZE,
    RR_STAGE_QUEUE,
    RR_STAGE_INFERENCE,
    RR_STAGE_SERIALIZE
};
enum rr_meter_reason {
    RR_REJECT_QUEUE_FULL,
    RR_REJECT_DEADLINE,
    RR_REJECT_INVALID,
    RR_REJECT_TOO_LARGE,
    RR_REJECT_DRAINING,
    RR_REJECT_NOT_READY,
    RR_REJECT_ERROR,
    RR_REJECT_MEMORY,
    RR_REJECT_UNAUTHORIZED, /* by key, address or route */
    RR_REJECT_RATE          /* the key's limit */
};
enum rr_meter_leave { RR_LEFT_READING, RR_LEFT_WAITING, RR_LEFT_WRITING };
enum rr_meter_handler {
    RR_HANDLER_RERANK,
    RR_HANDLER_ROOT,
    RR_HANDLER_HEALTH,
    RR_HANDLER_INFO,
    RR_HANDLER_LIVE,
    RR_HANDLER_READY,
    RR_HANDLER_METRICS,
    RR_HANDLER_MODELS,
    RR_HANDLER_ADMIN, /* needs the admin key */
    RR_HANDLER_ABOUT,
    RR_HANDLER_TOKENS,
    RR_HANDLER_UI, /* pages that hold nothing of this server, and ask for a key */
    RR_HANDLER_NONE
};

RR_NODISCARD int rr_meters_open(struct rr_metrics **out, struct rr_error *err);

/* Counts one answer. */
void rr_meters_answer(struct rr_metrics *m, enum rr_meter_handler handler, unsigned status);
/* Counts one rerank answer by the dialect's name; others than the known ones count as "none". */
void rr_meters_dialect(struct rr_metrics *m, const char *name);

/* Figures of the GPU that serves; NULL: none does. */
void rr_meters_gpu(struct rr_metrics *m, const struct rr_gpu *gpu);

/* Copies what is counted elsewhere (process, memory, engine; NULL: not open yet) into m. */
void rr_meters_refresh(struct rr_metrics *m, const struct rr_stats *stats);

/* The same numbers under text-embeddings-inference's names, for dashboards made for it. */
void rr_meters_write_tei(const struct rr_metrics *m, struct rr_buf *out);

/* A page about every metric, in Markdown. */
void rr_meters_markdown(struct rr_buf *out);

uint64_t rr_meters_resident(void); /* bytes of this process in memory; 0: not known */

#endif
