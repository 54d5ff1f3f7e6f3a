/* SPDX-License-Identifier: MIT */
/* The process of a pidfd, by /proc/self/fdinfo. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "pmadvise.h"

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
