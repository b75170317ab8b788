/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_compiled.c - any bytes as the compiled form of a tokenizer: left aside, or a vocabulary whose
 * every index is inside.  The checksum is made right, so that what it covers is reached. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tok/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FINGERPRINT = 16, FILE_LEN = 24, CHECKSUM = 32, HEADER = 80 }; /* offsets in tok/cache.c */

static void set(char *file, size_t at, uint64_t v)
{
    memcpy(file + at, &v, sizeof(v));
}

static void use(const struct rr_vocab *v, struct rr_text rest)
{
    volatile char last = 0;

    for (uint32_t i = 0; i < v->n && i < 1000; i++) {
        struct rr_text t = rr_vocab_piece(v, i);
        int32_t id = rr_vocab_find(v, t);

        if (id >= 0 && (uint32_t)id >= v->n) abort();
        if (t.len) last = t.data[t.len - 1];
        if (rr_vocab_merge(v, i, i + 1) && rr_vocab_merge(v, i, i + 1)->id >= v->n) abort();
        if (v->scores) last = (char)(v->scores[i] > 0);
    }
    (void)rr_vocab_find(v, (struct rr_text){ "the quick brown fox", 19 });
    if (rest.len) last = rest.data[rest.len - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_vocab v = { .n = 0 };
    struct rr_text rest;
    char *file;

    if (size < HEADER) return 0;
    file = malloc(size); /* of its own, so that a sanitizer sees reads past the end */
    if (!file) return 0;
    memcpy(file, data, size);
    set(file, FINGERPRINT, 1);
    set(file, FILE_LEN, size);
    set(file, CHECKSUM, XXH3_64bits(file + HEADER, size - HEADER));
    if (rr_vocab_view(&v, &rest, (struct rr_text){ file, size }, 1)) use(&v, rest);
    free(file);
    return 0;
}
