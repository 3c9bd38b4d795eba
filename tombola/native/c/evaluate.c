/* Losses, correct predictions and outputs of whole sets, on the kernels of the training. */
#include "export.h"
#include "network.h"

EXPORT void tombola_pack(const Network *net, void *opened, const Examples *examples, uint8_t *tiles);
EXPORT int64_t tombola_ink(const Examples *examples, int64_t *start, uint16_t *column, uint8_t *value);
EXPORT void tombola_evaluate(const Network *net, void *opened, const Examples *examples, const int32_t *index,
                             int64_t count, const uint8_t *tiles, double *loss, double *correct);
EXPORT void tombola_predict(const Network *net, void *opened, const Examples *examples, float *outputs);

/* The indices of a tile: given ones, or the examples in their order. */
static const int32_t *index_of_tile(Room *room, const int32_t *index, int64_t first, int count)
{
    if (index) return index + first;
    for (int i = 0; i < count; i++) room->identity[i] = (int32_t)(first + i);
    return room->identity;
}

/* Transposes a set of bytes once, for many evaluations: ceil(count / TILE) * features * TILE bytes, on a cache line.
 * Bytes, not the packed rows: they are widened in order, which the processor foresees; a sparse kernel alone would miss
 * the cache at random. */
EXPORT void tombola_pack(const Network *net, void *opened, const Examples *examples, uint8_t *tiles)
{
    Room *room = opened;
    (void)net;
    for (int64_t first = 0; first < examples->count; first += TILE) {
        int count = examples->count - first < TILE ? (int)(examples->count - first) : TILE;
        transpose_bytes(examples, index_of_tile(room, NULL, first, count), count, room->zeros, room->column_of,
                        tiles + (size_t)first * (size_t)room->features);
    }
}

/* The lists `ink_*` of a set of bytes; with `start` NULL only their length. */
EXPORT int64_t tombola_ink(const Examples *examples, int64_t *start, uint16_t *column, uint8_t *value)
{
    int64_t n = 0;
    for (int64_t e = 0; e < examples->count; e++) {
        const uint8_t *example = examples->bytes + (size_t)e * (size_t)examples->features;
        if (start) start[e] = n;
        for (int f = 0; f < examples->features; f++)
            if (example[f]) {
                if (start) column[n] = (uint16_t)f, value[n] = example[f];
                n++;
            }
    }
    if (start) start[examples->count] = n;
    return n;
}

/* Adds up loss and correct predictions of `count` examples, without dropout. `index` NULL: the first ones; `tiles`: the
 * packed set, or NULL. */
EXPORT void tombola_evaluate(const Network *net, void *opened, const Examples *examples, const int32_t *index,
                             int64_t count, const uint8_t *tiles, double *loss, double *correct)
{
    Room *room = opened;
    int last = net->layers - 1;
    for (int64_t first = 0; first < count; first += TILE) {
        int here = count - first < TILE ? (int)(count - first) : TILE;
        const int32_t *places = index_of_tile(room, index, first, here);
        Tile tile = take_tile(net, room, examples, places, here,
                              tiles ? tiles + (size_t)first * (size_t)room->features : NULL);
        forward(net, room, &tile, 0, 0, 0);
        Sums sums = judge(net, examples, places, here, 1, room->output[last], room->gradient[last]);
        *loss += sums.loss;
        *correct += sums.correct;
    }
}

/* The outputs of all examples, row by row, without dropout. */
EXPORT void tombola_predict(const Network *net, void *opened, const Examples *examples, float *outputs)
{
    Room *room = opened;
    int last = net->layers - 1, width = net->layer[last].rows;
    for (int64_t first = 0; first < examples->count; first += TILE) {
        int count = examples->count - first < TILE ? (int)(examples->count - first) : TILE;
        Tile tile = take_tile(net, room, examples, index_of_tile(room, NULL, first, count), count, NULL);
        forward(net, room, &tile, 0, 0, 0);
        for (int s = 0; s < count; s++)
            for (int c = 0; c < width; c++) outputs[(size_t)(first + s) * width + c] = (float)room->output[last][c * TILE + s];
    }
}
