/* SPDX-License-Identifier: Apache-2.0 */
/* test_hub.c - the parts of src/hub that need no server: names, listings, digests, unfinished files,
 * addresses, snapshots in the cache. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/cache.h"
#include "hub/digest.h"
#include "hub/http.h"
#include "hub/partial.h"
#include "support/fault.h"

#define SHA1 "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MIB ((uint64_t)1 << 20)

static char folder[] = "/tmp/rerankd-hub-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* ---- names ---------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    static const struct {
        const char *text, *revision, *id, *expected; /* expected NULL: refused */
    } rows[] = {
        { "BAAI/bge-reranker-v2-m3", NULL, "BAAI/bge-reranker-v2-m3", "main" },
        { "a/b@v1.0", NULL, "a/b", "v1.0" },
        { "a/b@v1.0", "", "a/b", "v1.0" },   /* an empty --revision is none */
        { "a/b@v1.0", "dev", "a/b", "dev" }, /* --revision is stronger */
        { "_a/b_@refs/pr/1", NULL, "_a/b_", "refs/pr/1" },
        { "a/b", "v1+x", "a/b", "v1+x" },
        { "a-.b/c", NULL, "a-.b/c", "main" },
        { "a/b@" SHA1, NULL, "a/b", SHA1 },
        { "../../x", NULL, NULL, NULL },  /* out of the cache */
        { "a/..", NULL, NULL, NULL },     /* the same */
        { "a/b/c", NULL, NULL, NULL },    /* a folder of its own */
        { "a", NULL, NULL, NULL },        /* no organization */
        { "a/b--c", NULL, NULL, NULL },   /* "--" separates parts of a folder's name */
        { "a--b/c", NULL, NULL, NULL },   /* so "a/b" + "c" and "a" + "b/c" would meet */
        { "%2e%2e/x", NULL, NULL, NULL }, /* another spelling of .. */
        { "a/b.git", NULL, NULL, NULL },  /* git's own */
        { "-a/b", NULL, NULL, NULL },     /* an option */
        { "a/b@", NULL, "a/b", NULL },    /* nothing after @ */
        { "a@b/c", NULL, NULL, NULL },    /* @ before the / */
        { "a/b@-rf", NULL, NULL, NULL },
        { "a/b@a/../b", NULL, NULL, NULL },
        { "a/b@a//b", NULL, NULL, NULL },
        { "a/b", "x y", NULL, NULL },
        { "a/b", "x\n", NULL, NULL },
        { "a/b", "/etc", NULL, NULL },
    };
    struct rr_hub_repo repo;
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        int rc = rr_hub_parse(&repo, rows[i].text, rows[i].revision, &err);

        if (!rows[i].expected) {
            if (rc != RR_EINVAL) fail_msg("%s was taken", rows[i].text);
            continue;
        }
        if (rc) fail_msg("%s: %s", rows[i].text, err.msg);
        assert_string_equal(repo.id, rows[i].id);
        assert_string_equal(repo.revision, rows[i].expected);
    }
}

static void test_longest_names(void **state)
{
    char text[400], part[RR_HUB_NAME + 2];
    struct rr_hub_repo repo;
    struct rr_error err;

    (void)state;
    memset(part, 'x', sizeof(part));
    part[RR_HUB_NAME - 1] = 0;
    snprintf(text, sizeof(text), "%s/%s", part, part);
    assert_int_equal(rr_hub_parse(&repo, text, NULL, &err), RR_OK);
    assert_string_equal(repo.id, text);
    snprintf(text, sizeof(text), "a/%sx", part);
    assert_int_equal(rr_hub_parse(&repo, text, NULL, &err), RR_EINVAL);
    memset(text, 'r', sizeof(text));
    text[RR_HUB_REVISION - 1] = 0;
    assert_int_equal(rr_hub_parse(&repo, "a/b", text, &err), RR_OK);
    assert_string_equal(repo.revision, text);
    text[RR_HUB_REVISION - 1] = 'r';
    text[RR_HUB_REVISION] = 0;
    assert_int_equal(rr_hub_parse(&repo, "a/b", text, &err), RR_EINVAL);
}

