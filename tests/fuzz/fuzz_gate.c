/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gate.c - any bytes as a key file, a list of networks, X-Forwarded-For, Authorization, a list of
 * origins and a parsed head. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/auth.h"
#include "server/cors.h"
#include "server/frame.h"
#include "server/keys.h"
#include "server/nets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is written and read again: the same. */
static void run_keys(const char *text, size_t len)
{
    struct rr_keys keys, again;
    struct rr_error err = { 0 };
    struct rr_buf out;

    if (rr_keys_parse(&keys, text, len, "f", &err)) {
        if (!err.msg[0] || strchr(err.msg, '\n')) abort();
        rr_keys_free(&keys);
        return;
    }
    rr_buf_init(&out, RR_MEM_MISC, 8 << 20);
    rr_keys_put(&keys, &out);
    if (out.failed || rr_keys_parse(&again, out.data, out.len, "f", &err) || again.n != keys.n)
        abort();
    rr_keys_free(&keys);
    rr_keys_free(&again);
    rr_buf_free(&out);
}

static void run_strings(const char *s)
{
    static const uint8_t peer[16] = { [10] = 0xFF, [11] = 0xFF, [12] = 127, [15] = 1 };
    struct rr_addr client = { RR_ADDR_IP, { 0 } };
    struct rr_nets nets;
    struct rr_error err;
    char key[64], path[RR_PATH_MAX];
    unsigned status;

    if (rr_nets_parse(&nets, "127.0.0.0/8", "w", &err)) abort();
    memcpy(client.ip, peer, sizeof(peer));
    rr_addr_forwarded(&client, &nets, s);
    (void)!rr_nets_parse(&nets, s, "w", &err);
    if (rr_auth_extract(key, sizeof(key), s) && (!key[0] || strlen(key) >= sizeof(key))) abort();
    if (rr_cors_check(s, &err) == RR_OK && rr_text_listed(s, "null")) abort();
    (void)rr_frame_target(s, &status);
    (void)rr_frame_path(path, s, RR_GET);
    if (strlen(path) >= RR_PATH_MAX) abort();
    if (rr_frame_id(s) && strpbrk(s, "\r\n :")) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy;

    if (size > 65536) return 0;
    run_keys((const char *)data, size);
    copy = malloc(size + 1);
    if (!copy) abort();
    memcpy(copy, data, size);
    copy[size] = 0;
    run_strings(copy);
    (void)rr_frame_lines(copy, copy + size);
    free(copy);
    return 0;
}
