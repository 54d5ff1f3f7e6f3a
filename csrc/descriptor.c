/* SPDX-License-Identifier: MIT */
/* File descriptors: pidfds, and descriptors that are owned from the start. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pmadvise.h"
#include "syscall_nr.h"

/*
 * Open a pidfd for process `pid`; close-on-exec is always set by the kernel.
 * Returns the file descriptor, or -errno.  See pidfd_open(2).
 */
int
pmadvise_pidfd_open(int pid, unsigned int flags)
{
    long fd = syscall(PMADVISE_NR_PIDFD_OPEN, pid, flags);

    return fd < 0 ? -errno : (int)fd;
}

/*
 * Set `pid` to the ID of the process of `pidfd` as /proc counts, which may
 * show another pid namespace: 0 if it does not show the process, -1 if that
 * has been reaped.  Returns the flags of the file descriptor, or -errno:
 * ENOENT if there is no such file descriptor or no /proc, EINVAL if it is not
 * a pidfd.  See pidfd_open(2), proc_pid_fdinfo(5).
 */
int
pmadvise_pidfd_info(int pidfd, int *pid)
{
    char path[48], text[1024];
    const char *flags, *number;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    n = pmadvise_read_small(AT_FDCWD, path, text, sizeof(text) - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    flags = strstr(text, "\nflags:\t");
    number = strstr(text, "\nPid:\t");
    if (!flags || !number)
        return -EINVAL;
    *pid = (int)strtol(number + sizeof("\nPid:\t") - 1, NULL, 10);
    return (int)strtol(flags + sizeof("\nflags:\t") - 1, NULL, 8);
}

/*
 * Send signal `sig` to the process that `pidfd` names, as kill(2) does.
 * Returns 0, or -errno.  See pidfd_send_signal(2), Linux 5.1.
 */
int
pmadvise_pidfd_send_signal(int pidfd, int sig)
{
    return syscall(PMADVISE_NR_PIDFD_SEND_SIGNAL, pidfd, sig, NULL, 0) < 0
               ? -errno
               : 0;
}

/*
 * Store the number of a descriptor where its owner has it, and do not return
 * it: so no exception of a signal handler can come between opening one and
 * taking charge of it.
 */
static int
store(int result, int *fd)
{
    if (result < 0)
        return -errno;
    *fd = result;
    return 0;
}

/*
 * Open a file of an open directory (AT_FDCWD: path is absolute),
 * close-on-exec.  Returns 0, or -errno.  See openat(2).
 */
int
pmadvise_descriptor_openat(int directory, const char *path, int flags, int *fd)
{
    return store(openat(directory, path, flags | O_CLOEXEC), fd);
}

/* Open a pidfd for an owner.  Returns 0, or -errno.  See pidfd_open(2). */
int
pmadvise_descriptor_pidfd_open(int pid, unsigned int flags, int *fd)
{
    int result = pmadvise_pidfd_open(pid, flags);

    if (result < 0)
        return result;
    *fd = result;
    return 0;
}

/*
 * Open the directory /proc/PID of the process of `pidfd`, whose number `pid`
 * was.  Returns 0; 1 if its last thread has ended, so that the number may be
 * another's by now; or -errno.
 */
int
pmadvise_descriptor_proc(int pidfd, int pid, int *fd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    char path[32];
    int result;

    snprintf(path, sizeof(path), "/proc/%d", pid);
    result = pmadvise_descriptor_openat(AT_FDCWD, path, O_DIRECTORY, fd);
    if (result < 0)
        return result;
    while ((result = poll(&ended, 1, 0)) < 0)
        if (errno != EINTR)
            return -errno;
    return result;
}

/* Duplicate a file descriptor, close-on-exec.  Returns 0, or -errno. */
int
pmadvise_descriptor_dup(int other, int *fd)
{
    return store(fcntl(other, F_DUPFD_CLOEXEC, 0), fd);
}

/*
 * The magic number of the file system that a file is on, as in linux/magic.h.
 * Returns it, or -errno.  See fstatfs(2).
 */
int64_t
pmadvise_descriptor_filesystem(int fd)
{
    struct statfs status;

    if (fstatfs(fd, &status) < 0)
        return -errno;
    return (uint32_t)status.f_type;
}

/* Close it, once, whatever threads ask for that; -1 is closed already. */
void
pmadvise_descriptor_close(int *fd)
{
    int mine = __atomic_exchange_n(fd, -1, __ATOMIC_SEQ_CST);

    if (mine >= 0)
        close(mine);
}
