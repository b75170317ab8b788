/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pull.c - "rerankd pull": a model from a hub into the cache.  Layer: cli (L6).
 * Threads: one. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "cli/hub.h"
#include "cli/known.h"
#include "cli/score.h"
#include "rerank.h"

#define TOLERANCE 2e-4 /* of logits and scores in f32, as rerankd score --reference has it */

struct own {
    const char *revision, *reference;
    bool dry_run, check;
    uint32_t connections, retries;
    double timeout;
};

static const struct rr_option own_options[] = {
    RR_OWN("revision", "", STR, revision, "REVISION",
           "Branch, tag or commit; empty: the one after @, else main."),
    RR_OWN("dry-run", "false", BOOL, dry_run, "",
           "List the files, their sizes and what is there already; fetch nothing."),
    RR_OWN_BETWEEN("connections", "4", U32, connections, 1, RR_HUB_CONNECTIONS, "N",
                   "Connections for one large file."),
    RR_OWN_BETWEEN("retries", "5", U32, retries, 0, 100, "N",
                   "Attempts in a row that bring nothing, before giving up."),
    RR_OWN_BETWEEN("timeout", "30", SECONDS, timeout, 1, 3600, "SECONDS",
                   "Silence of a server that counts as a failure."),
    RR_OWN(
        "check", "true", BOOL, check, "",
        "Compare scores with the model's reference.jsonl, if it has one, else with those that are "
        "known of it, if any; --no-check: do not."),
    RR_OWN("reference", "", STR, reference, "FILE",
           "Compare scores with this reference.jsonl instead."),
};

/* ---- --dry-run ------------------------------------------------------------------------------ */

static void print_listing(const struct rr_hub_listing *l, const struct rr_hub_repo *repo,
                          bool french)
{
    uint64_t total = 0, missing = 0;
    char size[24], state[64];
    unsigned i;

    printf("%s %s\n", repo->id, l->commit);
    for (i = 0; i < l->n_files; i++) {
        const struct rr_hub_file *f = &l->files[i];

        total += f->size;
        missing += f->size - f->have;
        if (f->have == f->size)
            snprintf(state, sizeof(state), "%s", rr_tr(french, "in the cache"));
        else if (f->have)
            snprintf(state, sizeof(state), "%.0f %% %s", 100.0 * (double)f->have / (double)f->size,
                     rr_tr(french, "in the cache"));
        else
            snprintf(state, sizeof(state), "%s", rr_tr(french, "to fetch"));
        printf("%10s  %-34s  %s\n", rr_cli_size(f->size, size), f->name, state);
    }
    printf("%10s  %s", rr_cli_size(total, size), rr_tr(french, "in all"));
    printf(", %s %s\n", rr_cli_size(missing, size), rr_tr(french, "to fetch"));
}

/* ---- check of the scores -------------------------------------------------------------------- */

static int compare(const struct rr_settings *settings, struct rr_engine *engine,
                   const char *reference, struct rr_error *err)
{
    struct rr_reference_report report;
    int rc = rr_reference_compare(engine, reference, &report, err);

    if (rc) return rc;
    if (report.logit > TOLERANCE || report.score > TOLERANCE)
        return rr_fail(
            err, RR_EFORMAT,
            "%.300s: scores differ by up to %.3g (logits %.3g), at most %.1g is allowed; "
            "the model is not the one that the reference was made with",
            reference, report.score, report.logit, TOLERANCE);
    fprintf(stderr, "%s: %llu %s, |logit| < %.2g\n", rr_tr(rr_settings_french(settings), "checked"),
            (unsigned long long)report.pairs, rr_tr(rr_settings_french(settings), "pairs"),
            RR_MAX(report.logit, 1e-9));
    return RR_OK;
}

static int compare_known(const struct rr_settings *settings, struct rr_engine *engine,
                         const struct rr_known *known, size_t n, struct rr_error *err)
{
    bool french = rr_settings_french(settings);
    int rc = rr_known_check(engine, known, n, 0, err);

    if (!rc)
        fprintf(stderr, "%s: %zu %s (%s)\n", rr_tr(french, "checked"), n, rr_tr(french, "pairs"),
                known->source);
    return rc;
}