/* ---- listings ------------------------------------------------------------------------------- */

#define ENTRY(name) "{\"rfilename\":\"" name "\",\"size\":3,\"blobId\":\"" SHA1 "\"}"
#define LARGE(name, size, sha) \
    "{\"rfilename\":\"" name "\",\"size\":9,\"blobId\":\"" SHA1 "\",\"lfs\":{\"sha256\":\"" sha \
    "\",\"size\":" size "}}"
#define LIST(entries) "{\"sha\":\"" SHA1 "\",\"siblings\":[" entries "]}"
#define BASE ENTRY("config.json") "," ENTRY("tokenizer.json")
#define WEIGHTS LARGE("model.safetensors", "5000000000", SHA256)

static int parse(struct rr_hub_listing *l, const char *json, struct rr_error *err)
{
    return rr_hub_listing_parse(l, rr_text(json), "o/n", err);
}

static void test_listing(void **state)
{
    struct rr_hub_listing l;
    struct rr_error err;

    (void)state;
    assert_int_equal(parse(&l, LIST(BASE "," WEIGHTS "," ENTRY("README.md")), &err), RR_OK);
    assert_string_equal(l.commit, SHA1);
    assert_int_equal(l.n_files, 3);
    assert_string_equal(l.files[0].name, "config.json");
    assert_string_equal(l.files[0].blob, SHA1);
    assert_int_equal(l.files[0].size, 3);
    assert_string_equal(l.files[2].blob, SHA256);
    assert_true(l.files[2].size == UINT64_C(5000000000));
    rr_hub_listing_free(&l);
    assert_int_equal(parse(&l,
                           LIST(BASE "," ENTRY("model.safetensors.index.json") "," //
                                LARGE("model-1.safetensors", "1", SHA256) "," WEIGHTS),
                           &err),
                     RR_OK);
    assert_int_equal(l.n_files, 3); /* neither index nor shard */
    rr_hub_listing_free(&l);
    assert_int_equal(
        parse(
            &l,
            LIST(
                BASE "," WEIGHTS "," ENTRY("2_Dense/config.json") "," //
                ENTRY("2_Dense/pytorch_model.bin") "," ENTRY("onnx/config.json") "," ENTRY("2_../config.json") "," ENTRY(
                    "2_a/b/config.json") "," ENTRY("../2_Dense/config.json") "," ENTRY("_a/config.json")),
            &err),
        RR_OK);
    assert_int_equal(l.n_files, 4); /* of folders, those of modules only */
    assert_string_equal(l.files[3].name, "2_Dense/config.json");
    rr_hub_listing_free(&l);
    assert_int_equal(parse(&l, LIST(BASE "," WEIGHTS "," ENTRY("chat_template.jinja")), &err),
                     RR_OK);
    assert_int_equal(l.n_files, 4); /* sentence-transformers reads a causal model's pairs by it */
    rr_hub_listing_free(&l);
}

