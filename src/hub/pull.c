/* SPDX-License-Identifier: Apache-2.0 */
/* pull.c - a repository: its listing from the hub, its files into the cache.  Layer: hub (L5). */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "hub/cache.h"
#include "hub/digest.h"
#include "hub/fetch.h"
#include "hub/http.h"

#define MAX_LISTING ((size_t)32 << 20)

/* ---- listing -------------------------------------------------------------------------------- */

static bool append(void *user, const char *data, size_t len)
{
    struct rr_buf *b = user;

    rr_buf_put(b, data, len);
    return !b->failed;
}

static void clear(void *user)
{
    rr_buf_clear(user);
}

/* The revision as one part of a path. */
static void listing_url(const struct rr_hub *hub, const struct rr_hub_repo *repo, char *out,
                        size_t cap)
{
    char revision[3 * RR_HUB_REVISION];
    const char *s;
    size_t n = 0;

    for (s = repo->revision; *s; s++)
        n += (size_t)snprintf(revision + n, sizeof(revision) - n,
                              *s == '/' || *s == '+' ? "%%%02X" : "%c", (unsigned)*s);
    snprintf(out, cap, "%s/api/models/%s/revision/%s?blobs=true", hub->endpoint, repo->id,
             revision);
}

static int by_size(const void *a, const void *b)
{
    const struct rr_hub_file *x = a, *y = b;

    return x->size != y->size ? (x->size > y->size ? 1 : -1) : strcmp(x->name, y->name);
}

static int get_listing(struct rr_hub *hub, const struct rr_hub_repo *repo,
                       struct rr_hub_listing *out, struct rr_error *err)
{
    char url[RR_HUB_URL];
    struct rr_buf body;
    unsigned i;
    int rc;

    listing_url(hub, repo, url, sizeof(url));
    rr_buf_init(&body, RR_MEM_MISC, MAX_LISTING);
    rc = rr_hub_http_get(hub, url, repo->id, append, clear, &body, err);
    if (!rc) rc = rr_hub_listing_parse(out, (struct rr_text){ body.data, body.len }, repo->id, err);
    rr_buf_free(&body);
    if (rc) return rc;
    /* Small ones first: what is wrong with the model shows before gigabytes are fetched. */
    qsort(out->files, out->n_files, sizeof(*out->files), by_size);
    for (i = 0; i < out->n_files; i++)
        out->files[i].have = rr_cache_have(hub, repo, out->commit, &out->files[i]);
    return RR_OK;
}

int rr_hub_list(struct rr_hub *hub, const struct rr_hub_repo *repo, struct rr_hub_listing *out,
                struct rr_error *err)
{
    int rc;

    memset(out, 0, sizeof(*out));
    hub->temporary = hub->denied = false;
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return rr_fail(err, RR_ENOMEM, "libcurl cannot be initialized");
    rc = get_listing(hub, repo, out, err);
    curl_global_cleanup();
    return rc;
}

/* ---- files ---------------------------------------------------------------------------------- */

struct pull {
    struct rr_hub *hub;
    const struct rr_hub_repo *repo;
    struct rr_hub_listing *listing;
    struct rr_hub_progress progress;
};

static bool tick(void *user)
{
    struct pull *p = user;

    if (p->hub->progress) p->hub->progress(p->hub->user, &p->progress);
    return !(p->hub->stopped && p->hub->stopped(p->hub->user));
}

/* Bytes that are to be fetched, and that the cache's disk has room for; false: it does not say. */
static bool look_at_space(const struct pull *p, uint64_t *missing, uint64_t *room)
{
    struct statvfs fs;
    unsigned i;

    *missing = 0;
    for (i = 0; i < p->listing->n_files; i++)
        *missing += p->listing->files[i].size - p->listing->files[i].have;
    if (statvfs(p->hub->cache, &fs)) return false;
    *room = (uint64_t)fs.f_bavail * fs.f_frsize;
    return true;
}

static int check_space(const struct pull *p, struct rr_error *err)
{
    uint64_t missing, room;

    if (!look_at_space(p, &missing, &room) || missing <= room) return RR_OK; /* writing will tell */
    return rr_fail(err, RR_EIO,
                   "%s: %llu MB are missing and the disk has room for %llu MB; make room, or set "
                   "HF_HUB_CACHE to a folder on another disk",
                   p->hub->cache, (unsigned long long)(missing / 1000000 + 1),
                   (unsigned long long)(room / 1000000));
}

/* Writing told: others filled the disk meanwhile, or there is a quota, whose room is not known. */
static int out_of_space(const struct pull *p, bool quota, struct rr_error *err)
{
    uint64_t missing, room;
    char has[64] = "";

    if (look_at_space(p, &missing, &room) && !quota)
        snprintf(has, sizeof(has), " and it has room for %llu MB",
                 (unsigned long long)(room / 1000000));
    return rr_fail(err, RR_EIO,
                   "%s: %s: %llu MB are missing%s; make room and run this again, it goes on from "
                   "here, or set HF_HUB_CACHE to a folder on another disk",
                   p->hub->cache, quota ? "the user's quota is used up" : "the disk is full",
                   (unsigned long long)(missing / 1000000 + 1), has);
}

