from typing import Any

class _FFI:
    NULL: Any
    def new(self, cdecl: str, init: Any = ...) -> Any: ...
    def from_buffer(self, cdecl: str, python_buffer: Any) -> Any: ...
    def buffer(self, cdata: Any, size: int = ...) -> Any: ...
    def gc(self, cdata: Any, destructor: Any) -> Any: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def new_allocator(self, *, should_clear_after_alloc: bool) -> Any: ...
    def sizeof(self, cdecl: str) -> int: ...

# The types of the C functions' arguments stand in csrc/pmadvise.h.
class _Lib:
    PMADVISE_MADV_NORMAL: int
    PMADVISE_MADV_RANDOM: int
    PMADVISE_MADV_SEQUENTIAL: int
    PMADVISE_MADV_WILLNEED: int
    PMADVISE_MADV_DONTNEED: int
    PMADVISE_MADV_FREE: int
    PMADVISE_MADV_REMOVE: int
    PMADVISE_MADV_DONTFORK: int
    PMADVISE_MADV_DOFORK: int
    PMADVISE_MADV_MERGEABLE: int
    PMADVISE_MADV_UNMERGEABLE: int
    PMADVISE_MADV_HUGEPAGE: int
    PMADVISE_MADV_NOHUGEPAGE: int
    PMADVISE_MADV_DONTDUMP: int
    PMADVISE_MADV_DODUMP: int
    PMADVISE_MADV_WIPEONFORK: int
    PMADVISE_MADV_KEEPONFORK: int
    PMADVISE_MADV_COLD: int
    PMADVISE_MADV_PAGEOUT: int
    PMADVISE_MADV_POPULATE_READ: int
    PMADVISE_MADV_POPULATE_WRITE: int
    PMADVISE_MADV_DONTNEED_LOCKED: int
    PMADVISE_MADV_COLLAPSE: int
    PMADVISE_MADV_HWPOISON: int
    PMADVISE_MADV_SOFT_OFFLINE: int
    PMADVISE_MADV_GUARD_INSTALL: int
    PMADVISE_MADV_GUARD_REMOVE: int
    @staticmethod
    def pmadvise_pidfd_open(pid: int, flags: int, /) -> int: ...
    @staticmethod
    def pmadvise_pidfd_info(pidfd: int, pid: Any, /) -> int: ...
    @staticmethod
    def pmadvise_pidfd_send_signal(pidfd: int, sig: int, /) -> int: ...
    @staticmethod
    def pmadvise_descriptor_openat(
        directory: int, path: bytes, flags: int, fd: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_descriptor_pidfd_open(pid: int, flags: int, fd: Any, /) -> int: ...
    @staticmethod
    def pmadvise_descriptor_proc(pidfd: int, pid: int, fd: Any, /) -> int: ...
    @staticmethod
    def pmadvise_descriptor_dup(other: int, fd: Any, /) -> int: ...
    @staticmethod
    def pmadvise_descriptor_filesystem(fd: int, /) -> int: ...
    @staticmethod
    def pmadvise_descriptor_close(fd: Any, /) -> None: ...
    @staticmethod
    def pmadvise_process_madvise(
        pidfd: int, ranges: Any, n: int, advice: int, flags: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_process_madvise_checked(
        pidfd: int, ranges: Any, n: int, advice: int, flags: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_process_madvise_range_checked(
        pidfd: int, address: int, length: int, advice: int, flags: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_fill(
        ranges: Any, addresses: Any, lengths: Any, n: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_first_wrapping(ranges: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ranges_first_refused(ranges: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ranges_first_unaligned(ranges: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ranges_overlap(
        ranges: Any, n: int, merged: Any, m: int, overlap: Any, /
    ) -> None: ...
    @staticmethod
    def pmadvise_ranges_total(ranges: Any, n: int, total: Any, /) -> None: ...
    @staticmethod
    def pmadvise_ranges_merge(ranges: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ranges_intersect(
        a: Any, na: int, b: Any, nb: int, out: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_subtract(
        a: Any, na: int, b: Any, nb: int, out: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_split(
        ranges: Any, n: int, max_bytes: int, page_size: int, out: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_blocks(
        a: Any, na: int, b: Any, nb: int, size: int, least: int, out: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ranges_batch(
        ranges: Any,
        n: int,
        index: Any,
        offset: Any,
        max_bytes: int,
        max_element: int,
        alignment: int,
        out: Any,
        capacity: int,
        /,
    ) -> int: ...
    PMADVISE_VMA_READABLE: int
    PMADVISE_VMA_WRITABLE: int
    PMADVISE_VMA_EXECUTABLE: int
    PMADVISE_VMA_SHARED: int
    PMADVISE_VMA_ANONYMOUS: int
    @staticmethod
    def pmadvise_pread(fd: int, buffer: Any, size: int, offset: int, /) -> int: ...
    @staticmethod
    def pmadvise_read_small(
        directory: int, path: bytes, buffer: Any, size: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_read_file(
        directory: int, path: bytes, buffer: Any, size: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_status_read(proc: int, status: Any, /) -> int: ...
    @staticmethod
    def pmadvise_maps_read(
        fd: int, text: Any, size: int, vmas: Any, capacity: int, state: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_vmas_select(
        vmas: Any,
        n: int,
        text: Any,
        mask: int,
        flags: int,
        min_length: int,
        pattern: Any,
        scratch: Any,
        out: Any,
        /,
    ) -> int: ...
    @staticmethod
    def pmadvise_vmas_changed(
        old: Any,
        n_old: int,
        old_text: Any,
        now: Any,
        n_now: int,
        now_text: Any,
        out: Any,
        /,
    ) -> int: ...
    @staticmethod
    def pmadvise_vmas_cut(
        vmas: Any, n_vmas: int, ranges: Any, n: int, out: Any, mapped: Any, /
    ) -> int: ...
    @staticmethod
    def pmadvise_procmap_query(maps_fd: int, /) -> int: ...
    @staticmethod
    def pmadvise_procmap_vmas(
        maps_fd: int,
        ranges: Any,
        n: int,
        index: Any,
        from_: Any,
        vmas: Any,
        capacity: int,
        /,
    ) -> int: ...
    PMADVISE_MM_CURRENT: int
    PMADVISE_MM_EXEC: int
    PMADVISE_MM_EXITED: int
    PMADVISE_MM_REFUSED: int
    @staticmethod
    def pmadvise_mm_read(proc: int, pid: int, mm: Any, /) -> int: ...
    @staticmethod
    def pmadvise_mm_is_random(proc: int, /) -> int: ...
    @staticmethod
    def pmadvise_mm_ended(proc: int, pid: int, maps_fd: int, then: Any, /) -> int: ...
    @staticmethod
    def pmadvise_mm_advise(
        pidfd: int,
        stat_fd: int,
        maps_fd: int,
        then: Any,
        ranges: Any,
        n: int,
        advice: int,
        burst: Any,
        tally: Any,
        /,
    ) -> int: ...
    PMADVISE_TOUCH_MAX: int
    @staticmethod
    def pmadvise_mm_touch(
        stat_fd: int,
        pid: int,
        maps_fd: int,
        then: Any,
        pages: Any,
        n: int,
        result: Any,
        /,
    ) -> int: ...
    PMADVISE_PAGE_IS_PRESENT: int
    PMADVISE_PAGE_IS_SWAPPED: int
    PMADVISE_PAGE_IS_PFNZERO: int
    PMADVISE_PAGE_IS_HUGE: int
    PMADVISE_PAGE_IS_GUARD: int
    PMADVISE_PAGES_PRESENT: int
    PMADVISE_PAGES_SWAPPED: int
    PMADVISE_PAGES_SHARED: int
    @staticmethod
    def pmadvise_pagemap_walks(
        ranges: Any, n: int, out: Any, capacity: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_pagemap_scan(
        pagemap_fd: int,
        start: int,
        end: int,
        most: int,
        wanted: int,
        unwanted: int,
        walk_end: Any,
        out: Any,
        capacity: int,
        /,
    ) -> int: ...
    @staticmethod
    def pmadvise_pagemap_read(
        pagemap_fd: int,
        kpageflags_fd: int,
        start: int,
        end: int,
        kind: int,
        walk_end: Any,
        out: Any,
        capacity: int,
        /,
    ) -> int: ...
    PMADVISE_PAGE_WATCHED: int
    PMADVISE_PAGE_IDLE: int
    @staticmethod
    def pmadvise_pagemap_exclusive(
        pagemap_fd: int,
        ranges: Any,
        n: int,
        index: Any,
        start: Any,
        out: Any,
        capacity: int,
        /,
    ) -> int: ...
    @staticmethod
    def pmadvise_pages_marked(pages: Any, n: int, marks: int, out: Any, /) -> int: ...
    @staticmethod
    def pmadvise_page_idle_look(
        kpageflags_fd: int, bitmap_fd: int, pages: Any, n: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_task_list(proc: int, threads: Any, capacity: int, /) -> int: ...
    @staticmethod
    def pmadvise_task_status(proc: int, threads: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_task_ended(tid: int, microseconds: int, /) -> int: ...
    @staticmethod
    def pmadvise_ptrace_refused() -> int: ...
    @staticmethod
    def pmadvise_ptrace_seize(
        proc: int, threads: Any, n: int, deadline: int, /
    ) -> int: ...
    @staticmethod
    def pmadvise_ptrace_stopped(threads: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ptrace_detach(threads: Any, n: int, /) -> int: ...
    @staticmethod
    def pmadvise_ptrace_reap(threads: Any, n: int, leader: int, /) -> int: ...

ffi: _FFI
lib: _Lib
