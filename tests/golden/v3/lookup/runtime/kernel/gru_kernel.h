/* The GRU recurrence, head and softmax for one instruction set. Included once for each.
 *
 * The includer defines GT_SIMD_<SET> for simd.h and GT_FN(name), which gives every function its
 * own name. One step of one row, with x the row of the gate table and U the recurrent kernel:
 *
 *     z = sigmoid(x_z + h U_z)    r = sigmoid(x_r + h U_r)
 *     c = tanh(x_h + r * (h U_h + candidate_bias))
 *     h = z * h + (1 - z) * c
 *
 * U is packed in panels of GT_W units: for each of its rows the z, r and h columns of those units
 * stand together, so that one broadcast of a state value feeds three products and the sums stay
 * in registers. A single row works on GT_GROUP panels at a time and reads every other step
 * backwards, which finds the end of the last pass still in the first cache. Several rows share each
 * panel, GT_ROWS at a time.
 *
 * Integer kernels are read as pairs of rows, (row 2i, row 2i+1) beside each other for each column:
 * one instruction multiplies both with a pair of state values and adds, exactly, in int32. States
 * are rounded to 14 fractional bits for it. Integer sums are the same on every instruction set.
 */
#include "simd.h"

/* ---- products ---- */

/* y (3, padded) = x (rows,) @ `count` panels from `panel` on, float32. */
GT_TARGET static inline __attribute__((always_inline)) void GT_FN(one_row_float)(
    const float *panel, size_t panel_floats, int rows, const float *x, float *y, size_t padded,
    const int count, int reverse) {
    gt_vf sum[GT_GROUP][3];
    _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p)
        sum[p][0] = sum[p][1] = sum[p][2] = V_ZERO();
    const ptrdiff_t step = reverse ? -1 : 1;
    const float *weight = panel + (reverse ? (size_t)(rows - 1) * 3 * GT_W : 0);
    const float *state = x + (reverse ? rows - 1 : 0);
    for (int k = 0; k < rows; ++k, state += step, weight += step * 3 * GT_W) {
        const gt_vf value = V_SET(*state);
        _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p) {
            const float *column = weight + (size_t)p * panel_floats;
            sum[p][0] = V_FMA(value, V_LOAD(column), sum[p][0]);
            sum[p][1] = V_FMA(value, V_LOAD(column + GT_W), sum[p][1]);
            sum[p][2] = V_FMA(value, V_LOAD(column + 2 * GT_W), sum[p][2]);
        }
    }
    _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p) {
        V_STORE(y + p * GT_W, sum[p][0]);
        V_STORE(y + padded + p * GT_W, sum[p][1]);
        V_STORE(y + 2 * padded + p * GT_W, sum[p][2]);
    }
}

/* The same over integer weights; x is int16 in pairs, `pairs` of them. */
GT_TARGET static inline __attribute__((always_inline)) void GT_FN(one_row_integer)(
    const void *panel, size_t panel_pairs, int pairs, const int16_t *x, const float *scale,
    float *y, size_t padded, const int count, const int is_int8, int reverse) {
    gt_vi sum[GT_GROUP][3];
    _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p)
        sum[p][0] = sum[p][1] = sum[p][2] = VI_ZERO();
    for (int i = 0; i < pairs; ++i) {
        const int k = reverse ? pairs - 1 - i : i;
        int32_t pair;
        memcpy(&pair, x + 2 * k, sizeof pair);
        const gt_vi value = VI_SET(pair);
        _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p) {
            const size_t at = 2 * ((size_t)p * panel_pairs + (size_t)k * 3 * GT_W);
            _Pragma("GCC unroll 3") for (int gate = 0; gate < 3; ++gate) {
                if (is_int8) {
                    const gt_vi weight =
                        VI_LOAD_INT8((const int8_t *)panel + at + 2 * gate * GT_W);
                    VI_DOT_INT16(sum[p][gate], value, weight);
                } else {
                    const gt_vi weight =
                        VI_LOAD_INT16((const int16_t *)panel + at + 2 * gate * GT_W);
                    VI_DOT_INT16(sum[p][gate], value, weight);
                }
            }
        }
    }
    _Pragma("GCC unroll 8") for (int p = 0; p < count; ++p)
        _Pragma("GCC unroll 3") for (int gate = 0; gate < 3; ++gate) {
            const size_t at = gate * padded + (size_t)p * GT_W;
            V_STORE(y + at, V_MUL(VI_TO_FLOAT(sum[p][gate]), V_LOAD(scale + at)));
        }
}

