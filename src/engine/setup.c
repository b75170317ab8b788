/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c - what rr_open and rr_inspect share: options to model, tokenizer, device and a memory
 * plan.  Layer: engine (L5). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/shared.h"
#include "cpu/topology.h"
#include "engine/engine.h"

/* What the Python service that rerankd replaces cuts pairs to. */
enum { DEFAULT_MAX_LENGTH = 512 };

#define MAX_TOKENIZER ((size_t)512 << 20) /* bytes of a tokenizer.json */

enum { NULL_MAX_LENGTH = 8192 }; /* what the null network takes */

enum { BATCH_STEP = 64 }; /* tokens; nearer to the largest batch that fits is not worth it */

void rr_options_init_sized(struct rr_options *opt, size_t size)
{
    const struct rr_options all = {
        .struct_size = size,
        .device = "auto",
        .dtype = "auto",
        .isa = "auto",
        .fallback = true,
        .queue_tokens = 262144,
        .queue_requests = 4096,
        .queue_bytes = (size_t)256 << 20,
    };

    memset(opt, 0, size);
    memcpy(opt, &all, RR_MIN(size, sizeof(all)));
}

void rr_setup_close(struct rr_setup *s)
{
    uint32_t i;
    int p;

    for (i = 0; i < s->n_lanes; i++)
        for (p = 0; p < RR_PASSES; p++) rr_net_close(&s->lanes[i].nets[p]);
    rr_free(s->lanes);
    rr_pairing_close(&s->pairing);
    rr_tok_close(s->tok);
    memset(s, 0, sizeof(*s));
}

static struct rr_net *first_net(const struct rr_setup *s)
{
    return &s->lanes[0].nets[RR_PASS_MAIN];
}

/* ---- device -------------------------------------------------------------------------------- */

uint64_t rr_setup_stall(const struct rr_options *opt)
{
    return opt->stall_ns ? RR_MIN(opt->stall_ns, RR_ENDLESS) : RR_STALL_NS;
}

/* NULL: no cache.  "" would be the current folder. */
static const char *cache_dir_of(const struct rr_options *opt)
{
    return opt->cache_dir && *opt->cache_dir ? opt->cache_dir : NULL;
}

static struct rr_net_config config_of(const struct rr_setup *s, const struct rr_options *opt,
                                      const char *device)
{
    return (struct rr_net_config){ .folder = opt->model,
                                   .device = device,
                                   .dtype = opt->dtype,
                                   .isa = opt->isa,
                                   .threads = opt->threads,
                                   .team = s->team,
                                   .stall_ns = rr_setup_stall(opt),
                                   .packed_dir = opt->packed_cache ? cache_dir_of(opt) : NULL,
                                   .choice_dir = cache_dir_of(opt) };
}

/* The devices that are asked for; none: "auto". */
static int list_devices(struct rr_devices *list, const struct rr_options *opt, struct rr_error *err)
{
    bool one = opt->device && *opt->device && strcmp(opt->device, "auto") != 0;

    memset(list, 0, sizeof(*list));
    if (opt->devices && *opt->devices && one)
        return rr_fail(err, RR_EINVAL, "device is \"%s\" and devices are \"%s\": give one of them",
                       opt->device, opt->devices);
    if (opt->devices && *opt->devices) return rr_devices_parse(list, opt->devices, err);
    if (!one) return RR_OK;
    if (strlen(opt->device) >= RR_DEVICE_NAME)
        return rr_fail(err, RR_EINVAL, "device is \"%s\", expected auto, cpu, cuda or cuda:N",
                       opt->device);
    list->n = 1;
    memcpy(list->names[0], opt->device, strlen(opt->device) + 1);
    return RR_OK;
}

/* What cannot be used is left out with a warning, unless the caller forbids it or it never was a
 * device. */
