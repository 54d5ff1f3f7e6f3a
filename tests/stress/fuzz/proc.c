/* SPDX-License-Identifier: MIT */
/*
 * The files of /proc/PID of any content, and as the kernel writes them:
 * csrc/read.c, csrc/mm.c, csrc/task.c, and pidfd_info of csrc/descriptor.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { PID = 77, MOST = 20000, FIELDS = 52 };

static void
check_read(struct input *in)
{
    size_t size, n = below(in, 300);
    uint64_t offset = odd_number(in) >> 2;
    char *bytes = take_text(in, 300, &size), *buffer = exactly(n, 1);
    int fd = kernel_file(0, "file", bytes, size);
    size_t whole = size < n ? size : n, rest;
    ssize_t got = pmadvise_read_file(FAKE_DIRECTORY, "file", buffer, n);

    CHECK(got == (ssize_t)whole && memcmp(buffer, bytes, whole) == 0);
    got = pmadvise_read_small(FAKE_DIRECTORY, "file", buffer, n);
    CHECK(got >= 0 && (size_t)got <= whole && (got > 0) == (whole > 0));
    CHECK(memcmp(buffer, bytes, (size_t)got) == 0);
    offset = take(in, 1) % 2 ? offset : offset % (size + 1);
    rest = offset < size ? size - offset : 0;
    got = pmadvise_pread(fd, buffer, n, offset);
    CHECK(got == (ssize_t)(rest < n ? rest : n));
    CHECK(memcmp(buffer, bytes + (rest ? offset : 0), (size_t)got) == 0);
    CHECK(pmadvise_read_small(FAKE_DIRECTORY, "no", buffer, n) == -ENOENT);
    CHECK(pmadvise_read_file(FAKE_DIRECTORY, "no", buffer, n) == -ENOENT);
    free(buffer);
    free(bytes);
}

/* stat, fields numbered as in proc_pid_stat(5), of a thread of any name. */
static size_t
write_stat(struct input *in, char *text, uint64_t *fields)
{
    char name[16] = {0};
    size_t n;

    for (size_t i = 0; i < sizeof(name) - 1; i++)
        name[i] = (char)(take(in, 1) | (i % 3 == 0 ? ')' : 0));
    n = (size_t)sprintf(text, "%d (%s) %c", PID, name,
                        "RSDTtZXIP"[fields[0] = below(in, 9)]);
    for (size_t i = 4; i <= FIELDS; i++) {
        fields[i] = i == 9 ? take(in, 4) : odd_number(in);
        n += (size_t)sprintf(text + n, " %zu", (size_t)fields[i]);
    }
    return n + (size_t)sprintf(text + n, "\n");
}

static int query_error;
static int calls;

static int
no_query(int fd, unsigned long request, void *argument)
{
    (void)fd, (void)request, (void)argument;
    errno = query_error;
    return query_error ? -1 : 0;
}

static long call_result;

static long
counted(long number)
{
    (void)number;
    calls++;
    errno = call_result < 0 ? (int)-call_result : 0;
    return call_result < 0 ? -1 : call_result;
}

/* Advice, as stat shows the process, and as it was found: in `mm`. */
static int
advise(struct input *in, int maps_fd, const struct pmadvise_mm_fingerprint *mm)
{
    struct pmadvise_burst burst = {
        take(in, 1) % 4,
        0,
        UINT64_MAX,
        UINT64_MAX,
        take(in, 1) % 2 ? UINT64_MAX : 0,
        take(in, 1) % 2 * 20000,
    };
    const int is_long = take(in, 1) % 2, has_turns = burst.turn == 0;
    int most = 1 + (int)burst.more;
    struct pmadvise_range range = {PAGE, PAGE};
    struct pmadvise_tally tally = {0};
    char path[32];
    int ended, stat_fd;

    kernel.syscall = counted;
    calls = 0;
    call_result = (long)below(in, 2 * PAGE) - PAGE;
    if (take(in, 1) % 2)
        call_result = PAGE;
    kernel.slept = 0;
    kernel.signal_at = take(in, 1) % 4;
    if (has_turns && burst.pause == 0)
        most = 1;
    if (has_turns && most > 1 + (int)kernel.signal_at)
        most = 1 + (int)kernel.signal_at;
    if (!is_long) {
        burst.least = odd_number(in) % 2000;
        burst.most = odd_number(in) % 2000;
        burst.room = odd_number(in) % 2000;
    }
    snprintf(path, sizeof(path), "task/%d/stat", PID);
    stat_fd = openat(FAKE_DIRECTORY, path, O_RDONLY | O_CLOEXEC);
    CHECK(stat_fd >= 0);
    ended = pmadvise_mm_advise(5, stat_fd, maps_fd, mm, &range, 1,
                               PMADVISE_MADV_COLD, &burst, &tally);
    close(stat_fd);
    kernel.syscall = NULL;
    /* nothing is advised but where it is found to be the same */
    CHECK((calls > 0) == (ended == PMADVISE_MM_CURRENT));
    /* a call is followed if it took all, and as far as it may be */
    CHECK(calls <= (call_result == PAGE ? most : 1));
    CHECK(calls == 0 || call_result != PAGE || !is_long || calls == most);
    /* with a pause before each of the others, or with none */
    CHECK(kernel.slept == (uint64_t)(has_turns && calls ? calls - 1 : 0));
    CHECK(range.address == (uintptr_t)PAGE * (calls ? (uintptr_t)calls : 1));
    CHECK(tally.calls == (uint64_t)calls);
    CHECK(tally.result == (calls ? call_result : 0));
    CHECK(tally.advised ==
          (call_result > 0 ? (uint64_t)calls * (uint64_t)call_result : 0));
    CHECK(tally.locked == (call_result <= 0   ? 0
                           : kernel.slept > 0 ? tally.nanoseconds
                                              : tally.spent));
    CHECK(tally.longest >= tally.nanoseconds);
    CHECK(tally.spent >= tally.longest);
    CHECK(calls > 1 || tally.spent == tally.nanoseconds);
    return ended;
}

