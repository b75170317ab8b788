/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h - a model hub as environment and settings describe it, and models by their names there.
 * Layer: cli (L6).  Threads: one. */
#ifndef RR_CLI_HUB_H
#define RR_CLI_HUB_H

#include "cli/cli.h"
#include "hub/hub.h"
#include "server/notify.h"

struct rr_cli_hub {
    struct rr_hub hub;
    bool offline; /* HF_HUB_OFFLINE */
    char cache[RR_HUB_PATH], endpoint[512], token[2048], agent[80];
    /* progress */
    const char *id;
    bool bar, french, drawn;
    unsigned tenths;
    char waiting[200];
    uint64_t start_ns, last_ns;
    struct rr_notify notify;
    uint64_t notified_ns;
};

/* Reads the variables that huggingface_hub reads.  RR_EFORMAT names the one that is wrong. */
RR_NODISCARD int rr_cli_hub_open(struct rr_cli_hub *h, const struct rr_settings *settings,
                                 struct rr_error *err);

/* Fetches with progress on stderr; SIGINT and SIGTERM end it.  id: what people read. */
RR_NODISCARD int rr_cli_hub_fetch(struct rr_cli_hub *h, const struct rr_hub_repo *repo,
                                  struct rr_hub_listing *listing, char dir[RR_HUB_PATH],
                                  struct rr_error *err);
/* The same for the listing. */
RR_NODISCARD int rr_cli_hub_list(struct rr_cli_hub *h, const struct rr_hub_repo *repo,
                                 struct rr_hub_listing *listing, struct rr_error *err);
int rr_cli_hub_exit(const struct rr_cli_hub *h, int rc);

/* Where a --model is ORG/NAME: its folder in the cache, fetched if need be, becomes its dir in
 * settings->models.  All of them for serve, the default one for other commands.  An exit code;
 * complains itself. */
int rr_cli_hub_models(const struct rr_command *c, struct rr_settings *settings);

/* The same for a model that another word names, such as verify's MODEL: *path becomes dir, kept by
 * the caller, if it is ORG/NAME. */
int rr_cli_hub_path(const struct rr_command *c, const struct rr_settings *settings,
                    const char **path, char dir[RR_HUB_PATH]);

/* "1.2 GB". */
const char *rr_cli_size(uint64_t bytes, char out[24]);

#endif
