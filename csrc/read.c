/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc, which give about a page a read; and the few numbers of
 * /proc/PID/status and stat that daemons often look at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

enum { BLOCK = 1 << 13 };

/* proc_pid_stat(5): the fields of stat by their number */
enum {
    STATE = 3,
    PPID = 4,
    MAJFLT = 12,
    UTIME = 14,
    STIME = 15,
    NUM_THREADS = 20,
    STARTTIME = 22
};

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

/*
 * The value of a line "name:\t  number kB" in bytes, 0 if there is none.  A
 * name of a process begins no line: the kernel escapes its newlines.
 */
static void
kilobytes(const char *line, const char *name, uint64_t *value)
{
    size_t length = strlen(name);

    if (strncmp(line, name, length) == 0)
        *value = strtoull(line + length, NULL, 10) * 1024;
}

static void
line_of_status(const char *line, struct pmadvise_status *status)
{
    char *behind;

    switch (line[0]) { /* most of sixty lines are of no use */
    case 'R':
        kilobytes(line, "RssAnon:", &status->anonymous);
        kilobytes(line, "RssFile:", &status->file);
        kilobytes(line, "RssShmem:", &status->shmem);
        break;
    case 'V':
        kilobytes(line, "VmRSS:", &status->rss);
        kilobytes(line, "VmSwap:", &status->swap);
        kilobytes(line, "VmLck:", &status->locked);
        break;
    case 'U':
        if (strncmp(line, "Uid:", 4) == 0) { /* real, effective, ... */
            strtoul(line + 4, &behind, 10);
            status->uid = (uint32_t)strtoul(behind, NULL, 10);
        }
        break;
    default:
        break;
    }
}

/* The name that stat has in brackets; it may hold anything, brackets too. */
static void
copy_name(const char *text, const char *end, struct pmadvise_status *status)
{
    const char *begin = strchr(text, '(');
    size_t length;

    if (!begin || begin >= end)
        return;
    length = (size_t)(end - begin - 1);
    if (length > sizeof(status->name))
        length = sizeof(status->name);
    memcpy(status->name, begin + 1, length);
    status->name_length = (unsigned char)length;
}

/*
 * Read the sizes, line by line: 65,536 groups, or a mask of very many CPUs,
 * make a line longer than the block; of that, all but the end is passed over.
 */
static int
read_status(int proc, struct pmadvise_status *status)
{
    char text[BLOCK + 1];
    size_t used = 0;
    int fd = openat(proc, "status", O_RDONLY | O_CLOEXEC);
    int error = 0;

    if (fd < 0)
        return -errno;
    for (bool more = true; more;) {
        ssize_t n = read(fd, text + used, BLOCK - used);
        char *line = text, *newline;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error = -errno;
            break;
        }
        /* the kernel has all of it at once */
        more = (size_t)n == BLOCK - used;
        used += (size_t)n;
        text[used] = '\0';
        for (; (newline = strchr(line, '\n')); line = newline + 1)
            line_of_status(line, status);
        used -= (size_t)(line - text);
        if (used == BLOCK)
            used = 0;
        memmove(text, line, used);
    }
    close(fd);
    return error;
}

/*
 * Read name, state, sizes and times of the process whose /proc/PID is
 * `proc`: sizes are 0 where it has no memory.  Returns 0, or -errno: ENOENT or
 * ESRCH when it is gone.  See proc_pid_status(5), proc_pid_stat(5).
 */
int
pmadvise_status_read(int proc, struct pmadvise_status *status)
{
    char text[1024];
    const char *at;
    ssize_t n;
    int error;

    memset(status, 0, sizeof(*status));
    error = read_status(proc, status);
    if (error)
        return error;
    n = pmadvise_read_small(proc, "stat", text, sizeof(text) - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    /* the name, which may hold anything, ends at the last bracket */
    at = strrchr(text, ')');
    if (!at)
        return -EPROTO;
    copy_name(text, at, status);
    for (int field = STATE; *at && field <= STARTTIME; field++) {
        at += strcspn(at, " ");
        at += *at == ' ';
        if (field == STATE)
            status->state = *at;
        else if (field == PPID)
            status->parent = (int)strtoull(at, NULL, 10);
        else if (field == MAJFLT)
            status->major_faults = strtoull(at, NULL, 10);
        else if (field == UTIME || field == STIME)
            status->cpu_ticks += strtoull(at, NULL, 10);
        else if (field == NUM_THREADS)
            status->threads = strtoull(at, NULL, 10);
        else if (field == STARTTIME)
            status->start_ticks = strtoull(at, NULL, 10);
    }
    return *at ? 0 : -EPROTO;
}
