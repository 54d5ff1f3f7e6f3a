/* SPDX-License-Identifier: MIT */
/* Run a harness on files, without libFuzzer: with any compiler. */
#include "fuzz.h"

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        uint8_t *bytes = exactly(1 << 16, 1), *copy;
        size_t size;

        CHECK(file);
        size = fread(bytes, 1, 1 << 16, file);
        fclose(file);
        copy = exactly(size, 1); /* so that ASan sees where it ends */
        for (size_t j = 0; j < size; j++)
            copy[j] = bytes[j];
        free(bytes);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    printf("%d files\n", argc - 1);
    return 0;
}
