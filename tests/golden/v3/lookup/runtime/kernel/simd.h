/* Vector primitives of one instruction set, for gru_kernel.h. Included once for each.
 *
 * The includer defines GT_SIMD_<SET> (AVX512VNNI, AVX512, AVX2 or PORTABLE). This file defines
 *
 *     GT_W           float32 lanes of a vector
 *     GT_ROWS        rows that share a weight panel in registers
 *     GT_GROUP       panels that one row works on at a time
 *     GT_TARGET      function attribute that allows the instructions
 *     gt_vf, gt_vi   vectors of GT_W float32 and int32
 *
 * and the V_ macros below. GT_ROWS x 3 and 3 x GT_GROUP accumulators must leave a few registers
 * free: 12 of 16 on AVX2, 24 of 32 on AVX-512.
 */

#undef GT_W
#undef GT_ROWS
#undef GT_GROUP
#undef GT_TARGET
#undef gt_vf
#undef gt_vi
#undef V_ZERO
#undef V_SET
#undef V_LOAD
#undef V_STORE
#undef V_ADD
#undef V_SUB
#undef V_MUL
#undef V_FMA
#undef V_MIN
#undef V_MAX
#undef V_RECIPROCAL
#undef V_AS_INT
#undef V_AS_FLOAT
#undef VI_ADD
#undef VI_SHIFT_LEFT
#undef VI_ZERO
#undef VI_SET
#undef VI_TO_FLOAT
#undef VI_LOAD_INT16
#undef VI_LOAD_INT8
#undef VI_DOT_INT16
#undef V_STORE_INT16
#undef V_LOAD_FLOAT16
#undef V_FROM_INT16
#undef V_FROM_INT8

#if defined(GT_SIMD_AVX512VNNI) || defined(GT_SIMD_AVX512)

#define GT_W 16
#define GT_ROWS 8
#define GT_GROUP 8
#if defined(GT_SIMD_AVX512VNNI)
#define GT_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#else
#define GT_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")))
#endif
#define gt_vf __m512
#define gt_vi __m512i
#define V_ZERO() _mm512_setzero_ps()
#define V_SET(x) _mm512_set1_ps(x)
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUB(a, b) _mm512_sub_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_MIN(a, b) _mm512_min_ps(a, b)
#define V_MAX(a, b) _mm512_max_ps(a, b)
/* A division costs 10 cycles a vector here; an estimate of 14 bits and one Newton step a third. */
#define V_RECIPROCAL(a)                                                                       \
    _mm512_mul_ps(_mm512_rcp14_ps(a),                                                         \
                  _mm512_fnmadd_ps(a, _mm512_rcp14_ps(a), _mm512_set1_ps(2.0f)))
#define V_AS_INT(v) _mm512_castps_si512(v)
#define V_AS_FLOAT(v) _mm512_castsi512_ps(v)
#define VI_ADD(a, b) _mm512_add_epi32(a, b)
#define VI_SHIFT_LEFT(a, bits) _mm512_slli_epi32(a, bits)
#define VI_ZERO() _mm512_setzero_si512()
#define VI_SET(x) _mm512_set1_epi32(x)
#define VI_TO_FLOAT(a) _mm512_cvtepi32_ps(a)
#define VI_LOAD_INT16(p) _mm512_loadu_si512(p)
#define VI_LOAD_INT8(p) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p)))
#if defined(GT_SIMD_AVX512VNNI)
/* gcc 12 copies and spills the accumulators of the intrinsic. */
#define VI_DOT_INT16(sum, a, b) __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b))
#else
#define VI_DOT_INT16(sum, a, b)                                                               \
    do {                                                                                      \
        __m512i product_;                                                                     \
        __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"                                    \
                : "+v"(sum), "=&v"(product_)                                                  \
                : "v"(a), "vm"(b));                                                           \
    } while (0)
#endif
#define V_STORE_INT16(p, v) \
    _mm256_storeu_si256((__m256i *)(p), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)))
#define V_LOAD_FLOAT16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define V_FROM_INT16(p) \
    _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(p))))
#define V_FROM_INT8(p) \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))

#elif defined(GT_SIMD_AVX2)

