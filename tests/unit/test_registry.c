/* SPDX-License-Identifier: Apache-2.0 */
/* test_registry.c - finding backends: the built-in one, and plugins that this test compiles beside
 * itself, good and bad. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/registry.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static const char source[] =
    "#include \"rerank_backend.h\"\n"
    "#if DEVICES\n"
    "static uint32_t count(const char **why) { *why = 0; return 2; }\n"
    "#else\n"
    "static uint32_t count(const char **why) { *why = \"the fan is missing\"; return 0; }\n"
    "#endif\n"
    "static const struct rr_backend backend = { .abi = ABI, .name = \"test\",\n"
    "                                           .device_count = count };\n"
    "const struct rr_backend *ENTRY(void);\n"
    "const struct rr_backend *ENTRY(void) { return NOTHING ? 0 : &backend; }\n";

static const struct {
    const char *name;   /* of the plugin; NULL: not built */
    const char *flags;  /* for the compiler; NULL: the file is rubbish */
    const char *folder; /* beside the program */
    const char *ask;
    int code;
    const char *words[2]; /* in the message */
    const char *why;
} cases[] = {
    { NULL, NULL, "", "cpu", RR_OK, { "", "" }, "built in" },
    { "rrt_good", "-DABI=RR_BACKEND_ABI -DDEVICES=1 -DENTRY=rr_backend_entry -DNOTHING=0", "",
      "rrt_good", RR_OK, { "", "" }, "beside the program" },
    { "rrt_lib", "-DABI=RR_BACKEND_ABI -DDEVICES=1 -DENTRY=rr_backend_entry -DNOTHING=0",
      "../lib/", "rrt_lib", RR_OK, { "", "" }, "in ../lib" },
    { "rrt_deb", "-DABI=RR_BACKEND_ABI -DDEVICES=1 -DENTRY=rr_backend_entry -DNOTHING=0",
      "../lib/rerankd/", "rrt_deb", RR_OK, { "", "" }, "where the package puts it" },
    { "rrt_idle", "-DABI=RR_BACKEND_ABI -DDEVICES=0 -DENTRY=rr_backend_entry -DNOTHING=0", "",
      "rrt_idle", RR_EDEVICE, { "'rrt_idle' has no usable device", "the fan is missing" },
      "no device: the plugin says why" },
    { "rrt_old", "-DABI=4242 -DDEVICES=1 -DENTRY=rr_backend_entry -DNOTHING=0", "", "rrt_old",
      RR_ENOTSUP, { "ABI 4242, this program has " TEXT(RR_BACKEND_ABI), "librerank_rrt_old.so" },
      "another ABI: both numbers" },
    { "rrt_mute", "-DABI=RR_BACKEND_ABI -DDEVICES=1 -DENTRY=something_else -DNOTHING=0", "",
      "rrt_mute", RR_ENOTSUP, { "no symbol rr_backend_entry", "" }, "no entry" },
    { "rrt_null", "-DABI=RR_BACKEND_ABI -DDEVICES=1 -DENTRY=rr_backend_entry -DNOTHING=1", "",
      "rrt_null", RR_ENOTSUP, { "ABI 0, this program has " TEXT(RR_BACKEND_ABI), "" }, "entry gives nothing" },
    { "rrt_junk", NULL, "", "rrt_junk", RR_EDEVICE, { "'rrt_junk'", "librerank_rrt_junk.so" },
      "not a shared object: the linker's own words" },
    { NULL, NULL, "", "rrt_none", RR_ENOENT,
      { "'rrt_none' is not installed", "librerank_rrt_none.so" }, "no such file" },
    { NULL, NULL, "", "", RR_EINVAL, { "cannot be a backend", "" }, "empty" },
    { NULL, NULL, "", "../evil", RR_EINVAL, { "cannot be a backend", "" }, "a path" },
    { NULL, NULL, "", "CPU", RR_EINVAL, { "cannot be a backend", "" }, "capitals" },
    { NULL, NULL, "", "a_name_that_is_much_too_long_for_anybody", RR_EINVAL,
      { "cannot be a backend", "" }, "too long" },
};

/* Where plugin i belongs: beside this program. */
static void plugin_path(char *out, size_t cap, size_t i)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(n > 0);
    self[n] = 0;
    *strrchr(self, '/') = 0;
    n = snprintf(out, cap, "%s/%s", self, cases[i].folder);
    if (cases[i].folder[0]) (void)mkdir(out, 0700);
    snprintf(out + n, cap - (size_t)n, "librerank_%s.so", cases[i].name);
}

static void build_plugin(const char *path, const char *flags)
{
    const char *cc = getenv("CC");
    char command[PATH_MAX + 512];
    FILE *out;

    if (!flags) {
        out = fopen(path, "w");
        assert_non_null(out);
        fputs("this is not a shared object\n", out);
    } else {
        snprintf(command, sizeof(command), "%s -shared -fPIC -std=c11 -Iinclude %s -o '%s' -xc -",
                 cc && cc[0] ? cc : "cc", flags, path);
        out = popen(command, "w");
        assert_non_null(out);
        fputs(source, out);
    }
    if ((flags ? pclose(out) : fclose(out)) != 0) fail_msg("cannot make %s", path);
}

static void test_find(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct rr_backend *b = (const struct rr_backend *)&i;
        struct rr_error err = { 0 };
        char path[PATH_MAX];
        int rc;

        if (cases[i].name) {
            plugin_path(path, sizeof(path), i);
            build_plugin(path, cases[i].flags);
        }
        rc = rr_backend_find(&b, cases[i].ask, &err);
        if (cases[i].name) unlink(path);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].words[0]) ||
            !strstr(err.msg, cases[i].words[1]) || strchr(err.msg, '\n'))
            fail_msg("%s: %d '%s'", cases[i].why, rc, err.msg);
        if (rc)
            assert_null(b);
        else
            assert_int_equal(b->abi, RR_BACKEND_ABI);
    }
}

static void test_cpu_table(void **state)
{
    const struct rr_backend *b = rr_backend_cpu();
    const char *why = "?";

    (void)state;
    assert_string_equal(b->name, "cpu");
    assert_int_equal(b->device_count(&why), 1);
    assert_null(why);
    b->close(NULL); /* both allow it */
    b->unload(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_cpu_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
