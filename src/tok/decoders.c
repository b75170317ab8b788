/* SPDX-License-Identifier: Apache-2.0 */
/* decoders.c - the section decoder of the file.  Layer: tok (L1).
 * A kind that is not supported does not keep the file from being opened: it is kept as text and
 * reported when ids are to be turned back. */
#include "base/err.h"
#include "base/mem.h"
#include "tok/internal.h"

static int dec_replace(const struct rr_field *f, struct rr_decode_step *st)
{
    struct rr_field p;
    struct rr_text t = { "", 0 };
    char where[RR_FIELD_WHERE];
    bool literal;
    int rc = rr_field_object(f, "pattern", RR_REQUIRED, &p);

    if (rc) return rc;
    literal = json_object_get(p.obj, "String") != NULL;
    rc = rr_field_text(&p, literal ? "String" : "Regex", RR_REQUIRED, &t);
    if (!rc) rc = rr_regex_open(&st->re, t, literal, rr_field_where(f, "pattern", where), f->err);
    return rc ? rc : rr_field_copy(f, "content", RR_REQUIRED, &st->text, &st->text_len);
}

static int dec_metaspace(const struct rr_field *f, struct rr_decode_step *st)
{
    struct rr_text scheme = { "always", 6 };
    bool add = true;
    int rc = rr_field_char(f, "replacement", &st->ch);

    if (!rc) rc = rr_field_text(f, "prepend_scheme", RR_OPTIONAL, &scheme);
    if (!rc) rc = rr_field_bool(f, "add_prefix_space", RR_OPTIONAL, &add);
    st->keep_first = rr_text_is(scheme, "never");
    return rc;
}

static int dec_params(const struct rr_field *f, struct rr_decode_step *st)
{
    int rc;

    switch (st->kind) {
    case RR_DEC_METASPACE: return dec_metaspace(f, st);
    case RR_DEC_REPLACE: return dec_replace(f, st);
    case RR_DEC_BPE: return rr_field_copy(f, "suffix", RR_REQUIRED, &st->text, &st->text_len);
    case RR_DEC_WORDPIECE:
        rc = rr_field_copy(f, "prefix", RR_REQUIRED, &st->text, &st->text_len);
        return rc ? rc : rr_field_bool(f, "cleanup", RR_REQUIRED, &st->cleanup);
    case RR_DEC_STRIP:
        rc = rr_field_char(f, "content", &st->ch);
        if (!rc) rc = rr_field_u32(f, "start", RR_REQUIRED, UINT32_MAX, &st->start);
        return rc ? rc : rr_field_u32(f, "stop", RR_REQUIRED, UINT32_MAX, &st->stop);
    default: return RR_OK;
    }
}

static int read_decoder(void *user, const struct rr_field *f, struct rr_text type)
{
    static const struct {
        const char *type;
        enum rr_decode_kind kind;
    } kinds[] = {
        { "Metaspace", RR_DEC_METASPACE },
        { "WordPiece", RR_DEC_WORDPIECE },
        { "ByteLevel", RR_DEC_BYTE_LEVEL },
        { "ByteFallback", RR_DEC_BYTE_FALLBACK },
        { "Fuse", RR_DEC_FUSE },
        { "Strip", RR_DEC_STRIP },
        { "Replace", RR_DEC_REPLACE },
        { "BPEDecoder", RR_DEC_BPE },
    };
    struct rr_tok *tok = user;
    size_t i;

    for (i = 0; i < RR_COUNT(kinds); i++) {
        if (!rr_text_is(type, kinds[i].type)) continue;
        if (tok->n_dec == RR_TOK_MAX_STEPS)
            return rr_fail(f->err, RR_ETOOBIG, "%s: decoder: more than %d steps", f->file,
                           RR_TOK_MAX_STEPS);
        tok->dec[tok->n_dec].kind = kinds[i].kind;
        return dec_params(f, &tok->dec[tok->n_dec++]);
    }
    return rr_field_unknown(f, "type", type,
                            "Metaspace, WordPiece, ByteLevel, ByteFallback, Fuse, "
                            "Strip, Replace, BPEDecoder or Sequence");
}

int rr_load_decoder(struct rr_tok *tok, const struct rr_field *root)
{
    struct rr_error own = { 0 };
    struct rr_field f;
    int rc = rr_field_object(root, "decoder", RR_OPTIONAL, &f);

    if (rc || !f.obj) return rc;
    tok->has_decoder = true;
    f.err = &own;
    rc = rr_field_steps(&f, "decoders", read_decoder, tok);
    if (rc == RR_ENOTSUP) {
        tok->no_decoder = rr_strdup(RR_MEM_TOKENIZER, own.msg);
        return tok->no_decoder ? RR_OK : rr_fail(root->err, RR_ENOMEM, "%s: out of memory", f.file);
    }
    if (rc && root->err) *root->err = own;
    return rc;
}

void rr_decode_close(struct rr_tok *tok)
{
    unsigned i;

    for (i = 0; i < tok->n_dec; i++) {
        rr_free(tok->dec[i].text);
        rr_regex_close(tok->dec[i].re);
    }
    rr_free(tok->no_decoder);
}
