/* SPDX-License-Identifier: MIT */
/*
 * A target of the stress tests: ./stress_target FD MODE NUMBER
 *
 * FD is a file that is mapped and has the counters of enum below. It verifies
 * what it wrote to its own memory; a wrong page is counted in WRONG. EXECS counts
 * the execve(2) that began, and STARTED the programs that run or ran.
 *
 *   storm SEED    four threads map, unmap, move, protect, lock, fork and exec
 *                 at random, without end
 *   calm SEED     the same without exec
 *   rest SIZE     16 areas of SIZE pages, one locked; a command a line of one
 *                 byte on stdin: v verify, e exec, x exit
 *   crowd N       N threads that wait
 *   mosaic N      N mappings of a page each
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STARTED, WRONG, VERIFIED, FORKS, EXECS, CHANGES, REFUSED, READY, STEPS };
enum { THREADS = 4, SLOTS = 12, AREAS = 16 };

static volatile uint64_t *counters;
static char **arguments;
static size_t page_size;
static int may_exec;

struct area {
    unsigned char *start;
    size_t pages;
    uint64_t seed;
};

static void count(int which, uint64_t more)
{
    __atomic_fetch_add(&counters[which], more, __ATOMIC_RELAXED);
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static void fill(struct area *area, uint64_t seed)
{
    area->seed = seed;
    for (size_t page = 0; page < area->pages; page++) {
        uint64_t *word = (uint64_t *)(area->start + page * page_size);
        uint64_t state = seed + page;

        for (size_t i = 0; i < page_size / 8; i++)
            word[i] = next(&state);
    }
}

/* Returns the number of wrong pages. */
static size_t wrong_pages(const struct area *area)
{
    size_t wrong = 0;

    for (size_t page = 0; page < area->pages; page++) {
        const uint64_t *word =
            (const uint64_t *)(area->start + page * page_size);
        uint64_t state = area->seed + page, differs = 0;

        for (size_t i = 0; i < page_size / 8; i++)
            differs |= word[i] ^ next(&state);
        wrong += differs != 0;
    }
    return wrong;
}

static void verify(struct area *area)
{
    if (mprotect(area->start, area->pages * page_size,
                 PROT_READ | PROT_WRITE)) {
        count(REFUSED, 1); /* the limit of mappings */
        return;
    }
    count(WRONG, wrong_pages(area));
    count(VERIFIED, area->pages);
}

static int map_area(struct area *area, size_t pages, uint64_t seed)
{
    unsigned char *start =
        mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    area->start = NULL;
    if (start == MAP_FAILED) {
        count(REFUSED, 1);
        return -1;
    }
    area->start = start;
    area->pages = pages;
    fill(area, seed);
    return 0;
}

static void unmap(struct area *area)
{
    verify(area);
    if (munmap(area->start, area->pages * page_size))
        count(REFUSED, 1);
    area->start = NULL;
}

static void move(struct area *area, size_t pages)
{
    size_t size = area->pages * page_size;
    void *start;

    verify(area); /* and so one mapping again, but for locked parts */
    munlock(area->start, size);
    start = mremap(area->start, size, pages * page_size, MREMAP_MAYMOVE);
    if (start == MAP_FAILED) {
        count(REFUSED, 1);
        return;
    }
    area->start = start;
    area->pages = pages;
    fill(area, area->seed + 1);
}

static void fork_one(const struct area *area)
{
    pid_t child = fork();

    if (child == 0)
        _exit(wrong_pages(area) != 0);
    if (child < 0) {
        count(REFUSED, 1);
    } else {
        int status = 0;

        while (waitpid(child, &status, 0) < 0)
            ;
        /* a child of a process that is frozen or killed may be killed too */
        if (WIFEXITED(status) && WEXITSTATUS(status))
            count(WRONG, 1);
        count(FORKS, 1);
    }
}

static void exec_again(uint64_t number)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    arguments[3] = text;
    count(EXECS, 1);
    execv("/proc/self/exe", arguments);
    execv(arguments[0], arguments); /* without /proc */
    count(REFUSED, 1);
}

