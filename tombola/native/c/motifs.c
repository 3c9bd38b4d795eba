/* Gene regulatory networks in a row of cells (tombola/motifs): dx_i/dt = s(sum_j W_ij x_j + d_i g) - decay x_i for each
 * gene i, s(z) = 1 / (1 + exp(offset - z)), by the classical Runge-Kutta method of order 4 with a fixed step.
 *
 * Cells do not act on each other. So a few vectors of cells go through the whole time at once, with all that they need in
 * the first cache; SIDE vectors beside each other hide the latency of the exponential where genes are few. `side` is how
 * many there are: SIDE, or 1 for the last cells; the functions are inlined once for each. */
#include "export.h"
#include "network.h"

enum { MAX_GENES = 64, SIDE = 2 };

/* What all networks of a call share; tombola/motifs/kernel.py mirrors it field by field. */
typedef struct {
    int32_t genes, cells, intervals, substeps, shown, stride;
    double step, offset, decay, initial;
    const int32_t *show; /* `shown` genes whose traces are wanted */
    const real *wave;    /* g at the 2 * intervals * substeps + 1 half steps; `stride` numbers each, a multiple of 32 */
} Course;

/* The edges of one network by the gene they act on; only genes with a path to a shown one are computed. */
typedef struct {
    int32_t live, gene[MAX_GENES], start[MAX_GENES + 1], from[MAX_GENES * MAX_GENES];
    real weight[MAX_GENES * MAX_GENES], input[MAX_GENES];
} Wiring;

typedef vec Cells[SIDE];

static void wire(const Course *c, const real *weights, const real *morphogen, Wiring *w)
{
    uint8_t acts[MAX_GENES] = {0};
    for (int s = 0; s < c->shown; s++) acts[c->show[s]] = 1;
    for (int round = 0; round < c->genes; round++)
        for (int i = 0; i < c->genes; i++)
            for (int j = 0; acts[i] && j < c->genes; j++) acts[j] |= weights[i * c->genes + j] != 0;
    int32_t edges = 0;
    w->live = 0;
    for (int i = 0; i < c->genes; i++) {
        if (!acts[i]) continue;
        w->gene[w->live] = i;
        w->start[w->live] = edges;
        w->input[w->live++] = morphogen[i];
        for (int j = 0; j < c->genes; j++) {
            if (weights[i * c->genes + j] == 0) continue;
            w->from[edges] = j;
            w->weight[edges++] = weights[i * c->genes + j];
        }
    }
    w->start[w->live] = edges;
}

/* 1 / (1 + exp(-z)). The exponential is 2^n 2^f with |f| <= 1/2; 2^f by a polynomial of degree 6, fitted here to the least
 * relative error (1.9e-9 before rounding). */
INLINE vec logistic(vec z)
{
#ifdef FLOAT64
    vec power;
    UNROLL for (int i = 0; i < LANES; i++) power[i] = exp(-z[i]);
#else
    const vec edge = (vec){0} + 126, magic = (vec){0} + 12582912; /* 1.5 * 2^23: adding it rounds to a whole number */
    vec t = z * -1.44269504f;
    t = choose(t > edge, edge, t);
    t = choose(t < -edge, -edge, t);
    vec shifted = t + magic;
    vec f = t - (shifted - magic);
    vec p = 0.00015345812f * f + 0.00133999312f;
    p = p * f + 0.00961848896f;
    p = p * f + 0.0555032878f;
    p = p * f + 0.240226469f;
    p = p * f + 0.693147206f;
    p = p * f + 1;
    vec power = (vec)((uvec)p + ((uvec)shifted << 23));
#endif
    return 1 / (1 + power);
}

