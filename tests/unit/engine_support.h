/* SPDX-License-Identifier: Apache-2.0 */
/* engine_support.h - engines on the devices "null" and "fault", requests and their ends. */
#ifndef TESTS_UNIT_ENGINE_SUPPORT_H
#define TESTS_UNIT_ENGINE_SUPPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "rerank.h"
#include "support/fake_backend.h"

#define TINY_MODEL "tests/golden/models/tiny-xlmr"

/* Options for a device; the model is TINY_MODEL, which "null" ignores. */
struct rr_options engine_options(const char *device);
/* Fails the test if it cannot be opened. */
struct rr_engine *engine_open(const struct rr_options *opt);
struct fault_control *engine_faults(void); /* [FAULT_DEVICES], all switched off */

/* What the devices answer for a pair of "null". */
float null_logit(struct rr_text query, struct rr_text document);

double seconds(void); /* monotonic */
void sleep_ms(long ms);

/* How the engine is; a reason must be there when it is not well, and only then. */
struct rr_health health(struct rr_engine *e);
/* Until the device is well; the test fails after so many seconds. */
void wait_until_well(struct rr_engine *e, double most);

void log_nothing(void *user, enum rr_log_level level, const char *line); /* for rr_set_log */

/* Documents "TAG 0", "TAG 1", ..., filled up with letters to len bytes. */
struct documents {
    struct rr_text *texts;
    size_t n;
};
struct documents documents_make(const char *tag, size_t n, size_t len);
void documents_free(struct documents *d); /* *d is empty again */

struct request { /* one in flight; result is freed by request_wait or request_drop */
    struct rr_request req;
    struct rr_ticket *ticket;
    struct rr_result *result;
    int code, calls;
    double submitted, ended;
};

/* Submits; anything but RR_OK fails the test. */
void request_start(struct rr_engine *e, struct request *r, const char *query,
                   const struct documents *d);
void request_wait(struct request *r); /* until on_done has come */
bool request_done(struct request *r);
void request_drop(struct request *r);

#endif
