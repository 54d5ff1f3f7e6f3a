/* SPDX-License-Identifier: MIT */
/*
 * Ranges of addresses as arrays: checks and set algebra.
 *
 * A range may end at the very top of the address space, where its end does
 * not fit into uintptr_t: so last addresses are compared.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "pmadvise.h"

enum { VECTOR_MAX = 1024 }; /* UIO_MAXIOV, include/uapi/linux/uio.h */

/* The last address; `range` is not empty. */
static uintptr_t
last(const struct pmadvise_range *range)
{
    return range->address + (range->length - 1);
}

static void
put(struct pmadvise_range *out, uintptr_t first, uintptr_t final)
{
    out->address = first;
    out->length = final - first + 1;
}

static bool
wraps(const struct pmadvise_range *range)
{
    return range->length > 0 && last(range) < range->address;
}

/*
 * Put `n` addresses and lengths together into `ranges`.  Returns the index
 * of the first that runs past the end of the address space, `n` if none.
 */
size_t
pmadvise_ranges_fill(struct pmadvise_range *ranges, const uintptr_t *addresses,
                     const size_t *lengths, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ranges[i].address = addresses[i];
        ranges[i].length = lengths[i];
    }
    return pmadvise_ranges_first_wrapping(ranges, n);
}

/*
 * Returns the index of the first range that runs past the end of the
 * address space, `n` if none does.
 */
size_t
pmadvise_ranges_first_wrapping(const struct pmadvise_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (wraps(&ranges[i]))
            return i;
    return n;
}

/*
 * Returns the index of the first range that one process_madvise(2) would not
 * take whole, `n` if there is none: its address is not page-aligned, it is
 * beyond IOV_MAX, or with it the bytes exceed MAX_RW_COUNT (the kernel then
 * cuts the call short silently; include/linux/fs.h).
 */
size_t
pmadvise_ranges_first_refused(const struct pmadvise_range *ranges, size_t n)
{
    const size_t offset_in_page = (size_t)getpagesize() - 1;
    size_t left = (size_t)INT_MAX & ~offset_in_page;

    for (size_t i = 0; i < n; i++) {
        if (i == VECTOR_MAX || ranges[i].address & offset_in_page ||
            ranges[i].length > left)
            return i;
        left -= ranges[i].length;
    }
    return n;
}

/*
 * Returns the index of the first range whose address is no multiple of the
 * page size, `n` if there is none.
 */
size_t
pmadvise_ranges_first_unaligned(const struct pmadvise_range *ranges, size_t n)
{
    const uintptr_t offset_in_page = (uintptr_t)getpagesize() - 1;

    for (size_t i = 0; i < n; i++)
        if (ranges[i].address & offset_in_page)
            return i;
    return n;
}

/* Write how many bytes of each of `ranges` lie in the `m` merged ranges. */
void
pmadvise_ranges_overlap(const struct pmadvise_range *ranges, size_t n,
                        const struct pmadvise_range *merged, size_t m,
                        size_t *overlap)
{
    for (size_t i = 0; i < n; i++) {
        size_t low = 0, high = m;

        overlap[i] = 0;
        if (ranges[i].length == 0)
            continue;
        while (low < high) { /* the first that ends in or behind the range */
            size_t middle = low + (high - low) / 2;

            if (last(&merged[middle]) >= ranges[i].address)
                high = middle;
            else
                low = middle + 1;
        }
        for (; low < m && merged[low].address <= last(&ranges[i]); low++) {
            uintptr_t first = merged[low].address > ranges[i].address
                                  ? merged[low].address
                                  : ranges[i].address;
            uintptr_t final = last(&merged[low]) < last(&ranges[i])
                                  ? last(&merged[low])
                                  : last(&ranges[i]);

            overlap[i] += final - first + 1;
        }
    }
}

/* The sum of the lengths: total[1] * 2**64 + total[0] bytes. */
void
pmadvise_ranges_total(const struct pmadvise_range *ranges, size_t n,
                      uint64_t *total)
{
    total[0] = total[1] = 0;
    for (size_t i = 0; i < n; i++) {
        total[0] += ranges[i].length;
        total[1] += total[0] < ranges[i].length;
    }
}

static int
by_address(const void *a, const void *b)
{
    const struct pmadvise_range *x = a, *y = b;

    return (x->address > y->address) - (x->address < y->address);
}

/*
 * Sort `ranges` in place, join those that overlap or touch, drop the empty
 * ones.  Returns how many are left.
 */
size_t
pmadvise_ranges_merge(struct pmadvise_range *ranges, size_t n)
{
    size_t kept = 0;
    bool sorted = true;

    for (size_t i = 1; i < n && sorted; i++)
        sorted = ranges[i - 1].address <= ranges[i].address;
    if (!sorted)
        qsort(ranges, n, sizeof(*ranges), by_address);

    for (size_t i = 0; i < n; i++) {
        const struct pmadvise_range next = ranges[i];
        struct pmadvise_range *previous = kept ? &ranges[kept - 1] : NULL;

        if (next.length == 0)
            continue;
        if (!previous || (next.address > previous->address &&
                          next.address - previous->address > previous->length))
            ranges[kept++] = next;
        else if (last(&next) <= last(previous))
            continue;
        else if (last(&next) - previous->address < SIZE_MAX)
            previous->length = last(&next) - previous->address + 1;
        else /* the whole address space is a byte too long for one range */
            put(&ranges[kept++], last(previous) + 1, last(&next));
    }
    return kept;
}

/*
 * The addresses in `a` and in `b`, both merged.  `out` takes na + nb.
 * Returns how many ranges were written.
 */
