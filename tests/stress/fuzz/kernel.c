/* SPDX-License-Identifier: MIT */
/*
 * A kernel with a script: files of any content, read in pieces of any size,
 * with EINTR in between, and threads to be traced.  The linker puts these
 * functions in the place of the C library's: ld --wrap.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

struct kernel kernel;

int __real_openat(int directory, const char *path, int flags, mode_t mode);
ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __real_pwrite(int fd, const void *buffer, size_t size, off_t offset);
int __real_close(int fd);
int __real_ioctl(int fd, unsigned long request, void *argument);
long __real_syscall(long number, long a, long b, long c, long d, long e,
                    long f);

int __wrap_openat(int directory, const char *path, int flags, ...);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buffer, size_t size, off_t offset);
int __wrap_close(int fd);
int __wrap_ioctl(int fd, unsigned long request, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e,
                    long f);
DIR *__real_fdopendir(int fd);
struct dirent *__real_readdir(DIR *directory);
int __real_closedir(DIR *directory);
DIR *__wrap_fdopendir(int fd);
struct dirent *__wrap_readdir(DIR *directory);
int __wrap_closedir(DIR *directory);
int __wrap_getpagesize(void);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
ssize_t __wrap_readlinkat(int directory, const char *path, char *link,
                          size_t size);
int __wrap_kill(pid_t pid, int sig);
int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
long __wrap_ptrace(int request, ...);

static const int TASK_DIRECTORY = FAKE + FILES + 1;

void
kernel_begin(struct input *faults)
{
    memset(&kernel, 0, sizeof(kernel));
    kernel.faults = faults;
    kernel.signal_at = UINT64_MAX;
}

int
kernel_file(size_t i, const char *path, const void *bytes, size_t size)
{
    CHECK(i < FILES);
    kernel.files[i] = (struct file){path, bytes, size, 1, 0, false};
    return FAKE + 1 + (int)i;
}

void
kernel_end(void)
{
    for (size_t i = 0; i < FILES; i++)
        CHECK(!kernel.files[i].open);
    CHECK(!kernel.directory_open);
}

static struct file *
file_of(int fd)
{
    CHECK(fd > FAKE && fd <= FAKE + FILES);
    return &kernel.files[fd - FAKE - 1];
}

/* How much of `size` bytes a read gives: all, less, or -1 with EINTR. */
static ssize_t
piece(size_t size, size_t grain)
{
    uint64_t fault = size > grain ? take(kernel.faults, 1) : 0;

    if (fault == 255) {
        errno = EINTR;
        return -1;
    }
    if (fault == 254 && kernel.may_fail) {
        errno = EIO;
        return -1;
    }
    if (fault >= 128)
        return (ssize_t)((1 + (size_t)fault % (size / grain)) * grain);
    return (ssize_t)size;
}

static ssize_t
read_at(const struct file *file, size_t at, void *buffer, size_t size)
{
    size_t left = at < file->size ? file->size - at : 0;
    ssize_t n = piece(left < size ? left : size, file->grain);

    if (n > 0)
        memcpy(buffer, file->bytes + at, (size_t)n);
    return n;
}

static struct file *
named(const char *path)
{
    for (size_t i = 0; i < FILES; i++)
        if (kernel.files[i].path && strcmp(kernel.files[i].path, path) == 0)
            return &kernel.files[i];
    return NULL;
}

int
__wrap_openat(int directory, const char *path, int flags, ...)
{
    struct file *file = named(path);

    if (directory < FAKE && !file) {
        va_list more;
        mode_t mode;

        va_start(more, flags);
        mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
        va_end(more);
        return __real_openat(directory, path, flags, mode);
    }
    CHECK(flags & O_CLOEXEC);
    if (kernel.refusal) {
        errno = kernel.refusal;
        return -1;
    }
    if (flags & O_DIRECTORY) {
        CHECK(strcmp(path, "task") == 0 && !kernel.directory_open);
        kernel.directory_open = true;
        kernel.listed = 0;
        return TASK_DIRECTORY;
    }
    if (!file) {
        errno = ENOENT;
        return -1;
    }
    CHECK(!file->open);
    file->open = true;
    file->at = 0;
    return FAKE + 1 + (int)(file - kernel.files);
}

ssize_t
__wrap_read(int fd, void *buffer, size_t size)
{
    struct file *file;
    ssize_t n;

    if (fd < FAKE)
        return __real_read(fd, buffer, size);
    file = file_of(fd);
    n = read_at(file, file->at, buffer, size);
    if (n > 0)
        file->at += (size_t)n;
    return n;
}

ssize_t
__wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
    if (fd < FAKE)
        return __real_pread(fd, buffer, size, offset);
    CHECK(offset >= 0);
    return read_at(file_of(fd), (size_t)offset, buffer, size);
}

ssize_t
__wrap_pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    if (fd < FAKE)
        return __real_pwrite(fd, buffer, size, offset);
    CHECK(offset >= 0 && kernel.pwrite);
    return kernel.pwrite(buffer, size, (size_t)offset);
}

