/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h - models of a Hugging Face hub: names, the cache on disk that huggingface_hub shares, the
 * listing of a repository, downloads.  Layer: hub (L5).  Threads: one at a time.
 *
 * Looking into the cache (rr_hub_find) touches neither network nor libcurl. */
#ifndef RR_HUB_HUB_H
#define RR_HUB_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

#define RR_HUB_PATH 4096
#define RR_HUB_URL 8192 /* signed addresses are long */
#define RR_HUB_NAME 97  /* of an organization or a model */
#define RR_HUB_REVISION 201
#define RR_HUB_FILES 1024 /* files of one model that are needed */
#define RR_HUB_CONNECTIONS 16

struct rr_hub_repo {                /* checked: nothing in it can leave a folder or break a URL */
    char id[2 * RR_HUB_NAME];       /* ORG/NAME */
    char revision[RR_HUB_REVISION]; /* branch, tag or commit */
};

struct rr_hub_file {
    char name[128]; /* in the repository; at most one folder, of a module, before it */
    char blob[65];  /* SHA-256 (64 digits) of files in LFS, git's SHA-1 (40) of others */
    uint64_t size;  /* bytes */
    uint64_t have;  /* bytes of it that are on disk */
};

struct rr_hub_listing {
    char commit[41];
    struct rr_hub_file *files; /* rr_free */
    unsigned n_files;
};

struct rr_hub_progress {
    const char *file;
    uint64_t done, total; /* bytes of all files */
    uint64_t received;    /* bytes in this run */
    bool checking;        /* the file is complete, its digest is being computed */
    const char *waiting;  /* why nothing moves; NULL: it does */
};

struct rr_hub {                  /* strings are the caller's */
    const char *cache;           /* folder, as HF_HUB_CACHE */
    const char *endpoint;        /* "https://huggingface.co", no slash at the end */
    const char *token;           /* NULL: none */
    const char *ca_file;         /* NULL: the system's */
    const char *agent;           /* of the User-Agent header */
    unsigned connections;        /* for one large file, 1 to RR_HUB_CONNECTIONS */
    unsigned retries;            /* attempts in a row that bring nothing, after the first */
    double timeout;              /* seconds of silence */
    bool (*stopped)(void *user); /* NULL: never */
    void (*progress)(void *user, const struct rr_hub_progress *progress); /* NULL: not told */
    void *user;
    /* What kind of failure the last one was, besides its code. */
    bool temporary; /* may work later */
    bool denied;    /* a token, or the right one, is missing */
};

/* ---- names ---------------------------------------------------------------------------------- */

/* "ORG/NAME" or "ORG/NAME@REVISION"; revision (NULL: none) beats the part after '@', "main" is the
 * default.  RR_EINVAL with what is wrong. */
RR_NODISCARD int rr_hub_parse(struct rr_hub_repo *out, const char *text, const char *revision,
                              struct rr_error *err);
bool rr_hub_is_commit(const char *revision); /* 40 hexadecimal digits */

/* ---- cache ---------------------------------------------------------------------------------- */

/* The folder of the snapshot, when everything that a model needs is in it.  RR_ENOENT: there is
 * none, or files are missing.  RR_EFORMAT: a link leads out of the cache. */
RR_NODISCARD int rr_hub_find(const struct rr_hub *hub, const struct rr_hub_repo *repo,
                             char dir[RR_HUB_PATH], struct rr_error *err);

/* ---- hub ------------------------------------------------------------------------------------ */

/* Picks the files that rerankd needs from the hub's description of a revision (JSON).  RR_ENOTSUP:
 * no safetensors, no tokenizer.json; the message has the way out. */
RR_NODISCARD int rr_hub_listing_parse(struct rr_hub_listing *out, struct rr_text json,
                                      const char *where, struct rr_error *err);
void rr_hub_listing_free(struct rr_hub_listing *l);

/* Asks the hub, and fills in what is on disk already.  Free *out with rr_hub_listing_free in any
 * case. */
RR_NODISCARD int rr_hub_list(struct rr_hub *hub, const struct rr_hub_repo *repo,
                             struct rr_hub_listing *out, struct rr_error *err);

/* Fetches what is missing, checks it, and gives the snapshot's folder.  RR_ECANCELED after
 * stopped() said so: what is on disk is used next time. */
RR_NODISCARD int rr_hub_fetch(struct rr_hub *hub, const struct rr_hub_repo *repo,
                              struct rr_hub_listing *listing, char dir[RR_HUB_PATH],
                              struct rr_error *err);

#endif
