/* SPDX-License-Identifier: MIT */
/*
 * What stall.py measures against: one range advised in calls of bounded
 * duration, with the same sizes and pauses as Pacer has, and a look at the mm
 * before each call; nothing else is checked.
 *
 *     paced PID ADDRESS LENGTH ADVICE MAX_STALL
 *         prints seconds, seconds of CPU, bytes advised, seconds in calls
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/syscall_nr.h"

static double
now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* start_code and start_stack of the process, which execve(2) changes */
static int
look(int stat, unsigned long *code, unsigned long *stack)
{
    char text[1024];
    ssize_t length = pread(stat, text, sizeof(text) - 1, 0);
    char *at;

    if (length <= 0)
        return -1;
    text[length] = '\0';
    at = strrchr(text, ')');
    for (int field = 3; at && *at && field <= 28; field++) {
        at += strcspn(at, " ");
        at += *at == ' ';
        if (field == 26)
            *code = strtoul(at, NULL, 10);
        else if (field == 28)
            *stack = strtoul(at, NULL, 10);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    const double most = 512 << 20;
    unsigned long code, stack, code_now, stack_now;
    char path[64];
    double stall, goal, rate = 512 << 20, locked = 0, begin, cpu, spent = 0;
    uintptr_t at, end;
    long advised = 0;
    int pidfd, stat, advice;

    if (argc != 6)
        return 2;
    at = strtoull(argv[2], NULL, 10);
    end = at + strtoull(argv[3], NULL, 10);
    advice = atoi(argv[4]);
    stall = atof(argv[5]);
    goal = stall / 8;
    begin = now(CLOCK_MONOTONIC);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    pidfd = (int)syscall(PMADVISE_NR_PIDFD_OPEN, atoi(argv[1]), 0);
    snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", argv[1], argv[1]);
    stat = open(path, O_RDONLY | O_CLOEXEC);
    if (pidfd < 0 || stat < 0 || look(stat, &code, &stack) < 0)
        return 1;
    while (at < end) {
        uintptr_t size = (uintptr_t)(rate * goal), align = 512 << 10;
        double before, seconds;
        struct iovec iov;
        long got;

        if (size < align && (double)align <= rate * stall / 2)
            size = align;
        while (align > 4096 && align > size)
            align /= 2;
        size = size < align ? align : size - size % align;
        iov.iov_base = (void *)at;
        iov.iov_len = end - at;
        if (iov.iov_len > size)
            iov.iov_len = size - (at + size) % align;
        if (look(stat, &code_now, &stack_now) < 0 || code != code_now ||
            stack != stack_now)
            return 1;
        before = now(CLOCK_MONOTONIC);
        got = syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, &iov, 1, advice, 0);
        seconds = now(CLOCK_MONOTONIC) - before;
        if (got <= 0)
            return 1;
        at += (uintptr_t)got;
        advised += got;
        spent += seconds;
        rate = (double)got / seconds < most ? (double)got / seconds : most;
        locked += seconds;
        if (locked >= 2 * goal) {
            struct timespec pause = {0, 20000};

            locked = 0;
            nanosleep(&pause, NULL);
        }
    }
    printf("%.9f %.9f %ld %.9f\n", now(CLOCK_MONOTONIC) - begin,
           now(CLOCK_PROCESS_CPUTIME_ID) - cpu, advised, spent);
    return 0;
}
