/* SPDX-License-Identifier: Apache-2.0 */
/* samples.c - see samples.h.  Layer: model (L4). */
#include "model/samples.h"

#include <xxhash.h>

#include "base/attr.h"

#define FILE_BYTES ((size_t)64 * 1024)
#define TENSOR_BYTES ((size_t)4096)

uint64_t rr_sample_file(const char *file, size_t len, size_t header, uint64_t seed)
{
    const char *data = file + header;
    size_t left = len - header, n = RR_MIN(left, FILE_BYTES);
    uint64_t size = len, h = XXH3_64bits_withSeed(file, header, seed);

    h = XXH3_64bits_withSeed(&size, sizeof(size), h);
    h = XXH3_64bits_withSeed(data, n, h);
    h = XXH3_64bits_withSeed(data + (left - n) / 2, n, h);
    return XXH3_64bits_withSeed(data + (left - n), n, h);
}

uint64_t rr_sample_tensor(const void *data, size_t len, uint64_t seed)
{
    size_t n = RR_MIN(len, TENSOR_BYTES);

    return XXH3_64bits_withSeed((const char *)data + (len - n) / 2, n, seed);
}
