/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_backend.h - the inside of the CPU backend, for its own files, tests and benchmarks.
 * Layer: backend (L3).
 *
 *   cpu_backend.c  the table of functions, devices
 *   cpu_isa.c      which kernel level
 *   cpu_selfcheck.c  does it compute what it should?
 *   cpu_check.c    is the program sound?
 *   cpu_layout.c   where the rows of each register live
 *   cpu_load.c     sizes, memory, everything that load does
 *   cpu_packed.c   packed weights kept in a file
 *   cpu_linear.c   weights of linear layers in f32, bf16 and int8
 *   cpu_table.c    embedding tables
 *   cpu_plan.c     how a batch is cut into work
 *   cpu_exec.c     one operation on some rows and columns
 *   cpu_attention.c  one head after another: masks, shared keys, relative positions
 *   cpu_tail.c     the last operations, put off until all sequences have come so far
 *   cpu_run.c      workers, chunks and the team */
#ifndef RR_BACKEND_CPU_BACKEND_H
#define RR_BACKEND_CPU_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/attr.h"
#include "base/file.h"
#include "base/mem.h"
#include "cpu/kern.h"
#include "cpu/pool.h"
#include "rerank_backend.h"

/* ---- device -------------------------------------------------------------------------------- */

enum rr_cpu_mode {
    RR_CPU_AUTO,   /* by estimated time */
    RR_CPU_CHUNKS, /* each worker takes chunks of whole sequences through the whole program */
    RR_CPU_TEAM    /* all workers share each operation */
};

/* Knobs.  rr_cpu_tuning gives those of a device; tests and benchmarks change them before load. */
struct rr_cpu_tuning {
    uint32_t chunk_tokens; /* aim for the largest chunks */
    uint32_t solo_tokens;  /* longer sequences are left to the team */
    uint32_t team_tokens;  /* most that the team takes at once, longer sequences apart */
    uint32_t block_rows;   /* rows that pass through a segment of row-wise operations at once */
    enum rr_cpu_mode mode;
    uint32_t least_tokens; /* aim for no smaller chunks */
    uint32_t batch_tokens; /* for each thread: what a batch should have */
};

/* How the weights of linear layers are stored and multiplied: the precision of a device. */
enum rr_cpu_packing {
    RR_CPU_PACK_F32,
    RR_CPU_PACK_BF16,
    RR_CPU_PACK_I8,
    RR_CPU_PACK_I16 /* of layers only: bf16 where linear_i16 does it, kept ones beside int8 */
};

struct rr_device {
    const struct rr_kern *kern;
    enum rr_cpu_packing packing;
    struct rr_pool *pool;
    bool borrowed; /* pool is somebody else's, who shares it among devices */
    uint32_t threads;
    struct rr_cpu_tuning tuning;
    char *packed_dirs[2]; /* of struct rr_device_options; NULL: none */
};

struct rr_cpu_tuning *rr_cpu_tuning(struct rr_device *d);

/* ---- layout -------------------------------------------------------------------------------- */

/* Storage for register rows.  The size of an area is floats-per-row times the most rows it holds;
 * a value has its own columns of all rows: base + offset * rows + row * ld. */
enum rr_cpu_area {
    RR_CPU_TOKENS,    /* one row for each token of the work */
    RR_CPU_SEQUENCES, /* one row for each sequence of the work */
    RR_CPU_BLOCK,     /* tokens, but only those of the block in hand */
    RR_CPU_AREAS
};

struct rr_cpu_place {
    size_t offset; /* floats per row before this value */
    uint32_t ld;   /* row stride, floats; a multiple of 16, so that rows are 64-byte aligned */
    enum rr_cpu_area area;
    enum rr_dtype dtype; /* RR_F32, or RR_BF16 or RR_F16 and half as long: cpu_kept.c */
};

/* A maximal run of operations that work row by row on tokens, or one other operation. */
struct rr_cpu_segment {
    uint32_t begin, end; /* operations */
    bool by_rows;        /* may be executed block by block */
};

