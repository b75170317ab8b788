/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_config.c - any bytes as a config.json: an error, or sizes that the rest may rely on. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct rr_model_config *c)
{
    if (!c->hidden || !c->heads || !c->head_dim || !c->layers || !c->intermediate) abort();
    if (!c->kv_heads || c->heads % c->kv_heads) abort();
    if (!c->vocab || !c->max_length || c->max_length > c->positions) abort();
    if (c->pad_id >= c->vocab || !(c->norm_eps >= 0 && c->norm_eps <= 1)) abort();
    if (!memchr(c->architecture, 0, sizeof(c->architecture)) || !c->architecture[0]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_text text = { (const char *)data, size };
    struct rr_model_config c;
    struct rr_error err = { 0, "" };
    int rc = rr_config_parse(&c, text, "fuzz", &err);

    if (rc != err.code) abort();
    if (rc && (strncmp(err.msg, "fuzz: ", 6) != 0 || strchr(err.msg, '\n'))) abort();
    if (!rc) check(&c);
    return 0;
}
