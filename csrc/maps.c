/* SPDX-License-Identifier: MIT */
/* The text of /proc/PID/maps as an array, and questions to the array. */
#define _GNU_SOURCE
#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

/* dev_t of include/linux/kdev_t.h */
enum { MAJOR_MAX = (1 << 12) - 1, MINOR_MAX = (1 << 20) - 1 };

enum { BLOCK = 1 << 16 };

/* Where the parser stands in a line. */
struct cursor {
    const char *at;
    const char *end;
};

/* Take a number of at least one digit, and the byte `after` behind it. */
static bool
number(struct cursor *c, unsigned int base, char after, uint64_t *value)
{
    const char *first = c->at;
    uint64_t v = 0;

    for (; c->at < c->end; c->at++) {
        unsigned int digit;

        if (*c->at >= '0' && *c->at <= '9')
            digit = (unsigned int)(*c->at - '0');
        else if (base == 16 && *c->at >= 'a' && *c->at <= 'f')
            digit = (unsigned int)(*c->at - 'a') + 10;
        else
            break;
        if (v > (UINT64_MAX - digit) / base)
            return false;
        v = v * base + digit;
    }
    if (c->at == first || c->at == c->end || *c->at != after)
        return false;
    c->at++;
    *value = v;
    return true;
}

static bool
permission(struct cursor *c, char set, char clear, uint32_t flag,
           uint32_t *flags)
{
    if (c->at == c->end || (*c->at != set && *c->at != clear))
        return false;
    if (*c->at == set)
        *flags |= flag;
    c->at++;
    return true;
}

static bool
starts_with(const char *path, size_t length, const char *prefix)
{
    size_t n = strlen(prefix);

    return length >= n && memcmp(path, prefix, n) == 0;
}

/* fs/proc/task_mmu.c, show_map_vma() and get_vma_name() */
static bool
line(struct cursor *c, const char *text, struct pmadvise_vma *vma)
{
    uint64_t start, end, major, minor;
    size_t length;

    vma->flags = 0;
    if (!number(c, 16, '-', &start) || !number(c, 16, ' ', &end) ||
        start >= end || end > UINTPTR_MAX ||
        !permission(c, 'r', '-', PMADVISE_VMA_READABLE, &vma->flags) ||
        !permission(c, 'w', '-', PMADVISE_VMA_WRITABLE, &vma->flags) ||
        !permission(c, 'x', '-', PMADVISE_VMA_EXECUTABLE, &vma->flags) ||
        !permission(c, 's', 'p', PMADVISE_VMA_SHARED, &vma->flags) ||
        c->at == c->end || *c->at++ != ' ' ||
        !number(c, 16, ' ', &vma->offset) || !number(c, 16, ':', &major) ||
        !number(c, 16, ' ', &minor) || major > MAJOR_MAX ||
        minor > MINOR_MAX || !number(c, 10, ' ', &vma->inode))
        return false;
    while (c->at < c->end && *c->at == ' ')
        c->at++;
    length = (size_t)(c->end - c->at);
    if (length > UINT32_MAX)
        return false;
    vma->start = (uintptr_t)start;
    vma->end = (uintptr_t)end;
    vma->major = (uint32_t)major;
    vma->minor = (uint32_t)minor;
    vma->path = (size_t)(c->at - text);
    vma->path_length = (uint32_t)length;
    if (vma->inode == 0 && major == 0 && minor == 0 &&
        (length == 0 || starts_with(c->at, length, "[anon:") ||
         starts_with(c->at, length, "[heap]") ||
         starts_with(c->at, length, "[stack")))
        vma->flags |= PMADVISE_VMA_ANONYMOUS;
    return true;
}

static int
by_start(const void *a, const void *b)
{
    const struct pmadvise_vma *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->path > y->path) - (x->path < y->path);
}

/*
 * The text is put together in pieces, and while its process maps and unmaps
 * memory the kernel may list a VMA twice or out of order.  Sort by address,
 * and cut away from each VMA what an earlier one covers.  Returns how many
 * are left.
 */
