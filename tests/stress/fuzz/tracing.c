/* SPDX-License-Identifier: MIT */
/*
 * csrc/ptrace.c against threads that die, are others', refuse, stop late or
 * have a signal on its way: none that is let go is left stopped, and none
 * loses its signal.
 */
#include <errno.h>
#include <signal.h>

#include "fuzz.h"

static void
draw(struct input *in, struct pmadvise_thread *threads)
{
    static const int signals[] = {SIGTRAP, SIGSTOP, SIGTSTP, SIGUSR1, SIGSEGV};

    for (size_t i = 0; i < kernel.n_tasks; i++) {
        struct task *task = &kernel.tasks[i];
        uint64_t bits = take(in, 2);

        task->tid = 100 + (int)i;
        task->dead = bits & 1;
        task->refuses = bits & 2;
        task->elsewhere = bits & 4;
        task->seized = bits & 8;
        task->stopped = task->seized && bits & 16;
        task->event_stop = bits & 32;
        task->signal = signals[(bits >> 6) % 5];
        task->detached_with = -1;
        /* some that are not there, or got listed twice */
        threads[i].tid = 100 + (int)(bits & 0x800 ? below(in, TASKS) : i);
        threads[i].seized = 0;
    }
    kernel.stop_pending = take(in, 1) & 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size / 2};
    struct input faults = {bytes + size / 2, size - size / 2};
    struct pmadvise_thread *threads;
    size_t n, stopped, wanted = 0, dead = 0, stopping;
    int refused;

    kernel_begin(&faults);
    n = kernel.n_tasks = below(&in, TASKS + 1);
    threads = exactly(n, sizeof(*threads));
    draw(&in, threads);
    CHECK(pmadvise_ptrace_refused() == 0);
    kernel.ptrace_refusal = EPERM;
    refused = pmadvise_ptrace_refused();
    CHECK(refused == 0 || refused == EPERM);
    kernel.ptrace_refusal = 0;

    for (size_t rounds = 1 + below(&in, 3); rounds > 0; rounds--) {
        const uint64_t deadline = take(&in, 1) % 4 ? UINT64_MAX : 0;
        /* when it has passed, that is seen after a while */
        const size_t reached = deadline || n < 64 ? n : 63;

        stopped = pmadvise_ptrace_seize(FAKE_DIRECTORY, threads, n, deadline);
        for (size_t j = 0; j < n; j++) {
            stopped -= j < reached && threads[j].seized == 1;
            CHECK(threads[j].seized <= 1);
        }
        CHECK(stopped == 0);
    }
    for (size_t i = 0; i < n; i++) {
        const struct task *task = &kernel.tasks[threads[i].tid - 100];
        bool exists = (size_t)threads[i].tid - 100 < n;

        wanted += exists && !task->dead && task->seized && task->stopped;
        CHECK(threads[i].seized < 1 || (exists && task->seized));
    }
    CHECK(pmadvise_ptrace_stopped(threads, n) == wanted);
    stopping = pmadvise_ptrace_detach(threads, n);
    CHECK(stopping <= n + 1);
    CHECK(pmadvise_ptrace_stopped(threads, n) == 0);
    for (size_t i = 0; i < n; i++) {
        const struct task *task = &kernel.tasks[threads[i].tid - 100];

        if ((size_t)threads[i].tid - 100 >= n)
            continue;
        CHECK(task->dead || !task->stopped);
        CHECK(task->detached_with < 0 ||
              task->detached_with == (task->event_stop ? 0 : task->signal));
        CHECK(stopping || task->detached_with != SIGSTOP);
    }
    for (size_t i = 0; i < n; i++) {
        dead += kernel.tasks[i].dead && kernel.tasks[i].seized && i != 0;
    }
    CHECK(pmadvise_ptrace_reap(threads, n, 100) <= dead);
    CHECK(!kernel.tasks[0].reaped); /* the leader's status is its parent's */
    free(threads);
    kernel_end();
    return 0;
}
