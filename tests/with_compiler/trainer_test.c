/* The trainer against plain loops in double, without Python: every format, loss, optimizer and activation over odd shapes,
 * one-weight layers, empty rows, batches around a tile. Every array has exactly the size that network.h asks for. Built
 * with the sanitizers; ends at the first mistake. */
#include <stdio.h>

#include "tombola.c"

#define CHECK(what, ...)                                                                                               \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #what);                                                          \
            printf(__VA_ARGS__);                                                                                       \
            printf(" (case %d)\n", case_number);                                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static int case_number;
static uint64_t random_state = 1;

static double uniform(void) /* in [0, 1) */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (1 << 24);
}

/* ------------------------------------------------------------------ a network, plain */

typedef struct {
    int depth, widths[4], bytes, loss, kind, activation, batch, own_map, examples;
    double density, rate, smoothing, l2, clip, decay, shift;
} Case;

typedef struct { double *w, *b, *gw, *gb, *mw, *mb, *vw, *vb; uint8_t *kept; } Plain; /* rows x columns, rows */

static double *plain_zeros(int n) { return calloc((size_t)n + 1, sizeof(double)); }

static int dropped(const Layer *l, int64_t step, int64_t index)
{
    uint32_t key0 = mix(l->noise[0] + (uint32_t)step * 0x9E3779B9u), key1 = mix(l->noise[1] + (uint32_t)step * 0x85EBCA6Bu);
    return (mix(mix((uint32_t)index * 0x9E3779B9u + key0) ^ key1) >> 8) < l->drop_below;
}

static double input_of(const Case *c, const Examples *e, const Network *net, int s, int f)
{
    double raw = e->bytes ? e->bytes[s * c->widths[0] + f] : e->numbers[s * c->widths[0] + f];
    return e->scale ? raw * e->scale[f] + e->shift[f] : raw * net->scale + net->shift;
}

/* Forward (and with `g` backward) of one example; returns its loss. `a[i]` are the activations behind layer i - 1. */
static double plain_pass(const Case *c, const Network *net, const Examples *e, Plain *p, int s, int64_t step,
                         int64_t place, double weight, int *correct)
{
    double *a[5], *kept[5], loss = 0;
    for (int i = 0; i <= c->depth; i++) a[i] = plain_zeros(c->widths[i]), kept[i] = plain_zeros(c->widths[i]);
    for (int f = 0; f < c->widths[0]; f++) a[0][f] = input_of(c, e, net, s, f);
    for (int i = 0; i < c->depth; i++) {
        const Layer *l = &net->layer[i];
        for (int r = 0; r < l->rows; r++) {
            double z = p[i].b[r];
            for (int k = 0; k < l->columns; k++) z += p[i].w[r * l->columns + k] * a[i][k];
            z = l->activation == RELU ? (z > 0 ? z : 0) : l->activation == TANH ? tanh(z) : z;
            kept[i + 1][r] = step >= 0 && l->drop_below ? (dropped(l, step, place * l->rows + r) ? 0 : l->drop_scale) : 1;
            a[i + 1][r] = z;
        }
        for (int r = 0; r < l->rows; r++) a[i + 1][r] *= kept[i + 1][r];
    }
    int outputs = c->widths[c->depth], best = 0;
    double *z = a[c->depth], *d = plain_zeros(outputs), top = z[0], total = 0;
    for (int k = 1; k < outputs; k++)
        if (z[k] > top) top = z[k], best = k;
    for (int k = 0; k < outputs; k++) total += exp(z[k] - top);
    for (int k = 0; k < outputs; k++) {
        double target = e->targets ? e->targets[s * outputs + k] : e->labels[s] == k;
        if (net->loss == SQUARED_ERROR) {
            loss += (z[k] - target) * (z[k] - target) / outputs;
            d[k] = 2 * (z[k] - target) / outputs;
        } else {
            double wanted = (1 - c->smoothing) * target + c->smoothing / outputs;
            loss -= wanted * (z[k] - top - log(total));
            d[k] = exp(z[k] - top) / total - wanted;
        }
    }
    if (e->labels) *correct += best == e->labels[s];
    for (int i = c->depth - 1; i >= 0 && weight > 0; i--) {
        const Layer *l = &net->layer[i];
        double *below = plain_zeros(l->columns);
        for (int r = 0; r < l->rows; r++) {
            p[i].gb[r] += weight * d[r];
            for (int k = 0; k < l->columns; k++) {
                p[i].gw[r * l->columns + k] += weight * d[r] * a[i][k];
                below[k] += d[r] * p[i].w[r * l->columns + k];
            }
        }
        for (int k = 0; i && k < l->columns; k++) {
            double y = a[i][k], t = kept[i][k] ? y / kept[i][k] : 0;
            int kind = net->layer[i - 1].activation;
            below[k] *= kept[i][k] * (kind == RELU ? y > 0 : kind == TANH ? 1 - t * t : 1);
        }
        free(d);
        d = below;
    }
    free(d);
    for (int i = 0; i <= c->depth; i++) free(a[i]), free(kept[i]);
    return loss;
}

