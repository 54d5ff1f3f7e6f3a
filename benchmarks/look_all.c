/* SPDX-License-Identifier: MIT */
/*
 * What sweep.py measures against: the same looks, with the same promises.  Of
 * each process open a pidfd and the directory in /proc, check by fdinfo that
 * they are of one process and by poll(2) that it lives, read what marks its mm
 * (the leader's stat, and personality), read and parse status and stat, close.
 *
 *     look_all PID...   prints microseconds a process: of all that; of status
 *                       and stat alone, where it is open already
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/syscall_nr.h"

static volatile unsigned long long sum;
static char name[64];
static const char *const names[] = {
    "\nUid:",      "\nVmRSS:",  "\nRssAnon:", "\nRssFile:",
    "\nRssShmem:", "\nVmSwap:", "\nVmLck:",
};

static ssize_t
read_file(int directory, const char *name, char *text, size_t size)
{
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, size - 1);

    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

static void
add_fields(const char *text, int last)
{
    const char *at = strrchr(text, ')');

    for (int field = 3; at && field <= last; field++) {
        at = strchr(at + 1, ' ');
        if (at)
            sum += strtoull(at, NULL, 10);
    }
}

static void
look(int proc)
{
    char text[1 << 13];

    if (read_file(proc, "status", text, sizeof(text)) > 0)
        for (size_t j = 0; j < sizeof(names) / sizeof(*names); j++) {
            char *line = strstr(text, names[j]), *at;

            if (line)
                sum += strtoull(line + strlen(names[j]), &at, 10);
            if (line && j == 0) /* the effective one is the second */
                sum += strtoull(at, NULL, 10);
        }
    if (read_file(proc, "stat", text, 1024) > 0) {
        const char *begin = strchr(text, '('), *end = strrchr(text, ')');

        add_fields(text, 22);
        if (begin && end > begin && (size_t)(end - begin) <= sizeof(name))
            memcpy(name, begin + 1, (size_t)(end - begin) - 1);
    }
}

static int
open_process(const char *pid, int *pidfd)
{
    char path[64], text[1024];
    struct pollfd poll_fd = {.events = POLLIN};
    const char *number = NULL;
    int proc;

    *pidfd = poll_fd.fd = (int)syscall(PMADVISE_NR_PIDFD_OPEN, atoi(pid), 0);
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", *pidfd);
    if (read_file(AT_FDCWD, path, text, sizeof(text)) > 0)
        number = strstr(text, "\nPid:\t");
    if (!number)
        exit(1);
    snprintf(path, sizeof(path), "/proc/%ld", strtol(number + 6, NULL, 10));
    proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    poll(&poll_fd, 1, 0);
    snprintf(path, sizeof(path), "task/%s/stat", pid);
    if (read_file(proc, path, text, sizeof(text)) > 0)
        add_fields(text, 28);
    if (read_file(proc, "personality", text, 32) > 0)
        sum += strtoul(text, NULL, 16);
    return proc;
}

static double
microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

int
main(int argc, char **argv)
{
    double begin = microseconds(), all;
    int *open_ones = calloc((size_t)argc, sizeof(*open_ones)), pidfd;

    for (int i = 1; i < argc; i++) {
        int proc = open_process(argv[i], &pidfd);

        look(proc);
        close(proc);
        close(pidfd);
    }
    all = microseconds() - begin;
    for (int i = 1; i < argc; i++)
        open_ones[i] = open_process(argv[i], &pidfd);
    begin = microseconds();
    for (int i = 1; i < argc; i++)
        look(open_ones[i]);
    printf("%.3f %.3f\n", all / (argc - 1),
           (microseconds() - begin) / (argc - 1));
    return 0;
}
