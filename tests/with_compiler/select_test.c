/* select.c against a plain count and a plain sort, without Python: sizes around a block, ties, signs, infinities, masks
 * that leave everything or nothing, pointers of any alignment. Built with the sanitizers; ends at the first mistake. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tombola.c"

#define CHECK(what)                                                                                     \
    do {                                                                                                \
        if (!(what)) {                                                                                  \
            printf("%s:%d: %s (width %d, case %s, n = %d)\n", __FILE__, __LINE__, #what, width, name, n); \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

enum { MOST = 3 * SELECT_BLOCK + 5 };

static int width, n;       /* bits of a float, and how many there are */
static const char *name;   /* of the values */
static double plain[MOST]; /* the values; all of them are floats of either width */
static uint8_t *among;     /* NULL, or a byte for each value */
static void *values;       /* the same values, unaligned, at the very end of their allocation */
static int64_t counts[SELECT_TABLES * BINS];

/* ------------------------------------------------------------------ what is right */

static int64_t key_of(double value)
{
    int64_t bits = 0;
    if (width == 32) {
        float single = (float)fabs(value);
        memcpy(&bits, &single, sizeof single); /* little-endian, as every machine that Tombola is built for */
    } else {
        double positive = fabs(value);
        memcpy(&bits, &positive, sizeof positive);
    }
    return value < 0 ? -bits : bits;
}

static int candidate(int i) { return !among || among[i]; }

/* The key of the k-th smallest candidate by counting those below each, and how many equal ones belong to the k. */
static int64_t expected_cut(int k, int64_t *ties)
{
    for (int i = 0; i < n; i++) {
        int below = 0, equal = 0;
        for (int j = 0; j < n; j++) {
            below += candidate(j) && plain[j] < plain[i];
            equal += candidate(j) && plain[j] == plain[i];
        }
        if (candidate(i) && below < k && k <= below + equal) {
            *ties = k - below;
            return key_of(plain[i]);
        }
    }
    abort();
}

/* ------------------------------------------------------------------ the kernels, as tombola/tensors.py drives them */

static int64_t counted(int bin)
{
    int64_t sum = 0;
    for (int table = 0; table < SELECT_TABLES; table++) sum += counts[table * BINS + bin];
    return sum;
}

static int64_t actual_cut(int k, int64_t *ties)
{
    int64_t prefix = 0, left = k;
    for (int shift = width - DIGIT; shift >= 0; shift -= DIGIT) {
        int top = shift == width - DIGIT, digit = 0;
        memset(counts, 0, sizeof counts);
        if (width == 32) {
            if (top) tombola_count_top_32(values, among, n, counts);
            else tombola_count_within_32(values, among, n, shift, prefix, counts);
        } else {
            if (top) tombola_count_top_64(values, among, n, counts);
            else tombola_count_within_64(values, among, n, shift, prefix, counts);
        }
        for (; counted(digit) < left; digit++) left -= counted(digit);
        prefix = top ? digit - BINS / 2 : prefix * BINS + digit;
    }
    *ties = left;
    return prefix;
}

static void check_marks(int64_t key, int64_t ties)
{
    uint8_t *chosen = malloc((size_t)n + 1);
    uint8_t *marks = chosen + 1; /* unaligned, too, and all of it uninitialised */
    int64_t left = ties;
    int64_t rest = width == 32 ? tombola_mark_32(values, among, n, key, ties, marks)
                               : tombola_mark_64(values, among, n, key, ties, marks);
    for (int i = 0; i < n; i++) {
        int64_t mine = key_of(plain[i]);
        int tie = candidate(i) && mine == key && left > 0;
        left -= tie;
        CHECK(marks[i] == (tie || (candidate(i) && mine < key)));
    }
    CHECK(rest == left);
    free(chosen);
}

static void check_values(void)
{
    int candidates = 0;
    for (int i = 0; i < n; i++) candidates += candidate(i);
    memset(counts, 0, sizeof counts);
    if (width == 32) tombola_count_top_32(values, among, n, counts);
    else tombola_count_top_64(values, among, n, counts);
    int64_t all = 0;
    for (int i = 0; i < SELECT_TABLES * BINS; i++) all += counts[i];
    CHECK(all == candidates);

    check_marks(width == 32 ? INT32_MIN : INT64_MIN, 0); /* k = 0 */
    check_marks(width == 32 ? INT32_MAX : INT64_MAX, 0); /* k = all */
    int ks[] = {1, candidates / 3, candidates / 2, candidates - 1, candidates};
    for (int i = 0; i < 5; i++) {
        if (ks[i] < 1 || ks[i] > candidates) continue;
        int64_t wanted_ties = 0, ties = 0, wanted = expected_cut(ks[i], &wanted_ties), key = actual_cut(ks[i], &ties);
        CHECK(key == wanted);
        CHECK(ties == wanted_ties);
        check_marks(key, ties);
        check_marks(key, 0);
    }
}

/* ------------------------------------------------------------------ the cases */

static uint64_t state;
static uint64_t draw(void) { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 33; }

static double value_of(int kind)
{
    static const double special[] = {0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, 0x1p-149, -0x1p-149, 0x1p-126, 3e38f, -3e38f};
    float sum = (float)draw() - (float)draw();
    switch (kind) {
    case 0: return sum * 0x1p-31f;
    case 1: return -fabsf(sum) - 1;
    case 2: return 0.5;
    case 3: return (double)(draw() % 3) - 1;
    case 4: return 1 + (float)(draw() % 4096) * 0x1p-23f; /* one top digit */
    default: return special[draw() % (sizeof special / sizeof *special)];
    }
}

int main(void)
{
    static const char *names[] = {"signed", "all negative", "all equal", "ties", "one top digit", "special"};
    static const int sizes[] = {0, 1, 2, 7, SELECT_BLOCK - 1, SELECT_BLOCK, SELECT_BLOCK + 1, 2 * SELECT_BLOCK, MOST};
    for (width = 32; width <= 64; width += 32)
        for (int kind = 0; kind < 6; kind++)
            for (int s = 0; s < (int)(sizeof sizes / sizeof *sizes); s++)
                for (int masked = 0; masked < 4; masked++) {
                    name = names[kind];
                    n = sizes[s];
                    size_t bytes = (size_t)(width / 8) * (size_t)n;
                    char *room = malloc(bytes + 1);
                    values = room + 1;
                    for (int i = 0; i < n; i++) {
                        plain[i] = value_of(kind);
                        float single = (float)plain[i];
                        if (width == 32) memcpy(room + 1 + 4 * i, &single, sizeof single);
                        else memcpy(room + 1 + 8 * i, &plain[i], sizeof plain[i]);
                    }
                    uint8_t *mask = malloc((size_t)n + 1);
                    for (int i = 0; i < n; i++) /* nothing, all, or some; what is not 0 is a candidate */
                        mask[i + 1] = masked == 1 ? 0 : masked == 2 ? 1 : (uint8_t)(draw() % 3);
                    among = masked ? mask + 1 : NULL;
                    check_values();
                    free(mask);
                    free(room);
                }
    n = 0;
    CHECK(tombola_abi() == TOMBOLA_ABI);
    CHECK(tombola_cpu_runs("generic") && tombola_cpu_runs("float64") && !tombola_cpu_runs("avx1024"));
    puts("select: ok");
    return 0;
}
