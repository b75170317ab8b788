/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_hub.c - any bytes as a hub's description of a repository, and as the name of one: an error,
 * or names that are files of one folder or of a module's in it, and digests that are digests. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/hub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_files(const struct rr_hub_listing *l)
{
    bool config = false;
    unsigned i;

    if (!rr_hub_is_commit(l->commit) || l->n_files < 3 || l->n_files > RR_HUB_FILES) abort();
    for (i = 0; i < l->n_files; i++) {
        const struct rr_hub_file *f = &l->files[i];
        size_t len = strnlen(f->blob, sizeof(f->blob));

        if (!memchr(f->name, 0, sizeof(f->name)) || !f->name[0]) abort();
        if (f->name[0] == '.' || strchr(f->name, '%') || strstr(f->name, "..")) abort();
        if (strchr(f->name, '/') != strrchr(f->name, '/')) abort();
        if (strchr(f->name, '/') && strspn(f->name, "0123456789") == 0) abort();
        if ((len != 40 && len != 64) || strspn(f->blob, "0123456789abcdef") != len) abort();
        if (f->size > UINT64_C(1) << 42 || f->have) abort();
        config = config || strcmp(f->name, "config.json") == 0;
    }
    if (!config) abort();
}

static void check_name(const char *text)
{
    struct rr_hub_repo repo;
    struct rr_error err = { 0, "" };
    int rc = rr_hub_parse(&repo, text, NULL, &err);

    if (rc != err.code || (rc && strchr(err.msg, '\n'))) abort();
    if (rc) return;
    if (repo.id[0] == '.' || repo.id[0] == '-' || strstr(repo.id, "..") || strstr(repo.id, "--"))
        abort();
    if (strchr(repo.id, '/') != strrchr(repo.id, '/') || strpbrk(repo.id, "%\\?#@ \n")) abort();
    if (strstr(repo.revision, "..") || repo.revision[0] == '-' || repo.revision[0] == '/') abort();
    if (strpbrk(repo.revision, "%\\?#@ \n") || !repo.revision[0]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rr_text text = { (const char *)data, size };
    struct rr_hub_listing listing;
    struct rr_error err = { 0, "" };
    char name[400] = "";
    int rc = rr_hub_listing_parse(&listing, text, "fuzz", &err);

    if (rc != err.code) abort();
    if (rc && (strncmp(err.msg, "fuzz: ", 6) != 0 || strchr(err.msg, '\n'))) abort();
    if (!rc) check_files(&listing);
    rr_hub_listing_free(&listing);
    if (size < sizeof(name)) {
        memcpy(name, data, size);
        check_name(name);
    }
    return 0;
}
