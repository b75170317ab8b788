/* SPDX-License-Identifier: Apache-2.0 */
/* test_numa.c - nodes from files that the test writes, and which worker goes where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/mem.h"
#include "cpu/numa.h"

static struct rr_numa numa;

/* lists[n]: the cpulist of each node, NULL: no such node. */
static void read_nodes(const char *const *lists, size_t n)
{
    char root[] = "/tmp/test_numa.XXXXXX", command[256];

    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < n; i++) {
        if (!lists[i]) continue;
        snprintf(command, sizeof(command),
                 "mkdir -p %s/sys/devices/system/node/node%zu && printf '%%s\\n' '%s' > "
                 "%s/sys/devices/system/node/node%zu/cpulist", root, i, lists[i], root, i);
        assert_int_equal(system(command), 0);
    }
    rr_numa_fake(root);
    rr_numa_read(&numa);
    rr_numa_fake(NULL);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

static void test_files(void **state)
{
    static const char *const two[] = { "0-3,8-11", "4-7,12,13-15" };
    static const char *const holes[] = { NULL, NULL, "1", "", NULL, "2-2,5" };
    static const char *const bad[] = { "x", "7-", "99999999999", "3-1" };

    (void)state;
    read_nodes(two, 2);
    for (int cpu = 0; cpu < 16; cpu++) assert_int_equal(numa.node[cpu], cpu / 4 % 2);
    read_nodes(holes, 6);
    assert_int_equal(numa.node[1], 2);
    assert_int_equal(numa.node[2], 5);
    assert_int_equal(numa.node[5], 5);
    assert_int_equal(numa.node[0], 0);
    read_nodes(bad, 4); /* no crash; nothing that is not on some node 0 or named */
    assert_int_equal(numa.node[3], 0);
    read_nodes(NULL, 0);
    assert_int_equal(numa.node[100], 0);
}

static void test_spread(void **state)
{
    static const char *const two[] = { NULL, "0-3", NULL, "4-7" };
    static const struct {
        uint32_t workers, cpus;
        int near;
        uint32_t nodes;
        const char *expect; /* index of each worker's node */
        const char *why;
    } cases[] = {
        { 8, 8, 6, 2, "00001111", "one for each: worker i has processor i" },
        { 4, 8, 0, 1, "0000", "half of them: all on the node of the caller" },
        { 4, 8, 5, 1, "0000", "... whichever that is" },
        { 6, 8, 5, 2, "111100", "what does not fit goes to the other node" },
        { 4, 4, 0, 1, "0000", "the mask allows one node only" },
        { 10, 8, 0, 2, "0000111100", "more workers than processors" },
        { 2, 0, 0, 1, "00", "no processor known" },
        { 1, 8, -1, 1, "0", "no processor of ours known" },
    };
    static const int cpus[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

    (void)state;
    read_nodes(two, 4);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct rr_numa_plan plan;
        uint8_t worker[16];
        char got[17] = "";

        rr_numa_spread(&plan, worker, cases[i].workers, &numa, cpus, cases[i].cpus, cases[i].near);
        for (uint32_t w = 0; w < cases[i].workers; w++) got[w] = (char)('0' + worker[w]);
        if (strcmp(got, cases[i].expect) != 0 || plan.n_nodes != cases[i].nodes)
            fail_msg("%s: %s on %u nodes", cases[i].why, got, plan.n_nodes);
        if (plan.n_nodes == 2) assert_true(plan.ids[0] == 1 && plan.ids[1] == 3);
    }
}

static void test_prefer(void **state)
{
    size_t bytes = 1 << 16;
    char *p = rr_pages_alloc(RR_MEM_MISC, bytes);

    (void)state;
    assert_non_null(p);
    assert_false(rr_numa_prefer(p, bytes, RR_NUMA_NODES));     /* no such number */
    assert_false(rr_numa_prefer(p, bytes, RR_NUMA_NODES - 1)); /* no such node, on any machine here */
    (void)rr_numa_prefer(p, bytes, 0); /* true where the kernel knows nodes and allows it */
    memset(p, 1, bytes);               /* and the memory is memory all the same */
    rr_pages_free(RR_MEM_MISC, p, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_prefer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
