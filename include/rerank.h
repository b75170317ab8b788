/* SPDX-License-Identifier: Apache-2.0 */
/* rerank.h - embedding API of librerank: open a cross-encoder, score (query, document) pairs.
 *
 *     struct rr_options opt;
 *     struct rr_engine *engine;
 *     struct rr_result *result;
 *     struct rr_error err;
 *     struct rr_text docs[2] = { { "Paris is in France.", 19 }, { "Bread needs flour.", 18 } };
 *     struct rr_request req = { .query = { "Where is Paris?", 15 }, .documents = docs,
 *                               .n_documents = 2 };
 *
 *     rr_options_init(&opt);
 *     opt.model = "models/starter";
 *     if (rr_open(&engine, &opt, &err)) { fprintf(stderr, "%s\n", err.msg); return 1; }
 *     if (rr_score(engine, &req, &result, &err) == RR_OK) {
 *         printf("best: document %u, score %.4f\n", result->order[0],
 *                result->scores[result->order[0]].score);
 *         rr_result_free(result);
 *     }
 *     rr_close(engine);
 *
 * The rule of this header: an engine owns model, tokenizer, devices and queues; a request owns
 * nothing; a result belongs to whoever received it.  Nothing here knows about HTTP or JSON.
 *
 * Scores are a function of the pair alone: for one engine configuration (model, precision, device
 * and instruction set) the same pair gives the same bits, whatever else is being scored.
 *
 * Structs grow from version to version, those that a caller allocates (rr_request, rr_stats) too.
 * The name of the shared library says for which header it was built, librerank.so.0.1 of 0.1.x and
 * librerank.so.1 of 1.x, so that a program never runs with a library of other structs.
 *
 * Threads: every function may be called from any thread unless its comment says otherwise. */
#ifndef RERANK_H
#define RERANK_H

#include <stdbool.h>

#include "rerank_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RR_PUBLIC __attribute__((visibility("default")))
#define RR_PUBLIC_NODISCARD __attribute__((visibility("default"), warn_unused_result))
#else
#define RR_PUBLIC
#define RR_PUBLIC_NODISCARD
#endif

#define RR_VERSION "0.1.0"

struct rr_engine; /* opaque */

/* ---- log ---------------------------------------------------------------------------------- */

enum rr_log_level { RR_LOG_ERROR, RR_LOG_WARN, RR_LOG_INFO, RR_LOG_DEBUG };

/* Receives one line without a newline.  Called from any thread, one call at a time. */
typedef void rr_log_fn(void *user, enum rr_log_level level, const char *line);

/* Where librerank writes its log: process-wide, default warnings and errors to stderr.  fn NULL
 * restores the default sink.  Call before rr_open. */
RR_PUBLIC void rr_set_log(rr_log_fn *fn, void *user, enum rr_log_level max_level);

/* ---- options ------------------------------------------------------------------------------ */

/* Fill with rr_options_init, then change what you need.  Strings are read during rr_open only. */
struct rr_options {
    size_t struct_size;    /* set by rr_options_init; rr_open refuses that of another header */
    const char *model;     /* folder in Hugging Face layout, or a GGUF file; required */
    const char *device;    /* "auto" (default), "cpu", "cuda", "cuda:N"; for tests also "null" */
    const char *dtype;     /* "auto" (default), "f32", "bf16", "int8"; GPUs also "f16", "fp8" */
    const char *isa;       /* NULL/"auto" (default), or a level to force, e.g. "avx2" */
    bool fallback;         /* true: an unusable GPU is a warning and the CPU serves */
    uint32_t threads;      /* compute threads; 0 (default): what affinity and CPU quota allow */
    uint32_t prep_threads; /* tokenizing threads; 0 (default): 1 per 8 compute threads */
    uint32_t max_length;   /* tokens per pair; 0 (default): min(512, what the model can take) */
    uint32_t batch_tokens; /* tokens per batch; 0 (default): chosen for the device */
    size_t queue_tokens;   /* RR_EBUSY above this many waiting tokens; default 262144 */
    size_t queue_requests; /* ... or this many waiting requests; default 4096 */
    size_t queue_bytes;    /* ... or this many bytes of text in them; default 256 MiB */
    uint64_t stall_ns;     /* a batch that runs longer (and ten times longer than it should) means
                              that the device hangs; 0 (default): 30 s; UINT64_MAX: never */
    bool literal_specials; /* true: "</s>" in a text is text.  false (default): as the reference
                               tokenizer does, it becomes the special token */
    const char *cache_dir; /* for compiled tokenizers, made if it is not there; NULL, "": no cache
                              is read or written */
    size_t cache_bytes;    /* scores kept in memory; 0 (default): none */

