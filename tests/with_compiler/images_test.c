/* Convolutions and pools against plain loops in double, without Python: odd and tiny images, pools that leave a row over,
 * ties within a window, empty channels, borders under a map with a shift, batches around a tile. Every array has exactly
 * the size that network.h asks for. Built with the sanitizers; ends at the first mistake. */
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
static double quarter(double low, double high) { return floor((low + uniform() * (high - low)) * 4) / 4; }
static void *zeros(size_t count, size_t size) { return calloc(count + 1, size); }

enum { MOST = 4, CLASSES = 3, EXAMPLES = 5 };

typedef struct { int depth, channels[MOST], height, width, pools[MOST]; } Shape; /* channels[0]: of the inputs */
typedef struct { double *w, *b, *gw, *gb; uint8_t *kept; } Plain; /* a layer as a matrix of rows x columns, and biases */
typedef struct { int32_t *start, *column_start, *row, *slot; uint16_t *column; int *place; } Laid;

static int pixels(const Layer *l) { return l->height * l->width; }
static int pooled_pixels(const Layer *l) { return l->pool ? (l->height / 2) * (l->width / 2) : pixels(l); }

/* ------------------------------------------------------------------ one example, plain */

/* y = W x + b at pixel (y, x) of channel r; with `d` not 0 also the gradients by W (into gw) and by x (into dx). */
static double tap(const Layer *l, Plain *p, const double *x, int r, int at_y, int at_x, double d, double *dx)
{
    double sum = p->b[r];
    for (int k = 0; k < l->columns; k++) {
        int c = k / 9, y = at_y + k % 9 / 3 - 1, across = at_x + k % 3 - 1;
        if (y < 0 || across < 0 || y >= l->height || across >= l->width) continue;
        int from = c * pixels(l) + y * l->width + across;
        sum += p->w[r * l->columns + k] * x[from];
        p->gw[r * l->columns + k] += d * x[from];
        if (dx && d != 0) dx[from] += d * p->w[r * l->columns + k];
    }
    p->gb[r] += d;
    return sum;
}
/* Forward of one example and, where `weight` is not 0, backward; returns its cross-entropy. */
static double plain_pass(const Network *net, Plain *p, const double *input, int label, double weight)
{
    int convolutions = net->layers - 1;
    const Layer *out = &net->layer[convolutions];
    double *x[MOST + 1] = {NULL}, *whole[MOST], *d = zeros((size_t)out->columns, sizeof(double)), z[CLASSES], total = 0, top;
    int *winner[MOST];
    x[0] = (double *)input;
    for (int i = 0; i < convolutions; i++) {
        const Layer *l = &net->layer[i];
        int wide = l->pool ? l->width / 2 : l->width, size = pooled_pixels(l);
        whole[i] = zeros((size_t)(l->rows * pixels(l)), sizeof(double));
        x[i + 1] = zeros((size_t)(l->rows * size), sizeof(double));
        winner[i] = zeros((size_t)(l->rows * size), sizeof(int));
        for (int r = 0; r < l->rows; r++) {
            for (int k = 0; k < pixels(l); k++) {
                double s = tap(l, &p[i], x[i], r, k / l->width, k % l->width, 0, NULL);
                whole[i][r * pixels(l) + k] = l->activation == RELU && s < 0 ? 0 : s;
            }
            for (int k = 0; k < size; k++) {
                int first = r * pixels(l) + (l->pool ? 2 * (k / wide) * l->width + 2 * (k % wide) : k), best = first;
                for (int j = 1; j < 4 && l->pool; j++) {
                    int other = first + j / 2 * l->width + j % 2;
                    if (whole[i][other] > whole[i][best]) best = other;
                }
                winner[i][r * size + k] = best;
                x[i + 1][r * size + k] = whole[i][best];
            }
        }
    }
    Plain *last = &p[convolutions];
    for (int r = 0; r < CLASSES; r++) {
        z[r] = last->b[r];
        for (int k = 0; k < out->columns; k++) z[r] += last->w[r * out->columns + k] * x[convolutions][k];
    }
    top = fmax(z[0], fmax(z[1], z[2]));
    for (int r = 0; r < CLASSES; r++) total += exp(z[r] - top);
    for (int r = 0; r < CLASSES && weight > 0; r++) {
        double g = weight * (exp(z[r] - top) / total - (r == label));
        last->gb[r] += g;
        for (int k = 0; k < out->columns; k++) {
            last->gw[r * out->columns + k] += g * x[convolutions][k];
            d[k] += g * last->w[r * out->columns + k];
        }
    }
    for (int i = convolutions - 1; i >= 0; i--) {
        const Layer *l = &net->layer[i];
        double *below = zeros((size_t)(l->columns / 9 * pixels(l)), sizeof(double));
        for (int k = 0; weight > 0 && k < l->rows * pooled_pixels(l); k++) {
            int r = k / pooled_pixels(l), at = winner[i][k] - r * pixels(l);
            if (l->activation == RELU && whole[i][winner[i][k]] <= 0) continue;
            tap(l, &p[i], x[i], r, at / l->width, at % l->width, d[k], below);
        }
        free(d);
        d = below;
        free(whole[i]), free(winner[i]), free(x[i + 1]);
    }
    free(d);
    return log(total) + top - z[label];
}