enum rr_cpu_operand { RR_CPU_DST, RR_CPU_SRC, RR_CPU_EXTRA /* residual or kv */, RR_CPU_OPERANDS };

/* Where each operand of each operation lives.  Two layouts exist: for chunks, where values that do
 * not leave their segment need a block's rows only, and for the team, without blocks. */
struct rr_cpu_layout {
    struct rr_cpu_place (*places)[RR_CPU_OPERANDS]; /* [n_ops] */
    struct rr_cpu_place output;
    size_t row_floats[RR_CPU_AREAS];
};

/* Fills in segments (room for n_ops) and returns their number.  The program was checked. */
uint32_t rr_cpu_segments(const struct rr_program *p, struct rr_cpu_segment *segments);

/* Fills in l; l->places has room for n_ops.  kept: [n_ops] how what an operation writes is kept.
 * blocks: use RR_CPU_BLOCK.  The program was checked. */
RR_NODISCARD int rr_cpu_layout(struct rr_cpu_layout *l, const struct rr_program *p,
                               const enum rr_dtype *kept, const struct rr_cpu_segment *segments,
                               uint32_t n_segments, bool blocks, struct rr_error *err);

/* A value that the tail reads and that was written before it. */
struct rr_cpu_crossing {
    uint32_t reg;
    struct rr_cpu_place chunk, team;
    size_t col; /* of rr_cpu_tail.rows */
};

/* Operations [begin, n_ops): all of them, and what they read, have one row for each sequence. */
struct rr_cpu_tail {
    uint32_t begin; /* n_ops: there is no tail */
    uint32_t n;
    struct rr_cpu_crossing values[4];
    size_t row_floats; /* of the values of a sequence */
    float *rows;       /* in workspace: [max_sequences] as in rr_cpu_plan.order */
};

/* ---- steps --------------------------------------------------------------------------------- */

struct rr_cpu_bump { /* sizes and places things one behind the other, 64-byte aligned */
    char *base; /* NULL: only count */
    size_t used;
    bool overflow;
};

/* Room for n things; NULL while counting. */
static inline void *rr_cpu_take(struct rr_cpu_bump *b, size_t n, size_t size)
{
    size_t bytes, at = b->used;

    if (!rr_mul(n, size, &bytes) || !rr_add(bytes, 63, &bytes) ||
        !rr_add(at, bytes / 64 * 64, &b->used))
        b->overflow = true;
    return b->base && !b->overflow ? b->base + at : NULL;
}

struct rr_cpu_linear {
    enum rr_cpu_packing packing;
    bool fine;         /* int8 only: inputs of 16 bits */
    bool smoothed;     /* int8 only: inputs are multiplied by smooth before they are quantized */
    bool narrow;       /* inputs are converted, to int8, bf16 or i16, before they are multiplied */
    uint32_t n, k, nr; /* nr: columns are cut and filled up to whole ones */
    void *panels;      /* as kern.h packs them */
    float *bias;       /* [n rounded up to panels], zero where there is none */
    float *scale, *sum; /* [n rounded up], int8 and i16: of each output channel */
    float *top;         /* one, i16 only: of kern.h */
    float *smooth;      /* [k] if smoothed, else NULL */
};

struct rr_cpu_table { /* an embedding table, used where it lies in the file, or in f16 */
    const char *data;  /* NULL: none */
    enum rr_dtype dtype;
    uint32_t rows;
    size_t row_bytes;
    bool halved;      /* it is f32, and there is room for it in f16 among the weights */
    uint16_t *halves; /* that room; data once it is converted */
};

/* Attention by distance, of one head: the projected table, packed as weights of a linear layer. */
struct rr_cpu_relative {
    float *keys, *queries; /* [heads][panels of 2 span columns, head_dim]; NULL: no such term */
    uint32_t *bucket;      /* [2 max_length - 1] row of the table for i - j + max_length - 1 */
    float *zero;           /* [2 span, rounded up to panels] */
    size_t head_floats;    /* of one head's panels */
};

