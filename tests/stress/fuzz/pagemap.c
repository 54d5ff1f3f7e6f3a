/* SPDX-License-Identifier: MIT */
/*
 * csrc/pagemap.c and the walk of csrc/procmap_query.c, against pages whose
 * state is known: entries of /proc/PID/pagemap, and PAGEMAP_SCAN and
 * PROCMAP_QUERY answered as the kernel does.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"

enum { PAGES = 400, FIRST = 3, NUMBER_SCAN = 16, NUMBER_QUERY = 17 };

/* struct pm_scan_arg, struct page_region, struct procmap_query: linux/fs.h */
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, mask, anyof, wanted;
};
struct region {
    uint64_t start, end, categories;
};
struct query {
    uint64_t size, flags, address, start, end;
    uint64_t rest[8];
};

static uint64_t entries[FIRST + PAGES];
static uint64_t frame_flags[64];
static uint64_t categories[PAGES];
static struct pmadvise_range vmas[8];
static size_t n_vmas;
static int failure;

static int
pagemap_scan(struct scan *scan)
{
    struct region *regions = (struct region *)(uintptr_t)scan->vec;
    uint64_t at = scan->start, pages = 0;
    size_t n = 0;

    CHECK(scan->size == sizeof(*scan) && scan->flags == 0);
    CHECK(scan->start <= scan->end && scan->end <= (FIRST + PAGES) * PAGE);
    CHECK(scan->vec_len > 0 && scan->max_pages > 0);
    CHECK(scan->inverted == 0 && scan->mask == 0 && scan->anyof);
    for (; at < scan->end; at += PAGE) {
        uint64_t is = categories[at / PAGE - FIRST], shown = is & scan->wanted;

        if (!(is & scan->anyof))
            continue;
        if (pages == scan->max_pages)
            break;
        if (n && regions[n - 1].end == at &&
            regions[n - 1].categories == shown) {
            regions[n - 1].end += PAGE;
        } else {
            if (n == scan->vec_len)
                break;
            regions[n++] = (struct region){at, at + PAGE, shown};
        }
        pages++;
    }
    scan->walk_end = at;
    return (int)n;
}

static int
procmap_query(struct query *query)
{
    CHECK(query->size == sizeof(*query) && query->flags == 0x10);
    for (size_t i = 0; i < n_vmas; i++) {
        query->start = vmas[i].address;
        query->end = vmas[i].address + vmas[i].length;
        if (query->end - 1 >= query->address)
            return 0;
    }
    errno = ENOENT;
    return -1;
}

static int
answer(int fd, unsigned long request, void *argument)
{
    (void)fd;
    if (failure && take(kernel.faults, 1) >= 128) {
        errno = failure;
        return -1;
    }
    if ((request & 0xff) == NUMBER_SCAN)
        return pagemap_scan(argument);
    CHECK((request & 0xff) == NUMBER_QUERY);
    return procmap_query(argument);
}

/* Sorted ranges that do not touch; the last may end where addresses do. */
static struct pmadvise_range *
draw_merged(struct input *in, size_t *n)
{
    struct pmadvise_range *ranges = draw_ranges(in, 11, n);

    *n = pmadvise_ranges_merge(ranges, *n);
    return ranges;
}

static void
check_walks(struct input *in)
{
    const uintptr_t last_page = 0 - (uintptr_t)PAGE;
    const size_t capacity = 1 + below(in, 12);
    size_t n, walks, j = 0;
    struct pmadvise_range *ranges = draw_merged(in, &n);
    struct pmadvise_range *out = exactly(capacity, sizeof(*out));

    walks = pmadvise_pagemap_walks(ranges, n, out, capacity);
    CHECK(walks <= capacity && walks <= n && (walks > 0) == (n > 0));
    for (size_t i = 0; i < walks; i++) {
        CHECK(out[i].address % PAGE == 0 && out[i].length % PAGE == 0);
        CHECK(out[i].address + out[i].length >= out[i].address);
        CHECK(i == 0 ||
              out[i - 1].address + out[i - 1].length < out[i].address);
    }
    for (size_t i = 0; i < n; i++) { /* each lies in one of them */
        uintptr_t end = ranges[i].address + (ranges[i].length - 1);

        end = end < last_page ? end : last_page - 1;
        while (j < walks && out[j].address + out[j].length <= end)
            j++;
        if (ranges[i].address < last_page)
            CHECK(j < walks && out[j].address <= ranges[i].address);
    }
    free(out);
    free(ranges);
}

