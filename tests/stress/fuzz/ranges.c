/* SPDX-License-Identifier: MIT */
/* csrc/ranges.c against a map of 256 cells, one flag a cell. */
#include <string.h>

#include "fuzz.h"

enum { CELLS = 256, MOST = 48 };

/* Where the cells lie, and how large they are. */
static uintptr_t origin;
static size_t scale;

static struct pmadvise_range *
draw(struct input *in, size_t *n, bool *cells)
{
    struct pmadvise_range *ranges;

    *n = below(in, MOST + 1);
    ranges = exactly(*n, sizeof(*ranges));
    memset(cells, 0, CELLS);
    for (size_t i = 0; i < *n; i++) {
        size_t first = below(in, CELLS);
        size_t length = below(in, CELLS - first + 1);

        if (length * scale / scale != length)
            length--; /* 256 cells of 2**56 bytes */
        ranges[i].address = origin + first * scale;
        ranges[i].length = length * scale;
        memset(cells + first, true, length);
    }
    return ranges;
}

/* The ranges are these cells, sorted, and none is empty, touches another. */
static void
check_cells(const struct pmadvise_range *ranges, size_t n, const bool *cells,
            bool may_touch)
{
    bool found[CELLS] = {false};
    size_t behind = 0;

    for (size_t i = 0; i < n; i++) {
        size_t first = (ranges[i].address - origin) / scale;
        size_t length = ranges[i].length / scale;

        CHECK(ranges[i].length > 0);
        CHECK(ranges[i].address == origin + first * scale);
        CHECK(ranges[i].length == length * scale);
        CHECK(first < CELLS && length <= CELLS - first);
        CHECK(i == 0 || first > behind || (may_touch && first == behind));
        behind = first + length;
        memset(found + first, true, length);
    }
    CHECK(memcmp(found, cells, CELLS) == 0);
}

static void
check_overlap(const struct pmadvise_range *ranges, size_t n,
              const struct pmadvise_range *merged, size_t m, const bool *cells)
{
    size_t *overlap = exactly(n, sizeof(*overlap));

    pmadvise_ranges_overlap(ranges, n, merged, m, overlap);
    for (size_t i = 0; i < n; i++) {
        size_t first = (ranges[i].address - origin) / scale, wanted = 0;

        for (size_t j = 0; j < ranges[i].length / scale; j++)
            wanted += cells[first + j] ? scale : 0;
        CHECK(overlap[i] == wanted);
    }
    free(overlap);
}

static void
check_blocks(struct input *in, const struct pmadvise_range *a, size_t na,
             const bool *in_a, const struct pmadvise_range *b, size_t nb,
             const bool *in_b)
{
    struct pmadvise_range *out = exactly(na + nb, sizeof(*out));
    const size_t block = (size_t)1 << below(in, 6);
    const size_t least = 1 + below(in, block);
    bool wanted[CELLS] = {false};
    size_t n;

    for (size_t i = 0; i < CELLS; i += block) {
        size_t filled = 0, whole = 0;

        for (size_t j = i; j < i + block; j++) {
            whole += in_a[j];
            filled += in_b[j];
        }
        memset(wanted + i, whole == block && filled >= least, block);
    }
    n = pmadvise_ranges_blocks(a, na, b, nb, block * scale, least * scale,
                               out);
    CHECK(n <= na + nb);
    check_cells(out, n, wanted, false);
    free(out);
}

