/* Kernels for a dense first layer over mostly empty images: they do arithmetic for the bytes that are not 0, alone.
 *
 * The weights lie in bands of BAND vectors of rows, each band column by column. Forward, a sample holds its sums of one
 * band in registers and adds a column for each of its inked bytes; backward, a column holds its gradients and adds a
 * row of dy for each sample that inks it. Between, sums and dy lie band by band, sample by sample. */
#include "network.h"

enum {
    BAND = VEC_BYTES == 64 ? 5 : 10, /* 64 samples of a band fit the first-level cache */
    WIDEST = 10,                     /* of the widths below, whatever BAND is */
};

INLINE int row_vectors(const Layer *l) { return (l->rows + LANES - 1) / LANES; }
INLINE int band_width(const Layer *l, int band)
{
    int left = row_vectors(l) - band * BAND;
    return left < BAND ? left : BAND;
}
INLINE size_t band_values(const Layer *l, int band) { return (size_t)band * BAND * LANES * (size_t)l->columns; }
INLINE size_t band_sums(int band) { return (size_t)band * BAND * LANES * TILE; }

/* Calls `kernel` with the width of the band as a constant, so that its sums stay in registers. */
#define WITH_WIDTH(width, kernel, ...)                                                                                 \
    switch (width) {                                                                                                   \
    case 1: kernel(1, __VA_ARGS__); break;                                                                             \
    case 2: kernel(2, __VA_ARGS__); break;                                                                             \
    case 3: kernel(3, __VA_ARGS__); break;                                                                             \
    case 4: kernel(4, __VA_ARGS__); break;                                                                             \
    case 5: kernel(5, __VA_ARGS__); break;                                                                             \
    case 6: kernel(6, __VA_ARGS__); break;                                                                             \
    case 7: kernel(7, __VA_ARGS__); break;                                                                             \
    case 8: kernel(8, __VA_ARGS__); break;                                                                             \
    case 9: kernel(9, __VA_ARGS__); break;                                                                             \
    default: kernel(10, __VA_ARGS__);                                                                                  \
    }

/* ---------------------------------------------------------------- forward */

INLINE void ink_band_forward(int width, const Ink *ink, const real *w, real *sums_of_band)
{
    for (int s = 0; s < TILE; s++) {
        vec total[WIDEST] = {{0}};
        for (int k = ink->start[s]; k < ink->start[s + 1]; k++) {
            const vec *weight = (const vec *)w + (size_t)ink->by_sample[k].place * width;
            real value = ink->by_sample[k].value;
            UNROLL for (int i = 0; i < width; i++) total[i] += value * weight[i];
        }
        vec *out = (vec *)sums_of_band + (size_t)s * width;
        UNROLL for (int i = 0; i < width; i++) out[i] = total[i];
    }
}
INLINE void ink_band_rowsum(int width, const real *w, int columns, real *rowsum)
{
    vec total[WIDEST] = {{0}};
    for (int c = 0; c < columns; c++)
        UNROLL for (int i = 0; i < width; i++) total[i] += ((const vec *)w)[(size_t)c * width + i];
    UNROLL for (int i = 0; i < width; i++) ((vec *)rowsum)[i] = total[i];
}

/* y = scale * (W b) + shift * rowsum(W) + bias, as rows of samples; `room` holds TILE * (all vectors of rows). y has
 * room for all vectors of rows. */
