/* SPDX-License-Identifier: MIT */
/*
 * What sweep.py measures against: of each process open a pidfd and the
 * directory in /proc, poll, read and parse status and stat, close.
 *
 *     look_all PID...   prints microseconds for a process
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif

static const char *const names[] = {
    "\nVmRSS:",    "\nRssAnon:", "\nRssFile:",
    "\nRssShmem:", "\nVmSwap:",  "\nVmLck:",
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

int
main(int argc, char **argv)
{
    volatile unsigned long long sum = 0;
    struct timespec begin, end;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 1; i < argc; i++) {
        char path[32], text[1 << 14];
        struct pollfd poll_fd = {.events = POLLIN};
        int proc;

        poll_fd.fd = (int)syscall(__NR_pidfd_open, atoi(argv[i]), 0);
        snprintf(path, sizeof(path), "/proc/%s", argv[i]);
        proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        poll(&poll_fd, 1, 0);
        if (read_file(proc, "status", text, sizeof(text)) > 0)
            for (size_t j = 0; j < sizeof(names) / sizeof(*names); j++) {
                const char *line = strstr(text, names[j]);

                if (line)
                    sum += strtoull(line + strlen(names[j]), NULL, 10);
            }
        if (read_file(proc, "stat", text, sizeof(text)) > 0) {
            const char *at = strrchr(text, ')');

            for (int field = 3; at && field <= 22; field++) {
                at = strchr(at + 1, ' ');
                if (at)
                    sum += strtoull(at, NULL, 10);
            }
        }
        close(proc);
        close(poll_fd.fd);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.3f\n", (1e6 * (double)(end.tv_sec - begin.tv_sec) +
                      1e-3 * (double)(end.tv_nsec - begin.tv_nsec)) /
                         (argc - 1));
    return 0;
}
