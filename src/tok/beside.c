/* SPDX-License-Identifier: Apache-2.0 */
/* beside.c - see beside.h.  Layer: tok (L1). */
#include "tok/beside.h"

#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

#define MAX_FILE (16u << 20) /* bytes */

/* Integers are reals: for a model_max_length of "none" transformers writes 1e30, with all its 31
 * digits, which no integer of ours holds. */
static int load(json_t **root, char path[PATH_MAX], const char *folder, const char *name,
                struct rr_error *err)
{
    return rr_json_read_beside(root, path, folder, name, MAX_FILE, RR_JSON_REALS, err);
}

static bool type_is(const json_t *v, const char *type)
{
    const char *s = json_string_value(json_object_get(v, "type"));

    return s && strcmp(s, type) == 0;
}

/* obj[key] = v, which is taken over. */
static int set(json_t *obj, const char *key, json_t *v, struct rr_error *err)
{
    if (json_object_set_new(obj, key, v) == 0) return RR_OK;
    return rr_fail(err, RR_ENOMEM, "out of memory for a tokenizer");
}

/* ---- tokenizer_config.json ------------------------------------------------------------------ */

static int set_side(struct rr_tok_beside *out, json_t *root, const char *side, const char *path,
                    struct rr_error *err)
{
    json_t *cut = json_object_get(root, "truncation");
    const char *now = json_string_value(json_object_get(cut, "direction"));
    const char *direction = strcmp(side, "left") == 0 ? "Left" : "Right";
    int rc = RR_OK;

    if (strcmp(side, "left") != 0 && strcmp(side, "right") != 0)
        return rr_fail(err, RR_ENOTSUP, "%s: truncation_side is \"%.40s\", expected left or right",
                       path, side);
    if (strcmp(now ? now : "Right", direction) == 0) return RR_OK;
    out->changed = true;
    if (!json_is_object(cut)) { /* all that other readers of the file ask for */
        rc = set(root, "truncation",
                 json_pack("{s:I, s:s, s:i}", "max_length",
                           (json_int_t)(out->max_length ? out->max_length : INT32_MAX), "strategy",
                           "LongestFirst", "stride", 0),
                 err);
        cut = json_object_get(root, "truncation");
    }
    return rc ? rc : set(cut, "direction", json_string(direction), err);
}

/* Classes of transformers that make a stage of what their configuration and their own defaults say,
 * whatever the file says. */
enum kind {
    KIND_OTHER, /* takes the file as it is */
    KIND_GUESS, /* nothing tells; the network would have to: only what is said counts */
    KIND_BERT,
    KIND_ROBERTA,
    KIND_XLMR,
    KIND_DEBERTA,
    KIND_QWEN
};

static enum kind kind_named(struct rr_text name)
{
    static const struct {
        const char *name;
        enum kind kind;
    } known[] = { { "BertTokenizer", KIND_BERT },         { "ElectraTokenizer", KIND_BERT },
                  { "RobertaTokenizer", KIND_ROBERTA },   { "XLMRobertaTokenizer", KIND_XLMR },
                  { "DebertaV2Tokenizer", KIND_DEBERTA }, { "Qwen2Tokenizer", KIND_QWEN } };

    if (name.len > 4 && memcmp(name.data + name.len - 4, "Fast", 4) == 0) name.len -= 4;
    for (size_t i = 0; i < RR_COUNT(known); i++)
        if (rr_text_is(name, known[i].name)) return known[i].kind;
    return KIND_OTHER;
}

/* Whose tokenizer a network has where no class is named.  Two kinds ignore the name. */
static enum kind kind_of_network(const json_t *net, bool named, enum kind kind)
{
    static const struct {
        const char *type;
        enum kind kind;
        bool always;
    } known[] = { { "bert", KIND_BERT, false },          { "electra", KIND_BERT, false },
                  { "roberta", KIND_ROBERTA, false },    { "xlm-roberta", KIND_XLMR, false },
                  { "deberta-v2", KIND_DEBERTA, false }, { "qwen3", KIND_QWEN, false },
                  { "qwen2", KIND_QWEN, true },          { "modernbert", KIND_OTHER, true } };
    const char *type = json_string_value(json_object_get(net, "model_type"));

    for (size_t i = 0; type && i < RR_COUNT(known); i++)
        if (strcmp(type, known[i].type) == 0 && (known[i].always || !named)) return known[i].kind;
    return named || type ? kind : KIND_GUESS;
}

