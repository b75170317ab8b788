/* SPDX-License-Identifier: Apache-2.0 */
/* post.c - the section post_processor of the file, as two templates.  Layer: tok (L1). */
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"

static int add_item(const struct rr_field *f, struct rr_template *t, enum rr_template_what what,
                    uint32_t type, uint32_t id)
{
    struct rr_template_item *items;

    if (t->n == 256)
        return rr_fail(f->err, RR_ETOOBIG, "%s: %s: more than 256 items", f->file, f->path);
    items = rr_realloc(RR_MEM_TOKENIZER, t->items, t->n + 1u, sizeof(*items));
    if (!items) return rr_fail(f->err, RR_ENOMEM, "%s: out of memory", f->file);
    t->items = items;
    items[t->n++] = (struct rr_template_item){ what, (int32_t)type, (int32_t)id };
    t->specials += what == RR_TPL_TOKEN;
    return RR_OK;
}

static void clear(struct rr_template *t)
{
    t->n = t->specials = 0;
}

/* A special token by the name that the template uses: one or more ids. */
static int add_special(const struct rr_field *f, const struct rr_field *specials, const char *name,
                       uint32_t type, struct rr_template *t)
{
    struct rr_field entry;
    const json_t *ids;
    size_t i;
    int rc = rr_field_object(specials, name, RR_REQUIRED, &entry);

    if (!rc) rc = rr_field_array(&entry, "ids", RR_REQUIRED, &ids);
    for (i = 0; !rc && i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return rr_field_wrong(&entry, "ids", "an array of token ids");
        rc = add_item(f, t, RR_TPL_TOKEN, type, (uint32_t)json_integer_value(id));
    }
    return rc;
}

/* [{"SpecialToken": {"id", "type_id"}} or {"Sequence": {"id": "A" or "B", "type_id"}}, ...] */
static int read_template(const struct rr_field *f, const char *key, bool pair,
                         const struct rr_field *specials, struct rr_template *t)
{
    const json_t *list;
    struct rr_field piece, inner;
    size_t i;
    int rc = rr_field_array(f, key, RR_REQUIRED, &list);

    clear(t);
    for (i = 0; !rc && i < json_array_size(list); i++) {
        struct rr_text id = { "", 0 };
        uint32_t type = 0;
        bool special;

        rc = rr_field_element(f, key, list, i, &piece);
        if (rc) break;
        special = json_object_get(piece.obj, "SpecialToken") != NULL;
        rc = rr_field_object(&piece, special ? "SpecialToken" : "Sequence", RR_REQUIRED, &inner);
        if (!rc) rc = rr_field_text(&inner, "id", RR_REQUIRED, &id);
        if (!rc) rc = rr_field_u32(&inner, "type_id", RR_REQUIRED, 1 << 16, &type);
        if (rc) break;
        if (special)
            rc = add_special(f, specials, id.data, type, t);
        else if (rr_text_is(id, "A"))
            rc = add_item(f, t, RR_TPL_A, type, 0);
        else if (rr_text_is(id, "B") && pair)
            rc = add_item(f, t, RR_TPL_B, type, 0);
        else
            rc = rr_field_wrong(&inner, "id", pair ? "\"A\" or \"B\"" : "\"A\"");
    }
    return rc;
}

static int post_template(struct rr_tok *tok, const struct rr_field *f)
{
    struct rr_field specials;
    int rc = rr_field_object(f, "special_tokens", RR_REQUIRED, &specials);

    if (!rc) rc = read_template(f, "single", false, &specials, &tok->single);
    if (!rc) rc = read_template(f, "pair", true, &specials, &tok->pair);
    return rc;
}

/* ["</s>", 2] */
static int read_token(const struct rr_field *f, const char *key, uint32_t *id)
{
    const json_t *list, *v;
    int rc = rr_field_array(f, key, RR_REQUIRED, &list);

    if (rc) return rc;
    v = json_array_get(list, 1);
    if (json_array_size(list) != 2 || !json_is_string(json_array_get(list, 0)) ||
        !json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
        return rr_field_wrong(f, key, "[token, id]");
    *id = (uint32_t)json_integer_value(v);
    return RR_OK;
}

/* cls A sep [sep] B sep; RoBERTa has two separators and only type 0. */
static int post_bert(struct rr_tok *tok, const struct rr_field *f, bool roberta)
{
    uint32_t sep = 0, cls = 0, b = roberta ? 0 : 1;
    int rc = read_token(f, "sep", &sep);

    if (!rc) rc = read_token(f, "cls", &cls);
    if (!rc && roberta) rc = rr_field_bool(f, "trim_offsets", RR_REQUIRED, &tok->trim_offsets);
    if (!rc && roberta)
        rc = rr_field_bool(f, "add_prefix_space", RR_REQUIRED, &tok->trim_prefix_space);
    if (rc) return rc;
    clear(&tok->single);
    clear(&tok->pair);
    rc = add_item(f, &tok->single, RR_TPL_TOKEN, 0, cls);
    if (!rc) rc = add_item(f, &tok->single, RR_TPL_A, 0, 0);
    if (!rc) rc = add_item(f, &tok->single, RR_TPL_TOKEN, 0, sep);
    if (!rc) rc = add_item(f, &tok->pair, RR_TPL_TOKEN, 0, cls);
    if (!rc) rc = add_item(f, &tok->pair, RR_TPL_A, 0, 0);
    if (!rc) rc = add_item(f, &tok->pair, RR_TPL_TOKEN, 0, sep);
    if (!rc && roberta) rc = add_item(f, &tok->pair, RR_TPL_TOKEN, 0, sep);
    if (!rc) rc = add_item(f, &tok->pair, RR_TPL_B, b, 0);
    if (!rc) rc = add_item(f, &tok->pair, RR_TPL_TOKEN, b, sep);
    return rc;
}

struct post { /* while it is read */
    struct rr_tok *tok;
    bool has_template;
};

static int read_post(void *user, const struct rr_field *f, struct rr_text type)
{
    struct post *p = user;
    struct rr_tok *tok = p->tok;

    if (rr_text_is(type, "ByteLevel")) {
        bool trim = false;
        int rc = rr_field_bool(f, "trim_offsets", RR_REQUIRED, &trim);

        tok->trim_offsets |= trim;
        if (!rc) rc = rr_field_bool(f, "add_prefix_space", RR_REQUIRED, &tok->trim_prefix_space);
        return rc;
    }
    if (p->has_template)
        return rr_field_unknown(f, "type", type, "one processor that adds tokens, not two");
    p->has_template = true;
    if (rr_text_is(type, "TemplateProcessing")) return post_template(tok, f);
    if (rr_text_is(type, "RobertaProcessing")) return post_bert(tok, f, true);
    if (rr_text_is(type, "BertProcessing")) return post_bert(tok, f, false);
    return rr_field_unknown(f, "type", type,
                            "TemplateProcessing, RobertaProcessing, "
                            "BertProcessing, ByteLevel or Sequence");
}

int rr_load_post(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_field f;
    struct post p = { .tok = tok };
    int rc = rr_field_object(root, "post_processor", RR_OPTIONAL, &f);

    /* Without a template: the texts alone, of types 0 and 1. */
    if (!rc) rc = add_item(&f, &tok->single, RR_TPL_A, 0, 0);
    if (!rc) rc = add_item(&f, &tok->pair, RR_TPL_A, 0, 0);
    if (!rc) rc = add_item(&f, &tok->pair, RR_TPL_B, 1, 0);
    return rc || !f.obj ? rc : rr_field_steps(&f, "processors", read_post, &p);
}
