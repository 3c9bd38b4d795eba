/* Losses over the outputs of a tile, and their gradients. */
#include "network.h"

/* What the tiles of a set add up to. */
typedef struct { double loss, correct; } Sums;

/* The sum of the softmax cross-entropies of `count` samples, with smoothed labels:
 *     -(1 - e) log p(y) - e / C sum_c log p(c);  d = (p - (1 - e) [c = y] - e / C) * weight, 0 behind the samples. */
static double cross_entropy(const real *z, const int32_t *label, int count, int classes, double smoothing, double weight,
                            real *d)
{
    real top[TILE] __attribute__((aligned(CACHE_LINE))), total[TILE] __attribute__((aligned(CACHE_LINE)));
    real mean[TILE] __attribute__((aligned(CACHE_LINE))), share[TILE] __attribute__((aligned(CACHE_LINE)));
    for (int i = 0; i < ROW_VECS; i++) {
        vec largest = ((const vec *)z)[i], all_of = largest, s = {0};
        for (int c = 1; c < classes; c++) {
            vec zc = ((const vec *)z)[c * ROW_VECS + i];
            largest = choose(zc > largest, zc, largest);
            all_of += zc;
        }
        for (int c = 0; c < classes; c++) {
            vec e = exp_negative(((const vec *)z)[c * ROW_VECS + i] - largest);
            ((vec *)d)[c * ROW_VECS + i] = e;
            s += e;
        }
        ((vec *)top)[i] = largest;
        ((vec *)total)[i] = s;
        ((vec *)mean)[i] = all_of / (real)classes;
    }
    double loss = 0;
    for (int i = 0; i < TILE; i++) share[i] = i < count ? (real)weight / total[i] : 0;
    for (int i = 0; i < count; i++) {
#ifdef FLOAT64
        double logarithm = log(total[i]) + top[i];
#else
        double logarithm = (double)logf(total[i]) + top[i];
#endif
        double right = z[label[i] * TILE + i];
        loss += smoothing > 0 ? logarithm - (1 - smoothing) * right - smoothing * mean[i] : logarithm - right;
    }
    real even = (real)(smoothing / classes * weight);
    for (int c = 0; c < classes; c++)
        UNROLL for (int i = 0; i < ROW_VECS; i++) ((vec *)d)[c * ROW_VECS + i] *= ((const vec *)share)[i];
    if (smoothing > 0)
        for (int c = 0; c < classes; c++)
            for (int i = 0; i < count; i++) d[c * TILE + i] -= even;
    for (int i = 0; i < count; i++) d[label[i] * TILE + i] -= (real)((1 - smoothing) * weight);
    return loss;
}

/* The sum over samples of the squared error, averaged over outputs; labels become one-hot targets. */
static double squared_error(const real *z, const Examples *examples, const int32_t *index, int count, int outputs,
                            double weight, real *d)
{
    double loss = 0;
    for (int c = 0; c < outputs; c++)
        for (int i = 0; i < TILE; i++) {
            real error = 0;
            if (i < count)
                error = z[c * TILE + i] - (examples->targets ? (real)examples->targets[(size_t)index[i] * outputs + c]
                                                              : (real)(examples->labels[index[i]] == c));
            loss += (double)error * error;
            d[c * TILE + i] = error * (real)(2 * weight / outputs);
        }
    return loss / outputs;
}

/* How many of `count` samples have their largest output (the first one on ties, and NaN above all) at their label. */
static int correct_of(const real *z, const int32_t *label, int count, int classes)
{
    ivec best[ROW_VECS];
    for (int i = 0; i < ROW_VECS; i++) {
        vec top = ((const vec *)z)[i];
        best[i] = (ivec){0};
        for (int c = 1; c < classes; c++) {
            vec zc = ((const vec *)z)[c * ROW_VECS + i];
            ivec better = ~(zc <= top) & (top == top);
            best[i] = (better & c) | (~better & best[i]);
            top = choose(better, zc, top);
        }
    }
    int correct = 0;
    for (int i = 0; i < count; i++) correct += ((const lane *)best)[i] == label[i];
    return correct;
}

/* Loss, correct predictions and gradients of the tile. */
static Sums judge(const Network *net, const Examples *examples, const int32_t *index, int count, double weight,
                  const real *z, real *d)
{
    int outputs = net->layer[net->layers - 1].rows;
    int32_t label[TILE];
    Sums result = {0, 0};
    if (examples->labels)
        for (int i = 0; i < count; i++) label[i] = examples->labels[index[i]];
    if (net->loss == CROSS_ENTROPY) result.loss = cross_entropy(z, label, count, outputs, net->smoothing, weight, d);
    else result.loss = squared_error(z, examples, index, count, outputs, weight, d);
    if (examples->labels) result.correct = correct_of(z, label, count, outputs);
    return result;
}
