/* SPDX-License-Identifier: Apache-2.0 */
/* test_faults.c - what goes wrong with a GPU: none there, partitioned cards, memory that does not
 * suffice, calls that fail, kernels that never end.
 *
 * test_faults [BACKEND]: default cudaemul89.  Only the emulation can provoke this: nothing runs on
 * another backend. */
#include "fixture.h"

/* What the plugin holds of the emulated runtime. */
static size_t held(void)
{
    void *symbol = plugin_symbol("emul_held");
    size_t (*count)(void);

    memcpy(&count, &symbol, sizeof(count));
    return count();
}

static void set_number(const char *name, long n)
{
    char text[16];

    snprintf(text, sizeof(text), "%ld", n);
    setenv(name, text, 1);
}

/* ---- which devices ------------------------------------------------------------------------------ */

static void test_no_device(void **state)
{
    static const struct {
        const char *name, *value, *words;
    } cases[] = {
        { "EMUL_DRIVER", "0", "no NVIDIA driver" },
        { "EMUL_DRIVER", "11040", "the NVIDIA driver is for CUDA 11.4, this plugin needs one for" },
        { "EMUL_DEVICES", "0", "the driver finds no NVIDIA GPU" },
        { "EMUL_CC", "61", "has compute capability 6.1, this plugin needs 7.0" },
        { "CUDA_VISIBLE_DEVICES", "", "CUDA_VISIBLE_DEVICES is \"\" and names no device" },
        { "CUDA_VISIBLE_DEVICES", "-1", "CUDA_VISIBLE_DEVICES is \"-1\" and names no device" },
        { "CUDA_VISIBLE_DEVICES", "7", "CUDA_VISIBLE_DEVICES is \"7\" and names no device" },
        { "CUDA_VISIBLE_DEVICES", "MIG-00000000-0000-0000-0000-000000000000",
          "-000000000000\" and names no device that the driver has" }, /* the card is whole */
    };
    const struct rr_backend *b = backend();

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        const char *why = NULL;
        const struct rr_backend *found;
        struct rr_error err = { 0 };
        uint32_t n;

        setenv(cases[i].name, cases[i].value, 1);
        n = b->device_count(&why);
        if (n || !why || !strstr(why, cases[i].words) || strchr(why, '\n'))
            fail_msg("row %zu: %u devices, '%s'; expected '%s'", i, n, why, cases[i].words);
        assert_int_equal(rr_backend_find(&found, backend_name, &err), RR_EDEVICE);
        unsetenv(cases[i].name);
    }
    assert_int_equal(b->device_count(NULL), 1);
}

/* Names of devices, of three: the first of those that are left. */
static void test_visible(void **state)
{
    static const struct {
        const char *mig, *visible;
        uint32_t n;
        const char *first;
    } cases[] = {
        { NULL, "2,0", 2, "Emulated GPU 2" },
        { NULL, "1,9,0", 1, "Emulated GPU 1" }, /* what follows a mistake does not count */
        { NULL, "GPU-00000000-0000-0000-0000-000000000001", 1, "Emulated GPU 1" },
        { "1", "MIG-00000000-0000-0000-0000-000000000002", 1, "Emulated GPU 2" },
    };
    struct rr_device_options opt = { .dtype = "f32" };
    struct rr_device_info info;
    struct rr_error err = { 0 };
    struct rr_device *d;

    (void)state;
    setenv("EMUL_DEVICES", "3", 1);
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        if (cases[i].mig) setenv("EMUL_MIG", cases[i].mig, 1);
        setenv("CUDA_VISIBLE_DEVICES", cases[i].visible, 1);
        assert_int_equal(backend()->device_count(NULL), cases[i].n);
        assert_int_equal(backend()->open(&d, &opt, &err), RR_OK);
        backend()->describe(d, &info);
        assert_string_equal(info.name, cases[i].first);
        backend()->close(d);
        opt.index = cases[i].n;
        assert_int_equal(backend()->open(&d, &opt, &err), RR_EDEVICE);
        assert_non_null(strstr(err.msg, "there is no GPU"));
        opt.index = 0;
        unsetenv("EMUL_MIG");
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
    unsetenv("EMUL_DEVICES");
}

