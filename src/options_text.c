/* SPDX-License-Identifier: Apache-2.0 */
/* options_text.c - the table of options as text: --help in 80 columns, Markdown, man page.
 * Layer: top (L6).  Threads: one at a time. */
#include <string.h>

#include "base/text.h"
#include "options.h"
#include "options_value.h"
#include "rerank.h"

#define WIDTH 80
#define HELP_COLUMN 26

static const struct {
    const char *section, *title;
} titles[] = {
    { "MODEL", "Model" },   { "DEVICE", "Device" },       { "SERVER", "Server" },
    { "LIMITS", "Limits" }, { "SHARED", "Shared cache" }, { "SECURITY", "Security" },
    { "LOG", "Log" },       { "HUB", "Model hub" },
};

static const char *title_of(const char *section)
{
    size_t i;

    for (i = 0; i < RR_COUNT(titles); i++) {
        if (strcmp(titles[i].section, section) == 0) return titles[i].title;
    }
    return section;
}

/* Words of text from the current column on, broken so that lines stay within WIDTH. */
static void put_wrapped(FILE *out, const char *text, int column)
{
    size_t len;

    while (*text) {
        len = strcspn(text, " ");
        if (text[0] == '[' && strcspn(text, "]") < WIDTH - HELP_COLUMN)
            len = strcspn(text, "]") + 1; /* "[env: A, B]" stays together */
        if (column + 1 + (int)len > WIDTH && column > HELP_COLUMN) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)len, text);
        column += (int)len;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* "--[no-]fallback", "--port PORT". */
static void usage_of(const struct rr_option *o, char *out, size_t cap)
{
    snprintf(out, cap, "--%s%s%s%s",
             o->type == RR_OPTION_BOOL && strcmp(o->def, "true") == 0 ? "[no-]" : "", o->name,
             *o->arg ? " " : "", o->arg);
}

static bool from_table(const struct rr_option *o)
{
    size_t n;
    const struct rr_option *table = rr_settings_table(&n);

    return o >= table && o < table + n;
}

static void env_names(const struct rr_option *o, const char *separator, char *out, size_t cap)
{
    char name[80];

    rr_option_env_name(o, name, sizeof(name));
    snprintf(out, cap, "%s%s%s", name, *o->env ? separator : "", o->env);
}

static void help_line(FILE *out, const struct rr_option *o)
{
    char usage[120], text[900], env[200];
    bool shown = *o->def && !(o->type == RR_OPTION_BOOL && strcmp(o->def, "false") == 0);

    usage_of(o, usage, sizeof(usage));
    env_names(o, ", ", env, sizeof(env));
    snprintf(text, sizeof(text), "%s%s%s%s%s%s%s", o->help, shown ? " [default: " : "",
             shown ? o->def : "", shown ? "]" : "", from_table(o) ? " [env: " : "",
             from_table(o) ? env : "", from_table(o) ? "]" : "");
    if (strlen(usage) > HELP_COLUMN - 4)
        fprintf(out, "  %s\n%*s", usage, HELP_COLUMN, "");
    else
        fprintf(out, "  %-*s", HELP_COLUMN - 2, usage);
    put_wrapped(out, text, HELP_COLUMN);
}

void rr_option_help(FILE *out, const struct rr_option *options, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) help_line(out, &options[i]);
}

void rr_settings_help(FILE *out, const char *sections)
{
    const char *section = "";
    size_t i, n;
    const struct rr_option *table = rr_settings_table(&n);

    for (i = 0; i < n; i++) {
        if (sections && !strstr(sections, table[i].section)) continue;
        if (strcmp(section, table[i].section) != 0) {
            section = table[i].section;
            fprintf(out, "\n%s:\n", title_of(section));
        }
        help_line(out, &table[i]);
    }
}

/* A value as the file's reader takes it back. */
static void print_value(FILE *out, const struct rr_option *o, const char *value)
{
    const char *v;

    if (!rr_option_is_text(o) ||
        (*value && !strpbrk(value, " \t#\"'\\"))) {
        fputs(value, out);
        return;
    }
    fputc('"', out);
    for (v = value; *v; v++) fprintf(out, *v == '"' || *v == '\\' ? "\\%c" : "%c", *v);
    fputc('"', out);
}

/* Replaces what must not be shown: keys, and the password of "scheme://user:password@host". */
static void redact(const struct rr_option *o, char *value, size_t cap)
{
    static const char stars[] = "***";
    char *host = strstr(value, "://"), *at = host ? strrchr(host, '@') : NULL, *colon;
    char tail[1024];

    if (*value && (o->type == RR_OPTION_SECRET || rr_text_stem(o->name, "-token") ||
                   rr_text_stem(o->name, "-password"))) {
        snprintf(value, cap, "%s", stars);
        return;
    }
    colon = at ? strchr(host + 3, ':') : NULL;
    if (!colon || colon > at) return;
    snprintf(tail, sizeof(tail), "%s", at);
    snprintf(colon + 1, cap - (size_t)(colon + 1 - value), "%s%s", stars, tail);
}

