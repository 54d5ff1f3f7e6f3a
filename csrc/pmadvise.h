/* SPDX-License-Identifier: MIT */
/*
 * Everything that Python sees of the C code, stated once: cffi reads this
 * file as its cdef and the C files include it.  So it holds declarations
 * alone, no preprocessor line; <stdint.h> and <sys/types.h> come before it.
 *
 * Every function returns a value >= 0, or -errno; none keeps state.
 */

/* One element of the vector: laid out as struct iovec, address an integer. */
struct pmadvise_range {
    uintptr_t address;
    size_t length;
};

/*
 * include/uapi/asm-generic/mman-common.h, Linux 6.18.  Advice is tested
 * against these, and process_madvise.c asserts them against the headers of the
 * build.
 */
enum pmadvise_madv {
    PMADVISE_MADV_NORMAL = 0,
    PMADVISE_MADV_RANDOM = 1,
    PMADVISE_MADV_SEQUENTIAL = 2,
    PMADVISE_MADV_WILLNEED = 3,
    PMADVISE_MADV_DONTNEED = 4,
    PMADVISE_MADV_FREE = 8,
    PMADVISE_MADV_REMOVE = 9,
    PMADVISE_MADV_DONTFORK = 10,
    PMADVISE_MADV_DOFORK = 11,
    PMADVISE_MADV_MERGEABLE = 12,
    PMADVISE_MADV_UNMERGEABLE = 13,
    PMADVISE_MADV_HUGEPAGE = 14,
    PMADVISE_MADV_NOHUGEPAGE = 15,
    PMADVISE_MADV_DONTDUMP = 16,
    PMADVISE_MADV_DODUMP = 17,
    PMADVISE_MADV_WIPEONFORK = 18,
    PMADVISE_MADV_KEEPONFORK = 19,
    PMADVISE_MADV_COLD = 20,
    PMADVISE_MADV_PAGEOUT = 21,
    PMADVISE_MADV_POPULATE_READ = 22,
    PMADVISE_MADV_POPULATE_WRITE = 23,
    PMADVISE_MADV_DONTNEED_LOCKED = 24,
    PMADVISE_MADV_COLLAPSE = 25,
    PMADVISE_MADV_HWPOISON = 100,
    PMADVISE_MADV_SOFT_OFFLINE = 101,
    PMADVISE_MADV_GUARD_INSTALL = 102,
    PMADVISE_MADV_GUARD_REMOVE = 103
};

/* process_madvise.c */
ssize_t pmadvise_process_madvise(int pidfd,
                                 const struct pmadvise_range *ranges, size_t n,
                                 int advice, unsigned int flags);
ssize_t pmadvise_process_madvise_checked(int pidfd,
                                         const struct pmadvise_range *ranges,
                                         size_t n, int advice,
                                         unsigned int flags);
int pmadvise_process_madvise_range_checked(int pidfd, uintptr_t address,
                                           size_t length, int advice,
                                           unsigned int flags);

/* descriptor.c */
int pmadvise_pidfd_open(int pid, unsigned int flags);
int pmadvise_pidfd_info(int pidfd, int *pid);
int pmadvise_pidfd_send_signal(int pidfd, int sig);
int pmadvise_descriptor_openat(int directory, const char *path, int flags,
                               int *fd);
int pmadvise_descriptor_pidfd_open(int pid, unsigned int flags, int *fd);
int pmadvise_descriptor_proc(int pidfd, int pid, int *fd);
int pmadvise_descriptor_dup(int other, int *fd);
int64_t pmadvise_descriptor_filesystem(int fd);
void pmadvise_descriptor_close(int *fd);

/* ranges.c */
size_t pmadvise_ranges_fill(struct pmadvise_range *ranges,
                            const uintptr_t *addresses, const size_t *lengths,
                            size_t n);
size_t pmadvise_ranges_first_wrapping(const struct pmadvise_range *ranges,
                                      size_t n);
size_t pmadvise_ranges_first_refused(const struct pmadvise_range *ranges,
                                     size_t n);
size_t pmadvise_ranges_first_unaligned(const struct pmadvise_range *ranges,
                                       size_t n);
void pmadvise_ranges_overlap(const struct pmadvise_range *ranges, size_t n,
                             const struct pmadvise_range *merged, size_t m,
                             size_t *overlap);
void pmadvise_ranges_total(const struct pmadvise_range *ranges, size_t n,
                           uint64_t *total);
size_t pmadvise_ranges_merge(struct pmadvise_range *ranges, size_t n);
size_t pmadvise_ranges_intersect(const struct pmadvise_range *a, size_t na,
                                 const struct pmadvise_range *b, size_t nb,
                                 struct pmadvise_range *out);
size_t pmadvise_ranges_subtract(const struct pmadvise_range *a, size_t na,
                                const struct pmadvise_range *b, size_t nb,
                                struct pmadvise_range *out);