static void plain_vector(const Case *c, int n, const uint8_t *kept, double *w, double *g, double *m, double *v, int64_t t,
                         double rate, double l2, double clip)
{
    for (int k = 0; k < n; k++) {
        if (kept && !kept[k]) continue;
        double gk = (g[k] + l2 * w[k]) * clip + (c->kind == ADAMW ? 0 : c->decay) * w[k];
        if (c->kind == SGD) {
            m[k] = 0.9 * m[k] + gk;
            w[k] -= rate * (gk + 0.9 * m[k]); /* Nesterov */
            continue;
        }
        if (c->kind == ADAMW) w[k] *= 1 - rate * c->decay;
        m[k] += 0.1 * (gk - m[k]);
        v[k] = 0.99 * v[k] + 0.01 * gk * gk;
        w[k] -= rate / (1 - pow(0.9, (double)t)) * m[k] / (sqrt(v[k] / (1 - pow(0.99, (double)t))) + 0.01);
    }
}

/* ------------------------------------------------------------------ the same network, laid out */

typedef struct { int32_t *start, *column_start, *row, *slot; uint16_t *column; uint8_t *keep; int *place; } Laid;

static void lay_out(Layer *l, Laid *at, const uint8_t *kept, const int32_t *order)
{
    int rows = l->rows, columns = l->columns, height = l->format == BLOCKS ? BLOCK : 1, entries = 0, n = 0;
    memset(at, 0, sizeof *at);
    if (l->format == INK) {
        l->stored = (int64_t)row_vectors(l) * LANES * columns;
        at->place = malloc(sizeof(int) * (size_t)l->stored);
        at->keep = calloc((size_t)(l->stored + 7) / 8, 1);
        for (int band = 0; band * BAND < row_vectors(l); band++)
            for (int k = 0; k < columns; k++)
                for (int r = 0; r < band_width(l, band) * LANES; r++, n++) {
                    int row = band * BAND * LANES + r, alive = row < rows && kept[row * columns + k];
                    at->place[n] = alive ? row * columns + k : -1;
                    at->keep[n / 8] |= (uint8_t)(alive << n % 8);
                }
        l->keep = at->keep;
        return;
    }
    for (int pass = 0; pass < 2; pass++) {
        entries = n = 0;
        for (int g = 0; g < rows / height; g++) {
            if (pass) at->start[g] = entries;
            for (int k = 0; k < columns; k++) {
                unsigned bits = 0;
                for (int r = 0; r < height; r++) bits |= (unsigned)kept[(g * height + r) * columns + order[k]] << r;
                if (!bits) continue;
                for (int r = 0; pass && r < height; r++)
                    at->place[n + r] = bits >> r & 1 ? (g * height + r) * columns + order[k] : -1;
                if (pass) at->column[entries] = (uint16_t)k, at->keep[entries] = (uint8_t)bits;
                n += height, entries++;
            }
        }
        if (pass) break;
        at->start = malloc(sizeof(int32_t) * (size_t)(rows / height + 1));
        at->column = calloc((size_t)entries + 3, sizeof(uint16_t));
        at->keep = malloc((size_t)entries + 1);
        at->place = malloc(sizeof(int) * (size_t)n + 1);
    }
    at->start[rows / height] = entries;
    l->stored = n, l->start = at->start, l->column = at->column, l->keep = at->keep;
    if (l->format != CSR) return;
    at->column_start = malloc(sizeof(int32_t) * (size_t)(columns + 1));
    at->row = malloc(sizeof(int32_t) * (size_t)n + 1), at->slot = malloc(sizeof(int32_t) * (size_t)n + 1);
    int found = 0;
    for (int k = 0; k < columns; k++) {
        at->column_start[k] = found;
        for (int r = 0; r < rows; r++)
            for (int j = at->start[r]; j < at->start[r + 1]; j++)
                if (at->column[j] == k) at->row[found] = r, at->slot[found++] = j;
    }
    at->column_start[columns] = found;
    l->column_start = at->column_start, l->row = at->row, l->slot = at->slot;
}
static void let_go(Laid *at)
{
    void *held[] = {at->start, at->column_start, at->row, at->slot, at->column, at->keep, at->place};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) free(held[i]);
}

