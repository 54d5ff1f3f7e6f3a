/* SPDX-License-Identifier: MIT */
/*
 * Idle page tracking: /sys/kernel/mm/page_idle/bitmap and /proc/kpageflags.
 * See Documentation/admin-guide/mm/idle_page_tracking.rst and pagemap.rst.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

enum {
    /* include/uapi/linux/kernel-page-flags.h */
    KPF_LRU = 5,
    KPF_COMPOUND_TAIL = 16,
    KPF_HUGE = 17,
    FRAMES = 64,          /* of a word of the bitmap */
    MOST_TAILS = 1 << 15, /* of a folio: more than any has */
    NO_FRAME = 0          /* hidden, or none: it holds no page of a process */
};

/* The flags of the frames of one word, as read last. */
struct flags {
    int fd;
    uint64_t word; /* its number, and one: 0 is none */
    size_t n;
    uint64_t flags[FRAMES];
};

static int
by_frame(const void *a, const void *b)
{
    const struct pmadvise_page *one = a, *other = b;

    return (one->frame > other->frame) - (one->frame < other->frame);
}

static int
by_address(const void *a, const void *b)
{
    const struct pmadvise_page *one = a, *other = b;

    return (one->address > other->address) - (one->address < other->address);
}

static bool
is_tail(uint64_t flags)
{
    return flags >> KPF_COMPOUND_TAIL & 1;
}

/* The flags of a frame, 0 past the last; or -errno. */
static int
flags_of(struct flags *read, uint64_t frame, uint64_t *flags)
{
    uint64_t word = frame / FRAMES;

    if (read->word != word + 1) {
        ssize_t got = pread(read->fd, read->flags, sizeof(read->flags),
                            (off_t)(word * sizeof(read->flags)));

        *flags = 0;
        if (got < 0)
            return -errno;
        read->word = word + 1;
        read->n = (size_t)got / sizeof(*read->flags);
    }
    *flags = frame % FRAMES < read->n ? read->flags[frame % FRAMES] : 0;
    return 0;
}

/*
 * Replace each frame, sorted, by the head of its folio, as the bitmap has a
 * bit for no other (they stay sorted), and mark the pages that can be watched:
 * on an LRU list, and not hugetlb.
 */
static int
find_heads(int kpageflags_fd, struct pmadvise_page *pages, size_t n)
{
    struct flags read = {.fd = kpageflags_fd};
    uint64_t head = NO_FRAME, last = NO_FRAME, flags, flags_of_head = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t frame = pages[i].frame;
        int error = flags_of(&read, frame, &flags);

        /* a tail right behind a page is of the same folio */
        if (i == 0 || !is_tail(flags) || frame - last > 1) {
            head = frame;
            flags_of_head = flags;
        }
        while (!error && is_tail(flags_of_head) && head > 0 &&
               frame - head < MOST_TAILS)
            error = flags_of(&read, --head, &flags_of_head);
        if (error)
            return error;
        if (flags_of_head >> KPF_LRU & 1 && !is_tail(flags_of_head) &&
            !(flags_of_head >> KPF_HUGE & 1))
            pages[i].marks |= PMADVISE_PAGE_WATCHED;
        pages[i].frame = head;
        last = frame;
    }
    return 0;
}

/*
 * Mark the watched pages of one word that are idle, and set those idle that
 * were touched.  Reading the word looks at the accessed bits of its pages.
 */
static int
look_at_word(int bitmap_fd, struct pmadvise_page *pages, size_t n)
{
    const off_t at = (off_t)(pages[0].frame / FRAMES * sizeof(uint64_t));
    uint64_t idle, touched = 0;
    ssize_t done = pread(bitmap_fd, &idle, sizeof(idle), at);

    for (size_t i = 0; done == sizeof(idle) && i < n; i++) {
        if (!(pages[i].marks & PMADVISE_PAGE_WATCHED))
            continue;
        if (idle >> pages[i].frame % FRAMES & 1)
            pages[i].marks |= PMADVISE_PAGE_IDLE;
        else
            touched |= UINT64_C(1) << pages[i].frame % FRAMES;
    }
    if (done == sizeof(idle) && touched)
        done = pwrite(bitmap_fd, &touched, sizeof(touched), at);
    if (done == sizeof(idle))
        return 0;
    for (size_t i = 0; i < n; i++)
        pages[i].marks = 0; /* past the last frame */
    return done < 0 && errno != ENXIO ? -errno : 0;
}

/*
 * Mark which pages, by their frames, were not touched since the last look
 * (PMADVISE_PAGE_IDLE), and which will be known about at the next
 * (PMADVISE_PAGE_WATCHED).  A flag moves with its page, and a page that is
 * allocated anew has none: what is idle was set so at the same address.
 * Returns 0; or -errno, EPERM if the kernel hides frames.
 */
int
pmadvise_page_idle_look(int kpageflags_fd, int bitmap_fd,
                        struct pmadvise_page *pages, size_t n)
{
    int error = 0;

    for (size_t i = 0; i < n; i++) {
        if (pages[i].frame == NO_FRAME)
            return -EPERM;
        pages[i].marks = 0;
    }
    /* In their order the pages of a word, and of a folio, follow each other.
     */
    qsort(pages, n, sizeof(*pages), by_frame);
    error = find_heads(kpageflags_fd, pages, n);
    for (size_t i = 0, m; i < n && !error; i += m) {
        for (m = 1; i + m < n &&
                    pages[i + m].frame / FRAMES == pages[i].frame / FRAMES;)
            m++;
        error = look_at_word(bitmap_fd, pages + i, m);
    }
    qsort(pages, n, sizeof(*pages), by_address);
    return error;
}
