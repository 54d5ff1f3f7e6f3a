/* SPDX-License-Identifier: MIT */
/* The pages that are in memory or in swap: /proc/PID/pagemap. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "pmadvise.h"

/* struct pm_scan_arg and struct page_region of include/uapi/linux/fs.h */
struct scan {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
struct region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};
_Static_assert(sizeof(struct scan) == 96, "not struct pm_scan_arg");
_Static_assert(sizeof(struct region) == 24, "not struct page_region");

enum {
    STEPS = 16,       /* ioctls or reads, then the caller gets a say */
    CLOSE = 64 << 20, /* bytes between ranges of one walk */
    REGIONS = 256,
    ENTRIES = 1024,
    PAGES = 1 << 15, /* half a millisecond of the target's mmap lock */
    IS_PRESENT = PMADVISE_PAGE_IS_PRESENT,
    IS_SWAPPED = PMADVISE_PAGE_IS_SWAPPED
};

/*
 * Readers win the mmap lock from a waiting writer for up to 4 ms, until the
 * kernel hands it over: so let go of it for a moment after each half a
 * millisecond.  `since` is when it was let go last, 0 at first.
 */
static void
take_turns(uint64_t *since)
{
    const struct timespec moment = {.tv_nsec = 20000};
    struct timespec now;
    uint64_t at;

    clock_gettime(CLOCK_MONOTONIC, &now);
    at = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (*since && at - *since > 500000) {
        nanosleep(&moment, NULL);
        *since = 0;
    } else if (!*since) {
        *since = at;
    }
}

/* Add [start, end) to `out`, to the last range if it goes on from there. */
static size_t
add(struct pmadvise_range *out, size_t n, uint64_t start, uint64_t end)
{
    if (n > 0 && out[n - 1].address + out[n - 1].length == start) {
        out[n - 1].length += (size_t)(end - start);
        return n;
    }
    out[n].address = (uintptr_t)start;
    out[n].length = (size_t)(end - start);
    return n + 1;
}

/*
 * Join `n` merged ranges, rounded to whole pages, to at most `capacity` walks:
 * first those that are close to each other, as one walk over them is faster
 * than several.  The last page of the address space is in none.  Returns how
 * many walks were written.
 */
size_t
pmadvise_pagemap_walks(const struct pmadvise_range *ranges, size_t n,
                       struct pmadvise_range *out, size_t capacity)
{
    const uintptr_t page = (uintptr_t)getpagesize();
    const uintptr_t last_page = UINTPTR_MAX - (page - 1);
    size_t walks = n > 0 ? capacity + 1 : 0;

    for (uintptr_t gap = CLOSE; walks > capacity;
         gap = gap > UINTPTR_MAX / 16 ? UINTPTR_MAX : gap * 16) {
        walks = 0;
        for (size_t i = 0; i < n && walks <= capacity; i++) {
            uintptr_t start = ranges[i].address & ~(page - 1);
            uintptr_t last = ranges[i].address + (ranges[i].length - 1);
            uintptr_t end = last >= last_page ? last_page
                                              : (last & ~(page - 1)) + page;

            uintptr_t behind =
                walks > 0 ? out[walks - 1].address + out[walks - 1].length : 0;

            if (walks > 0 && (start <= behind || start - behind <= gap))
                out[walks - 1].length = end - out[walks - 1].address;
            else if (walks++ < capacity)
                out[walks - 1] = (struct pmadvise_range){start, end - start};
        }
    }
    return walks;
}