static int refuse(struct rr_setup *s, const struct rr_options *opt, const char *device, int rc,
                  const struct rr_error *why, struct rr_error *err)
{
    bool other_kind =
        rc == RR_ENOENT && opt->devices && *opt->devices && strncmp(device, "cuda", 4) != 0;

    if (rc == RR_EINVAL || other_kind || !opt->fallback) {
        if (rc == RR_ENOENT) rc = RR_EDEVICE; /* what is missing is a device, not an input */
        return rr_fail(err, rc, "device %s cannot be used: %s", device, why->msg);
    }
    rr_log(RR_WARN, "device %s cannot be used (%s): serving without it", device, why->msg);
    s->info.fallback_active = true;
    return RR_OK;
}

/* A lane on the device; a model that is open already goes to the first one. */
static int open_lane(struct rr_setup *s, const struct rr_options *opt, const char *device,
                     struct rr_error *err)
{
    struct rr_setup_lane *lane = &s->lanes[s->n_lanes];
    struct rr_net_config config = config_of(s, opt, device);
    struct rr_net *net = &lane->nets[RR_PASS_MAIN];
    int rc;

    config.pairing = &s->pairing;
    if (net->model)
        rc = rr_net_device(net, &config, err);
    else
        rc = rr_net_open(net, &config, err);
    if (rc) return rc;
    memcpy(lane->device, device, strlen(device) + 1);
    s->n_lanes++;
    return RR_OK;
}

/* The model files are open, as the first lane's.  A GPU that cannot be used is a warning and others
 * serve, or the CPU, unless the caller forbids it. */
static int open_devices(struct rr_setup *s, const struct rr_options *opt,
                        const struct rr_devices *list, struct rr_error *err)
{
    struct rr_error why = { 0 };
    uint32_t i;
    int rc;

    s->n_lanes = 0; /* for what is open already */
    for (i = 0; i < list->n; i++) {
        rc = open_lane(s, opt, list->names[i], &why);
        if (rc && s->n_lanes == 0 && strcmp(list->names[i], "cpu") == 0)
            rc = rr_fail(err, rc, "%s", why.msg); /* there is nothing else to fall back to */
        else if (rc)
            rc = refuse(s, opt, list->names[i], rc, &why, err);
        if (rc) {
            s->n_lanes += s->n_lanes == 0; /* keeps the model */
            return rc;
        }
    }
    if (list->n == 0 && open_lane(s, opt, "cuda", &why) == RR_OK) return RR_OK;
    if (s->n_lanes) return RR_OK;
    rc = open_lane(s, opt, "cpu", err);
    s->n_lanes = 1;
    return rc;
}

bool rr_setup_rescores(const char *dtype, const char *rescore_dtype)
{
    return rescore_dtype && *rescore_dtype && strcmp(rescore_dtype, "none") != 0 &&
           strcmp(rescore_dtype, dtype) != 0 && strcmp(dtype, "f32") != 0;
}

/* The second precision: the same files on the same device. */
static int open_rescore(struct rr_setup *s, struct rr_setup_lane *lane,
                        const struct rr_options *opt, struct rr_error *err)
{
    struct rr_net *main = &lane->nets[RR_PASS_MAIN], *net = &lane->nets[RR_PASS_RESCORE];
    const char *dtype = opt->rescore_dtype;
    struct rr_net_config config = config_of(s, opt, main->name);
    int rc;

    config.pairing = &s->pairing;
    if (dtype && *dtype && strcmp(dtype, "none") != 0 && strcmp(dtype, "f32") != 0 &&
        strcmp(dtype, "bf16") != 0)
        return rr_fail(err, RR_EINVAL, "rescore_dtype is \"%s\", expected none, bf16 or f32",
                       dtype);
    if (!main->model || !rr_setup_rescores(main->info.dtype, dtype)) return RR_OK;
    config.dtype = dtype;
    rc = rr_net_open(net, &config, err);
    lane->rescoring = !rc;
    return rc;
}

