/* SPDX-License-Identifier: MIT */
/*
 * csrc/page_idle.c, and what csrc/pagemap.c finds for it, against frames whose
 * state is known: entries of pagemap, folios in kpageflags, and a bitmap that
 * is written as the kernel's.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"

enum { PAGES = 300, FIRST = 3, FRAMES = 512, LRU = 5, TAIL = 16, HUGE = 17 };

static uint64_t entries[FIRST + PAGES];
static uint64_t frame_flags[FRAMES];
static uint64_t bitmap[FRAMES / 64], before[FRAMES / 64];

/* Sets bits of frames on an LRU list that are no tails, as the kernel does. */
static ssize_t
set_idle(const void *buffer, size_t size, size_t offset)
{
    uint64_t word;

    CHECK(size == sizeof(word) && offset % sizeof(word) == 0);
    memcpy(&word, buffer, size);
    if (offset >= sizeof(bitmap)) {
        errno = ENXIO;
        return -1;
    }
    for (size_t i = 0; i < 64; i++) {
        uint64_t flags = frame_flags[offset * 8 + i];

        if (word >> i & 1 && flags >> LRU & 1 && !(flags >> TAIL & 1))
            bitmap[offset / 8] |= UINT64_C(1) << i;
    }
    return (ssize_t)size;
}

static bool
is_idle(const uint64_t *words, size_t frame)
{
    return words[frame / 64] >> frame % 64 & 1;
}

