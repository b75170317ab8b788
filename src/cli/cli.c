/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c - terminal, output errors, complaints.  Layer: cli (L6).  Threads: one. */
#include "cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/err.h"
#include "base/file.h"
#include "base/text.h"

#define DEFAULT_WIDTH 80
#define MIN_WIDTH 20

/* ---- terminal ------------------------------------------------------------------------------- */

bool rr_cli_is_terminal(FILE *f)
{
    return isatty(fileno(f)) == 1;
}

bool rr_cli_colors(FILE *f)
{
    const char *term = rr_env("TERM");

    return rr_cli_is_terminal(f) && !rr_env("NO_COLOR") && !(term && strcmp(term, "dumb") == 0);
}

int rr_cli_width(FILE *f)
{
    const char *columns = rr_env("COLUMNS");
    struct winsize size;
    long n = 0;

    if (ioctl(fileno(f), TIOCGWINSZ, &size) == 0) n = size.ws_col;
    if (n <= 0 && columns) n = strtol(columns, NULL, 10);
    if (n <= 0 || n > 1000) n = DEFAULT_WIDTH;
    return (int)RR_MAX(n, MIN_WIDTH);
}

/* Columns of one character: wcwidth, which knows the double-width ones, for a UTF-8 locale whatever
 * the user's is. */
static int char_columns(uint32_t cp)
{
    static bool ready;
    int n;

    if (!ready) {
        ready = true;
        if (!setlocale(LC_CTYPE, "C.UTF-8")) (void)setlocale(LC_CTYPE, "");
    }
    n = cp < 0x20 || (cp >= 0x7F && cp < 0xA0) ? 1 : wcwidth((wchar_t)cp);
    return n < 0 ? 1 : n;
}

size_t rr_cli_fit(const char *text, size_t len, int columns)
{
    size_t at = 0;
    uint32_t cp;
    unsigned n;

    while (at < len) {
        n = rr_utf8_next(text + at, len - at, &cp);
        columns -= char_columns(cp);
        if (columns < 0) break;
        at += n;
    }
    return at;
}

int rr_cli_columns(const char *text, size_t len)
{
    size_t at = 0;
    int columns = 0;
    uint32_t cp;

    while (at < len) {
        at += rr_utf8_next(text + at, len - at, &cp);
        columns += char_columns(cp);
    }
    return columns;
}

/* ---- results and complaints ----------------------------------------------------------------- */

void rr_cli_print(FILE *out, struct rr_buf *text)
{
    if (!text->failed) fwrite(text->data, 1, text->len, out);
    rr_buf_free(text);
}

static int failed_with = -1; /* the exit code of stdout's first failure: it is told once */

void rr_cli_output_failed(int e, int *exit_code)
{
    struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

    *exit_code = failed_with;
    if (failed_with >= 0) return;
    /* The error may be of an earlier write, whose errno is gone; a pipe without a reader still
     * shows. */
    if (e == EPIPE || (poll(&p, 1, 0) > 0 && (p.revents & POLLERR))) {
        *exit_code = RR_EXIT_OK; /* "| head" has what it wanted */
    } else {
        rr_cli_complain(NULL, "cannot write to standard output: %s", strerror(e ? e : EIO));
        *exit_code = RR_EXIT_IOERR;
    }
    failed_with = *exit_code;
}

bool rr_cli_flush(int *exit_code)
{
    int e = failed_with < 0 && fflush(stdout) ? errno : 0;

    if (failed_with < 0 && !ferror(stdout)) return true;
    rr_cli_output_failed(e, exit_code);
    return false;
}

bool rr_cli_number(const char *command, const char *option, const char *text, double least,
                   double most, double *out)
{
    char *end;

    *out = strtod(text, &end);
    if (!*end && end != text && *out >= least && *out <= most) return true;
    rr_cli_complain(command, "--%s: found \"%.40s\", expected a number from %g to %g", option, text,
                    least, most);
    return false;
}

int rr_cli_check_output(const char *option, const char *path, const char *const *read, size_t n,
                        struct rr_error *err)
{
    struct stat in, out;
    size_t i;

    if (!*path || stat(path, &out) || !S_ISREG(out.st_mode)) return RR_OK;
    for (i = 0; i < n; i++)
        if (read[i] && *read[i] && stat(read[i], &in) == 0 && in.st_dev == out.st_dev &&
            in.st_ino == out.st_ino)
            return rr_fail(err, RR_EINVAL, "--%s %s is what is read: name another file", option,
                           path);
    return RR_OK;
}

int rr_cli_write(const char *path, const struct rr_buf *text, struct rr_error *err)
{
    struct stat st;
    size_t n;
    FILE *f;

    /* Replaced by a new file, a device or a link to one would be gone. */
    if (lstat(path, &st) || S_ISREG(st.st_mode))
        return rr_file_write(path, text->data, text->len, err) ? err->code = RR_EIO : RR_OK;
    f = fopen(path, "we");
    n = f ? fwrite(text->data, 1, text->len, f) : 0;
    if (f && fclose(f) == 0 && n == text->len) return RR_OK;
    return rr_fail_errno(err, RR_EIO, path, "cannot be written", errno);
}

void rr_cli_complain(const char *command, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "rerankd%s%s: ", command ? " " : "", command ? command : "");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}