/* Stand-ins: "null", or "null:0", "null:1" where there are several. */
static int open_null(struct rr_setup *s, const struct rr_options *opt,
                     const struct rr_devices *list, struct rr_error *err)
{
    uint32_t i;
    int rc = RR_OK;

    for (i = 0; i < list->n && !rc; i++) {
        rc = open_lane(s, opt, list->names[i], err);
        if (!rc && list->n > 1)
            snprintf(s->lanes[i].nets[RR_PASS_MAIN].name, sizeof(s->lanes[i].nets[0].name),
                     "null:%" PRIu32, i);
    }
    if (!rc) rc = rr_null_tokenizer(&s->tok, err);
    if (!rc) s->pairing.fixed = rr_tok_pair_specials(s->tok);
    return rc;
}

/* ---- lengths and memory -------------------------------------------------------------------- */

/* Multiplications and additions of a thread in a batch: about 50 ms. */
#define SMALL_BATCH_OPS 4e9

/* Workers end together to within a pair, which is a tenth of a batch of ten pairs.  So a batch has
 * twice as many tokens as the device asks for, where the model is so small that this does not make
 * the next request wait for long. */
static uint32_t suitable_batch(const struct rr_info *i, const struct rr_net *net)
{
    uint32_t batch = net->info.batch_tokens;
    double ops = 4.0 * i->layers * i->hidden * (2.0 * i->hidden + i->intermediate); /* a token */

    if (!rr_net_is_cpu(net) || 2 * batch * ops > net->info.threads * SMALL_BATCH_OPS) return batch;
    return 2 * batch;
}

struct rr_limits rr_setup_limits(const struct rr_info *info, uint32_t wanted_tokens,
                                 const struct rr_net *net)
{
    uint32_t tokens = wanted_tokens ? wanted_tokens : suitable_batch(info, net);

    tokens = RR_MAX(tokens, info->max_length);
    return (struct rr_limits){
        .max_tokens = tokens,
        .max_sequences = RR_MIN(tokens, (uint32_t)RR_MAX_BATCH_PAIRS),
        .max_length = info->max_length,
    };
}

static int choose_lengths(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    const struct rr_model *model = first_net(s)->model;
    uint32_t most = model ? rr_model_info(model)->max_length : NULL_MAX_LENGTH;
    uint32_t least = s->pairing.fixed + 1;
    uint32_t wanted = opt->max_length, i;

    if (!wanted) {
        wanted = RR_MIN(most, DEFAULT_MAX_LENGTH);
        if (rr_tok_max_length(s->tok)) wanted = RR_MIN(wanted, rr_tok_max_length(s->tok));
        if (model && rr_model_info(model)->preferred_length)
            wanted = RR_MIN(wanted, rr_model_info(model)->preferred_length);
    }
    if (wanted < least || wanted > most)
        return rr_fail(err, RR_EINVAL,
                       "max_length is %" PRIu32 ", this model allows %" PRIu32 " to %" PRIu32
                       " tokens",
                       wanted, least, most);
    s->info.max_length = wanted;
    s->info.max_positions = most;
    for (i = 0; i < s->n_lanes; i++)
        s->lanes[i].limits =
            rr_setup_limits(&s->info, opt->batch_tokens, &s->lanes[i].nets[RR_PASS_MAIN]);
    return RR_OK;
}

