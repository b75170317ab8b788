/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c - what rr_open and rr_inspect share: options to model, tokenizer, device and a memory
 * plan.  Layer: engine (L5). */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cpu/topology.h"
#include "engine/engine.h"

/* What the Python service that rerankd replaces cuts pairs to. */
enum { DEFAULT_MAX_LENGTH = 512 };

#define MAX_TOKENIZER ((size_t)512 << 20) /* bytes of a tokenizer.json */

enum { NULL_MAX_LENGTH = 8192 }; /* what the null network takes */

enum { BATCH_STEP = 64 }; /* tokens; nearer to the largest batch that fits is not worth it */

void rr_options_init(struct rr_options *opt)
{
    *opt = (struct rr_options){
        .struct_size = sizeof(*opt),
        .device = "auto",
        .dtype = "auto",
        .isa = "auto",
        .fallback = true,
        .queue_tokens = 262144,
        .queue_requests = 4096,
        .queue_bytes = (size_t)256 << 20,
    };
}

void rr_setup_close(struct rr_setup *s)
{
    int i;

    for (i = 0; i < RR_LANES; i++) rr_net_close(&s->nets[i]);
    rr_pairing_close(&s->pairing);
    rr_tok_close(s->tok);
    memset(s, 0, sizeof(*s));
}

/* ---- device -------------------------------------------------------------------------------- */

static struct rr_net_config config_of(const struct rr_setup *s, const struct rr_options *opt,
                                      const char *device)
{
    return (struct rr_net_config){ .folder = opt->model, .device = device, .dtype = opt->dtype,
                                   .isa = opt->isa, .threads = opt->threads, .team = s->team,
                                   .stall_ns = opt->stall_ns ? opt->stall_ns : RR_STALL_NS,
                                   .packed_dir = opt->packed_cache ? opt->cache_dir : NULL,
                                   .choice_dir = opt->cache_dir };
}

/* The model files are open.  A GPU that cannot be used is a warning and the CPU serves, unless the
 * caller forbids it. */
static int open_device(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    const char *want = opt->device && *opt->device ? opt->device : "auto";
    bool is_auto = strcmp(want, "auto") == 0;
    struct rr_net_config config = config_of(s, opt, is_auto ? "cuda" : want);
    struct rr_net_config cpu = config_of(s, opt, "cpu");
    struct rr_error why = { 0 };
    int rc;

    if (strcmp(want, "cpu") == 0) return rr_net_device(&s->nets[RR_LANE_MAIN], &cpu, err);
    rc = rr_net_device(&s->nets[RR_LANE_MAIN], &config, &why);
    if (!rc) return RR_OK;
    if (rc == RR_EINVAL || (!is_auto && !opt->fallback)) {
        if (rc == RR_ENOENT) rc = RR_EDEVICE; /* what is missing is a device, not an input */
        return rr_fail(err, rc, "device %s cannot be used: %s", want, why.msg);
    }
    if (!is_auto) {
        rr_log(RR_WARN, "device %s cannot be used (%s): serving on the CPU", want, why.msg);
        s->info.fallback_active = true;
    }
    return rr_net_device(&s->nets[RR_LANE_MAIN], &cpu, err);
}

static int open_null(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_net_config config = config_of(s, opt, opt->device);
    int rc = rr_net_open(&s->nets[RR_LANE_MAIN], &config, err);

    if (!rc) rc = rr_null_tokenizer(&s->tok, err);
    if (!rc) s->pairing.fixed = rr_tok_pair_specials(s->tok);
    return rc;
}

/* The second precision: the same files on the same device.  None is needed if the first one is it
 * already. */
static int open_rescore(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_net *main = &s->nets[RR_LANE_MAIN], *net = &s->nets[RR_LANE_RESCORE];
    const char *dtype = opt->rescore_dtype;
    struct rr_net_config config = config_of(s, opt, main->name);
    int rc;

    config.pairing = &s->pairing;

    if (!main->model || !dtype || !*dtype || strcmp(dtype, "none") == 0 ||
        strcmp(dtype, main->info.dtype) == 0)
        return RR_OK;
    if (strcmp(dtype, "f32") != 0 && strcmp(dtype, "bf16") != 0)
        return rr_fail(err, RR_EINVAL,
                       "rescore_dtype is \"%s\", expected none, bf16 or f32", dtype);
    config.dtype = dtype;
    rc = rr_net_open(net, &config, err);
    s->rescoring = !rc;
    return rc;
}

