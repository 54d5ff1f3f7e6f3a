/* SPDX-License-Identifier: MIT */
/*
 * The threads of a process, read through the directory /proc/PID: a call for
 * all of them, where Python would take the GIL back at every system call.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "pmadvise.h"

/*
 * List the threads of the process whose /proc/PID is `proc`: only their tid
 * is set.  The kernel lists them one by one, so threads that are born or die
 * meanwhile may be missing.  Returns how many were listed, of which the first
 * `capacity` are in `threads`, or -errno.  See proc_pid_task(5).
 */
ssize_t
pmadvise_task_list(int proc, struct pmadvise_thread *threads, size_t capacity)
{
    const struct dirent *entry;
    ssize_t n = 0;
    int error;
    int task = openat(proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory;

    if (task < 0)
        return -errno;
    directory = fdopendir(task);
    if (!directory) {
        error = errno;
        close(task);
        return -error;
    }
    for (errno = 0; (entry = readdir(directory)); errno = 0) {
        if (entry->d_name[0] == '.')
            continue;
        if ((size_t)n < capacity) {
            memset(&threads[n], 0, sizeof(threads[n]));
            threads[n].tid = (int)strtol(entry->d_name, NULL, 10);
        }
        n++;
    }
    error = errno;
    closedir(directory);
    return error ? -error : n;
}

/* The first characters of task/TID/status: its State and TracerPid. */
static int
read_status(int proc, struct pmadvise_thread *thread)
{
    char path[32], text[512];
    const char *state, *tracer;
    ssize_t length;
    int fd, error;

    snprintf(path, sizeof(path), "task/%d/status", thread->tid);
    fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    length = read(fd, text, sizeof(text) - 1);
    error = errno;
    close(fd);
    if (length < 0)
        return -error;
    text[length] = '\0';
    /* the name comes first; its newlines are escaped */
    state = strstr(text, "\nState:\t");
    tracer = strstr(text, "\nTracerPid:\t");
    if (!state || !tracer)
        return -EPROTO;
    thread->state = state[sizeof("\nState:\t") - 1];
    thread->tracer = (int)strtol(tracer + sizeof("\nTracerPid:\t") - 1, NULL,
                                 10);
    return 0;
}

/*
 * Set the state (a letter, see proc_pid_stat(5)) and the tracer (its thread
 * ID, or 0) of `n` listed threads; the state of one that is gone is 'X'.
 * Returns 0, or -errno.
 */
int
pmadvise_task_status(int proc, struct pmadvise_thread *threads, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int error = read_status(proc, &threads[i]);

        if (error == -ENOENT || error == -ESRCH) {
            threads[i].state = 'X';
            threads[i].tracer = 0;
        } else if (error) {
            return error;
        }
    }
    return 0;
}

/*
 * Wait until thread `tid` of the calling process has ended, for about
 * `microseconds`.  Returns 1 if it has, 0 if not.  See tgkill(2).
 */
int
pmadvise_task_ended(int tid, unsigned int microseconds)
{
    const struct timespec pause = {0, 20000};
    unsigned int slept = 0;

    for (int look = 0;; look++) {
        if (syscall(SYS_tgkill, getpid(), tid, 0) < 0)
            return errno == ESRCH;
        if (slept >= microseconds)
            return 0;
        if (look < 50) { /* it is about to end, so mostly no timer is needed */
            sched_yield();
        } else {
            nanosleep(&pause, NULL);
            slept += 20;
        }
    }
}
