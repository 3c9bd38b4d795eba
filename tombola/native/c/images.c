/* Tiles of images through the convolutions of a network and back, group by group of samples. */
#include "network.h"

/* The planes that the first convolution reads, of all groups: from transposed bytes, under the network's one map, or
 * (`bytes` NULL) from the rows of reals in `room->input`. The border stays 0 whatever the map. */
static void take_images(const Network *net, Room *room, const uint8_t *bytes)
{
    Planes p = planes_in(&net->layer[0]);
    real scale = (real)net->scale, shift = (real)net->shift;
    size_t f = 0;
    for (int c = 0; c < p.channels; c++)
        for (int y = 0; y < p.height; y++)
            for (int x = 0; x < p.width; x++, f++) {
                vec *to = (vec *)room->image + p.first + p.plane * (size_t)c + p.row * (size_t)y + (size_t)x;
                if (!bytes)
                    UNROLL for (int i = 0; i < ROW_VECS; i++)
                        to[p.size * (size_t)i] = ((const vec *)room->input)[f * ROW_VECS + (size_t)i];
                else
                    UNROLL for (int i = 0; i < ROW_VECS; i++)
                        to[p.size * (size_t)i] = byte_vector(bytes + f * TILE, i) * scale + shift;
            }
}

/* What convolution i reads, of one group; and where its output goes, behind its pool if it has one. */
static Place read_by(const Network *net, Room *room, int i, int group)
{
    Planes p = planes_in(&net->layer[i]);
    return in_planes(&p, i ? (void *)room->output[i - 1] : room->image, group);
}
static Place behind(const Network *net, Room *room, int i, int group, real *rows)
{
    Planes p = pooled(&net->layer[i]);
    return i + 1 == room->convolutions ? in_rows(&p, rows, group) : in_planes(&p, room->output[i], group);
}
static ivec *choices_of(const Layer *l, Room *room, int i, int group)
{
    return room->choices[i] + (l->pool ? (size_t)l->rows * blocks_of(l) * (size_t)group : 0);
}

static void images_forward(const Network *net, Room *room)
{
    for (int group = 0; group < ROW_VECS; group++)
        for (int i = 0; i < room->convolutions; i++) {
            const Layer *l = &net->layer[i];
            Place from = read_by(net, room, i, group), to = behind(net, room, i, group, room->output[i]);
            conv_forward(l, &room->offsets[i], net->param + l->values, net->param + l->bias, &from, &to,
                         choices_of(l, room, i, group));
        }
}

/* ---------------------------------------------------------------- backward */

/* Brings the gradient that the first Linear layer left to the last convolution's sums. */
static void enter_images(const Network *net, Room *room, int group)
{
    int i = room->convolutions - 1;
    const Layer *l = &net->layer[i];
    Planes out = planes_out(l);
    Place from = behind(net, room, i, group, room->gradient[i]), to = in_planes(&out, room->below[i], 0);
    if (l->pool) unpool(l, &from, choices_of(l, room, i, group), &to);
    else copy_images(&out, &from, &to);
}
/* From the gradient by the sums of convolution i to that by the sums of the one before it. */
static void descend(const Network *net, Room *room, int i, int group)
{
    const Layer *l = &net->layer[i], *before = &net->layer[i - 1];
    Planes out = planes_out(l), in = planes_in(l), beneath = planes_out(before);
    Place dy = in_planes(&out, room->below[i], 0), x = read_by(net, room, i, group);
    Place to = in_planes(&beneath, room->below[i - 1], 0), dx = before->pool ? in_planes(&in, room->pooled, 0) : to;
    int relu = before->activation == RELU && !before->pool;
    conv_input_gradient(l, &room->offsets[i], room->back_values[i], &dy, &x, relu, &dx);
    if (before->pool) unpool(before, &dx, choices_of(before, room, i - 1, group), &to);
}
/* Gradients of all convolutions: stored in or added to the vector of gradients, and with `u` used up. */
static void images_backward(const Network *net, Room *room, int add, Update *u)
{
    for (int i = 1; i < room->convolutions; i++)
        for (int64_t k = 0; k < net->layer[i].stored; k++)
            room->back_values[i][k] = net->param[net->layer[i].values + room->offsets[i].back_slot[k]];
    for (int i = 0; i < room->convolutions && !add; i++) {
        const Layer *l = &net->layer[i];
        memset(net->gradient + l->values, 0, sizeof(real) * (size_t)l->stored);
        memset(net->gradient + l->bias, 0, sizeof(real) * (size_t)l->rows);
    }
    for (int group = 0; group < ROW_VECS; group++) {
        enter_images(net, room, group);
        for (int i = room->convolutions - 1; i >= 0; i--) {
            const Layer *l = &net->layer[i];
            Planes out = planes_out(l);
            Place from = read_by(net, room, i, group), dy = in_planes(&out, room->below[i], 0);
            memset(room->bias_lanes, 0, sizeof(vec) * (size_t)l->rows);
            if (i) descend(net, room, i, group);
            conv_gradient(l, &room->offsets[i], &from, &dy, net->gradient + l->values, room->bias_lanes);
            for (int r = 0; r < l->rows; r += 4) {
                four s = sums(room->bias_lanes[r], room->bias_lanes[r + 1], room->bias_lanes[r + 2],
                              room->bias_lanes[r + 3]); /* there are four more than rows */
                for (int j = 0; j < 4 && r + j < l->rows && l->has_bias; j++) net->gradient[l->bias + r + j] += s[j];
            }
        }
    }
    for (int i = 0; i < room->convolutions && u; i++) {
        const Layer *l = &net->layer[i];
        size_t at = (size_t)l->values;
        u->l2 = (real)l->l2;
        update(u, (size_t)l->stored, net->param + at, net->gradient + at, net->first + at, net->second + at);
        u->l2 = 0;
        at = (size_t)l->bias;
        if (l->has_bias)
            update(u, (size_t)l->rows, net->param + at, net->gradient + at, net->first + at, net->second + at);
    }
}
