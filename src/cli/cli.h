/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the sub-commands share: their table's row, terminal, output errors, words in French.
 * Layer: cli (L6).  Threads: one, but where a comment says otherwise. */
#ifndef RR_CLI_CLI_H
#define RR_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/attr.h"
#include "base/buf.h"
#include "options.h"

#define RR_OWN_BYTES 256 /* room for the fields of a sub-command's own options */

/* A row of a sub-command's own options; field is one of its file's struct own. */
#define RR_OWN_BETWEEN(name, def, type, field, min, max, arg, help) \
    { \
        name, "", def, RR_OPTION_##type, offsetof(struct own, field), min, max, "", arg, help \
    }
#define RR_OWN(name, def, type, field, arg, help) \
    RR_OWN_BETWEEN(name, def, type, field, 0, 0, arg, help)

struct rr_command {
    const char *name;
    const char *args;     /* of the usage line, "[FILE]" */
    const char *summary;  /* one line */
    const char *about;    /* paragraphs of --help, may be "" */
    const char *sections; /* of the settings that --help lists, "" for none */
    const struct rr_option *own;
    size_t n_own;
    int max_words; /* words that are not options */
    /* own: the struct that own's offsets are in.  Returns an exit code. */
    int (*run)(const struct rr_settings *settings, const void *own, char **words, int n_words);
};

extern const struct rr_command rr_cmd_serve, rr_cmd_score, rr_cmd_bench, rr_cmd_verify, rr_cmd_eval,
    rr_cmd_rank, rr_cmd_quantize, rr_cmd_convert, rr_cmd_doctor, rr_cmd_pull, rr_cmd_shadow,
    rr_cmd_healthcheck, rr_cmd_keys, rr_cmd_mcp, rr_cmd_version;

/* All of them, in the order of the help. */
const struct rr_command *const *rr_commands(size_t *n);
const struct rr_command *rr_command_find(const char *name); /* NULL: none of that name */

/* Texts for people, made from the tables. */
void rr_cli_overview(FILE *out, bool french);
void rr_cli_command_help(FILE *out, const struct rr_command *c);
void rr_cli_man(FILE *out);
bool rr_cli_completion(FILE *out, const char *shell); /* false: unknown shell */

/* english, or what it is in French if that is asked for; only texts of words.c are known. */
const char *rr_tr(bool french, const char *english);

/* ---- terminal ------------------------------------------------------------------------------- */

bool rr_cli_is_terminal(FILE *f);
bool rr_cli_colors(FILE *f); /* a terminal, and NO_COLOR is not set */
int rr_cli_width(FILE *f);   /* columns */

/* Columns that the text takes, and the bytes of it that fit into columns.  Control characters count
 * one: they are to be shown as a space. */
int rr_cli_columns(const char *text, size_t len);
size_t rr_cli_fit(const char *text, size_t len, int columns);

/* ---- results and complaints ----------------------------------------------------------------- */

/* Writes the text, or nothing where memory failed while it was made, and frees it. */
void rr_cli_print(FILE *out, struct rr_buf *text);

/* Flushes stdout.  True while all is well.  Otherwise *exit_code is what the program should end
 * with: quietly when the reader has left, with a message when, say, the disk is full. */
bool rr_cli_flush(int *exit_code);
/* The same for a write to stdout that has failed with the error e just now; 0: not known. */
void rr_cli_output_failed(int e, int *exit_code);

/* The number that text is; false, with a complaint about --option, unless it is one from least to
 * most. */
bool rr_cli_number(const char *command, const char *option, const char *text, double least,
                   double most, double *out);

/* RR_EINVAL: path, given as --option, is one of the files read[n]; of each, NULL or "": none. */
RR_NODISCARD int rr_cli_check_output(const char *option, const char *path, const char *const *read,
                                     size_t n, struct rr_error *err);

/* Writes a file that the user named: whole or not at all where it is a file or will be one, else,
 * to /dev/stdout or a pipe for instance, as it comes.  RR_EIO: it cannot be written. */
RR_NODISCARD int rr_cli_write(const char *path, const struct rr_buf *text, struct rr_error *err);

/* "rerankd score: message" to stderr. */
void rr_cli_complain(const char *command, const char *fmt, ...) RR_PRINTF(2, 3);

#endif