/* ---- lengths and memory -------------------------------------------------------------------- */

static void limit_batches(struct rr_setup *s, uint32_t tokens)
{
    s->info.batch_tokens = tokens;
    s->limits = (struct rr_limits){
        .max_tokens = tokens,
        .max_sequences = RR_MIN(tokens, (uint32_t)RR_MAX_BATCH_PAIRS),
        .max_length = s->info.max_length,
    };
}

/* Multiplications and additions of a thread in a batch: about 50 ms. */
#define SMALL_BATCH_OPS 4e9

/* Workers end together to within a pair, which is a tenth of a batch of ten pairs.  So a batch has
 * twice as many tokens as the device asks for, where the model is so small that this does not make
 * the next request wait for long. */
static uint32_t suitable_batch(const struct rr_setup *s)
{
    const struct rr_net *net = &s->nets[RR_LANE_MAIN];
    const struct rr_info *i = &s->info;
    uint32_t batch = net->info.batch_tokens;
    double ops = 4.0 * i->layers * i->hidden * (2.0 * i->hidden + i->intermediate); /* a token */

    if (!rr_net_is_cpu(net) || 2 * batch * ops > i->threads * SMALL_BATCH_OPS) return batch;
    return 2 * batch;
}

static int choose_lengths(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    const struct rr_model *model = s->nets[RR_LANE_MAIN].model;
    uint32_t most = model ? rr_model_info(model)->max_length : NULL_MAX_LENGTH;
    uint32_t least = s->pairing.fixed + 1;
    uint32_t wanted = opt->max_length;

    if (!wanted) {
        wanted = RR_MIN(most, DEFAULT_MAX_LENGTH);
        if (rr_tok_max_length(s->tok)) wanted = RR_MIN(wanted, rr_tok_max_length(s->tok));
        if (model && rr_model_info(model)->preferred_length)
            wanted = RR_MIN(wanted, rr_model_info(model)->preferred_length);
    }
    if (wanted < least || wanted > most)
        return rr_fail(err, RR_EINVAL, "max_length is %" PRIu32 ", this model allows %" PRIu32
                       " to %" PRIu32 " tokens", wanted, least, most);
    s->info.max_length = wanted;
    s->info.max_positions = most;
    limit_batches(s, RR_MAX(wanted, opt->batch_tokens ? opt->batch_tokens : suitable_batch(s)));
    return RR_OK;
}

/* Refuses before the kernel's out-of-memory killer does.  Mapped files are not counted: the kernel
 * can drop their pages. */
static int check_memory(const struct rr_setup *s, struct rr_error *err)
{
    struct rr_topology t;
    uint64_t need = s->info.weights_bytes + s->info.workspace_bytes;
    uint64_t have;

    rr_topology_get(&t);
    have = t.memory_available;
    if (t.memory_limit && t.memory_limit < have) have = t.memory_limit;
    if (strcmp(s->info.device, "cpu") == 0 && have && need > have)
        return rr_fail(err, RR_ENOMEM,
                       "%s needs %" PRIu64 " MiB for weights and %" PRIu64
                       " MiB for batches, %" PRIu64 " MiB are available: use a smaller model or "
                       "batch, or give it more memory",
                       s->info.model, s->info.weights_bytes >> 20, s->info.workspace_bytes >> 20,
                       have >> 20);
    return RR_OK;
}

/* ---- description --------------------------------------------------------------------------- */

static void copy(char *out, size_t cap, const char *s)
{
    size_t len = strnlen(s, cap - 1);

    memcpy(out, s, len);
    out[len] = 0;
}

/* The name people know a folder by: "models--ORG--NAME/snapshots/HASH" of the hub's cache is
 * ORG/NAME, ".../ORG/NAME" and others are their last part. */