/* y (count, 3, padded) = x (count, rows) @ one panel, float32. */
GT_TARGET static inline __attribute__((always_inline)) void GT_FN(some_rows_float)(
    const float *panel, int rows, const float *x, size_t x_stride, float *y, size_t padded,
    const int count) {
    gt_vf sum[GT_ROWS][3];
    _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r)
        sum[r][0] = sum[r][1] = sum[r][2] = V_ZERO();
    for (int k = 0; k < rows; ++k) {
        const gt_vf z = V_LOAD(panel + (size_t)k * 3 * GT_W);
        const gt_vf r_ = V_LOAD(panel + (size_t)k * 3 * GT_W + GT_W);
        const gt_vf c = V_LOAD(panel + (size_t)k * 3 * GT_W + 2 * GT_W);
        _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r) {
            const gt_vf value = V_SET(x[r * x_stride + k]);
            sum[r][0] = V_FMA(value, z, sum[r][0]);
            sum[r][1] = V_FMA(value, r_, sum[r][1]);
            sum[r][2] = V_FMA(value, c, sum[r][2]);
        }
    }
    _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r)
        _Pragma("GCC unroll 3") for (int gate = 0; gate < 3; ++gate)
            V_STORE(y + (size_t)(3 * r + gate) * padded, sum[r][gate]);
}

/* The same over integer weights. */
GT_TARGET static inline __attribute__((always_inline)) void GT_FN(some_rows_integer)(
    const void *panel, int pairs, const int16_t *x, size_t x_stride, const float *scale, float *y,
    size_t padded, const int count, const int is_int8) {
    gt_vi sum[GT_ROWS][3];
    _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r)
        sum[r][0] = sum[r][1] = sum[r][2] = VI_ZERO();
    for (int k = 0; k < pairs; ++k)
        _Pragma("GCC unroll 3") for (int gate = 0; gate < 3; ++gate) {
            const size_t at = 2 * (size_t)(3 * k + gate) * GT_W;
            const gt_vi weight = is_int8 ? VI_LOAD_INT8((const int8_t *)panel + at)
                                         : VI_LOAD_INT16((const int16_t *)panel + at);
            _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r) {
                int32_t pair;
                memcpy(&pair, x + r * x_stride + 2 * k, sizeof pair);
                VI_DOT_INT16(sum[r][gate], VI_SET(pair), weight);
            }
        }
    _Pragma("GCC unroll 8") for (int r = 0; r < count; ++r)
        _Pragma("GCC unroll 3") for (int gate = 0; gate < 3; ++gate)
            V_STORE(y + (size_t)(3 * r + gate) * padded,
                    V_MUL(VI_TO_FLOAT(sum[r][gate]), V_LOAD(scale + gate * padded)));
}

/* y (3, padded) = x @ matrix for one row. `x` is float32 or int16 as the matrix asks for. */
GT_TARGET static void GT_FN(multiply_one)(const gt_matrix *matrix, const void *x, float *y,
                                          int reverse) {
    const size_t padded = (size_t)matrix->panels * GT_W;
    const int groups = (matrix->panels + GT_GROUP - 1) / GT_GROUP;
    for (int i = 0; i < groups; ++i) {
        const int group = reverse ? groups - 1 - i : i;
        /* Groups of even size: a lone panel would wait for its own sums. */
        const int first = (int)((int64_t)matrix->panels * group / groups);
        const int count = (int)((int64_t)matrix->panels * (group + 1) / groups) - first;
        float *out = y + (size_t)first * GT_W;
#define GT_CASE(n)                                                                             \
    case n:                                                                                    \
        if (matrix->dtype == GT_FLOAT32) {                                                     \
            const size_t size = (size_t)matrix->rows * 3 * GT_W;                               \
            GT_FN(one_row_float)((const float *)matrix->data + first * size, size,             \
                                 matrix->rows, (const float *)x, out, padded, n, reverse);     \
        } else {                                                                               \
            const size_t size = (size_t)matrix->rows / 2 * 3 * GT_W;                           \
            const float *scale = matrix->scale + (size_t)first * GT_W;                         \
            if (matrix->dtype == GT_INT16)                                                     \
                GT_FN(one_row_integer)((const int16_t *)matrix->data + 2 * first * size, size, \
                                       matrix->rows / 2, (const int16_t *)x, scale, out,       \
                                       padded, n, 0, reverse);                                 \
            else                                                                               \
                GT_FN(one_row_integer)((const int8_t *)matrix->data + 2 * first * size, size,  \
                                       matrix->rows / 2, (const int16_t *)x, scale, out,       \
                                       padded, n, 1, reverse);                                 \
        }                                                                                      \
        break;
        switch (count) {
            GT_CASE(1)
            GT_CASE(2)
            GT_CASE(3)
            GT_CASE(4)
#if GT_GROUP > 4
            GT_CASE(5)
            GT_CASE(6)
            GT_CASE(7)
            GT_CASE(8)
#endif
        }
#undef GT_CASE
    }
}