    bool packed_cache; /* true: packed weights are kept in cache_dir and mapped at the next start,
                           shared among processes; false (default): only read from the model's
                           folder, where "quantize --cache" puts them */

    /* A second precision that re-scores what decides an exact top k: NULL/"none" (default): none,
     * "bf16", "f32".  Its weights are loaded beside the first ones, unless these are f32. */
    const char *rescore_dtype;
    float drift; /* largest difference of logits between the two; 0 (default): what the model
                    folder's verify report says, else a bound measured at open; below 0, infinite or
                    no number: RR_EINVAL */

    /* Scores shared between servers through Redis or Valkey; NULL (default): not shared. */
    const struct rr_shared_cache *shared_cache;

    /* Several devices for one model, instead of `device`: "cuda:0,cuda:1", "cuda:*" (all), with
     * "cpu" as overflow, too; NULL (default), "": device.  A request is computed by devices that
     * give the same bits, and by those that would end it first. */
    const char *devices;
};

/* rr_options_init for a struct of size bytes, as large as the caller's header makes it: no byte
 * behind them is written, whatever the library's own size is.  For bindings; C and C++ use the
 * function below. */
RR_PUBLIC void rr_options_init_sized(struct rr_options *opt, size_t size);

/* Sets every field of opt to its default, and struct_size. */
static inline void rr_options_init(struct rr_options *opt)
{
    rr_options_init_sized(opt, sizeof(*opt));
}

/* Opens model, tokenizer and device and warms them up.  On success *out is the caller's, to be
 * given to rr_close.  On failure *out is NULL and err says file, field, found and expected. */
RR_PUBLIC_NODISCARD int rr_open(struct rr_engine **out, const struct rr_options *opt,
                                struct rr_error *err);

/* Stops accepting, finishes every accepted request (each on_done is called), frees everything.
 * NULL is allowed.  Must not be called from on_done. */
RR_PUBLIC void rr_close(struct rr_engine *engine);

/* Several models in one process: the engines of a team share its compute threads and take turns on
 * a device, batch by batch.  Tenants get equal parts of its time whichever models they ask, so
 * that a flood of requests for one model does not hold up the others.  Scores are the same. */
struct rr_team; /* opaque */

/* threads: compute threads of all its engines together, whatever their options say; 0: what
 * affinity and CPU quota allow. */
RR_PUBLIC_NODISCARD int rr_team_open(struct rr_team **out, uint32_t threads, struct rr_error *err);
/* Its engines must be closed.  NULL is allowed. */
RR_PUBLIC void rr_team_close(struct rr_team *team);
/* rr_open for an engine of the team. */
RR_PUBLIC_NODISCARD int rr_open_in(struct rr_engine **out, struct rr_team *team,
                                   const struct rr_options *opt, struct rr_error *err);

/* ---- scoring ------------------------------------------------------------------------------ */

enum rr_priority { RR_PRIORITY_NORMAL = 0, RR_PRIORITY_HIGH = 1, RR_PRIORITY_LOW = -1 };

/* How the windows of a long document make one score. */
enum rr_pooling { RR_POOL_MAX_SCORE, RR_POOL_MEAN, RR_POOL_FIRST };

/* A document that does not fit is cut into overlapping windows of tokens, each scored with the
 * whole query.  size 0: no windows, the document is truncated. */
