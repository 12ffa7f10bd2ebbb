/* The token and row views on a CPU, float32: what docs/math.md calls the compiled kernel.
 *
 * A tile is 2 * LANES tokens, as the real and the imaginary parts of LANES complex vectors. dW is real, so it acts on
 * x_a + i x_b as on each part alone, and no spectrum is ever split or mirrored:
 *
 *     y[p] = sum_k c[k] (e(p u[k] / out) Z[v[k]] + e(-p u[k] / out) Z[-v[k]]),   Z[v] = sum_q z[q] e(q v / in)
 *
 * with e(t) = exp(2 pi i t) and the factor alpha / (2 out in) in c. So a layer is one transform with positive exponents,
 * 2n real multiples of bins ("links"), and another such transform. The transposed weight swaps the sides. Gradient:
 *
 *     dc[k] = sum over tiles and lanes of Re(G[u] conj(Z[-v]) + G[-u] conj(Z[v]))
 *
 * The links' positions, from plan.py, account for the order in which a transform (transforms.h) leaves its bins.
 */
#include <omp.h>
#include <string.h>

#include "spectra.h"

typedef struct {
    int64_t targets;
    const int32_t *target; /* [targets] position of a bin that links add to */
    const int32_t *first;  /* [targets + 1] its first link */
    const int32_t *source; /* [2n] position that a link reads */
    const int32_t *mirror; /* [2n] position of the same bin with its index negated */
    const int32_t *index;  /* [2n] its coefficient */
} links;

typedef struct {
    int64_t n;
    const int32_t *in;  /* [n][2] positions of v and -v */
    const int32_t *out; /* [n][2] positions of u and -u */
    const int32_t *index; /* [n] the coefficient; the order is that of u's position */
} entries;

/* Bins that are held of a spectrum: of a tile, [count] in the order of their positions, and one that is not a number for
 * tokens that are not finite, else zero. Links and entries of a held spectrum have places among them, not positions. */
typedef struct {
    int64_t count;
    const int32_t *position;
} holding;

int lanes(void) { return LANES; }

/* ---- links ------------------------------------------------------------------------------------------------------- */

INLINE void link_bins(const links *map, const float *c, float factor, const bin *z, bin *out, int64_t length) {
    memset(out, 0, length * sizeof(bin));
    for (int64_t t = 0; t < map->targets; t++) {
        bin sum = {{0}, {0}};
        for (int32_t l = map->first[t]; l < map->first[t + 1]; l++) {
            const float weight = c[map->index[l]] * factor;
            const bin read = z[map->source[l]];
            sum.re += read.re * weight, sum.im += read.im * weight;
        }
        out[map->target[t]] = sum;
    }
}

/* Coefficients of a tile whose tokens have their own, `each` tokens a set: c [sets, n] -> own [n], half sum and half
 * difference of re's and im's in place of re and im. Returns the tokens whose coefficients are not finite. */
static uint32_t load_coefficients(bin *own, const float *c, float factor, int64_t tokens, int64_t n, int64_t first,
                              int64_t each) {
    load_rows(own, c, tokens, n, first, each);
    bin sum = {{0}, {0}};
    for (int64_t k = 0; k < n; k++) sum = plus(sum, own[k]);
    const uint32_t rows = spoilt(sum);
    if (rows) clear_rows(own, n, rows);
    for (int64_t k = 0; k < n; k++) {
        const bin a = own[k];
        own[k] = (bin){(a.re + a.im) * (factor / 2), (a.re - a.im) * (factor / 2)};
    }
    return rows;
}

INLINE void link_bins_by_lane(const links *map, const bin *own, const bin *z, bin *out, int64_t length) {
    memset(out, 0, length * sizeof(bin));
    for (int64_t t = 0; t < map->targets; t++) {
        bin sum = {{0}, {0}};
        for (int32_t l = map->first[t]; l < map->first[t + 1]; l++) {
            const bin both = own[map->index[l]], read = z[map->source[l]], mirrored = z[map->mirror[l]];
            sum.re += read.re * both.re + mirrored.re * both.im;
            sum.im += read.im * both.re - mirrored.im * both.im;
        }
        out[map->target[t]] = sum;
    }
}

/* ---- the views --------------------------------------------------------------------------------------------------- */

/* y[s, t] (+)= dW[s] x[s, t]: x [sets, tokens, from], c [sets, n], y [sets, tokens, to]. */
void token_product(const plan *from, const plan *to, const links *map, const float *x, const float *c, float factor,
                   float *y, int64_t sets, int64_t tokens, int64_t n, int add, int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (sets * tiles > 1 && threads > 1)
    for (int64_t item = 0; item < sets * tiles; item++) {
        const int64_t set = item / tiles, t = item % tiles * TILE, count = tokens - t < TILE ? tokens - t : TILE;
        bin *z = scratch((from->length + to->length) * sizeof(bin)), *out = z + from->length;
        const uint32_t rows = read_tile(z, from, x + (set * tokens + t) * from->length, count);
        link_bins(map, c + set * n, factor, z, out, to->length);
        float *into = y + (set * tokens + t) * to->length;
        write_tile(out, to, into, add ? into : NULL, count, rows);
    }
}

