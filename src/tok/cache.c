/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - the compiled form of a tokenizer.json on disk.  Layer: tok (L1).
 *
 * Layout: header, then the arrays of struct rr_vocab and the small part of the JSON, each at a
 * multiple of 16.  The name holds the XXH3 of the tokenizer.json, the header repeats it, and a
 * checksum covers the rest, so a stale, cut or foreign file is never used; it is rebuilt without a
 * word.  The form depends on nothing but the file's bytes and VERSION. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "tok/vocab.h"

#define VERSION 1u
#define BYTE_ORDER_MARK 0x01020304u

struct header {
    char magic[8];
    uint32_t version, byte_order;
    uint64_t fingerprint, file_len, checksum; /* checksum: of all after the header */
    uint32_t n, count, blob_len, n_units, merge_cap, n_merges, has_scores, rest_len;
    double min_score;
};

static const char magic[8] = "RRTOKEN";

struct part {
    size_t off, len;
};

/* Where the parts lie: pieces, units, merges, scores, blob, rest; returns the length of the
 * file. */
static size_t lay_out(const struct header *h, struct part p[6])
{
    size_t at = sizeof(*h), i;

    p[0].len = (size_t)h->n * sizeof(struct rr_piece);
    p[1].len = (size_t)h->n_units * sizeof(struct rr_trie_unit);
    p[2].len = (size_t)h->merge_cap * sizeof(struct rr_merge);
    p[3].len = h->has_scores ? (size_t)h->n * sizeof(double) : 0;
    p[4].len = h->blob_len;
    p[5].len = h->rest_len;
    for (i = 0; i < 6; i++) {
        at = (at + 15) & ~(size_t)15;
        p[i].off = at;
        at += p[i].len;
    }
    return at;
}

static bool make_path(char *out, size_t cap, const char *cache_dir, uint64_t fingerprint)
{
    char name[64];

    snprintf(name, sizeof(name), "tokenizer-%016" PRIx64 ".rrtok", fingerprint);
    return rr_path_join(out, cap, cache_dir, name);
}

static bool header_good(struct rr_text f, uint64_t fingerprint, struct part p[6])
{
    struct header h;

    if (f.len < sizeof(h)) return false;
    memcpy(&h, f.data, sizeof(h));
    return !memcmp(h.magic, magic, 8) && h.version == VERSION && h.byte_order == BYTE_ORDER_MARK &&
           h.fingerprint == fingerprint && h.file_len == f.len && lay_out(&h, p) == f.len &&
           (h.merge_cap & (h.merge_cap - 1)) == 0 &&
           h.checksum == XXH3_64bits(f.data + sizeof(h), f.len - sizeof(h));
}

/* All indices inside; the checksum says that the bytes are those written, this that no old bug of
 * ours is read back. */
static bool content_good(const struct rr_vocab *v)
{
    uint32_t i, free_slots = 0;

    if (v->n > INT32_MAX || !rr_trie_valid(&v->trie, v->blob_len, v->n)) return false;
    for (i = 0; i < v->n; i++) {
        const struct rr_piece *p = &v->pieces[i];

        if (p->len == RR_NO_PIECE) continue;
        if (p->off > v->blob_len || p->len > v->blob_len - p->off) return false;
    }
    for (i = 0; i < v->merge_cap; i++) {
        const struct rr_merge *m = &v->merges[i];

        if (m->a == RR_NO_PIECE)
            free_slots++;
        else if (m->a >= v->n || m->b >= v->n || m->id >= v->n)
            return false;
    }
    return v->merge_cap == 0 || free_slots > 0;
}

bool rr_vocab_view(struct rr_vocab *v, struct rr_text *rest, struct rr_text file,
                   uint64_t fingerprint)
{
    const struct header *h = (const struct header *)(const void *)file.data;
    struct part p[6];

    if (!header_good(file, fingerprint, p)) return false;
    v->n = h->n;
    v->count = h->count;
    v->blob_len = h->blob_len;
    v->merge_cap = h->merge_cap;
    v->n_merges = h->n_merges;
    v->min_score = h->min_score;
    v->pieces = (const void *)(file.data + p[0].off);
    v->trie.units = (const void *)(file.data + p[1].off);
    v->trie.n = h->n_units;
    v->merges = (const void *)(file.data + p[2].off);
    v->scores = h->has_scores ? (const void *)(file.data + p[3].off) : NULL;
    v->blob = v->trie.blob = file.data + p[4].off;
    *rest = (struct rr_text){ file.data + p[5].off, p[5].len };
    return content_good(v);
}

bool rr_vocab_load(struct rr_vocab *v, struct rr_text *rest, const char *cache_dir,
                   uint64_t fingerprint)
{
    char path[4096];

    memset(v, 0, sizeof(*v));
    if (!cache_dir || !make_path(path, sizeof(path), cache_dir, fingerprint)) return false;
    if (!rr_file_exists(path) || rr_file_map(&v->file, path, NULL)) return false;
    if (rr_vocab_view(v, rest, (struct rr_text){ v->file.data, v->file.len }, fingerprint))
        return true;
    rr_vocab_close(v);
    return false;
}

void rr_vocab_save(const struct rr_vocab *v, struct rr_text rest, const char *cache_dir,
                   uint64_t fingerprint)
{
    struct header h = { .version = VERSION, .byte_order = BYTE_ORDER_MARK };
    struct part p[6];
    char path[4096];
    char *image;
    size_t len;

    if (!cache_dir || rest.len > UINT32_MAX) return;
    if (!make_path(path, sizeof(path), cache_dir, fingerprint)) return;
    memcpy(h.magic, magic, 8);
    h.fingerprint = fingerprint;
    h.n = v->n;
    h.count = v->count;
    h.blob_len = v->blob_len;
    h.n_units = v->trie.n;
    h.merge_cap = v->merge_cap;
    h.n_merges = v->n_merges;
    h.has_scores = v->scores != NULL;
    h.rest_len = (uint32_t)rest.len;
    h.min_score = v->min_score;
    h.file_len = len = lay_out(&h, p);
    image = rr_calloc(RR_MEM_TOKENIZER, len, 1);
    if (!image) return; /* it works without */
    if (p[0].len) memcpy(image + p[0].off, v->pieces, p[0].len);
    memcpy(image + p[1].off, v->trie.units, p[1].len);
    if (p[2].len) memcpy(image + p[2].off, v->merges, p[2].len);
    if (p[3].len) memcpy(image + p[3].off, v->scores, p[3].len);
    if (p[4].len) memcpy(image + p[4].off, v->blob, p[4].len);
    if (p[5].len) memcpy(image + p[5].off, rest.data, p[5].len);
    h.checksum = XXH3_64bits(image + sizeof(h), len - sizeof(h));
    memcpy(image, &h, sizeof(h));
    if (rr_file_write(path, image, len, NULL) != RR_OK) {
        /* A folder that cannot be written is no error: the next start is slower, that is all. */
    }
    rr_free(image);
}
