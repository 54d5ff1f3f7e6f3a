/* SPDX-License-Identifier: MIT */
/*
 * csrc/maps.c: any text and text as the kernel writes it, read in pieces into
 * arrays that are too small at first, and the questions to the arrays.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"

enum { LINES = 24, LINE = 160, CELLS = 64, NAMES = 12 };

struct snapshot {
    char *text;
    struct pmadvise_vma *vmas;
    struct pmadvise_maps_state state;
    int result;
};

/* Read, with arrays that grow by `step` each time that one is full. */
static struct snapshot
read_maps(int fd, size_t step)
{
    struct snapshot s = {.text = exactly(step, 1),
                         .vmas = exactly(1, sizeof(*s.vmas))};
    size_t size = step, capacity = 1;

    while ((s.result = pmadvise_maps_read(fd, s.text, size, s.vmas, capacity,
                                          &s.state)) == 0) {
        CHECK(s.state.used <= size && s.state.n <= capacity);
        CHECK(s.state.parsed <= s.state.used);
        CHECK(s.state.used == size || s.state.n == capacity);
        if (s.state.used == size) {
            char *larger = exactly(size + step, 1);

            memcpy(larger, s.text, s.state.used);
            free(s.text);
            s.text = larger;
            size += step;
        }
        if (s.state.n == capacity) {
            struct pmadvise_vma *larger = exactly(capacity + 1 + step / 64,
                                                  sizeof(*larger));

            memcpy(larger, s.vmas, s.state.n * sizeof(*larger));
            free(s.vmas);
            s.vmas = larger;
            capacity += 1 + step / 64;
        }
    }
    return s;
}

static void
drop(struct snapshot *s)
{
    free(s->text);
    free(s->vmas);
}

/* What holds of every array, and that none but the kernel's lines give one. */
static void
check_snapshot(const struct snapshot *s)
{
    size_t lines = 0;

    CHECK(s->result == 1 || s->result == -EBADMSG);
    if (s->result != 1)
        return;
    CHECK(s->state.parsed == s->state.used);
    for (size_t i = 0; i < s->state.used; i++) {
        CHECK(s->text[i] != '\0');
        lines += s->text[i] == '\n';
    }
    CHECK(s->state.n <= lines && (s->state.n > 0) == (lines > 0));
    for (size_t i = 0; i < s->state.n; i++) {
        const struct pmadvise_vma *vma = &s->vmas[i];

        CHECK(vma->start < vma->end);
        CHECK(i == 0 || vma[-1].end <= vma->start);
        CHECK(vma->path < s->state.used);
        CHECK(vma->path_length < s->state.used - vma->path);
        CHECK(s->text[vma->path + vma->path_length] == '\n');
        CHECK(!memchr(s->text + vma->path, '\n', vma->path_length));
        CHECK(vma->major < 1 << 12 && vma->minor < 1 << 20);
    }
}

/* The same, however it was read. */
static void
check_equal(const struct snapshot *a, const struct snapshot *b)
{
    CHECK(a->result == b->result);
    if (a->result != 1)
        return;
    CHECK(a->state.n == b->state.n && a->state.used == b->state.used);
    CHECK(memcmp(a->text, b->text, a->state.used) == 0);
    for (size_t i = 0; i < a->state.n; i++) {
        const struct pmadvise_vma *x = &a->vmas[i], *y = &b->vmas[i];

        CHECK(x->start == y->start && x->end == y->end);
        CHECK(x->offset == y->offset && x->inode == y->inode);
        CHECK(x->path == y->path && x->path_length == y->path_length);
        CHECK(x->major == y->major && x->minor == y->minor);
        CHECK(x->flags == y->flags);
    }
}

static void
check_select(struct input *in, const struct snapshot *s)
{
    const size_t n = s->state.n;
    const uint32_t mask = (uint32_t)take(in, 2) & 0x10f;
    const uint32_t flags = (uint32_t)take(in, 2) & mask;
    const size_t least = (size_t)odd_number(in);
    struct pmadvise_range *out = exactly(n, sizeof(*out));
    struct pmadvise_range *globbed = exactly(n, sizeof(*globbed));
    char *pattern = take_text(in, 12, NULL), *scratch;
    size_t longest = 0, found, j = 0;

    for (size_t i = 0; i < n; i++)
        if (s->vmas[i].path_length > longest)
            longest = s->vmas[i].path_length;
    scratch = exactly(longest + 1, 1);
    found = pmadvise_vmas_select(s->vmas, n, s->text, mask, flags, least, NULL,
                                 scratch, out);
    for (size_t i = 0; i < n; i++) {
        const struct pmadvise_vma *vma = &s->vmas[i];

        if ((vma->flags & mask) == flags && vma->end - vma->start >= least) {
            CHECK(j < found && out[j].address == vma->start);
            CHECK(out[j++].length == vma->end - vma->start);
        }
    }
    CHECK(j == found);
    found = pmadvise_vmas_select(s->vmas, n, s->text, mask, flags, least,
                                 pattern, scratch, globbed);
    CHECK(found <= j);
    for (size_t i = 0, k = 0; i < found; i++, k++) { /* some of the same */
        while (k < j && out[k].address != globbed[i].address)
            k++;
        CHECK(k < j && out[k].length == globbed[i].length);
    }
    found = pmadvise_vmas_select(s->vmas, n, s->text, mask, flags, least, "*",
                                 scratch, globbed);
    CHECK(found == j);
    free(scratch);
    free(pattern);
    free(globbed);
    free(out);
}

