/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c - any bytes as a tokenizer.json: opened or refused, and used if opened. */
#include <stdint.h>
#include <stdlib.h>

#include "base/text.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct rr_tok *tok)
{
    static const char text[] =
        "D\xc3\xa9lai de 14 jours  <s>a</s> \xed\x95\x9c\xe1\x84\x80 e\xcc\x81 don't \x00x";
    struct rr_tok_scratch *s = NULL;
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    int32_t out[32], types[32];
    uint32_t n, dropped;
    struct rr_buf buf;
    unsigned flags;

    rr_buf_init(&buf, RR_MEM_MISC, 1 << 20);
    if (rr_tok_scratch_open(&s, tok, &err)) abort();
    for (flags = 0; flags < 4; flags++) {
        struct rr_text t = { text, sizeof(text) - 1 };

        if (rr_tok_encode(tok, s, t, flags == 3 ? 5 : 0, flags, &ids, &err)) break;
        if (ids.n && rr_tok_decode(tok, ids.ids, ids.n, flags & 1, &buf, &err) == RR_OK &&
            buf.len && rr_utf8_invalid((struct rr_text){ buf.data, buf.len }) != SIZE_MAX)
            abort();
        if (rr_tok_pair(tok, &ids, &ids, 32, 0, out, types, &n, &dropped, &err) == RR_OK && n > 32)
            abort();
    }
    rr_tok_scratch_close(s);
    rr_buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_error err = { 0 };
    struct rr_tok *tok = NULL;

    if (rr_tok_parse(&tok, (struct rr_text){ (const char *)data, size }, "fuzz.json", &err) ==
        RR_OK)
        use(tok);
    else if (!err.msg[0] || tok)
        abort(); /* refused without a word */
    rr_tok_close(tok);
    return 0;
}
