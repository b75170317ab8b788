/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_packed.c - any bytes as a file of packed weights: refused, or what save would have written.
 * The first 24 bytes are the key that is asked for. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "quant/packed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_error err = { 0, "" };
    struct rr_packed_key key;
    struct rr_text file;
    char *copy;
    int rc;

    if (size < sizeof(key)) return 0;
    memcpy(&key, data, sizeof(key));
    file = (struct rr_text){ (const char *)data + sizeof(key), size - sizeof(key) };
    copy = malloc(file.len + 1); /* of its own, so that a sanitizer sees reads past the end */
    if (!copy) return 0;
    memcpy(copy, file.data, file.len);
    rc = rr_packed_check((struct rr_text){ copy, file.len }, &key, &err);
    if (rc != err.code || (rc && rc != RR_EFORMAT)) abort();
    if (rc == RR_OK && file.len != RR_PACKED_HEADER + key.bytes) abort();
    free(copy);
    return 0;
}
