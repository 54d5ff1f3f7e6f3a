/* SPDX-License-Identifier: MIT */
/*
 * The end of an mm, by execve(2) or exit, and advice to, or a look at the
 * pages of, no later mm.
 *
 * An open /proc/PID/maps belongs for ever to the mm that it was opened on,
 * which shows an execve(2), except where others share the old mm, as the
 * parent of a vfork(2) child does.  There /proc/PID/stat shows it: execve(2)
 * clears PF_FORKNOEXEC, and sets start_code and start_stack.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "pmadvise.h"

/* PF_EXITING and PF_FORKNOEXEC, include/linux/sched.h */
enum { EXITING = 0x4, FORKNOEXEC = 0x40 };

/* ADDR_NO_RANDOMIZE, include/uapi/linux/personality.h */
enum { NO_RANDOMIZE = 0x0040000 };

/* fs/proc/array.c, do_task_stat(): fields numbered as in proc_pid_stat(5) */
enum { STATE = 3, FLAGS = 9, START_CODE = 26, START_STACK = 28 };

enum { STAT_SIZE = 1024 };

/* The numbers of a stat of `length` bytes.  Returns 0, or -errno. */
static int
parse(char text[STAT_SIZE], ssize_t length, struct pmadvise_mm_fingerprint *mm)
{
    const char *at;
    char state = 'X';
    unsigned long flags = 0;

    if (length < 0)
        return (int)length;
    text[length] = '\0';
    /* the name, which may hold anything, ends at the last bracket */
    at = strrchr(text, ')');
    if (!at)
        return -EPROTO;
    memset(mm, 0, sizeof(*mm));
    for (int field = STATE; *at && field <= START_STACK; field++) {
        at += strcspn(at, " ");
        at += *at == ' ';
        if (field == STATE)
            state = *at;
        else if (field == FLAGS)
            flags = strtoul(at, NULL, 10);
        else if (field == START_CODE)
            mm->start_code = strtoull(at, NULL, 10);
        else if (field == START_STACK)
            mm->start_stack = strtoull(at, NULL, 10);
    }
    mm->forked = (flags & FORKNOEXEC) != 0;
    mm->exiting = (flags & EXITING) || state == 'Z' || state == 'X';
    return *at ? 0 : -EPROTO;
}

/*
 * Read the leader of the process whose /proc/PID is `proc`, by the file of the
 * thread: that of the process adds up all its threads.  Returns 0, or
 * -errno: ENOENT or ESRCH when it is gone.  Needs no permission, but
 * `start_code` is 1 and `start_stack` 0 where ptrace read access is refused,
 * and both are 0 where there is no mm.  See proc_pid_stat(5).
 */
int
pmadvise_mm_read(int proc, int pid, struct pmadvise_mm_fingerprint *mm)
{
    char path[48], text[STAT_SIZE];

    snprintf(path, sizeof(path), "task/%d/stat", pid);
    return parse(text, pmadvise_read_small(proc, path, text, STAT_SIZE - 1),
                 mm);
}

/* The same of an open file task/PID/stat, in one system call. */
static int
read_open(int stat_fd, struct pmadvise_mm_fingerprint *mm)
{
    char text[STAT_SIZE];
    ssize_t n;

    do
        n = pread(stat_fd, text, STAT_SIZE - 1, 0);
    while (n < 0 && errno == EINTR);
    return parse(text, n < 0 ? -errno : n, mm);
}

/*
 * Returns whether the addresses of a process's next program are random: 1 or
 * 0 by its personality(2), or -errno: EACCES, the file may not be read.
 */
int
pmadvise_mm_is_random(int proc)
{
    char text[32];
    ssize_t n = pmadvise_read_small(proc, "personality", text,
                                    sizeof(text) - 1);

    if (n < 0)
        return (int)n;
    text[n] = '\0';
    return !(strtoul(text, NULL, 16) & NO_RANDOMIZE);
}

/*
 * Whether the mm that the file was opened on has not been torn down; true
 * without a file.
 */
static int
lives(int maps_fd)
{
    int result = maps_fd < 0 ? 0 : pmadvise_procmap_query(maps_fd);
    char byte;
    ssize_t n;

    if (result == 0 || result == -ENOENT || result == -ESRCH)
        return result != -ESRCH;
    /* before Linux 6.11: nothing to read, no mm */
    n = pread(maps_fd, &byte, 1, 0);
    return n > 0 || (n < 0 && errno != ESRCH);
}

static int
end_of(int alive, int error, struct pmadvise_mm_fingerprint now,
       const struct pmadvise_mm_fingerprint *then)
{
    if (error == -ENOENT || error == -ESRCH)
        return PMADVISE_MM_EXITED;
    if (error)
        return error;
    if (now.exiting)
        return PMADVISE_MM_EXITED;
    /* execve(2) sets start_code when it has mapped the new program */
    if (now.start_code == 0 || !alive || now.forked != then->forked)
        return PMADVISE_MM_EXEC;
    if (now.start_code == 1 && now.start_stack == 0)
        return PMADVISE_MM_REFUSED;
    return now.start_code == then->start_code &&
                   now.start_stack == then->start_stack
               ? PMADVISE_MM_CURRENT
               : PMADVISE_MM_EXEC;
}