int
__wrap_close(int fd)
{
    if (fd < FAKE)
        return __real_close(fd);
    if (fd == TASK_DIRECTORY) {
        CHECK(kernel.directory_open);
        kernel.directory_open = false;
    } else {
        CHECK(file_of(fd)->open);
        file_of(fd)->open = false;
    }
    return 0;
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list more;
    void *argument;

    va_start(more, request);
    argument = va_arg(more, void *);
    va_end(more);
    if (fd < FAKE)
        return __real_ioctl(fd, request, argument);
    if (kernel.ioctl)
        return kernel.ioctl(fd, request, argument);
    errno = ENOTTY;
    return -1;
}

/* Of what the caller did not pass, anything comes in, as in the C library. */
long
__wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (kernel.syscall)
        return kernel.syscall(number);
    return __real_syscall(number, a, b, c, d, e, f);
}

DIR *
__wrap_fdopendir(int fd)
{
    if (fd != TASK_DIRECTORY)
        return __real_fdopendir(fd);
    if (take(kernel.faults, 1) == 255) {
        errno = ENOMEM;
        return NULL;
    }
    return (DIR *)&kernel;
}

struct dirent *
__wrap_readdir(DIR *directory)
{
    static struct dirent entry;
    uint64_t fault;

    if (directory != (DIR *)&kernel)
        return __real_readdir(directory);
    fault = take(kernel.faults, 1);
    if (fault == 255) {
        errno = ENOENT;
        return NULL;
    }
    if (kernel.listed == kernel.n_tasks)
        return NULL;
    if (fault == 254)
        strcpy(entry.d_name, "..");
    else
        snprintf(entry.d_name, sizeof(entry.d_name), "%d",
                 kernel.tasks[kernel.listed++].tid);
    errno = (int)(fault % 3); /* which readdir(3) may set and succeed */
    return &entry;
}

int
__wrap_closedir(DIR *directory)
{
    if (directory != (DIR *)&kernel)
        return __real_closedir(directory);
    return __wrap_close(TASK_DIRECTORY);
}

int
__wrap_getpagesize(void)
{
    return PAGE;
}

int
__wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)left;
    CHECK(time->tv_sec == 0 && time->tv_nsec < 1000000);
    if (kernel.slept == kernel.signal_at) {
        errno = EINTR;
        return -1;
    }
    kernel.slept++;
    return 0;
}

static struct task *
task_of(int tid)
{
    for (size_t i = 0; i < kernel.n_tasks; i++)
        if (kernel.tasks[i].tid == tid && !kernel.tasks[i].reaped)
            return &kernel.tasks[i];
    errno = ESRCH;
    return NULL;
}

ssize_t
__wrap_readlinkat(int directory, const char *path, char *link, size_t size)
{
    int tid = 0;
    const struct task *task;

    CHECK(directory == FAKE_DIRECTORY && link && size == 1);
    CHECK(sscanf(path, "task/%d", &tid) == 1);
    task = task_of(tid);
    errno = task && !task->elsewhere ? EINVAL : ENOENT; /* a directory */
    return -1;
}

int
__wrap_kill(pid_t pid, int sig)
{
    CHECK(sig == 0);
    return task_of(pid) ? 0 : -1;
}

int
__wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    struct task *task = task_of((int)id);

    CHECK(type == P_PID && options & WNOHANG);
    if (!task) {
        errno = ECHILD;
        return -1;
    }
    memset(info, 0, sizeof(*info));
    if (options & WEXITED && task->dead && task->seized) {
        task->reaped = true;
        info->si_pid = task->tid;
    }
    return 0;
}

long
__wrap_ptrace(int request, ...)
{
    struct task *task;
    va_list more;
    void *argument, *data;
    int tid;

    va_start(more, request);
    tid = va_arg(more, int);
    argument = va_arg(more, void *);
    data = va_arg(more, void *);
    va_end(more);
    if (kernel.ptrace_refusal && take(kernel.faults, 1) >= 128) {
        errno = kernel.ptrace_refusal;
        return -1;
    }
    task = task_of(tid);
    if (!task)
        return -1;
    errno = ESRCH;
    if (task->dead)
        return -1;
    if (request == PTRACE_SEIZE) {
        errno = EPERM;
        if (task->seized || task->refuses)
            return -1;
        task->seized = true;
        return 0;
    }
    if (request == PTRACE_INTERRUPT) {
        if (!task->seized)
            return -1;
        task->stopped = take(kernel.faults, 1) < 128; /* or it is later */
        return 0;
    }
    if (!task->seized || !task->stopped)
        return -1;
    if (request == PTRACE_GETSIGINFO) {
        siginfo_t *info = data;

        memset(info, 0, sizeof(*info));
        info->si_signo = task->signal;
        info->si_code = task->event_stop ? 128 << 8 | task->signal : SI_USER;
        return 0;
    }
    if (request == PTRACE_PEEKSIGINFO) {
        const struct __ptrace_peeksiginfo_args *queue = argument;
        siginfo_t *pending = data;

        CHECK(queue->nr > 0);
        memset(pending, 0, (size_t)queue->nr * sizeof(*pending));
        pending[queue->nr - 1].si_signo = kernel.stop_pending ? SIGSTOP
                                                              : SIGUSR1;
        return queue->nr;
    }
    CHECK(request == PTRACE_DETACH);
    task->seized = task->stopped = false;
    task->detached_with = (int)(intptr_t)data;
    return 0;
}