int rr_setup_room(const char *model, const struct rr_memory *need, struct rr_error *err)
{
    struct rr_topology t;
    uint64_t have;

    rr_topology_get(&t);
    have = t.memory_available;
    if (t.memory_limit && t.memory_limit < have) have = t.memory_limit;
    if (have && need->weights + need->workspace > have)
        return rr_fail(err, RR_ENOMEM,
                       "%s needs %" PRIu64 " MiB for weights and %" PRIu64
                       " MiB for batches, %" PRIu64 " MiB are available: use a smaller model or "
                       "batch, or give it more memory",
                       model, need->weights >> 20, need->workspace >> 20, have >> 20);
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

/* "cuda:0,cuda:1", or "cuda:0,+7" where there is no room for all. */
static void name_devices(const struct rr_setup *s, char *out, size_t cap)
{
    size_t at = 0;
    uint32_t i;

    for (i = 0; i < s->n_lanes && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i ? "," : "",
                               s->lanes[i].nets[RR_PASS_MAIN].name);
    if (at >= cap) snprintf(out, cap, "%.20s,+%" PRIu32, first_net(s)->name, s->n_lanes - 1);
}

static void describe(struct rr_setup *s, const struct rr_options *opt)
{
    const struct rr_net *net = first_net(s);
    struct rr_info *i = &s->info;
    uint32_t k;

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
    name_devices(s, i->device, sizeof(i->device));
    copy(i->device_name, sizeof(i->device_name), net->info.name);
    copy(i->isa, sizeof(i->isa), net->info.isa);
    copy(i->dtype, sizeof(i->dtype), net->info.dtype);
    for (k = 0; k < s->n_lanes; k++) {
        if (s->lanes[k].rescoring)
            copy(i->rescore_dtype, sizeof(i->rescore_dtype),
                 s->lanes[k].nets[RR_PASS_RESCORE].info.dtype);
        i->threads = RR_MAX(i->threads, s->lanes[k].nets[RR_PASS_MAIN].info.threads);
    }
    i->prep_threads = opt->prep_threads ? opt->prep_threads : 1 + i->threads / 8;
    i->prep_threads = RR_MIN(i->prep_threads, (uint32_t)RR_MAX_PREP_THREADS);
}

/* ---- together ------------------------------------------------------------------------------ */

static int check_vocab(const struct rr_setup *s, struct rr_error *err)
{
    uint32_t tok = rr_tok_vocab_size(s->tok);
    uint32_t model = rr_model_info(first_net(s)->model)->vocab;

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
    rc = rr_model_tokenizer(first_net(s)->model, &inside, err);
    if (!rc && inside.len)
        rc = rr_tok_parse(&s->tok, (struct rr_text){ inside.data, inside.len }, opt->model, err);
    else if (!rc)
        rc = rr_tok_open(&s->tok, opt->model, cache_dir_of(opt), err);
    rr_buf_free(&inside);
    return rc;
}

static int open_pairing(struct rr_setup *s, const char *folder, struct rr_error *err)
{
    struct rr_model *model = first_net(s)->model;
    int rc = rr_pairing_open(&s->pairing, rr_model_info(model), s->tok, err);

    if (!rc && rr_pairing_other_template(rr_model_info(model), folder))
        rr_log(RR_WARN,
               "%s: its chat template is not used, which has other words than those that pairs are "
               "read in here: scores are not those of sentence-transformers",
               folder);
    return rc ? rc : rr_pairing_judge(&s->pairing, model, err);
}

static int open_files(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_devices list;
    uint32_t i;
    int rc = list_devices(&list, opt, err);

    if (rc) return rc;
    if (list.n && rr_null_is(list.names[0])) return open_null(s, opt, &list, err);
    if (!opt->model || !*opt->model) return rr_fail(err, RR_EINVAL, "no model folder was given");
    rc = rr_model_open(&first_net(s)->model, opt->model, err);
    s->n_lanes = 1; /* whose model it is */
    if (!rc) rc = open_tokenizer(s, opt, err);
    if (!rc) rc = check_vocab(s, err);
    if (!rc) rc = open_pairing(s, opt->model, err);
    if (!rc) rc = open_devices(s, opt, &list, err);
    for (i = 0; i < s->n_lanes && !rc; i++) rc = open_rescore(s, &s->lanes[i], opt, err);
    return rc;
}

/* What the lane takes, into its own account; *fits: as far as the device says. */
static int plan_lane(struct rr_setup *s, struct rr_setup_lane *lane, bool *fits,
                     struct rr_error *err)
{
    struct rr_memory *sum = &lane->memory;
    int rc = rr_nets_plan(lane->nets, lane->rescoring ? RR_PASSES : 1, &lane->limits, sum, err);

    s->info.mapped_bytes = RR_MAX(s->info.mapped_bytes, sum->mapped); /* the same files */
    *fits = !sum->available || /* less the driver's own */
            sum->weights + sum->workspace <= sum->available - sum->available / 32;
    return rc;
}

static int plan_batches(struct rr_setup *s, struct rr_setup_lane *lane, uint32_t tokens, bool *fits,
                        struct rr_error *err)
{
    lane->limits = rr_setup_limits(&s->info, tokens, &lane->nets[RR_PASS_MAIN]);
    return plan_lane(s, lane, fits, err);
}

/* Halves the distance to the largest batch that fits, down to one pair of full length.  If not even
 * that fits, the limits stay: loading tells what is missing. */
static int fit_batches(struct rr_setup *s, struct rr_setup_lane *lane, struct rr_error *err)
{
    uint32_t wanted = lane->limits.max_tokens, least = s->info.max_length, most = wanted;
    bool fits;
    int rc = plan_batches(s, lane, least, &fits, err);

    if (!rc && !fits) return plan_batches(s, lane, wanted, &fits, err);
    while (!rc && most - least > BATCH_STEP) {
        uint32_t middle = least + (most - least) / 2 / BATCH_STEP * BATCH_STEP;

        if (middle == least) break;
        rc = plan_batches(s, lane, middle, &fits, err);
        *(fits ? &least : &most) = middle;
    }
    if (!rc) rc = plan_batches(s, lane, least, &fits, err);
    rr_log(RR_WARN,
           "%s has no memory for batches of %" PRIu32 " tokens: they have at most %" PRIu32
           "; --batch-tokens sets another limit",
           lane->device, wanted, least);
    return rc;
}

static int plan_memory(struct rr_setup *s, const struct rr_options *opt, struct rr_error *err)
{
    struct rr_memory on_cpu = { 0 };
    uint32_t i;
    int rc = RR_OK;

    for (i = 0; i < s->n_lanes && !rc; i++) {
        struct rr_setup_lane *lane = &s->lanes[i];
        bool fits;

        rc = plan_lane(s, lane, &fits, err);
        if (!rc && !fits && !opt->batch_tokens) rc = fit_batches(s, lane, err);
        s->info.weights_bytes = RR_MAX(s->info.weights_bytes, lane->memory.weights);
        s->info.workspace_bytes = RR_MAX(s->info.workspace_bytes, lane->memory.workspace);
        if (rr_net_is_cpu(&lane->nets[RR_PASS_MAIN])) on_cpu = lane->memory;
    }
    s->info.batch_tokens = s->lanes[0].limits.max_tokens;
    s->info.host_weights_bytes = on_cpu.weights;
    s->info.host_workspace_bytes = on_cpu.workspace;
    return rc ? rc : rr_setup_room(s->info.model, &on_cpu, err);
}

int rr_setup_open(struct rr_setup *s, const struct rr_options *opt, struct rr_team *team,
                  struct rr_error *err)
{
    int rc;

    memset(s, 0, sizeof(*s));
    s->team = team;
    if (opt->struct_size != sizeof(*opt))
        return rr_fail(err, RR_EINVAL,
                       "options of %zu bytes, expected %zu: call rr_options_init, and build with "
                       "the header of librerank %s",
                       opt->struct_size, sizeof(*opt), rr_version());
    if (opt->drift < 0 || !isfinite(opt->drift))
        return rr_fail(err, RR_EINVAL, "drift is %g, expected a bound of at least 0",
                       (double)opt->drift);
    s->lanes = rr_calloc(RR_MEM_MISC, RR_MAX_DEVICES, sizeof(*s->lanes));
    if (!s->lanes) return rr_fail(err, RR_ENOMEM, "out of memory for the engine");
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
    return opt->shared_cache ? rr_shared_check(opt->shared_cache, err) : RR_OK;
}
