/* SPDX-License-Identifier: Apache-2.0 */
/* test_pressure.c - signs of too few processors: from files that the test writes, and how a team
 * judges them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "cpu/pressure.h"

#define MS UINT64_C(1000000)

static void write_file(const char *root, const char *name, const char *text)
{
    char path[256];
    FILE *f;

    if (!text) return;
    snprintf(path, sizeof(path), "%s%s", root, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_files(void **state)
{
    static const struct {
        const char *psi, *stat, *load;
        double waiting, steal;
        uint32_t runnable;
        const char *why;
    } cases[] = {
        { "some avg10=12.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00\n",
          "cpu  10 0 10 60 10 0 0 10 5 0\ncpu0 1\n", "0.5 0.4 0.3 3/150 999\n", 0.125, 0.1, 3,
          "all there" },
        { NULL, NULL, NULL, -1, -1, 0, "nothing there: not known" },
        { "rubbish\n", "cpu 1 2 3\n", "rubbish\n", -1, -1, 0, "not what it should be" },
        { "", "cpu  0 0 0 0 0 0 0 0\n", "0 0 0 1/2 3\n", -1, -1, 1, "no time has passed" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        char root[] = "/tmp/test_pressure.XXXXXX", path[256];
        struct rr_pressure p;

        assert_non_null(mkdtemp(root));
        snprintf(path, sizeof(path), "%s/proc", root);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof(path), "%s/proc/pressure", root);
        assert_int_equal(mkdir(path, 0700), 0);
        write_file(root, "/proc/pressure/cpu", cases[i].psi);
        write_file(root, "/proc/stat", cases[i].stat);
        write_file(root, "/proc/loadavg", cases[i].load);
        rr_pressure_read(&p, root);
        snprintf(path, sizeof(path), "rm -rf '%s'", root);
        assert_int_equal(system(path), 0);
        if (p.waiting != cases[i].waiting || p.steal != cases[i].steal ||
            p.runnable != cases[i].runnable)
            fail_msg("%s: %g %g %u", cases[i].why, p.waiting, p.steal, p.runnable);
    }
}

static void test_crowd(void **state)
{
    static const struct {
        uint64_t run, wait; /* ms since the last look */
        bool crowded;
        const char *why;
    } steps[] = {
        { 900, 100, false, "the first look has nothing to compare with" },
        { 960, 40, false, "four per cent" },
        { 20, 20, false, "half, but of too little time" },
        { 500, 500, true, "half" },
        { 950, 50, true, "better, but not good" },
        { 10, 0, true, "too little time" },
        { 1000, 10, false, "good" },
    };
    struct rr_crowd c = { 0 };
    uint64_t run = 0, wait = 0;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(steps); i++) {
        run += steps[i].run * MS;
        wait += steps[i].wait * MS;
        rr_crowd_look(&c, run, wait);
        if (c.crowded != steps[i].crowded) fail_msg("%s: share %g", steps[i].why, c.share);
    }
    rr_crowd_look(&c, MS, 1000 * MS); /* other threads: their sums are no difference */
    assert_false(c.crowded);
}

static void test_this_thread(void **state)
{
    uint64_t run, wait, later;
    volatile uint32_t n = 0;

    (void)state;
    if (!rr_pressure_thread((int)syscall(SYS_gettid), &run, &wait)) skip();
    do {
        for (int i = 0; i < 1000000; i++) n++;
        assert_true(rr_pressure_thread((int)syscall(SYS_gettid), &later, &wait));
        assert_true(later >= run);
    } while (run != 0 && later == run); /* a kernel that does not count says 0 */
    assert_false(rr_pressure_thread(-1, &run, &wait));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_this_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
