/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_convert.c - "rerankd convert": a model in another format.  Layer: cli (L6).  Threads: one. */
#include "cli/cli.h"
#include "rerank.h"

struct own {
    const char *to, *to_dtype;
    size_t shard_size;
};

static const struct rr_option own_options[] = {
    RR_OWN("to", "", STR, to, "PATH",
           "What to write: a name that ends with .gguf, or a new folder."),
    RR_OWN("to-dtype", "f32", STR, to_dtype, "f32|f16|bf16|q8_0",
           "Precision of the weights; q8_0 is for GGUF, int8 is made by rerankd quantize."),
    RR_OWN("shard-size", "0", SIZE, shard_size, "BYTES",
           "Most bytes of a safetensors file; 0: a single file."),
};

static int run_convert(const struct rr_settings *settings, const void *fields, char **words,
                       int n_words)
{
    const struct own *own = fields;
    struct rr_options opt;
    struct rr_error err = { 0 };
    int rc;

    (void)words;
    (void)n_words;
    if (!*own->to) {
        rr_cli_complain("convert", "--to PATH is missing");
        return RR_EXIT_USAGE;
    }
    rr_settings_engine(settings, &opt);
    rc = rr_convert(opt.model, own->to, own->to_dtype, own->shard_size, &err);
    if (!rc) return RR_EXIT_OK;
    rr_cli_complain("convert", "%s", err.msg);
    return rr_exit_code_of_output(rc);
}

const struct rr_command rr_cmd_convert = {
    .name = "convert",
    .args = "--model FROM --to PATH",
    .summary = "convert a model between safetensors and GGUF",
    .about = "Reads a folder in Hugging Face layout or a GGUF file, writes the other or the same.\n"
             "A GGUF file has configuration and tokenizer inside; it is for BERT, RoBERTa,\n"
             "XLM-RoBERTa, ModernBERT, Qwen3, Qwen2 and Gemma.  int8 folders of rerankd\n"
             "quantize are multiplied out; q8_0 rounds once more, in blocks of its own.",
    .sections = "MODEL",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .run = run_convert,
};

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");
