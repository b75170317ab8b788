/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_options.c - any bytes as a command line, an environment and a configuration file: settings in
 * their bounds, or an error of one line.
 *
 * The input is lines; those before an empty line are words of the command line, or NAME=VALUE of the
 * environment when they begin with RERANKD_; the rest is the file. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options.h"

#define MAX_WORDS 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern char **environ;

static void check(const struct rr_settings *s)
{
    if (s->port > 65535 || s->http_threads < 1 || s->http_threads > 64) abort();
    if (s->max_documents < 1 || s->max_documents > 100000) abort();
    if (!(s->idle_timeout >= 1 && s->idle_timeout <= 3600)) abort();
    if (strcmp(s->lang, "en") != 0 && strcmp(s->lang, "fr") != 0) abort();
    if (!s->host || !s->model || !s->cache_dir) abort();
}

static void load(int argc, char **argv)
{
    static char *nothing[] = { NULL };
    char *rest[MAX_WORDS + 1];
    struct rr_settings s, again;
    struct rr_load l = { .argc = argc, .argv = argv, .rest = rest };
    struct rr_error err = { 0, "" };
    int rc = rr_settings_read(&s, &l, &err);

    if (rc != err.code) abort();
    if (rc && (!err.msg[0] || strchr(err.msg, '\n'))) abort();
    if (!rc && !l.help) {
        check(&s);
        if (rr_settings_again(&s, &again, &err)) abort(); /* nothing has changed */
        rr_settings_free(&again);
    }
    rr_settings_free(&s);
    environ = nothing;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[32];
    char *argv[MAX_WORDS + 1], *text, *line;
    int argc = 0;

    if (size > 65536) return 0;
    if (fd < 0) {
        fd = memfd_create("conf", 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    text = malloc(size + 1);
    if (fd < 0 || !text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    clearenv();
    setenv("RERANKD_CONFIG", path, 1);
    setenv("RERANKD_CACHE_DIR", "none", 1);
    for (line = text; *line && *line != '\n';) {
        char *word = line, *equals;

        line += strcspn(line, "\n");
        if (*line) *line++ = 0;
        equals = strncmp(word, "RERANKD_", 8) == 0 ? strchr(word, '=') : NULL;
        if (equals) {
            *equals = 0;
            if (strcmp(word, "RERANKD_CONFIG") != 0) setenv(word, equals + 1, 1);
        } else if (argc < MAX_WORDS && strncmp(word, "--config", 8) != 0) { /* no files of others */
            argv[argc++] = word;
        }
    }
    if (*line) line++;
    if (ftruncate(fd, 0) || pwrite(fd, line, (size_t)(text + size - line), 0) < 0) abort();
    argv[argc] = NULL;
    load(argc, argv);
    free(text);
    return 0;
}