static void test_refused(void **state)
{
    static const struct {
        const char *cc, *compiled, *dtype;
        int code;
        const char *words;
    } cases[] = {
        { "89", "89", "fp4", RR_EINVAL, "dtype is \"fp4\"" },
        { "75", "75", "bf16", RR_ENOTSUP,
          "bf16 needs compute capability 8.0, this GPU has 7.5: use f16" },
        { "75", "75", "fp8", RR_ENOTSUP,
          "fp8 needs compute capability 8.9, this GPU has 7.5: use int8" },
        { "70", "70", "int8", RR_ENOTSUP,
          "int8 needs compute capability 7.5, this GPU has 7.0: use f16" },
        { "89", "80", "fp8", RR_ENOTSUP,
          "fp8 needs compute capability 8.9, this build has code for 8.0: use int8" },
        { "89", "0", "f16", RR_EDEVICE, "8.9, for which this plugin has no code" },
    };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct rr_device_options opt = { .dtype = cases[i].dtype };
        struct rr_error err = { 0 };
        struct rr_device *d;

        setenv("EMUL_CC", cases[i].cc, 1);
        setenv("EMUL_CODE", cases[i].compiled, 1);
        assert_int_equal(backend()->open(&d, &opt, &err), cases[i].code);
        if (!strstr(err.msg, cases[i].words)) fail_msg("'%s'", err.msg);
        unsetenv("EMUL_CC");
        unsetenv("EMUL_CODE");
    }
}

/* A device is not opened that computes wrongly, or otherwise in large batches than alone.  The first
 * test: what was found right is not checked again. */
static void test_wrong(void **state)
{
    static const struct {
        const char *bytes, *words; /* of the copy to the host that goes wrong */
    } cases[] = { { "1", "computes wrongly in f16: 0.2" }, { "4096", " in the self-check, 0." } };

    (void)state;
    for (size_t i = 0; i < RR_COUNT(cases); i++) {
        struct rr_device_options opt = { .dtype = "f16" };
        struct rr_error err = { 0 };
        struct rr_device *d;

        setenv("EMUL_WRONG", cases[i].bytes, 1);
        assert_int_equal(backend()->open(&d, &opt, &err), RR_EDEVICE);
        unsetenv("EMUL_WRONG");
        if (!strstr(err.msg, cases[i].words)) fail_msg("'%s'", err.msg);
        if (!!strstr(err.msg, "among others") != (i == 1)) fail_msg("'%s'", err.msg);
    }
    backend()->close(open_as("f16"));
}

/* ---- figures ------------------------------------------------------------------------------------ */

static const struct {
    const char *nvml; /* its bits */
    uint32_t reasons;
} throttles[] = { { "0x4", RR_THROTTLE_POWER },
                  { "0x80", RR_THROTTLE_POWER },
                  { "0x20", RR_THROTTLE_THERMAL },
                  { "0x48", RR_THROTTLE_THERMAL | RR_THROTTLE_HARDWARE },
                  { "0x102", RR_THROTTLE_SETTING } };

static void test_figures(void **state)
{
    struct rr_device_options opt = { .index = 1, .dtype = "auto" };
    struct rr_device_info info;
    struct rr_device_stats stats;
    struct rr_error err = { 0 };
    struct rr_device *d;

    (void)state;
    setenv("EMUL_DEVICES", "2", 1);
    assert_int_equal(backend()->open(&d, &opt, &err), RR_OK);
    backend()->describe(d, &info);
    assert_string_equal(info.name, "Emulated GPU 1");
    assert_string_equal(info.dtype, "f16");
    assert_true(info.memory_total == (uint64_t)512 << 20);
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.memory_total == info.memory_total); /* NVML does not know this one */
    assert_true(stats.utilization < 0 && stats.celsius < 0 && stats.watts < 0);
    backend()->close(d);
    unsetenv("EMUL_DEVICES");
    d = open_as("f32");
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.memory_used == (uint64_t)100 << 20);
    assert_true(stats.utilization == 0.25f && stats.celsius == 41 && stats.watts == 33.5f);
    assert_int_equal(stats.throttled, 0); /* idle is no reason */
    for (size_t i = 0; i < RR_COUNT(throttles); i++) {
        setenv("EMUL_THROTTLE", throttles[i].nvml, 1);
        assert_int_equal(backend()->stats(d, &stats), RR_OK);
        assert_int_equal(stats.throttled, throttles[i].reasons);
    }
    unsetenv("EMUL_THROTTLE");
    backend()->close(d);
}

/* An instance has no load, and the memory of the card is not its own. */
static void test_instance(void **state)
{
    struct rr_device_stats stats;
    struct rr_device *d;

    (void)state;
    setenv("EMUL_MIG", "1", 1);
    d = open_as("f32");
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.utilization < 0);
    assert_true(stats.memory_used == (uint64_t)100 << 20);
    assert_true(stats.memory_total == (uint64_t)512 << 20);
    assert_true(stats.celsius == 41 && stats.watts == 33.5f);
    setenv("EMUL_MIG", "hidden", 1); /* NVML has no handle of it for us */
    assert_int_equal(backend()->stats(d, &stats), RR_OK);
    assert_true(stats.utilization < 0 && stats.memory_used == 0);
    assert_true(stats.memory_total == (uint64_t)512 << 20); /* CUDA's */
    unsetenv("EMUL_MIG");
    backend()->close(d);
}

