/* SPDX-License-Identifier: Apache-2.0 */
/* test_options.c - settings: sources and their strength, every type's bad values, the file's syntax,
 * suggestions, and the texts made from the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/log.h"
#include "base/mem.h"
#include "options.h"
#include "rerank.h"
#include "support/fault.h"

#define MAX_WORDS 16

extern char **environ;

static struct rr_settings settings;
static struct rr_error err;
static char *rest[MAX_WORDS];
static int n_rest;
static char config_path[] = "/tmp/test_options.XXXXXX";

/* Nothing of the caller's environment may reach a test, and no file of the machine. */
static int setup(void **state)
{
    static char *nothing[] = { NULL };

    (void)state;
    environ = nothing;
    setenv("RERANKD_CONFIG", "none", 1);
    memset(&err, 0, sizeof(err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rr_settings_free(&settings);
    return 0;
}

/* Splits line at spaces and loads it; "env NAME=VALUE" words are put into the environment. */
static int load(const char *line)
{
    static char copy[1000];
    char *words[MAX_WORDS];
    char *word, *save = NULL;
    int n = 0;

    snprintf(copy, sizeof(copy), "%s", line);
    for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (strncmp(word, "env:", 4) == 0) {
            char *eq = strchr(word, '=');

            *eq = 0;
            setenv(word + 4, eq + 1, 1);
        } else {
            words[n++] = word;
        }
    }
    rr_settings_free(&settings);
    return rr_settings_load(&settings, n, words, rest, &n_rest, &err);
}

static void write_config(const char *text, size_t len)
{
    FILE *f = fopen(config_path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
    setenv("RERANKD_CONFIG", config_path, 1);
}

/* What rr_settings_print and the like write. */
static char *printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    print(f);
    fclose(f);
    return text;
}

static void print_settings(FILE *f)
{
    rr_settings_print(f, &settings);
}

static void print_help(FILE *f)
{
    rr_settings_help(f, NULL);
}

/* ---- sources ------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(load(""), RR_OK);
    assert_string_equal(settings.model, "");
    assert_string_equal(settings.host, "0.0.0.0");
    assert_int_equal(settings.port, 8002);
    assert_true(settings.fallback);
    assert_false(settings.literal_specials);
    assert_true(settings.idle_timeout == 75.0);
    assert_int_equal(settings.max_body, 8 << 20);
    assert_int_equal(settings.overload_status, 429);
    assert_string_equal(settings.lang, "en");
    assert_int_equal(n_rest, 0);
}

static void test_precedence(void **state)
{
    static const struct {
        const char *file, *line;
        unsigned port;
        const char *why;
    } cases[] = {
        { "", "", 8002, "default" },
        { "port=1", "", 1, "file over default" },
        { "port=1", "env:PORT=2", 2, "extra name over file" },
        { "port=1", "env:PORT=2 env:RERANKD_PORT=3", 3, "own name over extra name" },
        { "port=1", "env:RERANKD_PORT=3 --port 4", 4, "flag over environment" },
        { "port=1", "--port 4", 4, "flag over file" },
        { "", "--port 4 --port 5", 5, "the later flag" },
        { "port=1", "env:PORT=", 1, "empty counts as unset" },
        { "port=1", "env:RERANKD_PORT= env:PORT=2", 2, "empty own name: extra name" },
        { "", "env:RERANKD_PORT=tcp://10.0.0.1:8002", 8002, "Kubernetes' service link" },
        { "", "env:RERANKD_PORT=tcp://10.0.0.1:8002 env:PORT=2", 2, "link does not hide PORT" },
        { "", "env:PORT=nonsense --port 4", 4, "what is overridden is not looked at" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        setup(NULL);
        write_config(cases[i].file, strlen(cases[i].file));
        if (load(cases[i].line) || settings.port != cases[i].port)
            fail_msg("%s: port %u, expected %u (%s)", cases[i].why, settings.port, cases[i].port,
                     err.msg);
    }
}

static void test_flag_forms(void **state)
{
    (void)state;
    assert_int_equal(load("one --port=7 -- --port 8 -"), RR_OK);
    assert_int_equal(settings.port, 7);
    assert_int_equal(n_rest, 4);
    assert_string_equal(rest[0], "one");
    assert_string_equal(rest[1], "--port"); /* after -- words are words */
    assert_string_equal(rest[3], "-");

    assert_int_equal(load("--no-fallback --literal-specials"), RR_OK);
    assert_false(settings.fallback);
    assert_true(settings.literal_specials);
    assert_int_equal(load("--fallback=off --literal-specials=YES x"), RR_OK);
    assert_false(settings.fallback);
    assert_true(settings.literal_specials);
    assert_string_equal(rest[0], "x"); /* a boolean does not eat the next word */
    assert_int_equal(load("--model --x"), RR_OK);
    assert_string_equal(settings.model, "--x");
}

