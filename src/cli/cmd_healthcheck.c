/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_healthcheck.c - "rerankd healthcheck": for containers that have no curl.
 * Layer: cli (L6).  Threads: one. */
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/http_get.h"

struct own {
    double timeout;
};

static const struct rr_option own_options[] = {
    RR_OWN_BETWEEN("timeout", "5", SECONDS, timeout, 0.001, 3600, "SECONDS",
                   "Give up after so long."),
};

/* Looking up a host's name knows no deadline of ours. */
static void give_up(int signal_number)
{
    static const char text[] = "rerankd healthcheck: the host's name was not found in time\n";
    ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

    (void)n;
    (void)signal_number;
    _exit(RR_EXIT_FAILURE);
}

static void arm_alarm(double seconds)
{
    struct sigaction action = { .sa_handler = give_up };

    (void)sigaction(SIGALRM, &action, NULL);
    (void)alarm((unsigned)seconds + 2);
}

/* host, an address to listen at, as one to ask. */
static void put_url(char *out, size_t cap, struct rr_text host, unsigned port)
{
    char text[256];

    if (host.len >= 2 && host.data[0] == '[' && host.data[host.len - 1] == ']')
        host.data++, host.len -= 2;
    snprintf(text, sizeof(text), "%.*s", (int)host.len, host.data);
    if (!*text || strcmp(text, "0.0.0.0") == 0) snprintf(text, sizeof(text), "127.0.0.1");
    if (strcmp(text, "::") == 0) snprintf(text, sizeof(text), "::1");
    snprintf(out, cap, strchr(text, ':') ? "http://[%s]:%u/ready" : "http://%s:%u/ready", text,
             port);
}

/* The local server's address, as its settings give it: the first of several, or the admin's where
 * the others speak TLS.  False: there is none that could be asked. */
static bool default_url(const struct rr_settings *s, char *out, size_t cap)
{
    const char *list = s->host, *colon = strrchr(s->admin_listen, ':');
    struct rr_text host;

    (void)rr_text_word(&list, &host);
    if (!*s->tls_cert)
        put_url(out, cap, host, s->port);
    else if (colon)
        put_url(out, cap, (struct rr_text){ s->admin_listen, (size_t)(colon - s->admin_listen) },
                (unsigned)strtoul(colon + 1, NULL, 10));
    return !*s->tls_cert || colon;
}

/* A URL that names the server alone asks whether it is ready: at "/" a server says what it is. */
static bool ask_whole_server(struct rr_url *url, char *text, size_t cap)
{
    size_t len = strcspn(text, "#");

    if (strcmp(url->path, "/") != 0) return false;
    if (text[len - 1] == '/') len--;
    snprintf(text + len, cap - len, "/ready");
    snprintf(url->path, sizeof(url->path), "/ready");
    return true;
}

static int run_healthcheck(const struct rr_settings *settings, const void *own_fields, char **words,
                           int n_words)
{
    const struct own *own = own_fields;
    uint64_t deadline = rr_now_ns() + (uint64_t)(own->timeout * (double)RR_SECOND);
    struct rr_error err = { 0 };
    struct rr_url url;
    char text[300];
    int rc, status;
    bool whole;

    if (!default_url(settings, text, sizeof(text)) && n_words == 0) {
        rr_cli_complain("healthcheck",
                        "the server speaks TLS (tls-cert), which healthcheck does not: give it "
                        "--admin-listen ADDRESS:PORT, which is asked then");
        return RR_EXIT_FAILURE;
    }
    if (n_words > 0) snprintf(text, sizeof(text), "%.280s", words[0]);
    rc = rr_url_parse(&url, n_words > 0 ? words[0] : text, &err);
    if (rc) {
        rr_cli_complain("healthcheck", "%s", err.msg);
        return RR_EXIT_USAGE;
    }
    whole = n_words == 0 || ask_whole_server(&url, text, sizeof(text));
    arm_alarm(own->timeout);
    rc = rr_http_get(&url, deadline, &status, &err);
    if (!rc && status == 404 && whole) { /* a server without /ready */
        snprintf(url.path, sizeof(url.path), "/health");
        snprintf(strrchr(text, '/'), sizeof("/health"), "/health");
        rc = rr_http_get(&url, deadline, &status, &err);
    }
    if (rc) {
        rr_cli_complain("healthcheck", "%s: %s", text, err.msg);
        return RR_EXIT_FAILURE;
    }
    if (status < 200 || status > 299) {
        rr_cli_complain("healthcheck", "%s: not healthy, status %d", text, status);
        return RR_EXIT_FAILURE;
    }
    printf("%s: healthy, status %d\n", text, status);
    return RR_EXIT_OK;
}

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

const struct rr_command rr_cmd_healthcheck = {
    .name = "healthcheck",
    .args = "[URL]",
    .summary = "ask a running server whether it is ready",
    .about = "Without URL: the server on this machine, by the settings host and port, or\n"
             "by admin-listen where tls-cert is set, since healthcheck speaks no TLS.\n"
             "Without a path: /ready, or /health where there is no /ready.  Exit status 0: the\n"
             "answer is 2xx; 1: it is not, or there is none.",
    .sections = "SERVER",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 1,
    .run = run_healthcheck,
};