struct rr_cpu_step { /* one operation, ready to run */
    struct rr_op op;
    enum rr_rows rows; /* of dst */
    uint32_t width;    /* of dst */
    struct rr_cpu_linear linear;
    float *gamma, *beta;
    struct rr_cpu_table word, position, type;
    float *cosines, *sines; /* ROTARY: [max_length, angles]; shared by steps of the same angles */
    uint32_t angles;
    struct rr_cpu_relative relative;
};

struct rr_cpu_cost { /* of a sequence of T tokens: fixed + linear T + square T^2, flop */
    double fixed, linear, square;
};

/* ---- work ---------------------------------------------------------------------------------- */

/* Some sequences that are taken through the program together: order[begin .. end). */
struct rr_cpu_piece {
    uint32_t begin, end;
};

/* What to do with a batch: the team takes pieces [0, solo_begin), then the workers take pieces
 * [solo_begin, solo_end) one by one, then the team takes the rest. */
struct rr_cpu_plan {
    uint32_t *order;             /* [max_sequences] sequences, longest first */
    uint32_t *starts;            /* [max_sequences + 1] first token of order[i], in this order */
    struct rr_cpu_piece *pieces; /* [max_sequences] */
    double *load;                /* [threads] scratch of the planner */
    uint32_t n_pieces, solo_begin, solo_end;
    uint32_t end; /* operations that pieces pass; the team takes all sequences through the rest */
    bool alone;   /* too little work to wake anybody */
};

/* Room for converted inputs of a LINEAR: int8 rows with their scales and offsets, or bf16 rows. */
struct rr_cpu_narrow {
    float *base;   /* 64-byte aligned; NULL: none */
    uint32_t rows; /* fit in */
};

/* Rows that the areas of a worker, or of the team, have room for. */
struct rr_cpu_room {
    uint32_t rows[RR_CPU_AREAS];
};

struct rr_cpu_time { /* that a worker spent on an operation, ns */
    uint64_t all, convert; /* convert: of it, on the inputs of a LINEAR */
};

struct rr_cpu_frame { /* one piece on its way through the program */
    const struct rr_cpu_layout *layout;
    const struct rr_cpu_step *steps; /* with the weights of the worker's node */
    float *area[RR_CPU_AREAS];
    struct rr_cpu_room room;
    struct rr_cpu_narrow narrow; /* of the team, converted once for all its shares */
    struct rr_cpu_time *times;   /* [n_steps] of the worker; NULL: nobody measures */
    uint32_t block0;         /* token that is row 0 of the block */
    const uint32_t *order;   /* [n_sequences] numbers of the sequences in the batch */
    const uint32_t *starts;  /* [n_sequences + 1]; minus starts[0]: token row in this piece */
    uint32_t n_sequences, n_tokens;
};

/* The weights once more, for the workers of another memory node. */
struct rr_cpu_copy {
    char *weights;
    struct rr_cpu_step *steps; /* [n_steps] as rr_loaded.steps, but for where the weights lie */
};

struct rr_loaded {
    struct rr_device *device;
    struct rr_limits limits;
    struct rr_cpu_tuning tuning; /* as it was at load */
    struct rr_cpu_step *steps;   /* [n_steps] */
    uint32_t n_steps;
    bool keeps; /* int8 only: layers in a better precision */
    struct rr_cpu_segment *segments; /* [n_segments] */
    uint32_t n_segments;
    struct rr_cpu_layout chunk, team;
    struct rr_cpu_tail tail;
    struct rr_cpu_cost cost;

