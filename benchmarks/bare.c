/* SPDX-License-Identifier: MIT */
/*
 * The floor of an extension of cffi in API mode: process_madvise(2) for one
 * range, nothing checked, called from Python without a function around it.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __NR_process_madvise
#define __NR_process_madvise 440
#endif

static long
range(int pidfd, uintptr_t address, size_t length, int advice)
{
    struct iovec iov = {(void *)address, length};

    return syscall(__NR_process_madvise, pidfd, &iov, 1UL, advice, 0U);
}