struct rr_window {
    uint32_t size;   /* document tokens in a window; more than fits beside the query is reduced */
    uint32_t stride; /* from one window's start to the next, 1 to size; 0: size.  The last window
                        is moved back to end with the document.  At most 1024 windows each */
    enum rr_pooling pooling;
};

enum rr_truncate_side { /* where the longer text is cut when a pair is too long */
    RR_TRUNCATE_MODEL,  /* as truncation_side of its tokenizer says, mostly on the right */
    RR_TRUNCATE_LEFT,   /* the end is kept; RR_EINVAL for a model with a prompt */
    RR_TRUNCATE_RIGHT   /* the start is kept */
};

/* What is read of a text must be UTF-8, and a value of an enum one of its names, else RR_EINVAL. */
struct rr_request {
    struct rr_text query;
    const struct rr_text *documents; /* [n_documents]; empty documents are scored like others */
    size_t n_documents;              /* 0 is RR_EINVAL */
    uint32_t max_length;             /* tokens per pair; 0: the engine's; larger is RR_EINVAL */
    bool no_truncate;                /* true: a pair longer than max_length is RR_ETOOBIG */
    uint8_t truncate_side;           /* enum rr_truncate_side */
    bool no_cache;                   /* true: compute every pair, use and leave nothing cached */
    uint64_t timeout_ns;             /* from submit; 0: none.  Late work is RR_ETIMEDOUT */
    bool allow_partial;              /* true: at the deadline, what is scored is the result */
    bool goes_on;                    /* true: more of a request that was taken; not RR_EBUSY */
    enum rr_priority priority;       /* higher ones go first; lower ones are never starved */
    uint64_t tenant;                 /* fairness is between tenants first, then between requests */
    size_t exact_top_k;              /* the first so many of the order are those of the rescore
                                        precision; 0: no re-scoring.  Needs rescore_dtype unless
                                        the engine computes in f32 */
    struct rr_window window;
};

struct rr_score {
    double score;         /* sigmoid(logit), computed in double precision; the logit itself where
                             the model's folder asks for it (rr_info.activation) */
    float logit;          /* what the model's head puts out */
    uint32_t tokens;      /* length of the pair as scored, special tokens included */
    bool truncated;       /* true: part of the query or document was cut to fit max_length */
    bool rescored;        /* true: by the rescore precision */
    bool missing;         /* true: not scored in time (allow_partial); score and logit are 0 */
    uint32_t full_tokens; /* what the pair would have without any cut; at least so many, where a
                             document has more than four times what fits and no windows */
    uint32_t n_windows;   /* 0: the document was not cut into windows */
    uint32_t window_start, window_end; /* bytes of the document: the best window */
};

struct rr_timings { /* nanoseconds of the monotonic clock */
    uint64_t tokenize_ns;
    uint64_t queue_ns;   /* ready to be computed but waiting for the device */
    uint64_t compute_ns; /* from the first batch that held a pair of it to the last one's end */
    uint64_t total_ns;   /* from rr_submit to on_done */
};

struct rr_result {
    size_t n_documents;
    struct rr_score *scores; /* [n_documents], in input order */
    uint32_t *order;         /* [n_documents], indices best first: by logit, ties by lower index;
                                 missing ones last */
    uint64_t tokens;         /* sum over pairs */
    size_t n_cached;         /* scores that came from the cache, in memory or shared */
    size_t n_duplicates;     /* documents equal to an earlier one of the request */
    size_t n_coalesced;      /* scores that another request in flight computed */
    size_t n_rescored;       /* pairs computed in the rescore precision */
    size_t n_missing;        /* documents without a score (allow_partial) */
    bool exact;              /* the first exact_top_k are the rescore precision's */
    struct rr_timings timings;
};

/* Called exactly once for each accepted request, from a thread of the engine.  Must not block and
 * must not call rr_score or rr_close.  err->code RR_OK: result is the callee's, to be freed with
 * rr_result_free.  Otherwise result is NULL.  err is valid during the call only. */
