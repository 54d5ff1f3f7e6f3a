/* SPDX-License-Identifier: MIT */
/* Ranges in pieces, no byte lost: split and batch of csrc/ranges.c. */
#include <string.h>

#include "fuzz.h"

enum { MOST = 16, PIECES = 1 << 12 };

/* How many pieces a range has: up to the first boundary, then equal ones. */
static size_t
pieces_of(const struct pmadvise_range *range, size_t max_bytes, size_t page)
{
    unsigned __int128 boundary, length = range->length;
    size_t whole = max_bytes / page * page;

    if (length <= max_bytes)
        return 1;
    boundary = ((unsigned __int128)range->address + max_bytes) / page * page;
    length -= boundary - range->address;
    if (length <= max_bytes)
        return 2;
    return 2 + (size_t)((length - max_bytes + whole - 1) / whole);
}

static void
check_split(struct input *in)
{
    size_t n, total = 0, count;
    struct pmadvise_range *ranges = draw_ranges(in, MOST, &n), *out;
    const size_t page = (size_t)PAGE << 2 * below(in, 3);
    size_t max_bytes = (size_t)odd_number(in);

    if (max_bytes < page)
        max_bytes += page;
    for (size_t i = 0; i < n; i++)
        total += pieces_of(&ranges[i], max_bytes, page);
    count = pmadvise_ranges_split(ranges, n, max_bytes, page, NULL);
    CHECK(count == total);
    if (count <= PIECES) {
        const struct pmadvise_range *piece = out = exactly(count,
                                                           sizeof(*out));

        CHECK(pmadvise_ranges_split(ranges, n, max_bytes, page, out) == count);
        for (size_t i = 0; i < n; i++) {
            struct pmadvise_range rest = ranges[i];

            do {
                CHECK(piece < out + count);
                CHECK(piece->address == rest.address);
                CHECK(piece->length <= rest.length);
                CHECK(piece->length <= max_bytes);
                CHECK(piece->length > 0 || ranges[i].length == 0);
                rest.address += piece->length;
                rest.length -= piece->length;
                CHECK(rest.length == 0 || rest.address % page == 0);
                piece++;
            } while (rest.length > 0);
        }
        CHECK(piece == out + count);
        free(out);
    }
    free(ranges);
}

static void
check_batches(struct input *in)
{
    size_t n, index = 0, offset = 0, at = 0, inside = 0;
    struct pmadvise_range *ranges = draw_ranges(in, MOST, &n);
    const size_t alignment = (size_t)PAGE << below(in, 10);
    const size_t capacity = 1 + below(in, 8);
    size_t max_element = (size_t)odd_number(in);
    size_t max_bytes = (size_t)odd_number(in);
    struct pmadvise_range *out = exactly(capacity, sizeof(*out));

    if (max_element < alignment)
        max_element = alignment;
    if (max_bytes < alignment)
        max_bytes = alignment;
    for (size_t step = 0; step < 1000; step++) {
        size_t left = max_bytes;
        size_t written = pmadvise_ranges_batch(ranges, n, &index, &offset,
                                               max_bytes, max_element,
                                               alignment, out, capacity);

        CHECK(written <= capacity);
        CHECK((written == 0) == (at == n));
        for (size_t i = 0; i < written; i++) {
            CHECK(at < n);
            CHECK(out[i].address == ranges[at].address + inside);
            CHECK(out[i].length <= ranges[at].length - inside);
            CHECK(out[i].length <= max_element && out[i].length <= left);
            left -= out[i].length;
            inside += out[i].length;
            if (inside == ranges[at].length) {
                at++;
                inside = 0;
            } else {
                CHECK(out[i].length > 0);
                CHECK((ranges[at].address + inside) % alignment == 0);
            }
        }
        CHECK(at == index && inside == offset);
        if (at == n)
            break;
    }
    free(out);
    free(ranges);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size};

    if (take(&in, 1) % 2)
        check_split(&in);
    else
        check_batches(&in);
    return 0;
}
