/* Kernels over single surviving weights: one weight is one broadcast times one row of samples; no gathers.
 *
 * `active`: columns from there on are 0 in this tile, and columns rise within a row; so a row may end early. */
#include "network.h"

enum {
    CSR_VECS = ROW_VECS < 8 ? ROW_VECS : 8, /* vectors of a row handled in one pass ... */
    CHAINS = ROW_VECS < 8 ? 2 : 1,          /* ... and independent sums, to hide the latency of a multiply-add */
};

INLINE int end_of_row(const Layer *l, int row, int active)
{
    int begin = l->start[row], end = l->start[row + 1];
    if (active < l->columns)
        while (end > begin && l->column[end - 1] >= active) end--;
    return end;
}
INLINE real sum_of(const real *w, int n)
{
    real part[8] = {0}, total = 0;
    int k = 0;
    for (; k + 8 <= n; k += 8)
        for (int j = 0; j < 8; j++) part[j] += w[k + j];
    for (; k < n; k++) total += w[k];
    for (int j = 0; j < 8; j++) total += part[j];
    return total;
}

/* y = scale * (W x) + shift * rowsum(W) + bias */
INLINE void csr_forward(const Layer *l, const real *w, const real *bias, const void *x, int packed, int active,
                        real scale, real shift, int relu, real *y)
{
    for (int r = 0; r < l->rows; r++) {
        int begin = l->start[r], end = end_of_row(l, r, active);
        real offset = bias[r];
        if (packed && shift != 0) offset += shift * sum_of(w + begin, l->start[r + 1] - begin);
        for (int pass = 0; pass < ROW_VECS / CSR_VECS; pass++) {
            vec total[CHAINS][CSR_VECS] = {{{0}}};
            int k = begin;
            for (; k + CHAINS <= end; k += CHAINS)
                UNROLL for (int c = 0; c < CHAINS; c++) {
                    const void *row = row_of(x, l->column[k + c], packed);
                    real weight = w[k + c];
                    UNROLL for (int i = 0; i < CSR_VECS; i++)
                        total[c][i] += weight * load(row, pass * CSR_VECS + i, packed);
                }
            if (CHAINS > 1 && k < end) {
                const void *row = row_of(x, l->column[k], packed);
                real weight = w[k];
                UNROLL for (int i = 0; i < CSR_VECS; i++)
                    total[0][i] += weight * load(row, pass * CSR_VECS + i, packed);
            }
            vec *out = (vec *)(y + (size_t)r * TILE) + pass * CSR_VECS;
            UNROLL for (int i = 0; i < CSR_VECS; i++) {
                vec s = total[0][i];
                if (CHAINS > 1) s += total[CHAINS - 1][i];
                s = s * scale + offset;
                out[i] = relu ? where(~(s < 0), s) : s;
            }
        }
    }
}

/* dx = W' dy, gathered by the transposed index, and with `relu` 0 where the ReLU below was. */
INLINE void csr_input_gradient(const Layer *l, const real *w, const real *dy, const real *x, int relu, real *dx)
{
    for (int c = 0; c < l->columns; c++)
        for (int pass = 0; pass < ROW_VECS / CSR_VECS; pass++) {
            vec total[CSR_VECS] = {{0}};
            for (int k = l->column_start[c]; k < l->column_start[c + 1]; k++) {
                const vec *d = (const vec *)(dy + (size_t)l->row[k] * TILE) + pass * CSR_VECS;
                real weight = w[l->slot[k]];
                UNROLL for (int i = 0; i < CSR_VECS; i++) total[i] += weight * d[i];
            }
            const vec *below = (const vec *)(x + (size_t)c * TILE) + pass * CSR_VECS;
            vec *out = (vec *)(dx + (size_t)c * TILE) + pass * CSR_VECS;
            UNROLL for (int i = 0; i < CSR_VECS; i++) out[i] = relu ? where(~(below[i] <= 0), total[i]) : total[i];
        }
}

/* The gradients of row r: g[k] = scale * dy[r] . x[column[k]] + constant, in the order of the stored values. */
INLINE vec dot_lanes(const vec *d, const void *row, int packed)
{
    vec even = d[0] * load(row, 0, packed), odd = d[1] * load(row, 1, packed);
    UNROLL for (int i = 2; i < ROW_VECS; i += 2) {
        even += d[i] * load(row, i, packed);
        odd += d[i + 1] * load(row, i + 1, packed);
    }
    return even + odd;
}
INLINE four dot_of_4(const vec *d, const void *x, const uint16_t *column, int packed)
{
    return sums(dot_lanes(d, row_of(x, column[0], packed), packed), dot_lanes(d, row_of(x, column[1], packed), packed),
                dot_lanes(d, row_of(x, column[2], packed), packed), dot_lanes(d, row_of(x, column[3], packed), packed));
}
/* Without `add` up to three numbers behind the row are written too: those of the next row, which comes later, or room
 * behind the last one. So there is no remainder, whose branches nobody foresees. */
INLINE void csr_gradient(const Layer *l, int r, const void *x, int packed, int active, const real *dy, real scale,
                         real constant, int add, real *g)
{
    vec d[ROW_VECS];
    UNROLL for (int i = 0; i < ROW_VECS; i++) d[i] = ((const vec *)(dy + (size_t)r * TILE))[i];
    const uint16_t *column = l->column + l->start[r];
    int n = end_of_row(l, r, active) - l->start[r], whole = l->start[r + 1] - l->start[r];
    if (!add) {
        for (int k = 0; k < n; k += 4)
            *(four_unaligned *)(g + k) = dot_of_4(d, x, column + k, packed) * scale + constant;
        for (int k = n; k < whole; k++) g[k] = constant;
        return;
    }
    for (int k = 0; k < n; k += 4) {
        four s = dot_of_4(d, x, column + k, packed) * scale;
        for (int j = 0; j < 4 && k + j < n; j++) g[k + j] += s[j];
    }
    for (int k = 0; k < whole; k++) g[k] += constant;
}
