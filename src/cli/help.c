/* SPDX-License-Identifier: Apache-2.0 */
/* help.c - the overview, --help of a sub-command and the man page, from the tables.
 * Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "cli/cli.h"
#include "rerank.h"

static const struct rr_option common_options[] = {
    { "config", "", "", RR_OPTION_STR, 0, 0, 0, "COMMON", "FILE",
      "Read settings from FILE instead of RERANKD_CONFIG or /etc/rerankd/rerankd.conf; none: from "
      "no file." },
    { "print-config", "", "", RR_OPTION_BOOL, 0, 0, 0, "COMMON", "",
      "Print the settings in force and where each came from, and exit." },
    { "help", "", "", RR_OPTION_BOOL, 0, 0, 0, "COMMON", "", "Show this help and exit; also -h." },
};

static const struct {
    const char *command, *what;
} first_steps[] = {
    { "rerankd serve", "answers POST /rerank on port 8002" },
    { "rerankd score --query \"...\" FILE", "ranks the lines of a file" },
    { "rerankd doctor", "says what this machine can do" },
};

static const struct {
    int code;
    const char *meaning;
} exit_codes[] = {
    { RR_EXIT_OK, "Success; healthy; ready to serve." },
    { RR_EXIT_FAILURE, "Not healthy, not ready, or scores beyond the tolerance." },
    { RR_EXIT_USAGE, "Unknown option or sub-command, or a bad value on the command line." },
    { RR_EXIT_DATA, "Input data is malformed." },
    { RR_EXIT_NOINPUT, "A file or folder is not there or cannot be read." },
    { RR_EXIT_UNAVAILABLE, "The port is taken, or the device is not there." },
    { RR_EXIT_SOFTWARE, "An internal error." },
    { RR_EXIT_OSERR, "Out of memory or another refusal of the operating system." },
    { RR_EXIT_IOERR, "Output cannot be written; serve: the device was lost, or a model file cut." },
    { RR_EXIT_TEMPFAIL, "A model cannot be fetched now; it may work later." },
    { RR_EXIT_NOPERM, "A model cannot be fetched without a token, or with this one." },
    { RR_EXIT_CONFIG, "Bad environment, configuration file or model files." },
};

void rr_cli_overview(FILE *out, bool french)
{
    size_t n, i;
    const struct rr_command *const *commands = rr_commands(&n);

    fprintf(out, "%s\n\n%s\n",
            rr_tr(french, "rerankd ranks passages by how well they answer a query."),
            rr_tr(french, "First steps:"));
    for (i = 0; i < RR_COUNT(first_steps); i++) {
        fprintf(out, "  %-34s  %s\n", first_steps[i].command, rr_tr(french, first_steps[i].what));
    }
    fprintf(out, "\n%s\n", rr_tr(french, "Sub-commands:"));
    for (i = 0; i < n; i++) {
        fprintf(out, "  %-12s  %s\n", commands[i]->name, rr_tr(french, commands[i]->summary));
    }
    fprintf(out, "  %-12s  %s\n", "help", rr_tr(french, "show help about a sub-command"));
    fprintf(out,
            "\n%s\n"
            "  rerankd help serve        rerankd --version        rerankd --man\n"
            "  rerankd --completion bash|zsh|fish                 rerankd --markdown\n",
            rr_tr(french, "More:"));
}

/* Prose in lines of at most 80 columns; an empty line stays a paragraph's end. */
static void fill(FILE *out, const char *text)
{
    size_t len, column = 0, gap;

    while (*text) {
        gap = strspn(text, " \n");
        if (gap > 1 && text[0] == '\n' && text[1] == '\n') {
            fputs("\n\n", out);
            column = 0;
        }
        text += gap;
        len = strcspn(text, " \n");
        if (len == 0) break;
        if (column && column + 1 + len > 80) {
            fputc('\n', out);
            column = 0;
        }
        column += (size_t)fprintf(out, "%s%.*s", column ? " " : "", (int)len, text);
        text += len;
    }
    fputc('\n', out);
}

void rr_cli_command_help(FILE *out, const struct rr_command *c)
{
    fprintf(out, "Usage: rerankd %s [OPTIONS]%s%s\n\n", c->name, *c->args ? " " : "", c->args);
    fprintf(out, "%c%s.\n", c->summary[0] - 'a' + 'A', c->summary + 1);
    if (*c->about) {
        fputc('\n', out);
        fill(out, c->about);
    }
    if (c->n_own) fputs("\nOptions:\n", out);
    rr_option_help(out, c->own, c->n_own);
    if (!c->sections || *c->sections) rr_settings_help(out, c->sections);
    fputs("\nCommon:\n", out);
    rr_option_help(out, common_options, RR_COUNT(common_options));
}

