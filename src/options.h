/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - settings from flags, environment and file, all from the one table options.def.
 * Layer: top (L6).  Threads: one, at start. */
#ifndef RR_OPTIONS_H
#define RR_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "rerank_types.h"

#define RR_OPTION_TYPE_STR const char *
#define RR_OPTION_TYPE_LIST const char *
#define RR_OPTION_TYPE_SECRET const char *
#define RR_OPTION_TYPE_U32 uint32_t
#define RR_OPTION_TYPE_SIZE size_t
#define RR_OPTION_TYPE_BOOL bool
#define RR_OPTION_TYPE_SECONDS double

enum { RR_MAX_MODELS = 64, RR_MODEL_NAME_MAX = 96 };

struct rr_model_spec { /* one --model */
    const char *name;  /* "": it was given without one */
    const char *path;  /* as it was given */
    const char *dir;   /* where path is ORG/NAME of a hub: its folder; else NULL.  A view */
    const char *device, *dtype, *rescore_dtype; /* its own; NULL: as for all */
    uint32_t max_length;                        /* its own; 0: as for all */
};

struct rr_model_alias {
    const char *alias, *name; /* name "default": the default model */
};

struct rr_settings {
#define RR_OPTION(field, type, flag, env, def, min, max, section, arg, help) \
    RR_OPTION_TYPE_##type field;
#include "options.def"
#undef RR_OPTION
    struct rr_shared_cache redis; /* the redis-* settings together; url NULL: none */
    const char *model; /* path of the default model as it was given; "": the starter model */
    struct rr_model_spec *models; /* [n_models] at least one, the default first */
    size_t n_models;
    struct rr_model_alias *aliases; /* [n_aliases] */
    size_t n_aliases;
    void *storage;         /* owns the strings, knows where each value came from */
};

/* What the process ends with (sysexits.h where it has a code). */
enum rr_exit {
    RR_EXIT_OK = 0,
    RR_EXIT_FAILURE = 1,
    RR_EXIT_USAGE = 64,       /* unknown option or sub-command */
    RR_EXIT_DATA = 65,        /* input data is malformed */
    RR_EXIT_NOINPUT = 66,     /* an input file cannot be read */
    RR_EXIT_UNAVAILABLE = 69, /* port taken, or a service or device is not there */
    RR_EXIT_SOFTWARE = 70,    /* an internal error */
    RR_EXIT_OSERR = 71,       /* out of memory, no threads */
    RR_EXIT_IOERR = 74,       /* output cannot be written */
    RR_EXIT_TEMPFAIL = 75,    /* may work later */
    RR_EXIT_NOPERM = 77,      /* a token, or the right one, is missing */
    RR_EXIT_CONFIG = 78       /* bad configuration or model files */
};

/* One option as the table describes it.  Sub-commands have options of their own in such tables. */
enum rr_option_type {
    RR_OPTION_STR,
    RR_OPTION_LIST,   /* text, given several times: joined by line breaks */
    RR_OPTION_SECRET, /* text that is never shown */
    RR_OPTION_U32,
    RR_OPTION_SIZE,
    RR_OPTION_BOOL,
    RR_OPTION_SECONDS
};

struct rr_option {
    const char *name; /* long option without the dashes */
    const char *env;  /* extra environment name, or "" */
    const char *def;  /* default as the user would write it */
    enum rr_option_type type;
    size_t offset;       /* of the field in its struct */
    double min, max;     /* 0, 0: no bounds */
    const char *section; /* heading in --help */
    const char *arg;     /* what --help shows; with '|' it lists the allowed words */
    const char *help;    /* one sentence */
};

/* The table of options.def. */
const struct rr_option *rr_settings_table(size_t *n);

struct rr_load { /* what rr_settings_read is asked and what it found */
    int argc;    /* words after the sub-command */
    char **argv;
    const struct rr_option *own; /* options of the sub-command, flags only; may be NULL */
    size_t n_own;
    void *own_fields; /* the struct that own's offsets are in */
    char **rest;      /* room for argc entries: gets the words that are not options */
    int n_rest;
    bool help;         /* -h, --help: nothing else was looked at */
    bool print_config; /* --print-config */
};

/* Fills *s: flag beats environment beats file (--config FILE, else RERANKD_CONFIG, else
 * /etc/rerankd/rerankd.conf if it exists; "none": no file) beats default.  Errors say where the
 * value came from, what was found and what is allowed, and suggest the nearest option for an
 * unknown one: RR_EINVAL for the command line, RR_EFORMAT for environment and file, RR_ENOENT for
 * a missing file.  Free with rr_settings_free in any case.
 *
 * After it, lang is "en" or "fr", never "auto"; cache_dir is a folder or "" for no cache. */
RR_NODISCARD int rr_settings_read(struct rr_settings *s, struct rr_load *load,
                                  struct rr_error *err);

/* The same without options of a sub-command.  rest needs room for argc entries. */
RR_NODISCARD int rr_settings_load(struct rr_settings *s, int argc, char **argv, char **rest,
                                  int *n_rest, struct rr_error *err);
void rr_settings_free(struct rr_settings *s);

/* Reads everything again as old was read: the file may have changed.  Free *out with
 * rr_settings_free in any case. */
RR_NODISCARD int rr_settings_again(const struct rr_settings *old, struct rr_settings *out,
                                   struct rr_error *err);

/* Gives s the values of old except for the options named in live[n].  Calls ignored, which may be
 * NULL, for each other one that differed.  True: one of the live ones differs.  s then has views
 * into old. */
bool rr_settings_keep(struct rr_settings *s, const struct rr_settings *old, const char *const *live,
                      size_t n, void (*ignored)(void *user, const char *name), void *user);

/* Fills *opt with what s says about the default model's engine; an empty model becomes the starter
 * model.  Views into s. */
struct rr_options;
void rr_settings_engine(const struct rr_settings *s, struct rr_options *opt);
/* The same for the i-th model. */
void rr_settings_model(const struct rr_settings *s, size_t i, struct rr_options *opt);

/* True when people are to be addressed in French. */
bool rr_settings_french(const struct rr_settings *s);

/* The environment variable, or NULL when it is unset or empty. */
const char *rr_env(const char *name);

/* The table as text for people: --help of a sub-command (sections NULL: all, else those whose names
 * occur in it), --print-config (merged values and where each came from, in the syntax of the file,
 * with secrets as ***), and the generated docs. */
void rr_settings_help(FILE *out, const char *sections);
void rr_settings_print(FILE *out, const struct rr_settings *s);
void rr_settings_markdown(FILE *out);
void rr_settings_man(FILE *out);

/* The configuration file that was read; NULL: none. */
const char *rr_settings_config(const struct rr_settings *s);

/* Where the value of row i of the table came from: "--port", "environment PORT", "FILE:LINE",
 * "default". */
const char *rr_settings_origin(const struct rr_settings *s, size_t i);

/* The same for any table of options, without headings. */
void rr_option_help(FILE *out, const struct rr_option *options, size_t n);
void rr_option_man(FILE *out, const struct rr_option *options, size_t n);

/* Exit code that suits an error code of the library. */
int rr_exit_code(int rr_status);
/* The same where RR_EFORMAT is of the input data, not of a model or of settings. */
int rr_exit_code_of_data(int rr_status);
/* The same where RR_EIO is of files that are written. */
int rr_exit_code_of_output(int rr_status);

#endif