/* ------------------------------------------------------------------ the same network, laid out */

static void lay_out(Layer *l, Laid *at, const uint8_t *kept)
{
    size_t stored = 0, size = (size_t)(l->rows * l->columns);
    for (size_t k = 0; k < size; k++) stored += kept[k];
    at->start = malloc(sizeof(int32_t) * (size_t)(l->rows + 1));
    at->column = calloc(stored + 3, sizeof(uint16_t));
    at->place = malloc(sizeof(int) * (stored + 1));
    at->column_start = malloc(sizeof(int32_t) * (size_t)(l->columns + 1));
    at->row = malloc(sizeof(int32_t) * (stored + 1)), at->slot = malloc(sizeof(int32_t) * (stored + 1));
    int n = 0, found = 0;
    for (int r = 0; r < l->rows; r++) {
        at->start[r] = n;
        for (int k = 0; k < l->columns; k++)
            if (kept[r * l->columns + k]) at->column[n] = (uint16_t)k, at->place[n++] = r * l->columns + k;
    }
    at->start[l->rows] = n;
    for (int k = 0; k < l->columns; k++) {
        at->column_start[k] = found;
        for (int j = 0; j < n; j++)
            if (at->column[j] == k) at->row[found] = at->place[j] / l->columns, at->slot[found++] = j;
    }
    at->column_start[l->columns] = found;
    l->stored = n, l->start = at->start, l->column = at->column;
    if (l->height) return; /* convolutions read no transposed index */
    l->column_start = at->column_start, l->row = at->row, l->slot = at->slot;
}
static void near(double got, double wanted, double scale, const char *what, int layer, int k)
{
    double bound = (sizeof(real) == 4 ? 2e-4 : 1e-10) * (1 + scale);
    CHECK(fabs(got - wanted) <= bound, "%s of layer %d at %d is %.9g, expected %.9g", what, layer, k, got, wanted);
}

