/* SPDX-License-Identifier: MIT */
/* The few numbers of /proc/PID/status and stat that daemons often look at. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "pmadvise.h"

enum { SIZE = 1 << 14 }; /* of status: a mask of 8,192 CPUs has 2,304 bytes */

/* proc_pid_stat(5): the fields of stat by their number */
enum {
    STATE = 3,
    MAJFLT = 12,
    UTIME = 14,
    STIME = 15,
    NUM_THREADS = 20,
    STARTTIME = 22
};

static int
read_text(int proc, const char *name, char *text)
{
    ssize_t n = pmadvise_read_small(proc, name, text, SIZE - 1);

    if (n < 0)
        return (int)n;
    text[n] = '\0';
    return n ? 0 : -ESRCH;
}

/* The value of a line "name:\t  number kB" in bytes, 0 if there is none. */
static uint64_t
kilobytes(const char *text, const char *name)
{
    /* a name of a process begins no line: the kernel escapes its newlines */
    const char *line = strstr(text, name);

    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

/*
 * Read state, sizes and times of the process whose /proc/PID is `proc`: 0
 * where it has no memory.  Returns 0, or -errno: ENOENT or ESRCH when it is
 * gone.  See proc_pid_status(5), proc_pid_stat(5).
 */
int
pmadvise_status_read(int proc, struct pmadvise_status *status)
{
    char text[SIZE];
    const char *at;
    int error = read_text(proc, "status", text);

    if (error)
        return error;
    memset(status, 0, sizeof(*status));
    status->rss = kilobytes(text, "\nVmRSS:");
    status->anonymous = kilobytes(text, "\nRssAnon:");
    status->file = kilobytes(text, "\nRssFile:");
    status->shmem = kilobytes(text, "\nRssShmem:");
    status->swap = kilobytes(text, "\nVmSwap:");
    status->locked = kilobytes(text, "\nVmLck:");

    error = read_text(proc, "stat", text);
    if (error)
        return error;
    /* the name, which may hold anything, ends at the last bracket */
    at = strrchr(text, ')');
    if (!at)
        return -EPROTO;
    for (int field = STATE; *at && field <= STARTTIME; field++) {
        at += strcspn(at, " ");
        at += *at == ' ';
        if (field == STATE)
            status->state = *at;
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
