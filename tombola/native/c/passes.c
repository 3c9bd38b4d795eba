/* A tile of examples through the network and back. */
#include "network.h"

/* ---------------------------------------------------------------- forward */

/* What the first layer reads: packed rows or reals, and how many leading columns are not all 0. */
typedef struct { int packed, active; } Tile;

INLINE void pick_forward(const Layer *l, const real *w, const real *bias, const void *x, int packed, int active,
                         real scale, real shift, int relu, real *y)
{
    if (l->format == CSR) csr_forward(l, w, bias, x, packed, active, scale, shift, relu, y);
    else blocks_forward(l, w, bias, x, packed, active, scale, shift, relu, y);
}
static void first_layer(const Network *net, Room *room, const Tile *tile, int relu)
{
    const Layer *l = &net->layer[0];
    const real *w = net->param + l->values, *bias = net->param + l->bias;
    real scale = (real)net->scale, shift = (real)net->shift, *y = room->output[0];
    if (l->format == INK) ink_forward(l, w, bias, &room->ink, scale, shift, relu, room->banded, y);
    else if (!tile->packed) pick_forward(l, w, bias, room->input, 0, l->columns, 1, 0, relu, y);
    else pick_forward(l, w, bias, room->input, 1, tile->active, scale, shift, relu, y);
}
static void activate(const Layer *l, real *y)
{
    size_t vectors = (size_t)l->rows * ROW_VECS;
    if (l->activation == TANH)
        for (size_t i = 0; i < vectors; i++) ((vec *)y)[i] = tanh_vec(((vec *)y)[i]);
}
/* All layers; with `training` dropout falls, of this step and of samples that stand from `first` on in their batch. */
static void forward(const Network *net, Room *room, const Tile *tile, int training, int64_t step, int64_t first)
{
    images_forward(net, room);
    for (int i = room->convolutions; i < net->layers; i++) {
        const Layer *l = &net->layer[i];
        int relu = l->activation == RELU;
        real *y = room->output[i];
        if (!i) first_layer(net, room, tile, relu);
        else
            pick_forward(l, net->param + l->values, net->param + l->bias, room->output[i - 1], 0, l->columns, 1, 0,
                         relu, y);
        activate(l, y);
        if (training && l->drop_below) drop(l, step, first, y);
    }
}
/* Brings `count` examples into the form that the first layer reads. `bytes`: their transposed bytes, if they are there
 * already. */
static Tile take_tile(const Network *net, Room *room, const Examples *examples, const int32_t *index, int count,
                      const uint8_t *bytes)
{
    Tile tile = {!examples->scale, room->features};
    if (room->convolutions) {
        if (tile.packed && !bytes) transpose_bytes(examples, index, count, room->zeros, room->column_of, room->bytes);
        if (!tile.packed) transpose_numbers(examples, index, count, room->column_of, room->input);
        take_images(net, room, tile.packed ? (bytes ? bytes : room->bytes) : NULL);
        return tile;
    }
    if (!tile.packed) transpose_numbers(examples, index, count, room->column_of, room->input);
    else if (net->layer[0].format == INK) ink_by_sample(examples, index, count, &room->ink);
    else {
        if (!bytes) transpose_bytes(examples, index, count, room->zeros, room->column_of, room->bytes);
        tile.active = widen_tile(bytes ? bytes : room->bytes, room->features, room->input);
    }
    return tile;
}

/* ---------------------------------------------------------------- backward */