static void ink_forward(const Layer *l, const real *w, const real *bias, const Ink *ink, real scale, real shift,
                        int relu, real *room, real *y)
{
    int vectors = row_vectors(l);
    real rowsum[WIDEST * LANES] __attribute__((aligned(CACHE_LINE)));
    for (int band = 0; band * BAND < vectors; band++) {
        int width = band_width(l, band), first = band * BAND * LANES;
        const real *values = w + band_values(l, band);
        real *out = room + band_sums(band);
        WITH_WIDTH(width, ink_band_forward, ink, values, out)
        memset(rowsum, 0, sizeof rowsum);
        if (shift != 0) WITH_WIDTH(width, ink_band_rowsum, values, l->columns, rowsum)
        for (int r = 0; r < width * LANES && first + r < l->rows; r++) {
            if (r % 4 == 0)
                for (int s = 0; s < TILE; s += 4)
                    transpose4(out + (size_t)s * width * LANES + r, (size_t)width * LANES,
                               y + (size_t)(first + r) * TILE + s, TILE);
            vec *row = (vec *)(y + (size_t)(first + r) * TILE);
            real offset = bias[first + r] + shift * rowsum[r];
            UNROLL for (int i = 0; i < ROW_VECS; i++) {
                vec value = row[i] * scale + offset;
                row[i] = relu ? where(~(value < 0), value) : value;
            }
        }
    }
}

/* ---------------------------------------------------------------- gradient */

INLINE ivec kept_lanes(const uint8_t *keep, size_t value)
{
    static const lane bit[16] __attribute__((aligned(64))) = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                                              8192, 16384, 32768};
    unsigned bits = keep[value / 8];
    if (LANES == 16) bits |= (unsigned)keep[value / 8 + 1] << 8;
    if (LANES < 8) bits >>= value % 8;
    return (((ivec){0} + (lane)bits) & *(const ivec *)bit) != 0;
}
/* Gradients of one band: added to or stored in `gradient`, or (u) used for the update at once and forgotten. */
INLINE void ink_band_gradient(int width, const Layer *l, int band, const Ink *ink, const real *dy, real scale,
                              const real *constant, int add, real *gradient, const Update *u, real *param, real *first,
                              real *second)
{
    real chunk[WIDEST * LANES] __attribute__((aligned(CACHE_LINE)));
    size_t base = band_values(l, band);
    for (int c = 0; c < l->columns; c++) {
        vec total[WIDEST] = {{0}};
        for (int k = ink->column_start[c]; k < ink->column_start[c + 1]; k++) {
            const vec *d = (const vec *)dy + (size_t)ink->by_column[k].place * width;
            real value = ink->by_column[k].value;
            UNROLL for (int i = 0; i < width; i++) total[i] += value * d[i];
        }
        size_t at = base + (size_t)c * width * LANES;
        vec *out = (vec *)(u ? chunk : gradient + at);
        UNROLL for (int i = 0; i < width; i++) {
            vec g = total[i] * scale + ((const vec *)constant)[i];
            if (l->keep) g = where(kept_lanes(l->keep, at + (size_t)i * LANES), g);
            if (add) g += out[i];
            out[i] = g;
        }
        if (u) update(u, (size_t)width * LANES, param + at, chunk, first + at, second + at);
    }
}

/* dy of the rows lies in `dy`, row by row of samples; `room` as in the forward pass. */
static void ink_gradient(const Layer *l, const Ink *ink, const real *dy, real scale, real shift, const real *bias_sums,
                         int add, real *gradient, const Update *u, real *param, real *first, real *second, real *room)
{
    real constant[WIDEST * LANES] __attribute__((aligned(CACHE_LINE)));
    for (int band = 0; band * BAND < row_vectors(l); band++) {
        int width = band_width(l, band), row = band * BAND * LANES;
        real *banded = room + band_sums(band);
        for (int r = 0; r < width * LANES; r++) constant[r] = row + r < l->rows ? shift * bias_sums[row + r] : 0;
        for (int s = 0; s < TILE; s += 4)
            for (int r = 0; r < width * LANES; r += 4)
                transpose4(dy + (size_t)(row + r) * TILE + s, TILE, banded + (size_t)s * width * LANES + r,
                           (size_t)width * LANES);
        WITH_WIDTH(width, ink_band_gradient, l, band, ink, banded, scale, constant, add, gradient, u, param, first,
                   second)
    }
}
