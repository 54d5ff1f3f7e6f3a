/* SPDX-License-Identifier: MIT */
/*
 * System call numbers, for headers that are older than the calls.  They are
 * the same everywhere (include/uapi/asm-generic/unistd.h) but for the
 * architectures that number apart: alpha, the three ABIs of mips, x32, ia64.
 */
#ifndef PMADVISE_SYSCALL_NR_H
#define PMADVISE_SYSCALL_NR_H

#include <sys/syscall.h>

enum {
#if defined(__alpha__)
    PMADVISE_NR_PIDFD_SEND_SIGNAL = 534,
    PMADVISE_NR_PIDFD_OPEN = 544,
    PMADVISE_NR_PROCESS_MADVISE = 550
#else
#if defined(__mips__)
    PMADVISE_NR_BASE = __NR_Linux, /* o32 4000, n64 5000, n32 6000 */
#elif defined(__x86_64__) && defined(__ILP32__)
    PMADVISE_NR_BASE = 0x40000000, /* __X32_SYSCALL_BIT */
#elif defined(__ia64__)
    PMADVISE_NR_BASE = 1024,
#else
    PMADVISE_NR_BASE = 0,
#endif
    PMADVISE_NR_PIDFD_SEND_SIGNAL = PMADVISE_NR_BASE + 424,
    PMADVISE_NR_PIDFD_OPEN = PMADVISE_NR_BASE + 434,
    PMADVISE_NR_PROCESS_MADVISE = PMADVISE_NR_BASE + 440
#endif
};

#ifdef __NR_pidfd_send_signal
_Static_assert(PMADVISE_NR_PIDFD_SEND_SIGNAL == __NR_pidfd_send_signal,
               "the kernel's headers have another number for "
               "pidfd_send_signal");
#endif
#ifdef __NR_pidfd_open
_Static_assert(PMADVISE_NR_PIDFD_OPEN == __NR_pidfd_open,
               "the kernel's headers have another number for pidfd_open");
#endif
#ifdef __NR_process_madvise
_Static_assert(PMADVISE_NR_PROCESS_MADVISE == __NR_process_madvise,
               "the kernel's headers have another number for "
               "process_madvise");
#endif

#endif
