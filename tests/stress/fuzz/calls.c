/* SPDX-License-Identifier: MIT */
/*
 * The system calls of the real kernel with arguments that can harm nobody:
 * descriptors that are none or no pidfd, a child that has exited, and advice
 * to the own process that loses no data.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

enum { BAD, NO_PIDFD, PIPE, OWN, EXITED, DESCRIPTORS };

static int descriptors[DESCRIPTORS];
static int exited;

static void
set_up(void)
{
    int ends[2];

    if (descriptors[PIPE])
        return;
    exited = fork();
    CHECK(exited >= 0);
    if (exited == 0)
        _exit(0);
    descriptors[BAD] = -1;
    descriptors[NO_PIDFD] = memfd_create("none", MFD_CLOEXEC);
    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    descriptors[PIPE] = ends[0];
    CHECK(pmadvise_descriptor_pidfd_open(getpid(), 0, &descriptors[OWN]) == 0);
    CHECK(pmadvise_descriptor_pidfd_open(exited, 0, &descriptors[EXITED]) ==
          0);
    CHECK(waitpid(exited, NULL, 0) == exited);
}

/* At most whole and aligned as one call takes it, else the kernel's errno. */
static void
check_advice(struct input *in)
{
    static const int advices[] = {PMADVISE_MADV_COLD, PMADVISE_MADV_WILLNEED,
                                  PMADVISE_MADV_NORMAL};
    const size_t which = below(in, DESCRIPTORS);
    const int fd = descriptors[which], advice = advices[below(in, 3)];
    const unsigned int flags = (unsigned int)take(in, 1) & 1;
    const size_t n = below(in, 40) + (take(in, 1) == 255 ? 1000 : 0);
    struct pmadvise_range *ranges = exactly(n, sizeof(*ranges));
    unsigned __int128 total = 0;
    size_t refused;
    ssize_t result;

    for (size_t i = 0; i < n; i++) {
        ranges[i].address = (uintptr_t)odd_number(in);
        ranges[i].length = (size_t)odd_number(in);
        if (take(in, 1) % 4) { /* as one would ask for it */
            ranges[i].address &= ~(uintptr_t)(PAGE - 1);
            ranges[i].length %= 16 * PAGE;
        }
        total += ranges[i].length;
    }
    refused = pmadvise_ranges_first_refused(ranges, n);
    result = pmadvise_process_madvise_checked(fd, ranges, n, advice, flags);
    CHECK(refused == n || result == -EINVAL);
    CHECK(result < 0 || (unsigned __int128)result <= total);
    CHECK(result < 0 || which == OWN);
    result = pmadvise_process_madvise(fd, ranges, n, advice, flags);
    CHECK(result < 0 || which == OWN);
    CHECK(result >= -4095 && result <= INT_MAX);
    if (n > 0) {
        result = pmadvise_process_madvise_range_checked(
            fd, ranges[0].address, ranges[0].length, advice, flags);
        CHECK(result < 0 || (pmadvise_ranges_first_refused(ranges, 1) == 1 &&
                             pmadvise_ranges_first_wrapping(ranges, 1) == 1));
        CHECK(result <= 1);
    }
    free(ranges);
}

