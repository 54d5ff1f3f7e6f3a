/* SPDX-License-Identifier: MIT */
/*
 * File descriptors that have an owner before any other code can run: the
 * number is stored here and not returned, so that no exception of a signal
 * handler can come between opening one and taking charge of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

static int
put(int result, int *fd)
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
    return put(openat(directory, path, flags | O_CLOEXEC), fd);
}

/* Open a pidfd.  Returns 0, or -errno.  See pidfd_open(2). */
int
pmadvise_descriptor_pidfd_open(int pid, unsigned int flags, int *fd)
{
    int result = pmadvise_pidfd_open(pid, flags);

    if (result < 0)
        return result;
    *fd = result;
    return 0;
}

/* Duplicate a file descriptor, close-on-exec.  Returns 0, or -errno. */
int
pmadvise_descriptor_dup(int other, int *fd)
{
    return put(fcntl(other, F_DUPFD_CLOEXEC, 0), fd);
}

/* Close it, once, whatever threads ask for that; -1 is closed already. */
void
pmadvise_descriptor_close(int *fd)
{
    int mine = __atomic_exchange_n(fd, -1, __ATOMIC_SEQ_CST);

    if (mine >= 0)
        close(mine);
}
