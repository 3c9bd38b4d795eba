/* Inputs: from examples lying row by row to tiles of TILE examples, feature by feature.
 *
 * A tile of bytes becomes, for the kernels, rows of bfloat16: exact for 0..255, half the memory of float, and unpacked
 * by one shift or one AND on every machine. The affine map of bytes (scale, shift) is applied after the sums:
 * W x = scale * (W b) + shift * rowsum(W). */
#include "network.h"

typedef uint8_t bytes16 __attribute__((vector_size(16), may_alias));
typedef uint8_t bytes16_unaligned __attribute__((vector_size(16), may_alias, aligned(1)));

/* A tile of inputs as the first layer reads it: packed rows (bytes) or rows of reals (numbers and FLOAT64). */
#ifdef FLOAT64
enum { PACKED_ROW = TILE * sizeof(real) };
#else
enum { PACKED_ROW = TILE * 2 };
#endif

/* Vector i of a row. A packed row holds pairs: the low half of a lane belongs to vector i, the high half to i + 1. */
INLINE vec load(const void *row, int i, int packed)
{
#ifndef FLOAT64
    if (packed) {
        uvec pair = ((const uvec *)row)[i / 2];
        if (i % 2) return (vec)(pair & 0xffff0000u);
        return (vec)(pair << 16);
    }
#endif
    (void)packed;
    return ((const vec *)row)[i];
}
INLINE const void *row_of(const void *tile, unsigned column, int packed)
{
    return (const char *)tile + (size_t)column * (packed ? (size_t)PACKED_ROW : TILE * sizeof(real));
}

/* ---------------------------------------------------------------- bytes */

/* The sample that stands at byte p of a row of bytes, so that widening needs only shifts and masks: byte q of lane l of
 * group g belongs to lane l of vector 4 g + q. */