#define GT_W 8
#define GT_ROWS 4
#define GT_GROUP 4
#define GT_TARGET __attribute__((target("avx2,fma,f16c")))
#define gt_vf __m256
#define gt_vi __m256i
#define V_ZERO() _mm256_setzero_ps()
#define V_SET(x) _mm256_set1_ps(x)
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_SUB(a, b) _mm256_sub_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_MIN(a, b) _mm256_min_ps(a, b)
#define V_MAX(a, b) _mm256_max_ps(a, b)
#define V_RECIPROCAL(a) _mm256_div_ps(_mm256_set1_ps(1.0f), a)
#define V_AS_INT(v) _mm256_castps_si256(v)
#define V_AS_FLOAT(v) _mm256_castsi256_ps(v)
#define VI_ADD(a, b) _mm256_add_epi32(a, b)
#define VI_SHIFT_LEFT(a, bits) _mm256_slli_epi32(a, bits)
#define VI_ZERO() _mm256_setzero_si256()
#define VI_SET(x) _mm256_set1_epi32(x)
#define VI_TO_FLOAT(a) _mm256_cvtepi32_ps(a)
#define VI_LOAD_INT16(p) _mm256_loadu_si256((const __m256i *)(p))
#define VI_LOAD_INT8(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
/* From intrinsics gcc 12 loads far ahead and spills the accumulators: half the speed. */
#define VI_DOT_INT16(sum, a, b)                                                               \
    do {                                                                                      \
        __m256i product_;                                                                     \
        __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"                                    \
                : "+x"(sum), "=&x"(product_)                                                  \
                : "x"(a), "xm"(b));                                                           \
    } while (0)
#define V_STORE_INT16(p, v)                                                                   \
    do {                                                                                      \
        __m256i rounded_ = _mm256_cvtps_epi32(v);                                             \
        _mm_storeu_si128((__m128i *)(p), _mm_packs_epi32(_mm256_castsi256_si128(rounded_),    \
                                                         _mm256_extracti128_si256(rounded_, 1))); \
    } while (0)
#define V_LOAD_FLOAT16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define V_FROM_INT16(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define V_FROM_INT8(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))

#else /* GT_SIMD_PORTABLE: the compiler's vector extensions, lowered to whatever there is */

#define GT_W 4
#define GT_ROWS 4
#define GT_GROUP 4
#define GT_TARGET
typedef float gt_v4 __attribute__((vector_size(16)));
typedef float gt_v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t gt_i4 __attribute__((vector_size(16)));
static inline gt_v4 gt_select4(gt_i4 mask, gt_v4 a, gt_v4 b) {
    return (gt_v4)((mask & (gt_i4)a) | (~mask & (gt_i4)b));
}
/* Two int16 products of each of four pairs, summed: what pmaddwd does. */
static inline gt_i4 gt_dot4(gt_i4 sum, gt_i4 a, gt_i4 b) {
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
}
static inline gt_i4 gt_load4_int16(const int16_t *p) {
    gt_i4 pairs;
    memcpy(&pairs, p, sizeof pairs);
    return pairs;
}
static inline gt_i4 gt_load4_int8(const int8_t *p) {
    gt_i4 pairs;
    for (int i = 0; i < 4; ++i)
        pairs[i] = (int32_t)(((uint32_t)(int32_t)p[2 * i + 1] << 16) |
                             ((uint32_t)(int32_t)p[2 * i] & 0xffffu));
    return pairs;
}
static inline void gt_store4_int16(int16_t *p, gt_v4 v) {
    for (int i = 0; i < 4; ++i) p[i] = (int16_t)lrintf(v[i]);
}
static inline float gt_half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    union {
        uint32_t bits;
        float value;
    } result;
    if (magnitude < 0x0400u) { /* denormal: exact in float32 */
        result.value = (float)magnitude * 0x1p-24f;
        result.bits |= sign;
    } else {
        result.bits = sign | ((magnitude << 13) + (112u << 23));
    }
    return result.value;
}
static inline gt_v4 gt_load4_float16(const uint16_t *p) {
    return (gt_v4){gt_half_to_float(p[0]), gt_half_to_float(p[1]), gt_half_to_float(p[2]),
                   gt_half_to_float(p[3])};
}
#define gt_vf gt_v4
#define gt_vi gt_i4
#define V_ZERO() ((gt_v4){0, 0, 0, 0})
#define V_SET(x) ((gt_v4){0, 0, 0, 0} + (float)(x))
#define V_LOAD(p) (*(const gt_v4_unaligned *)(p))
#define V_STORE(p, v) (*(gt_v4_unaligned *)(p) = (v))
#define V_ADD(a, b) ((a) + (b))
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_MIN(a, b) gt_select4((gt_i4)((a) < (b)), a, b)
#define V_MAX(a, b) gt_select4((gt_i4)((a) > (b)), a, b)
#define V_RECIPROCAL(a) (1.0f / (a))
#define V_AS_INT(v) ((gt_i4)(v))
#define V_AS_FLOAT(v) ((gt_v4)(v))
#define VI_ADD(a, b) ((a) + (b))
#define VI_SHIFT_LEFT(a, bits) ((a) << (bits))
#define VI_ZERO() ((gt_i4){0, 0, 0, 0})
#define VI_SET(x) ((gt_i4){0, 0, 0, 0} + (int32_t)(x))
#define VI_TO_FLOAT(a) __builtin_convertvector(a, gt_v4)
#define VI_LOAD_INT16(p) gt_load4_int16(p)
#define VI_LOAD_INT8(p) gt_load4_int8(p)
#define VI_DOT_INT16(sum, a, b) ((sum) = gt_dot4(sum, a, b))
#define V_STORE_INT16(p, v) gt_store4_int16(p, v)
#define V_LOAD_FLOAT16(p) gt_load4_float16((const uint16_t *)(p))
#define V_FROM_INT16(p) ((gt_v4){(p)[0], (p)[1], (p)[2], (p)[3]})
#define V_FROM_INT8(p) ((gt_v4){(p)[0], (p)[1], (p)[2], (p)[3]})

#endif