static int find_kind(enum kind *out, const json_t *config, const char *folder, struct rr_error *err)
{
    const json_t *name = json_object_get(config, "tokenizer_class");
    char path[PATH_MAX];
    json_t *net;
    int rc = load(&net, path, folder, "config.json", err);

    if (rc) return rc;
    if (!json_is_string(name)) name = json_object_get(net, "tokenizer_class");
    *out = json_is_string(name)
               ? kind_named((struct rr_text){ json_string_value(name), json_string_length(name) })
               : KIND_OTHER;
    *out = kind_of_network(net, json_is_string(name), *out);
    json_decref(net);
    return RR_OK;
}

/* What the configuration says, else the default of the class; NULL: nothing that counts. */
static json_t *said(const json_t *config, const char *key, enum kind kind, json_t *fallback)
{
    json_t *v = json_object_get(config, key);

    return v || kind == KIND_GUESS ? v : fallback;
}

static int set_bert(struct rr_tok_beside *out, json_t *root, const json_t *config, enum kind kind,
                    struct rr_error *err)
{
    static const char *const keys[][2] = { { "do_lower_case", "lowercase" },
                                           { "strip_accents", "strip_accents" },
                                           { "tokenize_chinese_chars", "handle_chinese_chars" } };
    json_t *norm = json_object_get(root, "normalizer");
    int rc = RR_OK;

    if (!type_is(norm, "BertNormalizer")) return RR_OK;
    for (size_t i = 0; i < RR_COUNT(keys) && !rc; i++) {
        json_t *v = said(config, keys[i][0], kind, i == 1 ? json_null() : json_true());
        bool null = json_is_null(v) && i == 1; /* strip_accents: as lowercase */

        if (!(json_is_boolean(v) || null) || json_equal(v, json_object_get(norm, keys[i][1])) == 1)
            continue;
        if (null && !json_object_get(norm, keys[i][1])) continue;
        out->changed = true;
        out->changes |= (json_is_true(v) ? 1u : null ? 2u : 3u) << (2 * i);
        rc = set(norm, keys[i][1], json_incref(v), err);
    }
    return rc;
}

/* A stage of the tokenizer, which may be a list of steps. */
struct stage {
    const char *key, *list;
};
static const struct stage normalizer = { "normalizer", "normalizers" };
static const struct stage pre_tokenizer = { "pre_tokenizer", "pretokenizers" };

/* The steps of a stage that is a list, or NULL. */
static json_t *steps_of(const json_t *root, const struct stage *s)
{
    json_t *own = json_object_get(root, s->key);

    return type_is(own, "Sequence") ? json_object_get(own, s->list) : NULL;
}

/* The stage, or a step of it, if it has this type, or NULL: what is deeper is not looked for, as
 * there. */
static json_t *step_of(const json_t *root, const struct stage *s, const char *type)
{
    json_t *own = json_object_get(root, s->key), *steps = steps_of(root, s);

    if (type_is(own, type)) return own;
    for (size_t i = 0; i < json_array_size(steps); i++)
        if (type_is(json_array_get(steps, i), type)) return json_array_get(steps, i);
    return NULL;
}

/* step, which is taken over, comes before all that the stage has. */
static int prepend_step(json_t *root, const struct stage *s, json_t *step, struct rr_error *err)
{
    json_t *own = json_object_get(root, s->key), *steps = steps_of(root, s);
    json_t *list = json_pack("[o]", step);

    if (!list || (steps ? json_array_extend(list, steps)
                        : json_is_object(own) && json_array_append(list, own))) {
        json_decref(list);
        return rr_fail(err, RR_ENOMEM, "out of memory for a tokenizer");
    }
    return set(root, s->key, json_pack("{s:s, s:o}", "type", "Sequence", s->list, list), err);
}

/* Texts become lower case before anything else. */
static int prepend_lowercase(json_t *root, struct rr_error *err)
{
    return prepend_step(root, &normalizer, json_pack("{s:s}", "type", "Lowercase"), err);
}

/* add_prefix_space of RoBERTa's and Qwen2's ByteLevel. */
static int set_byte_level(struct rr_tok_beside *out, json_t *root, const json_t *config,
                          enum kind kind, struct rr_error *err)
{
    json_t *v = said(config, "add_prefix_space", kind, json_false());
    json_t *step = step_of(root, &pre_tokenizer, "ByteLevel");

    if (json_is_null(v) && kind == KIND_QWEN) v = json_false();
    if (!step || !json_is_boolean(v) || json_equal(v, json_object_get(step, "add_prefix_space")))
        return RR_OK;
    out->changed = true;
    out->changes |= (json_is_true(v) ? 1u : 3u) << 8;
    return set(step, "add_prefix_space", json_incref(v), err);
}

/* And of the Metaspace of XLM-RoBERTa and DeBERTa. */
static int set_metaspace(struct rr_tok_beside *out, json_t *root, const json_t *config,
                         enum kind kind, struct rr_error *err)
{
    json_t *v = said(config, "add_prefix_space", kind, json_true());
    json_t *step = step_of(root, &pre_tokenizer, "Metaspace");
    const char *now = json_string_value(json_object_get(step, "prepend_scheme"));
    const char *scheme = json_is_true(v) ? "always" : kind == KIND_DEBERTA ? "first" : "never";