/* One try: all bytes of the file, and whether they are the right ones. */
static int bring(struct pull *p, const struct rr_hub_file *file, struct rr_partial *partial,
                 bool *same, struct rr_error *err)
{
    char url[RR_HUB_URL], what[352];
    struct rr_fetch f = {
        .hub = p->hub, .url = url, .what = what, .file = file, .progress = &p->progress
    };
    int rc;

    snprintf(url, sizeof(url), "%s/%s/resolve/%s/%s", p->hub->endpoint, p->repo->id,
             p->listing->commit, file->name);
    snprintf(what, sizeof(what), "%s: %s", p->repo->id, file->name);
    rc = rr_fetch_parts(&f, partial, err);
    if (rc) return rc;
    p->progress.checking = true;
    rc = rr_digest_check(partial->fd, partial->size, file->blob, same, tick, p, err);
    p->progress.checking = false;
    if (rc) rr_fail_prefix(err, "%s", what);
    return rc;
}

/* Under the blob's lock. */
static int fetch_blob(struct pull *p, struct rr_hub_file *file, const char *path,
                      struct rr_error *err)
{
    struct rr_partial partial;
    uint64_t before = p->progress.done;
    bool same = false;
    int tries, rc = rr_partial_open(&partial, path, file->size, p->hub->connections, err);

    for (tries = 0; !rc && !same && tries < 2; tries++) {
        p->progress.done = before + rr_partial_done(&partial);
        rc = bring(p, file, &partial, &same, err);
        if (!rc && !same) rc = rr_partial_reset(&partial, p->hub->connections, err);
    }
    if (!rc && same) {
        p->progress.done = before + file->size;
        rc = rr_partial_publish(&partial, err);
        if (!rc) return RR_OK;
    }
    file->have = rr_partial_done(&partial);
    rr_partial_close(&partial);
    if (rc && partial.full) return out_of_space(p, partial.full == EDQUOT, err);
    if (rc) return rc;
    (void)unlink(partial.path);
    return rr_fail(err, RR_EFORMAT,
                   "%s: %s: the bytes that came, twice, are not those that the hub lists (%s "
                   "differs); check the proxy and HF_ENDPOINT",
                   p->repo->id, file->name, strlen(file->blob) == 64 ? "SHA-256" : "git's SHA-1");
}

static int fetch_file(struct pull *p, struct rr_hub_file *file, struct rr_error *err)
{
    char path[RR_HUB_PATH];
    int fd, rc = rr_cache_blob(p->hub, p->repo, file->blob, path, err);

    if (!rc) rc = rr_cache_lock(p->hub, p->repo, file->blob, &fd, err);
    if (rc) return rc;
    p->progress.file = file->name;
    if (rr_cache_complete(p->hub, p->repo, p->listing->commit, file)) {
        p->progress.done += file->size;
        rr_partial_drop(path);
    } else {
        rc = fetch_blob(p, file, path, err);
    }
    if (!rc) rc = rr_cache_link(p->hub, p->repo, p->listing->commit, file, err);
    close(fd);
    if (!rc) file->have = file->size;
    return rc;
}

static int fetch_all(struct pull *p, char dir[RR_HUB_PATH], struct rr_error *err)
{
    char rest[64];
    unsigned i;
    int rc = rr_cache_prepare(p->hub, p->repo, p->listing->commit, err);

    if (!rc) rc = check_space(p, err);
    for (i = 0; i < p->listing->n_files; i++) p->progress.total += p->listing->files[i].size;
    for (i = 0; !rc && i < p->listing->n_files; i++) rc = fetch_file(p, &p->listing->files[i], err);
    snprintf(rest, sizeof(rest), "snapshots/%s", p->listing->commit);
    if (!rc) rc = rr_cache_path(p->hub, p->repo, rest, dir, err);
    if (!rc) rc = rr_cache_check(p->hub, dir, err);
    /* Last: until here the revision is what it was before, complete. */
    return rc ? rc : rr_cache_ref(p->hub, p->repo, p->listing->commit, err);
}

int rr_hub_fetch(struct rr_hub *hub, const struct rr_hub_repo *repo, struct rr_hub_listing *listing,
                 char dir[RR_HUB_PATH], struct rr_error *err)
{
    struct pull p = { .hub = hub, .repo = repo, .listing = listing };
    int rc;

    hub->temporary = hub->denied = false;
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return rr_fail(err, RR_ENOMEM, "libcurl cannot be initialized");
    rc = fetch_all(&p, dir, err);
    curl_global_cleanup();
    return rc;
}
