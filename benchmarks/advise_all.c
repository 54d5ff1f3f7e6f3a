/* SPDX-License-Identifier: MIT */
/*
 * What whole_process.py measures against: read /proc/PID/maps, pick the
 * private anonymous VMAs, advise them 1,024 at a time, nothing checked.
 *
 *     advise_all PID ADVICE   prints seconds, bytes advised, VMAs
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/syscall_nr.h"

int
main(int argc, char **argv)
{
    char path[64], *text = NULL, *line;
    size_t size = 0, capacity = 0, n = 0, vmas = 0;
    struct iovec iov[1024];
    struct timespec begin, end;
    ssize_t got;
    long advised = 0;
    int pidfd, maps, advice;

    if (argc != 3)
        return 2;
    advice = atoi(argv[2]);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pidfd = (int)syscall(PMADVISE_NR_PIDFD_OPEN, atoi(argv[1]), 0);
    snprintf(path, sizeof(path), "/proc/%s/maps", argv[1]);
    maps = open(path, O_RDONLY | O_CLOEXEC);
    if (pidfd < 0 || maps < 0)
        return 1;
    do {
        if (capacity - size < 1 << 16)
            text = realloc(text, capacity = capacity * 2 + (1 << 18));
        got = read(maps, text + size, capacity - size - 1);
        size += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    text[size] = '\0';
    for (line = text; *line; line = strchr(line, '\n') + 1) {
        char *rest;
        unsigned long start = strtoul(line, &rest, 16);
        unsigned long stop = strtoul(rest + 1, &rest, 16);
        char private = rest[4];
        unsigned long inode;

        strtoul(rest + 6, &rest, 16); /* offset */
        strtoul(rest + 1, &rest, 16); /* major */
        strtoul(rest + 1, &rest, 16); /* minor */
        inode = strtoul(rest, &rest, 10);
        rest += strspn(rest, " ");
        if (private != 'p' || inode || strncmp(rest, "[v", 2) == 0)
            continue;
        iov[n].iov_base = (void *)start;
        iov[n].iov_len = stop - start;
        vmas++;
        if (++n == 1024) {
            advised += syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, iov, n, advice, 0);
            n = 0;
        }
    }
    if (n)
        advised += syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, iov, n, advice, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.9f %ld %zu\n",
           (double)(end.tv_sec - begin.tv_sec) +
               1e-9 * (double)(end.tv_nsec - begin.tv_nsec),
           advised, vmas);
    return 0;
}