typedef void rr_done_fn(void *user, struct rr_result *result, const struct rr_error *err);

struct rr_ticket; /* opaque: names a request in flight */

/* Queues a request.  RR_OK: the request's texts and array must stay as they are until on_done has
 * been called; *ticket (may be NULL if unwanted) is valid for rr_cancel until on_done returns.
 * Any other code (RR_EBUSY, RR_EINVAL, RR_ECLOSED, RR_EDEVICE while the device hangs, ...): on_done
 * is never called. */
RR_PUBLIC_NODISCARD int rr_submit(struct rr_engine *engine, const struct rr_request *req,
                                  rr_done_fn *on_done, void *user, struct rr_ticket **ticket,
                                  struct rr_error *err);

/* Asks to drop a request; on_done still comes, with RR_ECANCELED or, if the work was done already,
 * with its result.  The caller makes sure that on_done has not returned yet. */
RR_PUBLIC void rr_cancel(struct rr_engine *engine, struct rr_ticket *ticket);

/* rr_submit and wait.  *out is the caller's on RR_OK and NULL otherwise. */
RR_PUBLIC_NODISCARD int rr_score(struct rr_engine *engine, const struct rr_request *req,
                                 struct rr_result **out, struct rr_error *err);

RR_PUBLIC void rr_result_free(struct rr_result *result); /* NULL is allowed */

/* ---- tokens ------------------------------------------------------------------------------- */

struct rr_token {
    int32_t id;
    uint32_t start, end; /* bytes of the input text; start == end for special tokens around it */
    bool special;
};

struct rr_tokens {
    size_t n;
    struct rr_token *tokens; /* [n] */
};

/* Tokenizes one text, with the special tokens of a single sequence around it if asked.  No
 * truncation.  *out is the caller's, to be freed with rr_tokens_free. */
RR_PUBLIC_NODISCARD int rr_tokenize(struct rr_engine *engine, struct rr_text text, bool add_special,
                                    struct rr_tokens **out, struct rr_error *err);
/* NULL is allowed. */
RR_PUBLIC void rr_tokens_free(struct rr_tokens *tokens);

/* The piece of an id as the tokenizer file spells it; empty when there is no such id.  Valid as
 * long as the engine. */
RR_PUBLIC struct rr_text rr_token_piece(const struct rr_engine *engine, int32_t id);

/* The text of ids[n] in UTF-8.  Ids that are no token are left out; skip_special: special ones,
 * too.  *out is the caller's, to be freed with rr_text_free. */
RR_PUBLIC_NODISCARD int rr_decode(struct rr_engine *engine, const int32_t *ids, size_t n,
                                  bool skip_special, struct rr_text *out, struct rr_error *err);
/* Only what rr_decode has given. */
RR_PUBLIC void rr_text_free(struct rr_text text);

/* ---- information -------------------------------------------------------------------------- */

struct rr_info {
    char model[256];        /* last part of the folder's name, or the repository's name */
    char path[1024];        /* the folder, or the GGUF file */
    char architecture[64];  /* e.g. "XLMRobertaForSequenceClassification" */
    char device[32];        /* "cpu", "cuda:0"; several: "cuda:0,cuda:1", or "cuda:0,+7" */
    char device_name[128];  /* e.g. the CPU's brand string */
    char isa[32];           /* e.g. "avx2" */
    char dtype[16];         /* e.g. "f32" */
    char rescore_dtype[16]; /* empty: none */
    char weights_dtype[16]; /* of the file, e.g. "f16" */
    char activation[16];    /* "sigmoid": scores are probabilities; "identity": logits, as the
                               model's folder asks for */
    bool fallback_active;   /* a device that was asked for could not be opened: others, or the
                               CPU, serve */
    uint32_t threads, prep_threads;
    uint32_t layers, hidden, heads, intermediate, vocab;
    uint32_t max_length;    /* default limit of tokens per pair */
    uint32_t max_positions; /* what the model could take */
    uint32_t batch_tokens;
    uint64_t parameters;
    uint64_t fingerprint;     /* of the weights and the tokenizer */
    uint64_t weights_bytes;   /* resident, as the device stores them; of several, the most on one */
    uint64_t mapped_bytes;    /* of model files kept mapped, e.g. embedding tables */
    uint64_t workspace_bytes; /* activations: the most a batch can need; as above */
    /* Of both, what is in the machine's memory: 0 where only GPUs compute. */
    uint64_t host_weights_bytes, host_workspace_bytes;
};

