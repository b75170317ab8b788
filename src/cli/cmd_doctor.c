/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_doctor.c - "rerankd doctor": looks at machine, files, model and port.
 * Layer: cli (L6).  Threads: one. */
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/doctor.h"
#include "server/serve.h"

#define CROWDED 0.1 /* shares of time that are worth a remark */
#define STOLEN 0.02
#define OF_SETTING "change the setting that the message names"

struct own {
    bool json;
};

static const struct rr_option own_options[] = {
    RR_OWN("json", "false", BOOL, json, "", "Print one JSON object instead of text."),
};

static void remark(struct rr_findings *f, bool problem, const char *remedy, const char *fmt, ...)
    RR_PRINTF(4, 5);

static void remark(struct rr_findings *f, bool problem, const char *remedy, const char *fmt, ...)
{
    struct rr_remark *r = &f->remarks[f->n_remarks];
    va_list args;

    if (f->n_remarks == RR_DOCTOR_REMARKS) return;
    f->n_remarks++;
    r->problem = problem;
    snprintf(r->remedy, sizeof(r->remedy), "%s", remedy);
    va_start(args, fmt);
    vsnprintf(r->what, sizeof(r->what), fmt, args);
    va_end(args);
}

/* ---- files ---------------------------------------------------------------------------------- */

/* Says in f->cache_state whether path, or the nearest folder above it that exists, takes files. */
static void look_at_cache(struct rr_findings *f)
{
    char *slash, path[sizeof(f->cache)];
    struct stat st;
    bool exists = true;

    snprintf(f->cache, sizeof(f->cache), "%s", f->settings->cache_dir);
    if (!f->cache[0]) {
        f->cache_state = "none: tokenizers are compiled at each start";
        return;
    }
    memcpy(path, f->cache, sizeof(path));
    while (stat(path, &st) != 0 && errno == ENOENT) {
        exists = false;
        slash = strrchr(path, '/');
        if (!slash) {
            snprintf(path, sizeof(path), ".");
        } else {
            slash[slash == path] = 0;
        }
    }
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) && access(path, W_OK | X_OK) == 0) {
        f->cache_state = exists ? "writable" : "will be made";
        return;
    }
    f->cache_state = "cannot be written";
    remark(f, false, "set --cache-dir to a folder that can be written, or to none",
           "cache folder %.500s cannot be written: every start compiles the tokenizer", f->cache);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b); /* the name comes first in the struct */
}

static void look_at_folder(struct rr_findings *f)
{
    DIR *dir = opendir(f->model);
    struct dirent *e;
    struct stat st;

    if (!dir) return; /* rr_inspect says why */
    while ((e = readdir(dir))) {
        if (!rr_text_stem(e->d_name, ".json") && !rr_text_stem(e->d_name, ".safetensors") &&
            !rr_text_stem(e->d_name, ".bin") && !rr_text_stem(e->d_name, ".model"))
            continue;
        if (fstatat(dirfd(dir), e->d_name, &st, 0) != 0) continue;
        if (f->n_files == RR_DOCTOR_FILES || strlen(e->d_name) >= sizeof(f->files[0].name)) {
            f->n_more_files++;
            continue;
        }
        memcpy(f->files[f->n_files].name, e->d_name, strlen(e->d_name) + 1);
        f->files[f->n_files++].bytes = (uint64_t)st.st_size;
    }
    closedir(dir);
    qsort(f->files, f->n_files, sizeof(f->files[0]), by_name);
}

static bool has_file(const struct rr_findings *f, const char *suffix)
{
    unsigned i;

    for (i = 0; i < f->n_files; i++) {
        if (rr_text_stem(f->files[i].name, suffix)) return true;
    }
    return false;
}

/* ---- model ---------------------------------------------------------------------------------- */

