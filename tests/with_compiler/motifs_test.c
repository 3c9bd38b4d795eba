/* Gene networks against plain loops in double, without Python: 1 to MAX_GENES genes, 2 to 70 cells, empty and full
 * matrices, any wanted genes. Every array has exactly the size that motifs.c asks for. Built with the sanitizers; ends at
 * the first mistake. */
#include <stdio.h>

#include "motifs.c"

enum { CASES = 40, GROUP = 32 };

static uint64_t random_state = 1;

static double uniform(void) /* in [0, 1) */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (1 << 24);
}
static int below(int n) { return (int)(uniform() * n); }

static void slope_of(int genes, const real *w, const real *d, double g, double offset, double decay, const double *x,
                     double *slope)
{
    for (int i = 0; i < genes; i++) {
        double z = d[i] * g - offset;
        for (int j = 0; j < genes; j++) z += w[i * genes + j] * x[j];
        slope[i] = 1 / (1 + exp(-z)) - decay * x[i];
    }
}

/* One cell of one network through one step. */
static void step_of(int genes, const real *w, const real *d, const real *wave, int stride, const Course *c, double *x)
{
    double k[4][MAX_GENES], next[MAX_GENES];
    const double reach[4] = {0, c->step / 2, c->step / 2, c->step};
    const int row[4] = {0, 1, 1, 2};
    for (int stage = 0; stage < 4; stage++) {
        for (int i = 0; i < genes; i++) next[i] = x[i] + (stage ? reach[stage] * k[stage - 1][i] : 0);
        slope_of(genes, w, d, wave[row[stage] * stride], c->offset, c->decay, next, k[stage]);
    }
    for (int i = 0; i < genes; i++) x[i] += c->step / 6 * (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]);
}

static void check(int number)
{
    const int genes = number == 0 ? MAX_GENES : 1 + below(6), cells = 2 + below(69), networks = 1 + below(3);
    const int stride = (cells + GROUP - 1) / GROUP * GROUP, shown = 1 + below(genes);
    int32_t *show = malloc(shown * sizeof *show);
    for (int s = 0; s < shown; s++) show[s] = below(genes);
    Course c = {.genes = genes, .cells = cells, .intervals = 1 + below(4), .substeps = 1 + below(3), .shown = shown,
                .stride = stride, .step = 0.1 + 0.2 * uniform(), .offset = 4 * uniform(), .decay = 0.5 + uniform(),
                .initial = uniform(), .show = show};
    const int halves = 2 * c.intervals * c.substeps + 1, samples = c.intervals + 1;
    real *wave = malloc((size_t)halves * stride * sizeof *wave), *w = malloc(networks * genes * genes * sizeof *w);
    real *d = malloc(networks * genes * sizeof *d);
    real *traces = malloc((size_t)networks * shown * samples * cells * sizeof *traces);
    const double density = number % 4 / 3.0;
    for (int i = 0; i < halves * stride; i++) wave[i] = uniform();
    for (int i = 0; i < networks * genes * genes; i++) w[i] = uniform() < density ? 8 * uniform() - 4 : 0;
    for (int i = 0; i < networks * genes; i++) d[i] = 8 * uniform() - 4;
    c.wave = wave;
    tombola_motifs(&c, networks, w, d, traces);
    for (int n = 0; n < networks; n++)
        for (int cell = 0; cell < cells; cell++) {
            double x[MAX_GENES];
            for (int i = 0; i < genes; i++) x[i] = c.initial;
            for (int sample = 0; sample < samples; sample++) {
                for (int sub = 0; sample && sub < c.substeps; sub++)
                    step_of(genes, w + n * genes * genes, d + n * genes,
                            wave + (size_t)2 * ((sample - 1) * c.substeps + sub) * stride + cell, stride, &c, x);
                for (int s = 0; s < shown; s++) {
                    double found = traces[((size_t)(n * shown + s) * samples + sample) * cells + cell];
                    if (!(fabs(found - x[show[s]]) < 1e-4)) {
                        printf("case %d: network %d, cell %d of %d, sample %d, gene %d of %d: %g, expected %g\n", number,
                               n, cell, cells, sample, show[s], genes, found, x[show[s]]);
                        exit(1);
                    }
                }
            }
        }
    free(show), free(wave), free(w), free(d), free(traces);
}

int main(void)
{
    for (int number = 0; number < CASES; number++) check(number);
    printf("ok\n");
    return 0;
}