static void model_name(char *out, size_t cap, const char *path)
{
    static const char hub[] = "models--";
    const char *in_hub = strstr(path, hub);
    const char *end = path + strlen(path), *start;
    size_t n = 0;

    if (in_hub && strstr(in_hub, "/snapshots/")) {
        const char *p = in_hub + sizeof(hub) - 1;

        while (*p && *p != '/' && n + 1 < cap) {
            bool slash = p[0] == '-' && p[1] == '-';

            out[n++] = slash ? '/' : *p;
            p += slash ? 2 : 1;
        }
        out[n] = 0;
        return;
    }
    while (end > path && end[-1] == '/') end--;
    start = end;
    while (start > path && start[-1] != '/') start--;
    n = RR_MIN((size_t)(end - start), cap - 1);
    memcpy(out, start, n);
    out[n] = 0;
}

static void describe_model(struct rr_info *i, const struct rr_options *opt,
                           const struct rr_model_info *m)
{
    model_name(i->model, sizeof(i->model), opt->model);
    copy(i->path, sizeof(i->path), opt->model);
    copy(i->architecture, sizeof(i->architecture), m->architecture);
    copy(i->weights_dtype, sizeof(i->weights_dtype), m->weights_dtype);
    copy(i->activation, sizeof(i->activation), m->identity ? "identity" : "sigmoid");
    i->layers = m->layers;
    i->hidden = m->hidden;
    i->heads = m->heads;
    i->intermediate = m->intermediate;
    i->vocab = m->vocab;
    i->parameters = m->parameters;
    i->fingerprint = m->fingerprint;
}

static void describe(struct rr_setup *s, const struct rr_options *opt)
{
    const struct rr_net *net = &s->nets[RR_LANE_MAIN];
    struct rr_info *i = &s->info;

    if (net->model) {
        describe_model(i, opt, rr_model_info(net->model));
    } else {
        copy(i->model, sizeof(i->model), "null");
        copy(i->architecture, sizeof(i->architecture), "null");
        copy(i->activation, sizeof(i->activation), "sigmoid");
        i->vocab = rr_tok_vocab_size(s->tok);
    }
    /* One mix of both, so that either file's change shows. */
    i->fingerprint ^= rr_tok_fingerprint(s->tok) * UINT64_C(0x9E3779B97F4A7C15);
    copy(i->device, sizeof(i->device), net->name);
    copy(i->device_name, sizeof(i->device_name), net->info.name);
    copy(i->isa, sizeof(i->isa), net->info.isa);
    copy(i->dtype, sizeof(i->dtype), net->info.dtype);
    if (s->rescoring)
        copy(i->rescore_dtype, sizeof(i->rescore_dtype), s->nets[RR_LANE_RESCORE].info.dtype);
    i->threads = net->info.threads;
    i->prep_threads = opt->prep_threads ? opt->prep_threads : 1 + net->info.threads / 8;
    i->prep_threads = RR_MIN(i->prep_threads, (uint32_t)RR_MAX_PREP_THREADS);
}

/* ---- together ------------------------------------------------------------------------------ */

static int check_vocab(const struct rr_setup *s, struct rr_error *err)
{
    uint32_t tok = rr_tok_vocab_size(s->tok);
    uint32_t model = rr_model_info(s->nets[RR_LANE_MAIN].model)->vocab;

    if (tok <= model) return RR_OK;
    return rr_fail(err, RR_EFORMAT,
                   "tokenizer.json has ids up to %" PRIu32
                   " but the model's embedding table has %" PRIu32
                   " rows: the files do not belong together",
                   tok - 1, model);
}

/* Beside the model, or inside of its file. */
static int open_tokenizer(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_buf inside;
    int rc;

    rr_buf_init(&inside, RR_MEM_TOKENIZER, MAX_TOKENIZER);
    rc = rr_model_tokenizer(s->nets[RR_LANE_MAIN].model, &inside, err);
    if (!rc && inside.len)
        rc = rr_tok_parse(&s->tok, (struct rr_text){ inside.data, inside.len }, opt->model, err);
    else if (!rc)
        rc = rr_tok_open(&s->tok, opt->model, opt->cache_dir, err);
    rr_buf_free(&inside);
    return rc;
}

static int open_pairing(struct rr_setup *s, struct rr_error *err)
{
    struct rr_model *model = s->nets[RR_LANE_MAIN].model;
    int rc = rr_pairing_open(&s->pairing, rr_model_info(model), s->tok, err);

    return rc ? rc : rr_pairing_judge(&s->pairing, model, err);
}

