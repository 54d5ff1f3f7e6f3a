/* SPDX-License-Identifier: MIT */
/* The ioctl PROCMAP_QUERY on an open /proc/PID/maps, Linux 6.11. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "pmadvise.h"

/* struct procmap_query of include/uapi/linux/fs.h */
struct query {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_addr;
    uint64_t vma_start;
    uint64_t vma_end;
    uint64_t vma_flags;
    uint64_t vma_page_size;
    uint64_t vma_offset;
    uint64_t inode;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint32_t vma_name_size;
    uint32_t build_id_size;
    uint64_t vma_name_addr;
    uint64_t build_id_addr;
};
_Static_assert(sizeof(struct query) == 104, "not struct procmap_query");

enum { COVERING_OR_NEXT_VMA = 0x10 };

static int
query(int maps_fd, uintptr_t address, struct query *q)
{
    memset(q, 0, sizeof(*q));
    q->size = sizeof(*q);
    q->query_flags = COVERING_OR_NEXT_VMA;
    q->query_addr = address;
    return ioctl(maps_fd, _IOWR('f', 17, struct query), q) < 0 ? -errno : 0;
}

/*
 * Ask for the first VMA of the mm that the file was opened on, to learn
 * whether there still is one.  Returns 0; or -ESRCH when the mm is gone,
 * -ENOENT when it has no VMA, -ENOTTY when the kernel is too old.
 * See PROCMAP_QUERY in Documentation/filesystems/proc.rst.
 */
int
pmadvise_procmap_query(int maps_fd)
{
    struct query q;

    return query(maps_fd, 0, &q);
}

/*
 * Write start and end of the VMAs that the sorted `ranges` touch, as many as
 * `capacity` takes, and nothing else of them.  It begins at ranges[*index]
 * with address *from (0: its first), and leaves there where to go on; all is
 * done when *index is `n`.  Returns how many were written, or -errno as above.
 */
ssize_t
pmadvise_procmap_vmas(int maps_fd, const struct pmadvise_range *ranges,
                      size_t n, size_t *index, uintptr_t *from,
                      struct pmadvise_vma *vmas, size_t capacity)
{
    size_t written = 0;

    while (*index < n && written < capacity) {
        const struct pmadvise_range *range = &ranges[*index];
        uintptr_t at = *from > range->address ? *from : range->address;
        struct query q;
        int error;

        if (range->length == 0 || at > range->address + (range->length - 1)) {
            ++*index;
            continue;
        }
        error = query(maps_fd, at, &q);
        if (error == -ENOENT) { /* nothing is mapped from here on */
            *index = n;
            break;
        }
        if (error)
            return error;
        if (q.vma_start > range->address + (range->length - 1)) {
            ++*index;
            continue;
        }
        memset(&vmas[written], 0, sizeof(vmas[written]));
        vmas[written].start = (uintptr_t)q.vma_start;
        vmas[written].end = (uintptr_t)q.vma_end;
        written++;
        *from = (uintptr_t)q.vma_end;
        if (*from == 0) { /* the VMA ends where the address space does */
            *index = n;
            break;
        }
    }
    return (ssize_t)written;
}