static bool
covers(const struct snapshot *s, uintptr_t address)
{
    for (size_t i = 0; i < s->state.n; i++)
        if (s->vmas[i].start <= address && address < s->vmas[i].end)
            return true;
    return false;
}

static void
check_changed(const struct snapshot *old, const struct snapshot *now)
{
    const size_t room = old->state.n + now->state.n;
    struct pmadvise_range *out = exactly(room, sizeof(*out));
    size_t n = pmadvise_vmas_changed(old->vmas, old->state.n, old->text,
                                     now->vmas, now->state.n, now->text, out);

    CHECK(n <= room);
    for (size_t i = 0; i < n; i++) {
        const uintptr_t end = out[i].address + out[i].length;

        CHECK(out[i].length > 0 && end > out[i].address);
        CHECK(i == 0 ||
              out[i - 1].address + out[i - 1].length <= out[i].address);
        CHECK(covers(old, out[i].address) && covers(old, end - 1));
    }
    /* what was mapped and is not has changed */
    for (size_t i = 0; i < old->state.n; i++) {
        bool found = covers(now, old->vmas[i].start);

        for (size_t j = 0; j < n; j++)
            found |= out[j].address <= old->vmas[i].start &&
                     old->vmas[i].start - out[j].address < out[j].length;
        CHECK(found);
    }
    free(out);
}

static void
check_cut(struct input *in, const struct snapshot *s)
{
    const size_t n = below(in, 8);
    struct pmadvise_range *ranges = exactly(n, sizeof(*ranges)), *out;
    unsigned char *mapped;
    size_t count, piece = 0;

    for (size_t i = 0; i < n; i++) {
        ranges[i].address = (uintptr_t)odd_number(in);
        ranges[i].length = (size_t)odd_number(in);
        if (s->state.n && take(in, 1) % 2)
            ranges[i].address = s->vmas[below(in, s->state.n)].start;
        end_in_space(&ranges[i]);
    }
    count = pmadvise_vmas_cut(s->vmas, s->state.n, ranges, n, NULL, NULL);
    CHECK(count <= n * (2 * s->state.n + 1));
    out = exactly(count, sizeof(*out));
    mapped = exactly(count, 1);
    CHECK(pmadvise_vmas_cut(s->vmas, s->state.n, ranges, n, out, mapped) ==
          count);
    for (size_t i = 0; i < n; i++) {
        uintptr_t at = ranges[i].address;
        size_t left = ranges[i].length;

        for (; left > 0; piece++) {
            CHECK(piece < count && out[piece].address == at);
            CHECK(out[piece].length > 0 && out[piece].length <= left);
            CHECK(mapped[piece] == covers(s, at));
            CHECK(mapped[piece] == covers(s, at + (out[piece].length - 1)));
            at += out[piece].length;
            left -= out[piece].length;
        }
    }
    CHECK(piece == count);
    free(mapped);
    free(out);
    free(ranges);
}

static const char *const names[NAMES] = {
    "",
    "[heap]",
    "[stack]",
    "[anon:x y]",
    "[vdso]",
    "/bin/cat",
    "/a (deleted)",
    "/memfd:\r\v\f (deleted)",
    "/new\\012line",
    "/\xff\xe2\x80\xa8",
    "//anon",
    "[vvar]",
};

