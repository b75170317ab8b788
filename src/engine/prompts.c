/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.c - see prompts.h.  Layer: engine (L5).
 *
 * A causal reranker was trained on one wording; another one gives other scores.  These are those
 * that the models' publishers give for Qwen3-Reranker, mxbai-rerank-v2 and
 * bge-reranker-v2-gemma. */
#include "engine/prompts.h"

#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

#define TEXT(s) \
    { \
        RR_PROMPT_TEXT, s \
    }
#define QUERY \
    { \
        RR_PROMPT_QUERY, NULL \
    }
#define DOCUMENT \
    { \
        RR_PROMPT_DOCUMENT, NULL \
    }
#define SEGMENT(...) \
    { \
        .pieces = { __VA_ARGS__ } \
    }
/* At most three quarters of the room. */
#define SEGMENT_3_4(...) \
    { \
        .pieces = { __VA_ARGS__ }, .most = 3 \
    }

static const struct wording {
    const char *architecture;
    const char *yes, *no; /* tokens; no NULL: the logit of yes alone */
    struct rr_prompt_form form;
} prompts[] = {
    { "Qwen3For",
      "yes",
      "no",
      { { SEGMENT(TEXT("<|im_start|>system\nJudge whether the Document meets the requirements "
                       "based on the Query and the Instruct provided. Note that the answer can "
                       "only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n")),
          SEGMENT(TEXT("<Instruct>: Given a web search query, retrieve relevant passages that "
                       "answer the query\n<Query>: "),
                  QUERY, TEXT("\n<Document>: "), DOCUMENT),
          SEGMENT(TEXT("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")) } } },
    { "Qwen2For",
      "1",
      "0",
      { { SEGMENT(TEXT("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a "
                       "helpful assistant.<|im_end|>\n<|im_start|>user\n")),
          SEGMENT_3_4(TEXT("query: "), QUERY), SEGMENT(TEXT("\n")),
          SEGMENT(TEXT("document: "), DOCUMENT), SEGMENT(TEXT("\n")),
          SEGMENT(TEXT("You are a search relevance expert who evaluates how well documents match "
                       "search queries. For each query-document pair, carefully analyze the "
                       "semantic relationship between them, then provide your binary relevance "
                       "judgment (0 for not relevant, 1 for relevant).\nRelevance:")),
          SEGMENT(TEXT("<|im_end|>\n<|im_start|>assistant\n")) } } },
    { "GemmaFor",
      "Yes",
      NULL,
      { { SEGMENT(TEXT("<bos>")), SEGMENT_3_4(TEXT("A: "), QUERY), SEGMENT(TEXT("\n")),
          SEGMENT(TEXT("B: "), DOCUMENT), SEGMENT(TEXT("\n")),
          SEGMENT(TEXT("Given a query A and a passage B, determine whether the passage contains "
                       "an answer to the query by providing a prediction of either 'Yes' or "
                       "'No'.")) } } },
};

/* Of a network, or NULL. */
static const struct wording *wording_of(const struct rr_model_info *model)
{
    for (size_t i = 0; i < RR_COUNT(prompts); i++)
        if (!strncmp(model->architecture, prompts[i].architecture, strlen(prompts[i].architecture)))
            return &prompts[i];
    return NULL;
}

/* The first token of a word, as the publishers take it. */
static int find_word(const struct rr_tok *tok, struct rr_tok_scratch *s, const char *word,
                     int32_t *id, struct rr_error *err)
{
    struct rr_tok_ids view;
    int rc = rr_tok_encode(tok, s, (struct rr_text){ word, strlen(word) }, 1, 0, &view, err);

    if (rc) return rc;
    if (view.n == 0)
        return rr_fail(err, RR_EFORMAT, "tokenizer.json has no token for \"%s\"", word);
    *id = view.ids[0];
    return RR_OK;
}

static int find_words(struct rr_pairing *p, const struct rr_tok *tok, const char *yes,
                      const char *no, struct rr_error *err)
{
    struct rr_tok_scratch *s;
    int rc = rr_tok_scratch_open(&s, tok, err);

    if (rc) return rc;
    rc = find_word(tok, s, yes, &p->yes, err);
    if (!rc && no) rc = find_word(tok, s, no, &p->no, err);
    rr_tok_scratch_close(s);
    return rc;
}

int rr_pairing_open(struct rr_pairing *p, const struct rr_model_info *model,
                    const struct rr_tok *tok, struct rr_error *err)
{
    const struct wording *w = wording_of(model);
    int rc = RR_OK;

    *p = (struct rr_pairing){ .fixed = rr_tok_pair_specials(tok), .yes = -1, .no = -1 };
    memcpy(p->before_query, model->query_prompt, sizeof(p->before_query));
    if (!w && !model->judge) return RR_OK;
    if (!w)
        return rr_fail(err, RR_ENOTSUP, "%s: the wording that it was trained on is not known",
                       model->architecture);
    if (model->judge && model->words.given) { /* a LogitScore has chosen them */
        p->yes = model->words.yes;
        p->no = model->words.no;
    } else if (model->judge) {
        rc = find_words(p, tok, w->yes, w->no, err);
    }
    if (!rc) rc = rr_prompt_open(&p->prompt, tok, &w->form, err);
    if (!rc) p->fixed = rr_prompt_fixed(p->prompt);
    return rc;
}

