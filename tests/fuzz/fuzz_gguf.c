/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gguf.c - any bytes as a GGUF file: an error, or tensors that lie inside and can be decoded,
 * and a tokenizer.json or an error; and as a model: a config.json that is one, or an error. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/gguf_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const struct rr_gguf *g, const char *file, size_t size)
{
    const struct rr_gguf_tensor *t;
    size_t n;

    t = rr_gguf_tensors(g, &n);
    for (size_t i = 0; i < n; i++) {
        const char *begin = t[i].data;
        float block[256];

        if (begin < file + rr_gguf_header_bytes(g) || t[i].bytes > size ||
            begin > file + size - t[i].bytes)
            abort();
        if (t[i].rank == 0 || t[i].rank > RR_GGUF_MAX_RANK || t[i].elements % t[i].type->block)
            abort();
        rr_gguf_decode(t[i].type, block, begin, t[i].type->block);
    }
}

static void check_values(const struct rr_gguf *g)
{
    const struct rr_gguf_value *v;
    size_t n;

    v = rr_gguf_values(g, &n);
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;

        if (v[i].kind != RR_GGUF_ARRAY || v[i].element != RR_GGUF_TEXT) continue;
        for (uint64_t j = 0; j < v[i].n; j++) (void)rr_gguf_next_text(&v[i], &at);
        if (at != v[i].len) abort();
    }
}

/* What a model folder would hold. */
static void check_model(struct rr_text file)
{
    const struct rr_safetensors_entry *e;
    struct rr_error err = { 0, "" };
    struct rr_model_config config;
    struct rr_gguf_model *m;
    size_t n;
    int rc = rr_gguf_model_parse(&m, file, "fuzz", &err);

    if (rc != err.code || (rc != RR_OK) != (m == NULL)) abort();
    if (rc && (strncmp(err.msg, "fuzz: ", 6) != 0 || strchr(err.msg, '\n'))) abort();
    if (rc) return;
    e = rr_gguf_model_entries(m, &n);
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = e[i].type->bits / 8;
        volatile char last;

        for (uint32_t d = 0; d < e[i].rank; d++) bytes *= e[i].shape[d];
        if (bytes != e[i].end - e[i].begin || rr_gguf_model_find(m, e[i].name) == NULL) abort();
        if (bytes) last = ((const char *)e[i].data)[bytes - 1];
        (void)last;
    }
    rc = rr_config_parse(&config, rr_gguf_model_config(m), "fuzz", &err);
    if (rc && strncmp(err.msg, "fuzz: ", 6) != 0) abort();
    rr_gguf_model_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_text file = { (const char *)data, size };
    struct rr_error err = { 0, "" };
    struct rr_gguf *g;
    struct rr_buf json;
    int rc = rr_gguf_parse(&g, file, "fuzz", &err);

    if (rc != err.code || (rc != RR_OK) != (g == NULL)) abort();
    if (rc && (strncmp(err.msg, "fuzz: ", 6) != 0 || strchr(err.msg, '\n'))) abort();
    if (rc) return 0;
    check_tensors(g, file.data, size);
    check_values(g);
    rr_buf_init(&json, RR_MEM_MISC, (size_t)16 << 20);
    rc = rr_gguf_tokenizer(g, "fuzz", &json, &err);
    if (rc && strncmp(err.msg, "fuzz: ", 6) != 0) abort();
    rr_buf_free(&json);
    rr_gguf_close(g);
    check_model(file);
    return 0;
}