static const char *remedy_for(const struct rr_findings *f, int rc, const char *message)
{
    struct stat st;

    if (rc != RR_EINVAL && !has_file(f, ".safetensors") && has_file(f, ".bin"))
        return "the weights are in PyTorch's format: save them as model.safetensors";
    if (strstr(message, "no tokenizer.json"))
        return rc == RR_ENOTSUP
                   ? "convert the tokenizer as above, or set --model to a folder with a "
                     "tokenizer.json"
                   : "get the model's tokenizer.json, too: rerankd pull ORG/NAME fetches all files";
    switch (rc) {
    case RR_ENOENT:
    case RR_EIO:
        if (stat(f->model, &st) != 0 && f->model[0] != '/' && strchr(f->model, '/'))
            return "if it is the name of a model on the hub, fetch it: rerankd pull ORG/NAME";
        return "set --model to a folder with config.json, tokenizer.json and model.safetensors";
    case RR_EFORMAT: return "the file is damaged, or not complete: fetch it again";
    case RR_ENOTSUP:
        if (!strstr(message, ".json") && !strstr(message, f->model)) break; /* an option */
        return "use a model of a supported kind; the README lists them";
    case RR_ENOMEM: return "free memory, raise the container's limit, or lower --batch-tokens";
    case RR_EDEVICE: return "use --device cpu, or --fallback to serve on the CPU instead";
    default: break;
    }
    return OF_SETTING;
}

static void look_at_gpus(struct rr_findings *f)
{
    uint32_t i;

    for (i = 0; i < RR_DOCTOR_GPUS; i++) {
        struct rr_error err = { 0 };

        if (!rr_host_gpu(i, &f->gpus[i], &err)) break;
        f->n_gpus = i + 1;
        if (err.code)
            remark(f, false, "see docs/GPU.md; --device names another GPU, or the CPU",
                   "GPU %u cannot be used: %s", i, err.msg);
        else if (f->gpus[i].throttled & (RR_GPU_THERMAL | RR_GPU_HARDWARE))
            remark(f, false, "look at its cooling and power supply (nvidia-smi -q -d PERFORMANCE)",
                   "GPU %u runs slower than it could", i);
    }
}

static void look_at_model(struct rr_findings *f, const struct rr_options *opt)
{
    struct rr_error err = { 0 };
    uint64_t need, room = f->host.memory_available;
    struct rr_options alone = *opt;
    int rc;

    alone.shared_cache = NULL;
    rc = rr_inspect(&alone, &f->info, &err);
    f->has_info = rc == RR_OK;
    if (rc) {
        remark(f, true, remedy_for(f, rc, err.msg), "%s", err.msg);
        return;
    }
    if (f->host.memory_limit && f->host.memory_limit < room) room = f->host.memory_limit;
    need = f->info.host_weights_bytes + f->info.host_workspace_bytes;
    if (room && need > room)
        remark(f, true, remedy_for(f, RR_ENOMEM, ""),
               "the model needs %llu MiB, and %llu MiB are available",
               (unsigned long long)(need >> 20), (unsigned long long)(room >> 20));
    if (f->info.fallback_active && strcmp(f->info.device, "cpu") != 0)
        remark(f, false, "make the others usable, or leave them out of --devices",
               "of the devices asked for only %s can be used", f->info.device);
    else if (f->info.fallback_active)
        remark(f, false, "make the GPU usable, or set --device cpu to be silent about it",
               "a GPU was asked for and the CPU will serve: %.256s", f->host.cuda);
}

/* The model is sound by itself: what is refused beside it is a setting of Redis. */
static void look_at_redis(struct rr_findings *f, const struct rr_options *opt)
{
    struct rr_error err = { 0 };
    struct rr_info info;

    if (f->has_info && opt->shared_cache && rr_inspect(opt, &info, &err))
        remark(f, true, OF_SETTING, "%s", err.msg);
}

/* ---- service -------------------------------------------------------------------------------- */

static void refuse_port(struct rr_findings *f, const char *host, int e)
{
    if (e == EADDRINUSE)
        remark(f, true,
               "stop what listens there (ss -ltnp shows it), or choose another --port; if it is "
               "rerankd already, all is well: rerankd healthcheck asks it",
               "port %u is in use", f->settings->port);
    else if (e == EACCES)
        remark(f, true, "choose a --port from 1024 on, or grant CAP_NET_BIND_SERVICE",
               "port %u may not be used by this user", f->settings->port);
    else
        remark(f, true, "set --host to an address of this machine, 0.0.0.0 for all",
               "cannot listen on %.255s:%u: %s", host, f->settings->port, strerror(e));
}