static void
check_descriptors(struct input *in)
{
    const int wrong = -1 - (int)take(in, 3);
    const size_t which = below(in, DESCRIPTORS);
    const int given = descriptors[which];
    char *path = take_text(in, 40, NULL);
    int fd = -1, result, pid = 0;

    /* the file system shows what is there and gets no new file */
    result = pmadvise_descriptor_openat(AT_FDCWD, path, O_PATH, &fd);
    CHECK((result == 0) == (fd >= 0));
    CHECK(fd < 0 || fcntl(fd, F_GETFD) & FD_CLOEXEC);
    pmadvise_descriptor_close(&fd);
    CHECK(fd == -1);
    pmadvise_descriptor_close(&fd); /* it is no other's meanwhile */
    result = pmadvise_descriptor_dup(given, &fd);
    CHECK((result == 0) == (given >= 0) && (fd >= 0) == (given >= 0));
    CHECK(fd < 0 || (fd != given && fcntl(fd, F_GETFD) & FD_CLOEXEC));
    CHECK((pmadvise_descriptor_filesystem(fd) >= 0) == (fd >= 0));
    pmadvise_descriptor_close(&fd);
    CHECK(pmadvise_descriptor_dup(wrong, &fd) == -EBADF && fd == -1);
    CHECK(pmadvise_descriptor_pidfd_open(wrong, 0, &fd) < 0 && fd == -1);
    CHECK(pmadvise_descriptor_pidfd_open(getpid(), 1, &fd) == -EINVAL &&
          fd == -1);
    CHECK(pmadvise_pidfd_open(wrong, 0) < 0);
    CHECK(pmadvise_pidfd_open(getpid(), 1) == -EINVAL);
    result = pmadvise_pidfd_send_signal(wrong, 0);
    /* PIDFD_SELF_THREAD and its like, Linux 6.14, are negative numbers too */
    CHECK(result == -EBADF || (result == 0 && wrong <= -100));
    result = pmadvise_pidfd_send_signal(given, which == OWN ? 0 : (int)wrong);
    CHECK((result == 0) == (which == OWN));
    CHECK(pmadvise_procmap_query(given) < 0);
    result = pmadvise_pidfd_info(given, &pid);
    CHECK((result >= 0) == (which == OWN || which == EXITED));
    CHECK(pid == (which == OWN ? getpid() : which == EXITED ? -1 : 0));
    result = pmadvise_descriptor_proc(given, getpid(), &fd);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(which != OWN || result == 0);
    CHECK(which != EXITED || result == 1);
    pmadvise_descriptor_close(&fd);
    CHECK(pmadvise_descriptor_proc(given, wrong | INT_MIN, &fd) < 0);
    CHECK(fd == -1);
    free(path);
}

static void
check_own_memory(struct input *in)
{
    struct pmadvise_range range = {(uintptr_t)odd_number(in),
                                   (size_t)odd_number(in)};
    struct pmadvise_range *out = exactly(8, sizeof(*out));
    struct pmadvise_vma *vmas = exactly(8, sizeof(*vmas));
    const int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    size_t index = 0;
    uintptr_t from = 0, walk_end = 0, start, end;
    ssize_t n;

    CHECK(maps >= 0 && pagemap >= 0);
    if (take(in, 1) % 2) /* where something is, and around it */
        range.address = (uintptr_t)out - range.address % (1 << 20);
    if (range.length > 0 - range.address && range.address)
        range.length = 0 - range.address;
    n = pmadvise_procmap_vmas(maps, &range, 1, &index, &from, vmas, 8);
    CHECK(n == -ENOTTY || (n >= 0 && n <= 8 && (n == 8 || index == 1)));
    for (ssize_t i = 0; i < n; i++) {
        CHECK(vmas[i].start < vmas[i].end);
        CHECK(vmas[i].end - 1 >= range.address);
        CHECK(vmas[i].start <= range.address + (range.length - 1));
        CHECK(i == 0 || vmas[i - 1].end <= vmas[i].start);
    }
    start = range.address & ~(uintptr_t)(PAGE - 1);
    end = start + range.length % (1 << 24) / PAGE * PAGE;
    if (end >= start) {
        n = pmadvise_pagemap_scan(pagemap, start, end,
                                  (1 + below(in, 99)) * PAGE,
                                  PMADVISE_PAGE_IS_PRESENT,
                                  PMADVISE_PAGE_IS_PFNZERO, &walk_end, out, 8);
        CHECK(n <= 8 && (n < 0 || (walk_end >= start && walk_end <= end)));
        n = pmadvise_pagemap_read(pagemap, -1, start, end,
                                  PMADVISE_PAGES_PRESENT, &walk_end, out, 8);
        CHECK(n <= 8 && (n < 0 || (walk_end >= start && walk_end <= end)));
    }
    CHECK(pmadvise_pagemap_scan(descriptors[PIPE], 0, PAGE, PAGE, 0, 0,
                                &walk_end, out, 8) < 0);
    CHECK(pmadvise_pagemap_read(descriptors[PIPE], -1, 0, PAGE, 0, &walk_end,
                                out, 8) == -ESPIPE);
    close(pagemap);
    close(maps);
    free(vmas);
    free(out);
}

