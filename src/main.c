/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program rerankd: finds the sub-command, reads its settings, runs it.
 * Layer: top (L6).  Threads: one. */
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/hub.h"
#include "rerank.h"
#include "server/serve.h"

struct serve_options {
    bool check;
};

static const struct rr_option serve_options[] = {
    { "check", "", "false", RR_OPTION_BOOL, offsetof(struct serve_options, check), 0, 0, "", "",
      "Check settings and model without loading it, print the settings, and end." },
};

static int run_serve(const struct rr_settings *settings, const void *own, char **words, int n_words)
{
    (void)words;
    (void)n_words;
    if (!((const struct serve_options *)own)->check) return rr_serve(settings);
    rr_settings_print(stdout, settings);
    return rr_serve_check(settings);
}

const struct rr_command rr_cmd_serve = {
    .name = "serve",
    .args = "",
    .summary = "answer rerank requests over HTTP",
    .about = "Listens until SIGTERM or SIGINT, then finishes the requests it has accepted.\n"
             "While the model loads, /health answers 503.  SIGHUP reads the configuration again.\n"
             "\n"
             "Several models: --model big=/models/a --model fast=/models/b,dtype=int8\n"
             "--model-alias rerank-v3.5=fast.  Requests choose by \"model\"; the first one, or\n"
             "the one without a name, is the default.  Others are loaded at first use.",
    .own = serve_options,
    .n_own = RR_COUNT(serve_options),
    .run = run_serve,
};

static int run_version(const struct rr_settings *settings, const void *own, char **words,
                       int n_words)
{
    struct rr_host host;

    (void)settings;
    (void)own;
    (void)words;
    (void)n_words;
    rr_host_info(&host);
    printf("rerankd %s\n", rr_version());
#if defined(__clang__)
    printf("compiler          %s\n", __VERSION__);
#else
    printf("compiler          gcc %s\n", __VERSION__);
#endif
    printf("instruction sets  %s\n", host.isas_built);
    return RR_EXIT_OK;
}

const struct rr_command rr_cmd_version = {
    .name = "version",
    .args = "",
    .summary = "print version, compiler and instruction sets",
    .about = "",
    .sections = "",
    .run = run_version,
};

static const struct rr_command *const commands[] = {
    &rr_cmd_serve,  &rr_cmd_score,       &rr_cmd_rank,    &rr_cmd_bench,  &rr_cmd_verify,
    &rr_cmd_eval,   &rr_cmd_quantize,    &rr_cmd_convert, &rr_cmd_doctor, &rr_cmd_pull,
    &rr_cmd_shadow, &rr_cmd_healthcheck, &rr_cmd_keys,    &rr_cmd_mcp,    &rr_cmd_version,
};

const struct rr_command *const *rr_commands(size_t *n)
{
    *n = RR_COUNT(commands);
    return commands;
}