static void
check_algebra(struct input *in)
{
    bool in_a[CELLS], in_b[CELLS], wanted[CELLS];
    size_t na, nb, ma, mb, n;
    struct pmadvise_range *a = draw(in, &na, in_a);
    struct pmadvise_range *b = draw(in, &nb, in_b);
    struct pmadvise_range *given = exactly(na, sizeof(*given));
    struct pmadvise_range *out;
    /* as one, the whole address space does not fit into a range */
    const bool whole = scale * CELLS == 0;

    memcpy(given, a, na * sizeof(*given));
    ma = pmadvise_ranges_merge(a, na);
    mb = pmadvise_ranges_merge(b, nb);
    CHECK(ma <= na && mb <= nb);
    check_cells(a, ma, in_a, whole);
    check_cells(b, mb, in_b, whole);
    CHECK(pmadvise_ranges_merge(a, ma) == ma); /* once is enough */
    check_cells(a, ma, in_a, whole);
    check_overlap(given, na, b, mb, in_b);

    out = exactly(ma + mb, sizeof(*out));
    for (size_t i = 0; i < CELLS; i++)
        wanted[i] = in_a[i] && in_b[i];
    n = pmadvise_ranges_intersect(a, ma, b, mb, out);
    CHECK(n <= ma + mb);
    check_cells(out, n, wanted, whole);
    for (size_t i = 0; i < CELLS; i++)
        wanted[i] = in_a[i] && !in_b[i];
    n = pmadvise_ranges_subtract(a, ma, b, mb, out);
    CHECK(n <= ma + mb);
    check_cells(out, n, wanted, whole);
    if (!whole)
        check_blocks(in, a, ma, in_a, b, mb, in_b);
    free(out);
    free(given);
    free(b);
    free(a);
}

/* The checks of ranges of any numbers, each against a sum of 128 bits. */
static void
check_numbers(struct input *in)
{
    const size_t n = below(in, 24);
    struct pmadvise_range *ranges = exactly(n, sizeof(*ranges));
    uintptr_t *addresses = exactly(n, sizeof(*addresses));
    size_t *lengths = exactly(n, sizeof(*lengths));
    size_t wraps = n, refused = n, unaligned = n;
    unsigned __int128 total = 0;
    uint64_t sum[2];

    for (size_t i = 0; i < n; i++) {
        addresses[i] = (uintptr_t)odd_number(in);
        lengths[i] = (size_t)odd_number(in);
        total += lengths[i];
        if (wraps == n && addresses[i] + (unsigned __int128)lengths[i] >
                              (unsigned __int128)1 << 64)
            wraps = i;
        if (unaligned == n && addresses[i] % PAGE)
            unaligned = i;
        if (refused == n && (addresses[i] % PAGE || total > 0x7ffff000))
            refused = i;
    }
    CHECK(pmadvise_ranges_fill(ranges, addresses, lengths, n) == wraps);
    for (size_t i = 0; i < n; i++)
        CHECK(ranges[i].address == addresses[i] &&
              ranges[i].length == lengths[i]);
    CHECK(pmadvise_ranges_first_wrapping(ranges, n) == wraps);
    CHECK(pmadvise_ranges_first_unaligned(ranges, n) == unaligned);
    CHECK(pmadvise_ranges_first_refused(ranges, n) == refused);
    pmadvise_ranges_total(ranges, n, sum);
    CHECK(sum[0] == (uint64_t)total && sum[1] == (uint64_t)(total >> 64));
    free(lengths);
    free(addresses);
    free(ranges);
}

/* A vector has up to 1,024 elements. */
static void
check_vector(struct input *in)
{
    const size_t n = 1000 + below(in, 50);
    struct pmadvise_range *ranges = exactly(n, sizeof(*ranges));

    for (size_t i = 0; i < n; i++)
        ranges[i] = (struct pmadvise_range){i * PAGE, PAGE};
    CHECK(pmadvise_ranges_first_refused(ranges, n) == (n > 1024 ? 1024 : n));
    free(ranges);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input in = {bytes, size};
    const size_t kind = below(&in, 8);

    scale = (size_t)1 << (kind == 0 ? 56 : kind == 1 ? 12 : 0);
    origin = kind == 2 ? 0 - (uintptr_t)CELLS
                       : CELLS * scale * (kind == 3 ? 0xffffff : kind % 2);
    if (kind == 7) {
        check_numbers(&in);
        check_vector(&in);
    } else {
        check_algebra(&in);
    }
    return 0;
}
