/* SPDX-License-Identifier: Apache-2.0 */
/* packed.c - see packed.h. */
#include "quant/packed.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/file.h"

#define MAGIC "RRPACK\r\n"
#define VERSION 3 /* raised by every change of the header or of what packing writes */

struct header { /* native byte order: the file stays on its machine */
    char magic[8];
    uint64_t version;
    struct rr_packed_key key;
    uint64_t data_hash;   /* XXH3 of the weights */
    uint64_t header_hash; /* XXH3 of the fields before */
};

_Static_assert(sizeof(struct header) <= RR_PACKED_HEADER, "the header has room");
_Static_assert(sizeof(struct header) == 56, "no padding is written");

uint64_t rr_packed_mix(uint64_t hash, uint64_t value)
{
    return XXH3_64bits_withSeed(&value, sizeof(value), hash);
}

static uint64_t hash_header(const struct header *h)
{
    return XXH3_64bits(h, offsetof(struct header, header_hash));
}

int rr_packed_save(const char *path, char *block, const struct rr_packed_key *key,
                   struct rr_error *err)
{
    struct header h = { .magic = MAGIC, .version = VERSION, .key = *key };

    h.data_hash = XXH3_64bits(block + RR_PACKED_HEADER, (size_t)key->bytes);
    h.header_hash = hash_header(&h);
    memcpy(block, &h, sizeof(h));
    return rr_file_write(path, block, RR_PACKED_HEADER + (size_t)key->bytes, err);
}

int rr_packed_check(struct rr_text file, const struct rr_packed_key *key, struct rr_error *err)
{
    struct header h;

    if (file.len < RR_PACKED_HEADER)
        return rr_fail(err, RR_EFORMAT, "%zu bytes, expected at least %d", file.len,
                       RR_PACKED_HEADER);
    memcpy(&h, file.data, sizeof(h));
    if (memcmp(h.magic, MAGIC, sizeof(h.magic)) || h.version != VERSION)
        return rr_fail(err, RR_EFORMAT, "not a file of packed weights of version %d", VERSION);
    if (h.header_hash != hash_header(&h)) return rr_fail(err, RR_EFORMAT, "a damaged header");
    if (h.key.fingerprint != key->fingerprint)
        return rr_fail(err, RR_EFORMAT, "made from other weights");
    if (h.key.layout != key->layout || h.key.bytes != key->bytes)
        return rr_fail(err, RR_EFORMAT, "packed in another way");
    if (file.len - RR_PACKED_HEADER != key->bytes)
        return rr_fail(err, RR_EFORMAT, "%zu bytes, expected %" PRIu64, file.len,
                       key->bytes + RR_PACKED_HEADER);
    if (h.data_hash != XXH3_64bits(file.data + RR_PACKED_HEADER, (size_t)key->bytes))
        return rr_fail(err, RR_EFORMAT, "damaged weights");
    return RR_OK;
}