/* Valid from rr_open to rr_close. */
RR_PUBLIC const struct rr_info *rr_engine_info(const struct rr_engine *engine);

/* Reads everything that rr_open would read except the weights' content, and fills *info with what
 * rr_open would do.  The way to check a configuration without paying for it. */
RR_PUBLIC_NODISCARD int rr_inspect(const struct rr_options *opt, struct rr_info *info,
                                   struct rr_error *err);

/* A snapshot of the engine's counters; all grow but queue_*, cache_entries, cache_bytes. */
struct rr_stats {
    uint64_t requests_done, requests_failed, requests_canceled;
    uint64_t pairs_done, tokens_done, batches_done, nonfinite;
    uint64_t truncated_pairs, duplicate_pairs;
    uint64_t coalesced_pairs, rescored_pairs, partial_requests;
    uint64_t cache_hits, cache_misses, cache_evictions;
    size_t cache_entries, cache_bytes;
    uint64_t shared_hits, shared_misses, shared_errors, shared_dropped; /* of the shared cache */
    bool shared_configured, shared_up;
    uint64_t device_errors, device_retries; /* failed batches; pairs computed again elsewhere */
    uint64_t compute_ns;                    /* time in which the device was busy */
    uint64_t last_batch_ns;                 /* monotonic time of its end; 0: none yet */
    size_t queue_requests, queue_pairs, queue_tokens, queue_bytes; /* accepted, not finished */
    float drift; /* bound of the difference between the two precisions that is believed now */
};

/* A copy of the counters; they are not all of the same moment. */
RR_PUBLIC void rr_engine_stats(struct rr_engine *engine, struct rr_stats *out);

/* Is the engine able to answer?  Computed from progress, never from a timer alone. */
struct rr_health {
    bool ok;                  /* some device is alive, work moving, last probe not too old */
    bool device_ok;           /* every device that was asked for is */
    bool stalled;             /* no device is left, and one hangs */
    uint64_t probe_age_ns;    /* since the last forward that gave the expected bits; any batch that
                                 ended well counts */
    uint64_t progress_age_ns; /* since a batch ended or the queue was empty */
    char why[192];            /* one line when not ok or not device_ok, else empty */
};

/* Cheap; starts a probe in the background when the last one is older than a few seconds. */
RR_PUBLIC void rr_engine_health(struct rr_engine *engine, struct rr_health *out);

/* Nanoseconds until a request of so many tokens, accepted now, would be done: the queue at the
 * measured rate; 146 years (a quarter of UINT64_MAX) at most.  0 while nothing has been
 * measured. */
RR_PUBLIC uint64_t rr_engine_wait_ns(struct rr_engine *engine, size_t tokens);

struct rr_device_state {   /* of one device of an engine, now; counters grow */
    char name[32];         /* "cuda:0" */
    char hardware[128];    /* empty: not opened yet */
    char isa[32], dtype[16];
    char why[128];         /* what happened, when it is not up; else empty */
    bool up;               /* it serves, or would */
    bool reserve;          /* the CPU, opened when no other device is up */
    uint32_t threads, batch_tokens;
    uint64_t memory_bytes; /* of the device; 0: not known */
    uint64_t weights_bytes, workspace_bytes; /* that the model takes on it */
    uint64_t batches_done, pairs_done, tokens_done, errors;
    uint64_t compute_ns;      /* time in which it was busy */
    uint64_t in_hand_tokens;  /* of the batch that it computes */
    uint64_t queue_tokens;    /* that wait for it, or for any of those that give the same bits */
    double ns_per_token;      /* of late; 0: not measured */
};