/* The slopes of all live genes at `x`. */
INLINE void slopes(const Wiring *w, const real *wave, real offset, real decay, const Cells *x,
                   int side, Cells *slope)
{
    for (int l = 0; l < w->live; l++) {
        int i = w->gene[l];
        Cells z;
        UNROLL for (int s = 0; s < side; s++) z[s] = w->input[l] * ((const vec_unaligned *)wave)[s] - offset;
        for (int k = w->start[l]; k < w->start[l + 1]; k++)
            UNROLL for (int s = 0; s < side; s++) z[s] += w->weight[k] * x[w->from[k]][s];
        UNROLL for (int s = 0; s < side; s++) slope[i][s] = logistic(z[s]) - decay * x[i][s];
    }
}

/* total += share * slope (or = with `first`), next = x + step * slope */
INLINE void stage(const Wiring *w, const Cells *x, const Cells *slope, real share, real step, int first, int side,
                  Cells *total, Cells *next)
{
    for (int l = 0; l < w->live; l++)
        UNROLL for (int s = 0; s < side; s++) {
            int i = w->gene[l];
            vec part = share * slope[i][s];
            if (first) total[i][s] = part;
            else total[i][s] += part;
            next[i][s] = x[i][s] + step * slope[i][s];
        }
}

static void show(const Course *c, const Cells *x, int sample, int cell, int side, real *traces)
{
    int left = c->cells - cell < side * LANES ? c->cells - cell : side * LANES;
    for (int s = 0; s < c->shown; s++) {
        real *row = traces + ((size_t)s * (c->intervals + 1) + sample) * c->cells + cell;
        memcpy(row, x[c->show[s]], left * sizeof(real));
    }
}

INLINE void integrate(const Course *c, const Wiring *w, int cell, int side, real *traces)
{
    Cells x[MAX_GENES], slope[MAX_GENES], total[MAX_GENES], next[MAX_GENES];
    const real step = c->step, offset = c->offset, decay = c->decay, *wave = c->wave + cell;
    for (int i = 0; i < c->genes; i++)
        UNROLL for (int s = 0; s < side; s++) x[i][s] = (vec){0} + (real)c->initial;
    show(c, x, 0, cell, side, traces);
    for (int sample = 1; sample <= c->intervals; sample++) {
        for (int sub = 0; sub < c->substeps; sub++, wave += 2 * (size_t)c->stride) {
            slopes(w, wave, offset, decay, x, side, slope);
            stage(w, x, slope, 1, step / 2, 1, side, total, next);
            slopes(w, wave + c->stride, offset, decay, next, side, slope);
            stage(w, x, slope, 2, step / 2, 0, side, total, next);
            slopes(w, wave + c->stride, offset, decay, next, side, slope);
            stage(w, x, slope, 2, step, 0, side, total, next);
            slopes(w, wave + 2 * (size_t)c->stride, offset, decay, next, side, slope);
            stage(w, x, slope, 1, 0, 0, side, total, next);
            for (int l = 0; l < w->live; l++)
                UNROLL for (int s = 0; s < side; s++) x[w->gene[l]][s] += step / 6 * total[w->gene[l]][s];
        }
        show(c, x, sample, cell, side, traces);
    }
}

EXPORT void tombola_motifs(const Course *course, int64_t networks, const real *weights, const real *morphogen,
                           real *traces);

/* Traces of `networks` networks: for each one the shown genes, for each gene intervals + 1 samples, for each sample the
 * cells. Weights (genes x genes, row i: what acts on gene i) and morphogen (genes) are divided by their scale already;
 * genes are at most MAX_GENES. */
EXPORT void tombola_motifs(const Course *course, int64_t networks, const real *weights, const real *morphogen,
                           real *traces)
{
    const int genes = course->genes;
    Wiring wiring;
    for (int64_t n = 0; n < networks; n++) {
        wire(course, weights + n * genes * genes, morphogen + n * genes, &wiring);
        int cell = 0;
        for (; course->cells - cell > LANES; cell += SIDE * LANES) integrate(course, &wiring, cell, SIDE, traces);
        if (cell < course->cells) integrate(course, &wiring, cell, 1, traces);
        traces += (size_t)course->shown * (course->intervals + 1) * course->cells;
    }
}