    struct rr_cpu_room chunk_room, team_room;
    size_t chunk_floats;   /* of one worker's areas */
    size_t scratch_floats; /* of one worker's attention scratch */
    struct rr_file packed;     /* map that holds the weights; empty: they are in block */
    char *block, *workspace;   /* RR_PACKED_HEADER + weight_bytes, and memory.workspace bytes */
    const char *weights;       /* behind the header of either */
    size_t weight_bytes;       /* of one copy; memory.weights counts all */
    struct rr_cpu_copy *copies; /* [nodes of the pool - 1]; the first node has weights itself */
    struct rr_memory memory;
    float *areas, *scratch; /* in workspace: all workers' */
    struct rr_cpu_narrow narrow; /* in workspace: the team's */
    size_t narrow_bytes;         /* of one of its rows */

    rr_observe_fn *observe; /* NULL: nobody looks */
    void *observe_user;
    struct rr_cpu_time *times; /* [threads][n_steps], the caller's; NULL: nobody measures */

    /* The run in progress. */
    struct rr_cpu_plan plan;
    const struct rr_batch *batch;
    float *logits;
    _Atomic uint32_t next_piece;
    /* Team only: [n_steps] next share of an operation, [n_steps] of its inputs' conversion. */
    _Atomic uint32_t *tickets;
};

/* ---- rows ------------------------------------------------------------------------------------ */

/* A value's row: of a token or a sequence of the piece. */
static inline float *rr_cpu_at(const struct rr_cpu_frame *f, const struct rr_cpu_place *p,
                               uint32_t row)
{
    if (p->area == RR_CPU_BLOCK) row -= f->block0;
    return f->area[p->area] + p->offset * f->room.rows[p->area] + (size_t)row * p->ld;
}

/* Rows of an operand. */
struct rr_cpu_rows {
    void *at;
    size_t ld; /* elements */
    enum rr_dtype dtype;
};

static inline struct rr_cpu_rows rr_cpu_rows(const struct rr_cpu_frame *f,
                                             const struct rr_cpu_place *p, uint32_t row)
{
    size_t ld = p->dtype == RR_F32 ? p->ld : 2 * (size_t)p->ld;

    return (struct rr_cpu_rows){ rr_cpu_at(f, p, row), ld, p->dtype };
}

/* From row i on. */
static inline struct rr_cpu_rows rr_cpu_rows_after(const struct rr_cpu_rows *r, uint32_t i)
{
    size_t bytes = r->ld * (r->dtype == RR_F32 ? sizeof(float) : sizeof(uint16_t));

    return (struct rr_cpu_rows){ (char *)r->at + i * bytes, r->ld, r->dtype };
}

/* ---- functions of the files ------------------------------------------------------------------ */

/* cpu_isa.c */

/* The level called name (NULL, "auto": the best) out of levels, worst first, the first one being
 * the reference.  A level that does not agree with the reference is stepped over with a warning; if
 * it was asked for by name, that is RR_EDEVICE. */
RR_NODISCARD int rr_cpu_isa(const struct rr_kern **out, const struct rr_kern *const *levels,
                            uint32_t n_levels, uint32_t flags, const char *name,
                            struct rr_error *err);

/* cpu_selfcheck.c */

/* *wrong = NULL if the level agrees with ref on small random data, else which kernel does not. */
RR_NODISCARD int rr_cpu_self_check(const char **wrong, const struct rr_kern *level,
                                   const struct rr_kern *ref, struct rr_error *err);

/* cpu_check.c */
RR_NODISCARD int rr_cpu_check(const struct rr_program *p, const struct rr_limits *limits,
                              struct rr_error *err);
const char *rr_cpu_op_name(enum rr_op_kind kind);

/* Tensors and rows of an operation's register. */
static inline uint32_t rr_cpu_width(const struct rr_program *p, uint32_t reg)
{
    return p->registers[reg].width;
}

/* cpu_load.c */
RR_NODISCARD int rr_cpu_plan_memory(const struct rr_device *d, const struct rr_program *p,
                                    const struct rr_limits *limits, struct rr_memory *out,
                                    struct rr_error *err);
