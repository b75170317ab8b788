/* SPDX-License-Identifier: Apache-2.0 */
/* test_tok_parts.c - the pieces of src/tok on their own: trie, numbers, clusters, patterns, pairs,
 * added tokens, the compiled form, huge words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/clock.h"
#include "base/mem.h"
#include "tok/grapheme.h"
#include "tok/normalize.h"
#include "tok/regex.h"
#include "tok/scan.h"
#include "tok/trie.h"
#include "tok_fixture.h"

static const char xlmr[] = "tests/golden/models/tiny-xlmr";

/* ---- trie ---- */

static void test_trie(void **state)
{
    static const char *const words[] = { "a",          "ab",       "abc",  "abd",      "b",
                                         "",           "\xff\xfe", "\xff", "abcdefgh", "abcdefghi",
                                         "abcdefghij", "zz",       "\0x",  "ab" };
    struct rr_trie_key keys[RR_COUNT(words)];
    struct rr_trie t = { 0 };
    struct rr_trie_unit *units;
    struct rr_error err = { 0 };
    char blob[256];
    uint32_t at = 0, i, k;

    (void)state;
    for (i = 0; i < RR_COUNT(words); i++) {
        uint32_t len = i == 12 ? 2 : (uint32_t)strlen(words[i]);

        memcpy(blob + at, words[i], len);
        keys[i] = (struct rr_trie_key){ 0, at, len, (int32_t)i };
        for (k = 0; k < 8; k++)
            keys[i].head = keys[i].head << 8 | (k < len ? (unsigned char)words[i][k] : 0);
        at += len;
    }
    assert_int_equal(rr_trie_build(&units, &t.n, keys, RR_COUNT(words), blob, &err), RR_OK);
    t.units = units;
    t.blob = blob;
    assert_true(rr_trie_valid(&t, at, RR_COUNT(words)));
    assert_false(rr_trie_valid(&t, at, 3)); /* ids outside are seen */
    for (i = 0; i < RR_COUNT(words); i++) {
        int32_t want = i == 1 ? 13 : i == 5 ? -1 : (int32_t)i; /* the last of equal keys; no "" */

        assert_int_equal(rr_trie_find(&t, words[i], i == 12 ? 2 : strlen(words[i])), want);
    }
    assert_int_equal(rr_trie_find(&t, "abcd", 4), -1);
    assert_int_equal(rr_trie_find(&t, "abcdefghijk", 11), -1);
    assert_int_equal(rr_trie_find(&t, "\0", 1), -1);
    assert_int_equal(rr_trie_find(&t, "y", 1), -1);
    rr_free(units);
}

/* 20,000 pseudo-random words: all found, and nothing else. */
static void test_trie_many(void **state)
{
    enum { N = 20000 };
    struct rr_trie_key *keys = calloc(N, sizeof(*keys));
    char *blob = malloc(N * 16);
    struct rr_trie t = { 0 };
    struct rr_trie_unit *units;
    struct rr_error err = { 0 };
    uint32_t seed = 1, at = 0, i, k;

    (void)state;
    assert_non_null(keys);
    assert_non_null(blob);
    for (i = 0; i < N; i++) {
        keys[i] = (struct rr_trie_key){ 0, at, 0, (int32_t)i };
        for (k = 0; k < 4 + i % 8; k++) {
            seed = seed * 1664525u + 1013904223u;
            blob[at++] = (char)(i % 3 ? 'a' + (seed >> 16) % 20 : seed >> 20);
        }
        keys[i].len = at - keys[i].off;
        for (k = 0; k < 8; k++)
            keys[i].head =
                keys[i].head << 8 | (k < keys[i].len ? (unsigned char)blob[keys[i].off + k] : 0);
    }
    assert_int_equal(rr_trie_build(&units, &t.n, keys, N, blob, &err), RR_OK);
    t.units = units;
    t.blob = blob;
    assert_true(rr_trie_valid(&t, at, N));
    for (i = 0; i < N; i++) { /* keys are sorted now */
        const char *s = blob + keys[i].off;
        int32_t id = rr_trie_find(&t, s, keys[i].len);

        if (id != keys[i].id && (id < 0 || i + 1 == N)) fail_msg("word %u is lost", i);
        assert_true(t.n < 40 * N);
    }
    rr_free(units);
    free(keys);
    free(blob);
}

