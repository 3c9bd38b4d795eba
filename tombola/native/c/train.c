/* Optimizer steps, many in a call. */
#include "export.h"
#include "network.h"

/* Asks for the next examples, which lie anywhere in memory, while these are computed. */
static void prefetch(const Examples *examples, const int32_t *index, int64_t count)
{
    if (!examples->bytes) return;
    for (int64_t s = 0; s < count; s++) {
        if (examples->ink_start) {
            int64_t at = examples->ink_start[index[s]], end = examples->ink_start[index[s] + 1];
            for (; at < end; at += CACHE_LINE) {
                __builtin_prefetch(examples->ink_value + at, 0, 2);
                __builtin_prefetch(examples->ink_column + at, 0, 2);
                __builtin_prefetch(examples->ink_column + at + CACHE_LINE / 2, 0, 2);
            }
            continue;
        }
        const uint8_t *example = examples->bytes + (size_t)index[s] * examples->features;
        for (int f = 0; f < examples->features; f += CACHE_LINE) __builtin_prefetch(example + f, 0, 2);
    }
}

/* Forward and backward of one tile of a batch of `batch`; `ahead` examples come next. */
static Sums tile_step(const Network *net, Room *room, const Examples *examples, const int32_t *index, int count,
                      int64_t step, int64_t first, int64_t batch, int64_t ahead, Update *u)
{
    Tile tile = take_tile(net, room, examples, index, count, NULL);
    if (net->layer[0].format == INK) ink_by_column(&room->ink, room->features);
    forward(net, room, &tile, 1, step, first);
    int last = net->layers - 1;
    Sums sums = judge(net, examples, index, count, 1.0 / (double)batch, room->output[last], room->gradient[last]);
    for (int i = last; i >= room->convolutions; i--) {
        if (i) input_gradient(net, room, i, step, first); /* by the weights before their update */
        else prefetch(examples, index + count, ahead < TILE ? ahead : TILE);
        layer_gradient(net, room, &tile, i, first > 0, u);
    }
    if (room->convolutions) {
        prefetch(examples, index + count, ahead < TILE ? ahead : TILE);
        images_backward(net, room, first > 0, u);
    }
    return sums;
}

static double norm_of(const real *g, size_t n)
{
    double part[8] = {0}, total = 0;
    size_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (int j = 0; j < 8; j++) part[j] += (double)g[k + j] * g[k + j];
    for (; k < n; k++) total += (double)g[k] * g[k];
    for (int j = 0; j < 8; j++) total += part[j];
    return total;
}
/* The update by the whole vector of gradients; clipping comes behind the penalty l2, as in the reference loop. */
static void update_all(const Network *net, Update *u)
{
    if (net->clip_norm > 0) {
        double square = 0;
        for (int i = 0; i < net->layers; i++) {
            const Layer *l = &net->layer[i];
            real *g = net->gradient + l->values, l2 = (real)l->l2;
            const real *p = net->param + l->values;
            if (l2 > 0)
                for (int64_t k = 0; k < l->stored; k++) g[k] += l2 * p[k];
            square += norm_of(g, (size_t)l->stored);
            if (l->has_bias) square += norm_of(net->gradient + l->bias, (size_t)l->rows);
        }
        double factor = net->clip_norm / (sqrt(square) + 1e-6);
        u->clip = factor < 1 || factor != factor ? (real)factor : 1;
    }
    for (int i = 0; i < net->layers; i++) {
        const Layer *l = &net->layer[i];
        size_t at = (size_t)l->values;
        u->l2 = net->clip_norm > 0 ? 0 : (real)l->l2;
        update(u, (size_t)l->stored, net->param + at, net->gradient + at, net->first + at, net->second + at);
        u->l2 = 0;
        at = (size_t)l->bias;
        if (l->has_bias)
            update(u, (size_t)l->rows, net->param + at, net->gradient + at, net->first + at, net->second + at);
    }
}

EXPORT void tombola_train(Network *net, void *opened, const Examples *examples, const int32_t *index, int64_t batch,
                          int64_t steps, int64_t first_step, const double *rates, double *loss, double *correct);

/* `steps` optimizer steps, from absolute step `first_step` on, with one learning rate each; `index` holds steps * batch
 * places of examples. Adds to *loss the mean losses of the batches, to *correct their correct predictions. */
EXPORT void tombola_train(Network *net, void *opened, const Examples *examples, const int32_t *index, int64_t batch,
                          int64_t steps, int64_t first_step, const double *rates, double *loss, double *correct)
{
    Room *room = opened;
    int at_once = batch <= TILE && !(net->clip_norm > 0);
    for (int64_t t = 0; t < steps; t++, index += batch) {
        Update u = update_of(net, rates[t], ++net->updates);
        double batch_loss = 0;
        for (int64_t first = 0; first < batch; first += TILE) {
            int count = batch - first < TILE ? (int)(batch - first) : TILE;
            int64_t ahead = (steps - t) * batch - first - count;
            Sums sums = tile_step(net, room, examples, index + first, count, first_step + t, first, batch, ahead,
                                  at_once ? &u : NULL);
            batch_loss += sums.loss;
            *correct += sums.correct;
        }
        *loss += batch_loss / (double)batch;
        if (!at_once) update_all(net, &u);
    }
}
