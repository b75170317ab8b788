/* SPDX-License-Identifier: Apache-2.0 */
/* test_file.c - base/file in a folder of its own: kinds of files, limits, atomic writes, faults. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/fault.h"

static char folder[] = "/tmp/rerankd-test-XXXXXX";
static char path[512];

/* The path of name in the test's folder; valid until the next call. */
static const char *in_folder(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *data, size_t len)
{
    FILE *f = fopen(in_folder(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static size_t n_files(void)
{
    DIR *d = opendir(folder);
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static void test_map(void **state)
{
    struct rr_file f;
    struct rr_error err;

    (void)state;
    put("a", "hello", 5);
    assert_int_equal(rr_file_map(&f, in_folder("a"), &err), RR_OK);
    assert_int_equal(f.len, 5);
    assert_memory_equal(f.data, "hello", 5);
    rr_file_drop(f.data, f.len);
    assert_memory_equal(f.data, "hello", 5);
    rr_file_unmap(&f);
    assert_int_equal(f.len, 0);
    rr_file_unmap(&f);

    put("empty", "", 0);
    assert_int_equal(rr_file_map(&f, in_folder("empty"), &err), RR_OK);
    assert_int_equal(f.len, 0);
    assert_string_equal(f.data, "");
    rr_file_unmap(&f);
}

static void test_map_refuses(void **state)
{
    static const struct {
        const char *name;
        int rc;
        const char *msg, *why;
    } cases[] = {
        { "nothing", RR_ENOENT, "cannot open", "not there" },
        { "a/b", RR_ENOENT, "cannot open", "a file is no folder" },
        { "dir", RR_EIO, "found a folder, expected a regular file", "folder" },
        { "pipe", RR_EIO, "found a pipe, expected a regular file", "pipe: must not block" },
    };
    struct rr_file f;
    struct rr_error err;
    size_t i;

    (void)state;
    put("a", "x", 1);
    assert_int_equal(mkdir(in_folder("dir"), 0700), 0);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    for (i = 0; i < RR_COUNT(cases); i++) {
        int rc = rr_file_map(&f, in_folder(cases[i].name), &err);

        if (rc != cases[i].rc || !strstr(err.msg, cases[i].msg) || !strstr(err.msg, path)) {
            fail_msg("%s: %d, %s", cases[i].why, rc, err.msg);
        }
        assert_int_equal(f.len, 0);
    }
    assert_int_equal(rr_file_map(&f, "/dev/null", &err), RR_EIO);
    assert_non_null(strstr(err.msg, "a device"));
}

static void test_read(void **state)
{
    static const size_t sizes[] = { 0, 1, 255, 256, 16383, 16384, 16385, 100000 };
    struct rr_error err;
    char *data, *got;
    size_t i, len;

    (void)state;
    data = malloc(100000);
    assert_non_null(data);
    for (i = 0; i < 100000; i++) data[i] = (char)(i * 7 % 251);
    for (i = 0; i < RR_COUNT(sizes); i++) {
        put("r", data, sizes[i]);
        assert_int_equal(rr_file_read(&got, &len, in_folder("r"), sizes[i], RR_MEM_MISC, &err),
                         RR_OK);
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(got, data, len);
        assert_int_equal(got[len], 0);
        rr_free(got);
        assert_int_equal(rr_file_read(&got, &len, path, SIZE_MAX, RR_MEM_MISC, &err), RR_OK);
        assert_int_equal(len, sizes[i]);
        rr_free(got);
        if (sizes[i] == 0) continue;
        assert_int_equal(rr_file_read(&got, &len, path, sizes[i] - 1, RR_MEM_MISC, &err),
                         RR_ETOOBIG);
        assert_null(got);
        assert_int_equal(len, 0);
    }
    free(data);
    assert_int_equal(rr_file_read(&got, &len, "/proc/self/status", 1 << 20, RR_MEM_MISC, &err),
                     RR_OK); /* says that it is empty, and is not */
    assert_true(len > 100);
    rr_free(got);
    assert_int_equal(rr_file_read(&got, &len, in_folder("nothing"), 9, RR_MEM_MISC, &err),
                     RR_ENOENT);
    assert_int_equal(rr_file_read(&got, &len, folder, 9, RR_MEM_MISC, &err), RR_EIO);
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(rr_file_read_regular(&got, &len, in_folder("fifo"), 9, RR_MEM_MISC, &err),
                     RR_EIO); /* and does not wait for a writer */
    assert_non_null(strstr(err.msg, "fifo: found a pipe, expected a regular file"));
    assert_int_equal(rr_file_read_regular(&got, &len, "/dev/zero", 9, RR_MEM_MISC, &err), RR_EIO);
    assert_int_equal(rr_file_read_regular(&got, &len, in_folder("r"), SIZE_MAX, RR_MEM_MISC, &err),
                     RR_OK);
    rr_free(got);
    assert_int_equal(fault_memory_in_use(), 0);
}

static void test_write(void **state)
{
    struct rr_error err;
    struct stat st;
    size_t before, len;
    char *got, longer[5000];

    (void)state;
    put("w", "old and longer", 14);
    before = n_files();
    assert_int_equal(rr_file_write(in_folder("w"), "new", 3, &err), RR_OK);
    assert_int_equal(rr_file_read(&got, &len, path, 100, RR_MEM_MISC, &err), RR_OK);
    assert_string_equal(got, "new");
    rr_free(got);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0400, 0400);
    assert_int_equal(n_files(), before); /* no temporary file stays */

    assert_int_equal(rr_file_write(in_folder("no/such"), "x", 1, &err), RR_ENOENT);
    assert_int_equal(rr_file_write(folder, "x", 1, &err), RR_EIO); /* rename over a folder */
    assert_int_equal(n_files(), before);
    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    assert_int_equal(rr_file_write(longer, "x", 1, &err), RR_EINVAL);
}

/* A process that is killed while it writes leaves a file behind, which may be large.  The next one
 * may have the same number (in a container it is 1 each time), and removes it, but not that of one
 * that writes still, nor what only looks like it. */
static void test_write_after_kill(void **state)
{
    char name[64];
    struct rr_error err;
    size_t before;
    int fd;

    (void)state;
    before = n_files();
    for (int i = 0; i < 100; i++) { /* as they were called by the number of the process */
        snprintf(name, sizeof(name), "k.%ld.%d.tmp", (long)getpid(), i);
        put(name, "x", 1);
    }
    put("k.0123456789abcdef.tmp", "left", 4);
    put("k.0123456789abcdeg.tmp", "no hexadecimal digit", 20);
    put("k2.0123456789abcdef.tmp", "of another file", 15);
    put("k.fedcba9876543210.tmp", "in work", 7);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(rr_file_write(in_folder("k"), "new", 3, &err), RR_OK);
    assert_int_equal(access(in_folder("k.0123456789abcdef.tmp"), F_OK), -1);
    assert_int_equal(n_files(), before + 100 + 4); /* the three others and k */
    close(fd);
    assert_int_equal(rr_file_write(in_folder("k"), "newer", 5, &err), RR_OK);
    assert_int_equal(n_files(), before + 100 + 3);
}

static void test_paths(void **state)
{
    static const struct {
        const char *dir, *name, *out;
    } cases[] = {
        { "a", "b", "a/b" },
        { "a/", "b", "a/b" },
        { "/", "b", "/b" },
        { "", "b", "b" },
    };
    char out[8];
    size_t i;

    (void)state;
    for (i = 0; i < RR_COUNT(cases); i++) {
        assert_true(rr_path_join(out, sizeof(out), cases[i].dir, cases[i].name));
        assert_string_equal(out, cases[i].out);
    }
    assert_true(rr_path_join(out, sizeof(out), "abc", "def"));
    assert_false(rr_path_join(out, sizeof(out), "abc", "defg"));
    assert_true(rr_file_exists(folder));
    assert_false(rr_file_exists(in_folder("nothing")));
}

static void test_drop_keeps_neighbours(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), i;
    char *p = rr_pages_alloc(RR_MEM_MISC, 3 * page);

    (void)state;
    assert_non_null(p);
    memset(p, 1, 3 * page);
    rr_file_drop(p + 1, 2 * page); /* whole pages inside: the second alone */
    for (i = 0; i < 3 * page; i++) assert_int_equal(p[i], i / page == 1 ? 0 : 1);
    rr_file_drop(p + 1, page - 2);
    assert_int_equal(p[1], 1);
    rr_pages_free(RR_MEM_MISC, p, 3 * page);
}

static int read_one(void *user)
{
    struct rr_error err;
    size_t len;
    char *got;
    int rc = rr_file_read(&got, &len, user, SIZE_MAX, RR_MEM_MISC, &err);

    rr_free(got);
    return rc;
}

static void test_faults(void **state)
{
    char name[] = "/proc/self/smaps"; /* long, and its size is not known beforehand */
    struct fault_report r = fault_each(read_one, name);

    (void)state;
    assert_true(r.allocations >= 1);
    assert_int_equal(r.survived, 0);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    DIR *d = opendir(folder);
    struct dirent *e;

    (void)state;
    while (d && (e = readdir(d))) {
        if (e->d_name[0] != '.') (void)remove(in_folder(e->d_name));
    }
    if (d) closedir(d);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_refuses),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_after_kill),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_drop_keeps_neighbours),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("file", tests, make_folder, remove_folder);
}
