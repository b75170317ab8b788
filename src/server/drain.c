/* SPDX-License-Identifier: Apache-2.0 */
/* drain.c - see drain.h.
 *
 *   phase     /ready  new requests                                 ends
 *   LEAVING   503     served, with Connection: close               after --drain-delay
 *   DRAINING  503     503, Retry-After, Connection: close          when all are answered
 *
 * The listener stays open until all are answered: who still comes gets an honest 503, and health
 * checks get an answer instead of a refused connection. */
#include "server/drain.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/loader.h"
#include "server/parking.h"

#define TICK_MS 10
#define SEEN_NS (30 * RR_SECOND)        /* silent for longer: no balancer sends anything here */
#define GRACE_NS (250 * RR_MILLISECOND) /* for what is on the way when the last request is done */
#define GIVE_UP_NS (5 * RR_SECOND)      /* for the engine to hand back what was cancelled */

struct drain {
    struct rr_server *server;
    const struct rr_notify *notify;
    int signals;
    bool hurry; /* a second signal has come */
    unsigned ticks;
};

/* ---- signals -------------------------------------------------------------------------------- */

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

int rr_signals_open(int *fd, struct rr_error *err)
{
    sigset_t set;

    stop_signals(&set);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    *fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return *fd >= 0 ? RR_OK : rr_fail(err, RR_EIO, "signalfd: %s", strerror(errno));
}

int rr_signals_read(int fd)
{
    struct signalfd_siginfo info;

    return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

void rr_signals_release(void)
{
    sigset_t set;

    stop_signals(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- the end -------------------------------------------------------------------------------- */

/* A short wait; notices a second signal. */
static void tick(struct drain *d)
{
    struct pollfd fd = { d->signals, POLLIN, 0 };
    int number;

    /* The wait has an end of its own, so this needs no proof of progress. */
    rr_parking_look(d->server);
    if (d->ticks++ % 50 == 0) rr_notify_send(d->notify, "WATCHDOG=1");
    if (poll(&fd, 1, TICK_MS) <= 0) return;
    number = rr_signals_read(d->signals);
    if (number != SIGTERM && number != SIGINT) return; /* SIGHUP: too late for that */
    d->hurry = true;
    RR_SAY(&d->server->console, RR_WARN, HURRY, number == SIGINT ? "INT" : "TERM");
    rr_signals_release();
}

/* Only a SIGTERM comes from something that also steers traffic, and only while somebody asks. */
static double delay_of(const struct rr_server *s, int signal)
{
    uint64_t seen = atomic_load(&s->last_seen_ns), now = rr_now_ns();
    bool asked = seen && now - RR_MIN(seen, now) < SEEN_NS;

    if (signal != SIGTERM || !asked || atomic_load(&s->phase) != RR_PHASE_READY) return 0;
    return s->settings->drain_delay;
}

static void leave(struct drain *d, const char *name, double delay)
{
    struct rr_server *s = d->server;
    uint64_t begun = rr_now_ns();
    bool held = rr_http_hold(s->http, true); /* then nobody comes who would have to be told */

    atomic_store(&s->phase, RR_PHASE_LEAVING);
    if (delay > 0) RR_SAY(&s->console, RR_INFO, LEAVING, name, rr_num1(delay));
    while (!d->hurry && (double)(rr_now_ns() - begun) < delay * 1e9) {
        tick(d);
        if (held && !rr_http_connections(s->http)) break;
    }
}

/* What is left is cancelled and answered with 503.  False: the engine does not give it back. */
static bool give_up(struct drain *d)
{
    struct rr_server *s = d->server;
    uint64_t begun = rr_now_ns();

    RR_SAY(&s->console, RR_WARN, DRAIN_TIMEOUT, rr_num(atomic_load(&s->in_flight)));
    do { /* again and again: some may only just be on their way to the engine */
        rr_watch_all_gone(s->watch);
        tick(d);
    } while (rr_watch_listed(s->watch) && rr_now_ns() - begun < GIVE_UP_NS);
    if (rr_watch_listed(s->watch)) {
        RR_SAY(&s->console, RR_ERROR, STUCK, rr_num(rr_watch_listed(s->watch)));
        return false;
    }
    begun = rr_now_ns();
    while (atomic_load(&s->in_flight) && rr_now_ns() - begun < GRACE_NS) tick(d);
    return true;
}

bool rr_drain(struct rr_server *s, const struct rr_notify *notify, int signals, int signal)
{
    struct drain d = { s, notify, signals, false, 0 };
    const char *name = signal == SIGINT ? "INT" : "TERM";
    uint64_t begun, timeout = (uint64_t)(s->settings->drain_timeout * 1e9);

    rr_notify_send(notify, "STOPPING=1\nSTATUS=draining");
    leave(&d, name, delay_of(s, signal));
    /* The counts rise before the phase is looked at, so none slips through. */
    atomic_store(&s->phase, RR_PHASE_DRAINING);
    rr_loader_refuse(s->loader);
    begun = rr_now_ns();
    RR_SAY(&s->console, RR_INFO, DRAINING, name, rr_num(atomic_load(&s->accepted)),
           rr_num1(s->settings->drain_timeout));
    /* Also for bodies that are being sent: their clients have to be told. */
    while (!d.hurry && atomic_load(&s->accepted) && rr_now_ns() - begun < timeout) tick(&d);
    if (atomic_load(&s->accepted) && atomic_load(&s->in_flight) && !give_up(&d)) return false;
    rr_http_quiesce(s->http);
    begun = rr_now_ns();
    while (rr_http_connections(s->http) && rr_now_ns() - begun < GRACE_NS) tick(&d);
    return true;
}
