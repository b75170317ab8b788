/* SPDX-License-Identifier: Apache-2.0 */
/* bench_encoder.c - times a whole XLM-R-large shaped cross-encoder (hidden 1024, 16 heads, 4096
 * between, last layer for the first token only) with random f16 weights on the CPU backend.
 *
 *   bench_encoder [--layers 24] [--threads 0] [--isa auto] [--dtype f32] [--reps 5]
 *                 [--shape 20x128] [--mode auto|chunks|team] [--chunk N] [--solo N] [--team N]
 *                 [--block N] [--backend cpu] [--words N] [--plan] [--profile]
 *
 * --shape takes several, with commas between: COUNTxLENGTH, ragged, or lengths with + between.
 * --plan only says how much memory it would take.  --profile also says, for each kind of operation,
 * what a thread spent on it in a run, on the mean (with one clock reading each: below a thousandth).
 *
 * Times are milliseconds for one run() on one batch, best and median; GFLOP/s counts what the
 * program computes, nothing for padding.  cpu is the least processor time of all threads together,
 * the number to compare by on a machine where others are at work. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "backend/cpu_backend.h"
#include "backend/registry.h"
#include "base/attr.h"
#include "base/mem.h"

enum { HIDDEN = 1024, HEADS = 16, BETWEEN = 4096, POSITIONS = 514, MAX_REPS = 100 };
#define MAX_TOKENS 16384
#define MAX_SEQUENCES 256

struct settings {
    uint32_t layers, threads, reps, words;
    bool plan, profile;
    const char *isa, *dtype, *mode;
    char *shape;
    const struct rr_backend *backend;
    uint32_t chunk, solo, team, block;
};

/* ---- program ----------------------------------------------------------------------------------- */

struct builder {
    struct rr_program p;
    struct rr_tensor *tensors;
    struct rr_register *registers;
    struct rr_op *ops;
    char *file;
    size_t used, size;
};