/*
 * Write the ranges of pages in [start, end) that have all categories of
 * `wanted` and none of `unwanted`, as many as `capacity` takes, in a few
 * steps.  Only pages in memory or in swap are looked at.  *walk_end is where
 * to go on, `end` when all is done.  Returns how many were written; or -errno:
 * ENOTTY when the kernel is older than 6.7, ESRCH when the mm is gone, EINVAL
 * for a category that it does not know, EFAULT when `end` lies outside of user
 * space.  See PAGEMAP_SCAN in Documentation/admin-guide/mm/pagemap.rst.
 *
 * The kernel holds the mmap lock of the target for the whole ioctl.  It stops
 * after a number of pages that match, so every page that has an entry
 * matches the kernel's question, and the rest is sorted out here: then
 * no walk over dense memory is long, and empty memory is skipped by whole
 * page tables.  But memory that was freed may have kept its page tables, which
 * are walked: so no ioctl gets more than `most` bytes of addresses.
 */
ssize_t
pmadvise_pagemap_scan(int pagemap_fd, uintptr_t start, uintptr_t end,
                      uint64_t most, uint64_t wanted, uint64_t unwanted,
                      uintptr_t *walk_end, struct pmadvise_range *out,
                      size_t capacity)
{
    struct region regions[REGIONS];
    uint64_t since = 0;
    size_t n = 0;

    *walk_end = start;
    take_turns(&since);
    for (int i = 0; i < STEPS && *walk_end < end && n < capacity; i++) {
        uint64_t left = end - *walk_end;
        struct scan scan = {
            .size = sizeof(scan),
            .start = *walk_end,
            .end = *walk_end + (left < most ? left : most),
            .vec = (uint64_t)(uintptr_t)regions,
            .vec_len = capacity - n < REGIONS ? capacity - n : REGIONS,
            .max_pages = PAGES,
            .category_anyof_mask = IS_PRESENT | IS_SWAPPED,
            .return_mask = wanted | unwanted | IS_PRESENT | IS_SWAPPED,
        };
        int found = ioctl(pagemap_fd, _IOWR('f', 16, struct scan), &scan);

        if (found < 0)
            return -errno;
        for (int j = 0; j < found; j++)
            if ((regions[j].categories & wanted) == wanted &&
                !(regions[j].categories & unwanted))
                n = add(out, n, regions[j].start, regions[j].end);
        *walk_end = (uintptr_t)scan.walk_end;
        take_turns(&since);
    }
    return (ssize_t)n;
}

/*
 * KPF_ZERO_PAGE of a page frame: only /proc/kpageflags tells the zero page
 * from others that several processes map.
 */
static bool
is_zero_page(int kpageflags_fd, uint64_t frame)
{
    uint64_t flags;

    return pread(kpageflags_fd, &flags, sizeof(flags),
                 (off_t)(frame * sizeof(flags))) == sizeof(flags) &&
           flags >> 24 & 1;
}

/*
 * The same by the entries of pagemap, for kernels without the ioctl and for
 * a question that it has no answer to: the pages in memory, in swap, or in
 * memory and mapped by others too.  The zero page counts as in memory, but
 * where `kpageflags_fd` is open and the kernel tells frame numbers.  Returns
 * how many ranges were written, or -errno. See
 * Documentation/admin-guide/mm/pagemap.rst.
 */
ssize_t
pmadvise_pagemap_read(int pagemap_fd, int kpageflags_fd, uintptr_t start,
                      uintptr_t end, int kind, uintptr_t *walk_end,
                      struct pmadvise_range *out, size_t capacity)
{
    const uint64_t present = UINT64_C(1) << 63, in_swap = UINT64_C(1) << 62;
    const uint64_t of_file = UINT64_C(1) << 61;
    const uint64_t guard = UINT64_C(1) << 58; /* Linux 6.15, no swap */
    const uint64_t exclusive = UINT64_C(1) << 56;
    const uint64_t frame_bits = (UINT64_C(1) << 55) - 1;
    const uintptr_t page = (uintptr_t)getpagesize();
    uint64_t entries[ENTRIES];
    uint64_t last_frame = 0;
    bool last_is_zero = false;
    size_t n = 0;