static void test_listing_refused(void **state)
{
    static const struct {
        const char *json, *message;
        int code;
    } rows[] = {
        { "", "JSON", RR_EFORMAT },
        { "[]", "\"sha\"", RR_EFORMAT },
        { "{\"sha\":\"" SHA1 "\"}", "siblings: found nothing", RR_EFORMAT },
        { "{\"sha\":\"../../x\",\"siblings\":[]}", "\"sha\"", RR_EFORMAT },
        { LIST(""), "no config.json", RR_ENOTSUP },
        { LIST(BASE), "no model.safetensors; look", RR_ENOTSUP },
        { LIST(BASE "," ENTRY("pytorch_model.bin")), "PyTorch's .bin", RR_ENOTSUP },
        { LIST(BASE "," ENTRY("sub/model.safetensors")), "no model.safetensors", RR_ENOTSUP },
        { LIST(BASE "," ENTRY("model-1.safetensors")), "no model.safetensors", RR_ENOTSUP },
        { LIST(ENTRY("config.json") "," WEIGHTS), "no tokenizer.json", RR_ENOTSUP },
        { LIST(BASE "," WEIGHTS "," WEIGHTS), "model.safetensors is listed twice", RR_EFORMAT },
        { LIST(BASE "," LARGE("model.safetensors", "1", "../../../../x")), "no digest",
          RR_EFORMAT },
        { LIST(BASE "," LARGE("model.safetensors", "1", SHA1)), "no digest", RR_EFORMAT },
        { LIST(BASE "," LARGE("model.safetensors", "-1", SHA256)), "\"size\"", RR_EFORMAT },
        { LIST(BASE "," LARGE("model.safetensors", "1.5", SHA256)), "\"size\"", RR_EFORMAT },
        { LIST(BASE "," LARGE("model.safetensors", "4398046511105", SHA256)), "\"size\"",
          RR_EFORMAT },
        { LIST("{\"rfilename\":\"config.json\",\"size\":1}"), "no digest", RR_EFORMAT },
    };
    struct rr_hub_listing l;
    struct rr_error err;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        int rc = parse(&l, rows[i].json, &err);

        if (rc != rows[i].code || !strstr(err.msg, rows[i].message))
            fail_msg("row %zu: %d %s", i, rc, err.msg);
        rr_hub_listing_free(&l);
    }
}

static int parse_once(void *user)
{
    struct rr_hub_listing l;
    struct rr_error err;
    int rc = parse(&l, user, &err);

    rr_hub_listing_free(&l);
    return rc;
}

static void test_listing_without_memory(void **state)
{
    (void)state;
    assert_true(fault_each(parse_once, LIST(BASE "," WEIGHTS)).allocations > 5);
}

/* ---- digests -------------------------------------------------------------------------------- */

static bool never(void *user)
{
    (void)user;
    return false;
}

static void test_digests(void **state)
{
    /* Of "hello\n"; git's is what "git hash-object" prints. */
    static const char sha256[] = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    static const char git[] = "ce013625030ba8dba906f756967f9e9ca394464a";
    struct rr_error err;
    bool same;
    int fd;

    (void)state;
    assert_int_equal(rr_file_write(in_folder("hello"), "hello\n", 6, &err), RR_OK);
    fd = open(in_folder("hello"), O_RDONLY);
    assert_int_equal(rr_digest_check(fd, 6, sha256, &same, NULL, NULL, &err), RR_OK);
    assert_true(same);
    assert_int_equal(rr_digest_check(fd, 6, git, &same, NULL, NULL, &err), RR_OK);
    assert_true(same);
    assert_int_equal(rr_digest_check(fd, 5, sha256, &same, NULL, NULL, &err), RR_OK);
    assert_false(same);
    assert_int_equal(rr_digest_check(fd, 5, git, &same, NULL, NULL, &err), RR_OK);
    assert_false(same);
    assert_int_equal(rr_digest_check(fd, 7, git, &same, NULL, NULL, &err), RR_EIO);
    assert_int_equal(rr_digest_check(fd, 6, git, &same, never, NULL, &err), RR_ECANCELED);
    close(fd);
}

/* ---- unfinished files ----------------------------------------------------------------------- */

