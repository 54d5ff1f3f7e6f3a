/* SPDX-License-Identifier: MIT */
/* The vector of the next call, cut from ranges that are still to be advised. */
#include <stdint.h>
#include <sys/types.h>

#include "pmadvise.h"

/*
 * Write up to `room` elements of at most `max_bytes` in all, none longer than
 * `longest`, from byte *offset of ranges[*index] on, and move the two behind
 * them.  Where a range is cut, the cut lies on a multiple of `border`: a
 * power of two, at least a page, at most `max_bytes` and `longest`.  Returns
 * how many elements were written, 0 when nothing is left.
 */
size_t
pmadvise_batch(const struct pmadvise_range *ranges, size_t n, size_t *index,
               size_t *offset, size_t max_bytes, size_t longest,
               size_t border, struct pmadvise_range *out, size_t room)
{
    size_t written = 0, left = max_bytes;

    while (written < room && *index < n && left > 0) {
        uintptr_t address = ranges[*index].address + *offset;
        size_t whole = ranges[*index].length - *offset;
        size_t length = whole < left ? whole : left;

        if (length > longest)
            length = longest;
        if (length < whole) {
            size_t beyond = (address + length) & (border - 1);

            if (beyond >= length)
                break; /* less than to the next border is left: next time */
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