static void
draw_frames(struct input *in)
{
    for (size_t i = 0; i < FRAMES;) {
        size_t folio = take(in, 1) % 4 ? 1 : 1 + below(in, 100);
        uint64_t bits = take(in, 1);

        for (size_t j = 0; j < folio && i < FRAMES; j++, i++) {
            frame_flags[i] = (bits & 1) << LRU | (uint64_t)(j > 0) << TAIL |
                             (uint64_t)(bits % 16 == 15) << HUGE;
            if (bits & 2 && j == 0)
                bitmap[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    /* Each frame is of one page at most, or of none. */
    for (size_t i = 0, frame = 1 + below(in, 8); i < PAGES; i++) {
        uint64_t bits = take(in, 1);

        entries[FIRST + i] = (bits & 1) << 63 | (bits >> 1 & 1) << 56 | frame;
        frame += 1 + (bits % 32 == 31 ? below(in, 200) : 0);
    }
    /* in any order: swap some */
    for (size_t i = below(in, 40); i > 0; i--) {
        uint64_t *a = &entries[FIRST + below(in, PAGES)];
        uint64_t *b = &entries[FIRST + below(in, PAGES)];
        uint64_t c = *a;

        *a = *b;
        *b = c;
    }
}

static bool
is_exclusive(size_t page)
{
    return entries[page] >> 63 && entries[page] >> 56 & 1;
}

static uint64_t
frame_of(size_t page)
{
    return entries[page] & ((UINT64_C(1) << 55) - 1);
}

/* The frame that has the bit of a page; FRAMES where it can't be watched. */
static size_t
head_of(uint64_t frame)
{
    while (frame > 0 && frame < FRAMES && frame_flags[frame] >> TAIL & 1)
        frame--;
    if (frame >= FRAMES || frame_flags[frame] >> HUGE & 1 ||
        !(frame_flags[frame] >> LRU & 1) || frame_flags[frame] >> TAIL & 1)
        return FRAMES;
    return (size_t)frame;
}

static void
check_marks(const struct pmadvise_page *pages, size_t n)
{
    struct pmadvise_range *out = exactly(n, sizeof(*out));

    for (uint64_t marks = 0; marks < 4; marks++) {
        size_t m = pmadvise_pages_marked(pages, n, marks, out), total = 0;
        size_t wanted = 0;

        CHECK(m <= n);
        for (size_t i = 0; i < m; i++) {
            CHECK(out[i].length > 0 && out[i].length % PAGE == 0);
            CHECK(i == 0 ||
                  out[i - 1].address + out[i - 1].length < out[i].address);
            total += out[i].length / PAGE;
        }
        for (size_t i = 0; i < n; i++)
            wanted += (pages[i].marks & marks) == marks;
        CHECK(total == wanted);
    }
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size - size / 8};
    struct input faults = {bytes + size - size / 8, size / 8};
    const size_t capacity = 1 + below(&in, 2 * PAGES);
    struct pmadvise_page *pages = exactly(capacity, sizeof(*pages));
    struct pmadvise_range ranges[4];
    size_t n = 0, index = 0, at = FIRST;
    bool wanted[FIRST + PAGES] = {false}, found[FIRST + PAGES] = {false};
    uintptr_t from = 0;
    int fd, flags_fd, bitmap_fd;

    memset(bitmap, 0, sizeof(bitmap));
    draw_frames(&in);
    kernel_begin(&faults);
    kernel.pwrite = set_idle;
    fd = kernel_file(0, "pagemap", entries, sizeof(entries));
    kernel.files[0].grain = sizeof(*entries);
    flags_fd = kernel_file(1, "kpageflags", frame_flags, sizeof(frame_flags));
    kernel.files[1].grain = 64 * sizeof(*frame_flags);
    bitmap_fd = kernel_file(2, "bitmap", bitmap, sizeof(bitmap));
    kernel.files[2].grain = sizeof(*bitmap);
    while (n < 4 && at < FIRST + PAGES) {
        size_t length = 1 + below(&in, PAGES);

        at += below(&in, 40);
        if (at + length > FIRST + PAGES + 20) /* past the last */
            break;
        ranges[n++] = (struct pmadvise_range){at * PAGE, length * PAGE};
        for (size_t i = at; i < at + length && i < FIRST + PAGES; i++)
            wanted[i] = is_exclusive(i);
        at += length + 1;
    }
    while (index < n) {
        uintptr_t was_from = from;
        size_t was = index;
        ssize_t count = pmadvise_pagemap_exclusive(fd, ranges, n, &index,
                                                   &from, pages, capacity);
        int error;

        if (count == -EINTR) {
            index = was; /* what it had found is lost */
            from = was_from;
            continue;
        }
        CHECK(count >= 0 && (size_t)count <= capacity);
        for (ssize_t i = 0; i < count; i++) {
            size_t page = pages[i].address / PAGE;

            CHECK(i == 0 || pages[i - 1].address < pages[i].address);
            CHECK(wanted[page] && !found[page]);
            CHECK(pages[i].frame == frame_of(page));
            found[page] = true;
        }
        memcpy(before, bitmap, sizeof(bitmap));
        error = pmadvise_page_idle_look(flags_fd, bitmap_fd, pages,
                                        (size_t)count);
        CHECK(error == 0 || error == -EINTR);
        for (ssize_t i = 0; i < count; i++) {
            size_t head = head_of(frame_of(pages[i].address / PAGE));
            bool watched = pages[i].marks & PMADVISE_PAGE_WATCHED;
            bool idle = pages[i].marks & PMADVISE_PAGE_IDLE;

            CHECK(i == 0 || pages[i - 1].address < pages[i].address);
            if (error)
                continue;
            CHECK(watched == (head != FRAMES));
            CHECK(idle == (watched && is_idle(before, head)));
            CHECK(!watched || is_idle(bitmap, head));
        }
        for (size_t i = 0; i < FRAMES; i++) {
            bool ours = false;

            for (ssize_t j = 0; j < count; j++)
                ours |= head_of(frame_of(pages[j].address / PAGE)) == i;
            CHECK(is_idle(before, i) == is_idle(bitmap, i) ||
                  (ours && is_idle(bitmap, i)));
        }
        check_marks(pages, (size_t)count);
    }
    for (size_t i = 0; i < FIRST + PAGES; i++)
        CHECK(wanted[i] == found[i]);
    if (n > 0) { /* hidden frames: nothing is marked */
        pages[0] = (struct pmadvise_page){PAGE, 0, 0};
        CHECK(pmadvise_page_idle_look(flags_fd, bitmap_fd, pages, 1) ==
              -EPERM);
    }
    free(pages);
    return 0;
}
