/* Room for the activations of a network, and what its caller must know of the machine. */
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

/* Buffers of one network, for one caller at a time. */
typedef struct {
    int32_t features, layers;
    int32_t *column_of;                   /* feature -> column of a tile */
    uint8_t *bytes, *zeros;               /* a tile of bytes, an example of zeros */
    void *input;                          /* a tile as the first layer reads it */
    real *output[MAX_LAYERS];             /* of each layer behind its activation, rows of samples */
    real *gradient[MAX_LAYERS];           /* of the loss by what goes into the activation */
    real *bias_sums, *banded;
    Ink ink;
    int32_t identity[TILE];
} Room;

static void *room_for(size_t count, size_t size)
{
    size_t bytes = (count * size + 2 * CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *p = aligned_alloc(CACHE_LINE, bytes);
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
    free(room);
}

/* NULL if memory runs out. */
EXPORT void *tombola_open(const Network *net)
{
    Room *room = room_for(1, sizeof(Room));
    if (!room) return NULL;
    size_t features = (size_t)net->layer[0].columns, widest = 0, entries = TILE * features + 8;
    room->features = (int32_t)features;
    room->layers = net->layers;
    int ink = net->layer[0].format == INK, whole = 1;
    whole &= !!(room->column_of = room_for(features, sizeof(int32_t)));
    whole &= !!(room->bytes = room_for(features, TILE));
    whole &= !!(room->zeros = room_for(features + 16, 1));
    whole &= !!(room->input = room_for(features * TILE, sizeof(real)));
    for (int i = 0; i < net->layers; i++) {
        size_t rows = (size_t)padded_rows(&net->layer[i]);
        whole &= !!(room->output[i] = room_for(rows * TILE, sizeof(real)));
        whole &= !!(room->gradient[i] = room_for(rows * TILE, sizeof(real)));
        if (rows > widest) widest = rows;
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