/* The engine's device number index, from 0; false: there are no more. */
RR_PUBLIC bool rr_engine_device(struct rr_engine *engine, uint32_t index,
                                struct rr_device_state *out);

struct rr_host {          /* what this machine offers to this process */
    char cpu[128];        /* brand string */
    char features[512];   /* space-separated, e.g. "avx2 fma f16c" */
    char isa[32];         /* level that "auto" would choose */
    char isas[256];       /* space-separated levels that can be forced here */
    char isas_built[256]; /* ... and those that were compiled in */
    uint32_t cpus_online;
    uint32_t cpus_allowed; /* by the affinity mask */
    double cpu_quota;      /* by cgroup, in CPUs; 0: no limit */
    uint32_t threads;      /* what "auto" would use */
    double waiting;        /* share of the last ten seconds in which some task waited for a
                              processor; < 0: not known */
    double steal;          /* share of the processors' time that other virtual machines took since
                              the start; < 0: not known */
    uint32_t runnable;     /* threads of the machine that run or wait for one; 0: not known */
    uint32_t memory_nodes; /* that the allowed processors belong to */
    uint64_t memory_total; /* bytes */
    uint64_t memory_available;
    uint64_t memory_limit; /* by cgroup; 0: no limit */
    char cuda[256];        /* one line: usable, or why not */
};

/* Why a GPU's clocks are lower than they could be: power limit, heat, the board's own reasons,
 * somebody's setting. */
enum rr_gpu_throttle {
    RR_GPU_POWER = 1,
    RR_GPU_THERMAL = 2,
    RR_GPU_HARDWARE = 4,
    RR_GPU_SETTING = 8
};
#define RR_GPU_THROTTLES 4 /* so many there are */

/* A reason as /metrics and /info name it: "power" of bit 0 (RR_GPU_POWER), "thermal" of bit 1 and
 * so on; NULL: there is no such bit. */
RR_PUBLIC const char *rr_gpu_throttle_name(uint32_t bit);

struct rr_gpu { /* now, whoever uses it; from NVML where the machine has it */
    char name[128], isa[32];
    uint64_t memory_used, memory_total; /* bytes; 0: not known */
    float utilization;                  /* 0 to 1 of the time of late; below 0: not known */
    float celsius, watts;               /* below 0: not known */
    uint32_t throttled;                 /* bits of enum rr_gpu_throttle; 0: none, or not known */
    uint64_t repeated; /* pairs computed again in f32, being too large for the precision */
};

/* The first GPU in service that the engine computes on; false: there is none. */
RR_PUBLIC bool rr_engine_gpu(struct rr_engine *engine, struct rr_gpu *out);
/* The same of its device number index (rr_engine_device). */
RR_PUBLIC bool rr_device_gpu(struct rr_engine *engine, uint32_t index, struct rr_gpu *out);
/* The machine's GPU number index, from 0: opens it, which checks that it computes rightly, and
 * closes it again.  false: there is no such GPU.  What is wrong with one is in err. */
RR_PUBLIC bool rr_host_gpu(uint32_t index, struct rr_gpu *out, struct rr_error *err);

/* Keeps in cache_dir that dtype serves the engine's model best on its device, and why, in a line:
 * engines that are opened with this cache_dir and dtype "auto" take it, and log why.  It holds for
 * this model, the device's product name and level, and this version of the library.  cache_dir NULL
 * or "", or a dtype that the device cannot compute in, is RR_EINVAL. */
RR_PUBLIC_NODISCARD int rr_choose_dtype(struct rr_engine *engine, const char *cache_dir,
                                        const char *dtype, const char *why, struct rr_error *err);

/* ---- quantizing --------------------------------------------------------------------------- */

struct rr_list { /* a query with its documents */
    struct rr_text query;
    const struct rr_text *documents; /* [n_documents] */
    size_t n_documents;
};