static void run(const Shape *shape, int batch, double density, int bytes, double shift, double clip)
{
    case_number++;
    int depth = shape->depth, height = shape->height, width = shape->width;
    size_t features = (size_t)(shape->channels[0] * height * width);
    Network net = {.layers = depth + 1, .loss = CROSS_ENTROPY, .kind = SGD, .scale = 0.25, .shift = shift, .clip_norm = clip};
    int32_t *order = malloc(sizeof(int32_t) * features);
    for (size_t f = 0; f < features; f++) order[f] = (int32_t)f;
    net.order = order;
    Plain plain[MOST + 1];
    Laid laid[MOST + 1];
    int64_t at = 0;
    for (int i = 0; i <= depth; i++) {
        Layer *l = &net.layer[i];
        int rows = i < depth ? shape->channels[i + 1] : CLASSES;
        int columns = i < depth ? 9 * shape->channels[i] : shape->channels[i] * height * width, size = rows * columns;
        *l = (Layer){.rows = rows, .columns = columns, .format = CSR, .has_bias = i != 1, .drop_scale = 1};
        l->l2 = i ? 0 : 0.125;
        if (i < depth) l->height = height, l->width = width, l->pool = shape->pools[i];
        l->activation = i < depth && case_number % 4 ? RELU : IDENTITY;
        if (l->pool) height /= 2, width /= 2;
        Plain *p = &plain[i];
        double **all[] = {&p->w, &p->gw, &p->b, &p->gb};
        for (int j = 0; j < 4; j++) *all[j] = zeros((size_t)(j < 2 ? size : rows), sizeof(double));
        p->kept = calloc((size_t)size, 1);
        for (int k = 0; k < size; k++) { /* filter 1 is empty, and so is the first input of the second layer */
            p->kept[k] = uniform() < density && (i == depth || rows == 1 || k / columns != 1) && (i != 1 || k % columns > 8);
            p->w[k] = p->kept[k] ? quarter(-1, 1) : 0; /* coarse numbers: sums are exact, and windows hold ties */
        }
        for (int r = 0; r < rows && l->has_bias; r++) p->b[r] = quarter(-0.5, 1);
        lay_out(l, &laid[i], p->kept);
        l->values = at;
        l->bias = (at + l->stored + PADDING - 1) / PADDING * PADDING;
        at = (l->bias + rows + PADDING - 1) / PADDING * PADDING;
    }
    net.parameters = at;
    real **vectors[] = {&net.param, &net.first, &net.second, &net.gradient};
    for (int j = 0; j < 4; j++) *vectors[j] = room_for((size_t)at + 32, sizeof(real));
    for (int i = 0; i <= depth; i++) {
        Layer *l = &net.layer[i];
        for (int64_t k = 0; k < l->stored; k++) net.param[l->values + k] = (real)plain[i].w[laid[i].place[k]];
        for (int r = 0; r < l->rows; r++) net.param[l->bias + r] = (real)plain[i].b[r];
    }
    uint8_t *raw = malloc(EXAMPLES * features);
    float *numbers = malloc(sizeof(float) * EXAMPLES * features), *map = malloc(sizeof(float) * 2 * features);
    double *seen = malloc(sizeof(double) * EXAMPLES * features);
    int32_t labels[EXAMPLES], *index = malloc(sizeof(int32_t) * (size_t)batch);
    for (size_t f = 0; f < features; f++) map[f] = 0.5f, map[features + f] = (float)quarter(-1, 1);
    for (size_t k = 0; k < EXAMPLES * features; k++) {
        raw[k] = (uint8_t)(uniform() * 4), numbers[k] = (float)quarter(-1, 1);
        seen[k] = bytes ? raw[k] * net.scale + shift : numbers[k] * 0.5 + map[features + k % features];
    }
    for (int k = 0; k < EXAMPLES; k++) labels[k] = k % CLASSES;
    for (int k = 0; k < batch; k++) index[k] = k % EXAMPLES;
    Examples examples = {.count = EXAMPLES, .features = (int32_t)features, .labels = labels};
    if (bytes) examples.bytes = raw;
    else examples.numbers = numbers, examples.scale = map, examples.shift = map + features;

    double rate = 0.5, loss = 0, correct = 0, wanted = 0, square = 0;
    for (int k = 0; k < batch; k++)
        wanted += plain_pass(&net, plain, seen + (size_t)index[k] * features, labels[index[k]], 1.0 / batch) / batch;
    for (int pass = 0; pass < 2; pass++) /* the norm is whole before anything moves */
        for (int i = 0; i <= depth; i++) {
            Layer *l = &net.layer[i];
            Plain *p = &plain[i];
            double factor = clip > 0 ? fmin(1, clip / (sqrt(square) + 1e-6)) : 1;
            for (int k = 0; k < l->rows * l->columns; k++) {
                double g = p->kept[k] ? p->gw[k] + l->l2 * p->w[k] : 0;
                if (pass) p->w[k] -= rate * g * factor;
                else square += g * g;
            }
            for (int r = 0; r < l->rows && l->has_bias; r++) {
                if (pass) p->b[r] -= rate * p->gb[r] * factor;
                else square += p->gb[r] * p->gb[r];
            }
        }
    void *room = tombola_open(&net);
    tombola_train(&net, room, &examples, index, batch, 1, 0, &rate, &loss, &correct);
    near(loss, wanted, wanted, "loss", 0, 0);
    for (int i = 0; i <= depth; i++) {
        Layer *l = &net.layer[i];
        for (int64_t k = 0; k < l->stored; k++)
            near(net.param[l->values + k], plain[i].w[laid[i].place[k]], 1, "weight", i, laid[i].place[k]);
        for (int r = 0; r < l->rows; r++) near(net.param[l->bias + r], plain[i].b[r], 1, "bias", i, r);
    }
    loss = correct = wanted = 0;
    for (int k = 0; k < EXAMPLES; k++) wanted += plain_pass(&net, plain, seen + (size_t)k * features, labels[k], 0);
    tombola_evaluate(&net, room, &examples, NULL, EXAMPLES, NULL, &loss, &correct);
    near(loss, wanted, 10 * wanted, "evaluated loss", 0, 0);
    if (bytes) {
        double tiled = 0, right = 0;
        uint8_t *tiles = room_for(TILE * features, 1);
        tombola_pack(&net, room, &examples, tiles);
        tombola_evaluate(&net, room, &examples, NULL, EXAMPLES, tiles, &tiled, &right);
        CHECK(tiled == loss && right == correct, "packed tiles give a loss of %.9g, not %.9g", tiled, loss);
        free(tiles);
    }
    tombola_close(room);
    for (int i = 0; i <= depth; i++) {
        void *held[] = {plain[i].w, plain[i].b, plain[i].gw, plain[i].gb, plain[i].kept, laid[i].start, laid[i].column,
                        laid[i].place, laid[i].column_start, laid[i].row, laid[i].slot};
        for (size_t j = 0; j < sizeof held / sizeof *held; j++) free(held[j]);
    }
    for (int j = 0; j < 4; j++) free(*vectors[j]);
    free(order), free(raw), free(numbers), free(map), free(seen), free(index);
}

int main(void)
{
    static const Shape shapes[] = {
        {1, {1, 1}, 1, 1, {0}},          {1, {2, 3}, 2, 2, {1}},          {2, {3, 4, 5}, 5, 7, {0, 1}},
        {3, {1, 3, 2, 4}, 9, 6, {1, 1, 0}}, {2, {2, 5, 3}, 4, 8, {0, 0}}, {3, {2, 3, 3, 2}, 11, 4, {0, 1, 1}},
    };
    static const int batches[] = {1, 7, 66};
    static const double densities[] = {1, 0.4, 0.05};
    int runs = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int b = 0; b < 3; b++)
            for (int d = 0; d < 3; d++, runs++)
                run(&shapes[s], batches[b], densities[d], runs % 3 != 1, runs % 2 ? -0.25 : 0, runs % 5 ? 0 : 0.25);
    printf("images: %d networks, ok\n", runs);
    return 0;
}
