/* SPDX-License-Identifier: Apache-2.0 */
/* completion.c - completion scripts for shells, from the tables.
 * Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "cli/cli.h"

#define TOP_FLAGS "--help --version --completion --man --markdown"

enum value_kind { VALUE_NONE, VALUE_WORDS, VALUE_FOLDER, VALUE_FILE, VALUE_OTHER };

static enum value_kind kind_of(const struct rr_option *o)
{
    if (o->type == RR_OPTION_BOOL) return VALUE_NONE;
    if (strchr(o->arg, '|')) return VALUE_WORDS;
    if (strcmp(o->arg, "DIR") == 0 || strcmp(o->arg, "[NAME=]DIR") == 0) return VALUE_FOLDER;
    if (strcmp(o->arg, "FILE") == 0) return VALUE_FILE;
    return VALUE_OTHER;
}

/* "auto|cpu|cuda:N" as "auto cpu": words with a variable part are left out. */
static void put_words(FILE *out, const char *list)
{
    const char *gap = "";
    size_t len;

    for (; *list; list += len + (list[len] ? 1 : 0)) {
        len = strcspn(list, "|");
        if (len > 2 && list[len - 2] == ':') continue;
        fprintf(out, "%s%.*s", gap, (int)len, list);
        gap = " ";
    }
}

typedef void visit_fn(FILE *out, const struct rr_command *c, const struct rr_option *o);

/* Calls visit for each option that the help of c lists; the common ones are not in it. */
static void each_option(FILE *out, const struct rr_command *c, visit_fn *visit)
{
    size_t i, n;
    const struct rr_option *table = rr_settings_table(&n);

    for (i = 0; i < c->n_own; i++) visit(out, c, &c->own[i]);
    for (i = 0; i < n; i++) {
        if (!c->sections || strstr(c->sections, table[i].section)) visit(out, c, &table[i]);
    }
}

/* ---- bash ----------------------------------------------------------------------------------- */

static void bash_flag(FILE *out, const struct rr_command *c, const struct rr_option *o)
{
    (void)c;
    fprintf(out, " --%s", o->name);
    if (o->type == RR_OPTION_BOOL && strcmp(o->def, "true") == 0) fprintf(out, " --no-%s", o->name);
}

static void bash_value(FILE *out, const struct rr_command *c, const struct rr_option *o)
{
    enum value_kind kind = kind_of(o);

    (void)c;
    if (kind == VALUE_NONE) return;
    fprintf(out, "    --%s) ", o->name);
    if (kind == VALUE_WORDS) {
        fputs("COMPREPLY=($(compgen -W \"", out);
        put_words(out, o->arg);
        fputs("\" -- \"$cur\"));", out);
    } else if (kind == VALUE_FOLDER) {
        fputs("compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\"));", out);
    } else if (kind == VALUE_FILE) {
        fputs("compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\"));", out);
    }
    fputs(" return ;;\n", out);
}

static void bash_script(FILE *out)
{
    size_t n, i;
    const struct rr_command *const *commands = rr_commands(&n);
    struct rr_command all = { .sections = NULL };

    fputs("# bash completion for rerankd, made by: rerankd --completion bash\n_rerankd()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local commands=\"",
          out);
    for (i = 0; i < n; i++) fprintf(out, "%s ", commands[i]->name);
    fputs("help\" flags=\"--help --config --print-config\"\n"
          "    COMPREPLY=()\n"
          "    # \"--device=c\" arrives as three words\n"
          "    if [[ $prev == \"=\" ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if [[ $cur == \"=\" ]]; then cur=; fi\n"
          "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$commands " TOP_FLAGS "\" -- \"$cur\"))\n"
          "        return\n    fi\n    case $prev in\n"
          "    help) COMPREPLY=($(compgen -W \"$commands\" -- \"$cur\")); return ;;\n"
          "    --completion) COMPREPLY=($(compgen -W \"bash zsh fish\" -- \"$cur\")); return ;;\n"
          "    --config) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
          out);
    each_option(out, &all, bash_value);
    for (i = 0; i < n; i++) {
        all = *commands[i];
        all.sections = ""; /* its own only: the settings are above */
        each_option(out, &all, bash_value);
    }
    fputs("    esac\n    case ${COMP_WORDS[1]} in\n", out);
    for (i = 0; i < n; i++) {
        fprintf(out, "    %s) flags+=\"", commands[i]->name);
        each_option(out, commands[i], bash_flag);
        fputs("\" ;;\n", out);
    }
    fputs("    esac\n"
          "    if [[ $cur == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\"))\n"
          "    else\n"
          "        compopt -o filenames\n"
          "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
          "    fi\n}\ncomplete -F _rerankd rerankd\n",
          out);
}

/* ---- zsh ------------------------------------------------------------------------------------ */

/* Inside '...[text]': brackets and colons mean something, a quote ends the string. */
static void zsh_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fprintf(out, strchr("[]:\\", *text) ? "\\%c" : "%c", *text);
    }
}

