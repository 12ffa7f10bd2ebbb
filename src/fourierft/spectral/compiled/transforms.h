/* Transforms of LANES complex vectors at once, with positive exponents, unscaled.
 *
 * They run in place, lanes innermost, depth first so that small parts stay in the cache; a spectrum is left in
 * digit-reversed order. Radices up to LARGEST_RADIX are unrolled; a larger prime p is summed up as it stands ("dense"):
 * p multiplications a number, which run at the speed of a matrix product. Twiddles and radices come from plan.py.
 */
#include <stddef.h>
#include <stdint.h>

/* Built twice: WIDE for many tokens, and with 4 lanes for a few, whose tiles then fit the first cache. */
#ifndef WIDE
#define LANES 4
#elif defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
#define TILE (2 * LANES)
#define LARGEST_RADIX 13
#define LARGEST_DENSE 512
#ifdef __AVX512F__
#define ROWS_AT_ONCE 4 /* of a dense transform: 4 sums each, which the registers hold */
#else
#define ROWS_AT_ONCE 2
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef struct { vec re, im; } bin;

typedef struct {
    int64_t length;
    const int32_t *radices;  /* of the stages, largest stage first, then 0 */
    const float *twiddles;   /* a stage of r * m: r roots of one, then [m][r - 1], as pairs */
} plan;

INLINE bin plus(bin a, bin b) { return (bin){a.re + b.re, a.im + b.im}; }
INLINE bin minus(bin a, bin b) { return (bin){a.re - b.re, a.im - b.im}; }
INLINE bin turned(bin a, const float *w) { return (bin){a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]}; }
INLINE bin quarter_turned(bin a) { return (bin){-a.im, a.re}; }

INLINE void butterfly4(bin *a) {
    const bin even = plus(a[0], a[2]), odd = plus(a[1], a[3]);
    const bin left = minus(a[0], a[2]), right = quarter_turned(minus(a[1], a[3]));
    a[0] = plus(even, odd), a[1] = plus(left, right), a[2] = minus(even, odd), a[3] = minus(left, right);
}

INLINE void butterfly8(bin *a) {
    const float eighth[2] = {0.70710678118654752f, 0.70710678118654752f};
    bin even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
    butterfly4(even), butterfly4(odd);
    odd[1] = turned(odd[1], eighth);
    odd[2] = quarter_turned(odd[2]);
    odd[3] = quarter_turned(turned(odd[3], eighth));
    for (int k = 0; k < 4; k++) a[k] = plus(even[k], odd[k]), a[k + 4] = minus(even[k], odd[k]);
}

INLINE void odd_butterfly(bin *a, const int r, const float *roots) {
    const int half = r / 2;
    bin sum[LARGEST_RADIX / 2 + 1], difference[LARGEST_RADIX / 2 + 1], first = a[0];
    const bin zeroth = a[0];
    for (int k = 1; k <= half; k++) {
        sum[k] = plus(a[k], a[r - k]), difference[k] = minus(a[k], a[r - k]);
        first = plus(first, sum[k]);
    }
    a[0] = first;
    for (int l = 1; l <= half; l++) {
        bin cosines = zeroth, sines = {{0}, {0}};
        for (int k = 1; k <= half; k++) {
            const float *root = roots + 2 * (k * l % r);
            cosines.re += sum[k].re * root[0], cosines.im += sum[k].im * root[0];
            sines.re += difference[k].re * root[1], sines.im += difference[k].im * root[1];
        }
        a[l] = plus(cosines, quarter_turned(sines)), a[r - l] = minus(cosines, quarter_turned(sines));
    }
}

/* Rows l .. l + count - 1 of a dense transform, and their mirror images: as in odd_butterfly, of the sums and
 * differences of the inputs k and r - k, which stand in `pairs`. */
INLINE void dense_rows(const bin *pairs, bin *out, const bin zeroth, const int r, const float *roots, const int l,
                       const int count) {
    bin cosines[4], sines[4];
    int at[4]; /* l * k % r */
    for (int i = 0; i < count; i++) cosines[i] = zeroth, sines[i] = (bin){{0}, {0}}, at[i] = 0;
    for (int k = 1; k <= r / 2; k++) {
        const bin sum = pairs[2 * k - 2], difference = pairs[2 * k - 1];
        for (int i = 0; i < count; i++) {
            at[i] += l + i;
            at[i] -= at[i] >= r ? r : 0;
            const float *root = roots + 2 * at[i];
            cosines[i].re += sum.re * root[0], cosines[i].im += sum.im * root[0];
            sines[i].re += difference.re * root[1], sines[i].im += difference.im * root[1];
        }
    }
    for (int i = 0; i < count; i++) {
        out[l + i] = plus(cosines[i], quarter_turned(sines[i]));
        out[r - l - i] = minus(cosines[i], quarter_turned(sines[i]));
    }
}

