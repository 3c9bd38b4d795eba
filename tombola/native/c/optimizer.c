/* Optimizers: plain loops over the parameters that exist, in the formulas of torch's fused ones. */
#include "network.h"

typedef struct {
    enum Kind kind;
    int nesterov;
    real rate, eps, momentum;
    real beta2, other1, other2; /* 1 - beta1 and 1 - beta2: rounded from double, for 1 - 0.999f is 1e-5 off */
    real decay;       /* times the weight, added to the gradient (AdamW has `shrink` instead) */
    real l2;          /* times the weight, added to the gradient */
    real step, root;  /* rate / (1 - beta1^t), and 1 / sqrt(1 - beta2^t) */
    real shrink;      /* of the weight, by AdamW's decay */
    real clip;        /* times the gradient */
} Update;

/* The update that leads from step t - 1 to t = `updates`. */
static Update update_of(const Network *net, double rate, int64_t updates)
{
    Update u = {.kind = (enum Kind)net->kind, .nesterov = net->nesterov, .rate = (real)rate, .clip = 1};
    u.beta2 = (real)net->beta2, u.other1 = (real)(1 - net->beta1), u.other2 = (real)(1 - net->beta2);
    u.eps = (real)net->eps;
    u.momentum = (real)net->momentum, u.decay = (real)net->weight_decay;
    u.step = (real)(rate / (1 - pow(net->beta1, (double)updates)));
    u.root = (real)(1 / sqrt(1 - pow(net->beta2, (double)updates)));
    u.shrink = (real)(net->kind == ADAMW ? 1 - rate * net->weight_decay : 1);
    return u;
}

INLINE void sgd(const Update *u, size_t n, real *restrict p, const real *restrict g, real *restrict m)
{
    real decay = u->decay + u->l2, rate = u->rate, momentum = u->momentum, clip = u->clip;
    real now = u->nesterov ? 1 : 0, past = u->nesterov ? momentum : 1;
    for (size_t i = 0; i < n; i++) {
        real gi = g[i] * clip + decay * p[i];
        m[i] = momentum * m[i] + gi;
        p[i] -= rate * (now * gi + past * m[i]);
    }
}
INLINE void adam(const Update *u, size_t n, real *restrict p, const real *restrict g, real *restrict m,
                 real *restrict v)
{
    real penalty = u->l2 + (u->kind == ADAMW ? 0 : u->decay), shrink = u->shrink;
    real one = u->other1, two = u->other2, beta2 = u->beta2, eps = u->eps, clip = u->clip;
    real step = u->step, root = u->root;
    for (size_t i = 0; i < n; i++) {
        real gi = g[i] * clip + penalty * p[i];
        real mi = m[i] + one * (gi - m[i]), vi = beta2 * v[i] + two * gi * gi;
        m[i] = mi;
        v[i] = vi;
#ifdef FLOAT64
        p[i] = p[i] * shrink - step * mi / (sqrt(vi) * root + eps);
#else
        p[i] = p[i] * shrink - step * mi / (sqrtf(vi) * root + eps);
#endif
    }
}
INLINE void update(const Update *u, size_t n, real *restrict p, const real *restrict g, real *restrict m,
                   real *restrict v)
{
    if (u->kind == SGD) sgd(u, n, p, g, m);
    else adam(u, n, p, g, m, v);
}