/* y (count, 3, padded) = x (count, ...) @ matrix for several rows. */
GT_TARGET static void GT_FN(multiply_rows)(const gt_matrix *matrix, const void *x, size_t x_stride,
                                           float *y, int count) {
    const size_t padded = (size_t)matrix->panels * GT_W;
    const size_t size = (size_t)matrix->rows * 3 * GT_W;
    for (int panel = 0; panel < matrix->panels; ++panel)
        for (int row = 0; row < count; row += GT_ROWS) {
            const size_t column = (size_t)panel * GT_W;
            float *out = y + 3 * (size_t)row * padded + column;
#define GT_CASE(n)                                                                              \
    case n:                                                                                     \
        if (matrix->dtype == GT_FLOAT32)                                                        \
            GT_FN(some_rows_float)((const float *)matrix->data + panel * size, matrix->rows,    \
                                   (const float *)x + row * x_stride, x_stride, out, padded, n); \
        else if (matrix->dtype == GT_INT16)                                                     \
            GT_FN(some_rows_integer)((const int16_t *)matrix->data + panel * size,              \
                                     matrix->rows / 2, (const int16_t *)x + row * x_stride,     \
                                     x_stride, matrix->scale + column, out, padded, n, 0);      \
        else                                                                                    \
            GT_FN(some_rows_integer)((const int8_t *)matrix->data + panel * size,               \
                                     matrix->rows / 2, (const int16_t *)x + row * x_stride,     \
                                     x_stride, matrix->scale + column, out, padded, n, 1);      \
        break;
            switch (count - row < GT_ROWS ? count - row : GT_ROWS) {
                GT_CASE(1)
                GT_CASE(2)
                GT_CASE(3)
                GT_CASE(4)
#if GT_ROWS > 4
                GT_CASE(5)
                GT_CASE(6)
                GT_CASE(7)
                GT_CASE(8)
#endif
            }
#undef GT_CASE
        }
}

/* ---- element-wise ---- */

/* exp(x) for |x| <= 30, within 1e-7 of it relatively: Cephes's polynomial, scaled by 2^n. */
GT_TARGET static inline __attribute__((always_inline)) gt_vf GT_FN(exp)(gt_vf x) {
    const gt_vf round = V_SET(12582912.0f); /* 1.5 * 2^23: its last bits hold the integer */
    const gt_vf shifted = V_FMA(x, V_SET(1.44269504088896341f), round);
    const gt_vf n = V_SUB(shifted, round);
    gt_vf f = V_FMA(n, V_SET(-0.693359375f), x);
    f = V_FMA(n, V_SET(2.12194440e-4f), f);
    gt_vf p = V_FMA(V_SET(1.9875691500e-4f), f, V_SET(1.3981999507e-3f));
    p = V_FMA(p, f, V_SET(8.3334519073e-3f));
    p = V_FMA(p, f, V_SET(4.1665795894e-2f));
    p = V_FMA(p, f, V_SET(1.6666665459e-1f));
    p = V_FMA(p, f, V_SET(5.0000001201e-1f));
    p = V_FMA(p, V_MUL(f, f), V_ADD(f, V_SET(1.0f)));
    return V_AS_FLOAT(VI_ADD(V_AS_INT(p), VI_SHIFT_LEFT(V_AS_INT(shifted), 23)));
}

GT_TARGET static inline __attribute__((always_inline)) gt_vf GT_FN(clamp)(gt_vf x) {
    /* Behind 30 a sigmoid is 1e-13 from its limit, and no product below can overflow. */
    return V_MIN(V_MAX(x, V_SET(-30.0f)), V_SET(30.0f));
}