RR_NODISCARD int rr_cpu_load(struct rr_device *d, const struct rr_program *p,
                             const struct rr_limits *limits, struct rr_loaded **out,
                             struct rr_error *err);
void rr_cpu_unload(struct rr_loaded *l);

/* cpu_packed.c */

/* The weights of l out of a file of the device's folders, as l->packed; false: there is none that
 * fits. */
bool rr_cpu_packed_open(struct rr_loaded *l, const struct rr_program *p);
/* Leaves l's packed weights for the next start, where the device was told to. */
void rr_cpu_packed_save(struct rr_loaded *l, const struct rr_program *p);

/* cpu_kept.c */

/* How to keep what step i writes: in 16 bits if everything that reads it rounds it anyway. */
enum rr_dtype rr_cpu_kept(const struct rr_loaded *l, const struct rr_program *p, uint32_t i);

/* cpu_linear.c */

/* What linear_f32 takes, with rows of any type and without the weights. */
struct rr_cpu_product {
    struct rr_cpu_rows y, x;
    const float *residual; /* or NULL; only if y is f32 */
    size_t ldr;
    uint32_t m, n_begin, n_end;
    enum rr_act act;
};

size_t rr_cpu_row_bytes(const struct rr_tensor *t);
void rr_cpu_linear_init(struct rr_cpu_linear *w, const struct rr_device *d,
                        const struct rr_program *p, const struct rr_op *op);
void rr_cpu_linear_place(struct rr_cpu_linear *w, struct rr_cpu_bump *b);
/* Floats that multiply needs, to convert so many rows at once. */
size_t rr_cpu_linear_scratch(const struct rr_cpu_linear *w, uint32_t rows);
/* Bytes of a converted row; 0: inputs are not converted. */
size_t rr_cpu_linear_narrow(const struct rr_cpu_linear *w);
void rr_cpu_pack(struct rr_loaded *l, const struct rr_program *p);
/* Whether rows of such inputs have to be converted before w multiplies them. */
static inline bool rr_cpu_linear_converts(const struct rr_cpu_linear *w, enum rr_dtype x)
{
    return w->narrow && !(w->packing == RR_CPU_PACK_BF16 && x == RR_BF16);
}
/* As linear_f32 with w's panels and bias.  room: for converted inputs.  convert_ns: where to add
 * the time that converting took; NULL: nobody measures. */
void rr_cpu_linear_multiply(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                            const struct rr_cpu_product *a, const struct rr_cpu_narrow *room,
                            uint64_t *convert_ns);
/* The two halves of it where inputs are converted: m rows of x become rows [row, row + m) of `to`;
 * rows [row, row + a->m) of `from` are multiplied, a->x is not used. */
void rr_cpu_linear_convert(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                           const struct rr_cpu_narrow *to, uint32_t row,
                           const struct rr_cpu_rows *x, uint32_t m);
void rr_cpu_linear_product(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                           const struct rr_cpu_product *a, const struct rr_cpu_narrow *from,
                           uint32_t row);
/* LayerNorm and, while they are in the L1 cache, convert of the rows that it makes, which become
 * rows from `row` on.  norm says all but out and smooth. */
void rr_cpu_linear_convert_norm(const struct rr_kern *kern, const struct rr_cpu_linear *w,
                                const struct rr_cpu_narrow *to, uint32_t row,
                                struct rr_layernorm_i8 *norm);

/* cpu_table.c */
struct rr_cpu_table rr_cpu_table_of(const struct rr_device *d, const struct rr_program *p,
                                    uint32_t tensor);
/* converted: what is placed there has been filled already. */
void rr_cpu_table_place(struct rr_cpu_table *t, bool converted, struct rr_cpu_bump *b);
/* Fills the rooms for tables in f16.  False: one has values too large for it and stays f32. */
bool rr_cpu_tables_convert(struct rr_loaded *l, const struct rr_program *p);

/* cpu_plan.c */
void rr_cpu_plan_batch(struct rr_loaded *l, const struct rr_batch *batch);

