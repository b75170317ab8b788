/* SPDX-License-Identifier: Apache-2.0 */
/* bench_tok.c - how fast texts become ids.
 *
 *     bench_tok FOLDER [TEXT_FILE] [SECONDS]
 *
 * FOLDER holds a tokenizer.json; TEXT_FILE is read as one text per line (default: prose made from
 * built-in French sentences).  Prints the time to open the file without and with a compiled form,
 * then tokens per second of one thread: with the word cache, and with every word new (offsets are asked
 * for, which goes around the cache and costs some more).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "tok/tok.h"

static const char *const prose[] = {
    "Le consommateur dispose d'un délai de quatorze jours pour exercer son droit de rétractation, "
    "sans avoir à justifier de motifs ni à payer de pénalités.",
    "La Cour de cassation a rappelé que l'employeur, tenu d'une obligation de sécurité, doit en "
    "assurer l'effectivité par des mesures de prévention concrètes.",
    "Les énergies renouvelables ont couvert près d'un quart de la consommation électrique "
    "française l'année dernière, selon le gestionnaire du réseau.",
    "Après la pluie, les enfants descendirent vers la rivière où l'eau, grossie par l'orage, "
    "emportait des branches et des feuilles mortes.",
    "Pour préparer la pâte, mélangez la farine, le sucre et une pincée de sel, puis ajoutez les "
    "œufs un à un en remuant sans cesse.",
    "Ce logiciel permet de gérer les dépôts de paquets et de vérifier la signature des fichiers "
    "avant leur installation sur la machine.",
    "L'historien décrit une ville où les métiers, les langues et les croyances se côtoyaient sans "
    "toujours se comprendre.",
    "Une hausse brutale des taux d'intérêt fragiliserait les ménages endettés, mais aussi les "
    "banques régionales, prévient l'institut dans son rapport.",
};

struct lines {
    struct rr_text *at;
    size_t n, bytes;
};

static bool add_line(struct lines *l, struct rr_text t)
{
    struct rr_text *p = l->n % 1024 ? l->at : realloc(l->at, (l->n + 1024) * sizeof(*p));

    if (!p) return false;
    l->at = p;
    l->at[l->n++] = t;
    l->bytes += t.len;
    return true;
}

static bool read_lines(struct lines *l, const char *path)
{
    struct rr_error err = { 0 };
    char *text, *p, *end;
    size_t len, i;

    if (!path || !*path) {
        for (i = 0; i < RR_COUNT(prose); i++)
            if (!add_line(l, rr_text(prose[i]))) return false;
        return true;
    }
    if (rr_file_read(&text, &len, path, 1u << 30, RR_MEM_MISC, &err)) {
        fprintf(stderr, "bench_tok: %s\n", err.msg);
        return false;
    }
    for (p = text; p < text + len; p = end + 1) { /* the text stays for the whole run */
        end = memchr(p, '\n', (size_t)(text + len - p));
        if (!end) end = text + len;
        if (end > p && !add_line(l, (struct rr_text){ p, (size_t)(end - p) })) return false;
    }
    return l->n > 0;
}

static double seconds_since(uint64_t start)
{
    return (double)(rr_now_ns() - start) / (double)RR_SECOND;
}

/* Processor time of this thread: what counts on a machine that others use, too. */
static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void bench_open(const char *folder)
{
    char dir[] = "/tmp/bench_tok.XXXXXX";
    const char *const names[] = { "no cache folder", "first with one", "from the compiled form",
                                  "from the compiled form" };
    struct rr_error err = { 0 };
    struct rr_tok *tok;
    char file[128] = "";
    size_t i;

    if (!mkdtemp(dir)) return;
    for (i = 0; i < RR_COUNT(names); i++) {
        uint64_t start = rr_now_ns();
        double cpu = cpu_seconds();

        if (rr_tok_open(&tok, folder, i ? dir : NULL, &err)) break;
        printf("open, %-24s %8.1f ms, processor %8.1f ms\n", names[i], seconds_since(start) * 1e3,
               (cpu_seconds() - cpu) * 1e3);
        snprintf(file, sizeof(file), "%s/tokenizer-%016llx.rrtok", dir,
                 (unsigned long long)rr_tok_fingerprint(tok));
        rr_tok_close(tok);
    }
    unlink(file);
    rmdir(dir);
}

static int bench_encode(const struct rr_tok *tok, const struct lines *l, double seconds,
                        bool offsets, const char *name)
{
    struct rr_tok_scratch *s = NULL;
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    uint64_t start, tokens = 0, bytes = 0;
    double took, cpu;
    size_t i;
    int rc = rr_tok_scratch_open(&s, tok, &err);

    start = rr_now_ns();
    cpu = cpu_seconds();
    while (!rc && seconds_since(start) < seconds) {
        for (i = 0; i < l->n && !rc; i++) {
            rc = rr_tok_encode(tok, s, l->at[i], 0, offsets ? RR_TOK_OFFSETS : 0, &ids, &err);
            tokens += ids.n;
            bytes += l->at[i].len;
        }
    }
    took = seconds_since(start);
    cpu = cpu_seconds() - cpu;
    if (rc)
        fprintf(stderr, "bench_tok: %s\n", err.msg);
    else
        printf("encode, %-30s %7.2f M tokens/s, %7.2f per processor second, %6.1f MB/s "
               "(%.2f bytes per token)\n",
               name, (double)tokens / took / 1e6, (double)tokens / cpu / 1e6,
               (double)bytes / cpu / 1e6, (double)bytes / (double)tokens);
    rr_tok_scratch_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    struct lines l = { NULL, 0, 0 };
    struct rr_error err = { 0 };
    struct rr_tok *tok;
    double seconds = argc > 3 ? atof(argv[3]) : 2;
    int rc;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_tok FOLDER [TEXT_FILE] [SECONDS]\n");
        return 64;
    }
    if (!read_lines(&l, argc > 2 ? argv[2] : NULL)) return 1;
    bench_open(argv[1]);
    if (rr_tok_open(&tok, argv[1], NULL, &err)) {
        fprintf(stderr, "bench_tok: %s\n", err.msg);
        return 1;
    }
    printf("%s, %zu texts of %zu bytes\n", rr_tok_kind(tok), l.n, l.bytes);
    rc = bench_encode(tok, &l, seconds, false, "word cache");
    /* With offsets the cache is not used: every word goes through the model. */
    if (!rc) rc = bench_encode(tok, &l, seconds, true, "every word anew, with offsets");
    rr_tok_close(tok);
    free(l.at);
    return rc ? 1 : 0;
}
