/* SPDX-License-Identifier: Apache-2.0 */
/* secret.c - see secret.h. */
#include "server/secret.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

bool rr_secret_hash(uint8_t out[RR_HASH_BYTES], const uint8_t *salt, size_t salt_len,
                    const char *text, size_t len)
{
    return gnutls_hmac_fast(GNUTLS_MAC_SHA256, salt, salt_len, text, len, out) == 0;
}

bool rr_secret_equal(const void *a, const void *b, size_t len)
{
    return gnutls_memcmp(a, b, len) == 0;
}

bool rr_secret_random(void *out, size_t len)
{
    return gnutls_rnd(GNUTLS_RND_KEY, out, len) == 0;
}

bool rr_secret_base64(char *out, size_t cap, const char *text)
{
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)text, (unsigned)strlen(text) };
    gnutls_datum_t got = { NULL, 0 };
    bool fits;

    if (gnutls_base64_decode2(&in, &got) < 0) return false;
    fits = got.size < cap && !memchr(got.data, 0, got.size);
    if (fits) {
        memcpy(out, got.data, got.size);
        out[got.size] = 0;
    }
    gnutls_memset(got.data, 0, got.size);
    gnutls_free(got.data);
    return fits;
}

void rr_secret_hex(char *out, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = 0;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool rr_secret_unhex(uint8_t *out, size_t len, const char *text, size_t text_len)
{
    size_t i;

    if (text_len != 2 * len) return false;
    for (i = 0; i < len; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
