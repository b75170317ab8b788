/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - hashes, random bytes and comparisons for keys, by GnuTLS.
 * Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_SECRET_H
#define RR_SERVER_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define RR_HASH_BYTES 32

/* HMAC-SHA-256 of text with salt as its key; false when the library cannot. */
RR_NODISCARD bool rr_secret_hash(uint8_t out[RR_HASH_BYTES], const uint8_t *salt, size_t salt_len,
                                 const char *text, size_t len);

/* Compares in a time that does not depend on the content. */
bool rr_secret_equal(const void *a, const void *b, size_t len);

/* Bytes for keys and salts; false when the system has none. */
RR_NODISCARD bool rr_secret_random(void *out, size_t len);

/* Decodes base64 into out, which gets a 0 after the bytes; false: not base64, or longer. */
bool rr_secret_base64(char *out, size_t cap, const char *text);

void rr_secret_hex(char *out, const uint8_t *bytes, size_t len); /* out: 2 * len + 1 */
bool rr_secret_unhex(uint8_t *out, size_t len, const char *text, size_t text_len);

#endif