/* Write what is in [start, end) by all calls that it takes, as cells. */
static void
check_pages(struct input *in, int fd, int frames_fd, bool scan)
{
    const size_t capacity = 1 + below(in, 40), first = below(in, PAGES);
    const size_t n = below(in, PAGES - first + 1);
    const uintptr_t start = (FIRST + first) * PAGE, end = start + n * PAGE;
    const int kind = (int)below(in, 3);
    const uint64_t wanted = take(in, 2), unwanted = take(in, 2) & ~wanted;
    const uint64_t most = (1 + below(in, 64)) * PAGE;
    struct pmadvise_range *out = exactly(capacity, sizeof(*out));
    bool found[PAGES] = {false};
    uintptr_t at = start, behind = 0;

    while (at < end) {
        uintptr_t from = at;
        ssize_t count;

        if (scan)
            count = pmadvise_pagemap_scan(fd, from, end, most, wanted,
                                          unwanted, &at, out, capacity);
        else
            count = pmadvise_pagemap_read(fd, frames_fd, from, end, kind, &at,
                                          out, capacity);
        if (count == -EINTR) {
            at = from; /* what it had found is lost */
            continue;
        }
        if (count < 0) {
            CHECK(scan && failure && count == -failure);
            free(out);
            return;
        }
        CHECK(at > from && at <= end && (size_t)count <= capacity);
        for (ssize_t i = 0; i < count; i++) {
            CHECK(out[i].length > 0 && out[i].address >= behind);
            CHECK(out[i].address >= from);
            behind = out[i].address + out[i].length;
            CHECK(behind <= at && out[i].address % PAGE == 0);
            for (uintptr_t a = out[i].address; a < behind; a += PAGE)
                found[a / PAGE - FIRST] = true;
        }
    }
    for (size_t i = first; i < first + n; i++) {
        const uint64_t is = categories[i], entry = entries[FIRST + i];
        const uint64_t frame = entry & ((UINT64_C(1) << 55) - 1);
        bool present = entry >> 63, shared = present && !(entry >> 56 & 1);

        if (frame && frame < 64 && frames_fd >= 0 && !(entry >> 61 & 1) &&
            !(entry >> 56 & 1) && frame_flags[frame] >> 24 & 1)
            present = shared = false; /* the zero page */
        if (scan)
            CHECK(found[i] == ((is & 0x18) && (is & wanted) == wanted &&
                               !(is & unwanted)));
        else if (kind == PMADVISE_PAGES_SWAPPED)
            CHECK(found[i] == ((entry >> 62 & 1) && !(entry >> 58 & 1)));
        else
            CHECK(found[i] ==
                  (kind == PMADVISE_PAGES_SHARED ? shared : present));
    }
    free(out);
}

static void
check_vmas(struct input *in, int fd)
{
    const size_t capacity = 1 + below(in, 8);
    struct pmadvise_vma *out = exactly(capacity, sizeof(*out));
    size_t n, index = 0, total = 0, wanted = 0, spaces;
    struct pmadvise_range *ranges = draw_merged(in, &n);
    struct pmadvise_range *merged = draw_merged(in, &spaces);
    uintptr_t from = 0;

    n_vmas = spaces < 8 ? spaces : 8;
    memcpy(vmas, merged, n_vmas * sizeof(*vmas));
    for (size_t i = 0; i < n_vmas; i++) {
        bool touched = false;

        for (size_t j = 0; j < n; j++)
            touched |= vmas[i].address <=
                           ranges[j].address + (ranges[j].length - 1) &&
                       ranges[j].address <=
                           vmas[i].address + (vmas[i].length - 1);
        wanted += touched;
    }
    CHECK(pmadvise_procmap_query(fd) == (n_vmas ? 0 : -ENOENT));
    while (index < n) {
        ssize_t count = pmadvise_procmap_vmas(fd, ranges, n, &index, &from,
                                              out, capacity);

        CHECK(count >= 0 && (size_t)count <= capacity);
        CHECK(index == n || (size_t)count == capacity);
        for (ssize_t i = 0; i < count; i++)
            CHECK(i == 0 || out[i - 1].end <= out[i].start);
        total += (size_t)count;
    }
    CHECK(total == wanted);
    free(merged);
    free(ranges);
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size / 2};
    struct input faults = {bytes + size / 2, size - size / 2};
    const size_t kind = below(&in, 8);
    const int errors[] = {0, ESRCH, ENOTTY, EINVAL, EFAULT};
    int fd, frames_fd;

    kernel_begin(&faults);
    kernel.ioctl = answer;
    failure = 0;
    if (kind == 0) {
        check_walks(&in);
        return 0;
    }
    if (kind == 1) {
        check_vmas(&in, kernel_file(0, "maps", "", 0));
        return 0;
    }
    for (size_t i = 0; i < 64; i++)
        frame_flags[i] = (uint64_t)(i % 5 == 0) << 24;
    for (size_t i = 0, run = 0; i < PAGES; i++, run--) {
        if (run == 0) { /* pages of one kind, mostly of one frame */
            uint64_t bits = take(&in, 2);

            run = 1 + bits % 7;
            categories[i] = bits >> 3;
            entries[FIRST + i] = (bits >> 8) << 56 | (bits >> 3) % 64;
        } else {
            categories[i] = categories[i - 1];
            entries[FIRST + i] = entries[FIRST + i - 1];
        }
    }
    fd = kernel_file(0, "pagemap", entries, sizeof(entries));
    kernel.files[0].grain = sizeof(*entries);
    frames_fd = kernel_file(1, "kpageflags", frame_flags, sizeof(frame_flags));
    kernel.files[1].grain = sizeof(*frame_flags);
    failure = errors[below(&in, 5)];
    check_pages(&in, fd, kind % 4 ? -1 : frames_fd, kind % 2);
    return 0;
}
