/* Convolutions of 3 x 3, and the pools behind them, over surviving weights alone.
 *
 * Images lie in planes: channel by channel, row by row, pixel by pixel, and a pixel is one vector of samples. The samples
 * of a tile thus pass in groups of LANES, one group after another, so that a group's planes stay in the caches. One row
 * and one column of zeros stand between planes and rows: they are the border, which a kernel reads as it reads all else.
 *
 * A kernel works on blocks of pixels, whose sums stay in registers while a list of weights goes by: a surviving weight
 * is one number times the block, moved by the weight's offset. Heights and widths are rounded up to whole blocks; pixels
 * beyond the image are computed and never stored, so they stay 0.
 *
 * The gradient by the input is the same kernel over the same weights, listed by inputs, with offsets of opposite sign. The
 * forward pass of a pooled layer stores the pooled image alone, and for each block which pixels were the largest. */
#include "network.h"

enum {
    BLOCK_ROWS = REGISTERS == 32 ? 4 : 2,
    BLOCK_COLUMNS = 4,
    WINDOW_BITS = 8, /* of a word of choices */
    TAPS = 9,
    NOT_ANY = 4, /* the choice where a ReLU lets no gradient through */
};

/* The shape of planes; distances in vectors. */
typedef struct { int channels, height, width; size_t row, plane, first, size; } Planes;

INLINE int whole_blocks(int length, int block) { return (length + block - 1) / block; }

static Planes planes_of(int channels, int height, int width)
{
    Planes p = {.channels = channels, .height = height, .width = width};
    p.row = (size_t)whole_blocks(width, BLOCK_COLUMNS) * BLOCK_COLUMNS + 1;
    p.plane = p.row * ((size_t)whole_blocks(height, BLOCK_ROWS) * BLOCK_ROWS + 1);
    p.first = p.row + 1;
    p.size = p.first + p.plane * (size_t)channels;
    return p;
}
INLINE Planes planes_in(const Layer *l) { return planes_of(l->columns / TAPS, l->height, l->width); }
INLINE Planes planes_out(const Layer *l) { return planes_of(l->rows, l->height, l->width); }
INLINE Planes pooled(const Layer *l)
{
    return l->pool ? planes_of(l->rows, l->height / 2, l->width / 2) : planes_out(l);
}
INLINE size_t blocks_of(const Layer *l)
{
    return (size_t)whole_blocks(l->height, BLOCK_ROWS) * (size_t)whole_blocks(l->width, BLOCK_COLUMNS);
}

/* Images of any layout: planes, or rows of samples as a dense layer reads them; distances in vectors. */
typedef struct { vec *at; size_t channel, row, pixel; } Place;

INLINE Place in_planes(const Planes *p, void *planes, int group)
{
    return (Place){(vec *)planes + p->size * (size_t)group + p->first, p->plane, p->row, 1};
}
INLINE Place in_rows(const Planes *p, real *rows, int group)
{
    size_t width = (size_t)p->width * ROW_VECS;
    return (Place){(vec *)rows + group, width * (size_t)p->height, width, ROW_VECS};
}
INLINE vec *pixel(const Place *p, int channel, int y, int x)
{
    return p->at + p->channel * (size_t)channel + p->row * (size_t)y + p->pixel * (size_t)x;
}

/* ---------------------------------------------------------------- the lists of weights */

/* Where the pixels stand that a weight multiplies: for `offset` seen from an output, weight by weight as they are stored;
 * for `back` seen from an input, channel by channel (`back_start` has channels + 1 entries, `back_slot` says which
 * weight). Within a channel the other side's channels rise, so that neighbouring weights share pixels in the cache. Both
 * lists of offsets end with three more. */
typedef struct { int32_t *offset, *back, *back_slot, *back_start; } Offsets;

static void set_offsets(const Layer *l, Offsets *o)
{
    Planes in = planes_in(l), out = planes_out(l);
    for (int64_t k = 0; k < l->stored; k++) o->back_start[l->column[k] / TAPS + 1]++;
    for (int c = 0; c < in.channels; c++) o->back_start[c + 1] += o->back_start[c];
    for (int r = l->rows - 1; r >= 0; r--) /* from the end, so that the starts of channels become the starts again */
        for (int k = l->start[r + 1] - 1; k >= l->start[r]; k--) {
            int c = l->column[k] / TAPS, y = l->column[k] % TAPS / 3 - 1, x = l->column[k] % 3 - 1;
            int place = --o->back_start[c + 1];
            o->offset[k] = (int32_t)((ptrdiff_t)in.plane * c + (ptrdiff_t)in.row * y + x);
            o->back[place] = (int32_t)((ptrdiff_t)out.plane * r - (ptrdiff_t)out.row * y - x);
            o->back_slot[place] = k;
        }
    for (int c = 0; c < in.channels; c++) o->back_start[c] = o->back_start[c + 1];
    o->back_start[in.channels] = (int32_t)l->stored;
}

