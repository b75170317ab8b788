/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors.c - any bytes as a safetensors file: an error, or a table that lies inside. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the parser promises about each entry and the lookup. */
static void check(const struct rr_safetensors *st, const char *file, size_t size)
{
    const char *at = file + rr_safetensors_header_bytes(st);
    const struct rr_safetensors_entry *e;
    size_t n;

    e = rr_safetensors_entries(st, &n);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = e[i].type->bits;

        if (e[i].data != at || e[i].rank > RR_SAFETENSORS_MAX_RANK) abort();
        at += e[i].end - e[i].begin;
        for (uint32_t d = 0; d < e[i].rank; d++) bits *= e[i].shape[d];
        if (bits != 8 * (e[i].end - e[i].begin)) abort();
        if (rr_safetensors_find(st, e[i].name) != &e[i]) abort();
    }
    if (at != file + size) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_text file = { (const char *)data, size };
    struct rr_safetensors *st;
    struct rr_error err = { 0, "" };
    int rc = rr_safetensors_parse(&st, file, "fuzz", &err);

    if (rc != err.code || (rc != RR_OK) != (st == NULL)) abort();
    if (rc && (strncmp(err.msg, "fuzz: ", 6) != 0 || strchr(err.msg, '\n'))) abort();
    if (st) check(st, file.data, size);
    rr_safetensors_close(st);
    return 0;
}
