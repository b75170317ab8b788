/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_packed.c - files of packed weights: another version than the one that wrote a file takes
 * it only if it would have packed the same. */
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/program.h"
#include "backend/cpu_backend.h"
#include "backend/registry.h"

struct head { /* of a file: quant/packed.c */
    char magic[8];
    uint64_t version, fingerprint, layout, bytes, data_hash;
};

static void pack(const char *folder, const char *dtype)
{
    static const struct encoder_shape shape = { 1, 84, 3, 148, 60, 100, 2 };
    struct rr_device_options opt = { .threads = 1, .dtype = dtype, .isa = "ref",
                                     .packed_dirs = { NULL, folder } };
    struct rr_limits limits = { 64, 2, 64 };
    struct rr_error err = { 0 };
    struct rr_device *d;
    struct rr_loaded *l;
    struct program p;

    program_init(&p, 8, false);
    program_encoder(&p, &shape);
    p.p.fingerprint = 1;
    if (rr_backend_cpu()->open(&d, &opt, &err)) fail_msg("%s", err.msg);
    if (rr_backend_cpu()->load(d, &p.p, &limits, &l, &err)) fail_msg("%s", err.msg);
    rr_backend_cpu()->unload(l);
    rr_backend_cpu()->close(d);
    program_free(&p);
}

/* Reads the head of the one file in the folder and removes both. */
static struct head take(const char *folder)
{
    DIR *dir = opendir(folder);
    struct head h = { .version = 0 };
    struct dirent *e;
    char path[512];

    assert_non_null(dir);
    while ((e = readdir(dir))) {
        FILE *f;

        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        f = fopen(path, "rb");
        assert_non_null(f);
        assert_int_equal(fread(&h, sizeof(h), 1, f), 1);
        fclose(f);
        unlink(path);
    }
    closedir(dir);
    rmdir(folder);
    return h;
}

/* The same weights on one level, and what becomes of them.  Whatever changes that must raise the
 * version: files that are there would be mapped as if nothing had changed. */
static void test_version(void **state)
{
    static const struct {
        const char *dtype;
        uint64_t version, data_hash;
    } cases[] = {
        { "f32", 3, UINT64_C(0x7f74b6bf8c412376) },
        { "bf16", 3, UINT64_C(0xe48ef44f76f8204a) },
        { "int8", 3, UINT64_C(0x415decccbd81d53a) },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        char folder[] = "/tmp/test_cpu_packed.XXXXXX";
        struct head h;

        assert_non_null(mkdtemp(folder));
        pack(folder, cases[i].dtype);
        h = take(folder);
        if (h.version != cases[i].version || h.data_hash != cases[i].data_hash)
            fail_msg("%s: version %" PRIu64 " packs 0x%016" PRIx64 ", known is version %" PRIu64
                     " with 0x%016" PRIx64 ": raise VERSION in quant/packed.c",
                     cases[i].dtype, h.version, h.data_hash, cases[i].version, cases[i].data_hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_version) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
