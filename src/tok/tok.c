/* SPDX-License-Identifier: Apache-2.0 */
/* tok.c - opening and closing a tokenizer, and the small questions about it.  Layer: tok (L1). */
#include <errno.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "tok/beside.h"
#include "tok/internal.h"

#define REST_LIMIT (64u << 20)  /* tokenizer.json without vocabulary and merges */
#define JSON_LIMIT (512u << 20) /* with them, where it is read as a tree */

/* model.continuing_subword_prefix: merges are resolved with it, before the model is read. */
static uint32_t bpe_prefix(const json_t *root)
{
    const json_t *v = json_object_get(json_object_get(root, "model"), "continuing_subword_prefix");

    return json_is_string(v) ? (uint32_t)json_string_length(v) : 0;
}

/* The JSON without its large part.  A syntax error is looked for again in the whole text, so that
 * its line is that of the file. */
static int parse_rest(json_t **root, struct rr_text rest, struct rr_text all, const char *name,
                      struct rr_error *err)
{
    struct rr_error first = { 0 };
    json_t *whole = NULL;
    int rc = rr_json_parse(root, rest, 0, RR_JSON_DUP_REJECT, &first);

    if (rc == RR_OK) {
        if (json_is_object(*root)) return RR_OK;
        json_decref(*root);
        *root = NULL;
        return rr_fail(err, RR_EFORMAT, "%s: found no object, expected one", name);
    }
    if (all.data && rr_json_parse(&whole, all, 0, RR_JSON_DUP_REJECT, err) == RR_OK) {
        json_decref(whole);
        if (err) *err = first;
    } else if (!all.data && err) {
        *err = first;
    }
    rr_fail_prefix(err, "%s", name);
    return rc;
}

/* Vocabulary and the rest of the file, read from the text. */
static int build(struct rr_tok *tok, struct rr_text json, const char *name, struct rr_buf *rest,
                 json_t **root, struct rr_error *err)
{
    struct rr_draft draft;
    int rc = rr_scan_tokenizer(&draft, rest, json, name, err);

    if (!rc) rc = parse_rest(root, (struct rr_text){ rest->data, rest->len }, json, name, err);
    if (!rc && draft.form == RR_DRAFT_NONE)
        rc = rr_fail(err, RR_EFORMAT, "%s: model.vocab: found nothing, expected the pieces", name);
    if (!rc) rc = rr_vocab_build(&tok->vocab, &draft, bpe_prefix(*root), name, err);
    rr_draft_free(&draft);
    return rc;
}

/* The rest of the file, once vocab is there, with what other files of the folder change in it. */
static int configure(struct rr_tok *tok, json_t *root, const char *name, const char *folder,
                     unsigned *changes, struct rr_error *err)
{
    struct rr_field f = { root, name, "", err };
    struct rr_tok_beside beside = { 0 };
    const char *side;
    int rc = folder ? rr_tok_beside(&beside, root, folder, err) : RR_OK;

    if (rc) return rc;
    side = json_string_value(json_object_get(json_object_get(root, "truncation"), "direction"));
    tok->cuts_left = side && strcmp(side, "Left") == 0;
    if (side && !tok->cuts_left && strcmp(side, "Right") != 0)
        return rr_field_unknown(&f, "truncation.direction", rr_text(side), "Left or Right");
    tok->max_length = beside.max_length;
    tok->literal = beside.literal;
    *changes = beside.changes;
    return rr_load_config(tok, &f);
}

/* folder NULL: the text is all there is. */
static int open_text(struct rr_tok **out, struct rr_text json, const char *name, const char *folder,
                     const char *cache_dir, struct rr_error *err)
{
    struct rr_tok *tok = rr_calloc(RR_MEM_TOKENIZER, 1, sizeof(*tok));
    struct rr_text kept = { NULL, 0 };
    struct rr_buf rest;
    json_t *root = NULL;
    unsigned changes = 0;
    int rc;

    *out = NULL;
    if (!tok) return rr_fail(err, RR_ENOMEM, "%s: out of memory", name);
    rr_buf_init(&rest, RR_MEM_TOKENIZER, REST_LIMIT);
    tok->fingerprint = XXH3_64bits(json.data, json.len);
    tok->from_cache = rr_vocab_load(&tok->vocab, &kept, cache_dir, tok->fingerprint);
    if (tok->from_cache)
        rc = parse_rest(&root, kept, (struct rr_text){ NULL, 0 }, name, err);
    else
        rc = build(tok, json, name, &rest, &root, err);
    if (!rc) rc = configure(tok, root, name, folder, &changes, err);
    json_decref(root);
    /* Only what was opened without a complaint is kept. */
    if (!rc && !tok->from_cache && cache_dir)
        rr_vocab_save(&tok->vocab, (struct rr_text){ rest.data, rest.len }, cache_dir,
                      tok->fingerprint);
    if (changes) /* other tokens, so other scores */
        tok->fingerprint = XXH3_64bits_withSeed(&changes, sizeof(changes), tok->fingerprint);
    rr_buf_free(&rest);
    if (rc) {
        rr_tok_close(tok);
        return rc;
    }
    *out = tok;
    return RR_OK;
}