/* ---------------------------------------------------------------- the kernel of both directions */

typedef struct { vec at[BLOCK_ROWS][BLOCK_COLUMNS]; } Block;

INLINE void sum_block(const vec *from, size_t row, const int32_t *offset, const real *w, int count, Block *sum)
{
    vec total[BLOCK_ROWS][BLOCK_COLUMNS] = {{{0}}};
    for (int k = 0; k < count; k++) {
        const vec *x = from + offset[k];
        real weight = w[k];
        UNROLL for (int r = 0; r < BLOCK_ROWS; r++)
            UNROLL for (int c = 0; c < BLOCK_COLUMNS; c++) total[r][c] += weight * x[row * (size_t)r + (size_t)c];
    }
    UNROLL for (int r = 0; r < BLOCK_ROWS; r++)
        UNROLL for (int c = 0; c < BLOCK_COLUMNS; c++) sum->at[r][c] = total[r][c];
}
/* How much of a block that begins at `at` lies within `length`. */
INLINE int inside(int at, int length, int block) { return length - at < block ? length - at : block; }

INLINE void store_rows(const Block *b, const Place *to, int channel, int y, int x, int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) *pixel(to, channel, y + r, x + c) = b->at[r][c];
}
/* Stores the largest of each 2 x 2 window (the first one on ties, NaN above all: as torch has it) and remembers where it
 * stood, in one word for each lane; a window that reaches beyond the image gives nothing. */
INLINE void store_pooled(const Block *b, const Place *to, int channel, int y, int x, int rows, int columns, int relu,
                         ivec *choices)
{
    ivec words = {0};
    UNROLL for (int r = 0; r < BLOCK_ROWS; r += 2)
        UNROLL for (int c = 0; c < BLOCK_COLUMNS; c += 2) {
            vec top = b->at[r][c];
            ivec choice = {0};
            UNROLL for (int i = 1; i < 4; i++) {
                vec v = b->at[r + i / 2][c + i % 2];
                ivec better = (v > top) | (v != v);
                top = choose(better, v, top);
                choice = (better & i) | (~better & choice);
            }
            if (relu) {
                ivec off = top <= 0;
                choice = (off & NOT_ANY) | (~off & choice);
            }
            words |= choice << (WINDOW_BITS * (r + c / 2));
            if (r + 1 < rows && c + 1 < columns) *pixel(to, channel, (y + r) / 2, (x + c) / 2) = top;
        }
    *choices = words;
}

/* ---------------------------------------------------------------- forward */

/* One group of samples through a layer. `choices`: one word for each lane of each block of each output, where it pools. */
static void conv_forward(const Layer *l, const Offsets *o, const real *w, const real *bias, const Place *from,
                         const Place *to, ivec *choices)
{
    int relu = l->activation == RELU;
    size_t block = 0, blocks = blocks_of(l);
    for (int x = 0; x < l->width; x += BLOCK_COLUMNS)
        for (int y = 0; y < l->height; y += BLOCK_ROWS, block++) { /* down: neighbours share the rows between them */
            int rows = inside(y, l->height, BLOCK_ROWS), columns = inside(x, l->width, BLOCK_COLUMNS);
            const vec *corner = pixel(from, 0, y, x);
            for (int r = 0; r < l->rows; r++) {
                Block b;
                int begin = l->start[r];
                sum_block(corner, from->row, o->offset + begin, w + begin, l->start[r + 1] - begin, &b);
                UNROLL for (int i = 0; i < BLOCK_ROWS; i++)
                    UNROLL for (int j = 0; j < BLOCK_COLUMNS; j++) {
                        vec s = b.at[i][j] + bias[r];
                        b.at[i][j] = relu ? where(~(s < 0), s) : s;
                    }
                if (l->pool) store_pooled(&b, to, r, y, x, rows, columns, relu, choices + blocks * (size_t)r + block);
                else store_rows(&b, to, r, y, x, rows, columns);
            }
        }
}

/* ---------------------------------------------------------------- backward */

/* The gradient by the input, from that by the sums `dy`; with `relu` 0 where the image `below` is. `w` follows
 * `back`. */
