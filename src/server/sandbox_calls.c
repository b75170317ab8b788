/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_calls.c - the system calls that serving needs, by libseccomp (sandbox.h).
 * What is not listed answers ENOSYS, so that libraries fall back to older calls; what nobody should
 * try answers EPERM. */
#include "server/sandbox_calls.h"

#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "server/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#define NAMESPACES \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)

/* Some exist on some processors only. */
static const char *const allowed[] = {
    /* memory */
    "brk",
    "madvise",
    "mincore",
    "mlock",
    "mlock2",
    "mmap",
    "mmap2",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munmap",
    "membarrier",
    "memfd_create",
    "get_mempolicy",
    "mbind",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "move_pages",
    /* threads and time */
    "arch_prctl",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getcpu",
    "getpriority",
    "getrlimit",
    "getrusage",
    "gettid",
    "gettimeofday",
    "nanosleep",
    "prctl",
    "prlimit64",
    "restart_syscall",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setpriority",
    "setrlimit",
    "sysinfo",
    "time",
    "timer_create",
    "timer_delete",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    "uname",
    "wait4",
    "waitid",
    "alarm",
    "setitimer",
    /* signals */
    "pause",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigreturn",
    "tgkill",
    /* who and where */
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgrp",
    "getpid",
    "getppid",
    "getresgid",
    "getresuid",
    "getsid",
    "getuid",
    "umask",
    "getrandom",
    /* files */
    "access",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchmod",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "flock",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getdents64",
    "ioctl",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe",
    "pipe2",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statx",
    "sync_file_range",
    "unlink",
    "unlinkat",
    "utimensat",
    "write",
    "writev",
    "fchown",
    "chmod",
    "fchmodat",
    /* waiting and the network */
    "accept",
    "accept4",
    "bind",
    "connect",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "getpeername",
    "getsockname",
    "getsockopt",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "listen",
    "poll",
    "ppoll",
    "pselect6",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "select",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
};

static const char *const forbidden[] = {
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setuid",
    "setgid",
    "setns",
    "unshare",
    "bpf",
    "perf_event_open",
    "init_module",
    "finit_module",
    "kexec_load",
    "reboot",
    "swapon",
    "keyctl",
    "add_key",
    "request_key",
    "userfaultfd",
    "io_uring_setup",
    "fork",
    "vfork",
};

bool rr_sandbox_wanted(const struct rr_settings *s)
{
    if (strcmp(s->sandbox, "off") == 0) return false;
    return strcmp(s->sandbox, "on") == 0 || !SANITIZED;
}

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        int call = seccomp_syscall_resolve_name(names[i]);

        if (call == __NR_SCMP_ERROR || call < 0) continue; /* not on this processor */
        if (seccomp_rule_add(filter, action, call, 0) < 0) return -1;
    }
    return 0;
}

/* Local and Internet sockets only; threads but no namespaces (clone3 hides its flags, so it is not
 * there); signals to ourselves only. */
static int add_conditions(scmp_filter_ctx filter)
{
    static const int families[] = { AF_UNIX, AF_INET, AF_INET6 };
    size_t i;
    int bad;

    for (i = 0; i < RR_COUNT(families); i++)
        if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0)) < 0)
            return -1;
    bad = seccomp_rule_add(
        filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
        SCMP_A0(SCMP_CMP_MASKED_EQ, (scmp_datum_t)NAMESPACES | CLONE_THREAD, CLONE_THREAD));
    if (bad >= 0)
        bad = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return bad < 0 ? -1 : 0;
}

int rr_sandbox_calls(const struct rr_settings *s, bool *on, struct rr_error *err)
{
    scmp_filter_ctx filter;
    int bad;

    *on = false;
    if (!rr_sandbox_wanted(s)) return RR_OK;
    filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    bad = !filter || seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) < 0 ||
          seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0 ||
          add_names(filter, SCMP_ACT_ALLOW, allowed, RR_COUNT(allowed)) ||
          add_names(filter, SCMP_ACT_ERRNO(EPERM), forbidden, RR_COUNT(forbidden)) ||
          add_conditions(filter) || seccomp_load(filter) < 0;
    if (filter) seccomp_release(filter);
    *on = !bad;
    if (bad && strcmp(s->sandbox, "on") == 0)
        return rr_fail(err, RR_ENOTSUP,
                       "sandbox: this kernel takes no system call filter (--sandbox auto does "
                       "without)");
    return RR_OK;
}