INLINE int sample_at(int p)
{
#ifdef FLOAT64
    return p;
#else
    int group = p / (4 * LANES), l = p % (4 * LANES) / 4, q = p % 4;
    return (4 * group + q) * LANES + l;
#endif
}
INLINE bytes16 zip_low(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
INLINE bytes16 zip_high(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
/* Rows of bytes of the examples index[0..count), by 16 x 16 transposes: four rounds of zips are a perfect shuffle.
 * `zeros` is an example of zeros that fills the tile up; `column_of` the place of each feature in a tile. */
static void transpose_bytes(const Examples *examples, const int32_t *index, int count, const uint8_t *zeros,
                            const int32_t *column_of, uint8_t *tile)
{
    int features = examples->features;
    for (int p0 = 0; p0 < TILE; p0 += 16) {
        const uint8_t *example[16];
        for (int p = 0; p < 16; p++) {
            int s = sample_at(p0 + p);
            example[p] = s < count ? examples->bytes + (size_t)index[s] * features : zeros;
        }
        int f = 0;
        for (; f + 16 <= features; f += 16) {
            bytes16 a[16], b[16];
            UNROLL for (int p = 0; p < 16; p++) a[p] = *(const bytes16_unaligned *)(example[p] + f);
            UNROLL for (int round = 0; round < 4; round++) {
                UNROLL for (int p = 0; p < 8; p++) {
                    b[2 * p] = zip_low(a[p], a[p + 8]);
                    b[2 * p + 1] = zip_high(a[p], a[p + 8]);
                }
                UNROLL for (int p = 0; p < 16; p++) a[p] = b[p];
            }
            UNROLL for (int p = 0; p < 16; p++) *(bytes16 *)(tile + (size_t)column_of[f + p] * TILE + p0) = a[p];
        }
        for (; f < features; f++)
            for (int p = 0; p < 16; p++) tile[(size_t)column_of[f] * TILE + p0 + p] = example[p][f];
    }
}
INLINE int any_byte(const uint8_t *row)
{
    const uint64_t *words = (const uint64_t *)row;
    uint64_t seen = 0;
    UNROLL for (int i = 0; i < TILE / 8; i++) seen |= words[i];
    return seen != 0;
}
#ifdef FLOAT64
INLINE vec byte_vector(const uint8_t *row, int i)
{
    vec v;
    for (int l = 0; l < LANES; l++) v[l] = row[i * LANES + l];
    return v;
}
INLINE void widen_row(const uint8_t *row, void *packed)
{
    for (int i = 0; i < ROW_VECS; i++) ((vec *)packed)[i] = byte_vector(row, i);
}
#else
/* Vector i of a row of bytes. */
INLINE vec byte_vector(const uint8_t *row, int i)
{
    uvec bytes = ((const uvec *)row)[i / 4] >> (8 * (i % 4));
    if (i % 4 != 3) bytes &= 255u;
    return __builtin_convertvector((ivec)bytes, vec);
}
INLINE void widen_row(const uint8_t *row, void *packed)
{
    UNROLL for (int i = 0; i < ROW_VECS; i += 2)
        ((uvec *)packed)[i / 2] = ((uvec)byte_vector(row, i) >> 16) | (uvec)byte_vector(row, i + 1);
}
#endif
/* Widens the rows of a tile; returns the number of leading columns behind which all is 0. Those are not written. */
static int widen_tile(const uint8_t *bytes, int features, void *packed)
{
    int active = features;
    while (active && !any_byte(bytes + (size_t)(active - 1) * TILE)) active--;
    for (int c = 0; c < active; c++) widen_row(bytes + (size_t)c * TILE, (char *)packed + (size_t)c * PACKED_ROW);
    return active;
}

/* ---------------------------------------------------------------- numbers */

/* Rows of reals of the examples index[0..count), each feature by its own affine map; 0 behind the samples. */
static void transpose_numbers(const Examples *examples, const int32_t *index, int count, const int32_t *column_of,
                              real *tile)
{
    int features = examples->features, done = 0;
    size_t width = (size_t)features;
    if (count < TILE) memset(tile, 0, width * TILE * sizeof(real));
#ifndef FLOAT64
    if (examples->numbers)
        for (; done + 4 <= features; done += 4) {
            real block[4][TILE] __attribute__((aligned(CACHE_LINE)));
            for (int s = 0; s + 4 <= count; s += 4) {
                const float *rows[4];
                UNROLL for (int j = 0; j < 4; j++) rows[j] = examples->numbers + (size_t)index[s + j] * width + done;
                transpose4_rows(rows, block[0] + s, TILE);
            }
            for (int i = 0; i < 4; i++) {
                vec *out = (vec *)(tile + (size_t)column_of[done + i] * TILE);
                real scale = examples->scale[done + i], shift = examples->shift[done + i];
                for (int k = 0; k < count / LANES; k++) out[k] = ((vec *)block[i])[k] * scale + shift;
            }
        }
#endif
    for (int f = 0; f < features; f++) /* all else: bytes, the last features, and samples behind the last whole vector */
        for (int s = f < done ? count / LANES * LANES : 0; s < count; s++) {
            size_t place = (size_t)index[s] * width + f;
            real raw = examples->bytes ? (real)examples->bytes[place] : (real)examples->numbers[place];
            tile[(size_t)column_of[f] * TILE + s] = raw * (real)examples->scale[f] + (real)examples->shift[f];
        }
}

/* ---------------------------------------------------------------- ink: the bytes of a tile that are not 0 */

typedef struct { lane place; real value; } Inked;

typedef struct {
    int32_t *start;                 /* TILE + 1: the entries of a sample */
    Inked *by_sample;               /* their columns and values */
    int32_t *column_start;          /* features + 1: the entries of a column */
    Inked *by_column;               /* their samples and values */
} Ink;

/* Lists of (column, value) by sample. */
static void ink_by_sample(const Examples *examples, const int32_t *index, int count, Ink *ink)
{
    int n = 0;
    for (int s = 0; s < TILE; s++) {
        ink->start[s] = n;
        if (s >= count) continue;
        int64_t at = examples->ink_start[index[s]];
        int entries = (int)(examples->ink_start[index[s] + 1] - at);
        const uint16_t *restrict column = examples->ink_column + at;
        const uint8_t *restrict value = examples->ink_value + at;
        Inked *restrict list = ink->by_sample + n;
        for (int k = 0; k < entries; k++) list[k] = (Inked){column[k], (real)value[k]};
        n += entries;
    }
    ink->start[TILE] = n;
}
/* The same entries by column. */
static void ink_by_column(Ink *ink, int features)
{
    int32_t *restrict start = ink->column_start, n = ink->start[TILE];
    const Inked *restrict from = ink->by_sample;
    Inked *restrict to = ink->by_column;
    memset(start, 0, sizeof(int32_t) * ((size_t)features + 2));
    for (int k = 0; k < n; k++) start[from[k].place + 2]++;
    for (int c = 0; c < features; c++) start[c + 2] += start[c + 1];
    for (int s = 0; s < TILE; s++)
        for (int k = ink->start[s]; k < ink->start[s + 1]; k++)
            to[start[from[k].place + 1]++] = (Inked){s, from[k].value};
}
