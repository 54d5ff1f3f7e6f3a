/* SPDX-License-Identifier: MIT */
/* The vector of the next call, cut from ranges still to be advised. */
#include <stdint.h>
#include <sys/types.h>

#include "pmadvise.h"

/*
 * Write up to `capacity` elements of at most `max_bytes` in all, none longer
 * than `max_element`, from byte *offset of ranges[*index] on, and move the two
 * behind them.  Where a range is cut, the cut lies on a multiple of
 * `alignment`: a power of two, at least a page, at most `max_bytes` and
 * `max_element`.  Returns how many elements were written, 0 when nothing is
 * left.
 */
size_t
pmadvise_batch(const struct pmadvise_range *ranges, size_t n, size_t *index,
               size_t *offset, size_t max_bytes, size_t max_element,
               size_t alignment, struct pmadvise_range *out, size_t capacity)
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
