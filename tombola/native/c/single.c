/* One example at a time, column by column: an input or a unit that is 0 costs nothing. */
#include "export.h"
#include "network.h"

/* One layer by columns: `start` has columns + 1 entries; `row` and `value` lie column by column. */
typedef struct {
    int32_t rows, columns, activation;
    const int32_t *start, *row;
    const float *value, *bias;
} Columns;

EXPORT void tombola_single(const Columns *layers, int32_t count, int64_t examples, const float *numbers,
                           const uint8_t *bytes, float scale, float shift, float *room, float *outputs);

INLINE void add_column(const Columns *l, int c, float x, float *y)
{
    for (int k = l->start[c]; k < l->start[c + 1]; k++) y[l->row[k]] += l->value[k] * x;
}

/* Outputs of some examples, row by row. Inputs are `numbers`, or `bytes` with their affine map; `room` holds twice the
 * units of the widest layer. */
EXPORT void tombola_single(const Columns *layers, int32_t count, int64_t examples, const float *numbers,
                           const uint8_t *bytes, float scale, float shift, float *room, float *outputs)
{
    int width = layers[count - 1].rows, features = layers[0].columns, widest = 0;
    for (int i = 0; i < count; i++) widest = layers[i].rows > widest ? layers[i].rows : widest;
    for (int64_t e = 0; e < examples; e++) {
        const float *x = numbers ? numbers + (size_t)e * features : NULL;
        for (int i = 0; i < count; i++) {
            const Columns *l = &layers[i];
            float *y = i + 1 == count ? outputs + (size_t)e * width : room + (size_t)(i & 1) * widest;
            memcpy(y, l->bias, sizeof(float) * (size_t)l->rows);
            if (!x)
                for (int c = 0; c < l->columns; c++) {
                    float value = (float)bytes[(size_t)e * features + c] * scale + shift;
                    if (value != 0) add_column(l, c, value, y);
                }
            else
                for (int c = 0; c < l->columns; c++)
                    if (x[c] != 0) add_column(l, c, x[c], y);
            if (l->activation == RELU)
                for (int r = 0; r < l->rows; r++) y[r] = y[r] < 0 ? 0 : y[r];
            if (l->activation == TANH)
                for (int r = 0; r < l->rows; r++) y[r] = tanhf(y[r]);
            x = y;
        }
    }
}
