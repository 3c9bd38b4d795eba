/* All compiled kernels as one translation unit, built once for each instruction set (see setup.py). */
#include <stdint.h>
#include <string.h>

#include "export.h"
#include "select.c"
#include "input.c"
#include "csr.c"
#include "blocks.c"
#include "optimizer.c"
#include "ink.c"
#include "noise.c"
#include "loss.c"
#include "conv.c"
#include "room.c"
#include "images.c"
#include "passes.c"
#include "train.c"
#include "evaluate.c"
#include "single.c"
#include "motifs.c"

/* ------------------------------------------------------------------ what the loader asks before anything else */

EXPORT int32_t tombola_abi(void);
EXPORT int32_t tombola_cpu_runs(const char *variant);

EXPORT int32_t tombola_abi(void) { return TOMBOLA_ABI; }

/* Whether this processor, under this operating system, runs the library of that name. Asked of the generic library,
 * since another one may hold instructions that the processor lacks. */
EXPORT int32_t tombola_cpu_runs(const char *variant)
{
    if (!strcmp(variant, "generic") || !strcmp(variant, "float64")) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("avx") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("fma");
    if (!strcmp(variant, "avx2")) return avx2;
    if (!strcmp(variant, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}
