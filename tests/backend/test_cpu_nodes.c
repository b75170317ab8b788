/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_nodes.c - weights on several memory nodes: every node's workers use their own copy, the
 * copies are whole, and scores do not change by a bit.  The nodes are files that the test writes. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/program.h"
#include "backend/cpu_backend.h"
#include "backend/registry.h"
#include "base/mem.h"
#include "cpu/numa.h"
#include "cpu/topology.h"

#define WORDS 20
#define SEQUENCES 12
#define TOKENS 1200

/* Without the copy scores must change, or nobody uses it.  A worker that comes too late for every
 * share of a run is possible, though: then once more. */
static void check_used(struct rr_loaded *l, const struct rr_batch *b, const float *logits)
{
    float other[SEQUENCES];
    struct rr_error err = { 0 };

    memset(l->copies[0].weights, 0, l->weight_bytes);
    for (int i = 0; i < 1000; i++) {
        if (rr_backend_cpu()->run(l, b, other, &err)) fail_msg("%s", err.msg);
        if (memcmp(other, logits, sizeof(other)) != 0) return;
    }
    fail_msg("the copy of the weights is not used");
}

struct seen { /* what an observer was told */
    const struct rr_loaded *l;
    pthread_t owner;
    atomic_uint rows, wrong, others; /* others: calls from other threads than the owner's */
};

static void see(void *user, uint32_t op, const float *x, size_t ldx, uint32_t rows)
{
    struct seen *s = user;

    (void)x;
    (void)ldx;
    atomic_fetch_add(&s->rows, rows);
    atomic_fetch_add(&s->wrong, op >= s->l->n_steps || s->l->steps[op].op.kind != RR_OP_LINEAR);
    atomic_fetch_add(&s->others, !pthread_equal(pthread_self(), s->owner));
}

/* Workers of another node have other steps, and their operations are the program's all the same. */
static void check_observed(struct rr_loaded *l, const struct rr_batch *b)
{
    struct seen s = { .l = l, .owner = pthread_self() };
    float logits[SEQUENCES];
    struct rr_error err = { 0 };
    uint32_t rows = 0;

    for (uint32_t i = 0; i < l->n_steps; i++)
        if (l->steps[i].op.kind == RR_OP_LINEAR)
            rows += l->steps[i].rows == RR_ROWS_TOKENS ? b->n_tokens : b->n_sequences;
    rr_backend_cpu()->observe(l, see, &s);
    for (int i = 0; i < 1000 && !atomic_load(&s.others); i++) {
        atomic_store(&s.rows, 0);
        if (rr_backend_cpu()->run(l, b, logits, &err)) fail_msg("%s", err.msg);
        assert_int_equal(atomic_load(&s.wrong), 0);
        assert_int_equal(atomic_load(&s.rows), rows);
    }
    assert_int_not_equal(atomic_load(&s.others), 0);
    rr_backend_cpu()->observe(l, NULL, NULL);
}

static void run_once(const char *dtype, enum rr_cpu_mode mode, uint32_t threads, uint32_t nodes,
                     float *logits, uint64_t *weights)
{
    static const struct encoder_shape shape = { 2, 64, 4, 128, WORDS, 128, 0 };
    struct rr_device_options opt = { .threads = threads, .dtype = dtype };
    struct rr_limits limits = { TOKENS, SEQUENCES, 128 };
    struct rr_error err = { 0 };
    struct rr_device *d;
    struct rr_loaded *l;
    struct program p;
    struct batch b;
    uint64_t seed = 3;

    program_init(&p, 1, true);
    program_encoder(&p, &shape);
    batch_init(&b, TOKENS, SEQUENCES);
    for (uint32_t i = 0; i < SEQUENCES; i++) batch_add(&b, 20 + 6 * i, WORDS, 0, 0, &seed);
    if (rr_backend_cpu()->open(&d, &opt, &err)) fail_msg("%s", err.msg);
    rr_cpu_tuning(d)->mode = mode;
    assert_int_equal(rr_pool_nodes(d->pool), nodes);
    if (rr_backend_cpu()->load(d, &p.p, &limits, &l, &err)) fail_msg("%s", err.msg);
    *weights = l->memory.weights;
    for (uint32_t n = 0; n + 1 < nodes; n++) {
        const struct rr_cpu_copy *c = &l->copies[n];

        assert_memory_equal(c->weights, l->weights, l->weight_bytes);
        for (uint32_t s = 0; s < l->n_steps; s++) {
            const char *panels = c->steps[s].linear.panels;

            if (l->steps[s].op.kind != RR_OP_LINEAR) continue;
            assert_true(panels >= c->weights && panels < c->weights + l->weight_bytes);
        }
    }
    if (rr_backend_cpu()->run(l, &b.b, logits, &err)) fail_msg("%s", err.msg);
    if (nodes > 1) check_observed(l, &b.b);
    if (nodes > 1) check_used(l, &b.b, logits);
    rr_backend_cpu()->unload(l);
    rr_backend_cpu()->close(d);
    batch_free(&b);
    program_free(&p);
}

static void write_node(const char *root, int node, const char *list)
{
    char command[512];

    snprintf(command, sizeof(command),
             "d=%s/sys/devices/system/node/node%d && mkdir -p $d && echo %s > $d/cpulist", root,
             node, list);
    assert_int_equal(system(command), 0);
}

static void test_copies(void **state)
{
    static const char *const dtypes[] = { "f32", "bf16", "int8" };
    char root[] = "/tmp/test_cpu_nodes.XXXXXX", list[64];
    struct rr_topology t;

    (void)state;
    rr_topology_get(&t);
    if (t.allowed < 2) skip();
    assert_non_null(mkdtemp(root));
    snprintf(list, sizeof(list), "%d", rr_topology_cpu(0));
    write_node(root, 0, list);
    snprintf(list, sizeof(list), "%d-%d", rr_topology_cpu(1), rr_topology_cpu(t.allowed - 1));
    write_node(root, 1, list);
    for (size_t i = 0; i < 2 * RR_COUNT(dtypes); i++) {
        enum rr_cpu_mode mode = i % 2 ? RR_CPU_TEAM : RR_CPU_CHUNKS;
        float one[SEQUENCES], two[SEQUENCES];
        uint64_t single, both;

        rr_numa_fake("/nonexistent");
        run_once(dtypes[i / 2], mode, t.allowed, 1, one, &single);
        rr_numa_fake(root);
        run_once(dtypes[i / 2], mode, t.allowed, 2, two, &both);
        rr_numa_fake(NULL);
        assert_memory_equal(one, two, sizeof(one));
        assert_int_equal(both, 2 * single);
    }
    snprintf(list, sizeof(list), "rm -rf %s", root);
    assert_int_equal(system(list), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_copies) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
