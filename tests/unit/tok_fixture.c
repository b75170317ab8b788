/* SPDX-License-Identifier: Apache-2.0 */
/* tok_fixture.c - see tok_fixture.h. */
#include "tok_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void open_scratches(struct tok_fixture *f)
{
    struct rr_error err = { 0 };

    if (rr_tok_scratch_open(&f->a, f->tok, &err) || rr_tok_scratch_open(&f->b, f->tok, &err))
        fail_msg("%s", err.msg);
}

void tok_fixture_open(struct tok_fixture *f, const char *folder)
{
    struct rr_error err = { 0 };

    memset(f, 0, sizeof(*f));
    if (rr_tok_open(&f->tok, folder, NULL, &err)) fail_msg("%s", err.msg);
    open_scratches(f);
}

void tok_fixture_parse(struct tok_fixture *f, struct rr_text json, const char *name)
{
    struct rr_error err = { 0 };

    memset(f, 0, sizeof(*f));
    if (rr_tok_parse(&f->tok, json, name, &err)) fail_msg("%s", err.msg);
    open_scratches(f);
}

void tok_fixture_close(struct tok_fixture *f)
{
    rr_tok_scratch_close(f->a);
    rr_tok_scratch_close(f->b);
    rr_tok_close(f->tok);
}

unsigned tok_each_line(const char *path, tok_line_fn *fn, void *user)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    unsigned n = 0;

    if (!file) fail_msg("%s: cannot be read", path);
    while (getline(&line, &cap, file) > 0) {
        json_error_t where;
        json_t *row = json_loads(line, JSON_ALLOW_NUL, &where);

        if (!row) fail_msg("%s: line %u: %s", path, n + 1, where.text);
        fn(user, row);
        json_decref(row);
        n++;
    }
    free(line);
    fclose(file);
    return n;
}

struct rr_text tok_text(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);

    if (!json_is_string(v)) fail_msg("no string \"%s\"", key);
    return (struct rr_text){ json_string_value(v), json_string_length(v) };
}

int32_t *tok_single(struct tok_fixture *f, struct rr_text text, uint32_t *n)
{
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    int32_t *out, *types;
    uint32_t room, dropped;

    if (rr_tok_encode(f->tok, f->a, text, 0, 0, &ids, &err)) fail_msg("%s", err.msg);
    room = ids.n + 16;
    out = calloc(2 * (size_t)room, sizeof(*out));
    assert_non_null(out);
    types = out + room;
    if (rr_tok_single(f->tok, &ids, room, 0, out, types, n, &dropped, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(dropped, 0);
    return out;
}

int32_t *tok_pair(struct tok_fixture *f, struct rr_text a, struct rr_text b, uint32_t max_length,
                  unsigned flags, uint32_t max_tokens, int32_t **types, uint32_t *n)
{
    struct rr_error err = { 0 };
    struct rr_tok_ids ia, ib;
    int32_t *out = calloc(2 * (size_t)max_length, sizeof(*out));
    uint32_t dropped;

    assert_non_null(out);
    *types = out + max_length;
    if (rr_tok_encode(f->tok, f->a, a, 0, flags, &ia, &err)) fail_msg("%s", err.msg);
    if (max_tokens && max_tokens < ia.n) max_tokens = ia.n;
    if (rr_tok_encode(f->tok, f->b, b, max_tokens, flags, &ib, &err)) fail_msg("%s", err.msg);
    if (rr_tok_pair(f->tok, &ia, &ib, max_length, flags, out, *types, n, &dropped, &err))
        fail_msg("%s", err.msg);
    return out;
}

void tok_compare(const char *what, const char *which, const json_t *expected, const int32_t *ids,
                 uint32_t n)
{
    uint32_t i;

    if (json_array_size(expected) != n)
        fail_msg("%s, %s: %u tokens, expected %zu", what, which, n, json_array_size(expected));
    for (i = 0; i < n; i++)
        if (json_integer_value(json_array_get(expected, i)) != ids[i])
            fail_msg("%s, %s: [%u] is %d, expected %lld", what, which, i, (int)ids[i],
                     (long long)json_integer_value(json_array_get(expected, i)));
}

char *tok_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    char *text;

    if (!f || fseek(f, 0, SEEK_END)) fail_msg("%s: cannot be read", path);
    *len = (size_t)ftell(f);
    rewind(f);
    text = malloc(*len + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *len, f), *len);
    text[*len] = 0;
    fclose(f);
    return text;
}

const char *tok_shared(const char *name, char out[1024])
{
    const char *folder = getenv("RR_SHARED");

    snprintf(out, 1024, "%s/%s", folder && *folder ? folder : "../shared", name);
    return access(out, R_OK) ? NULL : out;
}