static __attribute__((noinline)) void dense_butterfly(bin *a, const int r, const float *roots) {
    bin pairs[LARGEST_DENSE], first = a[0];
    const bin zeroth = a[0];
    for (int k = 1; k <= r / 2; k++) {
        pairs[2 * k - 2] = plus(a[k], a[r - k]), pairs[2 * k - 1] = minus(a[k], a[r - k]);
        first = plus(first, pairs[2 * k - 2]);
    }
    for (int l = 1, count; l <= r / 2; l += count) {
        count = r / 2 + 1 - l < ROWS_AT_ONCE ? r / 2 + 1 - l : ROWS_AT_ONCE;
        switch (count) {
            case 1: dense_rows(pairs, a, zeroth, r, roots, l, 1); break;
            case 2: dense_rows(pairs, a, zeroth, r, roots, l, 2); break;
            case 3: dense_rows(pairs, a, zeroth, r, roots, l, 3); break;
            default: dense_rows(pairs, a, zeroth, r, roots, l, 4);
        }
    }
    a[0] = first;
}

INLINE void butterfly(bin *a, const int r, const float *roots) {
    if (r == 4) butterfly4(a);
    else if (r == 8) butterfly8(a);
    else if (r == 2) { const bin t = a[1]; a[1] = minus(a[0], t), a[0] = plus(a[0], t); }
    else if (r <= LARGEST_RADIX) odd_butterfly(a, r, roots);
    else dense_butterfly(a, r, roots);
}

/* One stage; `inverse` turns before the butterfly instead of after it, which makes it the other one's transpose. */
INLINE void stage(bin *z, const int64_t m, const int r, const float *twiddles, const int inverse) {
    const float *roots = twiddles, *w = twiddles + 2 * r;
    for (int64_t j = 0; j < m; j++, w += 2 * (r - 1)) {
        bin a[LARGEST_DENSE];
        for (int k = 0; k < r; k++) a[k] = z[j + k * m];
        for (int k = 1; inverse && m > 1 && k < r; k++) a[k] = turned(a[k], w + 2 * (k - 1));
        butterfly(a, r, roots);
        for (int k = 1; !inverse && m > 1 && k < r; k++) a[k] = turned(a[k], w + 2 * (k - 1));
        for (int k = 0; k < r; k++) z[j + k * m] = a[k];
    }
}

static __attribute__((noinline)) void dense_stage(bin *z, int64_t m, int r, const float *twiddles, int inverse) {
    if (m == 1) dense_butterfly(z, r, twiddles);
    else stage(z, m, r, twiddles, inverse);
}

#define RADIX(R) case R: if (m == 1) stage(z, 1, R, twiddles, inverse); else stage(z, m, R, twiddles, inverse); break;
INLINE void any_stage(bin *z, const int64_t m, const int r, const float *twiddles, const int inverse) {
    switch (r) { RADIX(2) RADIX(3) RADIX(4) RADIX(5) RADIX(7) RADIX(8) RADIX(11) RADIX(13)
        default: dense_stage(z, m, r, twiddles, inverse);
    }
}

static void to_spectrum(bin *z, int64_t length, const int32_t *radices, const float *twiddles) {
    const int r = radices[0];
    if (!r) return;
    const int64_t m = length / r;
    any_stage(z, m, r, twiddles, 0);
    for (int l = 0; m > 1 && l < r; l++) to_spectrum(z + l * m, m, radices + 1, twiddles + 2 * (r + m * (r - 1)));
}

static void from_spectrum(bin *z, int64_t length, const int32_t *radices, const float *twiddles) {
    const int r = radices[0];
    if (!r) return;
    const int64_t m = length / r;
    for (int l = 0; m > 1 && l < r; l++) from_spectrum(z + l * m, m, radices + 1, twiddles + 2 * (r + m * (r - 1)));
    any_stage(z, m, r, twiddles, 1);
}