static void
check_ended(struct input *in, struct pmadvise_mm_fingerprint mm)
{
    int wanted = PMADVISE_MM_CURRENT;

    if (mm.exiting)
        wanted = PMADVISE_MM_EXITED;
    else if (mm.start_code == 0)
        wanted = PMADVISE_MM_EXEC;
    else if (mm.start_code == 1 && mm.start_stack == 0)
        wanted = PMADVISE_MM_REFUSED;
    CHECK(advise(in, -1, &mm) == wanted);
    switch (below(in, 3)) { /* as it was before an execve(2) */
    case 0:
        mm.forked = !mm.forked;
        wanted = wanted == PMADVISE_MM_REFUSED ? PMADVISE_MM_EXEC : wanted;
        break;
    case 1:
        mm.start_code += 1 + take(in, 4);
        break;
    default:
        mm.start_stack += 1 + take(in, 4);
    }
    wanted = wanted == PMADVISE_MM_CURRENT ? PMADVISE_MM_EXEC : wanted;
    CHECK(advise(in, -1, &mm) == wanted);
}

static void
check_name(const char *stat, const struct pmadvise_status *found)
{
    const char *begin = strchr(stat, '(') + 1;
    size_t length = (size_t)(strrchr(stat, ')') - begin);

    if (length > sizeof(found->name))
        length = sizeof(found->name);
    CHECK(found->name_length == length);
    CHECK(memcmp(found->name, begin, length) == 0);
}

static void
check_stat(struct input *in)
{
    char stat[2048], status[256];
    uint64_t fields[FIELDS + 1];
    struct pmadvise_status found;
    struct pmadvise_mm_fingerprint mm;
    size_t n = write_stat(in, stat, fields);
    uint64_t rss = take(in, 6);
    char state = "RSDTtZXIP"[fields[0]];

    sprintf(status,
            "Name:\tVmRSS: 1 kB\\nVmSwap:\nVmRSS:\t%8zu kB\n"
            "VmSwap:\t 3 kB\n",
            (size_t)rss);
    kernel_file(0, "task/77/stat", stat, n);
    kernel_file(1, "stat", stat, n);
    kernel_file(2, "status", status, strlen(status));
    /* the kernel gives these in one piece */
    for (size_t i = 0; i < 3; i++)
        kernel.files[i].grain = MOST;
    if (n > 1000)
        return; /* longer than any that a kernel writes */
    CHECK(pmadvise_mm_read(FAKE_DIRECTORY, PID, &mm) == 0);
    CHECK(mm.start_code == fields[26] && mm.start_stack == fields[28]);
    CHECK(mm.forked == (fields[9] >> 6 & 1));
    CHECK(mm.exiting ==
          ((fields[9] >> 2 & 1) || state == 'Z' || state == 'X'));
    CHECK(pmadvise_status_read(FAKE_DIRECTORY, &found) == 0);
    CHECK(found.state == state && found.major_faults == fields[12]);
    CHECK(found.cpu_ticks == fields[14] + fields[15]);
    CHECK(found.threads == fields[20] && found.start_ticks == fields[22]);
    CHECK(found.rss == rss * 1024 && found.swap == 3 * 1024);
    CHECK(found.anonymous == 0 && found.locked == 0);
    CHECK(found.parent == (int)fields[4]);
    check_name(stat, &found);
    check_ended(in, mm);
}

/* Lines longer than any block, with what is looked for in front and behind. */
static void
check_status(struct input *in)
{
    static char text[3 * MOST];
    struct pmadvise_status found;
    static const char stat[] = "7 (a) S 1 1 1 0 -1 0 0 0 0 0 5 6 7 8 20 0 "
                               "9 0 10 0 0\n";
    uint64_t swap = take(in, 5);
    uint32_t uid = (uint32_t)take(in, 4);
    size_t n = 0;

    n += (size_t)sprintf(text, "Name:\ta\nUid:\t%u\t%u\t3\t4\nVmRSS:\t 4 kB\n",
                         ~uid, uid);
    for (size_t line = below(in, 3); line > 0; line--) {
        n += (size_t)sprintf(text + n, "Groups:\t");
        memset(text + n, '7', MOST);
        n += below(in, MOST);
        text[n++] = '\n';
    }
    n += (size_t)sprintf(text + n, "VmSwap:\t%8zu kB\n", (size_t)swap);
    kernel_file(0, "status", text, n);
    kernel_file(1, "stat", stat, strlen(stat));
    kernel.files[0].grain = kernel.files[1].grain = 3 * MOST;
    CHECK(pmadvise_status_read(FAKE_DIRECTORY, &found) == 0);
    CHECK(found.rss == 4096 && found.swap == swap * 1024);
    CHECK(found.threads == 9 && found.start_ticks == 10);
    CHECK(found.uid == uid && found.parent == 1);
    CHECK(found.name_length == 1 && found.name[0] == 'a');
}

