/* SPDX-License-Identifier: Apache-2.0 */
/* net.c - see net.h. */
#include "engine/net.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "cache/key.h"
#include "engine/choice.h"
#include "rerank.h"

/* "cuda:1" -> "cuda", 1. */
static int parse_device(const char *device, char name[16], uint32_t *index, struct rr_error *err)
{
    const char *colon = strchr(device, ':');
    size_t len = colon ? (size_t)(colon - device) : strlen(device);
    char *end = NULL;

    *index = 0;
    if (colon) {
        unsigned long v = strtoul(colon + 1, &end, 10);

        if (end == colon + 1 || *end || v > 1023) len = 0;
        *index = (uint32_t)v;
    }
    if (len == 0 || len > 15)
        return rr_fail(err, RR_EINVAL, "device is \"%s\", expected auto, cpu, cuda or cuda:N",
                       device);
    memcpy(name, device, len);
    name[len] = 0;
    return RR_OK;
}

static int open_on(struct rr_net *net, const struct rr_device_options *dev, struct rr_team *team,
                   struct rr_error *err)
{
    struct rr_pool *pool;
    int rc;

    if (!team || !rr_net_is_cpu(net)) return net->backend->open(&net->device, dev, err);
    rc = rr_team_pool(team, &pool, err);
    return rc ? rc : rr_backend_cpu_open(&net->device, dev, pool, err);
}

static int open_described(struct rr_net *net, const struct rr_device_options *dev,
                          struct rr_team *team, struct rr_error *err)
{
    int rc = open_on(net, dev, team, err);

    if (!rc) net->backend->describe(net->device, &net->info);
    return rc;
}

/* Of a model that was made in bf16, f16 may not have the range: bf16 where a GPU has it. */
static int open_auto(struct rr_net *net, struct rr_device_options *dev, struct rr_team *team,
                     struct rr_error *err)
{
    bool wide = net->model && !rr_net_is_cpu(net) && strcmp(dev->dtype, "auto") == 0 &&
                strcmp(rr_model_info(net->model)->weights_dtype, "bf16") == 0;
    int rc = RR_ENOTSUP;

    if (wide) {
        dev->dtype = "bf16";
        rc = open_described(net, dev, team, err);
        if (rc == RR_ENOTSUP) dev->dtype = "auto";
    }
    return rc == RR_ENOTSUP ? open_described(net, dev, team, err) : rc;
}

/* The device is open; if another precision was chosen for it, in that one.  A choice that does not
 * work is a warning. */
static int apply_choice(struct rr_net *net, const struct rr_net_config *config,
                        struct rr_device_options *dev, struct rr_error *err)
{
    const char *before = dev->dtype;
    struct rr_choice choice;
    struct rr_error why = { 0 };

    if (!rr_choice_find(&choice, config->choice_dir, rr_model_info(net->model)->fingerprint,
                        &net->info))
        return RR_OK;
    rr_log(RR_INFO, "%s: %s (%s)", choice.dtype, choice.why, net->info.name);
    if (strcmp(choice.dtype, net->info.dtype) == 0) return RR_OK;
    net->backend->close(net->device);
    net->device = NULL;
    dev->dtype = choice.dtype;
    if (!open_described(net, dev, config->team, &why)) return RR_OK;
    rr_log(RR_WARN, "%s cannot be used after all: %s", choice.dtype, why.msg);
    dev->dtype = before;
    return open_described(net, dev, config->team, err);
}

static int open_backend(struct rr_net *net, const struct rr_net_config *config,
                        struct rr_error *err)
{
    struct rr_device_options dev = {
        .threads = config->threads,
        .isa = config->isa && strcmp(config->isa, "auto") ? config->isa : NULL,
        .dtype = config->dtype ? config->dtype : "auto",
        .hang_ns = config->stall_ns / 4 * 3, /* so that another device can still answer in time */
        .packed_dirs = { config->folder, config->packed_dir },
    };
    const char *made_for = net->model ? rr_model_info(net->model)->dtype : "f32";
    bool is_auto = strcmp(dev.dtype, "auto") == 0;
    const char *why = "";
    char name[16];
    uint32_t count;
    int rc = parse_device(config->device, name, &dev.index, err);

