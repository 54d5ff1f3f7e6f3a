/* SPDX-License-Identifier: MIT */
/* What the harnesses share: the input, checks, and a kernel with a script. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "../../../csrc/pmadvise.h"

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__,      \
                    #condition);                                              \
            abort();                                                          \
        }                                                                     \
    } while (0)

enum { PAGE = 4096 }; /* of the scripted pagemap: what getpagesize() returns */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* input.c: the bytes of a run, taken from the front; zeros once they end. */
struct input {
    const uint8_t *at;
    size_t left;
};

uint64_t take(struct input *in, size_t bytes);
/* A number below `bound`, which is not 0. */
size_t below(struct input *in, size_t bound);
/* An address or length: small, round, at a boundary, or any. */
uint64_t odd_number(struct input *in);
/* malloc(3) of exactly so many bytes, so that ASan sees the end; never NULL.
 */
void *exactly(size_t n, size_t size);
/* Let a range end where addresses do, at the latest. */
void end_in_space(struct pmadvise_range *range);
/* Up to `most` ranges of odd numbers, in no order. */
struct pmadvise_range *draw_ranges(struct input *in, size_t most, size_t *n);
/* A copy of up to `most` bytes, with a NUL behind them. */
char *take_text(struct input *in, size_t most, size_t *length);

/*
 * kernel.c: stands in for the system calls of csrc/ (ld --wrap).  File
 * descriptors from FAKE on are its own; all others are passed on.
 */
enum {
    FAKE = 1 << 20,
    FAKE_DIRECTORY = FAKE, /* /proc/PID, and every other directory */
    FILES = 8,
    TASKS = 80
};

struct file {
    const char *path; /* NULL: no such file */
    const char *bytes;
    size_t size;
    size_t grain; /* reads give a multiple of so many bytes */
    size_t at;    /* of read(2) */
    bool open;
};

/* A thread as ptrace(2) shows it. */
struct task {
    int tid;
    bool dead;
    bool refuses;    /* EPERM to a tracer */
    bool elsewhere;  /* of another process */
    bool seized;     /* by us */
    bool stopped;    /* by us */
    bool event_stop; /* PTRACE_EVENT_STOP, else a signal is to be delivered */
    int signal;
    int detached_with; /* -1: not detached */
    bool reaped;
};

struct kernel {
    struct input *faults; /* short reads and EINTR are drawn from it */
    struct file files[FILES];
    struct task tasks[TASKS];
    size_t n_tasks;
    bool directory_open;
    size_t listed;
    bool may_fail; /* of reads, with EIO */
    int refusal;   /* errno of every openat(2), 0: none */
    /* answers of ioctl(2) and of syscall(2); NULL: ENOTTY, the real one */
    int (*ioctl)(int fd, unsigned long request, void *argument);
    long (*syscall)(long number);
    ssize_t (*pwrite)(const void *buffer, size_t size, size_t offset);
    uint64_t slept;     /* pauses that were made to their end */
    uint64_t signal_at; /* a signal comes in the pause behind so many */
    int ptrace_refusal; /* errno of a filter, 0: none */
    bool stop_pending;  /* PTRACE_PEEKSIGINFO shows a SIGSTOP */
};

extern struct kernel kernel;

void kernel_begin(struct input *faults);
/* Put a file into FAKE_DIRECTORY; returns its file descriptor, open. */
int kernel_file(size_t i, const char *path, const void *bytes, size_t size);
/* Every file descriptor that was opened by a path has been closed. */
void kernel_end(void);

#endif