static void test_partial(void **state)
{
    struct rr_partial p;
    struct rr_error err;
    struct stat st;
    char blob[512];

    (void)state;
    snprintf(blob, sizeof(blob), "%s", in_folder("blob"));
    assert_int_equal(rr_partial_open(&p, blob, 33 * MIB, 4, &err), RR_OK);
    assert_int_equal(p.n, 4); /* 8 MiB each, at least */
    assert_true(p.parts[0].begin == 0 && p.parts[3].end == 33 * MIB);
    assert_int_equal(rr_partial_write(&p, 0, "abc", 3, &err), RR_OK);
    assert_int_equal(rr_partial_write(&p, 3, "xy", 2, &err), RR_OK);
    assert_int_equal(rr_partial_done(&p), 5);
    snprintf(p.etag, sizeof(p.etag), "\"e\"");
    rr_partial_close(&p);
    assert_int_equal(rr_partial_have(blob, 33 * MIB), 5);
    assert_int_equal(rr_partial_have(blob, 34 * MIB), 0); /* another file */
    assert_int_equal(rr_partial_have("/nowhere", 1), 0);

    assert_int_equal(rr_partial_open(&p, blob, 33 * MIB, 16, &err), RR_OK);
    assert_int_equal(p.n, 4); /* as it was begun */
    assert_true(p.parts[3].next == p.parts[3].begin + 2);
    assert_string_equal(p.etag, "\"e\"");
    assert_int_equal(rr_partial_reset(&p, 1, &err), RR_OK);
    assert_int_equal(rr_partial_done(&p), 0);
    assert_true(p.n == 1 && !p.etag[0]);
    rr_partial_close(&p);

    assert_int_equal(rr_partial_open(&p, blob, 3, 4, &err), RR_OK);
    assert_int_equal(p.n, 1);
    assert_int_equal(rr_partial_write(&p, 0, "abc", 3, &err), RR_OK);
    assert_int_equal(rr_partial_publish(&p, &err), RR_OK);
    assert_int_equal(stat(blob, &st), 0);
    assert_int_equal(st.st_size, 3); /* without the record */
    assert_int_not_equal(access(p.path, F_OK), 0);
}

static void test_partial_is_a_link(void **state)
{
    struct rr_partial p;
    struct rr_error err;
    char blob[512];

    (void)state;
    assert_int_equal(symlink("/etc/passwd", in_folder("l.rerankd.incomplete")), 0);
    snprintf(blob, sizeof(blob), "%s", in_folder("l"));
    assert_int_equal(rr_partial_open(&p, blob, 3, 1, &err), RR_EIO);
}

/* ---- addresses ------------------------------------------------------------------------------ */

static void test_addresses(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        { "https://h/x", "https://h/y?z", true },
        { "https://h", "https://H:443/", true },
        { "http://h:80/", "http://h", true },
        { "https://h/", "http://h/", false },      /* the token in the clear */
        { "https://h/", "https://h:444/", false }, /* another program */
        { "https://h/", "https://x.h/", false },   /* another host */
        { "https://h/", "https://h.x/", false },   /* that begins the same */
        { "https://h/", "https://h@x/", false },   /* h is a user's name here */
        { "https://h/", "https://x/?https://h/", false },
        { "https://h/", "nonsense://", false },
    };
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(rows); i++) {
        if (rr_hub_http_same_origin(rows[i].a, rows[i].b) != rows[i].same)
            fail_msg("%s, %s", rows[i].a, rows[i].b);
    }
    assert_true(rr_hub_http_may_follow("https://a/", "https://b/"));
    assert_true(rr_hub_http_may_follow("http://a/", "HTTPS://b/"));
    assert_true(rr_hub_http_may_follow("http://a/", "http://b/"));
    assert_false(rr_hub_http_may_follow("https://a/", "http://a/"));
    assert_false(rr_hub_http_may_follow("https://a/", "file:///etc/passwd"));
}

static void test_backoff(void **state)
{
    unsigned tries;

    (void)state;
    for (tries = 1; tries < 100; tries++) {
        uint64_t ns = rr_hub_http_backoff_ns(tries, 0.0);
        uint64_t base = (RR_SECOND / 2) << RR_MIN(tries - 1, 5u);

        assert_true(ns >= base && ns <= base + base / 4);
    }
    assert_true(rr_hub_http_backoff_ns(1, 7.0) == 7 * RR_SECOND); /* Retry-After */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_listing),
        cmocka_unit_test(test_listing_refused),
        cmocka_unit_test(test_listing_without_memory),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_partial_is_a_link),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_backoff),
    };
    char command[64];
    int failed;

    rr_json_init();
    if (!mkdtemp(folder)) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) || failed;
}