    /* A folder that was made for a precision is computed in it. */
    if (is_auto && strcmp(made_for, "f32")) dev.dtype = made_for;
    if (!rc) rc = rr_backend_find(&net->backend, name, err);
    if (rc) return rc;
    count = net->backend->device_count(&why);
    if (dev.index >= count)
        return rr_fail(err, RR_EDEVICE, "%s:%" PRIu32 ": %" PRIu32 " usable devices%s%s", name,
                       dev.index, count, why && *why ? ": " : "", why ? why : "");
    rc = open_auto(net, &dev, config->team, err);
    if (!rc && is_auto && net->model) rc = apply_choice(net, config, &dev, err);
    if (rc) return rc;
    if (strcmp(name, "cpu") == 0)
        memcpy(net->name, "cpu", 4);
    else
        snprintf(net->name, sizeof(net->name), "%s:%" PRIu32, name, dev.index);
    return RR_OK;
}

/* The same model gives other bits at another precision, instruction set or kind of device. */
static uint64_t fingerprint(const struct rr_net *net)
{
    struct rr_key_context c = { net->model ? rr_model_info(net->model)->fingerprint : 0, 0, 0 };
    struct rr_key key = rr_key_prefix(&c, rr_text(net->info.isa));

    key = rr_key_pair(key, rr_text(net->info.dtype));
    key = rr_key_pair(key, rr_text(RR_VERSION)); /* a shared cache outlives a version */
    return rr_key_pair(key, rr_text(net->backend ? net->backend->name : "null")).lo;
}

static int open_null(struct rr_net *net, const struct rr_net_config *config, struct rr_error *err)
{
    net->info = (struct rr_device_info){
        .name = "no device",
        .isa = "none",
        .dtype = "f32",
        .threads = 1,
        .batch_tokens = 2048,
    };
    memcpy(net->name, "null", 5);
    return rr_null_parse(&net->null, config->device, err);
}

int rr_net_device(struct rr_net *net, const struct rr_net_config *config, struct rr_error *err)
{
    int rc =
        rr_null_is(config->device) ? open_null(net, config, err) : open_backend(net, config, err);

    if (rc) {
        net->backend = NULL;
        net->device = NULL;
    } else {
        net->fingerprint = fingerprint(net);
    }
    return rc;
}

int rr_net_open(struct rr_net *net, const struct rr_net_config *config, struct rr_error *err)
{
    int rc = RR_OK;

    memset(net, 0, sizeof(*net));
    if (!rr_null_is(config->device)) rc = rr_model_open(&net->model, config->folder, err);
    if (!rc && net->model && config->pairing)
        rc = rr_pairing_judge(config->pairing, net->model, err);
    if (!rc) rc = rr_net_device(net, config, err);
    if (rc) rr_net_close(net);
    return rc;
}

void rr_net_close(struct rr_net *net)
{
    rr_model_close(net->model);
    if (net->backend) net->backend->close(net->device);
    memset(net, 0, sizeof(*net));
}

int rr_nets_plan(const struct rr_net *nets, int n, const struct rr_limits *limits,
                 struct rr_memory *sum, struct rr_error *err)
{
    int i, rc = RR_OK;

    *sum = (struct rr_memory){ 0 };
    for (i = 0; i < n && !rc; i++) {
        struct rr_memory one = { 0 };

        if (nets[i].model)
            rc = nets[i].backend->plan(nets[i].device, rr_model_program(nets[i].model), limits,
                                       &one, err);
        sum->weights += one.weights;
        sum->workspace += one.workspace;
        sum->mapped = RR_MAX(sum->mapped, one.mapped); /* the same files */
        sum->available = one.available;
    }
    return rc;
}

int rr_net_load(struct rr_net *net, const struct rr_limits *limits, struct rr_error *err)
{
    if (!net->model) return RR_OK;
    return rr_model_load(net->model, net->backend, net->device, limits, err);
}

int rr_net_forward(struct rr_net *net, const struct rr_sequences *seqs, float *logits,
                   struct rr_error *err)
{
    if (net->model) return rr_model_forward(net->model, seqs, logits, err);
    rr_null_forward(&net->null, seqs, logits);
    return RR_OK;
}

int rr_net_probe(struct rr_net *net, const struct rr_sequences *probe, struct rr_error *err)
{
    float logit;
    int rc = rr_net_forward(net, probe, &logit, err);

    if (rc) return rc;
    if (!isfinite(logit))
        return rr_fail(err, RR_ENONFINITE, "%s: the model gave a score that is not a number",
                       net->name);
    if (net->probed && memcmp(&logit, &net->probe, sizeof(logit)) != 0)
        return rr_fail(err, RR_EDEVICE, "%s: the probe's logit is %.9g, it was %.9g at start",
                       net->name, (double)logit, (double)net->probe);
    net->probe = logit;
    net->probed = true;
    return RR_OK;
}

bool rr_net_is_cpu(const struct rr_net *net)
{
    return net->backend == rr_backend_cpu();
}