/* h = the next state, from gate inputs x_z, x_r, x_c (padded,) each and y (3, padded) = h U.
 *
 * With e = exp(-z's input) and d = exp(2 * candidate's input) + 1 the last two lines of the
 * recurrence share one division: h = ((d - 2) * e + h * d) / (d * (1 + e)).
 *
 * Not inlined: its constants would take registers from the products.
 */
GT_TARGET static __attribute__((noinline)) void GT_FN(step_gates)(
    int panels, const float *x_z, const float *x_r, const float *x_c, const float *y,
    const float *candidate_bias, float *h) {
    const size_t padded = (size_t)panels * GT_W;
    const gt_vf one = V_SET(1.0f), zero = V_ZERO();
    for (size_t i = 0; i < padded; i += GT_W) {
        const gt_vf a_z = V_ADD(V_LOAD(x_z + i), V_LOAD(y + i));
        const gt_vf a_r = V_ADD(V_LOAD(x_r + i), V_LOAD(y + padded + i));
        const gt_vf y_c = V_ADD(V_LOAD(y + 2 * padded + i), V_LOAD(candidate_bias + i));
        const gt_vf e_z = GT_FN(exp)(GT_FN(clamp)(V_SUB(zero, a_z)));
        const gt_vf e_r = GT_FN(exp)(GT_FN(clamp)(V_SUB(zero, a_r)));
        const gt_vf a_c = V_FMA(y_c, V_RECIPROCAL(V_ADD(e_r, one)), V_LOAD(x_c + i));
        const gt_vf e_c = GT_FN(exp)(GT_FN(clamp)(V_ADD(a_c, a_c)));
        const gt_vf d = V_ADD(e_c, one);
        const gt_vf top = V_FMA(V_LOAD(h + i), d, V_MUL(V_SUB(e_c, one), e_z));
        V_STORE(h + i, V_MUL(top, V_RECIPROCAL(V_FMA(d, e_z, d))));
    }
}

/* Round a state to 14 fractional bits. */
GT_TARGET static void GT_FN(round_state)(int panels, const float *h, int16_t *rounded) {
    for (int i = 0; i < panels * GT_W; i += GT_W)
        V_STORE_INT16(rounded + i, V_MUL(V_LOAD(h + i), V_SET(16384.0f)));
}

/* Add a state to the pooled one, or take their maximum. */
GT_TARGET static void GT_FN(pool_state)(int panels, int is_max, const float *h, float *pooled) {
    if (is_max)
        for (int i = 0; i < panels * GT_W; i += GT_W)
            V_STORE(pooled + i, V_MAX(V_LOAD(pooled + i), V_LOAD(h + i)));
    else
        for (int i = 0; i < panels * GT_W; i += GT_W)
            V_STORE(pooled + i, V_ADD(V_LOAD(pooled + i), V_LOAD(h + i)));
}

/* values (count,) of a table row as float32. */
GT_TARGET static void GT_FN(load_values)(gt_dtype dtype, const void *table, size_t start,
                                         int count, float scale, float *values) {
    int i = 0;
    if (dtype == GT_FLOAT32) {
        memcpy(values, (const float *)table + start, (size_t)count * sizeof *values);
    } else if (dtype == GT_FLOAT16) {
        const uint16_t *from = (const uint16_t *)table + start;
        for (; i + GT_W <= count; i += GT_W) V_STORE(values + i, V_LOAD_FLOAT16(from + i));
        for (; i < count; ++i) values[i] = gt_half_to_float(from[i]);
    } else if (dtype == GT_INT16) {
        const int16_t *from = (const int16_t *)table + start;
        for (; i + GT_W <= count; i += GT_W)
            V_STORE(values + i, V_MUL(V_FROM_INT16(from + i), V_SET(scale)));
        for (; i < count; ++i) values[i] = (float)from[i] * scale;
    } else {
        const int8_t *from = (const int8_t *)table + start;
        for (; i + GT_W <= count; i += GT_W)
            V_STORE(values + i, V_MUL(V_FROM_INT8(from + i), V_SET(scale)));
        for (; i < count; ++i) values[i] = (float)from[i] * scale;
    }
}

/* ---- head ---- */

