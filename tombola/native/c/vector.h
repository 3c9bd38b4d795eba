/* Numbers, and vectors of exactly one hardware register.
 *
 * Everything is written once in GNU C vector extensions and compiled once per instruction set. Three rules keep the one
 * source fast everywhere:
 *   1. a vector has the size of a register: GCC keeps wider ones in memory;
 *   2. accumulators are small local arrays indexed by constants only, their number chosen from the register count;
 *   3. the only conversion of integers is int32 -> float, one instruction on every machine.
 * With FLOAT64 the same kernels compute in double: slow, to check the others against. */
#ifndef TOMBOLA_VECTOR_H
#define TOMBOLA_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef FLOAT64
typedef double real;
typedef int64_t lane;
typedef uint64_t ulane;
#else
typedef float real;
typedef int32_t lane;
typedef uint32_t ulane;
#endif

#ifdef FLOAT64
enum { VEC_BYTES = 32, REGISTERS = 16 }; /* in memory, for a vector has four numbers at least */
#elif defined(__AVX512F__)
enum { VEC_BYTES = 64, REGISTERS = 32 };
#elif defined(__AVX2__)
enum { VEC_BYTES = 32, REGISTERS = 16 };
#elif defined(__aarch64__)
enum { VEC_BYTES = 16, REGISTERS = 32 };
#else
enum { VEC_BYTES = 16, REGISTERS = 16 };
#endif

enum {
    TILE = 64,                        /* samples that pass through the network together */
    LANES = VEC_BYTES / sizeof(real), /* numbers in a vector */
    ROW_VECS = TILE / LANES,          /* vectors in a row of samples */
    CACHE_LINE = 64,                  /* bytes; buffers start on one */
    PADDING = 16,                     /* parameters: every tensor starts at a multiple of this */
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef real vec __attribute__((vector_size(VEC_BYTES), may_alias));
typedef real vec_unaligned __attribute__((vector_size(VEC_BYTES), may_alias, aligned(sizeof(real))));
typedef lane ivec __attribute__((vector_size(VEC_BYTES), may_alias));
typedef ulane uvec __attribute__((vector_size(VEC_BYTES), may_alias));
typedef real four __attribute__((vector_size(4 * sizeof(real)), may_alias));
typedef real four_unaligned __attribute__((vector_size(4 * sizeof(real)), may_alias, aligned(sizeof(real))));

/* Lanes of a mask are 0 or -1, as a comparison of vectors gives. */
INLINE vec choose(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
INLINE vec where(ivec mask, vec a) { return (vec)(mask & (ivec)a); }
INLINE vec all(real value) { return (vec){0} + value; }

/* The sums of four vectors. `pairs` adds neighbours within 128 bits and puts the results of a and b side by side. */
#ifdef FLOAT64
INLINE four sums(vec a, vec b, vec c, vec d)
{
    return (four){a[0] + a[1] + a[2] + a[3], b[0] + b[1] + b[2] + b[3], c[0] + c[1] + c[2] + c[3],
                  d[0] + d[1] + d[2] + d[3]};
}
#else
#if defined(__AVX512F__)
INLINE vec pairs(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
}
#elif defined(__AVX2__)
INLINE vec pairs(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}
#else
INLINE vec pairs(vec a, vec b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
#endif
INLINE four sums(vec a, vec b, vec c, vec d)
{
    union { vec whole; four part[VEC_BYTES / 16]; } parts;
    parts.whole = pairs(pairs(a, b), pairs(c, d));
    four result = parts.part[0];
    UNROLL for (int i = 1; i < VEC_BYTES / 16; i++) result += parts.part[i];
    return result;
}
#endif

/* to[i][j] = from[j][i] for four rows of four numbers. */
INLINE void transpose4_rows(const real *const from[4], real *to, size_t to_stride)
{
#ifdef FLOAT64
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) to[(size_t)i * to_stride + j] = from[j][i];
#else
    four a = *(const four_unaligned *)from[0], b = *(const four_unaligned *)from[1];
    four c = *(const four_unaligned *)from[2], d = *(const four_unaligned *)from[3];
    four ac = __builtin_shufflevector(a, c, 0, 4, 1, 5), bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
    four ca = __builtin_shufflevector(a, c, 2, 6, 3, 7), db = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    *(four *)to = __builtin_shufflevector(ac, bd, 0, 4, 1, 5);
    *(four *)(to + to_stride) = __builtin_shufflevector(ac, bd, 2, 6, 3, 7);
    *(four *)(to + 2 * to_stride) = __builtin_shufflevector(ca, db, 0, 4, 1, 5);
    *(four *)(to + 3 * to_stride) = __builtin_shufflevector(ca, db, 2, 6, 3, 7);
#endif
}
INLINE void transpose4(const real *from, size_t from_stride, real *to, size_t to_stride)
{
    const real *const rows[4] = {from, from + from_stride, from + 2 * from_stride, from + 3 * from_stride};
    transpose4_rows(rows, to, to_stride);
}

/* exp(x) for x <= 0; relative error 1e-7. Not finite where x is not. */
INLINE vec exp_negative(vec x)
{
#ifdef FLOAT64
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
#else
    x = choose(x < -87.f, all(-87.f), x);
    ivec n = __builtin_convertvector(choose(x == x, x, (vec){0}) * 1.44269504f - 0.5f, ivec);
    vec whole = __builtin_convertvector(n, vec);
    vec rest = x - whole * 0.693359375f + whole * 2.12194440e-4f; /* log 2 in two parts */
    vec p = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * rest * rest + rest + 1.f;
    return p * (vec)((n + 127) << 23);
#endif
}

/* tanh(x): a polynomial near 0, where 1 - exp would cancel, the exponential elsewhere; error 1e-7. */
INLINE vec tanh_vec(vec x)
{
#ifdef FLOAT64
    for (int i = 0; i < LANES; i++) x[i] = tanh(x[i]);
    return x;
#else
    vec size = (vec)((ivec)x & 0x7fffffff), square = x * x;
    vec e = exp_negative(size * -2.f), far = (1.f - e) / (1.f + e);
    vec p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    vec near = x * square * p + x;
    return choose(size < 0.625f, near, choose(x < 0.f, -far, far));
#endif
}
#endif