/*
 * Returns what became of the mm `then` of a process, on which `maps_fd` was
 * opened (-1: no file is): one of enum pmadvise_mm_end, or -errno.
 */
int
pmadvise_mm_ended(int proc, int pid, int maps_fd,
                  const struct pmadvise_mm_fingerprint *then)
{
    struct pmadvise_mm_fingerprint now = {0};
    int alive = lives(maps_fd);
    int error = pmadvise_mm_read(proc, pid, &now);

    return end_of(alive, error, now, then);
}

/* The same, by an open file task/PID/stat. */
static int
ended_by(int stat_fd, int maps_fd, const struct pmadvise_mm_fingerprint *then)
{
    struct pmadvise_mm_fingerprint now = {0};
    int alive = lives(maps_fd);
    int error = read_open(stat_fd, &now);

    return end_of(alive, error, now, then);
}

static uint64_t
nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/*
 * Let the target have its turn, if it is due.  Returns whether there is no
 * turn left to give: not where there is no pause, or a signal cut it short.
 */
static int
had_its_turn(const struct pmadvise_burst *burst, struct pmadvise_tally *tally)
{
    const struct timespec pause = {0, (long)burst->pause};

    if (tally->locked < burst->turn)
        return 1;
    if (burst->pause == 0 || nanosleep(&pause, NULL) != 0)
        return 0;
    tally->locked = 0;
    return 1;
}

/*
 * Advise `n` ranges if the process of an open task/PID/stat still runs in the
 * mm `then`; `maps_fd` as pmadvise_mm_ended() has it.  Nothing stands between
 * the check and the call, nor between the call and the tally.
 *
 * One range taken whole moves on by its length, and is advised again in the
 * same way, as far as `burst` lets it: where it stands then, and the tally's
 * result, are of the last call.  A signal in a pause ends it, so that its
 * handler runs.
 *
 * Returns as pmadvise_mm_ended() does; the call was made, and tally->result is
 * the bytes advised or -errno, if that is PMADVISE_MM_CURRENT.
 * See process_madvise(2).
 */
int
pmadvise_mm_advise(int pidfd, int stat_fd, int maps_fd,
                   const struct pmadvise_mm_fingerprint *then,
                   struct pmadvise_range *ranges, size_t n, int advice,
                   const struct pmadvise_burst *burst,
                   struct pmadvise_tally *tally)
{
    const uint64_t first = nanoseconds();

    for (uint64_t more = burst->more;; more--) {
        int ended = ended_by(stat_fd, maps_fd, then);
        uint64_t begin, end;

        if (ended != PMADVISE_MM_CURRENT)
            return ended;
        begin = nanoseconds();
        tally->result = pmadvise_process_madvise(pidfd, ranges, n, advice, 0);
        end = nanoseconds();
        tally->nanoseconds = end - begin;
        tally->spent += tally->nanoseconds;
        if (tally->nanoseconds > tally->longest)
            tally->longest = tally->nanoseconds;
        if (tally->result > 0) {
            tally->advised += (uint64_t)tally->result;
            tally->locked += tally->nanoseconds;
        }
        tally->calls++;
        if (n != 1 || more == 0 || tally->result <= 0 ||
            (uint64_t)tally->result != ranges->length ||
            tally->nanoseconds < burst->least ||
            tally->nanoseconds > burst->most || end - first >= burst->room ||
            !had_its_turn(burst, tally))
            return ended;
        ranges->address += ranges->length;
    }
}

/*
 * Read a byte of each of `n` pages, at most PMADVISE_TOUCH_MAX, if the process
 * of an open task/PID/stat runs in the mm `then`, before and after: each is
 * then in the page table, and has been used.  `pid` is the number in the
 * caller's namespace, by which alone the kernel lets memory be read: one given
 * to another process in between would have bytes of its read, and told to
 * nobody.  Returns as pmadvise_mm_ended(); if that is PMADVISE_MM_CURRENT,
 * *result is the pages read before the first that can't be, or -errno.
 * See process_vm_readv(2).
 */
int
pmadvise_mm_touch(int stat_fd, int pid, int maps_fd,
                  const struct pmadvise_mm_fingerprint *then,
                  const struct pmadvise_range *pages, size_t n,
                  int64_t *result)
{
    struct iovec remote[PMADVISE_TOUCH_MAX];
    char bytes[PMADVISE_TOUCH_MAX];
    struct iovec local = {bytes, n};
    int ended = ended_by(stat_fd, maps_fd, then);
    ssize_t n_read;

    if (ended != PMADVISE_MM_CURRENT)
        return ended;
    if (n > PMADVISE_TOUCH_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        remote[i].iov_base = (void *)pages[i].address;
        remote[i].iov_len = 1;
    }
    n_read = process_vm_readv(pid, &local, 1, remote, n, 0);
    *result = n_read < 0 ? -errno : n_read;
    return ended_by(stat_fd, maps_fd, then);
}
