/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h - all of rerank.h without a model, for tests of what uses it.
 * The score of a pair is what share of the query's words (bytes between blanks) the document holds,
 * the logit is 8 * share - 4.  One thread computes; tests can hold it, and make it fail. */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

/* While held, accepted requests wait; cancelled ones are given back all the same. */
void fake_engine_hold(bool hold);
/* While held, rr_open does not return. */
void fake_engine_hold_open(bool hold);
/* From now on: what rr_submit returns, and what on_done reports.  RR_OK: normal. */
void fake_engine_refuse(int code);
/* The same, after n more requests were taken. */
void fake_engine_refuse_after(size_t n, int code);
void fake_engine_fail(int code);
/* Blocks until that many requests are waiting, at most ten seconds; false: they never came. */
bool fake_engine_await(size_t waiting);
size_t fake_engine_canceled(void);
/* What rr_engine_health reports; NULL: healthy. */
struct rr_health;
void fake_engine_health(const struct rr_health *health);
/* Tokens that wait, besides those of requests, and the state of a shared cache. */
void fake_engine_queue(size_t tokens);
void fake_engine_shared(bool configured, bool up);
/* Engines opened after it say that they stand in for a GPU. */
void fake_engine_fallback(bool active);
/* Engines that are open. */
size_t fake_engine_open_count(void);
/* The share that the score is made of. */
double fake_engine_share(const char *query, size_t query_len, const char *doc, size_t doc_len);

#endif