static double now_ms(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

static void check(int failed, const char *what)
{
    if (!failed) return;
    fprintf(stderr, "bench_encoder: %s\n", what);
    exit(1);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13; /* xorshift32 (Marsaglia 2003) */
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

/* f16 values of both signs between 2^-7 and 2^-4: sums stay ordinary numbers. */
static void fill_random(uint16_t *v, size_t n)
{
    uint32_t state = 12345;
    size_t done = RR_MIN(n, 1u << 20);

    for (size_t i = 0; i < done; i++) {
        uint32_t r = next_random(&state);

        v[i] = (uint16_t)((r & 0x8000) | (8 + (r >> 16 & 3)) << 10 | (r & 0x3FF));
    }
    for (; done < n; done += RR_MIN(done, n - done)) /* the rest repeats with an odd shift */
        memcpy(v + done, v + 1, RR_MIN(done - 1, n - done) * sizeof(*v));
}

static uint32_t tensor(struct builder *b, uint32_t rows, uint32_t columns)
{
    size_t bytes = (size_t)(rows ? rows : 1) * columns * 2;
    struct rr_tensor *t = &b->tensors[b->p.n_tensors];

    check(b->used + bytes > b->size, "the weights file is too small");
    *t = (struct rr_tensor){ .name = "random", .dtype = RR_F16, .rank = rows ? 2 : 1,
                             .shape = { rows ? rows : columns, columns },
                             .data = b->file + b->used, .in_file = true };
    b->used += (bytes + 63) / 64 * 64;
    return b->p.n_tensors++;
}

static uint32_t reg(struct builder *b, uint32_t width, enum rr_rows rows)
{
    b->registers[b->p.n_registers] = (struct rr_register){ width, rows };
    return b->p.n_registers++;
}

static struct rr_op *op(struct builder *b, enum rr_op_kind kind, uint32_t dst, uint32_t src)
{
    b->ops[b->p.n_ops] = (struct rr_op){ .kind = kind, .dst = dst, .src = src };
    return &b->ops[b->p.n_ops++];
}

static uint32_t linear(struct builder *b, uint32_t src, uint32_t parts, uint32_t out,
                       enum rr_act act, uint32_t residual)
{
    uint32_t dst = reg(b, parts * out, b->registers[src].rows);
    struct rr_op *o = op(b, RR_OP_LINEAR, dst, src);

    o->u.linear.n_parts = parts;
    o->u.linear.act = act;
    o->u.linear.residual = residual;
    for (uint32_t i = 0; i < parts; i++) {
        o->u.linear.weight[i] = tensor(b, out, b->registers[src].width);
        o->u.linear.bias[i] = tensor(b, 0, out);
    }
    return dst;
}

static uint32_t norm(struct builder *b, uint32_t src)
{
    struct rr_op *o = op(b, RR_OP_NORM, src, src);

    o->u.norm = (struct rr_op_norm){ .gamma = tensor(b, 0, HIDDEN), .beta = tensor(b, 0, HIDDEN),
                                     .eps = 1e-5f };
    return src;
}

static uint32_t attention(struct builder *b, uint32_t q, uint32_t kv, uint32_t k_col)
{
    uint32_t dst = reg(b, HIDDEN, b->registers[q].rows);
    struct rr_op *o = op(b, RR_OP_ATTENTION, dst, q);

    o->u.attention = (struct rr_op_attention){ .kv = kv, .k_col = k_col, .v_col = k_col + HIDDEN,
                                               .heads = HEADS, .head_dim = HIDDEN / HEADS,
                                               .scale = 0.125f };
    return dst;
}

static uint32_t layer(struct builder *b, uint32_t x, bool last)
{
    uint32_t context, q;

    if (last) {
        uint32_t kv = linear(b, x, 2, HIDDEN, RR_ACT_NONE, RR_NONE);
        uint32_t first = reg(b, HIDDEN, RR_ROWS_SEQUENCES);

        op(b, RR_OP_FIRST, first, x);
        x = first;
        q = linear(b, x, 1, HIDDEN, RR_ACT_NONE, RR_NONE);
        context = attention(b, q, kv, 0);
    } else {
        q = linear(b, x, 3, HIDDEN, RR_ACT_NONE, RR_NONE);
        context = attention(b, q, q, HIDDEN);
    }
    x = norm(b, linear(b, context, 1, HIDDEN, RR_ACT_NONE, x));
    q = linear(b, x, 1, BETWEEN, RR_ACT_GELU, RR_NONE);
    return norm(b, linear(b, q, 1, HIDDEN, RR_ACT_NONE, x));
}

static void build(struct builder *b, uint32_t layers, uint32_t words, bool plan)
{
    int fd = memfd_create("weights", MFD_CLOEXEC);
    uint32_t x;

    /* A file in memory: like a model's, its pages can be dropped from our address space. */
    memset(b, 0, sizeof(*b));
    b->size = ((size_t)layers * 12700000 + ((size_t)words + POSITIONS) * HIDDEN + 2000000) * 2;
    check(fd < 0 || ftruncate(fd, (off_t)b->size) != 0, "memfd_create failed");
    b->file = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(b->file == MAP_FAILED, "mmap failed");
    if (!plan) fill_random((uint16_t *)(void *)b->file, b->size / 2);
    b->p.tensors = b->tensors = rr_calloc(RR_MEM_MISC, 20 * layers + 20, sizeof(*b->tensors));
    b->p.registers = b->registers = rr_calloc(RR_MEM_MISC, 10 * layers + 10,
                                              sizeof(*b->registers));
    b->p.ops = b->ops = rr_calloc(RR_MEM_MISC, 10 * layers + 10, sizeof(*b->ops));
    check(!b->tensors || !b->registers || !b->ops, "out of memory");

    x = reg(b, HIDDEN, RR_ROWS_TOKENS);
    op(b, RR_OP_EMBED, x, RR_NONE)->u.embed = (struct rr_op_embed){
        .word = tensor(b, words, HIDDEN), .position = tensor(b, POSITIONS, HIDDEN),
        .type = tensor(b, 1, HIDDEN) };
    norm(b, x);
    for (uint32_t i = 0; i < layers; i++) x = layer(b, x, i + 1 == layers);
    x = linear(b, x, 1, HIDDEN, RR_ACT_TANH, RR_NONE);
    b->p.output = linear(b, x, 1, 1, RR_ACT_NONE, RR_NONE);
}

/* ---- batches ----------------------------------------------------------------------------------- */

struct work {
    struct rr_batch b;
    int32_t ids[MAX_TOKENS], positions[MAX_TOKENS], types[MAX_TOKENS];
    uint32_t cu[MAX_SEQUENCES + 1];
    uint32_t state, words;
};

static void add_sequence(struct work *w, uint32_t length)
{
    uint32_t at = w->b.n_tokens;

    check(at + length > MAX_TOKENS || w->b.n_sequences >= MAX_SEQUENCES, "the batch is too large");
    for (uint32_t i = 0; i < length; i++) {
        w->ids[at + i] = (int32_t)(next_random(&w->state) % w->words);
        w->positions[at + i] = (int32_t)(2 + i);
        w->types[at + i] = 0;
    }
    w->b.n_tokens += length;
    w->cu[++w->b.n_sequences] = w->b.n_tokens;
}

/* Normal by Box and Muller (1958). */
static double normal(uint32_t *state)
{
    double u = (next_random(state) + 1.0) / 4294967297.0, v = next_random(state) / 4294967296.0;

    return sqrt(-2 * log(u)) * cos(2 * acos(-1) * v);
}

/* "20x128", "64+31+200", or "ragged": 20 lengths, lognormal with mean 128 and sigma 0.4. */
static void make_work(struct work *w, const char *shape, uint32_t words)
{
    unsigned count, length;

    memset(w, 0, sizeof(*w));
    w->words = words;
    w->state = 2463534242u;
    w->b = (struct rr_batch){ 0, 0, w->ids, w->positions, w->types, w->cu };
    if (strcmp(shape, "ragged") == 0) {
        for (int i = 0; i < 20; i++) {
            double len = exp(log(128) - 0.4 * 0.4 / 2 + 0.4 * normal(&w->state));

            add_sequence(w, (uint32_t)RR_MAX(8, RR_MIN(512, len)));
        }
        return;
    }
    if (strchr(shape, '+')) {
        for (const char *at = shape; at; at = strchr(at, '+') ? strchr(at, '+') + 1 : NULL) {
            check(sscanf(at, "%u", &length) != 1 || length < 1 || length > 512, "a length is 1 to 512");
            add_sequence(w, length);
        }
        return;
    }
    check(sscanf(shape, "%ux%u", &count, &length) != 2 || length < 1 || length > 512 || count < 1,
          "a shape is COUNTxLENGTH, at most 512 long, or ragged");
    for (unsigned i = 0; i < count; i++) add_sequence(w, length);
}

static double flop_of(const struct builder *b, const struct rr_batch *batch)
{
    double sum = 0;

    for (uint32_t i = 0; i < b->p.n_ops; i++) {
        const struct rr_op *o = &b->ops[i];
        const struct rr_register *dst = &b->registers[o->dst];
        double rows = dst->rows == RR_ROWS_TOKENS ? batch->n_tokens : batch->n_sequences;

        if (o->kind == RR_OP_LINEAR) sum += 2 * rows * dst->width * b->registers[o->src].width;
        if (o->kind != RR_OP_ATTENTION) continue;
        for (uint32_t s = 0; s < batch->n_sequences; s++) {
            double len = batch->cu_seqlens[s + 1] - batch->cu_seqlens[s];

            sum += 4.0 * dst->width * len * (dst->rows == RR_ROWS_TOKENS ? len : 1);
        }
    }
    return sum;
}

/* ---- measuring --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* What tells operations apart in a profile. */
static void label(char out[64], const struct builder *b, uint32_t i)
{
    static const char *const acts[] = { [RR_ACT_GELU] = " GELU", [RR_ACT_TANH] = " tanh" };
    const struct rr_op *o = &b->ops[i];
    enum rr_act act = o->kind == RR_OP_LINEAR ? o->u.linear.act : RR_ACT_NONE;
    bool tokens = b->registers[o->dst].rows == RR_ROWS_TOKENS;

    if (o->kind == RR_OP_LINEAR)
        snprintf(out, 64, "%s %u -> %u%s%s", rr_cpu_op_name(o->kind), b->registers[o->src].width,
                 b->registers[o->dst].width, act < RR_COUNT(acts) && acts[act] ? acts[act] : "",
                 tokens ? "" : ", last layer");
    else
        snprintf(out, 64, "%s%s", rr_cpu_op_name(o->kind), tokens ? "" : ", last layer");
}

/* times: [threads][n_ops], over all runs; ms: of a run. */
static void print_profile(const struct builder *b, const struct rr_cpu_time *times,
                          uint32_t threads, uint32_t runs, double ms)
{
    double per = 1e-6 / threads / runs, total = 0;
    char name[64], other[64];

    for (uint32_t i = 0; i < b->p.n_ops; i++) {
        double all = 0, convert = 0;
        bool seen = false;

        label(name, b, i);
        for (uint32_t j = 0; j < b->p.n_ops; j++) {
            label(other, b, j);
            if (strcmp(name, other) != 0) continue;
            seen |= j < i;
            for (uint32_t t = 0; t < threads; t++) {
                all += (double)times[t * b->p.n_ops + j].all * per;
                convert += (double)times[t * b->p.n_ops + j].convert * per;
            }
        }
        if (seen) continue;
        total += all;
        printf("  %-32s %9.2f ms  %5.1f %%", name, all, 100 * all / ms);
        if (convert > 0) printf("  of which converting inputs %.2f ms", convert);
        printf("\n");
    }
    printf("  %-32s %9.2f ms  %5.1f %%\n", "waiting, planning", ms - total, 100 * (ms - total) / ms);
}

static void measure(const struct settings *s, const struct builder *b, uint32_t threads,
                    struct rr_loaded *l, struct work *w, const char *shape)
{
    double ms[MAX_REPS], cpu = INFINITY, flop, sum = 0, all = 0;
    float logits[MAX_SEQUENCES];
    struct rr_error err = { 0 };
    struct rr_cpu_time *times = NULL;

    make_work(w, shape, s->words);
    flop = flop_of(b, &w->b);
    if (s->profile) {
        check(s->backend->run(l, &w->b, logits, &err), err.msg); /* not with the first one's faults */
        times = rr_calloc(RR_MEM_MISC, (size_t)threads * b->p.n_ops, sizeof(*times));
        check(!times, "out of memory");
        rr_cpu_profile(l, times);
    }
    for (uint32_t i = 0; i < s->reps; i++) {
        double begin = now_ms(CLOCK_MONOTONIC), used = now_ms(CLOCK_PROCESS_CPUTIME_ID);

        check(s->backend->run(l, &w->b, logits, &err), err.msg);
        ms[i] = now_ms(CLOCK_MONOTONIC) - begin;
        all += ms[i];
        cpu = RR_MIN(cpu, now_ms(CLOCK_PROCESS_CPUTIME_ID) - used);
    }
    qsort(ms, s->reps, sizeof(ms[0]), by_value);
    for (uint32_t i = 0; i < w->b.n_sequences; i++) sum += (double)logits[i];
    check(!isfinite(sum), "a logit is not finite");
    printf("%-8s %6u tokens  best %8.2f ms  median %8.1f  %6.1f GFLOP/s  %6.0f tokens/s  "
           "cpu %8.1f ms  %6.1f GFLOP/s\n",
           strchr(shape, '+') ? "lengths" : shape, w->b.n_tokens, ms[0], ms[s->reps / 2], flop / ms[0] * 1e-6,
           w->b.n_tokens / ms[0] * 1e3, cpu, flop / cpu * 1e-6);
    if (s->profile) {
        print_profile(b, times, threads, s->reps, all / s->reps);
        rr_cpu_profile(l, NULL);
        rr_free(times);
    }
    fflush(stdout);
}

static uint32_t number(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    check(*end != 0 || v > 1000000, "expected a number");
    return (uint32_t)v;
}

static void parse(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        { "layers", 1, 0, 'l' }, { "threads", 1, 0, 't' }, { "isa", 1, 0, 'i' },
        { "reps", 1, 0, 'r' },   { "shape", 1, 0, 's' },   { "mode", 1, 0, 'm' },
        { "chunk", 1, 0, 'c' },  { "solo", 1, 0, 'o' },    { "team", 1, 0, 'e' },
        { "block", 1, 0, 'b' },  { "dtype", 1, 0, 'd' },
        { "backend", 1, 0, 'k' }, { "words", 1, 0, 'w' },  { "plan", 0, 0, 'p' },
        { "profile", 0, 0, 'f' }, { 0, 0, 0, 0 },
    };
    struct rr_error err = { 0 };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'l': s->layers = number(optarg); break;
        case 't': s->threads = number(optarg); break;
        case 'i': s->isa = optarg; break;
        case 'r': s->reps = number(optarg); break;
        case 's': s->shape = optarg; break;
        case 'm': s->mode = optarg; break;
        case 'c': s->chunk = number(optarg); break;
        case 'o': s->solo = number(optarg); break;
        case 'e': s->team = number(optarg); break;
        case 'b': s->block = number(optarg); break;
        case 'd': s->dtype = optarg; break;
        case 'w': s->words = number(optarg); break;
        case 'p': s->plan = true; break;
        case 'f': s->profile = true; break;
        case 'k': check(rr_backend_find(&s->backend, optarg, &err), err.msg); break;
        default: exit(2);
        }
    }
    check(s->layers < 1 || s->layers > 100 || s->reps < 1 || s->reps > MAX_REPS,
          "--layers and --reps are 1 to 100");
    check(s->profile && s->backend != rr_backend_cpu(), "--profile is of the CPU backend");
}

