/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_text.c - any bytes as a text, through every kind of tokenizer.  Checks what must hold for all
 * texts: a limit gives a part of the whole, offsets lie inside and do not change ids. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/text.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const folders[] = {
    "tests/golden/models/tiny-xlmr", "tests/golden/models/tiny-xlmr-odd",
    "tests/golden/models/tiny-bert", "tests/golden/models/tiny-roberta",
    "tests/golden/models/tiny-qwen3",
};
static struct rr_tok *toks[RR_COUNT(folders)];
static struct rr_tok_scratch *all[RR_COUNT(folders)], *part[RR_COUNT(folders)];

static void open_all(void)
{
    struct rr_error err = { 0 };
    size_t i;

    for (i = 0; i < RR_COUNT(folders); i++)
        if (rr_tok_open(&toks[i], folders[i], NULL, &err) ||
            rr_tok_scratch_open(&all[i], toks[i], &err) ||
            rr_tok_scratch_open(&part[i], toks[i], &err))
            abort(); /* started from another folder than the repository's root? */
}

static void check(size_t i, struct rr_text text)
{
    struct rr_error err = { 0 };
    struct rr_tok_ids a, b;
    uint32_t limit = text.len ? 1 + (unsigned char)text.data[0] % 40 : 1, k;
    struct rr_buf buf;
    int rc = rr_tok_encode(toks[i], all[i], text, 0, 0, &a, &err);

    if (rr_utf8_invalid(text) != SIZE_MAX) return; /* refused, unless a special token hid it */
    if (rc) abort();
    if (rr_tok_encode(toks[i], part[i], text, limit, 0, &b, &err)) abort();
    if (b.n != RR_MIN(a.n, limit) || b.cut != (a.n > limit)) abort();
    if (b.n && memcmp(a.ids, b.ids, b.n * sizeof(*b.ids)) != 0) abort();
    if (rr_tok_encode(toks[i], part[i], text, 0, RR_TOK_OFFSETS, &b, &err) || b.n != a.n) abort();
    for (k = 0; k < b.n; k++) {
        if (b.ids[k] != a.ids[k] || (uint32_t)b.ids[k] >= rr_tok_vocab_size(toks[i])) abort();
        if (b.starts[k] > b.ends[k] || b.ends[k] > text.len) abort();
    }
    rr_buf_init(&buf, RR_MEM_MISC, 64u << 20);
    if (a.n && rr_tok_decode(toks[i], a.ids, a.n, false, &buf, &err)) abort();
    rr_buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t i;

    if (!toks[0]) open_all();
    for (i = 0; i < RR_COUNT(folders); i++) check(i, (struct rr_text){ (const char *)data, size });
    return 0;
}