static int open_files(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    int rc;

    if (opt->device && rr_null_is(opt->device)) return open_null(s, opt, err);
    if (!opt->model || !*opt->model) return rr_fail(err, RR_EINVAL, "no model folder was given");
    rc = rr_model_open(&s->nets[RR_LANE_MAIN].model, opt->model, err);
    if (!rc) rc = open_tokenizer(s, opt, err);
    if (!rc) rc = check_vocab(s, err);
    if (!rc) rc = open_pairing(s, err);
    if (!rc) rc = open_device(s, opt, err);
    if (!rc) rc = open_rescore(s, opt, err);
    return rc;
}

/* What all lanes need for the limits, into s->info; *fits: as far as the device says. */
static int plan_lanes(struct rr_setup *s, bool *fits, struct rr_error *err)
{
    struct rr_memory mem = { 0 };
    uint64_t need;
    int i, rc = RR_OK;

    s->info.weights_bytes = s->info.workspace_bytes = s->info.mapped_bytes = 0;
    for (i = 0; i < RR_LANES && !rc; i++) {
        if (i != RR_LANE_MAIN && !s->rescoring) continue;
        rc = rr_net_plan(&s->nets[i], &s->limits, &mem, err);
        s->info.weights_bytes += mem.weights;
        s->info.workspace_bytes += mem.workspace;
        s->info.mapped_bytes = RR_MAX(s->info.mapped_bytes, mem.mapped); /* the same files */
    }
    need = s->info.weights_bytes + s->info.workspace_bytes;
    *fits = !mem.available || need <= mem.available - mem.available / 32; /* the driver's own */
    return rc;
}

/* Halves the distance to the largest batch that fits, down to one pair of full length.  If not even
 * that fits, the limits stay: loading tells what is missing. */
static int fit_batches(struct rr_setup *s, struct rr_error *err)
{
    uint32_t wanted = s->info.batch_tokens, least = s->info.max_length, most = wanted;
    bool fits;
    int rc;

    limit_batches(s, least);
    rc = plan_lanes(s, &fits, err);
    if (!rc && !fits) {
        limit_batches(s, wanted);
        return plan_lanes(s, &fits, err);
    }
    while (!rc && most - least > BATCH_STEP) {
        uint32_t middle = least + (most - least) / 2 / BATCH_STEP * BATCH_STEP;

        if (middle == least) break;
        limit_batches(s, middle);
        rc = plan_lanes(s, &fits, err);
        *(fits ? &least : &most) = middle;
    }
    limit_batches(s, least);
    if (!rc) rc = plan_lanes(s, &fits, err);
    rr_log(RR_WARN,
           "%s has no memory for batches of %" PRIu32 " tokens: they have at most %" PRIu32
           "; --batch-tokens sets another limit",
           s->info.device, wanted, least);
    return rc;
}

static int plan_memory(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    bool fits;
    int rc = plan_lanes(s, &fits, err);

    if (!rc && !fits && !opt->batch_tokens) rc = fit_batches(s, err);
    return rc ? rc : check_memory(s, err);
}

int rr_setup_open(struct rr_setup *s, const struct rr_options *opt, struct rr_team *team,
                  struct rr_error *err)
{
    int rc;

    memset(s, 0, sizeof(*s));
    s->team = team;
    if (opt->struct_size != sizeof(*opt))
        return rr_fail(err, RR_EINVAL, "options of %zu bytes, expected %zu: call rr_options_init",
                       opt->struct_size, sizeof(*opt));
    rc = open_files(s, opt, err);
    if (rc) goto fail;
    describe(s, opt);
    rc = choose_lengths(s, opt, err);
    if (!rc) rc = plan_memory(s, opt, err);
    if (rc) goto fail;
    return RR_OK;
fail:
    rr_setup_close(s);
    return rc;
}

int rr_inspect(const struct rr_options *opt, struct rr_info *info, struct rr_error *err)
{
    struct rr_setup s;
    int rc = rr_setup_open(&s, opt, NULL, err);

    if (rc) return rc;
    *info = s.info;
    rr_setup_close(&s);
    return RR_OK;
}