const struct rr_command *rr_command_find(const char *name)
{
    size_t i;

    for (i = 0; i < RR_COUNT(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static int unknown_command(const char *word)
{
    const char *names[RR_COUNT(commands) + 1];
    const char *near;
    size_t i;

    for (i = 0; i < RR_COUNT(commands); i++) names[i] = commands[i]->name;
    names[i++] = "help";
    near = rr_text_nearest(word, names, i);
    if (near)
        rr_cli_complain(NULL, "unknown sub-command %.60s; did you mean %s?", word, near);
    else
        rr_cli_complain(NULL, "unknown sub-command %.60s; rerankd help lists them", word);
    return RR_EXIT_USAGE;
}

/* Ends output that has gone to stdout: its failure is the program's. */
static int finish(int exit_code)
{
    int broken;

    return rr_cli_flush(&broken) ? exit_code : broken;
}

/* A word too many: perhaps an option without its "--", or the sub-command in the wrong place. */
static int unexpected(const struct rr_command *c, const char *word)
{
    size_t n, i, len = strcspn(word, "=");
    const struct rr_option *table = rr_settings_table(&n);

    for (i = 0; i < n && word[len]; i++) {
        if (strncmp(table[i].name, word, len) != 0 || table[i].name[len]) continue;
        rr_cli_complain(c->name, "unexpected \"%.60s\"; did you mean --%.60s?", word, word);
        return RR_EXIT_USAGE;
    }
    if (rr_command_find(word))
        rr_cli_complain(c->name, "unexpected \"%.60s\"; a sub-command comes first: rerankd %s ...",
                        word, word);
    else
        rr_cli_complain(c->name, "unexpected \"%.60s\"; rerankd %s --help explains", word, c->name);
    return RR_EXIT_USAGE;
}

/* With the settings read: what was asked for. */
static int run(const struct rr_command *c, struct rr_settings *settings, const struct rr_load *load)
{
    int code;

    if (load->help) {
        rr_cli_command_help(stdout, c);
        return finish(RR_EXIT_OK);
    }
    if (load->print_config) {
        rr_settings_print(stdout, settings);
        return finish(RR_EXIT_OK);
    }
    if (load->n_rest > c->max_words) return unexpected(c, load->rest[c->max_words]);
    code = rr_cli_hub_models(c, settings);
    if (code) return finish(code);
    return finish(c->run(settings, load->own_fields, load->rest, load->n_rest));
}

static int run_command(const struct rr_command *c, int argc, char **argv)
{
    _Alignas(max_align_t) char own[RR_OWN_BYTES] = { 0 };
    struct rr_load load = {
        .argc = argc, .argv = argv, .own = c->own, .n_own = c->n_own, .own_fields = own
    };
    struct rr_settings settings = { 0 };
    struct rr_error err = { 0 };
    int rc, code;

    load.rest = rr_calloc(RR_MEM_MISC, (size_t)argc + 1, sizeof(*load.rest));
    if (!load.rest)
        rc = rr_fail(&err, RR_ENOMEM, "out of memory");
    else
        rc = rr_settings_read(&settings, &load, &err);
    if (rc) {
        rr_cli_complain(c->name, "%s", err.msg);
        code = rr_exit_code(rc);
    } else {
        code = run(c, &settings, &load);
    }
    rr_settings_free(&settings);
    rr_free(load.rest);
    return code;
}

static bool french_terminal(void)
{
    struct rr_settings settings = { 0 };
    struct rr_error err;
    char *rest[1];
    int n_rest;
    bool french;

    /* A broken setting is no reason to withhold help: then it is in English. */
    french = rr_settings_load(&settings, 0, NULL, rest, &n_rest, &err) == RR_OK &&
             rr_settings_french(&settings);
    rr_settings_free(&settings);
    return french;
}

static int show_help(int argc, char **argv)
{
    const struct rr_command *c;

    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
        strcmp(argv[0], "help") == 0) {
        rr_cli_overview(stdout, french_terminal());
        return finish(RR_EXIT_OK);
    }
    c = rr_command_find(argv[0]);
    if (!c) return unknown_command(argv[0]);
    rr_cli_command_help(stdout, c);
    return finish(RR_EXIT_OK);
}

static int show_completion(const char *word, int argc, char **argv)
{
    const char *shell = strchr(word, '=') ? strchr(word, '=') + 1 : argc > 0 ? argv[0] : "";

    if (!rr_cli_completion(stdout, shell)) {
        rr_cli_complain(NULL, "--completion: found \"%.60s\", expected bash, zsh or fish", shell);
        return RR_EXIT_USAGE;
    }
    return finish(RR_EXIT_OK);
}

static int show_metrics(void)
{
    struct rr_buf page;
    int code = RR_EXIT_OSERR;

    rr_buf_init(&page, RR_MEM_MISC, (size_t)1 << 20);
    rr_serve_metrics_page(&page);
    if (!page.failed) {
        fwrite(page.data, 1, page.len, stdout);
        code = finish(RR_EXIT_OK);
    }
    rr_buf_free(&page);
    return code;
}

/* Of README.md and docs/MODELS.md, from the library's own table.  That every row is tested is what
 * tests/unit/test_parity.c tests. */
static void print_models(bool french)
{
    const char *tested = french ? "testé" : "tested";
    struct rr_support s;

    printf(
        "| %s | safetensors | GGUF | CPU | GPU NVIDIA |\n| --- | --- | --- | --- | --- | --- |\n",
        french ? "`architectures` de config.json | modèles, par exemple"
               : "`architectures` of config.json | models, for example");
    for (size_t i = 0; rr_supported(i, &s); i++)
        printf("| `%s` | %s | %s | %s | %s | %s |\n", s.architecture, rr_tr(french, s.models),
               tested, *s.gguf_types ? tested : "-", tested, tested);
    rr_supported(0, &s);
    printf(french
               ? "\n*testé* : scores comparés à ceux de transformers par `make test` (ceux de "
                 "NewModel, qui n'y est pas, à un calcul en float64), sur CPU en %s, avec des "
                 "poids en %s ; GGUF en %s ; sur GPU en %s, par `make test-gpu` sur un H100 "
                 "(un petit modèle par sorte de réseau) et, dans `make test`, en émulation. "
                 "*-* : le format n'a pas ce réseau.\n"
               : "\n*tested*: scores compared with transformers' by `make test` (NewModel's, "
                 "which it has not got, with an evaluation in float64), on a CPU in %s, from "
                 "weights in %s; GGUF in %s; on a GPU in %s, by `make test-gpu` on an H100 "
                 "(a small model of each kind of network) and, in `make test`, in emulation. "
                 "*-*: the format has no such network.\n",
           s.cpu_dtypes, rr_tr(french, s.safetensors_types), rr_tr(french, s.gguf_types),
           s.gpu_dtypes);
}

static int show_support(bool french)
{
    print_models(french);
    return finish(RR_EXIT_OK);
}

static int show_models(void)
{
    printf("<!-- Made by `rerankd --markdown=models`; run `make docs`. -->\n"
           "# Models\n\n"
           "What `--model` takes. Types other than F32, F16 and BF16 are decoded to f32 when a "
           "file is\nopened; `--dtype` chooses what is computed in.\n\n");
    print_models(false);
    printf(
        "\nNot supported, and refused with a message: jina-reranker-v3, which reads all documents "
        "of a request in\none context and compares embeddings of single tokens, so that a score "
        "is no function of its pair;\nclassifiers of several labels, such as those of NLI; "
        "PyTorch `.bin` and ONNX files (the message has the\nway out). GGUF has no networks for "
        "Electra, DeBERTa and GTE's NewModel.\n\n"
        "Of llama.cpp's `convert_hf_to_gguf.py`, files of XLM-RoBERTa, RoBERTa, ModernBERT, Qwen3, "
        "Qwen2 and\nGemma are read, whole, and of the last three without `--fuse-qkv`. It leaves "
        "out BERT's pooler, so its\nfiles of BERT cannot give the reference's scores and are "
        "refused, as are those of DistilBERT: use the\nfolder with safetensors, or `rerankd "
        "convert`.\n\n"
        "llama.cpp ranks with what `rerankd convert` writes of XLM-RoBERTa, RoBERTa and "
        "ModernBERT: from f32 its logits\nare within 0.02 of the reference's, since its GELU is an "
        "approximation in f16. It counts no second text of\nBERT, whose scores are others there, "
        "and has no score for Qwen3, Qwen2 and Gemma from these files.\n\n"
        "`rerankd quantize`, and `rerankd convert` to a folder, write a transformer with "
        "`modules.json` anew and\ncopy the modules as they are; GGUF cannot hold such a head. A "
        "LogitScore there chooses the tokens of a\ncausal network; the wording is that of its kind "
        "of network, and a chat template in other words is not\nfollowed: the log says so.\n");
    return finish(RR_EXIT_OK);
}

/* The first word, when it is no sub-command: an option of the program itself; else serve's. */
static int run_flag(int argc, char **argv)
{
    const char *word = argv[0];

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return show_help(argc - 1, argv + 1);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return run_command(&rr_cmd_version, 0, argv + argc);
    if (strcmp(word, "--completion") == 0 || strncmp(word, "--completion=", 13) == 0)
        return show_completion(word, argc - 1, argv + 1);
    if (strcmp(word, "--man") == 0) {
        rr_cli_man(stdout);
        return finish(RR_EXIT_OK);
    }
    if (strcmp(word, "--markdown") == 0) {
        rr_settings_markdown(stdout);
        return finish(RR_EXIT_OK);
    }
    if (strcmp(word, "--markdown=metrics") == 0) return show_metrics();
    if (strcmp(word, "--markdown=models") == 0) return show_models();
    if (strcmp(word, "--markdown=support") == 0) return show_support(false);
    if (strcmp(word, "--markdown=support-fr") == 0) return show_support(true);
    return run_command(&rr_cmd_serve, argc, argv);
}

/* A page of a mapped model file is gone: the file was cut, or its disk fails.  Nothing right can be
 * computed now.  Only what a signal handler may do. */
static void lost_file(int signal)
{
    static const char line[] = "rerankd: a model file was cut, or cannot be read, while in use; "
                               "replace files by rename, and start again\n";

    (void)signal;
    (void)!write(STDERR_FILENO, line, sizeof(line) - 1);
    _exit(RR_EXIT_IOERR);
}

int main(int argc, char **argv)
{
    const struct rr_command *c;

    (void)signal(SIGPIPE, SIG_IGN); /* a reader that left is an error of write, not a death */
    (void)signal(SIGXFSZ, SIG_IGN); /* nor is a file that may not grow: a log, a cache */
    (void)signal(SIGBUS, lost_file);
    rr_json_init();
    if (argc < 2) {
        if (rr_cli_is_terminal(stdin) || rr_cli_is_terminal(stdout)) return show_help(0, NULL);
        return run_command(&rr_cmd_serve, 0, argv);
    }
    c = rr_command_find(argv[1]);
    if (c) return run_command(c, argc - 2, argv + 2);
    if (strcmp(argv[1], "help") == 0) return show_help(argc - 2, argv + 2);
    if (argv[1][0] == '-') return run_flag(argc - 1, argv + 1);
    return unknown_command(argv[1]);
}