/* `token_product` for few tokens a set: a tile holds the tokens of several sets. */
void row_product(const plan *from, const plan *to, const links *map, const float *x, const float *c, float factor,
                 float *y, int64_t sets, int64_t tokens, int64_t n, int add, int threads) {
    const int64_t all = sets * tokens, tiles = (all + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (tiles > 1 && threads > 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t t = tile * TILE, count = all - t < TILE ? all - t : TILE;
        bin *z = scratch((from->length + to->length + n) * sizeof(bin)), *out = z + from->length;
        bin *own = out + to->length;
        uint32_t rows = load_coefficients(own, c, factor, count, n, t, tokens);
        rows |= read_tile(z, from, x + t * from->length, count);
        link_bins_by_lane(map, own, z, out, to->length);
        write_tile(out, to, y + t * to->length, add ? y + t * to->length : NULL, count, rows);
    }
}

/* Add a tile's products of each entry, lane by lane: of the spectra of an output gradient and of an input. */
INLINE void add_products(vec *lane_sums, const entries *e, const bin *grad, const bin *z) {
    for (int64_t k = 0; k < e->n; k++) {
        const bin a = grad[e->out[2 * k]], b = z[e->in[2 * k + 1]], p = grad[e->out[2 * k + 1]], q = z[e->in[2 * k]];
        lane_sums[k] += a.re * b.re + a.im * b.im + p.re * q.re + p.im * q.im;
    }
}

/* A token that is not finite makes the sum over all so. */
static __attribute__((noinline)) void spoil_sums(vec *lane_sums, int64_t n) {
    for (int64_t k = 0; k < n; k++) lane_sums[k] += __builtin_nanf("");
}

INLINE void sum_lanes(const vec *lane_sums, const entries *e, float factor, float *sums) {
    for (int64_t k = 0; k < e->n; k++) {
        float sum = 0;
        for (int lane = 0; lane < LANES; lane++) sum += lane_sums[k][lane];
        sums[e->index[k]] = sum * factor;
    }
}

/* What the members of a team summed up, partial [team, n] -> dc [n], in order. */
static void sum_threads(float *dc, const float *partial, int64_t n, int team) {
    for (int64_t k = 0; k < n; k++) {
        float sum = 0;
        for (int thread = 0; thread < team; thread++) sum += partial[thread * n + k];
        dc[k] = sum;
    }
}

/* Gradients of the tiles [begin, end) of one set: sums[n] becomes dc, and dx, unless it is null, gets dW^T g. */
static void gradient_tiles(const plan *in, const plan *out, const entries *e, const links *reversed, const float *g,
                           const float *x, const float *c, float factor, float *dx, float *sums, int64_t tokens,
                           int64_t begin, int64_t end, int add) {
    bin *z = scratch((in->length + out->length) * sizeof(bin) + e->n * sizeof(vec)), *grad = z + in->length;
    vec *lane_sums = (vec *)(grad + out->length);
    memset(lane_sums, 0, e->n * sizeof(vec));
    for (int64_t tile = begin; tile < end; tile++) {
        const int64_t t = tile * TILE, count = tokens - t < TILE ? tokens - t : TILE;
        const uint32_t of_x = read_tile(z, in, x + t * in->length, count);
        const uint32_t rows = read_tile(grad, out, g + t * out->length, count);
        add_products(lane_sums, e, grad, z);
        if (rows | of_x) spoil_sums(lane_sums, e->n);
        if (!dx) continue;
        link_bins(reversed, c, factor, grad, z, in->length);
        write_tile(z, in, dx + t * in->length, add ? dx + t * in->length : NULL, count, rows);
    }
    sum_lanes(lane_sums, e, factor, sums);
}

/* dc[s] [sets, n] and, unless dx is null, dx[s, t] (+)= dW[s]^T g[s, t]. partial: [threads, n], summed in order. */
void token_gradients(const plan *in, const plan *out, const entries *e, const links *reversed, const float *g,
                     const float *x, const float *c, float factor, float *dx, float *dc, float *partial, int64_t sets,
                     int64_t tokens, int add, int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE, n = e->n;
    if (sets >= threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
        for (int64_t s = 0; s < sets; s++)
            gradient_tiles(in, out, e, reversed, g + s * tokens * out->length, x + s * tokens * in->length, c + s * n,
                           factor, dx ? dx + s * tokens * in->length : NULL, dc + s * n, tokens, 0, tiles, add);
        return;
    }
    for (int64_t s = 0; s < sets; s++) {
        int team = 1;
#pragma omp parallel num_threads(threads)
        {
            const int thread = omp_get_thread_num(), members = omp_get_num_threads();
            if (!thread) team = members;
            gradient_tiles(in, out, e, reversed, g + s * tokens * out->length, x + s * tokens * in->length, c + s * n,
                           factor, dx ? dx + s * tokens * in->length : NULL, partial + thread * n, tokens,
                           tiles * thread / members, tiles * (thread + 1) / members, add);
        }
        sum_threads(dc + s * n, partial, n, team);
    }
}

/* ---- held spectra ------------------------------------------------------------------------------------------------ */

/* x [tokens, length] -> held [tiles, count + 1]. */
void hold(const plan *from, const holding *held, const float *x, float *into, int64_t tokens, int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (tiles > 1 && threads > 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t t = tile * TILE, count = tokens - t < TILE ? tokens - t : TILE;
        bin *z = scratch(from->length * sizeof(bin)), *own = (bin *)into + tile * (held->count + 1);
        own[held->count] = marked(read_tile(z, from, x + t * from->length, count));
        for (int64_t k = 0; k < held->count; k++) own[k] = z[held->position[k]];
    }
}

/* The transpose of `hold`: held [tiles, count + 1] -> y [tokens, length], added to `onto`, unless it is null. */
void release(const plan *to, const holding *held, const float *from, float *y, const float *onto, int64_t tokens,
             int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (tiles > 1 && threads > 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t t = tile * TILE, count = tokens - t < TILE ? tokens - t : TILE;
        bin *z = scratch(to->length * sizeof(bin));
        const bin *own = (const bin *)from + tile * (held->count + 1);
        memset(z, 0, to->length * sizeof(bin));
        for (int64_t k = 0; k < held->count; k++) z[held->position[k]] = own[k];
        const float *sum = onto ? onto + t * to->length : NULL;
        write_tile(z, to, y + t * to->length, sum, count, spoilt(own[held->count]));
    }
}

/* y [tokens, out] (+)= dW x of a held x. */
void held_product(const holding *held, const plan *to, const links *map, const float *from, const float *c,
                  float factor, float *y, int64_t tokens, int add, int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE;
#pragma omp parallel for schedule(static) num_threads(threads) if (tiles > 1 && threads > 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t t = tile * TILE, count = tokens - t < TILE ? tokens - t : TILE;
        bin *out = scratch(to->length * sizeof(bin));
        const bin *own = (const bin *)from + tile * (held->count + 1);
        link_bins(map, c, factor, own, out, to->length);
        float *into = y + t * to->length;
        write_tile(out, to, into, add ? into : NULL, count, spoilt(own[held->count]));
    }
}

