/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "fuzz.h"

uint64_t
take(struct input *in, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint64_t)*in->at++ << 8 * i;
    return value;
}

size_t
below(struct input *in, size_t bound)
{
    return take(in, bound > 256 ? 4 : 1) % bound;
}

uint64_t
odd_number(struct input *in)
{
    uint64_t kind = take(in, 1);
    uint64_t value = take(in, 1 + kind % 8);

    switch (kind / 8 % 8) {
    case 0:
        return value;
    case 1:
        return value << 12;
    case 2:
        return value << 21;
    case 3:
        return 0 - value;
    case 4:
        return 0 - (value << 12);
    case 5:
        return ((uint64_t)1 << 63) - 128 + value;
    case 6:
        return ((uint64_t)1 << 32) - 128 + value;
    default:
        return ((uint64_t)1 << 47) - 8192 + value;
    }
}

void *
exactly(size_t n, size_t size)
{
    void *block = malloc(n * size);

    CHECK(block);
    return block;
}

void
end_in_space(struct pmadvise_range *range)
{
    if (range->length > 0 - range->address && range->address)
        range->length = 0 - range->address;
}

struct pmadvise_range *
draw_ranges(struct input *in, size_t most, size_t *n)
{
    struct pmadvise_range *ranges;

    *n = below(in, most + 1);
    ranges = exactly(*n, sizeof(*ranges));
    for (size_t i = 0; i < *n; i++) {
        ranges[i].address = (uintptr_t)odd_number(in);
        ranges[i].length = (size_t)odd_number(in);
        end_in_space(&ranges[i]);
    }
    return ranges;
}

char *
take_text(struct input *in, size_t most, size_t *length)
{
    size_t n = in->left < most ? in->left : most;
    char *text = malloc(n + 1);

    CHECK(text);
    memcpy(text, in->at, n);
    text[n] = '\0';
    in->at += n;
    in->left -= n;
    if (length)
        *length = n;
    return text;
}
