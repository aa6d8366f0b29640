/* Inside of gatetable.c: the kernels of each instruction set, the choice among them, and the
 * processor's float mode while they run.
 */

#define GT_SIMD_PORTABLE 1
#define GT_FN(name) gt_##name##_portable
#include "gru_kernel.h"
#undef GT_SIMD_PORTABLE
#undef GT_FN

#if defined(__x86_64__)
#define GT_SIMD_AVX2 1
#define GT_FN(name) gt_##name##_avx2
#include "gru_kernel.h"
#undef GT_SIMD_AVX2
#undef GT_FN

#define GT_SIMD_AVX512 1
#define GT_FN(name) gt_##name##_avx512
#include "gru_kernel.h"
#undef GT_SIMD_AVX512
#undef GT_FN

#define GT_SIMD_AVX512VNNI 1
#define GT_FN(name) gt_##name##_avx512vnni
#include "gru_kernel.h"
#undef GT_SIMD_AVX512VNNI
#undef GT_FN
#endif

static const gt_kernel *gt_find_kernel(const char *isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                         __builtin_cpu_supports("f16c");
    const int has_avx512 =
        has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (strcmp(isa, "avx512vnni") == 0)
        return has_avx512 && __builtin_cpu_supports("avx512vnni") ? &gt_kernel_avx512vnni : NULL;
    if (strcmp(isa, "avx512") == 0) return has_avx512 ? &gt_kernel_avx512 : NULL;
    if (strcmp(isa, "avx2") == 0) return has_avx2 ? &gt_kernel_avx2 : NULL;
#endif
    return strcmp(isa, "portable") == 0 ? &gt_kernel_portable : NULL;
}

const char *const *gt_list_isas(void) {
    /* One list for each number of sets that are missing at its head: nothing to initialise. */
    static const char *const all[] = {"avx512vnni", "avx512", "avx2", "portable", NULL};
    const char *const *best = all;
    while (gt_find_kernel(*best) == NULL) ++best;
    return best;
}

static gt_status gt_choose_isa(const char *isa, const char **name, const gt_kernel **kernel,
                               char *message) {
    if (isa == NULL) isa = getenv("GATETABLE_ISA");
    if (isa == NULL || *isa == 0) isa = *gt_list_isas();
    *kernel = gt_find_kernel(isa);
    if (*kernel == NULL)
        return gt_fail(message, GT_ERROR_ISA,
                       "GATETABLE_ISA: expected an instruction set of this machine (best: %s), "
                       "found %.40s.",
                       *gt_list_isas(), isa);
    for (const char *const *known = gt_list_isas(); *known != NULL; ++known)
        if (strcmp(*known, isa) == 0) *name = *known;
    return GT_OK;
}

/* Denormal numbers make products up to 100 times slower and mean nothing here: they count as 0
 * while we compute, and the caller's setting is put back. */
typedef uint64_t gt_float_mode;

static gt_float_mode gt_flush_denormals(void) {
#if defined(__SSE__)
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040u); /* FTZ, DAZ */
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | (1u << 24)));
    return saved;
#else
    return 0;
#endif
}

static void gt_restore_denormals(gt_float_mode saved) {
#if defined(__SSE__)
    _mm_setcsr((unsigned)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
    (void)saved;
#endif
}