    *walk_end = start;
    for (int step = 0; step < STEPS && *walk_end < end && n < capacity;
         step++) {
        size_t want = (end - *walk_end) / page;
        ssize_t got;

        if (want > ENTRIES)
            want = ENTRIES;
        got = pread(pagemap_fd, entries, want * sizeof(*entries),
                    (off_t)(*walk_end / page * sizeof(*entries)));
        if (got < 0)
            return -errno;
        got /= (ssize_t)sizeof(*entries);
        if (got == 0) /* user space, or the mm, ends here */
            *walk_end = end;
        for (ssize_t i = 0; i < got && n < capacity; i++, *walk_end += page) {
            const uint64_t entry = entries[i];
            uint64_t frame = entry & frame_bits;
            bool wanted;

            if (kind == PMADVISE_PAGES_SWAPPED)
                wanted = (entry & (in_swap | guard)) == in_swap;
            else if (kind == PMADVISE_PAGES_SHARED)
                wanted = (entry & (present | exclusive)) == present;
            else
                wanted = (entry & present) != 0;
            if (wanted && kind != PMADVISE_PAGES_SWAPPED && frame &&
                kpageflags_fd >= 0 && !(entry & (of_file | exclusive))) {
                if (frame != last_frame) {
                    last_frame = frame;
                    last_is_zero = is_zero_page(kpageflags_fd, frame);
                }
                wanted = !last_is_zero;
            }
            if (wanted)
                n = add(out, n, *walk_end, *walk_end + page);
        }
    }
    return (ssize_t)n;
}

/*
 * The pages of merged ranges that are in memory and that no other process
 * maps, each with its frame, 0 where the kernel hides these.  *index and *from
 * are the range and the address to go on at, both 0 at first; all is done
 * when *index is `n`.  Returns how many were written, or -errno.
 */
ssize_t
pmadvise_pagemap_exclusive(int pagemap_fd, const struct pmadvise_range *ranges,
                           size_t n, size_t *index, uintptr_t *from,
                           struct pmadvise_page *out, size_t capacity)
{
    const uint64_t wanted = UINT64_C(1) << 63 | UINT64_C(1) << 56;
    const uint64_t frame_bits = (UINT64_C(1) << 55) - 1;
    const uintptr_t page = (uintptr_t)getpagesize();
    uint64_t entries[ENTRIES];
    uint64_t since = 0;
    size_t written = 0;

    take_turns(&since);
    while (*index < n && written < capacity) {
        const struct pmadvise_range *range = &ranges[*index];
        uintptr_t first = range->address & ~(page - 1);
        uintptr_t last = range->address + range->length - 1;
        uintptr_t at = *from > first ? *from : first;
        size_t want = range->length ? (last - first) / page + 1 : 0;
        ssize_t got = 0;

        want -= want ? (at - first) / page : 0;
        if (want > capacity - written)
            want = capacity - written;
        if (want > ENTRIES)
            want = ENTRIES;
        if (want > 0)
            got = pread(pagemap_fd, entries, want * sizeof(*entries),
                        (off_t)(at / page * sizeof(*entries)));
        if (got < 0)
            return -errno;
        got /= (ssize_t)sizeof(*entries);
        for (ssize_t i = 0; i < got; i++, at += page)
            if ((entries[i] & wanted) == wanted)
                out[written++] = (struct pmadvise_page){
                    .address = at, .frame = entries[i] & frame_bits};
        if (got == 0 || at - 1 >= last) { /* nothing: the mm ends here */
            ++*index;
            *from = 0;
        } else {
            *from = at;
        }
        take_turns(&since);
    }
    return (ssize_t)written;
}

/*
 * Write the ranges of the pages whose mark has all bits of `marks`; `out` has
 * room for `n`.  Returns how many were written.
 */
size_t
pmadvise_pages_marked(const struct pmadvise_page *pages, size_t n,
                      uint64_t marks, struct pmadvise_range *out)
{
    const uintptr_t page = (uintptr_t)getpagesize();
    size_t written = 0;

    for (size_t i = 0; i < n; i++)
        if ((pages[i].marks & marks) == marks)
            written = add(out, written, pages[i].address,
                          (uint64_t)pages[i].address + page);
    return written;
}
