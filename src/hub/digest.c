/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - digests by GnuTLS, which libmicrohttpd brings along.  Layer: hub (L5).
 * Threads: any. */
#include "hub/digest.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define PIECE ((size_t)1 << 20)

static int add_file(gnutls_hash_hd_t hash, int fd, uint64_t size, char *piece,
                    bool (*tick)(void *user), void *user, struct rr_error *err)
{
    uint64_t at = 0;

    while (at < size) {
        ssize_t n = pread(fd, piece, RR_MIN(PIECE, size - at), (off_t)at);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return rr_fail(err, RR_EIO, "cannot read back what was written");
        if (gnutls_hash(hash, piece, (size_t)n) < 0)
            return rr_fail(err, RR_EINTERNAL, "GnuTLS does not hash");
        at += (uint64_t)n;
        if (tick && !tick(user)) return rr_fail(err, RR_ECANCELED, "interrupted");
    }
    return RR_OK;
}

int rr_digest_check(int fd, uint64_t size, const char *blob, bool *same, bool (*tick)(void *user),
                    void *user, struct rr_error *err)
{
    bool sha256 = strlen(blob) == 64;
    unsigned char sum[32];
    char header[40], text[65];
    char *piece = rr_alloc(RR_MEM_MISC, 1, PIECE);
    gnutls_hash_hd_t hash;
    int rc = RR_OK, len = snprintf(header, sizeof(header), "blob %llu", (unsigned long long)size);
    size_t i, n = sha256 ? 32 : 20;

    *same = false;
    if (!piece) return rr_fail(err, RR_ENOMEM, "out of memory");
    if (gnutls_hash_init(&hash, sha256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_SHA1) < 0) {
        rr_free(piece);
        return rr_fail(err, RR_ENOTSUP, "GnuTLS refuses %s on this machine",
                       sha256 ? "SHA-256" : "SHA-1");
    }
    if (!sha256 && gnutls_hash(hash, header, (size_t)len + 1) < 0)
        rc = rr_fail(err, RR_EINTERNAL, "GnuTLS does not hash");
    if (!rc) rc = add_file(hash, fd, size, piece, tick, user, err);
    gnutls_hash_deinit(hash, sum);
    rr_free(piece);
    if (rc) return rc;
    for (i = 0; i < n; i++) snprintf(text + 2 * i, 3, "%02x", sum[i]);
    *same = strcmp(text, blob) == 0;
    return RR_OK;
}