static void zsh_option(FILE *out, const struct rr_command *c, const struct rr_option *o)
{
    enum value_kind kind = kind_of(o);

    (void)c;
    fprintf(out, "        '--%s%s[", o->name, kind == VALUE_NONE ? "" : "=");
    zsh_text(out, o->help);
    fputc(']', out);
    if (kind == VALUE_WORDS) {
        fprintf(out, ":%s:(", o->name);
        put_words(out, o->arg);
        fputc(')', out);
    } else if (kind != VALUE_NONE) {
        fprintf(out, ":%s:%s", o->arg,
                kind == VALUE_FOLDER ? "_files -/"
                : kind == VALUE_FILE ? "_files"
                                     : " ");
    }
    fputs("' \\\n", out);
    if (kind == VALUE_NONE && strcmp(o->def, "true") == 0)
        fprintf(out, "        '--no-%s[turn it off]' \\\n", o->name);
}

static void zsh_script(FILE *out)
{
    size_t n, i;
    const struct rr_command *const *commands = rr_commands(&n);

    fputs("#compdef rerankd\n# made by: rerankd --completion zsh\n_rerankd() {\n"
          "    local -a commands\n    commands=(\n",
          out);
    for (i = 0; i < n; i++) {
        fprintf(out, "        '%s:", commands[i]->name);
        zsh_text(out, commands[i]->summary);
        fputs("'\n", out);
    }
    fputs("        'help:show help about a sub-command'\n    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        _describe command commands\n"
          "        compadd -- " TOP_FLAGS "\n"
          "        return\n    fi\n    case $words[2] in\n",
          out);
    for (i = 0; i < n; i++) {
        fprintf(out, "    %s) shift words; (( CURRENT-- )); _arguments \\\n", commands[i]->name);
        each_option(out, commands[i], zsh_option);
        fputs("        '--config=[configuration file]:FILE:_files' \\\n"
              "        '--print-config[print the settings in force]' \\\n"
              "        '(-h --help)'{-h,--help}'[show help]' '*:file:_files' ;;\n",
              out);
    }
    fputs("    help) _describe command commands ;;\n"
          "    --completion) compadd bash zsh fish ;;\n    esac\n}\n"
          "if [[ $funcstack[1] == _rerankd ]]; then\n    _rerankd \"$@\"\nelse\n"
          "    compdef _rerankd rerankd\nfi\n",
          out);
}

/* ---- fish ----------------------------------------------------------------------------------- */

static void fish_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++) fprintf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('\'', out);
}

static void fish_option(FILE *out, const struct rr_command *c, const struct rr_option *o)
{
    enum value_kind kind = kind_of(o);

    fprintf(out, "complete -c rerankd -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (kind == VALUE_WORDS) {
        fputs(" -x -a '", out);
        put_words(out, o->arg);
        fputc('\'', out);
    } else if (kind == VALUE_FOLDER) {
        fputs(" -x -a '(__fish_complete_directories)'", out);
    } else if (kind != VALUE_NONE) {
        fputs(kind == VALUE_FILE ? " -r -F" : " -x", out);
    }
    fputs(" -d ", out);
    fish_text(out, o->help);
    fputc('\n', out);
    if (kind == VALUE_NONE && strcmp(o->def, "true") == 0)
        fprintf(out,
                "complete -c rerankd -n '__fish_seen_subcommand_from %s' -l no-%s -d 'Turn it off'"
                "\n",
                c->name, o->name);
}

static void fish_script(FILE *out)
{
    size_t n, i;
    const struct rr_command *const *commands = rr_commands(&n);

    fputs("# fish completion for rerankd, made by: rerankd --completion fish\n"
          "complete -c rerankd -n __fish_use_subcommand -f\n"
          "complete -c rerankd -n __fish_use_subcommand -l version -d 'Print the version'\n"
          "complete -c rerankd -n __fish_use_subcommand -l completion -x -a 'bash zsh fish'\n"
          "complete -c rerankd -n __fish_use_subcommand -l man -d 'Print the man page'\n"
          "complete -c rerankd -n __fish_use_subcommand -l markdown -d 'Print the settings'\n"
          "complete -c rerankd -l help -s h -d 'Show help'\n"
          "complete -c rerankd -l config -r -F -d 'Configuration file'\n"
          "complete -c rerankd -l print-config -d 'Print the settings in force'\n"
          "complete -c rerankd -n __fish_use_subcommand -a help -d 'Show help'\n",
          out);
    fputs("complete -c rerankd -n '__fish_seen_subcommand_from help' -x -a '", out);
    for (i = 0; i < n; i++) fprintf(out, i ? " %s" : "%s", commands[i]->name);
    fputs("'\n", out);
    for (i = 0; i < n; i++) {
        fprintf(out, "complete -c rerankd -n __fish_use_subcommand -a %s -d ", commands[i]->name);
        fish_text(out, commands[i]->summary);
        fputc('\n', out);
        each_option(out, commands[i], fish_option);
    }
}

bool rr_cli_completion(FILE *out, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash_script(out);
    else if (strcmp(shell, "zsh") == 0)
        zsh_script(out);
    else if (strcmp(shell, "fish") == 0)
        fish_script(out);
    else
        return false;
    return true;
}
