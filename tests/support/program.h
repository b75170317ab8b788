/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - builds small random programs and batches, and evaluates them in double precision in
 * the most straightforward way: what a backend's results are compared with. */
#ifndef TESTS_SUPPORT_PROGRAM_H
#define TESTS_SUPPORT_PROGRAM_H

#include <stdbool.h>

#include "rerank_backend.h"

/* splitmix64: the same numbers everywhere. */
uint64_t random_u64(uint64_t *state);
double random_unit(uint64_t *state);                             /* [-1, 1) */
uint32_t random_below(uint64_t *state, uint32_t n);              /* [0, n) */

#define PROGRAM_MAX 128

struct program { /* p points into the arrays */
    struct rr_program p;
    struct rr_tensor tensors[PROGRAM_MAX];
    struct rr_register registers[PROGRAM_MAX];
    struct rr_op ops[PROGRAM_MAX];
    uint64_t seed;
    enum rr_dtype dtype; /* of the tensors made next */
    bool in_file;        /* data is the map of a file */
    char *data;          /* of all tensors */
    size_t used;
};

/* in_file: the tensors' data are in a mapped file, as those of a model are. */
void program_init(struct program *b, uint64_t seed, bool in_file);
void program_free(struct program *b);

/* A tensor of random values of about the given size around the centre; rows 0: a vector. */
uint32_t program_tensor(struct program *b, const char *name, uint32_t rows, uint32_t columns,
                        double size, double centre);
uint32_t program_register(struct program *b, uint32_t width, enum rr_rows rows);
struct rr_op *program_op(struct program *b, enum rr_op_kind kind, uint32_t dst, uint32_t src);

/* Operations with their tensors.  Each returns the register that it makes. */
uint32_t program_embed(struct program *b, uint32_t words, uint32_t positions, uint32_t types,
                       uint32_t width);
uint32_t program_linear(struct program *b, uint32_t src, uint32_t n_parts, const uint32_t *out,
                        enum rr_act act, uint32_t residual, bool bias);
uint32_t program_norm(struct program *b, uint32_t src, float eps, bool in_place);
uint32_t program_attention(struct program *b, uint32_t src, uint32_t kv, uint32_t q_col,
                           uint32_t k_col, uint32_t v_col, uint32_t heads, uint32_t head_dim);
uint32_t program_first(struct program *b, uint32_t src);
uint32_t program_pool(struct program *b, enum rr_op_kind kind, uint32_t src);
uint32_t program_glu(struct program *b, uint32_t src, enum rr_act act, bool act_second);
/* In place; without gamma and for the first token unless the caller changes the result. */
struct rr_op_rotary *program_rotary(struct program *b, uint32_t reg, uint32_t col, uint32_t heads,
                                    uint32_t head_dim, uint32_t angles);

/* Makes the output from src: if src has token rows, a mixture of all rows of the sequence (and the
 * first row once more); then a random combination of all columns.  A wrong element anywhere shows. */
void program_probe(struct program *b, uint32_t src);

/* Which keys a query sees, and of which head. */
struct attention_view {
    uint32_t heads, kv_heads, head_dim, window; /* kv_heads 0: as heads */
    bool causal, sequences, last;
    const char *why;
};

/* Queries, keys and values side by side as an embedding, attention over them, and its probe. */
void program_view(struct program *b, const struct attention_view *v, uint32_t words,
                  uint32_t positions, uint32_t types);

struct encoder_shape {
    uint32_t layers, hidden, heads, intermediate, words, positions, types;
};
/* A whole BERT-like cross-encoder, last layer for the first token only, with its head. */
void program_encoder(struct program *b, const struct encoder_shape *s);

struct batch {
    struct rr_batch b;
    uint32_t capacity_tokens, capacity_sequences;
    int32_t *ids, *positions, *types;
    uint32_t *cu;
};

void batch_init(struct batch *b, uint32_t max_tokens, uint32_t max_sequences);
void batch_free(struct batch *b);
void batch_clear(struct batch *b);
/* Adds a sequence of random ids below words, positions from first_position on, random types. */
void batch_add(struct batch *b, uint32_t length, uint32_t words, uint32_t first_position,
               uint32_t types, uint64_t *seed);
void batch_add_from(struct batch *b, const struct batch *other, uint32_t sequence);

/* logits[n_sequences] in double precision. */
void program_evaluate(const struct rr_program *p, const struct rr_batch *b, double *logits);

double tensor_value(const struct rr_tensor *t, size_t i);

#endif
