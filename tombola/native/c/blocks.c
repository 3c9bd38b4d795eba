/* Kernels over blocks of four rows and one column, for masks denser than about half: four rows share each load of the
 * input. Pruned places of a block stay exactly 0. The number of rows is a multiple of four. */
#include "network.h"

enum {
    BLOCK = 4,
    BLOCK_VECS = REGISTERS == 32 ? 4 : 2, /* BLOCK * BLOCK_VECS sums stay in registers */
    COLUMNS_AT_ONCE = 2,                  /* of the weight gradient: columns that share each load of dy */
};

INLINE void blocks_forward(const Layer *l, const real *w, const real *bias, const void *x, int packed, int active,
                           real scale, real shift, int relu, real *y)
{
    for (int g = 0; g < l->rows / BLOCK; g++) {
        int begin = l->start[g], whole = l->start[g + 1], end = whole;
        if (active < l->columns)
            while (end > begin && l->column[end - 1] >= active) end--;
        real offset[BLOCK];
        UNROLL for (int r = 0; r < BLOCK; r++) {
            real s = 0;
            if (packed && shift != 0)
                for (int k = begin; k < whole; k++) s += w[(size_t)k * BLOCK + r];
            offset[r] = bias[g * BLOCK + r] + shift * s;
        }
        for (int pass = 0; pass < ROW_VECS / BLOCK_VECS; pass++) {
            vec total[BLOCK][BLOCK_VECS] = {{{0}}};
            for (int k = begin; k < end; k++) {
                const void *row = row_of(x, l->column[k], packed);
                const real *weight = w + (size_t)k * BLOCK;
                UNROLL for (int i = 0; i < BLOCK_VECS; i++) {
                    vec xi = load(row, pass * BLOCK_VECS + i, packed);
                    UNROLL for (int r = 0; r < BLOCK; r++) total[r][i] += weight[r] * xi;
                }
            }
            UNROLL for (int r = 0; r < BLOCK; r++) {
                vec *out = (vec *)(y + (size_t)(g * BLOCK + r) * TILE) + pass * BLOCK_VECS;
                UNROLL for (int i = 0; i < BLOCK_VECS; i++) {
                    vec s = total[r][i] * scale + offset[r];
                    out[i] = relu ? where(~(s < 0), s) : s;
                }
            }
        }
    }
}

/* dx = W' dy, scattered; with `relu` 0 where the ReLU below was. */
static void blocks_input_gradient(const Layer *l, const real *w, const real *dy, const real *x, int relu, real *dx)
{
    memset(dx, 0, sizeof(real) * TILE * (size_t)l->columns);
    for (int g = 0; g < l->rows / BLOCK; g++)
        for (int pass = 0; pass < ROW_VECS / BLOCK_VECS; pass++) {
            const vec *d = (const vec *)(dy + (size_t)g * BLOCK * TILE) + pass * BLOCK_VECS;
            vec held[BLOCK][BLOCK_VECS];
            UNROLL for (int r = 0; r < BLOCK; r++)
                UNROLL for (int i = 0; i < BLOCK_VECS; i++) held[r][i] = d[r * ROW_VECS + i];
            for (int k = l->start[g]; k < l->start[g + 1]; k++) {
                vec *out = (vec *)(dx + (size_t)l->column[k] * TILE) + pass * BLOCK_VECS;
                const real *weight = w + (size_t)k * BLOCK;
                UNROLL for (int i = 0; i < BLOCK_VECS; i++) {
                    vec s = out[i];
                    UNROLL for (int r = 0; r < BLOCK; r++) s += weight[r] * held[r][i];
                    out[i] = s;
                }
            }
        }
    if (relu)
        for (size_t i = 0; i < (size_t)l->columns * ROW_VECS; i++)
            ((vec *)dx)[i] = where(~(((const vec *)x)[i] <= 0), ((const vec *)dx)[i]);
}

INLINE void store_block(vec a, vec b, vec c, vec d, real scale, four constant, int add, unsigned keep, real *g)
{
    static const real kept[16][BLOCK] = {{0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 0},
                                         {1, 0, 1, 0}, {0, 1, 1, 0}, {1, 1, 1, 0}, {0, 0, 0, 1}, {1, 0, 0, 1},
                                         {0, 1, 0, 1}, {1, 1, 0, 1}, {0, 0, 1, 1}, {1, 0, 1, 1}, {0, 1, 1, 1},
                                         {1, 1, 1, 1}};
    four_unaligned *out = (four_unaligned *)g;
    four s = sums(a, b, c, d) * scale + constant;
    if (add) s += *out;
    *out = s * *(const four_unaligned *)kept[keep];
}
/* The gradients of block row `group`, in the order of the stored values. */
INLINE void blocks_gradient(const Layer *l, int group, const void *x, int packed, int active, const real *dy,
                            real scale, four constant, int add, real *g)
{
    const vec *d = (const vec *)(dy + (size_t)group * BLOCK * TILE);
    const uint16_t *column = l->column + l->start[group];
    const uint8_t *keep = l->keep + l->start[group];
    int whole = l->start[group + 1] - l->start[group], n = whole;
    if (active < l->columns)
        while (n && column[n - 1] >= active) n--;
    vec held[BLOCK][ROW_VECS]; /* in registers on AVX-512, elsewhere on the stack */
    UNROLL for (int r = 0; r < BLOCK; r++)
        UNROLL for (int i = 0; i < ROW_VECS; i++) held[r][i] = d[r * ROW_VECS + i];
    int k = 0;
    for (; k + COLUMNS_AT_ONCE <= n; k += COLUMNS_AT_ONCE) {
        vec s[COLUMNS_AT_ONCE][BLOCK] = {{{0}}};
        UNROLL for (int i = 0; i < ROW_VECS; i++)
            UNROLL for (int c = 0; c < COLUMNS_AT_ONCE; c++) {
                vec xi = load(row_of(x, column[k + c], packed), i, packed);
                UNROLL for (int r = 0; r < BLOCK; r++) s[c][r] += held[r][i] * xi;
            }
        UNROLL for (int c = 0; c < COLUMNS_AT_ONCE; c++)
            store_block(s[c][0], s[c][1], s[c][2], s[c][3], scale, constant, add, keep[k + c],
                        g + (size_t)(k + c) * BLOCK);
    }
    for (; k < whole; k++) {
        vec s[BLOCK] = {{0}};
        if (k < n)
            for (int i = 0; i < ROW_VECS; i++) {
                vec xi = load(row_of(x, column[k], packed), i, packed);
                UNROLL for (int r = 0; r < BLOCK; r++) s[r] += held[r][i] * xi;
            }
        store_block(s[0], s[1], s[2], s[3], scale, constant, add, keep[k], g + (size_t)k * BLOCK);
    }
}