/* logits (classes padded,) = [ReLU] pooled (rows,) @ kernel (rows, padded) + bias. */
GT_TARGET static void GT_FN(apply_head)(const float *kernel, const float *bias, int rows,
                                        size_t padded, const float *pooled, float *logits) {
    enum { AT_ONCE = 8 }; /* vectors of classes whose sums stay in registers */
    for (size_t first = 0; first < padded; first += AT_ONCE * GT_W) {
        const int count =
            (int)(padded - first < AT_ONCE * GT_W ? (padded - first) / GT_W : AT_ONCE);
#define GT_CASE(n)                                                                           \
    case n: {                                                                                \
        gt_vf sum[n];                                                                        \
        _Pragma("GCC unroll 8") for (int v = 0; v < n; ++v)                                  \
            sum[v] = V_LOAD(bias + first + (size_t)v * GT_W);                                \
        for (int k = 0; k < rows; ++k) {                                                     \
            const gt_vf value = V_SET(pooled[k]);                                            \
            const float *weight = kernel + (size_t)k * padded + first;                       \
            _Pragma("GCC unroll 8") for (int v = 0; v < n; ++v)                              \
                sum[v] = V_FMA(value, V_LOAD(weight + v * GT_W), sum[v]);                    \
        }                                                                                    \
        _Pragma("GCC unroll 8") for (int v = 0; v < n; ++v)                                  \
            V_STORE(logits + first + (size_t)v * GT_W, sum[v]);                              \
        break;                                                                               \
    }
        switch (count) {
            GT_CASE(1)
            GT_CASE(2)
            GT_CASE(3)
            GT_CASE(4)
            GT_CASE(5)
            GT_CASE(6)
            GT_CASE(7)
            GT_CASE(8)
        }
#undef GT_CASE
    }
}

/* Softmax over `count` logits in place. */
GT_TARGET static void GT_FN(softmax)(float *logits, int count) {
    float largest = logits[0];
    for (int i = 1; i < count; ++i)
        if (logits[i] > largest) largest = logits[i];
    /* exp(-87) is the least normal float32; what lies below has no weight in a float32 sum. */
    float lanes[GT_W], total = 0;
    for (int start = 0; start < count; start += GT_W) {
        const int some = count - start < GT_W ? count - start : GT_W;
        for (int i = 0; i < some; ++i) lanes[i] = logits[start + i] - largest;
        for (int i = some; i < GT_W; ++i) lanes[i] = 0;
        const gt_vf x = V_MAX(V_LOAD(lanes), V_SET(-87.0f));
        V_STORE(lanes, GT_FN(exp)(x));
        for (int i = 0; i < some; ++i) total += logits[start + i] = lanes[i];
    }
    const float factor = 1.0f / total;
    for (int i = 0; i < count; ++i) logits[i] *= factor;
}

/* ---- for benchmarks ---- */

/* Read `vectors` vectors once, forwards or backwards, and return something that depends on all. */
GT_TARGET static float GT_FN(read_all)(const float *buffer, size_t vectors, int reverse) {
    gt_vf sum[4] = {V_ZERO(), V_ZERO(), V_ZERO(), V_ZERO()};
    for (size_t i = 0; i + 4 <= vectors; i += 4) {
        const float *at = buffer + (reverse ? vectors - 4 - i : i) * GT_W;
        sum[0] = V_ADD(sum[0], V_LOAD(at));
        sum[1] = V_ADD(sum[1], V_LOAD(at + GT_W));
        sum[2] = V_ADD(sum[2], V_LOAD(at + 2 * GT_W));
        sum[3] = V_ADD(sum[3], V_LOAD(at + 3 * GT_W));
    }
    float lanes[GT_W];
    V_STORE(lanes, V_ADD(V_ADD(sum[0], sum[1]), V_ADD(sum[2], sum[3])));
    return lanes[0];
}

static const gt_kernel GT_FN(kernel) = {
    .width = GT_W,
    .multiply_one = GT_FN(multiply_one),
    .multiply_rows = GT_FN(multiply_rows),
    .step_gates = GT_FN(step_gates),
    .round_state = GT_FN(round_state),
    .pool_state = GT_FN(pool_state),
    .load_values = GT_FN(load_values),
    .apply_head = GT_FN(apply_head),
    .softmax = GT_FN(softmax),
    .read_all = GT_FN(read_all),
};
