/* Room for the activations of a network, and what its caller must know of the machine. */
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "export.h"
#include "network.h"

/* ---------------------------------------------------------------- what layouts depend on */

EXPORT void tombola_machine(int32_t *numbers);

/* Numbers in a vector, vectors in a band, bytes of a number. */
EXPORT void tombola_machine(int32_t *numbers)
{
    numbers[0] = LANES;
    numbers[1] = BAND;
    numbers[2] = sizeof(real);
}

/* ---------------------------------------------------------------- room */

enum { LARGE_PAGE = 1 << 21, LARGE_PAGES = 2 /* least number that is worth it */ };

/* Buffers of one network, for one caller at a time. */
typedef struct {
    int32_t features, layers;
    int32_t *column_of;                   /* feature -> column of a tile */
    uint8_t *bytes, *zeros;               /* a tile of bytes, an example of zeros */
    void *input;                          /* a tile as the first layer reads it */
    real *output[MAX_LAYERS];             /* of each layer behind activation and pool: rows of samples, or planes of all
                                             groups where a convolution follows */
    real *gradient[MAX_LAYERS];           /* of the loss by what goes into the activation (into the pool, where there is
                                             one), rows of samples; of convolutions the last one's alone */
    real *bias_sums, *banded;
    Ink ink;
    int32_t identity[TILE];
    int32_t convolutions;                 /* so many layers come first; the buffers below are theirs */
    void *image;                          /* what the first one reads: planes of all groups */
    real *below[MAX_LAYERS];              /* gradients by their sums: planes of one group */
    real *back_values[MAX_LAYERS];        /* weights listed by inputs */
    real *pooled;                         /* a gradient by pooled images */
    ivec *choices[MAX_LAYERS];
    vec *bias_lanes;
    Offsets offsets[MAX_LAYERS];
} Room;

/* Zeros on a cache line, with room behind them for less than one. Large buffers come in large pages where the system has
 * them: kernels that jump between channels would else wait for the translation of addresses. */
static void *room_for(size_t count, size_t size)
{
    size_t least = count * size + CACHE_LINE - 1, unit = least < LARGE_PAGES * LARGE_PAGE ? CACHE_LINE : LARGE_PAGE;
    size_t bytes = (least + unit - 1) / unit * unit;
    void *p = aligned_alloc(unit, bytes);
#ifdef MADV_HUGEPAGE
    if (p && unit == LARGE_PAGE) madvise(p, bytes, MADV_HUGEPAGE); /* a wish: where it fails, all works as before */
#endif
    if (p) memset(p, 0, bytes);
    return p;
}
static int padded_rows(const Layer *l) { return row_vectors(l) * LANES + 4; }

EXPORT void tombola_close(void *opened);
EXPORT void *tombola_open(const Network *net);

EXPORT void tombola_close(void *opened)
{
    Room *room = opened;
    if (!room) return;
    void *held[] = {room->column_of, room->bytes, room->zeros, room->input, room->bias_sums, room->banded,
                    room->ink.start, room->ink.by_sample, room->ink.column_start, room->ink.by_column};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) free(held[i]);
    for (int i = 0; i < room->layers; i++) free(room->output[i]), free(room->gradient[i]);
    void *planes[] = {room->image, room->pooled, room->bias_lanes};
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++) free(planes[i]);
    for (int i = 0; i < room->convolutions; i++) {
        free(room->below[i]), free(room->choices[i]), free(room->back_values[i]);
        Offsets *o = &room->offsets[i];
        free(o->offset), free(o->back), free(o->back_slot), free(o->back_start);
    }
    free(room);
}