struct rr_quantize {
    const struct rr_options *engine; /* model, threads, isa, max_length, cache_dir are used */
    const char *out;                 /* folder to write: not there yet, not in the model's */
    const char *dtype;               /* "int8", "bf16", "f16", "f32" */
    const char *keep; /* int8: weights whose names fit this pattern (* and ?) stay in bf16, some
                         must; NULL */
    bool cache;       /* also leave the packed weights for this machine in out */
    bool tables_f16;  /* embedding tables in f16, whatever they are in the model's folder */
    /* int8: lists that show what the inputs of the layers look like; 0: rounded without. */
    const struct rr_list *calibration;
    size_t n_calibration;
    /* int8: other lists, scored in f32 and as quantized; 0: no check. */
    const struct rr_list *check;
    size_t n_check;
    bool gate; /* until judge is content, layers take inputs of 16 bits, or go back to bf16 or
                * f32, the worst first */
    /* Logits of all documents of check, list by list: in f32, and of a candidate with so many
     * layers in int8.  *good: good enough.  A status other than RR_OK, with err filled in, ends
     * the work; nothing is written then. */
    int (*judge)(void *user, const float *reference, const float *candidate, size_t n_int8,
                 bool *good, struct rr_error *err);
    void (*progress)(void *user, const char *step, size_t done, size_t total); /* may be NULL */
    void *user;
};

struct rr_quantize_report {
    size_t n_layers, n_int8; /* linear layers on tokens, and those of them in int8 */
    bool passed;             /* judge was content with what was written, or there was no check */
    uint32_t n_fine;         /* layers with weights in int8 and inputs in 16 bits */
    double int8_share;       /* of these layers' multiplications; of an int8 folder, as below */
    double time, time_bf16;  /* estimates for this machine: what they take, and would in bf16, in
                              * units of what they would take in int8 */
};

/* Writes a model folder in another precision; out appears whole or not at all.  RR_ENOTSUP: gate
 * was asked for and judge is content with no choice that has a layer in int8; nothing is written
 * then. */
RR_PUBLIC_NODISCARD int rr_quantize(const struct rr_quantize *q, struct rr_quantize_report *report,
                                    struct rr_error *err);

/* Looks at this machine; needs no engine. */
RR_PUBLIC void rr_host_info(struct rr_host *out);

/* Multiplications and additions a second that the instructions of a level (rr_info.isa) reach on so
 * many threads out of registers: the ceiling of what rr_info.dtype can do on this CPU, the mean of
 * about 50 ms.  Machines are shared, so measure it right before or after what is to be compared.
 * 0: not known. */
RR_PUBLIC double rr_host_peak(const char *isa, const char *dtype, uint32_t threads);

struct rr_support { /* a network that rr_open takes */
    const char *architecture;      /* architectures[0] of config.json */
    const char *safetensors_types; /* of the weights, "F32, F16, BF16" */
    const char *gguf_types;        /* ... in GGUF files; empty: not read from them */
    const char *models;            /* well-known ones, for people */
    const char *cpu_dtypes;        /* of the arithmetic on a CPU; each is tested */
    const char *gpu_dtypes;        /* ... on an NVIDIA GPU; tested by emulation */
};

/* The i-th, from 0; false: there are no more. */
RR_PUBLIC bool rr_supported(size_t i, struct rr_support *out);

/* Writes a model in another format or precision.  from: a folder or a GGUF file.  to: a name that
 * ends with .gguf, or a folder that is made, for safetensors; neither may be there yet.  dtype:
 * "f32", "f16", "bf16" or, in GGUF, "q8_0".  shard_bytes: most bytes of a safetensors file, 0: one
 * file. */
RR_PUBLIC_NODISCARD int rr_convert(const char *from, const char *to, const char *dtype,
                                   uint64_t shard_bytes, struct rr_error *err);

RR_PUBLIC const char *rr_status_name(int code); /* "RR_EBUSY"; never NULL */
/* Of the library that is linked, which may be newer than RR_VERSION of this header. */
RR_PUBLIC const char *rr_version(void);

#ifdef __cplusplus
}
#endif
#endif