/* ------------------------------------------------------------------ one case */

static void near(double got, double wanted, double scale, const char *what, int layer, int k)
{
    double bound = (sizeof(real) == 4 ? 2e-4 : 1e-10) * (1 + scale);
    CHECK(fabs(got - wanted) <= bound, "%s of layer %d at %d is %.9g, expected %.9g", what, layer, k, got, wanted);
}

static void run(const Case *c, const int *formats)
{
    case_number++;
    enum { STEPS = 3 };
    int features = c->widths[0], outputs = c->widths[c->depth], n = c->examples;
    Network net = {.layers = c->depth, .loss = c->loss, .kind = c->kind, .nesterov = 1, .beta1 = 0.9, .beta2 = 0.99,
                   .eps = 0.01, .momentum = 0.9, .weight_decay = c->decay, .clip_norm = c->clip,
                   .smoothing = c->smoothing, .scale = 1 / 255., .shift = c->shift};
    int32_t *order = malloc(sizeof(int32_t) * (size_t)features), *same = malloc(sizeof(int32_t) * 1000);
    for (int f = 0; f < features; f++) order[f] = features - 1 - f;
    for (int f = 0; f < 1000; f++) same[f] = f;
    net.order = order;
    Plain plain[4];
    Laid laid[4];
    int64_t at = 0;
    for (int i = 0; i < c->depth; i++) {
        Layer *l = &net.layer[i];
        int rows = c->widths[i + 1], columns = c->widths[i], size = rows * columns;
        *l = (Layer){.rows = rows, .columns = columns, .format = formats[i], .has_bias = i != 1, .l2 = c->l2};
        if (l->format == BLOCKS && rows % BLOCK) l->format = CSR;
        l->activation = i + 1 < c->depth ? c->activation : IDENTITY;
        if (c->rate > 0 && i + 1 < c->depth)
            l->drop_below = (uint32_t)(c->rate * (1 << 24)), l->noise[0] = 77u + (uint32_t)i, l->noise[1] = 1234567u;
        l->drop_scale = 1 / (1 - c->rate);
        Plain *p = &plain[i];
        double **all[] = {&p->w, &p->gw, &p->mw, &p->vw, &p->b, &p->gb, &p->mb, &p->vb};
        for (int j = 0; j < 8; j++) *all[j] = plain_zeros(j < 4 ? size : rows);
        p->kept = calloc((size_t)size, 1);
        for (int k = 0; k < size; k++) {
            p->kept[k] = uniform() < c->density && (rows < 3 || k / columns != 1); /* row 1 is empty */
            p->w[k] = p->kept[k] ? (uniform() - 0.5) * 2 / sqrt(columns * c->density) : 0;
        }
        if (c->density == 0) p->kept[size - 1] = 1, p->w[size - 1] = 0.5; /* one weight in the layer */
        for (int r = 0; r < rows && l->has_bias; r++) p->b[r] = uniform() - 0.5;
        lay_out(l, &laid[i], p->kept, i ? same : order);
        l->values = at;
        l->bias = (at + l->stored + PADDING - 1) / PADDING * PADDING;
        at = (l->bias + rows + PADDING - 1) / PADDING * PADDING;
    }
    net.parameters = at;
    real **vectors[] = {&net.param, &net.first, &net.second, &net.gradient};
    for (int j = 0; j < 4; j++) *vectors[j] = room_for((size_t)at + 32, sizeof(real));
    for (int i = 0; i < c->depth; i++) {
        Layer *l = &net.layer[i];
        for (int64_t k = 0; k < l->stored; k++)
            net.param[l->values + k] = laid[i].place[k] < 0 ? 0 : (real)plain[i].w[laid[i].place[k]];
        for (int r = 0; r < l->rows; r++) net.param[l->bias + r] = (real)plain[i].b[r];
    }
    uint8_t *bytes = malloc((size_t)(n * features) + 1);
    float *numbers = malloc(sizeof(float) * (size_t)(n * features) + 1), *map = malloc(sizeof(float) * 2 * (size_t)features);
    int32_t *labels = malloc(sizeof(int32_t) * (size_t)n + 1);
    float *targets = malloc(sizeof(float) * (size_t)(n * outputs) + 1);
    for (int k = 0; k < n * features; k++) {
        bytes[k] = uniform() < 0.3 ? (uint8_t)(uniform() * 256) : 0;
        numbers[k] = (float)(uniform() - 0.5);
    }
    for (int f = 0; f < features; f++) map[f] = 0.01f + (float)uniform() / 100, map[features + f] = (float)uniform();
    for (int k = 0; k < n; k++) labels[k] = (int32_t)(uniform() * outputs);
    for (int k = 0; k < n * outputs; k++) targets[k] = (float)uniform();
    Examples examples = {.count = n, .features = features};
    if (c->bytes) examples.bytes = bytes;
    else examples.numbers = numbers;
    int64_t inked = c->bytes ? tombola_ink(&examples, NULL, NULL, NULL) : 0;
    int64_t *ink_start = malloc(sizeof(int64_t) * (size_t)(n + 1));
    uint16_t *ink_column = malloc(sizeof(uint16_t) * (size_t)inked + 1);
    uint8_t *ink_value = malloc((size_t)inked + 1);
    if (formats[0] == INK) {
        tombola_ink(&examples, ink_start, ink_column, ink_value);
        examples.ink_start = ink_start, examples.ink_column = ink_column, examples.ink_value = ink_value;
    }
    if (!c->bytes || c->own_map) examples.scale = map, examples.shift = map + features;
    if (c->loss == SQUARED_ERROR && c->kind == SGD) examples.targets = targets;
    else examples.labels = labels;

    void *room = tombola_open(&net);
    int32_t *index = malloc(sizeof(int32_t) * (size_t)(STEPS * c->batch));
    for (int k = 0; k < STEPS * c->batch; k++) index[k] = (int32_t)(uniform() * n);
    double rates[STEPS] = {0.05, 0.02, 0.03}, loss = 0, correct = 0, plain_loss = 0;
    int plain_correct = 0;
    for (int t = 0; t < STEPS; t++) {
        double square = 0;
        for (int i = 0; i < c->depth; i++) {
            memset(plain[i].gw, 0, sizeof(double) * (size_t)(c->widths[i] * c->widths[i + 1]));
            memset(plain[i].gb, 0, sizeof(double) * (size_t)c->widths[i + 1]);
        }
        for (int s = 0; s < c->batch; s++)
            plain_loss += plain_pass(c, &net, &examples, plain, index[t * c->batch + s], 5 + t, s, 1.0 / c->batch,
                                     &plain_correct) / c->batch;
        for (int i = 0; i < c->depth; i++) {
            for (int k = 0; k < c->widths[i] * c->widths[i + 1]; k++) {
                double g = plain[i].gw[k] + c->l2 * plain[i].w[k];
                if (plain[i].kept[k]) square += g * g;
            }
            for (int k = 0; k < c->widths[i + 1] && net.layer[i].has_bias; k++) square += plain[i].gb[k] * plain[i].gb[k];
        }
        double clip = c->clip > 0 ? fmin(1, c->clip / (sqrt(square) + 1e-6)) : 1;
        for (int i = 0; i < c->depth; i++) {
            Plain *p = &plain[i];
            int rows = c->widths[i + 1];
            plain_vector(c, rows * c->widths[i], p->kept, p->w, p->gw, p->mw, p->vw, t + 1, rates[t], c->l2, clip);
            if (net.layer[i].has_bias) plain_vector(c, rows, NULL, p->b, p->gb, p->mb, p->vb, t + 1, rates[t], 0, clip);
        }
    }
    tombola_train(&net, room, &examples, index, c->batch, 1, 5, rates, &loss, &correct);
    tombola_train(&net, room, &examples, index + c->batch, c->batch, STEPS - 1, 6, rates + 1, &loss, &correct);
    near(loss, plain_loss, plain_loss, "loss", 0, 0);
    CHECK(net.updates == STEPS, "%d updates", (int)net.updates);
    if (sizeof(real) == 8) CHECK((int)correct == plain_correct, "%d correct, expected %d", (int)correct, plain_correct);
    for (int i = 0; i < c->depth; i++) {
        Layer *l = &net.layer[i];
        Plain *p = &plain[i];
        for (int64_t k = 0; k < l->stored; k++) {
            int place = laid[i].place[k];
            real *w = net.param + l->values + k, *m = net.first + l->values + k, *v = net.second + l->values + k;
            if (place < 0) CHECK(*w == 0 && *m == 0 && *v == 0, "a pruned weight of layer %d came alive", i);
            else {
                near(*w, p->w[place], fabs(p->w[place]), "weight", i, place);
                near(*m, p->mw[place], fabs(p->mw[place]), "first moment", i, place);
                near(*v, p->vw[place], p->vw[place], "second moment", i, place);
            }
        }
        for (int r = 0; r < l->rows; r++) near(net.param[l->bias + r], p->b[r], fabs(p->b[r]), "bias", i, r);
    }

    double seen = 0, right = 0, tiled = 0, tiled_right = 0, plain_seen = 0;
    int plain_right = 0;
    for (int s = 0; s < n; s++) plain_seen += plain_pass(c, &net, &examples, plain, s, -1, 0, 0, &plain_right);
    tombola_evaluate(&net, room, &examples, NULL, n, NULL, &seen, &right);
    near(seen, plain_seen, plain_seen, "evaluated loss", 0, 0);
    if (c->bytes && !c->own_map && formats[0] != INK) {
        uint8_t *tiles = room_for((size_t)((n + TILE - 1) / TILE * TILE) * (size_t)features, 1);
        tombola_pack(&net, room, &examples, tiles);
        tombola_evaluate(&net, room, &examples, NULL, n, tiles, &tiled, &tiled_right);
        CHECK(tiled == seen && tiled_right == right, "packed tiles give a loss of %.9g, not %.9g", tiled, seen);
        free(tiles);
    }
    seen = right = 0;
    tombola_evaluate(&net, room, &examples, index, 0, NULL, &seen, &right);
    CHECK(seen == 0 && right == 0, "a loss of nothing is %.9g", seen);
    float *predicted = malloc(sizeof(float) * (size_t)(n * outputs) + 1);
    tombola_predict(&net, room, &examples, predicted);
    free(predicted);

    tombola_close(room);
    for (int i = 0; i < c->depth; i++) {
        Plain *p = &plain[i];
        void *held[] = {p->w, p->b, p->gw, p->gb, p->mw, p->mb, p->vw, p->vb, p->kept};
        for (size_t j = 0; j < sizeof held / sizeof *held; j++) free(held[j]);
        let_go(&laid[i]);
    }
    for (int j = 0; j < 4; j++) free(*vectors[j]);
    free(order), free(same), free(bytes), free(numbers), free(map), free(labels), free(targets), free(index);
    free(ink_start), free(ink_column), free(ink_value);
}