static size_t
put_in_order(struct pmadvise_vma *vmas, size_t n)
{
    size_t kept = 0;
    bool ordered = true;

    for (size_t i = 1; i < n && ordered; i++)
        ordered = vmas[i - 1].end <= vmas[i].start;
    if (ordered)
        return n;
    qsort(vmas, n, sizeof(*vmas), by_start);
    for (size_t i = 0; i < n; i++) {
        struct pmadvise_vma next = vmas[i];

        if (kept && next.start < vmas[kept - 1].end) {
            uintptr_t start = vmas[kept - 1].end;

            if (next.end <= start)
                continue;
            if (next.inode || next.major || next.minor)
                next.offset += start - next.start;
            next.start = start;
        }
        vmas[kept++] = next;
    }
    return kept;
}

/*
 * Parse whole lines of text[at .. end) into vmas[*n ..], up to `capacity`.
 * Returns where it stopped: at `end`, in front of an unfinished line, or
 * where the array was full; SIZE_MAX if a line is not as the kernel writes it.
 */
static size_t
parse(const char *text, size_t at, size_t end, struct pmadvise_vma *vmas,
      size_t capacity, size_t *n)
{
    while (at < end && *n < capacity) {
        const char *newline = memchr(text + at, '\n', end - at);
        struct cursor c = {text + at, newline};

        if (!newline)
            break;
        /* a name as a string would end at a NUL */
        if (!line(&c, text, &vmas[*n]) ||
            memchr(text + at, '\0', (size_t)(newline - (text + at))))
            return SIZE_MAX;
        ++*n;
        at = (size_t)(newline + 1 - text);
    }
    return at;
}

/*
 * Read an open /proc/PID/maps and parse each block while it is in the cache.
 * The caller begins with `state` all zero and arrays of any size; as long as
 * it returns 0, one of the arrays is full: the caller copies `used` bytes and
 * `n` VMAs to larger ones, and calls it again.  Returns 1 at the end, state->n
 * being the number of VMAs, sorted by address and not overlapping; or -errno,
 * -EBADMSG if a line is not as the kernel writes it.
 */
