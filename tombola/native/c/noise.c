/* Dropout from the counter hash of tombola/streams.py: any engine can replay any step. */
#include "network.h"

INLINE uint32_t mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return h ^ h >> 16;
}
/* Multiplies the rows of samples by 0 or drop_scale. `first` is the place of the tile's first sample in its batch. */
static void drop(const Layer *l, int64_t step, int64_t first, real *rows)
{
    uint32_t key0 = mix(l->noise[0] + (uint32_t)step * 0x9E3779B9u), width = (uint32_t)l->rows;
    uint32_t key1 = mix(l->noise[1] + (uint32_t)step * 0x85EBCA6Bu), below = l->drop_below;
    real kept = (real)l->drop_scale;
    for (int32_t r = 0; r < l->rows; r++) {
        real *row = rows + (size_t)r * TILE;
        uint32_t index = (uint32_t)first * width + (uint32_t)r;
        for (uint32_t s = 0; s < TILE; s++) {
            uint32_t hash = mix(mix((index + s * width) * 0x9E3779B9u + key0) ^ key1) >> 8;
            row[s] *= hash >= below ? kept : 0;
        }
    }
}