/* A byte of each page of the own process, at any address, and of none else. */
static void
check_touch(struct input *in, int own)
{
    const size_t n = below(in, 40) +
                     (take(in, 1) == 255 ? PMADVISE_TOUCH_MAX : 0);
    struct pmadvise_range *pages = exactly(n, sizeof(*pages));
    const struct pmadvise_range *here = pages;
    struct pmadvise_mm_fingerprint mm;
    int64_t n_read = INT64_MIN;
    char path[32];
    int result, stat_fd;

    for (size_t i = 0; i < n; i++) {
        pages[i].address = (uintptr_t)odd_number(in);
        if (take(in, 1) % 2)
            pages[i].address = (uintptr_t)&here;
        pages[i].length = PAGE;
    }
    CHECK(pmadvise_mm_read(own, getpid(), &mm) == 0);
    snprintf(path, sizeof(path), "task/%d/stat", getpid());
    stat_fd = openat(own, path, O_RDONLY | O_CLOEXEC);
    CHECK(stat_fd >= 0);
    result = pmadvise_mm_touch(stat_fd, getpid(), -1, &mm, pages, n, &n_read);
    if (n > PMADVISE_TOUCH_MAX) {
        CHECK(result == -EINVAL && n_read == INT64_MIN);
    } else {
        CHECK(result == PMADVISE_MM_CURRENT);
        CHECK(n_read <= (int64_t)n);
        CHECK(n_read >= 0 || n_read == -EFAULT);
    }
    n_read = INT64_MIN;
    mm.start_code++;
    CHECK(pmadvise_mm_touch(stat_fd, getpid(), -1, &mm, pages, n, &n_read) ==
          PMADVISE_MM_EXEC);
    CHECK(n_read == INT64_MIN);
    close(stat_fd);
    free(pages);
}

static void
check_gone(struct input *in)
{
    const struct pmadvise_mm_fingerprint mm = {take(in, 4), take(in, 4), 0, 0};
    const struct pmadvise_burst burst = {
        take(in, 1), 0, UINT64_MAX, UINT64_MAX, take(in, 1), take(in, 1)};
    const int wrong = descriptors[below(in, 3)];
    struct pmadvise_range range = {PAGE, PAGE};
    struct pmadvise_tally tally = {0};
    struct pmadvise_thread thread = {exited, 0, 0, 0};
    int own = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC), result;

    CHECK(own >= 0);
    result = pmadvise_mm_advise(descriptors[EXITED], wrong, -1, &mm, &range, 1,
                                PMADVISE_MADV_COLD, &burst, &tally);
    CHECK(result != PMADVISE_MM_CURRENT && tally.calls == 0);
    CHECK(pmadvise_mm_ended(own, exited, -1, &mm) == PMADVISE_MM_EXITED);
    CHECK(pmadvise_task_list(wrong, &thread, 1) < 0);
    CHECK(pmadvise_task_list(own, &thread, 1) > 0);
    CHECK(thread.tid == getpid());
    CHECK(pmadvise_task_ended(exited, 1) == 1);
    CHECK(pmadvise_task_ended(getpid(), (unsigned int)below(in, 50)) == 0);
    CHECK(pmadvise_task_ended(-1 - (int)take(in, 2), 0) == 0);
    check_touch(in, own);
    close(own);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size}, none = {bytes, 0};
    static void (*const checks[])(struct input *) = {
        check_advice, check_descriptors, check_own_memory, check_gone};

    set_up();
    kernel_begin(&none);
    checks[below(&in, 4)](&in);
    return 0;
}