/* The gradient of a held x into dx, unless it is null, and dc [n], unless x is null. partial: [threads, n]. */
void held_gradients(const holding *held, const plan *out, const entries *e, const links *reversed, const float *g,
                    const float *x, const float *c, float factor, float *dx, float *dc, float *partial, int64_t tokens,
                    int threads) {
    const int64_t tiles = (tokens + TILE - 1) / TILE, n = e->n;
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), members = omp_get_num_threads();
        if (!thread) team = members;
        bin *grad = scratch(out->length * sizeof(bin) + n * sizeof(vec));
        vec *lane_sums = (vec *)(grad + out->length);
        memset(lane_sums, 0, n * sizeof(vec));
        for (int64_t tile = tiles * thread / members; tile < tiles * (thread + 1) / members; tile++) {
            const int64_t t = tile * TILE, count = tokens - t < TILE ? tokens - t : TILE;
            const uint32_t rows = read_tile(grad, out, g + t * out->length, count);
            const int64_t at = tile * (held->count + 1);
            if (x) {
                const bin *own = (const bin *)x + at;
                add_products(lane_sums, e, grad, own);
                if (rows | spoilt(own[held->count])) spoil_sums(lane_sums, n);
            }
            if (dx) {
                link_bins(reversed, c, factor, grad, (bin *)dx + at, held->count);
                ((bin *)dx)[at + held->count] = marked(rows);
            }
        }
        if (x) sum_lanes(lane_sums, e, factor, partial + thread * n);
    }
    if (x) sum_threads(dc, partial, n, team);
}

/* A number for the content of some memory: any single change changes it, and other contents do so but for one in 2^32. */
void fingerprint(const void *memory, int64_t bytes, uint64_t *found) {
    typedef uint32_t words __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
    enum { CHAINS = 8 }; /* that run side by side */
    words hash[CHAINS] = {{0}};
    const char *at = memory, *end = at + bytes;
    for (; end - at >= (ptrdiff_t)sizeof hash; at += sizeof hash)
        for (int i = 0; i < CHAINS; i++) {
            const words mixed = hash[i] ^ ((const words *)at)[i];
            hash[i] = (mixed << 13 | mixed >> 19) * 0x9E3779B1u; /* turned, since a product carries upwards alone */
        }
    uint64_t sum = bytes;
    for (; at < end; at++) sum = ((sum << 29 | sum >> 35) ^ (uint8_t)*at) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < CHAINS; i++)
        for (int lane = 0; lane < LANES; lane++) sum = ((sum << 29 | sum >> 35) ^ hash[i][lane]) * 0x9E3779B97F4A7C15u;
    *found = sum;
}
