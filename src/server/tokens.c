/* SPDX-License-Identifier: Apache-2.0 */
/* tokens.c - see tokens.h.
 *
 * tokenize    {"inputs": text or list, "add_special_tokens"}
 *             -> [[{id, text, special, start, stop}]]
 *             vLLM: {"prompt": text} -> {"count", "max_model_len", "tokens": [ids]}
 *             llama.cpp: {"content": text} -> {"tokens": [ids]}
 * decode      {"ids": list or list of lists, "skip_special_tokens"} -> [texts]
 * detokenize  {"tokens": list} -> {"prompt": text, "content": text}: vLLM's and llama.cpp's keys */
#include "server/tokens.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/json_out.h"
#include "server/fields.h"
#include "server/handle.h"
#include "server/loader.h"

struct call { /* one request, read and found to be answerable */
    struct rr_server *server;
    struct rr_exchange *x;
    struct rr_engine *engine;
    json_t *root;
    struct rr_problem problem;
    struct rr_fields fields;
};

static int open_call(struct call *c, struct rr_server *s, struct rr_exchange *x)
{
    int phase = atomic_load(&s->phase);
    struct rr_error err;
    uint64_t again_ns;
    size_t replaced;

    *c = (struct call){ .server = s, .x = x };
    if (rr_request_json(s, x, &c->root, &replaced, &c->problem)) return -1;
    c->fields = (struct rr_fields){ .config = atomic_load(&s->parse),
                                    .root = c->root,
                                    .problem = &c->problem };
    if (rr_request_model(s, x, c->root, &c->problem)) return -1;
    c->engine = rr_phase_serves(phase) ? x->engine : NULL;
    if (c->engine) return 0;
    rr_problem_set(&c->problem, 503, "%s",
                   phase == RR_PHASE_DRAINING ? "the server is shutting down"
                                              : "the model is not loaded");
    c->problem.retry_after = 1;
    /* Whoever comes again finds it loaded. */
    if (rr_phase_serves(phase) && rr_loader_want(s->loader, x->model, &again_ns, &err))
        c->problem.retry_after += (unsigned)(again_ns / RR_SECOND);
    return -1;
}

static void close_call(struct call *c)
{
    c->x->status = 200;
    if (!c->problem.status && c->x->reply.failed)
        rr_problem_set(&c->problem, 503, "out of memory for this reply");
    if (c->problem.status)
        rr_reply_problem(c->x, c->x->pinned ? c->x->pinned : &rr_dialect_tei, &c->problem);
    json_decref(c->root);
}

static int engine_problem(struct call *c, const struct rr_error *err)
{
    rr_problem_engine(&c->problem, err, c->server->settings->overload_status);
    return -1;
}

/* ---- tokenize ----------------------------------------------------------------------------- */

static int tokenize(struct call *c, const char *path, const json_t *v, bool special,
                    struct rr_tokens **out)
{
    struct rr_text text = { json_string_value(v), json_string_length(v) };
    struct rr_error err = { 0 };

    if (!json_is_string(v)) return rr_fields_wrong_type(&c->fields, path, v, "a string");
    if (text.len > c->fields.config->max_document_bytes)
        return rr_problem_field(&c->problem, path, "string_too_long",
                                "%zu bytes, at most %zu are allowed (--max-document-bytes)",
                                text.len, c->fields.config->max_document_bytes);
    return rr_tokenize(c->engine, text, special, out, &err) ? engine_problem(c, &err) : 0;
}

/* Characters from byte a to byte b. */
static size_t span(const char *text, size_t a, size_t b)
{
    size_t n = 0;

    for (; a < b; a++) n += ((unsigned char)text[a] & 0xC0) != 0x80;
    return n;
}

/* The bytes of a token's place in text[len], widened to whole characters: a byte-level token can be
 * a part of one. */
static struct rr_text place(const char *text, size_t len, const struct rr_token *k)
{
    size_t start = k->start, end = k->end;

    while (start > 0 && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
    while (end < len && ((unsigned char)text[end] & 0xC0) == 0x80) end++;
    return (struct rr_text){ text + start, end - start };
}

/* Offsets count characters of the text. */
static void put_tokens(const struct call *c, const json_t *v, const struct rr_tokens *t,
                       struct rr_json_out *o)
{
    const char *text = json_string_value(v);
    size_t i, byte = 0, at = 0;