int rr_pairing_query(const struct rr_pairing *p, const struct rr_tok *tok, struct rr_tok_scratch *s,
                     struct rr_text query, uint32_t max, unsigned flags, struct rr_tok_ids *out,
                     struct rr_error *err)
{
    struct rr_buf both;
    int rc = RR_OK;

    if (!p->before_query[0]) return rr_tok_encode(tok, s, query, max, flags, out, err);
    rr_buf_init(&both, RR_MEM_REQUEST, sizeof(p->before_query) + query.len);
    rr_buf_puts(&both, p->before_query);
    rr_buf_put(&both, query.data, query.len);
    rc = both.failed
             ? rr_fail(err, RR_ENOMEM, "out of memory for the tokens of a request")
             : rr_tok_encode(tok, s, (struct rr_text){ both.data, both.len }, max, flags, out, err);
    rr_buf_free(&both);
    return rc;
}

/* ---- a template of the folder's own ---------------------------------------------------------- */

#define MAX_TEMPLATE (16u << 20) /* bytes, of the file that it is in */

/* The longest run of a wording's own words, as any template with the wording has it: no line feeds
 * or quotes, which are written in several ways. */
static struct rr_text landmark(const struct rr_prompt_form *form)
{
    struct rr_text best = { "", 0 };

    for (size_t i = 0; i < RR_COUNT(form->segments); i++) {
        for (size_t k = 0; k < RR_COUNT(form->segments[i].pieces); k++) {
            const char *s = form->segments[i].pieces[k].text;

            while (s && *s) {
                size_t n = strcspn(s, "\n\"'<>");

                if (n > best.len) best = (struct rr_text){ s, n };
                s += n + (s[n] != 0);
            }
        }
    }
    return best;
}

/* A template, or a list of them with names. */
static bool holds(const json_t *template, struct rr_text words)
{
    if (json_is_string(template))
        return memmem(json_string_value(template), json_string_length(template), words.data,
                      words.len) != NULL;
    for (size_t i = 0; i < json_array_size(template); i++)
        if (holds(json_object_get(json_array_get(template, i), "template"), words)) return true;
    return false;
}

bool rr_pairing_other_template(const struct rr_model_info *model, const char *folder)
{
    const struct wording *w = wording_of(model);
    char path[PATH_MAX], *text = NULL;
    bool other = false;
    json_t *root = NULL, *template;
    struct rr_text words;
    size_t len;

    if (!w || !model->modules || !model->words.given) return false;
    words = landmark(&w->form);
    if (rr_path_join(path, sizeof(path), folder, "chat_template.jinja") && rr_file_exists(path)) {
        if (rr_file_read_regular(&text, &len, path, MAX_TEMPLATE, RR_MEM_MISC, NULL)) return false;
        other = !memmem(text, len, words.data, words.len);
        rr_free(text);
        return other;
    }
    if (rr_json_read_beside(&root, path, folder, "tokenizer_config.json", MAX_TEMPLATE,
                            RR_JSON_REALS, NULL))
        return false; /* the tokenizer has the words for it */
    template = json_object_get(root, "chat_template");
    other = template && !json_is_null(template) && !holds(template, words);
    json_decref(root);
    return other;
}

void rr_pairing_close(struct rr_pairing *p)
{
    rr_prompt_close(p->prompt);
    p->prompt = NULL;
}

int rr_pairing_judge(const struct rr_pairing *p, struct rr_model *model, struct rr_error *err)
{
    return rr_model_info(model)->judge ? rr_model_judge(model, p->yes, p->no, err) : RR_OK;
}

unsigned rr_pairing_flags(const struct rr_pairing *p, const struct rr_tok *tok)
{
    return !p->prompt && rr_tok_cuts_left(tok) ? RR_TOK_KEEP_END : 0;
}

int rr_pairing_ids(const struct rr_pairing *p, const struct rr_tok *tok, struct rr_tok_scratch *s,
                   const struct rr_text texts[2], unsigned flags, uint32_t max_length,
                   int32_t *query, int32_t *ids, int32_t *types, uint32_t *n, uint32_t *dropped,
                   struct rr_error *err)
{
    struct rr_tok_ids a, b;
    uint32_t full = 0;
    int rc;

    if (p->prompt) {
        rc =
            rr_prompt_pair(p->prompt, s, texts[0], texts[1], max_length, flags, ids, n, &full, err);
        memset(types, 0, *n * sizeof(*types));
        *dropped = full - *n;
        return rc;
    }
    rc = rr_pairing_query(p, tok, s, texts[0], max_length, flags, &a, err);
    if (rc) return rc;
    memcpy(query, a.ids, a.n * sizeof(*query)); /* the scratch is used again */
    a.ids = query;
    rc = rr_tok_encode(tok, s, texts[1], max_length, flags, &b, err);
    return rc ? rc : rr_tok_pair(tok, &a, &b, max_length, flags, ids, types, n, dropped, err);
}