static int check_scores(const struct rr_settings *settings, const struct own *own, const char *dir,
                        const struct rr_hub_repo *repo)
{
    const struct rr_known *known = NULL;
    struct rr_engine *engine = NULL;
    struct rr_options opt;
    char path[RR_HUB_PATH];
    struct rr_error err = { 0 };
    size_t n = 0;
    bool file = true;
    int rc;

    if (own->reference[0])
        snprintf(path, sizeof(path), "%s", own->reference);
    else
        file = rr_path_join(path, sizeof(path), dir, "reference.jsonl") && rr_file_exists(path);
    if (!file && strcmp(repo->revision, "main") == 0) known = rr_known_find(repo->id, &n);
    if (!own->check || (!file && !known)) return RR_EXIT_OK;
    rr_set_log(NULL, NULL, RR_LOG_WARN);
    rr_settings_engine(settings, &opt);
    opt.model = dir;
    opt.dtype = "f32"; /* what references are made with */
    rc = rr_open(&engine, &opt, &err);
    if (!rc && file) rc = rr_reference_fit(&engine, &opt, path, 0, &err);
    if (!rc)
        rc = file ? compare(settings, engine, path, &err)
                  : compare_known(settings, engine, known, n, &err);
    rr_close(engine);
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("pull", "%s", err.msg);
    return rc == RR_EFORMAT ? RR_EXIT_FAILURE : rr_exit_code(rc);
}

/* ---- command -------------------------------------------------------------------------------- */

static int pull(struct rr_cli_hub *h, const struct rr_settings *settings, const struct own *own,
                const struct rr_hub_repo *repo, struct rr_error *err)
{
    struct rr_hub_listing listing;
    char dir[RR_HUB_PATH];
    int rc = rr_cli_hub_list(h, repo, &listing, err), code = RR_EXIT_OK;

    if (!rc && own->dry_run) {
        print_listing(&listing, repo, h->french);
    } else if (!rc) {
        rc = rr_cli_hub_fetch(h, repo, &listing, dir, err);
        if (!rc) code = check_scores(settings, own, dir, repo);
        if (!rc && code == RR_EXIT_OK) printf("%s\n", dir);
    }
    rr_hub_listing_free(&listing);
    if (!rc) return code;
    rr_cli_complain("pull", "%s", err->msg);
    return rr_cli_hub_exit(h, rc);
}

static int run_pull(const struct rr_settings *settings, const void *fields, char **words,
                    int n_words)
{
    static struct rr_cli_hub h;
    const struct own *own = fields;
    struct rr_hub_repo repo;
    struct rr_error err = { 0 };
    int rc;

    if (n_words == 0) {
        rr_cli_complain("pull", "which model? rerankd pull ORG/NAME");
        return RR_EXIT_USAGE;
    }
    rc = rr_hub_parse(&repo, words[0], own->revision, &err);
    if (rc) {
        rr_cli_complain("pull", "%s", err.msg);
        return RR_EXIT_USAGE;
    }
    if (own->reference[0] && !rr_file_exists(own->reference)) {
        rr_cli_complain("pull", "%s: no such file", own->reference);
        return RR_EXIT_NOINPUT;
    }
    rc = rr_cli_hub_open(&h, settings, &err);
    if (!rc && h.offline)
        rc = rr_fail(&err, RR_EFORMAT, "HF_HUB_OFFLINE is set: unset it to fetch a model");
    if (rc) {
        rr_cli_complain("pull", "%s", err.msg);
        return rr_exit_code(rc);
    }
    h.hub.connections = own->connections;
    h.hub.retries = own->retries;
    h.hub.timeout = own->timeout;
    return pull(&h, settings, own, &repo, &err);
}

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

const struct rr_command rr_cmd_pull = {
    .name = "pull",
    .args = "ORG/NAME[@REVISION]",
    .summary = "fetch a model from the Hugging Face hub",
    .about = "Fetches what rerankd needs of a model into the cache that huggingface_hub uses\n"
             "(HF_HOME, HF_HUB_CACHE), checks every file against the hub's digest, and prints the\n"
             "folder.  What was interrupted goes on where it was.  HF_TOKEN, HF_ENDPOINT,\n"
             "HF_HUB_OFFLINE, HTTPS_PROXY and NO_PROXY are respected.\n"
             "\n"
             "Other commands take the same name as --model ORG/NAME and fetch what is missing.\n"
             "\n"
             "Exit status 75: may work later; 77: a token, or the right one, is missing.",
    .sections = "HUB",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_pull,
};