    rr_out_array(o, NULL);
    for (i = 0; i < t->n; i++) {
        const struct rr_token *k = &t->tokens[i];
        bool placed = k->end > k->start || !k->special;
        struct rr_text part =
            placed ? place(text, json_string_length(v), k) : rr_token_piece(c->engine, k->id);
        size_t start = placed ? (size_t)(part.data - text) : 0;

        rr_out_object(o, NULL);
        rr_out_int(o, "id", k->id);
        rr_out_text(o, "text", part);
        rr_out_bool(o, "special", k->special);
        if (placed) {
            if (start < byte) byte = at = 0; /* they rise, but nothing promises it */
            at += span(text, byte, start);
            byte = start;
            rr_out_uint(o, "start", at);
            rr_out_uint(o, "stop", at + span(text, byte, byte + part.len));
        } else {
            rr_out_null(o, "start");
            rr_out_null(o, "stop");
        }
        rr_out_end(o);
    }
    rr_out_end(o);
}

static int tokenize_inputs(struct call *c, json_t *inputs, bool special)
{
    struct rr_json_out o = { .buf = &c->x->reply };
    bool one = json_is_string(inputs);
    size_t n = one ? 1 : json_array_size(inputs), i;

    if (!one && !json_is_array(inputs))
        return rr_fields_wrong_type(&c->fields, "inputs", inputs, "a string or an array");
    if (n == 0) {
        rr_problem_set(&c->problem, 400, "`inputs` cannot be empty");
        c->problem.type = "Empty";
        return -1;
    }
    rr_out_array(&o, NULL);
    for (i = 0; i < n; i++) {
        const json_t *v = one ? inputs : json_array_get(inputs, i);
        struct rr_tokens *t;
        char path[32];

        snprintf(path, sizeof(path), one ? "inputs" : "inputs[%zu]", i);
        if (tokenize(c, path, v, special, &t)) return -1;
        put_tokens(c, v, t, &o);
        rr_tokens_free(t);
    }
    rr_out_end(&o);
    return 0;
}

static int tokenize_ids(struct call *c, const char *key, bool special)
{
    struct rr_json_out o = { .buf = &c->x->reply };
    struct rr_tokens *t;
    size_t i;

    if (tokenize(c, key, json_object_get(c->root, key), special, &t)) return -1;
    rr_out_object(&o, NULL);
    rr_out_array(&o, "tokens");
    for (i = 0; i < t->n; i++) rr_out_int(&o, NULL, t->tokens[i].id);
    rr_out_end(&o);
    rr_out_uint(&o, "count", t->n);
    rr_out_uint(&o, "max_model_len", rr_engine_info(c->engine)->max_length);
    rr_out_end(&o);
    rr_tokens_free(t);
    return 0;
}

void rr_tokens_tokenize(struct rr_server *s, struct rr_exchange *x)
{
    struct call c;
    bool special = true;

    if (open_call(&c, s, x) == 0) {
        json_t *inputs = rr_fields_get(c.root, "inputs");
        const char *key = rr_fields_get(c.root, "prompt") ? "prompt" : "content";
        bool ids = !inputs && rr_fields_get(c.root, key);

        /* llama.cpp adds none unless asked for, and calls it add_special */
        if (ids && key[0] == 'c') special = false;
        if (rr_fields_bool(&c.fields, c.root, "", "add_special", &special) == 0 &&
            rr_fields_bool(&c.fields, c.root, "", "add_special_tokens", &special) == 0) {
            if (ids)
                (void)tokenize_ids(&c, key, special);
            else if (inputs)
                (void)tokenize_inputs(&c, inputs, special);
            else
                rr_problem_field(&c.problem, "inputs", "missing", "Field required");
        }
    }
    close_call(&c);
}

/* ---- decode ------------------------------------------------------------------------------- */

static int put_decoded(struct call *c, const char *path, const json_t *list, bool skip)
{
    struct rr_text text = { NULL, 0 };
    struct rr_error err = { 0 };
    size_t n = json_array_size(list), i;
    int32_t *ids;
    int rc = 0;

    if (!json_is_array(list))
        return rr_fields_wrong_type(&c->fields, path, list, "an array of integers");
    ids = rr_alloc(RR_MEM_REQUEST, n + 1, sizeof(*ids));
    if (!ids) return rr_fields_no_memory(&c->fields);
    for (i = 0; i < n && !rc; i++) {
        const json_t *v = json_array_get(list, i);
        int64_t id;
        char where[RR_FIELD_PATH];

        snprintf(where, sizeof(where), "%s[%zu]", path, i);
        if (!rr_fields_whole(v, &id))
            rc = rr_fields_wrong_type(&c->fields, where, v, "an integer");
        else if (id < 0 || id > INT32_MAX)
            rc = rr_problem_field(&c->problem, where, "int_type", "is not the id of a token");
        else
            ids[i] = (int32_t)id;
    }
    if (!rc && rr_decode(c->engine, ids, n, skip, &text, &err)) rc = engine_problem(c, &err);
    if (!rc) rr_buf_json_string(&c->x->reply, text);
    rr_text_free(text);
    rr_free(ids);
    return rc;
}

static int decode(struct call *c)
{
    const json_t *ids = rr_fields_get(c->root, "ids"), *list;
    bool skip = true;
    size_t i;

    if (!ids) return rr_problem_field(&c->problem, "ids", "missing", "Field required");
    if (rr_fields_bool(&c->fields, c->root, "", "skip_special_tokens", &skip)) return -1;
    rr_buf_putc(&c->x->reply, '[');
    if (!json_is_array(json_array_get(ids, 0))) {
        if (put_decoded(c, "ids", ids, skip)) return -1;
    } else {
        json_array_foreach(ids, i, list)
        {
            char path[32];

            snprintf(path, sizeof(path), "ids[%zu]", i);
            if (i) rr_buf_putc(&c->x->reply, ',');
            if (put_decoded(c, path, list, skip)) return -1;
        }
    }
    rr_buf_putc(&c->x->reply, ']');
    return 0;
}

void rr_tokens_decode(struct rr_server *s, struct rr_exchange *x)
{
    struct call c;

    if (open_call(&c, s, x) == 0) (void)decode(&c);
    close_call(&c);
}

void rr_tokens_detokenize(struct rr_server *s, struct rr_exchange *x)
{
    struct call c;

    if (open_call(&c, s, x) == 0) {
        const json_t *tokens = rr_fields_get(c.root, "tokens");
        size_t from, to;

        rr_buf_puts(&x->reply, "{\"prompt\":");
        from = x->reply.len;
        if (!tokens) {
            rr_problem_field(&c.problem, "tokens", "missing", "Field required");
        } else if (put_decoded(&c, "tokens", tokens, false) == 0) {
            to = x->reply.len;
            rr_buf_puts(&x->reply, ",\"content\":");
            if (rr_buf_reserve(&x->reply, to - from))
                rr_buf_put(&x->reply, x->reply.data + from, to - from);
            rr_buf_putc(&x->reply, '}');
        }
    }
    close_call(&c);
}
