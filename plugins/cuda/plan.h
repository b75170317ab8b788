/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - the host side of the plugin: values of a program, weights on the device, running. */
#ifndef RR_CUDA_PLAN_H
#define RR_CUDA_PLAN_H

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kern.h"

extern "C" {
#include "base/err.h"
/* The same check as the CPU backend's, compiled into the plugin. */
int rr_cpu_check(const struct rr_program *p, const struct rr_limits *limits, struct rr_error *err);
}

enum class Precision { F32, F16, BF16, I8, F8 };
const char *precision_name(Precision p);

/* What a program's arithmetic is made of on a device. */
struct Numbers {
    Precision precision;
    bool bf16; /* what 16-bit values are: bf16, else f16 */
};
/* In quantized precisions 16-bit values are f16, which keeps more digits; but where a model keeps
 * layers in bf16 and the device multiplies it, they are bf16. */
Numbers numbers_for(Precision precision, int arch, const struct rr_program &p);

/* ---- values.cc: what lives where -------------------------------------------------------------- */

/* A register that is written again holds a new value. */
struct Value {
    uint32_t width, ld;
    enum rr_rows rows;
    bool f32, narrow;         /* the forms in which it is kept: those in which it is read */
    bool any;                 /* some reader takes either form */
    size_t first, last;       /* operations between which it lives */
    size_t f32_at, narrow_at; /* in the workspace */
};
struct OpValues {
    size_t dst, src, other; /* other: residual or kv; NO_VALUE: none */
    size_t quantized;       /* what this LINEAR reads, or this NORM writes; NO_VALUE: none */
};
constexpr size_t NO_VALUE = SIZE_MAX;

/* The rows that one quantized LINEAR reads. */
struct QuantizedValue {
    size_t maker;  /* the NORM that writes them as it goes, or else the LINEAR: a pass before it */
    size_t reader; /* the LINEAR */
    uint32_t ld;
    enum rr_rows rows;
    bool f8;
    size_t at, scale_at, offset_at; /* in the workspace */
};

struct Layout {
    std::vector<Value> values;
    std::vector<OpValues> ops;
    std::vector<QuantizedValue> quantized;
    size_t output;
    size_t bytes; /* of the workspace */
};

/* Which kernel a LINEAR uses. */
GemmType gemm_type(const Numbers &n, const struct rr_program &p, const struct rr_op &op);
static inline bool is_quantized(GemmType type)
{
    return type == GEMM_I8 || type == GEMM_F8;
}
bool narrow_attention(const Numbers &n, const struct rr_op &op);
Layout make_layout(const Numbers &n, const struct rr_program &p, const struct rr_limits &l);

/* ---- weights.cc: what lies on the device ------------------------------------------------------ */

/* Places tensors one after the other; without a base it only counts. */
class Packer
{
  public:
    explicit Packer(char *device_base) : base(device_base), used(0), error(cudaSuccess)
    {
    }
    /* fill writes the bytes as they shall lie on the device; it is not called when counting. */
    size_t put(size_t bytes, const std::function<void(char *)> &fill);
    void put_at(size_t at, size_t bytes, const std::function<void(char *)> &fill); /* reserved */
    size_t put_raw(size_t bytes, const void *data); /* straight from the model file */
    size_t reserve(size_t bytes);                   /* filled later, by kernels */
    char *base;
    size_t used;
    cudaError_t error;

  private:
    std::vector<char> stage;
};

/* Offsets of one operation's weights; only those of its kind are used. */
struct OpWeights {
    GemmType type;
    uint32_t n, ld_bytes;
    size_t weight, bias, scale, sum;   /* LINEAR */
    size_t smooth;                     /* LINEAR: factors of its inputs */
    size_t word, position, type_table; /* EMBED */
    size_t word_scale;                 /* of a table in int8 */
    enum rr_dtype word_type, position_type, type_type;
    uint32_t word_rows, position_rows, type_rows;
    size_t gamma, beta;    /* NORM, ROTARY */
    size_t cosines, sines; /* ROTARY */
    uint32_t angles;
    size_t buckets, relative_keys, relative_queries; /* ATTENTION */
    uint32_t relative_ld;
};
constexpr size_t NOWHERE = SIZE_MAX;

std::vector<OpWeights> pack_weights(Packer &packer, const Numbers &n, const struct rr_program &p,
                                    const struct rr_limits &l);
/* Computes the tables of relative positions on the device, after pack_weights. */
cudaError_t make_relative(const LaunchContext &c, char *base, const struct rr_program &p,
                          const std::vector<OpWeights> &weights);

/* ---- memory.cc -------------------------------------------------------------------------------- */

struct BatchLayout { /* offsets in the block that is copied up, the same on both sides */
    size_t cu_seqlens, tiles, tokens, bytes;
    uint32_t max_tiles;
};
BatchLayout batch_layout(const struct rr_limits &l);
/* Of one sequence in f32, for a pair that is repeated; empty where all is f32. */
Layout single_layout(const Numbers &n, const struct rr_program &p, const struct rr_limits &l);
int plan_program(const struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
                 struct rr_memory *out, struct rr_error *err);
/* RR_ENOMEM with what would fit, unless m does.  The device is the current one. */
int check_room(struct rr_device *d, const struct rr_program &p, const struct rr_limits &l,
               const struct rr_memory &m, struct rr_error *err);

/* ---- run.cc ----------------------------------------------------------------------------------- */

struct rr_device {
    int ordinal;
    int arch; /* of the code that runs there: what it lacks the device lacks */
    Precision precision;
    cudaDeviceProp prop;
    bool lost;                      /* an error that the context does not recover from */
    uint64_t hang_ns;               /* for which a batch may run; 0: for ever */
    std::atomic<uint64_t> repeated; /* pairs in f32 */
};
/* A stream whose work never ended: the device opens again when it has. */
void leave_behind(int ordinal, cudaStream_t stream);

/* Fills err from a failed call; everything but a lack of memory loses the device. */
int cuda_failed(struct rr_device *d, cudaError_t e, const char *what, struct rr_error *err);

int load_program(struct rr_device *d, const struct rr_program *p, const struct rr_limits *l,
                 struct rr_loaded **out, struct rr_error *err);
void unload_program(struct rr_loaded *loaded);
int run_batch(struct rr_loaded *l, const struct rr_batch *b, float *logits, struct rr_error *err);

/* ---- golden.cc: a small program whose logits are known ------------------------------------------ */

struct Golden {
    struct rr_program program;
    struct rr_batch batch, copies; /* copies: the same sequences again and again */
    struct rr_limits limits;
    const double *expected; /* [batch.n_sequences], from an evaluation in double precision */
};
extern "C" const struct Golden *rr_cuda_golden(void);
int check_golden(struct rr_device *d, bool copies_too, struct rr_error *err);

/* ---- nvml.cc ------------------------------------------------------------------------------------ */

/* uuid: of the device as CUDA sees it, 16 bytes; of the instance where a card is partitioned. */
void nvml_stats(const char *pci_bus_id, const unsigned char *uuid, struct rr_device_stats *out);

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}
/* Elements in a row of a buffer: a multiple of 64 bytes in the narrow form and in f32. */
static inline uint32_t buffer_ld(uint32_t width)
{
    return (uint32_t)round_up(width, 32);
}

#endif