static bool
is_error(ssize_t result)
{
    return result == 0 || result == -EPROTO || result == -ENOENT ||
           result == -EIO || result == -EINTR || result == -ESRCH;
}

/* Every file of any content. */
static void
check_any(struct input *in)
{
    static const char *const paths[FILES] = {
        "status",         "stat",        "task/77/stat",
        "task/77/status", "personality", "/proc/self/fdinfo/5",
        "maps",
    };
    static const int errors[] = {0, ESRCH, ENOENT, ENOTTY};
    struct pmadvise_status status;
    struct pmadvise_mm_fingerprint mm = {0, 0, 0, 0};
    struct pmadvise_thread thread = {PID, 0, 0, 0};
    char *bytes[FILES] = {NULL};
    int maps_fd, pid = 0, result, ended;

    kernel.ioctl = no_query;
    kernel.may_fail = true;
    query_error = errors[below(in, 4)];
    for (size_t i = 0; paths[i]; i++) {
        size_t size;

        bytes[i] = take_text(in, 1 + below(in, 256), &size);
        kernel_file(i, paths[i], bytes[i], size);
    }
    maps_fd = below(in, 2) ? -1 : FAKE + 7;
    CHECK(is_error(pmadvise_status_read(FAKE_DIRECTORY, &status)));
    CHECK(is_error(pmadvise_mm_read(FAKE_DIRECTORY, PID, &mm)));
    result = pmadvise_mm_is_random(FAKE_DIRECTORY);
    CHECK(result == 1 || is_error(result));
    result = pmadvise_pidfd_info(5, &pid);
    CHECK(pmadvise_pidfd_info(INT_MAX, &pid) == -ENOENT);
    result = pmadvise_task_status(FAKE_DIRECTORY, &thread, 1);
    CHECK(is_error(result));

    ended = advise(in, maps_fd, &mm);
    CHECK(is_error(ended) || (ended > 0 && ended <= PMADVISE_MM_REFUSED));
    for (size_t i = 0; i < FILES; i++)
        free(bytes[i]);
}

static void
check_tasks(struct input *in)
{
    const size_t capacity = below(in, TASKS + 1);
    struct pmadvise_thread *threads = exactly(capacity, sizeof(*threads));
    char text[200];
    ssize_t n;

    kernel.n_tasks = below(in, TASKS + 1);
    for (size_t i = 0; i < kernel.n_tasks; i++)
        kernel.tasks[i].tid = (int)(take(in, 4) & 0x3fffff) + 1;
    if (below(in, 8) == 0)
        kernel.refusal = EACCES;
    n = pmadvise_task_list(FAKE_DIRECTORY, threads, capacity);
    if (kernel.refusal)
        CHECK(n == -EACCES);
    else
        CHECK(n == -ENOMEM || n == -ENOENT || n == (ssize_t)kernel.n_tasks);
    for (size_t i = 0; n > 0 && i < (size_t)n && i < capacity; i++) {
        char path[32];
        const char state = "RSDTtZXIP"[below(in, 9)];
        int tracer = (int)(take(in, 3));

        CHECK(threads[i].tid == kernel.tasks[i].tid);
        CHECK(threads[i].state == 0 && threads[i].seized == 0);
        snprintf(path, sizeof(path), "task/%d/status", threads[i].tid);
        snprintf(text, sizeof(text),
                 "Name:\tState:\tX\\nTracerPid:\t1\nUmask:\t0000\nState:\t%c "
                 "(x)\nTgid:\t1\nPid:\t1\nTracerPid:\t%d\nUid:\t0\n",
                 state, tracer);
        kernel_file(0, path, text, strlen(text));
        kernel.files[0].grain = sizeof(text);
        CHECK(pmadvise_task_status(FAKE_DIRECTORY, threads + i, 1) == 0);
        CHECK(threads[i].state == state && threads[i].tracer == tracer);
        kernel.files[0].path = NULL; /* it has gone */
        CHECK(pmadvise_task_status(FAKE_DIRECTORY, threads + i, 1) == 0);
        CHECK(threads[i].state == 'X' && threads[i].tracer == 0);
    }
    free(threads);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size - size / 4};
    struct input faults = {bytes + size - size / 4, size / 4};
    static void (*const checks[])(struct input *) = {
        check_read, check_stat, check_status, check_any, check_tasks};

    kernel_begin(&faults);
    checks[below(&in, 5)](&in);
    kernel_end();
    return 0;
}
