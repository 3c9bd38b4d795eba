/* Exact selection of the k smallest floats: the digit counts of a radix search, and the marking of what it found.
 *
 * Floats are compared as integers in the same order, symmetric about 0, so that -0.0 and 0.0 are both 0. The search
 * itself (which digit the threshold has, NaN, the range of k) stands in tombola/tensors.py; here is what touches every
 * value. Nothing is copied or allocated, and pointers may have any alignment.
 *
 * The arithmetic is done by vectors over a block of values; only the counting is one value at a time. So every kernel
 * has a function for one block that is inlined twice: for a whole block, where the size is a constant that the compiler
 * unrolls by, and for the rest at the end.
 */
#include <stdint.h>
#include <string.h>

#include "export.h"

enum {
    DIGIT = 16,          /* bits of a digit */
    BINS = 1 << DIGIT,
    SELECT_TABLES = 2,   /* equal neighbours count in different tables: else each would wait for the other's store */
    SELECT_BLOCK = 64,   /* values looked at together */
};

#define SELECT_INLINE static inline __attribute__((always_inline))

/* `weights[i]` (0 or 1; NULL: 1) more in the count of digits[i]. Digits are loaded by fours: they have just been stored
 * as a vector, and each load from a store on its way costs as much as the count. */
SELECT_INLINE void tally(const uint16_t *digits, const uint8_t *weights, int size, int64_t *counts)
{
    int i = 0;
    for (; i + 4 <= size; i += 4) {
        uint64_t four;
        memcpy(&four, digits + i, sizeof four);
        for (int j = 0; j < 4; j++)
            counts[j % SELECT_TABLES * BINS + (uint16_t)(four >> DIGIT * j)] += weights ? weights[i + j] : 1;
    }
    for (; i < size; i++) counts[digits[i]] += weights ? weights[i] : 1;
}

#define WIDTH 32
#define INTEGER int32_t
#define NAMED(name) name##_32
#include "select_kernels.h"

#define WIDTH 64
#define INTEGER int64_t
#define NAMED(name) name##_64
#include "select_kernels.h"
