/* SPDX-License-Identifier: Apache-2.0 */
/* null.c - see null.h. */
#include "engine/null.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

bool rr_null_is(const char *device)
{
    return strcmp(device, "null") == 0 || strncmp(device, "null:", 5) == 0;
}

/* "name=123" at s; moves s behind it and a comma. */
static bool number(const char **s, const char *name, uint64_t *out)
{
    size_t len = strlen(name);
    char *end;

    if (strncmp(*s, name, len) != 0 || (*s)[len] < '0' || (*s)[len] > '9') return false;
    *out = strtoull(*s + len, &end, 10);
    if (*end != 0 && *end != ',') return false;
    *s = *end ? end + 1 : end;
    return true;
}

int rr_null_parse(struct rr_null *out, const char *device, struct rr_error *err)
{
    const char *s = device + strlen("null");
    uint64_t base_us = 0, token_ns = 0;

    if (*s) s++;
    while (*s)
        if (!number(&s, "base_us=", &base_us) && !number(&s, "per_token_ns=", &token_ns))
            return rr_fail(err, RR_EINVAL,
                           "device is \"%s\", expected null or "
                           "null:base_us=N,per_token_ns=N",
                           device);
    if (base_us > 3600 * UINT64_C(1000000) || token_ns > RR_SECOND)
        return rr_fail(err, RR_EINVAL,
                       "device is \"%s\": more than an hour for a batch, or than a "
                       "second for a token",
                       device);
    *out = (struct rr_null){ base_us * 1000, token_ns };
    return RR_OK;
}

/* ---- tokenizer ------------------------------------------------------------------------------- */

/* JSON that is written with ' for ". */
static void put(struct rr_buf *json, const char *text)
{
    for (; *text; text++) rr_buf_putc(json, *text == '\'' ? '"' : *text);
}

/* Encoding takes the bytes as they are (rr_tok_take_bytes).  The rest of a tokenizer is for its
 * template and for the way back, so each byte has a piece, and there are no merges. */
static void put_json(struct rr_buf *json)
{
    static const char added[] =
        "'special':true,'normalized':false,'single_word':false,'lstrip':false,'rstrip':false}";
    static const char first[] = "{'SpecialToken':{'id':'<null:start>','type_id':0}},"
                                "{'Sequence':{'id':'A','type_id':0}},"
                                "{'SpecialToken':{'id':'<null:end>','type_id':0}}";

    put(json, "{'added_tokens':[{'id':256,'content':'<null:start>',");
    put(json, added);
    put(json, ",{'id':257,'content':'<null:end>',");
    put(json, added);
    put(json, "],'model':{'type':'BPE','merges':[],'vocab':{");
    for (unsigned b = 0; b < 256; b++) rr_buf_printf(json, "%s\"<0x%02X>\":%u", b ? "," : "", b, b);
    put(json, "}},'decoder':{'type':'ByteFallback'},");
    put(json, "'post_processor':{'type':'TemplateProcessing','single':[");
    put(json, first);
    put(json, "],'pair':[");
    put(json, first);
    put(json, ",{'Sequence':{'id':'B','type_id':0}},"
              "{'SpecialToken':{'id':'<null:end>','type_id':0}}],'special_tokens':{"
              "'<null:start>':{'id':'<null:start>','ids':[256],'tokens':['']},"
              "'<null:end>':{'id':'<null:end>','ids':[257],'tokens':['']}}}}");
}

int rr_null_tokenizer(struct rr_tok **out, struct rr_error *err)
{
    struct rr_buf json;
    int rc;

    *out = NULL;
    rr_buf_init(&json, RR_MEM_TOKENIZER, 16384);
    put_json(&json);
    if (json.failed)
        rc = rr_fail(err, RR_ENOMEM, "out of memory for the null tokenizer");
    else
        rc = rr_tok_parse(out, (struct rr_text){ json.data, json.len }, "null", err);
    rr_buf_free(&json);
    if (!rc) rr_tok_take_bytes(*out);
    return rc;
}

/* ---- forward --------------------------------------------------------------------------------- */

static float hash_logit(const int32_t *ids, uint32_t n)
{
    uint64_t h = UINT64_C(14695981039346656037);
    uint32_t i;

    for (i = 0; i < n; i++) h = (h ^ (uint64_t)ids[i]) * UINT64_C(1099511628211);
    return (float)(h >> 40) / 1048576.0f - 8.0f; /* 24 bits: exact */
}

void rr_null_forward(const struct rr_null *null, const struct rr_sequences *seqs, float *logits)
{
    uint64_t ns = null->base_ns + null->token_ns * seqs->n_tokens;
    struct timespec ts = { (time_t)(ns / RR_SECOND), (long)(ns % RR_SECOND) };
    uint32_t i;

    for (i = 0; i < seqs->n_sequences; i++)
        logits[i] = hash_logit(seqs->ids + seqs->cu_seqlens[i],
                               seqs->cu_seqlens[i + 1] - seqs->cu_seqlens[i]);
    if (ns) clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}
