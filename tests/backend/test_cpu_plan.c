/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_plan.c - how batches are cut into work: nothing is lost, rooms are kept, the choice
 * between single workers and the team is the sensible one in clear cases, and the tail is put off. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../support/program.h"
#include "backend/cpu_backend.h"
#include "backend/registry.h"

#define WORDS 20
#define MAX_TOKENS 8192
#define MAX_SEQUENCES 600

struct fixture {
    struct program p;
    struct rr_device *d;
    struct rr_loaded *l;
    struct batch b;
};

static void setup(struct fixture *f, uint32_t threads)
{
    /* Dear enough for one token that a few of them are worth a team. */
    static const struct encoder_shape shape = { 3, 384, 12, 1536, WORDS, 600, 0 };
    struct rr_device_options opt = { .threads = threads };
    struct rr_limits limits = { MAX_TOKENS, MAX_SEQUENCES, 600 };
    struct rr_error err = { 0 };

    program_init(&f->p, 1, true);
    program_encoder(&f->p, &shape);
    if (rr_backend_cpu()->open(&f->d, &opt, &err)) fail_msg("%s", err.msg);
    if (rr_backend_cpu()->load(f->d, &f->p.p, &limits, &f->l, &err)) fail_msg("%s", err.msg);
    batch_init(&f->b, MAX_TOKENS, MAX_SEQUENCES);
}

static void teardown(struct fixture *f)
{
    batch_free(&f->b);
    rr_backend_cpu()->unload(f->l);
    rr_backend_cpu()->close(f->d);
    program_free(&f->p);
}

/* Every sequence once, longest first; pieces back to back and within their rooms. */
static void check_sound(const struct fixture *f, const char *why)
{
    const struct rr_cpu_plan *p = &f->l->plan;
    bool seen[MAX_SEQUENCES] = { false };
    uint32_t n = f->b.b.n_sequences, next = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = p->order[i], length = f->b.cu[s + 1] - f->b.cu[s];

        if (s >= n || seen[s]) fail_msg("%s: sequence %u twice or unknown", why, s);
        seen[s] = true;
        assert_int_equal(p->starts[i + 1] - p->starts[i], length);
        if (i > 0) assert_true(length <= p->starts[i] - p->starts[i - 1]);
    }
    assert_true(p->solo_begin <= p->solo_end && p->solo_end <= p->n_pieces);
    for (uint32_t i = 0; i < p->n_pieces; i++) {
        const struct rr_cpu_piece *piece = &p->pieces[i];
        const struct rr_cpu_room *room = i >= p->solo_begin && i < p->solo_end
                                             ? &f->l->chunk_room : &f->l->team_room;

        if (piece->begin != next || piece->end <= piece->begin) fail_msg("%s: gap", why);
        assert_true(p->starts[piece->end] - p->starts[piece->begin] <= room->rows[RR_CPU_TOKENS]);
        assert_true(piece->end - piece->begin <= room->rows[RR_CPU_SEQUENCES]);
        next = piece->end;
    }
    assert_int_equal(next, n);
}

static void test_random_batches(void **state)
{
    uint64_t seed = 17;

    (void)state;
    for (uint32_t threads = 1; threads <= 16; threads *= 2) {
        struct fixture f;

        setup(&f, threads);
        for (int round = 0; round < 100; round++) {
            uint32_t most = 1 + random_below(&seed, 600), left = random_below(&seed, MAX_TOKENS);

            batch_clear(&f.b);
            do {
                uint32_t length = 1 + random_below(&seed, most);

                if (f.b.b.n_tokens + length > MAX_TOKENS) break;
                batch_add(&f.b, length, WORDS, 0, 0, &seed);
                left -= length < left ? length : left;
            } while (left > 0 && f.b.b.n_sequences < MAX_SEQUENCES);
            rr_cpu_plan_batch(f.l, &f.b.b);
            check_sound(&f, "random");
        }
        teardown(&f);
    }
}

enum who { ALONE, WORKERS, TEAM, BOTH };

