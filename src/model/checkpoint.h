/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h - the weights of a model: one safetensors file, or shards with an index, or a GGUF
 * file, which has its configuration and tokenizer inside.
 * Layer: model (L4).  Threads: open and close from one thread; the rest is read-only. */
#ifndef RR_MODEL_CHECKPOINT_H
#define RR_MODEL_CHECKPOINT_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "model/modules.h"
#include "model/safetensors.h"
#include "rerank_backend.h"

#define RR_CHECKPOINT_MAX_SHARDS 1024
#define RR_CHECKPOINT_MAX_INDEX 100000000 /* bytes, as for a header */

struct rr_checkpoint;

/* Maps a GGUF file, or folder/model.safetensors, or else every shard that
 * folder/model.safetensors.index.json names, and checks their headers.  RR_ENOTSUP with the way out
 * when the folder has weights in another format only, RR_ENOENT listing what was looked for when it
 * has none. */
RR_NODISCARD int rr_checkpoint_open(struct rr_checkpoint **out, const char *folder,
                                    struct rr_error *err);
/* Also folder/module/model.safetensors, whose tensors are found as "module/NAME". */
RR_NODISCARD int rr_checkpoint_add(struct rr_checkpoint *c, const char *folder, const char *module,
                                   struct rr_error *err);
void rr_checkpoint_close(struct rr_checkpoint *c); /* NULL is allowed */

/* The file to name in messages about tensors: the safetensors file or the index. */
const char *rr_checkpoint_path(const struct rr_checkpoint *c);

/* NULL when there is none of that name; with an index, none that it lists. */
const struct rr_safetensors_entry *rr_checkpoint_find(const struct rr_checkpoint *c,
                                                      const char *name);

/* Whether a tensor of a program, which has the name from its file, is one of a module: modules use
 * the same names, so the pointer counts. */
bool rr_checkpoint_in_module(const struct rr_checkpoint *c, const char *name);

/* How many layers the names of the tensors in a folder count ("layer.N.", "layers.N."); 0: none. */
uint32_t rr_checkpoint_layers(const struct rr_checkpoint *c);

/* As rr_safetensors_made_for, of the first file. */
const char *rr_checkpoint_made_for(const struct rr_checkpoint *c);

uint64_t rr_checkpoint_bytes(const struct rr_checkpoint *c); /* of all files */

/* Of a GGUF file: its config.json, valid as long as c.  data is NULL for a folder. */
struct rr_text rr_checkpoint_config(const struct rr_checkpoint *c);
/* Of a GGUF file: its scores are logits, not their sigmoid. */
bool rr_checkpoint_identity(const struct rr_checkpoint *c);
/* Of a GGUF file: tokens per pair that it asks for; 0: it does not say. */
uint32_t rr_checkpoint_max_length(const struct rr_checkpoint *c);
/* Of a GGUF file: the tokens that it says make the score. */
struct rr_words rr_checkpoint_words(const struct rr_checkpoint *c);
/* Appends its tokenizer.json; nothing for a folder. */
RR_NODISCARD int rr_checkpoint_tokenizer(const struct rr_checkpoint *c, struct rr_buf *out,
                                         struct rr_error *err);

/* XXH3 chained over each file's header, size and three samples of its data. */
uint64_t rr_checkpoint_fingerprint(const struct rr_checkpoint *c, uint64_t seed);

#endif