static void step(struct area *areas, uint64_t *state)
{
    struct area *area = &areas[next(state) % SLOTS];
    size_t pages = 1 + next(state) % 64;
    size_t at, length;

    if (area->start == NULL) {
        if (next(state) % 64 == 0)
            pages = 1024; /* has a huge page, where these are made */
        map_area(area, pages, next(state));
        count(CHANGES, 1);
        return;
    }
    at = next(state) % area->pages;
    length = (1 + next(state) % (area->pages - at)) * page_size;
    at *= page_size;
    switch (next(state) % 16) {
    case 0:
    case 1:
        unmap(area);
        break;
    case 2:
    case 3:
        move(area, pages);
        break;
    case 4:
        mprotect(area->start + at, length, PROT_NONE);
        break;
    case 5:
        mprotect(area->start + at, length, PROT_READ);
        break;
    case 6:
    case 7:
        mlock(area->start + at, length);
        break;
    case 8:
        munlock(area->start, area->pages * page_size);
        break;
    case 9:
        verify(area);
        fork_one(area);
        break;
    case 10:
        verify(area);
        fill(area, next(state));
        break;
    case 11:
        if (may_exec && next(state) % 64 == 0)
            exec_again(next(state) >> 1);
        break;
    default:
        verify(area);
        return;
    }
    count(CHANGES, 1);
}

static void *storm(void *argument)
{
    uintptr_t number = (uintptr_t)argument;
    uint64_t state = strtoull(arguments[3], NULL, 10) * THREADS + number;
    struct area areas[SLOTS] = {0};

    for (;;) {
        step(areas, &state);
        count(STEPS + (int)number, 1);
        usleep(200);
    }
    return argument;
}

static void rest(size_t pages)
{
    struct area areas[AREAS];
    char command;

    for (int i = 0; i < AREAS; i++)
        map_area(&areas[i], pages, (uint64_t)i << 32);
    mlock(areas[3].start, page_size);
    count(READY, 1);
    while (read(0, &command, 1) == 1) {
        if (command == 'v') {
            for (int i = 0; i < AREAS; i++)
                verify(&areas[i]);
            count(READY, 1);
        } else if (command == 'e') {
            exec_again(pages);
        } else if (command == 'x') {
            _exit(0);
        }
    }
}

static void *wait_for_ever(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument,
                  size_t stack)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    if (pthread_create(thread, &attributes, run, argument)) {
        count(REFUSED, 1);
        _exit(2);
    }
}

static void mosaic(size_t pages)
{
    unsigned char *start = mmap(NULL, pages * page_size, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (start == MAP_FAILED)
        _exit(2);
    for (size_t i = 0; i < pages; i += 2)
        if (mprotect(start + i * page_size, page_size,
                     PROT_READ | PROT_WRITE))
            _exit(3);
    for (size_t i = 0; i < pages; i += 2)
        start[i * page_size] = 1;
}

int main(int argc, char **argv)
{
    size_t number;
    pthread_t thread;

    if (argc != 4)
        return 2;
    arguments = argv;
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    number = strtoull(argv[3], NULL, 10);
    counters = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                    atoi(argv[1]), 0);
    if (counters == MAP_FAILED)
        return 2;
    count(STARTED, 1);
    counters[EXECS] = counters[STARTED] - 1; /* two threads may have begun one */
    may_exec = strcmp(argv[2], "storm") == 0;
    if (may_exec || strcmp(argv[2], "calm") == 0) {
        count(READY, 1);
        for (uintptr_t i = 1; i < THREADS; i++)
            start(&thread, storm, (void *)i, 1 << 18);
        storm(NULL);
    } else if (strcmp(argv[2], "rest") == 0) {
        rest(number);
        return 0;
    } else if (strcmp(argv[2], "crowd") == 0) {
        for (size_t i = 1; i < number; i++)
            start(&thread, wait_for_ever, NULL, 1 << 15);
    } else if (strcmp(argv[2], "mosaic") == 0) {
        mosaic(number);
    } else {
        return 2;
    }
    count(READY, 1);
    wait_for_ever(NULL);
}