/* Lines as the kernel writes them; returns how many. */
static size_t
write_lines(struct input *in, char *text, struct pmadvise_vma *wanted,
            bool in_order)
{
    const size_t n = below(in, LINES + 1);
    uintptr_t at = (uintptr_t)(take(in, 1) % 4) << 44;

    *text = '\0';
    for (size_t i = 0; i < n; i++) {
        struct pmadvise_vma *vma = &wanted[i];
        const char *name = names[below(in, NAMES)];
        uint64_t bits = take(in, 2);

        if (!in_order && bits & 0x100) /* it was mapped meanwhile */
            at -= (bits >> 9) * PAGE < at ? (bits >> 9) * PAGE : 0;
        vma->start = at + below(in, 4) * PAGE;
        vma->end = at = vma->start + (1 + below(in, CELLS)) * PAGE;
        vma->flags = bits & 15;
        vma->offset = bits & 16 ? odd_number(in) : 0;
        vma->inode = bits & 32 ? odd_number(in) : 0;
        vma->major = bits & 64 ? (uint32_t)take(in, 2) & 0xfff : 0;
        vma->minor = bits & 64 ? (uint32_t)take(in, 3) & 0xfffff : 0;
        vma->path_length = (uint32_t)strlen(name);
        if (!vma->inode && !vma->major && !vma->minor &&
            (!*name || (*name == '[' && name[1] != 'v')))
            vma->flags |= PMADVISE_VMA_ANONYMOUS;
        text += sprintf(
            text, "%08zx-%08zx %c%c%c%c %08zx %02x:%02x %zu ",
            (size_t)vma->start, (size_t)vma->end, bits & 1 ? 'r' : '-',
            bits & 2 ? 'w' : '-', bits & 4 ? 'x' : '-', bits & 8 ? 's' : 'p',
            (size_t)vma->offset, vma->major, vma->minor, (size_t)vma->inode);
        text += sprintf(text, "%*s%s\n", bits & 128 ? 20 : 0, "", name);
    }
    return n;
}

/* Write a text, and read it in pieces and at once. */
static struct snapshot
draw(struct input *in, size_t file)
{
    static char text[2][1 << 16];
    char *bytes = text[file];
    struct pmadvise_vma wanted[LINES];
    const size_t kind = below(in, 5), step = 1 + below(in, 300);
    size_t n = 0, size;
    struct snapshot once, s;
    int fd;

    if (kind == 0) {
        char *any = take_text(in, 400, &size);

        memcpy(bytes, any, size);
        free(any);
    } else {
        n = write_lines(in, bytes, wanted, kind == 1);
        size = strlen(bytes);
        for (size_t i = 2; i < kind && size; i++) /* some bytes differ */
            bytes[below(in, size)] = (char)take(in, 1);
    }
    fd = kernel_file(file, "maps", bytes, size);
    s = read_maps(fd, step);
    once = read_maps(fd, sizeof(text[0]));
    check_snapshot(&s);
    check_equal(&s, &once);
    drop(&once);
    if (kind == 1) {
        CHECK(s.result == 1 && s.state.n == n);
        for (size_t i = 0; i < n; i++) {
            const struct pmadvise_vma *vma = &s.vmas[i], *w = &wanted[i];

            CHECK(vma->start == w->start && vma->end == w->end);
            CHECK(vma->offset == w->offset && vma->inode == w->inode);
            CHECK(vma->major == w->major && vma->minor == w->minor);
            CHECK(vma->flags == w->flags);
            CHECK(vma->path_length == w->path_length);
        }
    }
    if (s.result != 1)
        s.state.n = 0;
    return s;
}

/* Each number is read up to the largest of 64 bits, and is none beyond. */
static void
check_largest(struct input *in)
{
    const unsigned int digit = (unsigned int)below(in, 10);
    const bool is_longer = below(in, 2);
    char text[LINE];
    struct snapshot s;

    sprintf(text,
            "1000-2000 rw-p %sffffffffffffffff 0:0 1844674407370955161%u /a\n",
            is_longer ? "1" : "", digit);
    s = read_maps(kernel_file(0, "maps", text, strlen(text)), LINE);
    CHECK(s.result == (is_longer || digit > 5 ? -EBADMSG : 1));
    CHECK(s.result != 1 || (s.vmas[0].offset == UINT64_MAX &&
                            s.vmas[0].inode == UINT64_MAX - 5 + digit));
    drop(&s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    /* of each its own part, as what comes first takes what it wants */
    const size_t part = size / 4;
    struct input old = {bytes, part}, now = {bytes + part, part};
    struct input in = {bytes + 2 * part, part};
    struct input faults = {bytes + 3 * part, size - 3 * part};
    struct pmadvise_range *none;
    struct snapshot a, b;

    kernel_begin(&faults);
    a = draw(&old, 0);
    b = draw(&now, 1);
    check_cut(&in, &a);
    check_select(&in, &a);
    check_changed(&a, &b);
    check_changed(&b, &a);
    none = exactly(2 * a.state.n, sizeof(*none));
    CHECK(pmadvise_vmas_changed(a.vmas, a.state.n, a.text, a.vmas, a.state.n,
                                a.text, none) == 0);
    free(none);
    drop(&b);
    drop(&a);
    check_largest(&in);
    return 0;
}