/* ---- numbers ---- */

static void test_decimal(void **state)
{
    static const struct {
        uint64_t digits;
        int exp;
        double want;
        const char *why;
    } cases[] = {
        { 346354, -5, 3.46354, "few digits: exact" },
        { 0, 0, 0, "zero" },
        { 0, 999, 0, "zero with any exponent" },
        { 1, 22, 1e22, "largest exact power" },
        { 5, -1, 0.5, "one digit" },
        /* More than 2^53: the reference rounds twice, so the last bit may differ from strtod. */
        { UINT64_C(34635426998138428), -16, 34635426998138428.0 / 1e16,
          "17 digits, as sentencepiece" },
    };
    double v;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        assert_true(rr_scan_decimal(cases[i].digits, cases[i].exp, false, &v));
        if (v != cases[i].want) fail_msg("%s: %.17g", cases[i].why, v);
        assert_true(rr_scan_decimal(cases[i].digits, cases[i].exp, true, &v));
        assert_true(v == -cases[i].want);
    }
    assert_false(rr_scan_decimal(1, 400, false, &v));
}

/* ---- grapheme clusters ---- */

static void test_grapheme(void **state)
{
    static const struct {
        const char *text;
        size_t first;
        const char *why;
    } cases[] = {
        { "ab", 1, "letters" },
        { "\r\n", 2, "GB3" },
        { "\n\xcc\x81", 1, "GB4: nothing joins a control" },
        { "e\xcc\x81\xcc\x81x", 5, "GB9: marks" },
        { "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8x", 9, "GB6-8: L V T" },
        { "\xea\xb0\x80\xe1\x86\xa8", 6, "GB7: LV T" },
        { "\xea\xb0\x81\xe1\x85\xa1", 3, "LVT V is two" },
        { "\xe0\xa4\x95\xe0\xa5\x8d\xe0\xa4\xb7", 9, "GB9c: consonant, linker, consonant" },
        { "\xe0\xa4\x95\xe0\xa4\xb7", 3, "two consonants" },
        { "\xd8\x80"
          "1",
          3, "GB9b: prepend" },
        { "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7", 11, "GB11: emoji ZWJ emoji" },
        { "a\xe2\x80\x8d\xf0\x9f\x91\xa7", 4, "ZWJ after a letter joins no emoji" },
        { "\xf0\x9f\x91\xa9\xe2\x80\x8d\xe2\x80\x8d\xf0\x9f\x91\xa7", 10, "two ZWJ do not join" },
        { "\xf0\x9f\x87\xab\xf0\x9f\x87\xb7\xf0\x9f\x87\xa9", 8, "GB12: flags in twos" },
        { "\xe0\xa4\xa8\xe0\xa4\xbf", 6, "GB9a: spacing mark" },
    };
    size_t i;

    (void)state;
    assert_int_equal(rr_grapheme_next("", 0), 0);
    for (i = 0; i < RR_COUNT(cases); i++)
        if (rr_grapheme_next(cases[i].text, strlen(cases[i].text)) != cases[i].first)
            fail_msg("%s: %zu bytes, expected %zu", cases[i].why,
                     rr_grapheme_next(cases[i].text, strlen(cases[i].text)), cases[i].first);
}

static void test_byte_chars(void **state)
{
    int b;

    (void)state;
    for (b = 0; b < 256; b++) assert_int_equal(rr_char_byte(rr_byte_char((unsigned char)b)), b);
    assert_int_equal(rr_byte_char(' '), 0x120);
    assert_int_equal(rr_char_byte(' '), -1);
    assert_int_equal(rr_char_byte(0x144), -1);
}

/* ---- patterns ---- */

