/* SPDX-License-Identifier: Apache-2.0 */
/* checkkern.c - checks every kernel of every level against the reference, and measures them.
 *
 *   checkkern [--seed N] [--isa NAME] [--function NAME] [--cases N] [--native] [--bench] [--list]
 *
 * Levels that this processor cannot run are checked where they are also compiled against emulated
 * instructions; --native leaves those checks out.  The seed is printed; the same seed repeats the
 * run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check/check.h"
#include "cpu/features.h"

struct options {
    uint64_t seed;
    const char *isa, *function;
    uint32_t cases;
    bool native, bench, list;
};

static uint64_t passed, failed;

static bool wanted(const char *filter, const char *name)
{
    return !filter || strstr(name, filter);
}

static void check_entries(const struct check_entry *e, const struct rr_kern *kern, bool emulated,
                          const struct options *opt)
{
    uint32_t n;

    for (; e->function; e++) {
        struct check c = { .kern = kern,
                           .ref = rr_kern_levels(&n)[0],
                           .function = e->function,
                           .rng = opt->seed,
                           .cases = opt->cases };

        if (!wanted(opt->function, e->function) || (e->has && !e->has(kern))) continue;
        if (opt->list) {
            printf("%s %s%s\n", kern->name, e->function, emulated ? " (emulated)" : "");
            continue;
        }
        e->run(&c);
        printf("%-5s %-12s %-22s %5u cases%s\n", c.failed ? "FAIL" : "ok", kern->name, e->function,
               c.passed + c.failed, emulated ? ", emulated" : "");
        passed += c.passed;
        failed += c.failed;
    }
}

static void check_level(const struct rr_kern *kern, bool emulated, const struct options *opt)
{
    if (opt->isa && strcmp(opt->isa, kern->name) != 0) return;
    if (opt->bench) {
        if (!emulated) check_bench(kern, opt->function);
        return;
    }
    check_entries(check_f32_entries, kern, emulated, opt);
    check_entries(check_rotary_entries, kern, emulated, opt);
    check_entries(check_i8_entries, kern, emulated, opt);
    check_entries(check_bf16_entries, kern, emulated, opt);
    check_entries(check_i16_entries, kern, emulated, opt);
}

static bool parse(struct options *opt, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--native") == 0) {
            opt->native = true;
            continue;
        }
        if (strcmp(argv[i], "--bench") == 0) {
            opt->bench = true;
            continue;
        }
        if (strcmp(argv[i], "--list") == 0) {
            opt->list = true;
            continue;
        }
        if (!value) return false;
        if (strcmp(argv[i], "--seed") == 0)
            opt->seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i], "--isa") == 0)
            opt->isa = value;
        else if (strcmp(argv[i], "--function") == 0)
            opt->function = value;
        else if (strcmp(argv[i], "--cases") == 0)
            opt->cases = (uint32_t)strtoul(value, NULL, 0);
        else
            return false;
        i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options opt = { .seed = (uint64_t)time(NULL), .cases = 400 };
    uint32_t n, flags = rr_cpu_flags();
    const struct rr_kern *const *levels = rr_kern_levels(&n);

    if (!parse(&opt, argc, argv)) {
        fprintf(stderr, "usage: checkkern [--seed N] [--isa NAME] [--function NAME] [--cases N] "
                        "[--native] [--bench] [--list]\n");
        return 2;
    }
    if (!opt.bench && !opt.list) printf("seed %llu\n", (unsigned long long)opt.seed);
    for (uint32_t i = 0; i < n; i++) {
        if ((levels[i]->needs & flags) == levels[i]->needs)
            check_level(levels[i], false, &opt);
        else if (!opt.bench && !opt.list)
            printf("this processor cannot run level %s\n", levels[i]->name);
    }
    /* The emulation itself is compiled for AVX2. */
    for (n = 0; check_emulated[n] && (flags & RR_CPU_AVX2) && !opt.native; n++)
        check_level(check_emulated[n], true, &opt);
    if (opt.bench || opt.list) return 0;
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed > 0 || passed == 0;
}