static void test_choices(void **state)
{
    static const struct {
        uint32_t threads, count, length;
        enum who who;
        const char *why;
    } cases[] = {
        { 1, 1, 128, WORKERS, "one thread has no team" },
        { 2, 1, 128, TEAM, "one pair is shared by two threads" },
        { 2, 20, 64, WORKERS, "equal halves: nobody waits" },
        { 2, 3, 300, BOTH, "the third of three is shared" },
        { 2, 1, 600, TEAM, "longer than one worker has room for" },
        { 8, 2, 256, TEAM, "most workers would stand idle" },
        { 8, 8, 250, WORKERS, "one for each" },
        { 8, 20, 128, BOTH, "two rounds of eight, then the team" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        const struct rr_cpu_plan *p;
        struct fixture f;
        uint64_t seed = 1;
        uint32_t solo;
        enum who who;

        setup(&f, cases[i].threads);
        for (uint32_t s = 0; s < cases[i].count; s++)
            batch_add(&f.b, cases[i].length, WORDS, 0, 0, &seed);
        rr_cpu_plan_batch(f.l, &f.b.b);
        check_sound(&f, cases[i].why);
        p = &f.l->plan;
        solo = p->solo_end - p->solo_begin;
        who = p->alone ? ALONE : solo == p->n_pieces ? WORKERS : solo == 0 ? TEAM : BOTH;
        if (who != cases[i].who)
            fail_msg("%s: %d, expected %d (%u pieces, %u by single workers)", cases[i].why,
                     (int)who, (int)cases[i].who, p->n_pieces, solo);
        teardown(&f);
    }
}

/* A model so small that waking another thread takes longer than the work. */
static void test_tiny_work(void **state)
{
    static const struct encoder_shape shape = { 1, 16, 2, 32, WORDS, 600, 0 };
    struct rr_device_options opt = { .threads = 4, .isa = "ref" };
    struct rr_limits limits = { 100, 10, 100 };
    struct rr_error err = { 0 };
    struct fixture f;
    uint64_t seed = 1;

    (void)state;
    program_init(&f.p, 1, true);
    program_encoder(&f.p, &shape);
    assert_int_equal(rr_backend_cpu()->open(&f.d, &opt, &err), RR_OK);
    assert_int_equal(rr_backend_cpu()->load(f.d, &f.p.p, &limits, &f.l, &err), RR_OK);
    batch_init(&f.b, 100, 10);
    batch_add(&f.b, 10, WORDS, 0, 0, &seed);
    rr_cpu_plan_batch(f.l, &f.b.b);
    assert_true(f.l->plan.alone);
    check_sound(&f, "tiny");
    teardown(&f);
}

/* The tail begins behind the last look at tokens, is put off where there are several pieces, and
 * does not care how many sequences are taken at once. */
static void test_tail(void **state)
{
    struct rr_error err = { 0 };
    struct fixture f;
    struct batch alone;
    float all[MAX_SEQUENCES], one;
    uint64_t seed = 5;
    uint32_t last = 0;

    (void)state;
    setup(&f, 2);
    for (uint32_t i = 0; i < f.p.p.n_ops; i++)
        if (f.p.p.ops[i].kind == RR_OP_ATTENTION) last = i;
    assert_int_equal(f.l->tail.begin, last + 1);
    assert_int_equal(f.l->tail.n, 2); /* attention's result and what it is added to */

    batch_add(&f.b, 40, WORDS, 0, 0, &seed);
    rr_cpu_plan_batch(f.l, &f.b.b);
    assert_int_equal(f.l->plan.n_pieces, 1);
    assert_int_equal(f.l->plan.end, f.l->n_steps);

    for (uint32_t i = 1; i < MAX_SEQUENCES; i++)
        batch_add(&f.b, 1 + i % 9, WORDS, 0, 0, &seed);
    assert_true(f.b.b.n_sequences > 2 * f.l->team_room.rows[RR_CPU_SEQUENCES]);
    assert_int_equal(rr_cpu_run(f.l, &f.b.b, all, &err), RR_OK);
    assert_int_equal(f.l->plan.end, f.l->tail.begin);
    batch_init(&alone, 40, 1);
    for (uint32_t i = 0; i < MAX_SEQUENCES; i += 7) {
        batch_clear(&alone);
        batch_add_from(&alone, &f.b, i);
        assert_int_equal(rr_cpu_run(f.l, &alone.b, &one, &err), RR_OK);
        if (memcmp(&one, &all[i], sizeof(one)) != 0) fail_msg("sequence %u: other bits", i);
    }
    batch_free(&alone);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_batches),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_tiny_work),
        cmocka_unit_test(test_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