    if (!step || !json_is_boolean(v) || strcmp(now ? now : "always", scheme) == 0) return RR_OK;
    out->changed = true;
    out->changes |= (json_is_true(v) ? 1u : 3u) << 8;
    json_object_del(step, "add_prefix_space"); /* the older word for it */
    return set(step, "prepend_scheme", json_string(scheme), err);
}

/* DeBERTa's lower case and words apart from punctuation: what the file has of them stays. */
static int set_deberta(struct rr_tok_beside *out, json_t *root, const json_t *config,
                       struct rr_error *err)
{
    if (json_is_true(json_object_get(config, "do_lower_case")) &&
        !step_of(root, &normalizer, "Lowercase")) {
        int rc = prepend_lowercase(root, err);

        if (rc) return rc;
        out->changed = true;
        out->changes |= 1u << 10;
    }
    if (!json_is_true(json_object_get(config, "split_by_punct")) ||
        step_of(root, &pre_tokenizer, "Punctuation"))
        return RR_OK;
    out->changed = true;
    out->changes |= 1u << 11;
    return prepend_step(root, &pre_tokenizer,
                        json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Isolated"),
                        err);
}

/* What the class of the tokenizer does with its configuration.  Without that file nothing: a cache
 * that other programs fill may lack it, and defaults are wrong for what it says. */
static int set_stages(struct rr_tok_beside *out, json_t *root, const json_t *config,
                      const char *folder, struct rr_error *err)
{
    enum kind kind;
    int rc = find_kind(&kind, config, folder, err);

    if (rc) return rc;
    switch (kind) {
    case KIND_OTHER: return RR_OK;
    case KIND_GUESS:
        rc = set_bert(out, root, config, kind, err);
        if (!rc && type_is(json_object_get(root, "post_processor"), "RobertaProcessing"))
            rc = set_byte_level(out, root, config, kind, err);
        return rc;
    case KIND_BERT: return set_bert(out, root, config, kind, err);
    case KIND_ROBERTA:
    case KIND_QWEN: return set_byte_level(out, root, config, kind, err);
    case KIND_DEBERTA:
        rc = set_deberta(out, root, config, err);
        return rc ? rc : set_metaspace(out, root, config, kind, err);
    case KIND_XLMR: return set_metaspace(out, root, config, kind, err);
    }
    return RR_OK;
}

/* ---- token types ---------------------------------------------------------------------------- */

static json_t *special(const char *name)
{
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", name, "type_id", 0);
}

static json_t *sequence(const char *name)
{
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", 0);
}

/* The two texts and nothing else. */
static json_t *bare_template(void)
{
    return json_pack("{s:s, s:[o], s:[o, o], s:{}}", "type", "TemplateProcessing", "single",
                     sequence("A"), "pair", sequence("A"), sequence("B"), "special_tokens");
}

/* Of a BertProcessing, whose types are not written down; NULL: damaged, or memory is short. */
static json_t *bert_template(const json_t *post)
{
    const json_t *ends[2] = { json_object_get(post, "cls"), json_object_get(post, "sep") };
    const char *name[2];
    json_t *tokens = json_object(), *entry;
    bool good = tokens != NULL;

    for (size_t i = 0; i < 2; i++) {
        name[i] = json_string_value(json_array_get(ends[i], 0));
        entry = name[i] ? json_pack("{s:s, s:[O], s:[s]}", "id", name[i], "ids",
                                    json_array_get(ends[i], 1), "tokens", name[i])
                        : NULL;
        good = good && entry && json_object_set_new(tokens, name[i], entry) == 0;
    }
    if (good)
        return json_pack("{s:s, s:[o, o, o], s:[o, o, o, o, o], s:o}", "type", "TemplateProcessing",
                         "single", special(name[0]), sequence("A"), special(name[1]), "pair",
                         special(name[0]), sequence("A"), special(name[1]), sequence("B"),
                         special(name[1]), "special_tokens", tokens);
    json_decref(tokens);
    return NULL;
}

/* Whether any of a template's items had another type than 0. */
static bool clear_items(json_t *items)
{
    static const char *const kinds[] = { "SpecialToken", "Sequence" };
    bool any = false;

    for (size_t i = 0; i < json_array_size(items); i++) {
        for (size_t k = 0; k < RR_COUNT(kinds); k++) {
            json_t *type =
                json_object_get(json_object_get(json_array_get(items, i), kinds[k]), "type_id");

            any = any || json_integer_value(type) != 0;
            if (json_is_integer(type)) json_integer_set(type, 0);
        }
    }
    return any;
}