static void test_regex(void **state)
{
    static const struct {
        const char *pattern;
        bool literal;
        const char *text;
        const char *found; /* "from-to " of each match */
        const char *why;
    } cases[] = {
        { "a.c", true, "a.cabc", "0-3 ", "literal" },
        { "x*", false, "axxb", "0-0 1-3 4-4 ", "no empty match right after another" },
        { "", true, "ab", "0-0 1-1 2-2 ", "empty pattern" },
        { "\\s+", false, "a\xc2\x85\xe1\xa0\x8e b", "1-3 6-7 ", "U+180E is no white space" },
        { "\\p{L}+", false, "a\xf0\x91\x8e\x80z", "0-6 ", "U+11380, a letter of Unicode 16" },
        { "^b", false, "a\nb", "2-3 ", "^ at each line, as in Ruby" },
        { "(?i:'s)", false, "'S'\xc5\xbf", "0-2 2-5 ", "case folding" },
    };
    struct rr_matcher *m = rr_matcher_open();
    struct rr_error err = { 0 };
    size_t i, from, to;

    (void)state;
    assert_non_null(m);
    for (i = 0; i < RR_COUNT(cases); i++) {
        struct rr_match_iter it;
        struct rr_regex *re;
        char found[128] = "";

        assert_int_equal(rr_regex_open(&re, rr_text(cases[i].pattern), cases[i].literal, "t", &err),
                         0);
        assert_int_equal(rr_match_begin(&it, re, m, cases[i].text, strlen(cases[i].text), &err), 0);
        while (rr_match_next(&it, &from, &to, &err) > 0)
            snprintf(found + strlen(found), sizeof(found) - strlen(found), "%zu-%zu ", from, to);
        rr_match_end(&it);
        if (strcmp(found, cases[i].found) != 0)
            fail_msg("%s: %s, expected %s", cases[i].why, found, cases[i].found);
        rr_regex_close(re);
    }
    rr_matcher_close(m);
}

/* ---- pairs ---- */

static void test_pair_lengths(void **state)
{
    /* With the 4 special tokens of XLM-R: how many tokens of each text stay. */
    static const struct {
        uint32_t a, b, max, keep_a, keep_b;
        const char *why;
    } cases[] = {
        { 3, 3, 10, 3, 3, "fits exactly" },
        { 3, 9, 10, 3, 3, "the longer one gives way" },
        { 9, 3, 10, 3, 3, "in the first place, too" },
        { 9, 9, 10, 3, 3, "halves" },
        { 9, 9, 11, 3, 4, "odd: the second gets more" },
        { 10, 9, 11, 4, 3, "odd, first longer: the first gets more" },
        { 0, 9, 8, 0, 4, "one is empty" },
        { 20, 20, 4, 0, 0, "room for special tokens only" },
        { 1, 100, 8, 1, 3, "short query stays whole" },
        { 100, 3, 9, 3, 2, "both give way: halves, the odd one to the longer" },
    };
    static int32_t source[128];
    struct rr_error err = { 0 };
    struct tok_fixture f;
    int32_t ids[64], types[64];
    uint32_t n, dropped;
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(source); i++) source[i] = 100 + (int32_t)i;
    tok_fixture_open(&f, xlmr);
    for (i = 0; i < RR_COUNT(cases); i++) {
        struct rr_tok_ids a = { source, NULL, NULL, cases[i].a, false };
        struct rr_tok_ids b = { source, NULL, NULL, cases[i].b, false };

        assert_int_equal(
            rr_tok_pair(f.tok, &a, &b, cases[i].max, 0, ids, types, &n, &dropped, &err), RR_OK);
        if (n != 4 + cases[i].keep_a + cases[i].keep_b || ids[cases[i].keep_a + 1] != 2)
            fail_msg("%s: %u tokens", cases[i].why, n);
        assert_int_equal(dropped, cases[i].a + cases[i].b + 4 - n);
    }
    {
        struct rr_tok_ids a = { source, NULL, NULL, 5, false };

        assert_int_equal(rr_tok_pair(f.tok, &a, &a, 3, 0, ids, types, &n, &dropped, &err),
                         RR_EINVAL);
        assert_non_null(strstr(err.msg, "max_length 3"));
        assert_int_equal(rr_tok_single(f.tok, &a, 1, 0, ids, types, &n, &dropped, &err), RR_EINVAL);
        assert_int_equal(
            rr_tok_single(f.tok, &a, 4, RR_TOK_KEEP_END, ids, types, &n, &dropped, &err), RR_OK);
        assert_int_equal(ids[1], 103);
        assert_int_equal(ids[2], 104);
        assert_int_equal(dropped, 3);
    }
    tok_fixture_close(&f);
}

