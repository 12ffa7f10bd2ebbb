/* Tiles to spectra, and back.
 *
 * Two tokens are the parts of each complex lane, so one that is not finite would spoil the other. Such a token, and one
 * whose coefficients are not finite, is taken for zeros, and its output is not a number. Bin 0, which stands first, is the
 * sum of all that was transformed, so it tells.
 */
#include "tiles.h"

/* The rows of a tile as bits, those whose sum is not finite. */
INLINE uint32_t spoilt(const bin sum) {
    const bin none = {sum.re * 0, sum.im * 0}; /* or not a number */
    float all = 0;
    for (int lane = 0; lane < LANES; lane++) all += none.re[lane] + none.im[lane];
    uint32_t rows = 0;
    for (int lane = 0; all != 0 && lane < LANES; lane++)
        rows |= (uint32_t)(none.re[lane] != 0) << lane | (uint32_t)(none.im[lane] != 0) << (LANES + lane);
    return rows;
}

static __attribute__((noinline)) void clear_rows(bin *z, int64_t length, uint32_t rows) {
    for (int64_t q = 0; q < length; q++)
        for (int t = 0; t < TILE; t++)
            if (rows >> t & 1) ((float *)(z + q))[t] = 0;
}

/* What `clear_rows` cleared is not a number in y [tokens, length]. */
static __attribute__((noinline)) void spoil_rows(float *y, int64_t tokens, int64_t length, uint32_t rows) {
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t q = 0; (rows >> t & 1) && q < length; q++) y[t * length + q] = __builtin_nanf("");
}

/* The spectrum of a tile, x [tokens, length] -> z; returns the rows that are not finite. */
static uint32_t read_tile(bin *z, const plan *from, const float *x, int64_t tokens) {
    load(z, x, tokens, from->length);
    to_spectrum(z, from->length, from->radices, from->twiddles);
    const uint32_t rows = spoilt(z[0]);
    if (rows) {
        load(z, x, tokens, from->length);
        clear_rows(z, from->length, rows);
        to_spectrum(z, from->length, from->radices, from->twiddles);
    }
    return rows;
}

/* The tile of a spectrum, z -> y [tokens, length], added to `onto` as in `store`; these rows are not finite. */
static void write_tile(bin *z, const plan *to, float *y, const float *onto, int64_t tokens, uint32_t rows) {
    from_spectrum(z, to->length, to->radices, to->twiddles);
    store(z, y, onto, tokens, to->length);
    if (rows) spoil_rows(y, tokens, to->length, rows);
}

INLINE bin marked(uint32_t rows) {
    bin mark = {{0}, {0}};
    for (int t = 0; rows && t < TILE; t++)
        if (rows >> t & 1) ((float *)&mark)[t] = __builtin_nanf("");
    return mark;
}