size_t pmadvise_ranges_split(const struct pmadvise_range *ranges, size_t n,
                             size_t max_bytes, size_t page_size,
                             struct pmadvise_range *out);
size_t pmadvise_ranges_blocks(const struct pmadvise_range *a, size_t na,
                              const struct pmadvise_range *b, size_t nb,
                              size_t size, size_t least,
                              struct pmadvise_range *out);
size_t pmadvise_ranges_batch(const struct pmadvise_range *ranges, size_t n,
                             size_t *index, size_t *offset, size_t max_bytes,
                             size_t max_element, size_t alignment,
                             struct pmadvise_range *out, size_t capacity);

/* read.c */
struct pmadvise_status {
    uint32_t uid; /* effective */
    int parent;
    int state; /* a letter */
    uint64_t threads;
    /* bytes */
    uint64_t rss;
    uint64_t anonymous;
    uint64_t file;
    uint64_t shmem;
    uint64_t swap;
    uint64_t locked;
    uint64_t cpu_ticks;
    uint64_t major_faults;
    uint64_t start_ticks; /* since boot */
    unsigned char name_length;
    char name[64]; /* TASK_COMM_LEN is 16; kernel threads have longer ones */
};

ssize_t pmadvise_pread(int fd, char *buffer, size_t size, uint64_t offset);
ssize_t pmadvise_read_small(int directory, const char *path, char *buffer,
                            size_t size);
ssize_t pmadvise_read_file(int directory, const char *path, char *buffer,
                           size_t size);
int pmadvise_status_read(int proc, struct pmadvise_status *status);

/* maps.c */
enum pmadvise_vma_flags {
    /* as in struct procmap_query's vma_flags */
    PMADVISE_VMA_READABLE = 1,
    PMADVISE_VMA_WRITABLE = 2,
    PMADVISE_VMA_EXECUTABLE = 4,
    PMADVISE_VMA_SHARED = 8,
    /* no file, and no page of the kernel's such as [vdso] */
    PMADVISE_VMA_ANONYMOUS = 0x100
};

/* A line of /proc/PID/maps; its path is text[path .. path + path_length). */
struct pmadvise_vma {
    uintptr_t start;
    uintptr_t end;
    uint64_t offset;
    uint64_t inode;
    size_t path;
    uint32_t path_length;
    uint32_t major;
    uint32_t minor;
    uint32_t flags;
};

/* How far maps was read and parsed. */
struct pmadvise_maps_state {
    size_t used;   /* bytes of the text */
    size_t parsed; /* bytes of these */
    size_t n;      /* VMAs */
};

int pmadvise_maps_read(int fd, char *text, size_t size,
                       struct pmadvise_vma *vmas, size_t capacity,
                       struct pmadvise_maps_state *state);
size_t pmadvise_vmas_select(const struct pmadvise_vma *vmas, size_t n,
                            const char *text, uint32_t mask, uint32_t flags,
                            size_t min_length, const char *pattern,
                            char *scratch, struct pmadvise_range *out);
size_t pmadvise_vmas_changed(const struct pmadvise_vma *old, size_t n_old,
                             const char *old_text,
                             const struct pmadvise_vma *now, size_t n_now,
                             const char *now_text, struct pmadvise_range *out);
size_t pmadvise_vmas_cut(const struct pmadvise_vma *vmas, size_t n_vmas,
                         const struct pmadvise_range *ranges, size_t n,
                         struct pmadvise_range *out, unsigned char *mapped);

/* procmap_query.c */
int pmadvise_procmap_query(int maps_fd);
ssize_t pmadvise_procmap_vmas(int maps_fd, const struct pmadvise_range *ranges,
                              size_t n, size_t *index, uintptr_t *from,
                              struct pmadvise_vma *vmas, size_t capacity);

/* mm.c */

/* Differs between the mm of a process and an earlier or later one. */
struct pmadvise_mm_fingerprint {
    uint64_t start_code; /* 0: no mm; 1: ptrace read access is refused */
    uint64_t start_stack;
    int forked;  /* 1: it has not called execve(2) since its fork */
    int exiting; /* 1: its leader exits or has exited */
};
enum pmadvise_mm_end {
    PMADVISE_MM_CURRENT = 0,
    PMADVISE_MM_EXEC = 1,
    PMADVISE_MM_EXITED = 2,
    PMADVISE_MM_REFUSED = 3 /* ptrace read access; it may be the same */
};
/*
 * Calls and what they did, in all and (the last two) the latest of them; times
 * in nanoseconds.
 */
struct pmadvise_tally {
    uint64_t calls;
    uint64_t advised; /* bytes */
    uint64_t longest;
    uint64_t spent;
    uint64_t locked; /* of calls that advised, since the target had its turn */
    uint64_t nanoseconds;
    int64_t result;
};
/*
 * When one range is followed by calls for those behind it, each as long; times
 * in nanoseconds.
 */