/* ---- memory ------------------------------------------------------------------------------------- */

/* For what is run hundreds of times. */
static void shorten(struct fixture *f)
{
    uint64_t seed = 3;

    batch_clear(&f->b);
    batch_add(&f->b, 3, WORDS, 2, TYPES, &seed);
}

/* Opens, loads and runs; leaves nothing open. */
static int once(struct fixture *f, const char *dtype)
{
    struct rr_device_options opt = { .dtype = dtype };
    int rc = backend()->open(&f->d, &opt, &f->err);

    if (!rc) rc = fixture_load(f);
    if (!rc) rc = fixture_run(f);
    fixture_close(f);
    return rc;
}

/* The emulation's failing allocations are counted by name: that one and all after it, or it alone. */
static void test_memory(void **state)
{
    const char *name = *state;
    struct fixture f;
    int rc = RR_ENOMEM, n;

    fixture_make(&f, &networks[0]);
    shorten(&f);
    for (n = 1; rc; n++) {
        size_t before = held();

        assert_true(n < 100);
        set_number(name, n);
        rc = once(&f, "f16");
        unsetenv(name);
        if (rc != RR_OK && (rc != RR_ENOMEM || !strstr(f.err.msg, "out of memory")))
            fail_msg("%s %d: %d, '%s'", name, n, rc, f.err.msg);
        if (held() != before) fail_msg("%s %d: %zu objects are left", name, n, held() - before);
        assert_int_equal(once(&f, "f16"), RR_OK); /* and the next one has it all */
    }
    assert_true(n >
                10); /* weights, workspace, batch, page-locked, stream, graphs; the self-check's */
    fixture_free(&f);
}

/* A batch that the driver has no memory to start can be tried again, in parts. */
static void test_memory_of_a_batch(void **state)
{
    struct fixture f;
    float whole[8];

    (void)state;
    fixture_open(&f, &networks[0], "f16");
    fixture_must_run(&f);
    memcpy(whole, f.logits, sizeof(whole));
    set_number("EMUL_FAIL_ONE", 1);
    assert_int_equal(fixture_run(&f), RR_ENOMEM);
    unsetenv("EMUL_FAIL_ONE");
    memset(f.logits, 0, sizeof(f.logits));
    fixture_must_run(&f);
    assert_memory_equal(f.logits, whole, f.b.b.n_sequences * sizeof(float));
    fixture_free(&f);
}

static void test_does_not_fit(void **state)
{
    struct rr_limits limits = { 1 << 20, 8, 200 };
    struct rr_memory m;
    unsigned long fits;
    struct fixture f;
    char *at;

    (void)state;
    fixture_make(&f, &networks[0]);
    f.d = open_as("f16");
    assert_int_equal(backend()->plan(f.d, &f.p.p, &limits, &m, &f.err), RR_OK);
    assert_true(m.workspace > (uint64_t)512 << 20 && m.weights > 0 && m.mapped == 0);
    assert_true(m.available > (uint64_t)400 << 20 && m.available < (uint64_t)512 << 20);
    assert_int_equal(backend()->load(f.d, &f.p.p, &limits, &f.l, &f.err), RR_ENOMEM);
    assert_null(f.l);
    if (!strstr(f.err.msg, "the model needs ") || !strstr(f.err.msg, " of 512 MiB are free: ") ||
        !strstr(f.err.msg, ", --dtype int8 needs "))
        fail_msg("'%s'", f.err.msg);
    at = strstr(f.err.msg, "--batch-tokens ");
    assert_non_null(at);
    fits = strtoul(at + 15, NULL, 10);
    for (unsigned i = 0; i < 2; i++) { /* what is offered fits, and nothing much larger does */
        limits.max_tokens = (uint32_t)fits + i * 64;
        assert_int_equal(backend()->load(f.d, &f.p.p, &limits, &f.l, &f.err),
                         i ? RR_ENOMEM : RR_OK);
        backend()->unload(f.l);
        f.l = NULL;
    }
    set_number("EMUL_MEMORY", 96);
    assert_int_equal(backend()->load(f.d, &f.p.p, &limits, &f.l, &f.err), RR_ENOMEM);
    if (!strstr(f.err.msg, "not even one pair of 200 tokens fits")) fail_msg("'%s'", f.err.msg);
    unsetenv("EMUL_MEMORY");
    fixture_free(&f);
}

