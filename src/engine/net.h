/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - the model on one device in one precision: opened, loaded, and asked for proof of life.
 * Layer: engine (L5).  Threads: one at a time. */
#ifndef RR_ENGINE_NET_H
#define RR_ENGINE_NET_H

#include "engine/null.h"
#include "engine/prompts.h"
#include "engine/team.h"
#include "model/model.h"
#include "rerank_backend.h"

struct rr_net_config { /* strings live as long as whoever opens */
    const char *folder;
    const char *device; /* "cpu", "cuda:0", "null:..." */
    const char *dtype, *isa;
    uint32_t threads;
    uint64_t stall_ns;      /* after which a run counts as hung; 0: never */
    struct rr_team *team;   /* whose compute threads a CPU uses; NULL: threads of its own */
    const char *packed_dir; /* where packed weights are kept, beside the folder; NULL: nowhere */
    const char *choice_dir; /* where chosen precisions are, for dtype "auto"; NULL: nowhere */
    const struct rr_pairing *pairing; /* NULL: not known yet */
};

struct rr_net {
    struct rr_model *model; /* NULL: null is used */
    struct rr_null null;
    const struct rr_backend *backend;
    struct rr_device *device;
    struct rr_device_info info;
    char name[32];        /* of the device */
    uint64_t fingerprint; /* of all that scores depend on besides a request; the tokenizer's part is
                             the caller's */
    float probe;          /* logit of the probe as it was at load */
    bool probed;
};

/* Model files and device; nothing is loaded yet.  On failure net is empty. */
RR_NODISCARD int rr_net_open(struct rr_net *net, const struct rr_net_config *config,
                             struct rr_error *err);
/* The second half of it: to try another device after one that could not be opened. */
RR_NODISCARD int rr_net_device(struct rr_net *net, const struct rr_net_config *config,
                               struct rr_error *err);
void rr_net_close(struct rr_net *net); /* an empty one is allowed; leaves an empty one */

/* What loading n networks of one model on a device would take together; zero for null. */
RR_NODISCARD int rr_nets_plan(const struct rr_net *nets, int n, const struct rr_limits *limits,
                              struct rr_memory *sum, struct rr_error *err);
RR_NODISCARD int rr_net_load(struct rr_net *net, const struct rr_limits *limits,
                             struct rr_error *err);
/* logits[n_sequences], also NaN. */
RR_NODISCARD int rr_net_forward(struct rr_net *net, const struct rr_sequences *seqs, float *logits,
                                struct rr_error *err);

/* Computes the probe.  The first time its logit is kept, later any other bits are RR_EDEVICE. */
RR_NODISCARD int rr_net_probe(struct rr_net *net, const struct rr_sequences *probe,
                              struct rr_error *err);

/* Does it compute with the CPU backend? */
bool rr_net_is_cpu(const struct rr_net *net);

#endif
