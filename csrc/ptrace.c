/* SPDX-License-Identifier: MIT */
/*
 * Stop every thread of a process by ptrace(2), and let them go.
 *
 * The kernel ties a tracee to the tracer's thread: a thread seized here is
 * detached by the same thread, or by the kernel when that thread ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmadvise.h"

enum { EVENT_STOP = 128 }; /* PTRACE_EVENT_STOP, include/uapi/linux/ptrace.h */

/*
 * Returns the errno with which a filter refuses a request that is made here,
 * 0 if none does.  The kernel itself finds no process 0 (ESRCH).  See
 * seccomp(2).
 */
int
pmadvise_ptrace_refused(void)
{
    siginfo_t info;

    if (ptrace(PTRACE_SEIZE, 0, NULL, NULL) < 0 && errno != ESRCH)
        return errno;
    if (ptrace(PTRACE_INTERRUPT, 0, NULL, NULL) < 0 && errno != ESRCH)
        return errno;
    if (ptrace(PTRACE_GETSIGINFO, 0, NULL, &info) < 0 && errno != ESRCH)
        return errno;
    if (ptrace(PTRACE_DETACH, 0, NULL, NULL) < 0 && errno != ESRCH)
        return errno;
    return 0;
}

/*
 * Returns the signal that a thread, stopped by us, is to have on detaching: 0
 * if it was not about to get one; -ESRCH if it is not stopped by us.  Not
 * asked by waitpid(2), as a wait for any child elsewhere in the caller would
 * take the answer away.
 */
static int
stopped_with(int tid)
{
    siginfo_t info;

    if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) < 0)
        return -errno;
    return info.si_code >> 8 == EVENT_STOP ? 0 : info.si_signo;
}

static int
seize(int proc, int tid)
{
    char path[32];
    int refusal = 0;
    int signal = stopped_with(tid);
    siginfo_t info;
    char link;

    /*
     * Of the caller's own child, a waitpid(2) elsewhere in it would take the
     * stop for an exit: so take the status away.  But not where a signal is
     * to be delivered, which the kernel would lose with it if the caller died.
     */
    if (signal == 0)
        waitid(P_PID, (id_t)tid, &info,
               WSTOPPED | WNOHANG | __WALL | __WNOTHREAD);
    if (signal >= 0)
        return 1;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0) {
        refusal = errno;
    } else {
        /*
         * A seized thread keeps its ID until it is reaped, or gets the
         * leader's by an execve(2): a thread elsewhere with the ID is a
         * stranger.
         */
        snprintf(path, sizeof(path), "task/%d", tid);
        /*
         * EINVAL: it is there, and no link.  Not by faccessat(2), which asks
         * for the rights of the real user.
         */
        if (readlinkat(proc, path, &link, 1) < 0 && errno != EINVAL)
            return kill(tid, 0) < 0 && errno == ESRCH ? -ESRCH : -EXDEV;
    }
    /* it works on our tracees alone, so a refusal of one is forgotten */
    return ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0
               ? 0
               : -(refusal ? refusal : errno);
}

/* CLOCK_MONOTONIC in nanoseconds. */
static uint64_t
now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/*
 * Seize and interrupt `n` listed threads, those not yet seized, of the process
 * whose /proc/PID is `proc`, until `deadline`, CLOCK_MONOTONIC in nanoseconds;
 * may be called again and again.  Sets `seized`: 1 stopped, 0 not yet, or
 * -errno: -EXDEV for a thread of another process, that got the ID of one that
 * died.  Returns how many are stopped.  Blocks while a thread of the process
 * is in execve(2), which may in turn wait for pmadvise_ptrace_reap().  See
 * ptrace(2).
 */
size_t
pmadvise_ptrace_seize(int proc, struct pmadvise_thread *threads, size_t n,
                      uint64_t deadline)
{
    size_t stopped = 0;

    for (size_t i = 0; i < n; i++) {
        if (i % 64 == 63 && now() > deadline)
            break;
        threads[i].seized = seize(proc, threads[i].tid);
        stopped += threads[i].seized == 1;
    }
    return stopped;
}

/* Returns how many of `n` threads are stopped by the calling thread. */
size_t
pmadvise_ptrace_stopped(const struct pmadvise_thread *threads, size_t n)
{
    size_t stopped = 0;

    for (size_t i = 0; i < n; i++)
        stopped += stopped_with(threads[i].tid) >= 0;
    return stopped;
}

/* Returns whether a SIGSTOP of a stopped thread's process is on its way. */
static int
is_stop_pending(int tid)
{
    struct __ptrace_peeksiginfo_args queue = {
        .off = 0, .flags = PTRACE_PEEKSIGINFO_SHARED, .nr = 32};
    siginfo_t pending[32];
    long n = ptrace(PTRACE_PEEKSIGINFO, tid, &queue, pending);

    for (long i = 0; i < n; i++) {
        if (pending[i].si_signo == SIGSTOP)
            return 1;
    }
    return 0;
}

/*
 * Detach from those of `n` threads that are stopped, each with the signal it
 * was about to get.  Returns how many of them will stop again at once, as
 * their process was stopped by a signal or is about to be.  See ptrace(2),
 * "Group-stop".
 */
size_t
pmadvise_ptrace_detach(const struct pmadvise_thread *threads, size_t n)
{
    size_t stopping = 0;

    for (size_t i = 0, looked = 0; i < n; i++) {
        siginfo_t info;
        int signal, in_group_stop;

        if (ptrace(PTRACE_GETSIGINFO, threads[i].tid, NULL, &info) < 0)
            continue;
        signal = info.si_code >> 8 == EVENT_STOP ? 0 : info.si_signo;
        in_group_stop = signal == 0 && info.si_signo != SIGTRAP;
        if (!looked++)
            stopping += is_stop_pending(threads[i].tid) == 1;
        if (ptrace(PTRACE_DETACH, threads[i].tid, NULL,
                   (void *)(intptr_t)signal) == 0)
            stopping += in_group_stop || signal == SIGSTOP;
    }
    return stopping;
}

/*
 * Reap those of `n` threads that died while a thread of the caller traced
 * them: an execve(2) of their process waits for that.  Never thread `leader`,
 * whose exit status is its parent's.  Returns how many.  See waitid(2).
 */
size_t
pmadvise_ptrace_reap(const struct pmadvise_thread *threads, size_t n,
                     int leader)
{
    size_t reaped = 0;

    for (size_t i = 0; i < n; i++) {
        siginfo_t info;

        info.si_pid = 0;
        if (threads[i].tid != leader &&
            waitid(P_PID, (id_t)threads[i].tid, &info,
                   WEXITED | WNOHANG | __WALL) == 0)
            reaped += info.si_pid != 0;
    }
    return reaped;
}