/* ---- errors that stay --------------------------------------------------------------------------- */

/* Everything says so until the device is closed; then it can be opened again. */
static void test_lost(void **state)
{
    struct rr_device_options opt = { .dtype = "f32" };
    struct rr_device *other, *again;
    struct fixture f;

    (void)state;
    fixture_open(&f, &networks[0], "f32");
    other = open_as("f16");
    fixture_must_run(&f);
    setenv("EMUL_STICKY", "1", 1);
    assert_int_equal(fixture_run(&f), RR_EDEVICE);
    assert_non_null(strstr(f.err.msg, "GPU 0 failed: an illegal memory access"));
    assert_int_equal(fixture_run(&f), RR_EDEVICE);
    assert_non_null(strstr(f.err.msg, "was lost"));
    fixture_close(&f);
    assert_int_equal(backend()->open(&again, &opt, &f.err), RR_EDEVICE);
    assert_non_null(strstr(f.err.msg, "still hold it"));
    backend()->close(other);
    assert_int_equal(once(&f, "f32"), RR_OK);
    fixture_free(&f);
}

/* Whichever call meets it. */
static void test_sticky_call(void **state)
{
    struct fixture f;
    bool over = false;
    int n;

    (void)state;
    fixture_make(&f, &networks[0]);
    shorten(&f);
    for (n = 1; !over; n += 3) { /* calls of a kind come in rows */
        int rc;

        assert_true(n < 1000);
        set_number("EMUL_STICKY_CALL", n);
        rc = once(&f, "f16");
        over = strcmp(getenv("EMUL_STICKY_CALL"), "0") != 0; /* so many calls there are not */
        unsetenv("EMUL_STICKY_CALL");
        if (rc != RR_OK && (rc != RR_EDEVICE || !strstr(f.err.msg, "GPU")))
            fail_msg("call %d: %d, '%s'", n, rc, f.err.msg);
        rc = once(&f, "f16");
        /* An error that struck while all was being given back shows at the next opening only. */
        if (rc == RR_EDEVICE) rc = once(&f, "f16");
        if (rc) fail_msg("after call %d failed: %d, '%s'", n, rc, f.err.msg);
        if (held()) fail_msg("after call %d failed: %zu objects are left", n, held());
    }
    print_message("%d calls\n", n - 2);
    assert_true(n > 40);
    fixture_free(&f);
}

/* ---- kernels that do not end -------------------------------------------------------------------- */

/* Given up in time, nothing of it is freed, and the device opens again when they have ended. */
static void test_hang(void **state)
{
    struct rr_device_options opt = { .dtype = "f32", .hang_ns = 50000000 };
    struct rr_device *again;
    struct fixture f;
    size_t before;

    (void)state;
    fixture_make(&f, &networks[0]);
    shorten(&f);
    assert_int_equal(backend()->open(&f.d, &opt, &f.err), RR_OK);
    assert_int_equal(fixture_load(&f), RR_OK);
    before = held();
    setenv("EMUL_HANG", "1", 1); /* the first batch: later ones may take ten times what is usual */
    assert_int_equal(fixture_run(&f), RR_EDEVICE);
    if (!strstr(f.err.msg, "GPU 0 has not answered for 50 ms")) fail_msg("'%s'", f.err.msg);
    assert_int_equal(fixture_run(&f), RR_EDEVICE);
    assert_non_null(strstr(f.err.msg, "was lost"));
    fixture_close(&f);
    assert_int_equal(held(), before); /* the device may still write there */
    assert_int_equal(backend()->open(&again, &opt, &f.err), RR_EDEVICE);
    if (!strstr(f.err.msg, "GPU 0 still hangs in a kernel")) fail_msg("'%s'", f.err.msg);
    setenv("EMUL_HANG_MS", "1", 1); /* now it has ended */
    assert_int_equal(once(&f, "f32"), RR_OK);
    assert_int_equal(held(), 0);
    unsetenv("EMUL_HANG_MS");
    unsetenv("EMUL_HANG");
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_visible),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_instance),
        { "test_memory, from then on", test_memory, NULL, NULL, (void *)"EMUL_FAIL_ALLOC" },
        { "test_memory, once", test_memory, NULL, NULL, (void *)"EMUL_FAIL_ONE" },
        cmocka_unit_test(test_memory_of_a_batch),
        cmocka_unit_test(test_does_not_fit),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_sticky_call),
        cmocka_unit_test(test_hang),
    };

    if (argc > 1) backend_name = argv[1];
    if (!emulated()) {
        printf("SKIP: %s is no emulation\n", backend_name);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
