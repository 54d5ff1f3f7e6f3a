/* SPDX-License-Identifier: MIT */
/* process_madvise(2), and the numbers of its advice. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pmadvise.h"
#include "syscall_nr.h"

/* The kernel reads our ranges in place, as its vector. */
_Static_assert(sizeof(struct pmadvise_range) == sizeof(struct iovec) &&
                   offsetof(struct pmadvise_range, address) ==
                       offsetof(struct iovec, iov_base) &&
                   offsetof(struct pmadvise_range, length) ==
                       offsetof(struct iovec, iov_len) &&
                   sizeof(uintptr_t) == sizeof(void *),
               "struct pmadvise_range is not laid out as struct iovec");

#define SAME(name)                                                            \
    _Static_assert((int)PMADVISE_##name == name,                              \
                   "the kernel's headers have another value for " #name)
SAME(MADV_NORMAL);
SAME(MADV_RANDOM);
SAME(MADV_SEQUENTIAL);
SAME(MADV_WILLNEED);
#ifndef __alpha__ /* 6 there; advice.py knows */
SAME(MADV_DONTNEED);
#endif
#ifdef MADV_FREE
SAME(MADV_FREE);
#endif
SAME(MADV_REMOVE);
SAME(MADV_DONTFORK);
SAME(MADV_DOFORK);
/*
 * parisc took the numbers of the others in Linux 6.2, and its kernel goes
 * on to take the old ones: commit 71bdea6f798b ("parisc: Align parisc
 * MADV_XXX constants with all other architectures").
 */
#ifndef __hppa__
SAME(MADV_MERGEABLE);
SAME(MADV_UNMERGEABLE);
SAME(MADV_HUGEPAGE);
SAME(MADV_NOHUGEPAGE);
SAME(MADV_DONTDUMP);
SAME(MADV_DODUMP);
#ifdef MADV_WIPEONFORK
SAME(MADV_WIPEONFORK);
SAME(MADV_KEEPONFORK);
#endif
#endif
#ifdef MADV_COLD
SAME(MADV_COLD);
SAME(MADV_PAGEOUT);
#endif
#ifdef MADV_POPULATE_READ
SAME(MADV_POPULATE_READ);
SAME(MADV_POPULATE_WRITE);
#endif
#ifdef MADV_DONTNEED_LOCKED
SAME(MADV_DONTNEED_LOCKED);
#endif
#if defined(MADV_COLLAPSE) && !defined(__hppa__)
SAME(MADV_COLLAPSE);
#endif
#ifdef MADV_HWPOISON
SAME(MADV_HWPOISON);
#endif
#ifdef MADV_SOFT_OFFLINE
SAME(MADV_SOFT_OFFLINE);
#endif
#ifdef MADV_GUARD_INSTALL
SAME(MADV_GUARD_INSTALL);
SAME(MADV_GUARD_REMOVE);
#endif

/*
 * Advise `n` ranges of the process that `pidfd` names, nothing checked.
 * Returns the number of bytes of whole ranges advised, or -errno.
 * See process_madvise(2).
 */
ssize_t
pmadvise_process_madvise(int pidfd, const struct pmadvise_range *ranges,
                         size_t n, int advice, unsigned int flags)
{
    long advised = syscall(PMADVISE_NR_PROCESS_MADVISE, pidfd, ranges, n,
                           advice, flags);

    return advised < 0 ? -errno : (ssize_t)advised;
}

/*
 * The same, when every range is one that the kernel takes whole (see
 * pmadvise_ranges_first_refused); else -EINVAL, and the kernel is not asked.
 */
ssize_t
pmadvise_process_madvise_checked(int pidfd,
                                 const struct pmadvise_range *ranges, size_t n,
                                 int advice, unsigned int flags)
{
    if (pmadvise_ranges_first_refused(ranges, n) != n)
        return -EINVAL;
    return pmadvise_process_madvise(pidfd, ranges, n, advice, flags);
}

/*
 * The same, for one range.  Returns 0 when all of it was advised, -errno, or
 * 1 when the kernel returned neither; an errno too where the range runs past
 * the end of the address space.
 */
int
pmadvise_process_madvise_range_checked(int pidfd, uintptr_t address,
                                       size_t length, int advice,
                                       unsigned int flags)
{
    const struct pmadvise_range range = {address, length};
    ssize_t advised;

    /*
     * The kernel refuses such a range itself, unless it is empty or longer
     * than MAX_RW_COUNT; to check twice is dear beside one page.
     */
    if (length - 1 >= INT_MAX / 2 &&
        (pmadvise_ranges_first_refused(&range, 1) != 1 ||
         pmadvise_ranges_first_wrapping(&range, 1) != 1))
        return -EINVAL;
    advised = pmadvise_process_madvise(pidfd, &range, 1, advice, flags);
    return advised < 0 ? (int)advised : (size_t)advised != length;
}