/* The steps of the post-processor as a list of its own; NULL: memory is short. */
static json_t *post_steps(const json_t *root)
{
    json_t *post = json_object_get(root, "post_processor"), *list;

    if (type_is(post, "Sequence")) return json_copy(json_object_get(post, "processors"));
    list = json_array();
    if (list && json_is_object(post) && json_array_append(list, post)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* The network gets none: all are 0. */
static int clear_types(struct rr_tok_beside *out, json_t *root, struct rr_error *err)
{
    json_t *list = post_steps(root);
    bool made = false, any = false, good = list != NULL;

    for (size_t i = 0; i < json_array_size(list) && good; i++) {
        json_t *step = json_array_get(list, i);

        if (type_is(step, "TemplateProcessing")) {
            any = clear_items(json_object_get(step, "single")) || any;
            any = clear_items(json_object_get(step, "pair")) || any;
        } else if (type_is(step, "BertProcessing")) {
            good = json_array_set_new(list, i, bert_template(step)) == 0;
            any = true;
        }
        made = made || !type_is(step, "ByteLevel"); /* RobertaProcessing has type 0 only */
    }
    if (good && !made) {
        good = json_array_append_new(list, bare_template()) == 0;
        any = true;
    }
    if (good && any) {
        out->changed = true;
        out->changes |= 1u << 7;
        return set(root, "post_processor",
                   json_pack("{s:s, s:o}", "type", "Sequence", "processors", list), err);
    }
    json_decref(list);
    return good ? RR_OK
                : rr_fail(err, RR_EFORMAT,
                          "post_processor: found neither a template nor a "
                          "BertProcessing that is whole");
}

static bool names_types(const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *s = json_string_value(json_array_get(names, i));

        if (s && strcmp(s, "token_type_ids") == 0) return true;
    }
    return false;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int read_config(struct rr_tok_beside *out, json_t *root, const char *folder,
                       struct rr_error *err)
{
    char path[PATH_MAX];
    json_t *config;
    const json_t *names;
    double most;
    const char *side;
    int rc = load(&config, path, folder, "tokenizer_config.json", err);

    if (rc || !config) return rc;
    most = json_number_value(json_object_get(config, "model_max_length")); /* 0: none */
    if (most >= 1 && most < (1 << 30)) out->max_length = (uint32_t)most;
    side = json_string_value(json_object_get(config, "truncation_side"));
    if (side) rc = set_side(out, root, side, path, err);
    if (!rc) rc = set_stages(out, root, config, folder, err);
    out->literal = json_is_true(json_object_get(config, "split_special_tokens"));
    if (out->literal) out->changes |= 1u << 12;
    names = json_object_get(config, "model_input_names");
    if (!rc && json_array_size(names) && !names_types(names)) rc = clear_types(out, root, err);
    json_decref(config);
    return rc;
}

/* ---- sentence_bert_config.json -------------------------------------------------------------- */

/* Whether sentence-transformers reads the file for a reranker: of folders without modules, or of
 * another kind of model, it makes one from the network and the tokenizer alone. */
static int is_cross_encoder(bool *yes, const char *folder, struct rr_error *err)
{
    char path[PATH_MAX];
    json_t *config;
    const char *type;
    int rc;

    *yes = false;
    if (!rr_path_join(path, sizeof(path), folder, "modules.json") || !rr_file_exists(path))
        return RR_OK;
    rc = load(&config, path, folder, "config_sentence_transformers.json", err);
    if (rc) return rc;
    type = json_string_value(json_object_get(config, "model_type"));
    *yes = type && strcmp(type, "CrossEncoder") == 0;
    json_decref(config);
    return RR_OK;
}

static int read_sentence(struct rr_tok_beside *out, json_t *root, const char *folder,
                         struct rr_error *err)
{
    char path[PATH_MAX];
    bool read, lower = false;
    json_t *config;
    int rc = is_cross_encoder(&read, folder, err);

    if (rc || !read) return rc;
    rc = load(&config, path, folder, "sentence_bert_config.json", err);
    if (!rc && config) rc = rr_json_bool(config, path, "do_lower_case", &lower, err);
    json_decref(config);
    if (rc || !lower || step_of(root, &normalizer, "Lowercase")) return rc;
    out->changed = true;
    out->changes |= 1u << 6;
    return prepend_lowercase(root, err);
}

int rr_tok_beside(struct rr_tok_beside *out, json_t *root, const char *folder, struct rr_error *err)
{
    int rc;

    *out = (struct rr_tok_beside){ 0 };
    rc = read_config(out, root, folder, err);
    return rc ? rc : read_sentence(out, root, folder, err);
}
