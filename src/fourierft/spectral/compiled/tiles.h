/* Tiles in and out: rows of floats become the lanes of complex vectors, and back. */
#include <stdlib.h>
#include <string.h>

#include "transforms.h"

/* Each pass moves the highest bit of the row to the lowest of the column; after log2(LANES) passes rows are columns. */
INLINE void transpose(vec *a) {
    for (int pass = 1; pass < LANES; pass *= 2) {
        vec b[LANES];
        for (int i = 0; i < LANES / 2; i++) {
#if LANES == 16
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            b[2 * i + 1] = __builtin_shufflevector(
                a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif LANES == 8
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
#else
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 2], 0, 4, 1, 5);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 2], 2, 6, 3, 7);
#endif
        }
        for (int i = 0; i < LANES; i++) a[i] = b[i];
    }
}

/* The tile's lane i gets row (first + i) / each of x [.., length], z is [length]; a short tile's other lanes are zero. */
INLINE void load_rows(bin *z, const float *x, int64_t tokens, int64_t length, int64_t first, int64_t each) {
    float *flat = (float *)z;
    const int64_t whole = tokens == TILE ? length / LANES * LANES : 0;
    if (tokens < TILE) memset(z, 0, length * sizeof(bin));
    for (int64_t q = 0; q < whole; q += LANES)
        for (int side = 0; side < 2; side++) {
            vec a[LANES];
            for (int i = 0; i < LANES; i++)
                a[i] = *(const unaligned *)(x + (first + side * LANES + i) / each * length + q);
            transpose(a);
            for (int i = 0; i < LANES; i++) *(vec *)(flat + ((q + i) * 2 + side) * LANES) = a[i];
        }
    for (int64_t q = whole; q < length; q++)
        for (int64_t t = 0; t < tokens; t++) flat[q * TILE + t] = x[(first + t) / each * length + q];
}

/* x [tokens, length] -> z [length]. */
static void load(bin *z, const float *x, int64_t tokens, int64_t length) { load_rows(z, x, tokens, length, 0, 1); }

/* z [length] -> y [tokens, length], added to `onto`, which may be y, unless it is null. */
static void store(const bin *z, float *y, const float *onto, int64_t tokens, int64_t length) {
    const float *flat = (const float *)z;
    const int64_t whole = tokens == TILE ? length / LANES * LANES : 0;
    for (int64_t q = 0; q < whole; q += LANES)
        for (int side = 0; side < 2; side++) {
            vec a[LANES];
            for (int i = 0; i < LANES; i++) a[i] = *(const vec *)(flat + ((q + i) * 2 + side) * LANES);
            transpose(a);
            for (int i = 0; i < LANES; i++) {
                const int64_t at = (side * LANES + i) * length + q;
                *(unaligned *)(y + at) = onto ? *(const unaligned *)(onto + at) + a[i] : a[i];
            }
        }
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t q = whole; q < length; q++) {
            const float value = flat[q * TILE + t];
            y[t * length + q] = onto ? onto[t * length + q] + value : value;
        }
}

/* A thread's own memory, kept between calls. */
static bin *scratch(size_t bytes) {
    static __thread char *memory;
    static __thread size_t size;
    if (bytes > size) {
        free(memory);
        size = (bytes + 4095) / 4096 * 4096;
        memory = aligned_alloc(4096, size);
        if (!memory) abort();
    }
    return (bin *)memory;
}