int
pmadvise_maps_read(int fd, char *text, size_t size, struct pmadvise_vma *vmas,
                   size_t capacity, struct pmadvise_maps_state *state)
{
    for (;;) {
        size_t block = size - state->used;
        size_t at;
        ssize_t got;

        at = parse(text, state->parsed, state->used, vmas, capacity,
                   &state->n);
        if (at == SIZE_MAX)
            return -EBADMSG;
        state->parsed = at;
        if (state->n == capacity || block == 0)
            return 0;
        got = pread(fd, text + state->used, block < BLOCK ? block : BLOCK,
                    (off_t)state->used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        state->used += (size_t)got;
    }
    if (state->parsed != state->used)
        return -EBADMSG;
    state->n = put_in_order(vmas, state->n);
    return 1;
}

/* The path as a string, the kernel's one escape undone. */
static void
copy_path(const struct pmadvise_vma *vma, const char *text, char *out)
{
    const char *path = text + vma->path;
    size_t left = vma->path_length;

    while (left > 0) {
        size_t taken = 1;

        if (left >= 4 && memcmp(path, "\\012", 4) == 0) {
            *out++ = '\n';
            taken = 4;
        } else {
            *out++ = *path;
        }
        path += taken;
        left -= taken;
    }
    *out = '\0';
}

/*
 * Whether a path is the pattern, or matches it as a glob: "[anon:*]" too, as
 * no name is a single character, which that would be a set of.
 */
static bool
matches(const char *pattern, const char *path)
{
    return strcmp(pattern, path) == 0 ||
           fnmatch(pattern, path, FNM_NOESCAPE) == 0 ||
           (*pattern == '[' && *path == '[' &&
            fnmatch(pattern + 1, path + 1, FNM_NOESCAPE) == 0);
}

/*
 * Write the range of each VMA with (flags & `mask`) == `flags`, at least
 * `min_length` bytes and, unless `pattern` is NULL, a path that matches() it.
 * `scratch` takes the longest path and a NUL, `out` takes `n`.  Returns
 * how many were written.  See fnmatch(3).
 */
size_t
pmadvise_vmas_select(const struct pmadvise_vma *vmas, size_t n,
                     const char *text, uint32_t mask, uint32_t flags,
                     size_t min_length, const char *pattern, char *scratch,
                     struct pmadvise_range *out)
{
    size_t selected = 0;

    for (size_t i = 0; i < n; i++) {
        size_t length = vmas[i].end - vmas[i].start;

        if ((vmas[i].flags & mask) != flags || length < min_length)
            continue;
        if (pattern) {
            copy_path(&vmas[i], text, scratch);
            if (!matches(pattern, scratch))
                continue;
        }
        out[selected].address = vmas[i].start;
        out[selected].length = length;
        selected++;
    }
    return selected;
}

static bool
same(const struct pmadvise_vma *a, const char *a_text,
     const struct pmadvise_vma *b, const char *b_text)
{
    bool file = a->inode || a->major || a->minor;

    return a->flags == b->flags && a->inode == b->inode &&
           a->major == b->major && a->minor == b->minor &&
           a->path_length == b->path_length &&
           memcmp(a_text + a->path, b_text + b->path, a->path_length) == 0 &&
           (!file || a->offset - a->start == b->offset - b->start);
}

/*
 * Write the parts that are no longer the same VMA: the addresses of `old`
 * where `now` has nothing, or something of other permissions, device, inode,
 * path or file offset.  Both are sorted; `out` takes n_old + n_now.  Returns
 * how many ranges were written, adjacent ones of one old VMA as one.
 */
size_t
pmadvise_vmas_changed(const struct pmadvise_vma *old, size_t n_old,
                      const char *old_text, const struct pmadvise_vma *now,
                      size_t n_now, const char *now_text,
                      struct pmadvise_range *out)
{
    size_t n = 0, j = 0;

    for (size_t i = 0; i < n_old; i++) {
        uintptr_t at = old[i].start, changed = at;

        /* `changed`: the part in doubt begins here and ends at `at` */
        while (at < old[i].end) {
            uintptr_t until = old[i].end;
            bool is_same = false;

            while (j < n_now && now[j].end <= at)
                j++;
            if (j < n_now && now[j].start > at) {
                until = now[j].start < until ? now[j].start : until;
            } else if (j < n_now) {
                until = now[j].end < until ? now[j].end : until;
                is_same = same(&old[i], old_text, &now[j], now_text);
            }
            if (is_same) {
                if (changed < at) {
                    out[n].address = changed;
                    out[n++].length = at - changed;
                }
                changed = until;
            }
            at = until;
        }
        if (changed < at) {
            out[n].address = changed;
            out[n++].length = at - changed;
        }
    }
    return n;
}

/* The index of the first VMA that ends behind `address`, n if there is none */
static size_t
find(const struct pmadvise_vma *vmas, size_t n, uintptr_t address)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (vmas[middle].end > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/*
 * Cut ranges at the boundaries of VMAs, keeping their order: each piece lies
 * in one VMA (mapped 1) or in none (mapped 0).  Writes them unless `out` is
 * NULL, and returns how many there are; empty ranges give none.
 */
size_t
pmadvise_vmas_cut(const struct pmadvise_vma *vmas, size_t n_vmas,
                  const struct pmadvise_range *ranges, size_t n,
                  struct pmadvise_range *out, unsigned char *mapped)
{
    size_t pieces = 0, hint = 0;

    for (size_t i = 0; i < n; i++) {
        uintptr_t at = ranges[i].address;
        size_t left = ranges[i].length;

        /* ranges mostly come in the order of the VMAs */
        if (hint >= n_vmas || vmas[hint].end <= at ||
            (hint > 0 && vmas[hint - 1].end > at)) {
            if (hint + 1 < n_vmas && vmas[hint].end <= at &&
                vmas[hint + 1].end > at)
                hint++;
            else
                hint = find(vmas, n_vmas, at);
        }
        for (size_t j = hint; left > 0; pieces++) {
            bool inside = j < n_vmas && vmas[j].start <= at;
            size_t length = left;

            if (j < n_vmas) {
                uintptr_t boundary = inside ? vmas[j].end : vmas[j].start;

                if (boundary - at < length)
                    length = boundary - at;
            }
            if (out) {
                out[pieces].address = at;
                out[pieces].length = length;
                mapped[pieces] = inside;
            }
            at += length;
            left -= length;
            if (inside)
                j++;
        }
    }
    return pieces;
}