/* Whether the server can listen at one of its addresses. */
static bool look_at_address(struct rr_findings *f, const char *host)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
    char port[8];
    int fd, rc, e = 0, on = 1;

    snprintf(port, sizeof(port), "%u", f->settings->port);
    rc = getaddrinfo(host, port, &hints, &list);
    if (rc) {
        remark(f, true, "set --host to an address of this machine, 0.0.0.0 for all",
               "host %.255s: %s", host, gai_strerror(rc));
        return false;
    }
    fd = socket(list->ai_family, list->ai_socktype | SOCK_CLOEXEC, list->ai_protocol);
    if (fd < 0) {
        e = errno;
    } else {
        /* As the server does: connections of a server that has just ended do not count. */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, 1) != 0) e = errno;
        close(fd);
    }
    freeaddrinfo(list);
    if (e) refuse_port(f, host, e);
    return e == 0;
}

static void look_at_port(struct rr_findings *f)
{
    const char *s = f->settings->host;
    struct rr_text word;
    char host[256];

    snprintf(f->address, sizeof(f->address), "%.255s:%u", s, f->settings->port);
    f->port_free = true;
    while (f->port_free && rr_text_word(&s, &word)) {
        snprintf(host, sizeof(host), "%.*s", (int)word.len, word.data);
        f->port_free = look_at_address(f, host);
    }
}

static void look_at_limits(struct rr_findings *f)
{
    struct rlimit files;
    uint64_t want = (uint64_t)f->settings->max_connections +
                    rr_serve_spare_files(f->settings);

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < want)
        remark(f, false, "raise the limit (ulimit -n, LimitNOFILE=) or lower --max-connections",
               "at most %llu files may be open, %u connections need %llu",
               (unsigned long long)files.rlim_max, f->settings->max_connections,
               (unsigned long long)want);
    if (f->settings->threads > f->host.threads && f->host.threads)
        remark(f, false, "set --threads 0", "%u threads are asked for where %u can run at once",
               f->settings->threads, f->host.threads);
}

/* Other programs on the same processors, or other virtual machines on the same hardware. */
static void look_at_load(struct rr_findings *f)
{
    const struct rr_host *h = &f->host;

    if (h->runnable > h->cpus_online && h->waiting > CROWDED)
        remark(f, false, "stop other programs, or give rerankd processors of its own (cpuset)",
               "%u threads compete for %u processors; in the last ten seconds one had to wait "
               "%.0f %% of the time",
               h->runnable, h->cpus_online, 100 * h->waiting);
    if (h->steal > STOLEN)
        remark(f, false, "move to a machine whose processors are not shared",
               "other virtual machines took %.1f %% of the processors' time since the start",
               100 * h->steal);
}

/* ---- the sub-command ------------------------------------------------------------------------ */

bool rr_doctor_ready(const struct rr_findings *f)
{
    unsigned i;

    for (i = 0; i < f->n_remarks; i++) {
        if (f->remarks[i].problem) return false;
    }
    return true;
}

static int run_doctor(const struct rr_settings *settings, const void *own_fields, char **words,
                      int n_words)
{
    const struct own *own = own_fields;
    struct rr_findings f = { .settings = settings };
    struct rr_options opt;

    (void)words;
    (void)n_words;
    rr_set_log(NULL, NULL, strcmp(settings->log_level, "debug") == 0 ? RR_LOG_DEBUG : RR_LOG_ERROR);
    rr_settings_engine(settings, &opt);
    f.model = opt.model;
    rr_host_info(&f.host);
    look_at_gpus(&f);
    look_at_cache(&f);
    look_at_folder(&f);
    look_at_model(&f, &opt);
    look_at_redis(&f, &opt);
    look_at_port(&f);
    look_at_limits(&f);
    look_at_load(&f);
    if (own->json)
        rr_doctor_json(stdout, &f);
    else
        rr_doctor_text(stdout, &f);
    return rr_doctor_ready(&f) ? RR_EXIT_OK : RR_EXIT_FAILURE;
}

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

const struct rr_command rr_cmd_doctor = {
    .name = "doctor",
    .args = "",
    .summary = "say what this machine and model allow",
    .about = "Looks at processor, memory, limits, GPU, cache, model folder and port with the\n"
             "settings that serve would use, and says what serve would do.  Exit status 0:\n"
             "ready to serve; 1: there are problems, each with a remedy.",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .run = run_doctor,
};