static void tune(const struct settings *s, struct rr_cpu_tuning *t)
{
    if (s->chunk) t->chunk_tokens = s->chunk;
    if (s->solo) t->solo_tokens = s->solo;
    if (s->team) t->team_tokens = s->team;
    if (s->block) t->block_rows = s->block;
    if (strcmp(s->mode, "chunks") == 0) t->mode = RR_CPU_CHUNKS;
    if (strcmp(s->mode, "team") == 0) t->mode = RR_CPU_TEAM;
}

int main(int argc, char **argv)
{
    static const char *const shapes[] = { "20x64", "20x128", "20x512", "1x128", "ragged" };
    struct settings s = { .layers = 24, .reps = 5, .words = 5000, .isa = "auto", .dtype = "f32", .mode = "auto",
                          .backend = rr_backend_cpu() };
    struct rr_device_options opt = { 0 };
    struct rr_limits limits = { MAX_TOKENS, MAX_SEQUENCES, 512 };
    struct rr_device_info info;
    struct rr_error err = { 0 };
    struct rr_memory memory;
    struct rusage usage;
    struct rr_device *d;
    struct rr_loaded *l;
    struct builder b;
    struct work *w;
    double begin;

    parse(&s, argc, argv);
    build(&b, s.layers, s.words, s.plan);
    opt.threads = s.threads;
    opt.isa = s.isa;
    opt.dtype = s.dtype;
    begin = now_ms(CLOCK_MONOTONIC);
    check(s.backend->open(&d, &opt, &err), err.msg);
    printf("open %.1f ms\n", now_ms(CLOCK_MONOTONIC) - begin);
    if (s.backend == rr_backend_cpu()) tune(&s, rr_cpu_tuning(d));
    s.backend->describe(d, &info);
    check(s.backend->plan(d, &b.p, &limits, &memory, &err), err.msg);
    if (s.plan) {
        printf("%s: weights %.0f MB, workspace %.0f MB for %d tokens\n", s.dtype,
               (double)memory.weights / 1e6, (double)memory.workspace / 1e6, MAX_TOKENS);
        return 0;
    }
    begin = now_ms(CLOCK_MONOTONIC);
    check(s.backend->load(d, &b.p, &limits, &l, &err), err.msg);
    getrusage(RUSAGE_SELF, &usage);
    printf("%s, %s, %s, %u threads, %u layers: load %.0f ms, weights %.0f MB, workspace %.0f MB, "
           "largest resident %.0f MB\n", info.name, info.isa, s.dtype, info.threads, s.layers,
           now_ms(CLOCK_MONOTONIC) - begin, (double)memory.weights / 1e6, (double)memory.workspace / 1e6,
           (double)usage.ru_maxrss * 1024 / 1e6);
    w = rr_calloc(RR_MEM_MISC, 1, sizeof(*w));
    check(!w, "out of memory");
    if (s.shape)
        for (char *save, *shape = strtok_r(s.shape, ",", &save); shape;
             shape = strtok_r(NULL, ",", &save))
            measure(&s, &b, info.threads, l, w, shape);
    else
        for (size_t i = 0; i < RR_COUNT(shapes); i++) measure(&s, &b, info.threads, l, w, shapes[i]);
    rr_free(w);
    s.backend->unload(l);
    s.backend->close(d);
    rr_free(b.tensors);
    rr_free(b.registers);
    rr_free(b.ops);
    munmap(b.file, b.size);
    return 0;
}