static size_t features_of(const Layer *l)
{
    return l->height ? (size_t)(l->columns / TAPS) * (size_t)l->height * (size_t)l->width : (size_t)l->columns;
}
/* The buffers of the convolutions; 0 if memory runs out. */
static int open_convolutions(const Network *net, Room *room)
{
    size_t pools = 1, rows = 0;
    int whole = 1;
    while (room->convolutions < net->layers && net->layer[room->convolutions].height) room->convolutions++;
    if (!room->convolutions) return 1;
    Planes image = planes_in(&net->layer[0]);
    whole &= !!(room->image = room_for(image.size * ROW_VECS, VEC_BYTES));
    for (int i = 0; i < room->convolutions; i++) {
        const Layer *l = &net->layer[i];
        Planes out = planes_out(l), behind = pooled(l);
        size_t values = (size_t)behind.channels * (size_t)behind.height * (size_t)behind.width;
        int last = i + 1 == room->convolutions;
        whole &= !!(room->output[i] = last ? room_for(values * TILE, sizeof(real))
                                           : room_for(behind.size * ROW_VECS, VEC_BYTES));
        if (last) whole &= !!(room->gradient[i] = room_for(values * TILE, sizeof(real)));
        whole &= !!(room->below[i] = room_for(out.size, VEC_BYTES));
        if (l->pool) {
            whole &= !!(room->choices[i] = room_for((size_t)l->rows * blocks_of(l) * ROW_VECS, VEC_BYTES));
            if (behind.size > pools) pools = behind.size;
        }
        Offsets *o = &room->offsets[i];
        whole &= !!(o->offset = room_for((size_t)l->stored + 3, sizeof(int32_t)));
        whole &= !!(o->back = room_for((size_t)l->stored + 3, sizeof(int32_t)));
        whole &= !!(o->back_slot = room_for((size_t)l->stored + 1, sizeof(int32_t)));
        whole &= !!(o->back_start = room_for((size_t)l->columns / TAPS + 2, sizeof(int32_t)));
        if (whole) set_offsets(l, o);
        whole &= !!(room->back_values[i] = room_for((size_t)l->stored + 1, sizeof(real)));
        if ((size_t)l->rows > rows) rows = (size_t)l->rows;
    }
    whole &= !!(room->pooled = room_for(pools, VEC_BYTES));
    whole &= !!(room->bias_lanes = room_for(rows + 4, VEC_BYTES));
    return whole;
}

/* NULL if memory runs out. */
EXPORT void *tombola_open(const Network *net)
{
    Room *room = room_for(1, sizeof(Room));
    if (!room) return NULL;
    size_t features = features_of(&net->layer[0]), widest = 0, entries = TILE * features + 8;
    room->features = (int32_t)features;
    room->layers = net->layers;
    int ink = net->layer[0].format == INK, whole = 1;
    whole &= !!(room->column_of = room_for(features, sizeof(int32_t)));
    whole &= !!(room->bytes = room_for(features, TILE));
    whole &= !!(room->zeros = room_for(features + 16, 1));
    whole &= !!(room->input = room_for(features * TILE, sizeof(real)));
    whole &= open_convolutions(net, room);
    for (int i = 0; i < net->layers; i++) {
        size_t rows = (size_t)padded_rows(&net->layer[i]);
        if (rows > widest) widest = rows;
        if (i < room->convolutions) continue;
        whole &= !!(room->output[i] = room_for(rows * TILE, sizeof(real)));
        whole &= !!(room->gradient[i] = room_for(rows * TILE, sizeof(real)));
    }
    whole &= !!(room->bias_sums = room_for(widest, sizeof(real)));
    if (ink) {
        whole &= !!(room->banded = room_for((size_t)padded_rows(&net->layer[0]) * TILE, sizeof(real)));
        whole &= !!(room->ink.start = room_for(TILE + 1, sizeof(int32_t)));
        whole &= !!(room->ink.by_sample = room_for(entries, sizeof(Inked)));
        whole &= !!(room->ink.column_start = room_for(features + 2, sizeof(int32_t)));
        whole &= !!(room->ink.by_column = room_for(entries, sizeof(Inked)));
    }
    if (!whole) {
        tombola_close(room);
        return NULL;
    }
    for (size_t c = 0; c < features; c++) room->column_of[net->order[c]] = (int32_t)c;
    return room;
}