/* ---- added tokens ---- */

static void test_literal_specials(void **state)
{
    struct rr_error err = { 0 };
    struct tok_fixture f;
    struct rr_tok_ids ids;
    uint32_t i, specials;

    (void)state;
    tok_fixture_open(&f, xlmr);
    assert_int_equal(rr_tok_encode(f.tok, f.a, rr_text("a </s> b"), 0, 0, &ids, &err), RR_OK);
    for (i = specials = 0; i < ids.n; i++) specials += rr_tok_is_special(f.tok, ids.ids[i]);
    assert_int_equal(specials, 1);
    /* The text "</s>" is a piece of this vocabulary, too; written in it with full-width signs, it is
     * the same piece: what matters is that nothing is split off. */
    assert_int_equal(
        rr_tok_encode(f.tok, f.a, rr_text("a <mask> b"), 0, RR_TOK_LITERAL_SPECIALS, &ids, &err),
        RR_OK);
    assert_int_equal(rr_tok_encode(f.tok, f.b, rr_text("a <mask> b"), 0, 0, &ids, &err), RR_OK);
    assert_true(rr_tok_is_special(f.tok, ids.ids[1]));
    assert_true(rr_text_is(rr_tok_piece(f.tok, ids.ids[1]), "<mask>"));
    assert_int_equal(rr_tok_piece(f.tok, -1).len, 0);
    assert_int_equal(rr_tok_piece(f.tok, 1 << 30).len, 0);
    assert_int_equal(rr_tok_vocab_size(f.tok), 2400);
    tok_fixture_close(&f);

    tok_fixture_open(&f, "tests/golden/models/tiny-bert");
    assert_int_equal(
        rr_tok_encode(f.tok, f.a, rr_text("[SEP]"), 0, RR_TOK_LITERAL_SPECIALS, &ids, &err), RR_OK);
    assert_int_equal(ids.n > 1, 1); /* "[", "sep", "]" or so */
    for (i = 0; i < ids.n; i++) assert_int_not_equal(ids.ids[i], 3);
    tok_fixture_close(&f);
}

/* ---- the compiled form ---- */

static int32_t first_id(const char *cache_dir, bool expect_open)
{
    struct rr_error err = { 0 };
    struct rr_tok_scratch *s = NULL;
    struct rr_tok_ids ids;
    struct rr_tok *tok;
    int32_t id;

    if (rr_tok_open(&tok, xlmr, cache_dir, &err)) fail_msg("%s", err.msg);
    assert_true(expect_open);
    assert_int_equal(rr_tok_scratch_open(&s, tok, &err), RR_OK);
    assert_int_equal(rr_tok_encode(tok, s, rr_text("quatorze jours"), 0, 0, &ids, &err), RR_OK);
    id = ids.ids[0] * 1000 + (int32_t)ids.n;
    rr_tok_scratch_close(s);
    rr_tok_close(tok);
    return id;
}

static void test_cache(void **state)
{
    char dir[] = "/tmp/test_tok.XXXXXX", path[256], *image;
    struct rr_error err = { 0 };
    struct rr_tok *tok;
    size_t len, at;
    int32_t want;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    want = first_id(NULL, true);
    assert_int_equal(first_id("/nonexistent/folder", true), want);
    assert_int_equal(first_id(dir, true), want); /* writes */
    assert_int_equal(rr_tok_open(&tok, xlmr, NULL, &err), RR_OK);
    snprintf(path, sizeof(path), "%s/tokenizer-%016llx.rrtok", dir,
             (unsigned long long)rr_tok_fingerprint(tok));
    rr_tok_close(tok);
    image = tok_read(path, &len);
    assert_int_equal(first_id(dir, true), want); /* reads */
    /* Damage anywhere: found, rebuilt, and the file is whole again. */
    for (at = 0; at < len; at += at < 100 ? 3 : len / 37) {
        f = fopen(path, "wb");
        assert_non_null(f);
        image[at] ^= 0x20;
        assert_int_equal(fwrite(image, 1, len, f), len);
        image[at] ^= 0x20;
        fclose(f);
        assert_int_equal(first_id(dir, true), want);
    }
    for (at = 0; at < len; at += len / 5) { /* cut */
        f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(image, 1, at, f), at);
        fclose(f);
        assert_int_equal(first_id(dir, true), want);
    }
    free(image);
    image = tok_read(path, &at);
    assert_int_equal(at, len);
    free(image);
    unlink(path);
    rmdir(dir);
}