/* ------------------------------------------------------------------ numbers that are not finite */

static void not_finite(int format)
{
    enum { ROWS = 4 };
    static const uint16_t column[ROWS + 3];
    static const uint8_t keep[1] = {15};
    static const int32_t starts[2][ROWS + 1] = {{0, 1, 2, 3, 4}, {0, 1}}, order[1], column_start[2] = {0, 4};
    static const int32_t down[ROWS] = {0, 1, 2, 3}, across_start[2] = {0, 4};
    static const uint16_t across[ROWS + 3] = {0, 1, 2, 3};
    float input[1] = {1}, scale[1] = {1}, shift[1] = {0}, target[1] = {0};
    real *param = room_for(64, sizeof(real)), *rest = room_for(64, sizeof(real));
    for (int r = 0; r < ROWS; r++) param[r] = (real)NAN, param[32 + r] = 1;
    Network net = {.layers = 2, .loss = SQUARED_ERROR, .scale = 1, .order = order, .parameters = 64, .param = param};
    net.first = net.second = net.gradient = rest;
    net.layer[0] = (Layer){.rows = ROWS, .columns = 1, .format = format, .activation = RELU, .has_bias = 1, .stored = ROWS,
                           .bias = 16, .start = starts[format == BLOCKS], .column = column, .keep = keep,
                           .column_start = column_start, .row = down, .slot = down, .drop_scale = 1};
    net.layer[1] = (Layer){.rows = 1, .columns = ROWS, .format = CSR, .values = 32, .stored = ROWS, .bias = 48,
                           .start = across_start, .column = across, .column_start = starts[0], .row = order,
                           .slot = down, .drop_scale = 1};
    Examples examples = {.numbers = input, .targets = target, .count = 1, .features = 1, .scale = scale, .shift = shift};
    void *room = tombola_open(&net);
    double loss = 0, correct = 0;
    tombola_evaluate(&net, room, &examples, NULL, 1, NULL, &loss, &correct);
    CHECK(loss != loss, "format %d hides a NaN: the loss is %g", format, loss);
    tombola_close(room);
    free(param), free(rest);
}