struct pmadvise_burst {
    uint64_t more;  /* calls, at the most; 0: none */
    uint64_t least; /* of a call, for the next to be as long */
    uint64_t most;
    uint64_t room;  /* of all, pauses too, after which there is no next */
    uint64_t turn;  /* what may be locked before the target has its turn */
    uint64_t pause; /* that turn; 0: it is the caller's to give */
};

int pmadvise_mm_read(int proc, int pid, struct pmadvise_mm_fingerprint *mm);
int pmadvise_mm_is_random(int proc);
int pmadvise_mm_ended(int proc, int pid, int maps_fd,
                      const struct pmadvise_mm_fingerprint *then);
int pmadvise_mm_advise(int pidfd, int stat_fd, int maps_fd,
                       const struct pmadvise_mm_fingerprint *then,
                       struct pmadvise_range *ranges, size_t n, int advice,
                       const struct pmadvise_burst *burst,
                       struct pmadvise_tally *tally);
enum { PMADVISE_TOUCH_MAX = 1024 };
int pmadvise_mm_touch(int stat_fd, int pid, int maps_fd,
                      const struct pmadvise_mm_fingerprint *then,
                      const struct pmadvise_range *pages, size_t n,
                      int64_t *result);

/* pagemap.c */
enum pmadvise_page_is {
    /* categories of PAGEMAP_SCAN, include/uapi/linux/fs.h */
    PMADVISE_PAGE_IS_PRESENT = 8,
    PMADVISE_PAGE_IS_SWAPPED = 0x10,
    PMADVISE_PAGE_IS_PFNZERO = 0x20,
    PMADVISE_PAGE_IS_HUGE = 0x40,
    PMADVISE_PAGE_IS_GUARD = 0x100 /* Linux 6.15 */
};
enum pmadvise_pages {
    PMADVISE_PAGES_PRESENT = 0,
    PMADVISE_PAGES_SWAPPED = 1,
    PMADVISE_PAGES_SHARED = 2
};

size_t pmadvise_pagemap_walks(const struct pmadvise_range *ranges, size_t n,
                              struct pmadvise_range *out, size_t capacity);
ssize_t pmadvise_pagemap_scan(int pagemap_fd, uintptr_t start, uintptr_t end,
                              uint64_t most, uint64_t wanted,
                              uint64_t unwanted, uintptr_t *walk_end,
                              struct pmadvise_range *out, size_t capacity);
ssize_t pmadvise_pagemap_read(int pagemap_fd, int kpageflags_fd,
                              uintptr_t start, uintptr_t end, int kind,
                              uintptr_t *walk_end, struct pmadvise_range *out,
                              size_t capacity);

/* A page that one process alone maps. */
struct pmadvise_page {
    uintptr_t address;
    uint64_t frame;
    uint64_t marks;
};

ssize_t pmadvise_pagemap_exclusive(int pagemap_fd,
                                   const struct pmadvise_range *ranges,
                                   size_t n, size_t *index, uintptr_t *from,
                                   struct pmadvise_page *out, size_t capacity);
size_t pmadvise_pages_marked(const struct pmadvise_page *pages, size_t n,
                             uint64_t marks, struct pmadvise_range *out);

/* page_idle.c */
enum pmadvise_page_mark {
    PMADVISE_PAGE_WATCHED = 1, /* it will be known whether it is touched */
    PMADVISE_PAGE_IDLE = 2     /* not touched since it was marked idle */
};

int pmadvise_page_idle_look(int kpageflags_fd, int bitmap_fd,
                            struct pmadvise_page *pages, size_t n);

/* task.c */

/* A thread, by its ID in the pid namespace of the /proc it was listed in. */
struct pmadvise_thread {
    int tid;
    int state;  /* a letter: R, S, D, T, t, Z, X, I, P */
    int tracer; /* thread ID, 0 if none */
    int seized; /* 1: stopped by us, 0: not yet, -errno: refused */
};

ssize_t pmadvise_task_list(int proc, struct pmadvise_thread *threads,
                           size_t capacity);
int pmadvise_task_status(int proc, struct pmadvise_thread *threads, size_t n);
int pmadvise_task_ended(int tid, unsigned int microseconds);

/* ptrace.c */
int pmadvise_ptrace_refused(void);
size_t pmadvise_ptrace_seize(int proc, struct pmadvise_thread *threads,
                             size_t n, uint64_t deadline);
size_t pmadvise_ptrace_stopped(const struct pmadvise_thread *threads,
                               size_t n);
size_t pmadvise_ptrace_detach(const struct pmadvise_thread *threads, size_t n);
size_t pmadvise_ptrace_reap(const struct pmadvise_thread *threads, size_t n,
                            int leader);