static void conv_input_gradient(const Layer *l, const Offsets *o, const real *w, const Place *dy, const Place *below,
                                int relu, const Place *dx)
{
    for (int x = 0; x < l->width; x += BLOCK_COLUMNS)
        for (int y = 0; y < l->height; y += BLOCK_ROWS) {
            int rows = inside(y, l->height, BLOCK_ROWS), columns = inside(x, l->width, BLOCK_COLUMNS);
            const vec *corner = pixel(dy, 0, y, x);
            for (int c = 0; c < l->columns / TAPS; c++) {
                Block b;
                int begin = o->back_start[c], end = o->back_start[c + 1];
                sum_block(corner, dy->row, o->back + begin, w + begin, end - begin, &b);
                if (relu)
                    for (int i = 0; i < rows; i++)
                        for (int j = 0; j < columns; j++)
                            b.at[i][j] = where(~(*pixel(below, c, y + i, x + j) <= 0), b.at[i][j]);
                store_rows(&b, dx, c, y, x, rows, columns);
            }
        }
}
/* From the gradient by pooled images to that by the sums before ReLU and pool. */
static void unpool(const Layer *l, const Place *from, const ivec *choices, const Place *to)
{
    size_t block = 0, blocks = blocks_of(l);
    for (int x = 0; x < l->width; x += BLOCK_COLUMNS)
        for (int y = 0; y < l->height; y += BLOCK_ROWS, block++)
            for (int r = 0; r < l->rows; r++) {
                ivec words = choices[blocks * (size_t)r + block];
                for (int i = 0; i < BLOCK_ROWS && y + i + 1 < l->height; i += 2)
                    for (int j = 0; j < BLOCK_COLUMNS && x + j + 1 < l->width; j += 2) {
                        vec g = *pixel(from, r, (y + i) / 2, (x + j) / 2);
                        ivec choice = words >> (WINDOW_BITS * (i + j / 2)) & 7;
                        UNROLL for (int k = 0; k < 4; k++)
                            *pixel(to, r, y + i + k / 2, x + j + k % 2) = where(choice == k, g);
                    }
            }
}
/* From rows of samples to planes. */
static void copy_images(const Planes *p, const Place *from, const Place *to)
{
    for (int c = 0; c < p->channels; c++)
        for (int y = 0; y < p->height; y++)
            for (int x = 0; x < p->width; x++) *pixel(to, c, y, x) = *pixel(from, c, y, x);
}

INLINE vec dot_block(const Block *d, const vec *x, size_t row)
{
    vec part[BLOCK_COLUMNS];
    UNROLL for (int c = 0; c < BLOCK_COLUMNS; c++) part[c] = d->at[0][c] * x[c];
    UNROLL for (int r = 1; r < BLOCK_ROWS; r++)
        UNROLL for (int c = 0; c < BLOCK_COLUMNS; c++) part[c] += d->at[r][c] * x[row * (size_t)r + (size_t)c];
    return (part[0] + part[1]) + (part[2] + part[3]);
}
INLINE four dots_of_4(const Block *d, const vec *from, const int32_t *offset, size_t row)
{
    return sums(dot_block(d, from + offset[0], row), dot_block(d, from + offset[1], row),
                dot_block(d, from + offset[2], row), dot_block(d, from + offset[3], row));
}
/* Adds the gradients of one group of samples to `g` (in the order of the stored values) and, lane by lane, to the sums of
 * biases. Behind a row's last weight come others, whose gradients get nothing; so there is no remainder. */
static void conv_gradient(const Layer *l, const Offsets *o, const Place *from, const Place *dy, real *g, vec *bias_lanes)
{
    static const lane kept[4][4] __attribute__((aligned(CACHE_LINE))) = {
        {-1, -1, -1, -1}, {-1, 0, 0, 0}, {-1, -1, 0, 0}, {-1, -1, -1, 0}};
    typedef lane four_lanes __attribute__((vector_size(4 * sizeof(lane)), may_alias));
    for (int x = 0; x < l->width; x += BLOCK_COLUMNS)
        for (int y = 0; y < l->height; y += BLOCK_ROWS) {
            const vec *corner = pixel(from, 0, y, x);
            for (int r = 0; r < l->rows; r++) {
                Block d;
                vec total = {0};
                const vec *held = pixel(dy, r, y, x);
                UNROLL for (int i = 0; i < BLOCK_ROWS; i++)
                    UNROLL for (int j = 0; j < BLOCK_COLUMNS; j++) {
                        d.at[i][j] = held[dy->row * (size_t)i + (size_t)j];
                        total += d.at[i][j];
                    }
                bias_lanes[r] += total;
                int k = l->start[r], end = l->start[r + 1];
                for (; k + 4 <= end; k += 4)
                    *(four_unaligned *)(g + k) += dots_of_4(&d, corner, o->offset + k, from->row);
                if (k < end) {
                    four s = dots_of_4(&d, corner, o->offset + k, from->row);
                    *(four_unaligned *)(g + k) += (four)((four_lanes)s & *(const four_lanes *)kept[end - k]);
                }
            }
        }
}