static void test_values(void **state)
{
    static const struct {
        const char *text;
        size_t bytes;
    } sizes[] = {
        { "4096", 4096 },    { "8M", 8 << 20 }, { "64KiB", 64 << 10 }, { "64kb", 64 << 10 },
        { "1G", 1ul << 30 }, { "2k", 2 << 10 }, { "5000B", 5000 },     { "3MB", 3 << 20 },
    };
    static const struct {
        const char *text;
        double seconds;
    } times[] = {
        { "30", 30 },   { "1.5", 1.5 },    { "2m", 120 },    { "2500ms", 2.5 },
        { "1h", 3600 }, { "1.25s", 1.25 }, { "12.1", 12.1 }, { "3min", 180 },
    };
    char line[100];

    (void)state;
    for (size_t i = 0; i < RR_COUNT(sizes); i++) {
        snprintf(line, sizeof(line), "--max-body %s", sizes[i].text);
        assert_int_equal(load(line), RR_OK);
        assert_int_equal(settings.max_body, sizes[i].bytes);
    }
    for (size_t i = 0; i < RR_COUNT(times); i++) {
        snprintf(line, sizeof(line), "--idle-timeout %s", times[i].text);
        assert_int_equal(load(line), RR_OK);
        assert_true(settings.idle_timeout == times[i].seconds);
    }
    assert_int_equal(load("--device CUDA:1 env:LOG_LEVEL=WARNING --overload-status 503"), RR_OK);
    assert_string_equal(settings.device, "cuda:1");
    assert_string_equal(settings.log_level, "warn");
    assert_int_equal(settings.overload_status, 503);
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void test_refusals(void **state)
{
    static const struct {
        const char *line;
        int rc;
        const char *message; /* is in it */
    } cases[] = {
        /* options */
        { "--prot 1", RR_EINVAL, "unknown option --prot; did you mean --port?" },
        { "--no-falback", RR_EINVAL, "did you mean --no-fallback?" },
        { "--no-port", RR_EINVAL, "unknown option --no-port" },
        { "--prin-config", RR_EINVAL, "did you mean --print-config?" },
        { "--zzzzzzzzz", RR_EINVAL, "unknown option --zzzzzzzzz; --help lists the options" },
        { "-p 1", RR_EINVAL, "unknown option -p" },
        { "--=1", RR_EINVAL, "unknown option --=1" },
        { "--port", RR_EINVAL, "--port: needs a value (PORT)" },
        { "--config", RR_EINVAL, "--config: needs a value (FILE)" },
        { "--no-fallback=true", RR_EINVAL, "--no-fallback: takes no value" },
        { "--help=x", RR_EINVAL, "unknown option --help=x" },
        /* whole numbers */
        { "--port=80x2", RR_EINVAL,
          "--port: found \"80x2\", expected a whole number from 0 to 65535" },
        { "--port=", RR_EINVAL, "--port: found nothing, expected a whole number" },
        { "--port=-1", RR_EINVAL, "found \"-1\", expected a whole number" },
        { "--port=+1", RR_EINVAL, "found \"+1\"" },
        { "--port=0x10", RR_EINVAL, "found \"0x10\"" },
        { "--port=1.5", RR_EINVAL, "found \"1.5\"" },
        { "--port=65536", RR_EINVAL, "from 0 to 65535" },
        { "--port=99999999999999999999999", RR_EINVAL, "from 0 to 65535" },
        { "--http-threads=0", RR_EINVAL, "from 1 to 64" },
        { "--overload-status=450", RR_EINVAL, "found \"450\", expected 429 or 503" },
        /* sizes */
        { "--max-body=1023", RR_EINVAL, "from 1024 to 1073741824; K, M and G are understood" },
        { "--max-body=2G", RR_EINVAL, "found \"2G\"" },
        { "--max-body=1.5M", RR_EINVAL, "found \"1.5M\"" },
        { "--max-body=8X", RR_EINVAL, "found \"8X\"" },
        { "--max-body=99999999999999999999G", RR_EINVAL, "--max-body: found" },
        { "--max-body=18014398509481985K", RR_EINVAL, "--max-body: found" },
        /* durations */
        { "--idle-timeout=0", RR_EINVAL,
          "a duration from 1 to 3600 seconds, such as 30, 0.5, 500ms or 2m" },
        { "--idle-timeout=2h", RR_EINVAL, "found \"2h\"" },
        { "--idle-timeout=.5", RR_EINVAL, "found \".5\"" },
        { "--idle-timeout=5.", RR_EINVAL, "found \"5.\"" },
        { "--idle-timeout=inf", RR_EINVAL, "found \"inf\"" },
        { "--idle-timeout=nan", RR_EINVAL, "found \"nan\"" },
        { "--idle-timeout=1e2", RR_EINVAL, "found \"1e2\"" },
        { "--idle-timeout=3M", RR_EINVAL, "found \"3M\"" },
        /* booleans */
        { "--fallback=maybe", RR_EINVAL, "--fallback: found \"maybe\", expected true or false" },
        { "env:RERANKD_FALLBACK=2", RR_EFORMAT,
          "environment RERANKD_FALLBACK: found \"2\", expected true or false" },
        /* words */
        { "--device=cdua", RR_EINVAL,
          "--device: found \"cdua\", expected auto, cpu, cuda or cuda:N; did you mean cuda?" },
        { "--device=cuda:", RR_EINVAL, "found \"cuda:\"" },
        { "--device=cuda:x", RR_EINVAL, "found \"cuda:x\"" },
        { "--device=cuda:123", RR_EINVAL, "found \"cuda:123\"" },
        { "--log-format=xml", RR_EINVAL, "found \"xml\", expected text, json or logfmt" },
        { "env:DEVICE=gpu", RR_EFORMAT, "environment DEVICE: found \"gpu\"" },
        { "env:LOG_LEVEL=inf", RR_EFORMAT,
          "environment LOG_LEVEL: found \"inf\", expected error, warn, info or debug; did you mean "
          "info?" },
        /* text */
        { "--model=\xff\xfe", RR_EINVAL, "--model: found bytes that are not UTF-8" },
        { "--model=a\rb", RR_EINVAL, "--model: found \"a?b\", expected text in UTF-8, any number of lines" },
        { "--host=\xc3", RR_EINVAL, "--host: found bytes that are not UTF-8" },
        /* files */
        { "--config=/no/such.conf", RR_ENOENT, "configuration file: /no/such.conf" },
        { "env:RERANKD_CONFIG=/no/such.conf", RR_ENOENT, "/no/such.conf" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        int rc;

        setup(NULL);
        rc = load(cases[i].line);
        if (rc != cases[i].rc || !strstr(err.msg, cases[i].message))
            fail_msg("%s: %s \"%s\", expected %s \"%s\"", cases[i].line, rr_status_name(rc),
                     err.msg, rr_status_name(cases[i].rc), cases[i].message);
        assert_null(strchr(err.msg, '\n'));
    }
}

static void test_long_value_is_cut(void **state)
{
    char line[600] = "--port=";

    (void)state;
    for (int i = 0; i < 250; i++) strcat(line, "\xc3\xa9");
    assert_int_equal(load(line), RR_EINVAL);
    assert_non_null(strstr(err.msg, "\xc3\xa9...\", expected a whole number from 0 to 65535"));
    assert_true(strlen(err.msg) < 200);
}

/* ---- file ---------------------------------------------------------------------------------- */

static void test_file(void **state)
{
    static const char good[] = "\xEF\xBB\xBF# comment\r\n"
                               "\n"
                               "  port = 9 # trailing\r\n"
                               "model = \"/a \\\"b\\\" #c\" # quoted\n"
                               "host='::1'\n"
                               "max-body=16K\n"
                               "request-timeout = 500ms\n"
                               "fallback = no\n"
                               "device =CUDA";

    (void)state;
    write_config(good, sizeof(good) - 1);
    if (load("")) fail_msg("%s", err.msg);
    assert_int_equal(settings.port, 9);
    assert_string_equal(settings.model, "/a \"b\" #c");
    assert_string_equal(settings.host, "::1");
    assert_int_equal(settings.max_body, 16384);
    assert_true(settings.request_timeout == 0.5);
    assert_false(settings.fallback);
    assert_string_equal(settings.device, "cuda");

    assert_int_equal(load("--config none"), RR_OK); /* beats RERANKD_CONFIG */
    assert_int_equal(settings.port, 8002);
}

static void test_file_errors(void **state)
{
#define ROW(text, message) \
    { \
        text, sizeof(text) - 1, message \
    }
    static const struct {
        const char *text;
        size_t len;
        const char *message; /* after the file's name */
    } cases[] = {
        ROW("\nprot = 1", ":2: unknown setting \"prot\"; did you mean port?"),
        ROW("max_length = 1", ":1: unknown setting \"max_length\"; did you mean max-length?"),
        ROW("zzzzzzzzz = 1", ":1: unknown setting \"zzzzzzzzz\"; rerankd serve --help"),
        ROW("RERANKD_PORT=1", ":1: unknown setting"),
        ROW("[server]\n", ":1: found \"[server]\", expected \"name = value\""),
        ROW("port 1", ":1: found \"port 1\", expected \"name = value\""),
        ROW("= 1", ":1: unknown setting \"\""),
        ROW("port = x", ":1: port: found \"x\", expected a whole number from 0 to 65535"),
        ROW("port =", ":1: port: found nothing"),
        ROW("port = # 1", ":1: port: found nothing"),
        ROW("port = 1\nport = 2\n", ":2: port was already set in line 1"),
        ROW("model = /a\n\nmodel = /b\n", ":3: model: found two models without a name, /a and /b"),
        ROW("model = a=/a\nmodel = a=/a\n", ":2: model: found two models called a, /a and /a"),
        ROW("model = \"a", ":1: model: the quote is not closed, or something follows it"),
        ROW("model = \"a\" b", ":1: model: the quote is not closed, or something follows it"),
        ROW("model = 'a'b'", ":1: model: the quote is not closed, or something follows it"),
        ROW("#\n\nmodel = \xff", ":3: not UTF-8"),
        ROW("port = 1\0", ": holds a NUL byte, expected text"),
    };
#undef ROW
    char expected[300];

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        int rc;

        write_config(cases[i].text, cases[i].len);
        rc = load("");
        snprintf(expected, sizeof(expected), "%s%s", config_path, cases[i].message);
        if (rc != RR_EFORMAT || strncmp(err.msg, expected, strlen(expected)) != 0)
            fail_msg("%s: %s \"%s\", expected \"%s\"", cases[i].text, rr_status_name(rc), err.msg,
                     expected);
    }
}

static void test_file_too_large(void **state)
{
    static char text[(1 << 20) + 2];

    (void)state;
    memset(text, '\n', sizeof(text));
    write_config(text, 1 << 20);
    assert_int_equal(load(""), RR_OK);
    write_config(text, (1 << 20) + 1);
    assert_int_equal(load(""), RR_ETOOBIG);
    assert_non_null(strstr(err.msg, config_path));
    assert_int_equal(load("--config /tmp"), RR_EIO); /* a folder */
}

/* ---- what is resolved ---------------------------------------------------------------------- */

static void test_lang(void **state)
{
    static const struct {
        const char *line, *lang;
    } cases[] = {
        { "", "en" },
        { "env:LANG=fr_CH.UTF-8", "fr" },
        { "env:LANG=fr", "fr" },
        { "env:LANG=fr@euro", "fr" },
        { "env:LANG=frr_DE.UTF-8", "en" }, /* North Frisian */
        { "env:LANG=C.UTF-8", "en" },
        { "env:LANG=fr_FR env:LC_ALL=en_GB", "en" },
        { "env:LANG=en_GB env:LC_MESSAGES=fr_FR", "fr" },
        { "env:LANG=fr_FR --lang en", "en" },
        { "--lang FR", "fr" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        setup(NULL);
        assert_int_equal(load(cases[i].line), RR_OK);
        assert_string_equal(settings.lang, cases[i].lang);
        assert_int_equal(rr_settings_french(&settings), cases[i].lang[0] == 'f');
    }
}

static void test_cache_dir(void **state)
{
    static const struct {
        const char *line, *dir;
    } cases[] = {
        { "", "" },
        { "env:HOME=/h", "/h/.cache/rerankd" },
        { "env:HOME=/h env:XDG_CACHE_HOME=/x", "/x/rerankd" },
        { "env:HOME=/h env:XDG_CACHE_HOME=relative", "" },
        { "env:HOME=/h env:CACHE_DIRECTORY=/var/cache/r", "/var/cache/r" },
        { "env:HOME=/h --cache-dir none", "" },
        { "env:HOME=/h --cache-dir d", "d" },
    };
    struct rr_options opt;

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        setup(NULL);
        assert_int_equal(load(cases[i].line), RR_OK);
        assert_string_equal(settings.cache_dir, cases[i].dir);
        rr_settings_engine(&settings, &opt);
        if (cases[i].dir[0])
            assert_string_equal(opt.cache_dir, cases[i].dir);
        else
            assert_null(opt.cache_dir);
    }
}

static void test_engine_options(void **state)
{
    struct rr_options opt;

    (void)state;
    assert_int_equal(load("--model /m --device cpu --no-fallback --threads 3 --max-length 77"),
                     RR_OK);
    rr_settings_engine(&settings, &opt);
    assert_string_equal(opt.model, "/m");
    assert_string_equal(opt.device, "cpu");
    assert_false(opt.fallback);
    assert_int_equal(opt.threads, 3);
    assert_int_equal(opt.max_length, 77);
    assert_int_equal(opt.queue_tokens, settings.queue_tokens);
    assert_int_equal(load(""), RR_OK);
    rr_settings_engine(&settings, &opt);
    assert_non_null(strstr(opt.model, "starter"));
}

/* ---- several models ------------------------------------------------------------------------- */

static void test_models(void **state)
{
    static const char file[] = "model = a=/m/a\nmodel = \"b=/m/b,dtype=int8\"\n";
    struct rr_options opt;

    (void)state;
    assert_int_equal(load("--dtype bf16 --model fast=/m/a,dtype=int8,max_length=128 "
                          "--model /m/big --model slow=/m/b,device=cpu "
                          "--model-alias rerank-v3.5=fast --model-alias x=default"),
                     RR_OK);
    assert_int_equal(settings.n_models, 3);
    assert_string_equal(settings.models[0].name, ""); /* the one without a name comes first */
    assert_string_equal(settings.model, "/m/big");
    assert_string_equal(settings.models[1].name, "fast");
    assert_string_equal(settings.models[1].path, "/m/a");
    assert_string_equal(settings.models[1].dtype, "int8");
    assert_string_equal(settings.models[2].path, "/m/b");
    assert_null(settings.models[2].dtype);
    assert_int_equal(settings.n_aliases, 2);
    assert_string_equal(settings.aliases[0].alias, "rerank-v3.5");
    assert_string_equal(settings.aliases[0].name, "fast");
    rr_settings_model(&settings, 2, &opt);
    assert_string_equal(opt.device, "cpu");
    assert_string_equal(opt.dtype, "bf16"); /* as for all */

    assert_int_equal(load("--model a=/m/a,dtype=int8,max_length=128,rescore-dtype=f32"), RR_OK);
    rr_settings_engine(&settings, &opt); /* without a bare one, the first is the default */
    assert_string_equal(opt.model, "/m/a");
    assert_string_equal(opt.dtype, "int8");
    assert_string_equal(opt.rescore_dtype, "f32");
    assert_int_equal(opt.max_length, 128);

    assert_int_equal(load("--model /a=b"), RR_OK); /* names do not begin with a slash */
    assert_string_equal(settings.model, "/a=b");

    assert_int_equal(load("env:RERANKD_MODEL=a=/m/a\nb=/m/b"), RR_OK);
    assert_int_equal(settings.n_models, 2);
    assert_string_equal(settings.models[1].path, "/m/b");
    unsetenv("RERANKD_MODEL");
    write_config(file, strlen(file));
    assert_int_equal(load(""), RR_OK);
    assert_int_equal(settings.n_models, 2);
    assert_string_equal(settings.models[1].dtype, "int8");
    assert_int_equal(load("--model b=/m/c"), RR_OK); /* a stronger place has a list of its own */
    assert_int_equal(settings.n_models, 1);
    assert_string_equal(settings.model, "/m/c");
    unsetenv("RERANKD_CONFIG");
}

static void test_bad_models(void **state)
{
    static const struct {
        const char *words, *message;
    } cases[] = {
        { "--model a=", "--model: found no folder for a" },
        { "--model a=,dtype=int8", "--model: found no folder for a" },
        { "--model a=/m,color=red", "--model: found \"color\", a model can have device, dtype" },
        { "--model a=/m,dtype=int9", "--model: dtype: found \"int9\", expected auto" },
        { "--model a=/m,max-length=x", "--model: max-length: found \"x\"" },
        { "--model a=/m,dtype=int8,x", "--model: found \"x\", expected a setting such as" },
        { "--model a=/m --model b=/n --model a=/o,dtype=int8",
          "--model: found two models called a, /m and /o; each needs a name of its own" },
        { "--model /one --model b=/m --model /two",
          "--model: found two models without a name, /one and /two; give them names: NAME=/two" },
        { "--model a=/m --model-alias x=a --model-alias x=default",
          "--model-alias: x stands for a and for default" },
        { "--model-alias x", "--model-alias: found \"x\", expected ALIAS=NAME" },
        { "--model-alias x=y", "--model-alias: x stands for \"y\", expected the name of a --model" },
        { "--model a=/m --model-alias a=default", "--model-alias: a is the name of a model" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        assert_int_equal(load(cases[i].words), RR_EINVAL);
        if (!strstr(err.msg, cases[i].message)) fail_msg("%s: %s", cases[i].words, err.msg);
    }
}

static char warning[300];

static void keep_warning(void *user, int level, const char *line)
{
    (void)user;
    (void)level;
    snprintf(warning, sizeof(warning), "%s", line);
}

static void test_misspelt_environment(void **state)
{
    (void)state;
    rr_log_set(keep_warning, NULL, RR_WARN);
    assert_int_equal(load("env:RERANKD_MAX_LENGHT=5"), RR_OK);
    assert_string_equal(warning, "environment RERANKD_MAX_LENGHT is no setting of rerankd; did you "
                                 "mean RERANKD_MAX_LENGTH?");
    warning[0] = 0;
    setup(NULL);
    assert_int_equal(load("env:RERANKD_PORT_8002_TCP_ADDR=10.0.0.1 env:RERANKD_PORT=1"), RR_OK);
    assert_string_equal(warning, ""); /* Kubernetes' names are near nothing */
    rr_log_set(NULL, NULL, RR_WARN);
}

/* ---- options of a sub-command --------------------------------------------------------------- */

struct own {
    const char *query;
    uint32_t top, depth;
    size_t shard;
    bool json;
};

static const struct rr_option own_options[] = {
    { "query", "", "none", RR_OPTION_STR, offsetof(struct own, query), 0, 0, "X", "TEXT", "Q." },
    { "top", "", "5", RR_OPTION_U32, offsetof(struct own, top), 1, 9, "X", "N", "T." },
    { "depth", "", "0", RR_OPTION_U32, offsetof(struct own, depth), 0, 0, "X", "N", "D." },
    { "shard", "", "0", RR_OPTION_SIZE, offsetof(struct own, shard), 0, 0, "X", "N", "S." },
    { "json", "", "false", RR_OPTION_BOOL, offsetof(struct own, json), 0, 0, "X", "", "J." },
};

static int load_own(int argc, char **argv, struct own *own, struct rr_load *l)
{
    *l = (struct rr_load){ .argc = argc,
                           .argv = argv,
                           .own = own_options,
                           .n_own = RR_COUNT(own_options),
                           .own_fields = own,
                           .rest = rest };
    rr_settings_free(&settings);
    return rr_settings_read(&settings, l, &err);
}

static void test_own_options(void **state)
{
    char *good[] = { "--query", "where is it?", "--port=1", "--json", "f" };
    char *near[] = { "--quary", "x" };
    char *range[] = { "--top", "10" };
    char *width[] = { "--depth", "4294967296" }; /* bounds that no row gives: those of the type */
    char *most[] = { "--depth", "4294967295", "--shard", "18446744073709551615" };
    char *size[] = { "--shard", "16777216T" };
    char *help[] = { "--port=1", "-h", "--config", "/no/such.conf" };
    char *print[] = { "--print-config" };
    struct own own;
    struct rr_load l;

    (void)state;
    assert_int_equal(load_own(5, good, &own, &l), RR_OK);
    assert_string_equal(own.query, "where is it?");
    assert_int_equal(own.top, 5);
    assert_true(own.json);
    assert_int_equal(settings.port, 1);
    assert_int_equal(l.n_rest, 1);
    assert_false(l.help);

    assert_int_equal(load_own(2, near, &own, &l), RR_EINVAL);
    assert_non_null(strstr(err.msg, "did you mean --query?"));
    assert_int_equal(load_own(2, range, &own, &l), RR_EINVAL);
    assert_string_equal(err.msg, "--top: found \"10\", expected a whole number from 1 to 9");
    assert_int_equal(load_own(2, width, &own, &l), RR_EINVAL);
    assert_string_equal(err.msg, "--depth: found \"4294967296\", expected a whole number from 0 to "
                                 "4294967295");
    assert_int_equal(load_own(2, size, &own, &l), RR_EINVAL);
    assert_string_equal(err.msg, "--shard: found \"16777216T\", expected a whole number from 0 to "
                                 "18446744073709551615; K, M and G are understood");
    assert_int_equal(load_own(4, most, &own, &l), RR_OK);
    assert_int_equal(own.depth, UINT32_MAX);
    assert_true(own.shard == SIZE_MAX);
    assert_int_equal(load_own(4, help, &own, &l), RR_OK); /* help does not read files */
    assert_true(l.help);
    assert_int_equal(load_own(1, print, &own, &l), RR_OK);
    assert_true(l.print_config);
}

/* ---- texts --------------------------------------------------------------------------------- */

static void test_print_config(void **state)
{
    static const char file[] = "\nmax-documents = 7\n";
    char *first, *second;

    (void)state;
    write_config(file, sizeof(file) - 1);
    assert_int_equal(load("env:PORT=2 --model /a#\"b --drain-timeout 500ms --max-body 3M"), RR_OK);
    first = printed(print_settings);
    assert_non_null(strstr(first, "\nport               = 2  # environment PORT\n"));
    assert_non_null(strstr(first, "\nmodel              = \"/a#\\\"b\"  # --model\n"));
    assert_non_null(strstr(first, "\ndrain-timeout      = 0.5  # --drain-timeout\n"));
    assert_non_null(strstr(first, "\nmax-body           = 3M  # --max-body\n"));
    assert_non_null(strstr(first, "\nmax-document-bytes = 1M  # default\n"));
    assert_non_null(strstr(first, "\nmax-documents      = 7  # /tmp/"));
    assert_non_null(strstr(first, ":2\n")); /* the file's line */

    /* It is itself a valid file and says the same. */
    setup(NULL);
    write_config(first, strlen(first));
    if (load("")) fail_msg("%s", err.msg);
    assert_string_equal(settings.model, "/a#\"b");
    assert_true(settings.drain_timeout == 0.5);
    second = printed(print_settings);
    for (char *p = first, *q = second; *p; p++, q++) { /* all but the comments */
        assert_int_equal(*p, *q);
        if (p > first && strncmp(p - 1, " # ", 3) == 0) {
            p += strcspn(p, "\n") - 1;
            q += strcspn(q, "\n") - 1;
        }
    }
    free(first);
    free(second);
}

static void test_texts_name_everything(void **state)
{
    size_t n;
    const struct rr_option *table = rr_settings_table(&n);
    char *texts[] = { printed(print_help), printed(rr_settings_markdown),
                      printed(rr_settings_man) };

    (void)state;
    assert_true(n > 30);
    for (size_t i = 0; i < n; i++) {
        char flag[60], cell[60], man[120] = "", *m = man;

        snprintf(flag, sizeof(flag), "%s%s", table[i].type == RR_OPTION_BOOL ? "]" : "--",
                 table[i].name);
        if (table[i].type != RR_OPTION_BOOL || strcmp(table[i].def, "true") == 0)
            assert_non_null(strstr(texts[0], flag));
        if (table[i].env[0]) assert_non_null(strstr(texts[0], table[i].env));
        snprintf(cell, sizeof(cell), "| `%s` |", table[i].name);
        assert_non_null(strstr(texts[1], cell));
        for (const char *s = table[i].name; *s; s++) {
            if (*s == '-') *m++ = '\\';
            *m++ = *s;
        }
        assert_non_null(strstr(texts[2], man));
    }
    for (const char *line = texts[0]; *line; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > 80) fail_msg("wider than 80: %.100s", line);
    }
    for (size_t i = 0; i < RR_COUNT(texts); i++) free(texts[i]);
}

static void test_exit_codes(void **state)
{
    static const struct {
        int status, code;
    } cases[] = {
        { RR_OK, 0 },         { RR_EINVAL, 64 },     { RR_ENOENT, 66 }, { RR_EFORMAT, 78 },
        { RR_ENOTSUP, 78 },   { RR_ENOMEM, 71 },     { RR_EIO, 71 },    { RR_EDEVICE, 69 },
        { RR_EINTERNAL, 70 }, { RR_ENONFINITE, 70 }, { RR_ECLOSED, 1 }, { 999, 1 },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++)
        assert_int_equal(rr_exit_code(cases[i].status), cases[i].code);
    assert_int_equal(rr_exit_code_of_data(RR_OK), 0);
    assert_int_equal(rr_exit_code_of_data(RR_EFORMAT), 65);
    assert_int_equal(rr_exit_code_of_data(RR_ENOENT), 66);
}

/* ---- memory -------------------------------------------------------------------------------- */

static int load_all_sources(void *user)
{
    char *words[] = { "--model=/m", "--device", "cuda:1", "x" };
    int rc;

    (void)user;
    rc = rr_settings_load(&settings, 4, words, rest, &n_rest, &err);
    rr_settings_free(&settings);
    return rc;
}

static void test_out_of_memory(void **state)
{
    static const char file[] = "host = ::1\nisa = avx2\n";
    struct fault_report report;

    (void)state;
    write_config(file, sizeof(file) - 1);
    setenv("HOME", "/h", 1);
    setenv("LOG_LEVEL", "debug", 1);
    report = fault_each(load_all_sources, NULL);
    assert_true(report.allocations >= 3);
}

static void note_ignored(void *user, const char *name)
{
    snprintf(user, 40, "%s", name);
}

/* The file changes while the program runs: live settings follow, others keep their value. */
static void test_again(void **state)
{
    static const char *const live[] = { "max-documents" };
    char line[100], ignored[40] = "";
    struct rr_settings later;

    (void)state;
    write_config("max-documents = 5\nport = 1\n", 27);
    snprintf(line, sizeof(line), "--config %s --host ::1", config_path);
    assert_int_equal(load(line), RR_OK);
    assert_int_equal(rr_settings_again(&settings, &later, &err), RR_OK);
    settings.models[0].dir = "/cache/model"; /* found at start, in no file */
    assert_false(rr_settings_keep(&later, &settings, live, 1, note_ignored, ignored));
    assert_string_equal(ignored, "");
    assert_string_equal(later.models[0].dir, "/cache/model");
    rr_settings_free(&later);

    write_config("max-documents = 6\nport = 2\nhost = x\n", 36);
    assert_int_equal(rr_settings_again(&settings, &later, &err), RR_OK);
    assert_string_equal(later.host, "::1"); /* the flag is still there */
    assert_true(rr_settings_keep(&later, &settings, live, 1, note_ignored, ignored));
    assert_int_equal(later.max_documents, 6);
    assert_int_equal(later.port, 1);
    assert_string_equal(ignored, "port");
    rr_settings_free(&later);

    write_config("max-documents = no\n", 19);
    assert_int_equal(rr_settings_again(&settings, &later, &err), RR_EFORMAT);
    rr_settings_free(&later);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_defaults),
        TEST(test_precedence),
        TEST(test_flag_forms),
        TEST(test_values),
        TEST(test_refusals),
        TEST(test_long_value_is_cut),
        TEST(test_file),
        TEST(test_file_errors),
        TEST(test_file_too_large),
        TEST(test_lang),
        TEST(test_cache_dir),
        TEST(test_engine_options),
        TEST(test_models),
        TEST(test_bad_models),
        TEST(test_misspelt_environment),
        TEST(test_own_options),
        TEST(test_print_config),
        TEST(test_texts_name_everything),
        TEST(test_exit_codes),
        TEST(test_out_of_memory),
        TEST(test_again),
#undef TEST
    };
    int failed, fd = mkstemp(config_path);

    if (fd < 0) return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(config_path);
    return failed;
}