/* ---- size ---- */

/* Words and texts of a size that a quadratic step would not survive; memory in proportion. */
static void test_huge(void **state)
{
    static const struct {
        const char *unit;
        const char *why;
    } units[] = {
        { "a", "one word" },          { " ", "spaces only" },
        { "_", "underscores" },       { "\xcc\x81", "one cluster" },
        { "</s>", "special tokens" }, { "\xe4\xb8\xad", "no spaces in Chinese" },
        { "x. ", "many words" },      { "\xe1\x84\x80\xe1\x85\xa1", "jamo" },
        { "'", "apostrophes" },       { "\n", "lines" },
    };
    static const char *const folders[] = { "tests/golden/models/tiny-xlmr",
                                           "tests/golden/models/tiny-bert",
                                           "tests/golden/models/tiny-roberta",
                                           "tests/golden/models/tiny-xlmr-odd" };
    const size_t size = 300000;
    char *text = malloc(size);
    size_t i, k, n, now, peak;

    (void)state;
    assert_non_null(text);
    for (k = 0; k < RR_COUNT(folders); k++) {
        struct tok_fixture f;

        tok_fixture_open(&f, folders[k]);
        for (i = 0; i < RR_COUNT(units); i++) {
            size_t len = strlen(units[i].unit);
            struct rr_error err = { 0 };
            struct rr_tok_ids all, part;

            for (n = 0; n + len <= size; n += len) memcpy(text + n, units[i].unit, len);
            if (rr_tok_encode(f.tok, f.a, (struct rr_text){ text, n }, 0, 0, &all, &err) ||
                rr_tok_encode(f.tok, f.b, (struct rr_text){ text, n }, 100, 0, &part, &err))
                fail_msg("%s, %s: %s", folders[k], units[i].why, err.msg);
            assert_int_equal(part.n, RR_MIN(all.n, 100u));
            if (part.n) assert_memory_equal(part.ids, all.ids, part.n * sizeof(*part.ids));
        }
        rr_mem_usage(RR_MEM_TOKENIZER, &now, &peak);
        assert_true(peak < 64u << 20);
        tok_fixture_close(&f);
    }
    free(text);
}

/* A long document that is cut to few tokens costs little more than those. */
static void test_stops_early(void **state)
{
    const char words[] = "un petit texte avec des mots, ";
    const size_t size = 8u << 20;
    char *text = malloc(size);
    struct rr_error err = { 0 };
    struct rr_tok_ids ids;
    struct tok_fixture f;
    size_t n, now, peak, before;

    (void)state;
    assert_non_null(text);
    for (n = 0; n + sizeof(words) <= size; n += sizeof(words) - 1)
        memcpy(text + n, words, sizeof(words));
    tok_fixture_open(&f, xlmr);
    rr_mem_usage(RR_MEM_TOKENIZER, &before, &peak);
    assert_int_equal(rr_tok_encode(f.tok, f.a, (struct rr_text){ text, n }, 512, 0, &ids, &err),
                     RR_OK);
    assert_int_equal(ids.n, 512);
    assert_true(ids.cut);
    rr_mem_usage(RR_MEM_TOKENIZER, &now, &peak);
    assert_true(now < before + (1u << 20)); /* not in proportion to the text */
    tok_fixture_close(&f);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trie),         cmocka_unit_test(test_trie_many),
        cmocka_unit_test(test_decimal),      cmocka_unit_test(test_grapheme),
        cmocka_unit_test(test_byte_chars),   cmocka_unit_test(test_regex),
        cmocka_unit_test(test_pair_lengths), cmocka_unit_test(test_literal_specials),
        cmocka_unit_test(test_cache),        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_stops_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
