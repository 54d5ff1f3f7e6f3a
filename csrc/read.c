/* SPDX-License-Identifier: MIT */
/* Files of /proc, which give about a page a read. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

/*
 * Read from `offset` on until the file ends or `size` bytes are there.
 * Returns the bytes read, less than `size` only at the end of the file; or
 * -errno.  See pread(2).
 */
ssize_t
pmadvise_pread(int fd, char *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, buffer + done, size - done,
                          (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/*
 * Read a small file of an open directory that the kernel makes in one piece,
 * as status and stat of /proc/PID: by one read(2).  Returns the bytes read, of
 * which `size` may cut off some; or -errno.
 */
ssize_t
pmadvise_read_small(int directory, const char *path, char *buffer, size_t size)
{
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    do
        n = read(fd, buffer, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        n = -errno;
    close(fd);
    return n;
}

/*
 * Read a file of an open directory (AT_FDCWD: path is absolute) from its
 * beginning, until it ends or `size` bytes are there.  Returns the bytes
 * read, or -errno.  See openat(2), read(2).
 */
ssize_t
pmadvise_read_file(int directory, const char *path, char *buffer, size_t size)
{
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = pmadvise_pread(fd, buffer, size, 0);
    close(fd);
    return n;
}
