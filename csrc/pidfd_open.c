/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <sys/types.h>
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
