/* The kernels of select.c for floats of WIDTH bits, whose bits are an INTEGER; included once for each width.
 *
 * Everywhere `among` is NULL, or holds a byte for each value that is not 0 where the value is a candidate; `counts` is
 * int64[SELECT_TABLES][BINS], is added to, and means the sums over its tables.
 */

typedef INTEGER NAMED(bits) __attribute__((may_alias, aligned(1)));

SELECT_INLINE INTEGER NAMED(ordered)(INTEGER bits)
{
    INTEGER sign = bits >> (WIDTH - 1);
    return ((sign & (INTEGER)(((uint64_t)1 << (WIDTH - 1)) - 1)) ^ bits) - sign;
}

/* ------------------------------------------------------------------ round 1: counts of the top digit */

SELECT_INLINE void NAMED(count_top_block)(const NAMED(bits) * bits, const uint8_t *among, int size, int64_t *counts)
{
    uint16_t digits[SELECT_BLOCK];
    uint8_t weights[SELECT_BLOCK];
    for (int i = 0; i < size; i++) digits[i] = (uint16_t)((NAMED(ordered)(bits[i]) >> (WIDTH - DIGIT)) + BINS / 2);
    if (!among) {
        tally(digits, NULL, size, counts);
    } else {
        for (int i = 0; i < size; i++) weights[i] = among[i] != 0;
        tally(digits, weights, size, counts);
    }
}

EXPORT void NAMED(tombola_count_top)(const void *values, const uint8_t *among, int64_t n, int64_t *counts);

/* Counts the top digit, plus BINS / 2, of the candidates among n values. */
EXPORT void NAMED(tombola_count_top)(const void *values, const uint8_t *among, int64_t n, int64_t *counts)
{
    const NAMED(bits) *bits = values;
    int64_t i = 0;
    for (; i + SELECT_BLOCK <= n; i += SELECT_BLOCK)
        NAMED(count_top_block)(bits + i, among ? among + i : NULL, SELECT_BLOCK, counts);
    NAMED(count_top_block)(bits + i, among ? among + i : NULL, (int)(n - i), counts);
}

/* ------------------------------------------------------------------ later rounds: counts within a prefix */

/* Few values have the prefix as a rule, so most blocks end at the comparison. In the others a value without it weighs 0
 * in a bin of its own: all of them in one bin would wait for each other. */
SELECT_INLINE void NAMED(count_within_block)(const NAMED(bits) * bits, const uint8_t *among, int size, int shift,
                                             INTEGER prefix, int64_t *counts)
{
    uint16_t digits[SELECT_BLOCK];
    uint8_t weights[SELECT_BLOCK];
    int found = 0;
    for (int i = 0; i < size; i++) found |= NAMED(ordered)(bits[i]) >> (shift + DIGIT) == prefix;
    if (!found) return;
    for (int i = 0; i < size; i++) {
        INTEGER key = NAMED(ordered)(bits[i]);
        int has = key >> (shift + DIGIT) == prefix;
        digits[i] = has ? (uint16_t)(key >> shift) : (uint16_t)i;
        weights[i] = (uint8_t)has;
    }
    if (among)
        for (int i = 0; i < size; i++) weights[i] &= among[i] != 0;
    tally(digits, weights, size, counts);
}

EXPORT void NAMED(tombola_count_within)(const void *values, const uint8_t *among, int64_t n, int32_t shift,
                                        int64_t prefix, int64_t *counts);

/* Counts the digit at `shift` of those candidates whose higher bits, as a signed number, are `prefix`. */
EXPORT void NAMED(tombola_count_within)(const void *values, const uint8_t *among, int64_t n, int32_t shift,
                                        int64_t prefix, int64_t *counts)
{
    const NAMED(bits) *bits = values;
    int64_t i = 0;
    for (; i + SELECT_BLOCK <= n; i += SELECT_BLOCK)
        NAMED(count_within_block)(bits + i, among ? among + i : NULL, SELECT_BLOCK, shift, (INTEGER)prefix, counts);
    NAMED(count_within_block)(bits + i, among ? among + i : NULL, (int)(n - i), shift, (INTEGER)prefix, counts);
}

/* ------------------------------------------------------------------ marking */

SELECT_INLINE int64_t NAMED(mark_block)(const NAMED(bits) * bits, const uint8_t *among, int size, INTEGER threshold,
                                        int64_t ties, uint8_t *chosen)
{
    int equal = 0;
    for (int i = 0; i < size; i++) {
        INTEGER key = NAMED(ordered)(bits[i]);
        chosen[i] = key < threshold;
        equal |= key == threshold;
    }
    if (among)
        for (int i = 0; i < size; i++) chosen[i] &= among[i] != 0;
    if (!equal) return ties;
    for (int i = 0; i < size && ties; i++)
        if (NAMED(ordered)(bits[i]) == threshold && (!among || among[i])) {
            chosen[i] = 1;
            ties--;
        }
    return ties;
}

EXPORT int64_t NAMED(tombola_mark)(const void *values, const uint8_t *among, int64_t n, int64_t threshold, int64_t ties,
                                   uint8_t *chosen);

/* chosen[i] = 1 at candidates below the threshold and at the first `ties` equal to it, else 0; returns the ties left. */
EXPORT int64_t NAMED(tombola_mark)(const void *values, const uint8_t *among, int64_t n, int64_t threshold, int64_t ties,
                                   uint8_t *chosen)
{
    const NAMED(bits) *bits = values;
    int64_t i = 0;
    for (; i + SELECT_BLOCK <= n; i += SELECT_BLOCK)
        ties = NAMED(mark_block)(bits + i, among ? among + i : NULL, SELECT_BLOCK, (INTEGER)threshold, ties, chosen + i);
    return NAMED(mark_block)(bits + i, among ? among + i : NULL, (int)(n - i), (INTEGER)threshold, ties, chosen + i);
}

#undef WIDTH
#undef INTEGER
#undef NAMED