size_t
pmadvise_ranges_intersect(const struct pmadvise_range *a, size_t na,
                          const struct pmadvise_range *b, size_t nb,
                          struct pmadvise_range *out)
{
    size_t n = 0;

    for (size_t i = 0, j = 0; i < na && j < nb;) {
        uintptr_t first = a[i].address > b[j].address ? a[i].address
                                                      : b[j].address;
        uintptr_t final = last(&a[i]) < last(&b[j]) ? last(&a[i])
                                                    : last(&b[j]);

        if (first <= final)
            put(&out[n++], first, final);
        if (last(&a[i]) < last(&b[j]))
            i++;
        else
            j++;
    }
    return n;
}

/*
 * The addresses in `a` and not in `b`, both merged.  `out` takes na + nb.
 * Returns how many ranges were written.
 */
size_t
pmadvise_ranges_subtract(const struct pmadvise_range *a, size_t na,
                         const struct pmadvise_range *b, size_t nb,
                         struct pmadvise_range *out)
{
    size_t n = 0, j = 0;

    for (size_t i = 0; i < na; i++) {
        uintptr_t first = a[i].address, final = last(&a[i]);
        bool rest = true; /* of a[i], from `first` on, is not yet decided */

        while (j < nb && last(&b[j]) < first)
            j++;
        for (size_t k = j; rest && k < nb && b[k].address <= final; k++) {
            if (b[k].address > first)
                put(&out[n++], first, b[k].address - 1);
            rest = last(&b[k]) < final;
            if (rest)
                first = last(&b[k]) + 1;
        }
        if (rest)
            put(&out[n++], first, final);
    }
    return n;
}

/*
 * Cut `ranges` at page boundaries so that none is longer than `max_bytes`
 * (at least a page).  Writes the pieces to `out` unless it is NULL, and
 * returns how many there are: call it with NULL to learn how many it needs.
 */
size_t
pmadvise_ranges_split(const struct pmadvise_range *ranges, size_t n,
                      size_t max_bytes, size_t page_size,
                      struct pmadvise_range *out)
{
    const size_t whole_pages = max_bytes - max_bytes % page_size;
    size_t pieces = 0;

    for (size_t i = 0; i < n; i++) {
        struct pmadvise_range rest = ranges[i];

        while (rest.length > max_bytes) {
            /* the first cut ends on a boundary; each later one begins there */
            size_t cut = max_bytes -
                         (rest.address % page_size + max_bytes) % page_size;

            if (out) {
                out[pieces].address = rest.address;
                out[pieces].length = cut;
            } else if (cut == whole_pages && rest.address % page_size == 0) {
                size_t cuts = (rest.length - max_bytes - 1) / whole_pages + 1;

                pieces += cuts - 1;
                cut *= cuts;
            }
            pieces++;
            rest.address += cut;
            rest.length -= cut;
        }
        if (out)
            out[pieces] = rest;
        pieces++;
    }
    return pieces;
}

/*
 * Write the blocks of `size` bytes, on a multiple of `size` (a power of two),
 * that lie whole in `a` and have at least `least` bytes (more than 0) in `b`,
 * both merged.  Blocks that touch are joined, so `out` takes `na` + `nb`.
 * Returns how many ranges were written.
 */
size_t
pmadvise_ranges_blocks(const struct pmadvise_range *a, size_t na,
                       const struct pmadvise_range *b, size_t nb, size_t size,
                       size_t least, struct pmadvise_range *out)
{
    size_t n = 0, i = 0;
    uintptr_t block = 0;
    size_t filled = 0;

    for (size_t j = 0; j < nb; j++) {
        uintptr_t at = b[j].address;
        const uintptr_t final = last(&b[j]);

        for (bool more = true; more;) {
            const uintptr_t this_block = at & ~(uintptr_t)(size - 1);
            const uintptr_t block_last = this_block + (size - 1);
            const uintptr_t until = final < block_last ? final : block_last;

            if (this_block != block)
                filled = 0;
            block = this_block;
            if (filled < least && filled + (until - at + 1) >= least) {
                while (i < na && last(&a[i]) < block)
                    i++;
                if (i < na && a[i].address <= block &&
                    last(&a[i]) >= block_last) {
                    if (n && last(&out[n - 1]) + 1 == block)
                        out[n - 1].length += size;
                    else
                        put(&out[n++], block, block_last);
                }
            }
            filled += until - at + 1;
            more = until < final;
            at = until + 1;
        }
    }
    return n;
}

/*
 * Write up to `capacity` elements of at most `max_bytes` in all, none longer
 * than `max_element`, from byte *offset of ranges[*index] on, and move the two
 * behind them.  Where a range is cut, the cut lies on a multiple of
 * `alignment`: a power of two, at least a page, at most `max_bytes` and
 * `max_element`.  Returns how many elements were written, 0 when nothing is
 * left.
 */
size_t
pmadvise_ranges_batch(const struct pmadvise_range *ranges, size_t n,
                      size_t *index, size_t *offset, size_t max_bytes,
                      size_t max_element, size_t alignment,
                      struct pmadvise_range *out, size_t capacity)
{
    size_t written = 0, left = max_bytes;

    while (written < capacity && *index < n && left > 0) {
        uintptr_t address = ranges[*index].address + *offset;
        size_t whole = ranges[*index].length - *offset;
        size_t length = whole < left ? whole : left;

        if (length > max_element)
            length = max_element;
        if (length < whole) {
            size_t beyond = (address + length) & (alignment - 1);

            if (beyond >= length)
                break; /* the next multiple is out of reach: next call */
            length -= beyond;
        }
        out[written].address = address;
        out[written].length = length;
        written++;
        left -= length;
        *offset += length;
        if (length == whole) {
            ++*index;
            *offset = 0;
        }
    }
    return written;
}
