/* SPDX-License-Identifier: Apache-2.0 */
/* replay_main.c - runs a fuzz target on stored inputs, without a fuzzer.
 *
 *     replay_NAME FOLDER_OR_FILE...
 *
 * Every file counts as one case; every prefix of a short file is fed too.  The last byte of an input
 * touches a page without access, so that reading past the end stops the program under any build.
 * Ends with "N passed, N failed"; a crash is what a failure looks like. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIXES_UP_TO 1024 /* bytes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned n_files;

static void feed(const char *bytes, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (len + page - 1) / page * page;
    char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + room, page, PROT_NONE)) {
        perror("mmap");
        exit(1);
    }
    if (len) memcpy(map + room - len, bytes, len);
    LLVMFuzzerTestOneInput((const uint8_t *)map + room - len, len);
    munmap(map, room + page);
}

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *bytes;
    size_t len, i;

    if (!f || fstat(fileno(f), &st)) {
        perror(path);
        exit(1);
    }
    bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) exit(1);
    len = fread(bytes, 1, (size_t)st.st_size, f);
    fclose(f);
    printf("%s\n", path);
    fflush(stdout); /* a crash must leave the name of its input behind */
    for (i = 0; len <= PREFIXES_UP_TO && i < len; i++) feed(bytes, i);
    feed(bytes, len);
    free(bytes);
    n_files++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void replay(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, by_name), i;

    if (n < 0) {
        replay_file(path);
        return;
    }
    for (i = 0; i < n; i++) {
        char name[4096];

        if (entries[i]->d_name[0] != '.') {
            snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
            replay(name);
        }
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    int i;

    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    for (i = 1; i < argc; i++) replay(argv[i]);
    printf("%u passed, %d failed\n", n_files, n_files == 0);
    return n_files == 0;
}