/* ---- man page ------------------------------------------------------------------------------- */

/* Prose: hyphens stay hyphens, a line must not begin with a control character, an empty line
 * becomes a paragraph. */
static void man_prose(FILE *out, const char *text)
{
    const char *line = text;
    size_t len;

    while (*line) {
        len = strcspn(line, "\n");
        if (len == 0) fputs(".PP", out);
        if (*line == '.' || *line == '\'') fputs("\\&", out);
        for (size_t i = 0; i < len; i++) fprintf(out, line[i] == '\\' ? "\\e" : "%c", line[i]);
        fputc('\n', out);
        line += len + (line[len] ? 1 : 0);
    }
}

static void man_command(FILE *out, const struct rr_command *c)
{
    fprintf(out, ".SS rerankd %s%s%s\n%c%s.\n", c->name, *c->args ? " " : "", c->args,
            c->summary[0] - 'a' + 'A', c->summary + 1);
    if (*c->about) {
        fputs(".PP\n", out);
        man_prose(out, c->about);
    }
    rr_option_man(out, c->own, c->n_own);
}

static void man_sources(FILE *out)
{
    fputs(".SH SETTINGS\n"
          "Each setting comes from the command line, else from the environment, else from the\n"
          "configuration file, else from its default.\n"
          ".PP\n"
          "The environment name of a setting is RERANKD_ and the setting in upper case with _ for\n"
          "\\-; some have a second name, which is weaker.\n"
          "An empty variable counts as unset.\n"
          "RERANKD_PORT=tcp://..., which Kubernetes sets by itself when a service is called\n"
          "rerankd, is ignored.\n"
          ".PP\n"
          "The file holds lines \\(lqname = value\\(rq; # begins a comment, quotes around the\n"
          "value are optional, an unknown name is an error.\n"
          ".PP\n"
          "Sizes take K, M and G (1K is 1024).\n"
          "Durations are seconds, or take ms, s, m or h.\n",
          out);
    rr_settings_man(out);
    fputs(".SS Common\n", out);
    rr_option_man(out, common_options, RR_COUNT(common_options));
}

void rr_cli_man(FILE *out)
{
    size_t n, i;
    const struct rr_command *const *commands = rr_commands(&n);

    fprintf(out,
            ".\\\" Made by \"rerankd --man\"; do not edit.\n"
            ".TH RERANKD 1 \"\" \"rerankd %s\" \"User Commands\"\n"
            ".SH NAME\nrerankd \\- rank passages by how well they answer a query\n"
            ".SH SYNOPSIS\n.B rerankd\n.I command\n.RI [ options ]\n.RI [ words ]\n"
            ".SH DESCRIPTION\n"
            "rerankd loads a cross\\-encoder model and scores (query, passage) pairs, over HTTP\n"
            "or from the command line.\n"
            "Without a command it serves, or, on a terminal, shows a short help.\n"
            ".SH COMMANDS\n",
            RR_VERSION);
    for (i = 0; i < n; i++) man_command(out, commands[i]);
    fputs(".SS rerankd help [COMMAND]\nShow help.\n"
          ".SS rerankd \\-\\-completion bash|zsh|fish\nPrint a completion script.\n"
          ".SS rerankd \\-\\-man, rerankd \\-\\-markdown\n"
          "Print this page, or the settings as Markdown.\n",
          out);
    man_sources(out);
    fputs(".SH FILES\n.TP\n.I /etc/rerankd/rerankd.conf\nThe configuration file.\n"
          ".TP\n.I \\(ti/.cache/rerankd\nCompiled tokenizers.\n"
          ".TP\n.I \\(ti/.cache/huggingface/hub\nModels of the hub; see HF_HOME.\n"
          ".SH EXIT STATUS\n",
          out);
    for (i = 0; i < RR_COUNT(exit_codes); i++)
        fprintf(out, ".TP\n%d\n%s\n", exit_codes[i].code, exit_codes[i].meaning);
    fputs(".SH EXAMPLES\n.nf\n"
          "rerankd serve \\-\\-model /models/bge\\-reranker\\-v2\\-m3\n"
          "printf \\(aqParis is in France.\\en\\(aq |\n"
          "    rerankd score \\-\\-query \\(aqWhere is Paris?\\(aq\n"
          "rerankd healthcheck http://127.0.0.1:8002/ready\n"
          ".fi\n",
          out);
}
