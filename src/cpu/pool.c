/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - a fixed team of workers: spin a little, then sleep in the kernel.  Layer: cpu (L1).
 * Threads: see pool.h.  The caller of a run is its owner until it ends; gate lets one in at a time.
 *
 * Two words carry everything between threads.  `job` is raised by the owner when fn and user are
 * set: workers wait for it to change.  `busy` is lowered by each worker that is done: the owner
 * waits for zero.  The barrier has a third one, `turn`, raised by the last to arrive.  Each is
 * waited for in the same way: a bounded spin, because the next job or the last worker is usually
 * microseconds away, then a futex, because on a machine with more threads than processors the one
 * that is waited for may need ours. */
#include "cpu/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpu/numa.h"
#include "cpu/pressure.h"
#include "cpu/topology.h"

#define SPIN_NS 40000       /* about what a sleep and a wake-up cost together */
#define LOOK_NS 1000000000u /* between two looks at whether there are processors enough */
#define SPINS_PER_LOOK 32   /* pauses between two looks at the clock */
#define STACK_BYTES 1048576 /* kernels keep their scratch elsewhere */
#define LINE 64

/* A word that threads wait on.  Alone in its cache line: the waiters read it all the time. */
struct word {
    RR_ALIGNED(LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct worker {
    struct rr_pool *pool;
    uint32_t index;
    _Atomic int tid; /* 0 until the thread runs */
    pthread_t thread;
};

/* Callers that share a pool, first come, first served: a mutex would let the one that has just left
 * in again. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t next, serving; /* lock; the ticket to be drawn next, the one whose turn it is */
};

struct rr_pool {
    struct gate gate;
    struct word job;  /* serial number of the job; workers sleep on it */
    struct word busy; /* workers that have not finished the job; the owner sleeps on it */
    struct word turn; /* serial number of the barrier */
    RR_ALIGNED(LINE) _Atomic uint32_t arrived; /* at the barrier */
    RR_ALIGNED(LINE) rr_pool_fn *fn;           /* written before job is raised; NULL: leave */
    void *user;
    uint32_t size;
    uint32_t started; /* workers that exist, without the owner */
    /* Relaxed: whoever reads an old value spins once too long or too short. */
    _Atomic uint32_t spin_ns;
    bool pin;       /* each worker to its processor */
    bool too_large; /* more threads than may run at once */
    bool said;      /* that there are too few processors */
    uint64_t looked_ns;
    struct rr_crowd crowd;
    struct rr_numa numa;
    struct rr_numa_plan plan;
    uint8_t node[RR_POOL_MAX]; /* of each worker, index into plan.ids */
    struct worker workers[];   /* [size], the first is unused: it is the owner */
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

/* Not rr_now_ns: a test that stops that clock must not stop a spinning worker. */
static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void futex(struct word *w, int op, uint32_t arg)
{
    /* Errors (EAGAIN: the value has changed, EINTR) mean "look again", which callers do anyway. */
    syscall(SYS_futex, (uint32_t *)&w->value, op, arg, NULL, NULL, 0);
}

/* Waits while w has the value old, at first for spin_ns without sleeping.  Acquire: what was
 * written before the change is visible. */
static uint32_t word_wait(struct word *w, uint32_t old, uint64_t spin_ns)
{
    uint64_t until = 0;
    uint32_t v;
    int i;

    do {
        for (i = 0; i < SPINS_PER_LOOK; i++) {
            v = atomic_load_explicit(&w->value, memory_order_acquire);
            if (v != old) return v;
            relax();
        }
        if (until == 0) until = now_ns() + spin_ns;
    } while (now_ns() < until);

    /* Sequentially consistent on both sides: either the waker sees our count, or we (here or in the
     * kernel's own comparison) see its new value.  Anything weaker could lose the wake-up. */
    atomic_fetch_add_explicit(&w->sleepers, 1, memory_order_seq_cst);
    while ((v = atomic_load_explicit(&w->value, memory_order_seq_cst)) == old)
        futex(w, FUTEX_WAIT_PRIVATE, old);
    atomic_fetch_sub_explicit(&w->sleepers, 1, memory_order_relaxed);
    return v;
}

/* After a sequentially consistent change of w->value. */
static void word_wake(struct word *w)
{
    if (atomic_load_explicit(&w->sleepers, memory_order_seq_cst) != 0)
        futex(w, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static uint64_t spin_of(const struct rr_pool *p)
{
    return atomic_load_explicit(&p->spin_ns, memory_order_relaxed);
}

/* tid 0: the calling thread.  A refusal costs some speed at most. */
static void bind_to(int tid, size_t size, const cpu_set_t *set)
{
    (void)sched_setaffinity(tid, size, set);
}

static void pin_to(int tid, uint32_t index)
{
    int cpu = rr_topology_cpu(index);
    cpu_set_t set;

    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    bind_to(tid, sizeof(set), &set);
}

/* Called by the owner, whose own mask is the process's.  A worker that is pinned beside somebody
 * else's work gets half a processor while another may be free; the scheduler does better then. */
static void set_pins(struct rr_pool *p, bool pinned)
{
    cpu_set_t part[RR_NUMA_CPUS / CPU_SETSIZE];

    if (sched_getaffinity(0, sizeof(part), part) != 0) return;
    for (uint32_t i = 1; i < p->size; i++) {
        int tid = atomic_load_explicit(&p->workers[i].tid, memory_order_relaxed);

        if (pinned)
            pin_to(tid, i);
        else
            bind_to(tid, sizeof(part), part);
    }
}

/* To those of the processors of its node that the process may use. */
static void keep_on_node(const struct rr_pool *p, uint32_t index)
{
    cpu_set_t part[RR_NUMA_CPUS / CPU_SETSIZE];
    uint8_t id = p->plan.ids[p->node[index]];

    if (sched_getaffinity(0, sizeof(part), part) != 0) return;
    for (unsigned cpu = 0; cpu < RR_NUMA_CPUS; cpu++)
        if (p->numa.node[cpu] != id) CPU_CLR_S(cpu, sizeof(part), part);
    if (CPU_COUNT_S(sizeof(part), part)) bind_to(0, sizeof(part), part);
}

static bool one_node_only(const struct rr_numa *numa)
{
    for (unsigned cpu = 1; cpu < RR_NUMA_CPUS; cpu++)
        if (numa->node[cpu] != numa->node[0]) return false;
    return true;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct rr_pool *p = w->pool;
    uint32_t seen = 0;
    char name[16];

    snprintf(name, sizeof(name), "rr-cpu-%u", w->index % 10000);
    pthread_setname_np(pthread_self(), name);
    atomic_store_explicit(&w->tid, (int)syscall(SYS_gettid), memory_order_relaxed);
    if (p->pin)
        pin_to(0, w->index);
    else if (!one_node_only(&p->numa))
        keep_on_node(p, w->index);
    for (;;) {
        /* The owner raises job once for each run and waits for all of us, so we never miss one. */
        seen = word_wait(&p->job, seen, spin_of(p));
        if (!p->fn) return NULL;
        p->fn(p->user, w->index);
        /* Release (part of seq_cst): the results are visible to the owner that sees zero. */
        if (atomic_fetch_sub_explicit(&p->busy.value, 1, memory_order_seq_cst) == 1)
            word_wake(&p->busy);
    }
}

static int start(struct worker *w)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* Who works where, before the first worker starts. */
static int plan_nodes(struct rr_pool *p, uint32_t allowed, struct rr_error *err)
{
    uint32_t n = RR_MIN(allowed, RR_NUMA_CPUS);
    int *cpus = rr_alloc(RR_MEM_MISC, n, sizeof(*cpus));

    if (!cpus) return rr_fail(err, RR_ENOMEM, "out of memory for %u processors", n);
    for (uint32_t i = 0; i < n; i++) cpus[i] = rr_topology_cpu(i);
    rr_numa_read(&p->numa);
    rr_numa_spread(&p->plan, p->node, p->size, &p->numa, cpus, n, sched_getcpu());
    rr_free(cpus);
    return RR_OK;
}

int rr_pool_open(struct rr_pool **out, uint32_t n_threads, struct rr_error *err)
{
    struct rr_topology topo;
    struct rr_pool *p;
    size_t bytes;
    int rc;

    *out = NULL;
    if (n_threads < 1 || n_threads > RR_POOL_MAX)
        return rr_fail(err, RR_EINVAL, "%u compute threads asked for, possible are 1 to %d",
                       n_threads, RR_POOL_MAX);

    bytes = sizeof(*p) + n_threads * sizeof(p->workers[0]);
    p = rr_pages_alloc(RR_MEM_WORKSPACE, bytes); /* for its alignment */
    if (!p) return rr_fail(err, RR_ENOMEM, "out of memory for %u compute threads", n_threads);
    p->size = n_threads;
    pthread_mutex_init(&p->gate.lock, NULL);
    pthread_cond_init(&p->gate.moved, NULL);
    rr_topology_get(&topo);
    p->too_large = n_threads > topo.threads;
    p->pin = n_threads == topo.allowed && n_threads > 1 && !p->too_large;
    atomic_store_explicit(&p->spin_ns, p->too_large ? 0 : SPIN_NS, memory_order_relaxed);
    rc = plan_nodes(p, topo.allowed, err);
    if (rc) {
        rr_pool_close(p);
        return rc;
    }
    for (uint32_t i = 1; i < n_threads; i++) {
        p->workers[i].pool = p;
        p->workers[i].index = i;
        rc = start(&p->workers[i]);
        if (rc) {
            rr_fail(err, RR_EIO, "cannot start compute thread %u of %u: %s", i + 1, n_threads,
                    strerror(rc));
            rr_pool_close(p);
            return RR_EIO;
        }
        p->started++;
    }
    *out = p;
    return RR_OK;
}

void rr_pool_close(struct rr_pool *p)
{
    if (!p) return;
    p->fn = NULL;
    atomic_fetch_add_explicit(&p->job.value, 1, memory_order_seq_cst);
    word_wake(&p->job);
    for (uint32_t i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->gate.moved);
    pthread_mutex_destroy(&p->gate.lock);
    rr_pages_free(RR_MEM_WORKSPACE, p, sizeof(*p) + p->size * sizeof(p->workers[0]));
}

uint32_t rr_pool_size(const struct rr_pool *p)
{
    return p->size;
}

uint32_t rr_pool_spin_ns(const struct rr_pool *p)
{
    return (uint32_t)spin_of(p);
}

uint32_t rr_pool_nodes(const struct rr_pool *p)
{
    return p->plan.n_nodes;
}

uint32_t rr_pool_node(const struct rr_pool *p, uint32_t worker)
{
    return p->node[worker];
}

uint32_t rr_pool_node_id(const struct rr_pool *p, uint32_t node)
{
    return p->plan.ids[node];
}

/* The owner is not bound: it is where it is. */
static void find_owner(struct rr_pool *p)
{
    int cpu;

    if (p->plan.n_nodes < 2) return;
    cpu = sched_getcpu();
    for (uint32_t i = 0; cpu >= 0 && cpu < RR_NUMA_CPUS && i < p->plan.n_nodes; i++)
        if (p->plan.ids[i] == p->numa.node[cpu]) p->node[0] = (uint8_t)i;
}

/* Do our threads wait for processors?  Then nobody spins. */
static void look_around(struct rr_pool *p)
{
    uint64_t now = now_ns(), run = 0, wait = 0;
    int owner;

    if (p->too_large || now - p->looked_ns < LOOK_NS) return;
    p->looked_ns = now;
    owner = (int)syscall(SYS_gettid);
    if (owner != atomic_load_explicit(&p->workers[0].tid, memory_order_relaxed))
        p->crowd.run_ns = 0; /* sums with another thread in them say nothing: begin anew */
    atomic_store_explicit(&p->workers[0].tid, owner, memory_order_relaxed);
    for (uint32_t i = 0; i < p->size; i++) {
        int tid = atomic_load_explicit(&p->workers[i].tid, memory_order_relaxed);
        uint64_t r, w;

        if (tid == 0 || !rr_pressure_thread(tid, &r, &w)) return;
        run += r;
        wait += w;
    }
    rr_crowd_look(&p->crowd, run, wait);
    if (p->crowd.crowded == (spin_of(p) == 0)) return;
    atomic_store_explicit(&p->spin_ns, p->crowd.crowded ? 0 : SPIN_NS, memory_order_relaxed);
    if (p->pin) set_pins(p, !p->crowd.crowded);
    if (!p->crowd.crowded || p->said) return;
    p->said = true;
    rr_log(RR_INFO, /* no fault of ours, and nothing is wrong with any answer */
           "compute threads waited %.0f %% of their time for a processor: other programs use them "
           "too; fewer --threads, or more processors, would make answers faster",
           100 * p->crowd.share);
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void gate_enter(struct gate *g)
{
    uint64_t mine;

    pthread_mutex_lock(&g->lock);
    mine = g->next++;
    while (g->serving != mine) pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static bool gate_try(struct gate *g)
{
    bool open;

    pthread_mutex_lock(&g->lock);
    open = g->serving == g->next;
    if (open) g->next++;
    pthread_mutex_unlock(&g->lock);
    return open;
}

static void gate_leave(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->serving++;
    if (g->serving != g->next) pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

/* The gate is ours. */
static void run_all(struct rr_pool *p, rr_pool_fn *fn, void *user)
{
    uint32_t left;

    find_owner(p);
    if (p->size > 1) {
        p->fn = fn;
        p->user = user;
        /* Relaxed: job, raised next with release, publishes it. */
        atomic_store_explicit(&p->busy.value, p->size - 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&p->job.value, 1, memory_order_seq_cst);
        word_wake(&p->job);
    }
    fn(user, 0);
    if (p->size > 1) {
        left = atomic_load_explicit(&p->busy.value, memory_order_acquire);
        while (left != 0) left = word_wait(&p->busy, left, spin_of(p));
        look_around(p);
    }
}

void rr_pool_run(struct rr_pool *p, rr_pool_fn *fn, void *user)
{
    gate_enter(&p->gate);
    run_all(p, fn, user);
    gate_leave(&p->gate);
}

void rr_pool_run_or_alone(struct rr_pool *p, rr_pool_fn *fn, void *user)
{
    if (!gate_try(&p->gate)) {
        fn(user, 0);
        return;
    }
    run_all(p, fn, user);
    gate_leave(&p->gate);
}

void rr_pool_barrier(struct rr_pool *p)
{
    uint32_t turn;

    if (p->size == 1) return;
    /* Relaxed: the turn cannot end before we have arrived ourselves. */
    turn = atomic_load_explicit(&p->turn.value, memory_order_relaxed);
    /* Acquire and release: the last to arrive has seen what all others wrote, and passes it on. */
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 == p->size) {
        /* Relaxed: nobody arrives for the next turn before this one ends, with release, below. */
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&p->turn.value, 1, memory_order_seq_cst);
        word_wake(&p->turn);
    } else {
        word_wait(&p->turn, turn, spin_of(p));
    }
}