/* cpu_exec.c */

/* Rows [row0, row1) of dst; for LINEAR only columns [col0, col1), for ATTENTION only heads
 * [col0, col1) and, on tokens, all rows must belong to one sequence. */
struct rr_cpu_share {
    uint32_t row0, row1, col0, col1;
};
void rr_cpu_exec(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                 const struct rr_cpu_share *share, float *scratch);
/* Whether a step is a norm whose rows it may convert for the LINEAR after it, at once. */
bool rr_cpu_exec_pairs(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f);
/* Such a norm; its rows become rows from `row` on of `to`. */
void rr_cpu_exec_norm(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                      const struct rr_cpu_share *share, const struct rr_cpu_narrow *to,
                      uint32_t row);
/* The LINEAR after it, of those rows. */
void rr_cpu_exec_product(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                         const struct rr_cpu_share *share, const struct rr_cpu_narrow *from,
                         uint32_t row);
/* The rows of share of a LINEAR's input become rows of f->narrow. */
void rr_cpu_exec_convert(const struct rr_loaded *l, uint32_t step, const struct rr_cpu_frame *f,
                         const struct rr_cpu_share *share);

/* Token row at which a sequence of the piece begins. */
static inline uint32_t rr_cpu_first_row(const struct rr_cpu_frame *f, uint32_t sequence)
{
    return f->starts[sequence] - f->starts[0];
}

/* cpu_attention.c */

static inline uint32_t rr_cpu_kv_heads(const struct rr_op_attention *a)
{
    return a->kv_heads ? a->kv_heads : a->heads;
}

/* The kernel, one head at a time, of an ATTENTION. */
rr_attention_f32_fn *rr_cpu_attention_kernel(const struct rr_loaded *l,
                                             const struct rr_cpu_step *s);
/* Whether it takes queries, keys and values in bf16. */
bool rr_cpu_attention_takes_bf16(const struct rr_loaded *l, const struct rr_cpu_step *s);
/* Floats of scratch for one head over length tokens. */
size_t rr_cpu_attention_scratch(const struct rr_cpu_step *s, const struct rr_kern *kern,
                                uint32_t length);
/* Rows of dst in share are queries of `sequence`, columns are heads. */
void rr_cpu_attend(const struct rr_loaded *l, const struct rr_cpu_step *s,
                   const struct rr_cpu_place *place, const struct rr_cpu_frame *f,
                   const struct rr_cpu_share *share, uint32_t sequence, float *scratch);

/* Places and fills what attention by distance needs beside the weights. */
void rr_cpu_relative_place(struct rr_cpu_step *s, const struct rr_kern *kern, uint32_t max_length,
                           struct rr_cpu_bump *b);
RR_NODISCARD int rr_cpu_relative_fill(struct rr_cpu_step *s, const struct rr_kern *kern,
                                      const struct rr_tensor *tensors, uint32_t max_length,
                                      struct rr_error *err);

/* cpu_tail.c */

/* Fills in l->tail, but for the room for rows, when both layouts are known. */
void rr_cpu_tail_find(struct rr_loaded *l, const struct rr_program *p);
/* What the tail will read of a piece's sequences goes to l->tail.rows. */
void rr_cpu_tail_put_off(const struct rr_loaded *l, const struct rr_cpu_frame *f);
/* It comes back, for the sequences of a frame of the team. */
void rr_cpu_tail_take(const struct rr_loaded *l, const struct rr_cpu_frame *f);

/* cpu_run.c */
void rr_cpu_observe(struct rr_loaded *l, rr_observe_fn *fn, void *user);
/* From the next run on, what each worker spends on each operation is added to times, [threads of
 * the device][operations of the program]; NULL: no more.  For benchmarks. */
void rr_cpu_profile(struct rr_loaded *l, struct rr_cpu_time *times);
int rr_cpu_run(struct rr_loaded *l, const struct rr_batch *batch, float *logits,
               struct rr_error *err);

#endif