void rr_settings_print(FILE *out, const struct rr_settings *s)
{
    const char *section = "";
    char value[16384], *line, *end;
    size_t i, n;
    const struct rr_option *table = rr_settings_table(&n);

    fprintf(out, "# rerankd %s: settings in force; flag > environment > file > default\n",
            RR_VERSION);
    for (i = 0; i < n; i++) {
        if (strcmp(section, table[i].section) != 0)
            fprintf(out, "\n# %s\n", section = table[i].section);
        rr_option_value(&table[i], s, value, sizeof(value));
        if (!value[0] && strcmp(table[i].name, "cache-dir") == 0) snprintf(value, 8, "none");
        redact(&table[i], value, sizeof(value));
        for (line = value; line; line = end) {
            end = table[i].type == RR_OPTION_LIST ? strchr(line, '\n') : NULL;
            if (end) *end++ = 0;
            fprintf(out, "%-18s = ", table[i].name);
            print_value(out, &table[i], line);
            fprintf(out, "  # %s\n", rr_settings_origin(s, i));
        }
    }
}

/* A '|' would end the cell of a Markdown table, a '<' would begin HTML. */
static void markdown_cell(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else
            fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
    }
}

static void markdown_row(FILE *out, const struct rr_option *o)
{
    char env[200], allowed[200];

    env_names(o, "`, `", env, sizeof(env));
    rr_option_allowed(o, allowed, sizeof(allowed));
    fprintf(out, "| `%s` | `%s` | ", o->name, env);
    if (*o->def) fprintf(out, "`%s`", o->def);
    fputs(" | ", out);
    if (rr_option_is_text(o) && !strchr(o->arg, '|'))
        fputs(o->type == RR_OPTION_LIST ? "text, several times" : "text", out);
    else
        markdown_cell(out, allowed);
    fputs(" | ", out);
    markdown_cell(out, o->help);
    fputs(" |\n", out);
}

void rr_settings_markdown(FILE *out)
{
    const char *section = "";
    size_t i, n;
    const struct rr_option *table = rr_settings_table(&n);

    fputs("# Settings of rerankd\n\n"
          "Made by `rerankd --markdown` from `src/options.def`; do not edit.\n\n"
          "Each setting can come from, strongest first:\n\n"
          "1. the command line: `--port 9000` or `--port=9000`; `--fallback`, `--no-fallback`;\n"
          "2. the environment: `RERANKD_PORT=9000`, or the second name given below. An empty\n"
          "   variable counts as unset. `RERANKD_PORT=tcp://...`, which Kubernetes sets by\n"
          "   itself when a service is called `rerankd`, is ignored;\n"
          "3. a file: `--config FILE`, else `RERANKD_CONFIG`, else `/etc/rerankd/rerankd.conf` if\n"
          "   it exists; `none` stands for no file;\n"
          "4. the default.\n\n"
          "The file holds lines `name = value`; `#` begins a comment, quotes around the value are\n"
          "optional. What can be given several times has a line for each, also in a variable.\n"
          "An unknown name is an error. `rerankd serve --print-config` prints what is in force\n"
          "and where each value came from; its output is itself a valid file.\n\n"
          "Sizes take `K`, `M`, `G` (also `KiB`, `MiB`, `GiB`; 1K is 1024). Durations are\n"
          "seconds, or take `ms`, `s`, `m`, `h`.\n",
          out);
    for (i = 0; i < n; i++) {
        if (strcmp(section, table[i].section) != 0) {
            section = table[i].section;
            fprintf(out,
                    "\n## %s\n\n| Name | Environment | Default | Allowed | Meaning |\n"
                    "|---|---|---|---|---|\n",
                    title_of(section));
        }
        markdown_row(out, &table[i]);
    }
}

/* Text as roff takes it: a '-' of an option is \-, a line must not begin with a dot or quote. */
static void man_text(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '~')
            fputs("\\(ti", out);
        else
            fputc(*text, out);
    }
}

static void man_option(FILE *out, const struct rr_option *o)
{
    char env[200];

    fputs(".TP\n.BR ", out);
    man_text(out, "--");
    if (o->type == RR_OPTION_BOOL && strcmp(o->def, "true") == 0) man_text(out, "[no-]");
    man_text(out, o->name);
    if (*o->arg) {
        fputs(" \" \\fI", out);
        man_text(out, o->arg);
        fputs("\\fP\"", out);
    }
    fputc('\n', out);
    man_text(out, o->help);
    if (*o->def && !(o->type == RR_OPTION_BOOL && strcmp(o->def, "false") == 0)) {
        fputs("\nDefault: ", out);
        man_text(out, o->def);
        fputc('.', out);
    }
    if (from_table(o)) {
        env_names(o, ", ", env, sizeof(env));
        fputs("\nEnvironment: ", out);
        man_text(out, env);
        fputc('.', out);
    }
    fputc('\n', out);
}

void rr_option_man(FILE *out, const struct rr_option *options, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) man_option(out, &options[i]);
}

void rr_settings_man(FILE *out)
{
    const char *section = "";
    size_t i, n;
    const struct rr_option *table = rr_settings_table(&n);

    for (i = 0; i < n; i++) {
        if (strcmp(section, table[i].section) != 0) {
            section = table[i].section;
            fprintf(out, ".SS %s\n", title_of(section));
        }
        man_option(out, &table[i]);
    }
}