/* ------------------------------------------------------------------ all cases */

int main(void)
{
    static const int shapes[][5] = {{1, 1, 1}, {2, 3, 4, 2}, {3, 17, 33, 12, 5}, {2, 64, 100, 3}, {2, 31, 8, 10}, {1, 5, 2}};
    static const int batches[] = {1, 2, 63, 64, 65, 130};
    static const double densities[] = {1, 0.6, 0.2, 0};
    int runs = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int first = CSR; first <= INK; first++)
            for (int b = 0; b < 6; b++)
                for (int d = 0; d < 4; d++, runs++) {
                    if ((b + d) % 2) continue; /* half of the pairs: each batch and each density meets all else */
                    Case c = {.depth = shapes[s][0], .batch = batches[b], .density = densities[d]};
                    memcpy(c.widths, shapes[s] + 1, sizeof c.widths);
                    c.bytes = first == INK || runs % 3 != 0;
                    c.own_map = first != INK && runs % 7 == 0;
                    c.kind = runs % 3;
                    c.loss = runs / 3 % 3 == 1 ? SQUARED_ERROR : CROSS_ENTROPY;
                    c.activation = runs / 2 % 3;
                    c.rate = runs % 4 == 1 ? 0.25 : 0;
                    c.smoothing = runs % 5 == 2 ? 0.1 : 0;
                    c.l2 = runs % 5 == 3 ? 0.1 : 0;
                    c.clip = runs % 4 == 2 ? 0.5 : 0;
                    c.decay = runs % 5 == 1 ? 0.02 : 0;
                    c.shift = runs % 2 ? -0.3 : 0;
                    c.examples = 70 + runs % 3;
                    int formats[4] = {first, runs % 2 ? BLOCKS : CSR, runs % 4 < 2 ? BLOCKS : CSR, CSR};
                    run(&c, formats);
                }
    not_finite(CSR);
    not_finite(BLOCKS);
    printf("trainer: %d networks, ok\n", case_number);
    return 0;
}
