/* SPDX-License-Identifier: Apache-2.0 */
/* samples.h - which weights these are, told from a few pages of their files instead of all
 * gigabytes at each start.  Layer: model (L4).  Threads: any.
 *
 * Caches of scores, packed weights and choices of a precision are kept under the result, so two
 * models must not share one.  Weights that were trained on, or merged with an adapter, differ in
 * nearly all places of the tensors that were, and sometimes of few tensors: each is looked into. */
#ifndef RR_MODEL_SAMPLES_H
#define RR_MODEL_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

/* The header, the size, and 64 KiB at the data's start, middle and end. */
uint64_t rr_sample_file(const char *file, size_t len, size_t header, uint64_t seed);
/* The 4 KiB in its middle. */
uint64_t rr_sample_tensor(const void *data, size_t len, uint64_t seed);

#endif