static int put_json(const char *data, size_t n, void *user)
{
    rr_buf_put(user, data, n);
    return 0;
}

int rr_tok_json(struct rr_buf *out, const char *folder, struct rr_error *err)
{
    struct rr_tok_beside beside;
    char path[PATH_MAX];
    json_t *root;
    int rc = rr_json_read_beside(&root, path, folder, "tokenizer.json", JSON_LIMIT,
                                 RR_JSON_DUP_REJECT, err);

    if (rc || !root) return rc;
    rc = rr_tok_beside(&beside, root, folder, err);
    if (!rc && beside.literal)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: split_special_tokens of tokenizer_config.json is true, which the file "
                     "alone cannot say",
                     path);
    if (!rc && beside.changed &&
        (json_dump_callback(root, put_json, out, JSON_COMPACT) || out->failed))
        rc = rr_fail(err, RR_ENOMEM, "%s: out of memory", path);
    json_decref(root);
    return rc;
}

void rr_tok_take_bytes(struct rr_tok *tok)
{
    tok->bytes = true;
}

int rr_tok_parse(struct rr_tok **out, struct rr_text json, const char *name, struct rr_error *err)
{
    return open_text(out, json, name, NULL, NULL, err);
}

/* Of a folder without a tokenizer.json: what else it has of a tokenizer. */
static int fail_without_json(const char *folder, struct rr_error *err)
{
    static const char *const others[] = { "vocab.txt", "sentencepiece.bpe.model", "spiece.model",
                                          "tokenizer.model", "vocab.json" };
    char path[4096];

    for (size_t i = 0; i < RR_COUNT(others); i++)
        if (rr_path_join(path, sizeof(path), folder, others[i]) && rr_file_exists(path))
            return rr_fail(err, RR_ENOTSUP,
                           "%s: has %s but no tokenizer.json; convert it: load the tokenizer with "
                           "transformers' AutoTokenizer and call save_pretrained(folder)",
                           folder, others[i]);
    return rr_fail(err, RR_ENOENT,
                   "%s: no tokenizer.json; copy it here from where the model came from", folder);
}

int rr_tok_open(struct rr_tok **out, const char *folder, const char *cache_dir,
                struct rr_error *err)
{
    struct rr_file file;
    char path[4096];
    int rc;

    *out = NULL;
    if (!rr_path_join(path, sizeof(path), folder, "tokenizer.json"))
        return rr_fail(err, RR_EINVAL, "%.200s: the path is too long", folder);
    if (access(path, F_OK) && errno == ENOENT) return fail_without_json(folder, err);
    rc = rr_file_map(&file, path, err);
    if (rc) return rc;
    rc = open_text(out, (struct rr_text){ file.data, file.len }, path, folder, cache_dir, err);
    rr_file_unmap(&file);
    return rc;
}

void rr_tok_close(struct rr_tok *tok)
{
    unsigned i;

    if (!tok) return;
    rr_vocab_close(&tok->vocab);
    rr_norm_close(&tok->norm);
    for (i = 0; i < tok->n_pre; i++) rr_regex_close(tok->pre[i].re);
    rr_added_close(tok);
    rr_decode_close(tok);
    rr_free(tok->single.items);
    rr_free(tok->pair.items);
    rr_free(tok->model.prefix);
    rr_free(tok->model.suffix);
    rr_free(tok->model.unk_token);
    rr_free(tok);
}

uint32_t rr_tok_vocab_size(const struct rr_tok *tok)
{
    return tok->vocab_size;
}

uint32_t rr_tok_max_length(const struct rr_tok *tok)
{
    return tok->max_length;
}

bool rr_tok_cuts_left(const struct rr_tok *tok)
{
    return tok->cuts_left;
}

uint64_t rr_tok_fingerprint(const struct rr_tok *tok)
{
    return tok->fingerprint;
}

const char *rr_tok_kind(const struct rr_tok *tok)
{
    static const char *const names[] = { "Unigram", "WordPiece", "BPE" };

    return names[tok->model.kind];
}

struct rr_text rr_tok_piece(const struct rr_tok *tok, int32_t id)
{
    const struct rr_added *a;

    if (id < 0) return (struct rr_text){ NULL, 0 };
    a = rr_added_by_id(tok, (uint32_t)id);
    if (a) return (struct rr_text){ a->content, a->len };
    return rr_vocab_piece(&tok->vocab, (uint32_t)id);
}

bool rr_tok_is_special(const struct rr_tok *tok, int32_t id)
{
    const struct rr_added *a = id < 0 ? NULL : rr_added_by_id(tok, (uint32_t)id);

    return a && a->in_special_set;
}
