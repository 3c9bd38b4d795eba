/* The network as the caller lays it out. tombola/native/layout.py mirrors these structures field by field. */
#ifndef TOMBOLA_NETWORK_H
#define TOMBOLA_NETWORK_H

#include "vector.h"

enum { MAX_LAYERS = 16 };
enum Format { CSR = 0, BLOCKS = 1, INK = 2 };
enum Activation { IDENTITY = 0, RELU = 1, TANH = 2 };
enum Kind { SGD = 0, ADAM = 1, ADAMW = 2 };
enum Loss { CROSS_ENTROPY = 0, SQUARED_ERROR = 1 };

/* One layer, Linear or a convolution, and the activation behind it. A convolution is 3 x 3 over images of `height` x
 * `width` with a border of zeros; its weights are a matrix of (outputs) x (9 * input channels), in CSR, and a 2 x 2 pool
 * may stand behind its activation, which is RELU or IDENTITY. Convolutions come before all Linear layers. Stored values lie in the parameter vector at `values`:
 *   CSR     one for each surviving weight, row by row; `start` has rows + 1 entries, `column` one for each value
 *           and three more (any columns); behind the first layer also the transposed index: `column_start`
 *           (columns + 1), `row` and `slot` (which value)
 *   BLOCKS  four for each block of four rows and one column with a survivor; `start` has rows / 4 + 1 entries, `column`
 *           and `keep` one for each block (bit r of `keep`: row r survives)
 *   INK     all, in bands of BAND vectors of rows, column by column (see ink.c); `keep` has a bit for each value or is
 *           NULL; only for the first layer, over bytes most of which are 0 */
typedef struct {
    int32_t rows, columns, format, activation;
    int32_t has_bias;
    int32_t height, width, pool;   /* of a convolution: the images it reads, and whether a pool follows; 0: Linear */
    uint32_t drop_below;           /* dropout: hash < this * 2^-24 is dropped; 0: none */
    uint32_t noise[2];             /* words of the dropout stream */
    int64_t values, stored, bias;  /* places in the parameter vector, number of stored values */
    const int32_t *start;
    const uint16_t *column;
    const uint8_t *keep;
    const int32_t *column_start, *row, *slot;
    double drop_scale, l2;
} Layer;

/* Examples, row-major: bytes or numbers. Bytes without scales of their own follow the one map of the network. */
typedef struct {
    const uint8_t *bytes;      /* n x features, or NULL */
    const float *numbers;      /* n x features, or NULL: exactly one of the two is there */
    const int32_t *labels;     /* n class labels, or NULL */
    const float *targets;      /* n x outputs, or NULL */
    const int64_t *ink_start;  /* for INK: the bytes that are not 0, example by example; count + 1 places */
    const uint16_t *ink_column;
    const uint8_t *ink_value;
    int64_t count;
    int32_t features;
    const float *scale, *shift; /* one for each feature, or NULL: the network's */
} Examples;

typedef struct {
    int32_t layers, loss, kind, nesterov;
    double beta1, beta2, eps, momentum, weight_decay, clip_norm, smoothing;
    double scale, shift;       /* a byte b is the input scale * b + shift */
    const int32_t *order;      /* column of a tile -> feature: a permutation; columns that are often 0 come last;
                                  the features as they are, if the first layer is a convolution */
    int64_t parameters;
    real *param, *first, *second, *gradient; /* weights, optimizer moments, room for gradients: `parameters` each */
    int64_t updates;           /* optimizer steps so far, for the bias corrections */
    Layer layer[MAX_LAYERS];
} Network;

#endif