/* From the gradient by a layer's output to that by what goes into its activation, where this is not done yet. */
static void through_activation(const Layer *l, const real *output, int64_t step, int64_t first, real *gradient)
{
    size_t vectors = (size_t)l->rows * ROW_VECS;
    vec *g = (vec *)gradient;
    const vec *y = (const vec *)output;
    real undropped = l->drop_below ? (real)(1 / l->drop_scale) : 1;
    if (l->drop_below) drop(l, step, first, gradient);
    if (l->activation == TANH)
        for (size_t i = 0; i < vectors; i++) {
            vec t = y[i] * undropped;
            g[i] *= 1 - t * t;
        }
}
static void input_gradient(const Network *net, Room *room, int i, int64_t step, int64_t first)
{
    const Layer *l = &net->layer[i], *below = &net->layer[i - 1];
    const real *w = net->param + l->values;
    const real *dy = room->gradient[i], *x = room->output[i - 1];
    real *dx = room->gradient[i - 1];
    int relu = below->activation == RELU && !below->pool;
    if (l->format == BLOCKS) blocks_input_gradient(l, w, dy, x, relu, dx);
    else if (relu) csr_input_gradient(l, w, dy, x, 1, dx);
    else csr_input_gradient(l, w, dy, x, 0, dx);
    through_activation(below, x, step, first, dx);
}

enum { CHUNK = 2048 }; /* gradients that wait in the first-level cache for their update */

INLINE void weight_gradient(const Network *net, const Layer *l, const void *x, int packed, int active, const real *dy,
                            real scale, real shift, const real *bias_sums, int add, const Update *u)
{
    int height = l->format == CSR ? 1 : BLOCK, groups = l->rows / height;
    size_t done = 0, next = 0, base = (size_t)l->values;
    for (int g = 0; g < groups; g++) {
        real *out = net->gradient + (u ? next - done : base + next); /* with an update the first few kB serve for all */
        const real *sums_of_rows = bias_sums + g * height;
        if (l->format == CSR) csr_gradient(l, g, x, packed, active, dy, scale, shift * sums_of_rows[0], add, out);
        else
            blocks_gradient(l, g, x, packed, active, dy, scale, shift * *(const four_unaligned *)sums_of_rows, add,
                            out);
        next = (size_t)l->start[g + 1] * (size_t)height;
        if (u && (next - done >= CHUNK || g + 1 == groups)) {
            size_t at = base + done;
            update(u, next - done, net->param + at, net->gradient, net->first + at, net->second + at);
            done = next;
        }
    }
}
/* Gradients of a layer's weights and biases: stored in or added to the vector of gradients, or used up by `u`. */
static void layer_gradient(const Network *net, Room *room, const Tile *tile, int i, int add, Update *u)
{
    const Layer *l = &net->layer[i];
    const real *dy = room->gradient[i];
    real *bias_sums = room->bias_sums, scale = (real)net->scale, shift = (real)net->shift;
    for (int r = 0; r < l->rows; r += 4) { /* buffers end four rows behind the last one */
        vec s[4] = {{0}};
        UNROLL for (int j = 0; j < 4; j++)
            UNROLL for (int k = 0; k < ROW_VECS; k++) s[j] += ((const vec *)(dy + (size_t)(r + j) * TILE))[k];
        *(four_unaligned *)(bias_sums + r) = sums(s[0], s[1], s[2], s[3]);
    }
    if (u) u->l2 = (real)l->l2;
    if (l->format == INK)
        ink_gradient(l, &room->ink, dy, scale, shift, bias_sums, add, net->gradient, u, net->param, net->first,
                     net->second, room->banded);
    else if (!i && tile->packed)
        weight_gradient(net, l, room->input, 1, tile->active, dy, scale, shift, bias_sums, add, u);
    else
        weight_gradient(net, l, i ? (const void *)room->output[i - 1] : room->input, 0, l->columns, dy, 1, 0, bias_sums,
                        add, u);
    if (!l->has_bias) return;
    size_t at = (size_t)l->bias;
    if (u) {
        u->l2 = 0;
        update(u, (size_t)l->rows, net->param + at, bias_sums, net->first + at, net->second + at);
    } else
        for (int r = 0; r < l->rows; r++) net->gradient[at + r] = bias_sums[r] + (add ? net->gradient[at + r] : 0);
}
