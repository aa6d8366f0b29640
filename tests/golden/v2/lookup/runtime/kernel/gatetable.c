/* gatetable.c: the lookup runtime in C. The one file to compile; gatetable.h is its interface.
 *
 * Here: choosing an instruction set, packing a model for it, running sequences and batches,
 * streams. Included: reader.h opens a folder, words.h turns text into ids, and gru_kernel.h holds
 * the arithmetic, once for each instruction set.
 */
#if !defined(_GNU_SOURCE) && defined(__linux__)
#define _GNU_SOURCE 1
#endif

#include "gatetable.h"
#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    GT_ALIGNMENT = 64, /* a cache line */
    GT_UNK_ID = 1,
    GT_BLOCK = 16 /* rows of a batch that run together; measured: docs/decisions/0008 */
};

/* A matrix packed in panels of columns: see gru_kernel.h. */
typedef struct gt_matrix {
    gt_dtype dtype;
    int32_t rows;   /* even for integers, a zero row behind an odd number */
    int32_t panels; /* of `width` columns of each gate */
    void *data;
    float *scale; /* (3, panels * width), integers only; what one unit of a sum is worth */
} gt_matrix;

/* The arithmetic of one instruction set. */
typedef struct gt_kernel {
    int width; /* float32 lanes of a vector */
    void (*multiply_one)(const gt_matrix *, const void *x, float *y, int reverse);
    void (*multiply_rows)(const gt_matrix *, const void *x, size_t x_stride, float *y, int count);
    void (*step_gates)(int panels, const float *x_z, const float *x_r, const float *x_c,
                       const float *y, const float *candidate_bias, float *h);
    void (*round_state)(int panels, const float *h, int16_t *rounded);
    void (*pool_state)(int panels, int is_max, const float *h, float *pooled);
    void (*load_values)(gt_dtype, const void *table, size_t start, int count, float scale,
                        float *values);
    void (*apply_head)(const float *kernel, const float *bias, int rows, size_t padded,
                       const float *pooled, float *logits);
    void (*softmax)(float *logits, int count);
    float (*read_all)(const float *buffer, size_t vectors, int reverse);
} gt_kernel;

typedef struct gt_direction {
    const void *table;        /* layer 0: (V, 3H), borrowed */
    const float *table_scale; /* layer 0, integers: (V,), borrowed */
    gt_matrix recurrent;
    float *candidate_bias; /* (padded,) */
    gt_matrix kernel;      /* layers above 0 */
    float *bias;           /* layers above 0: (3, padded) */
} gt_direction;

/* Word number by hash: see words.h. */
typedef struct gt_word_index {
    gt_word_arrays arrays;
    uint32_t *slots; /* word number + 1, 0 for empty; at most half full */
    uint32_t mask;
} gt_word_index;

#include "reader.h"

struct gt_model {
    gt_config config;
    const char *isa;
    const gt_kernel *kernel;
    int32_t panels;      /* vectors of one gate */
    size_t padded_units; /* panels * width */
    size_t padded_classes;
    gt_direction layers[GT_MAX_LAYERS][2];
    float *head_kernel, *head_bias; /* (directions*H, padded_classes), (padded_classes,) */
    gt_word_index words;
    gt_folder folder; /* what gt_open mapped; empty otherwise */
};

/* ---- instruction sets ---- */

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

#include "words.h"

/* Write a message, if there is room for one, and return `status`. */
__attribute__((format(printf, 3, 4))) static gt_status gt_fail(char *message, gt_status status,
                                                               const char *format, ...) {
    if (message != NULL) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, GT_MESSAGE_BYTES, format, arguments);
        va_end(arguments);
    }
    return status;
}

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

/* ---- packing ---- */

/* Zeroed memory at a cache line. The system's own is freed with free(). */
static void *gt_allocate(size_t bytes) {
    bytes = (bytes + GT_ALIGNMENT - 1) / GT_ALIGNMENT * GT_ALIGNMENT;
    void *memory = aligned_alloc(GT_ALIGNMENT, bytes ? bytes : GT_ALIGNMENT);
    if (memory != NULL) memset(memory, 0, bytes);
    return memory;
}

/* Pack `from` (rows, 3H) as panels; see gru_kernel.h for the order. */
static gt_status gt_pack_matrix(gt_matrix *matrix, gt_dtype dtype, const void *from,
                                const float *scale, int32_t rows, int32_t units, int width) {
    const int32_t panels = (units + width - 1) / width;
    const size_t padded = (size_t)panels * (size_t)width;
    matrix->dtype = dtype;
    matrix->panels = panels;
    matrix->rows = dtype == GT_FLOAT32 ? rows : (rows + 1) / 2 * 2;
    const size_t item = dtype == GT_FLOAT32 ? 4 : dtype == GT_INT16 ? 2 : 1;
    matrix->data = gt_allocate((size_t)matrix->rows * 3 * padded * item);
    if (matrix->data == NULL) return GT_ERROR_MEMORY;
    for (int32_t row = 0; row < rows; ++row)
        for (int32_t gate = 0; gate < 3; ++gate)
            for (int32_t unit = 0; unit < units; ++unit) {
                const size_t source = ((size_t)row * 3 + (size_t)gate) * (size_t)units + (size_t)unit;
                const size_t panel = (size_t)(unit / width), lane = (size_t)(unit % width);
                if (dtype == GT_FLOAT32) {
                    const size_t line = (panel * (size_t)rows + (size_t)row) * 3 + (size_t)gate;
                    ((float *)matrix->data)[line * (size_t)width + lane] =
                        ((const float *)from)[source];
                    continue;
                }
                const size_t pairs = (size_t)matrix->rows / 2;
                const size_t line = (panel * pairs + (size_t)row / 2) * 3 + (size_t)gate;
                const size_t target = 2 * (line * (size_t)width + lane) + (size_t)row % 2;
                if (dtype == GT_INT16)
                    ((int16_t *)matrix->data)[target] = ((const int16_t *)from)[source];
                else
                    ((int8_t *)matrix->data)[target] = ((const int8_t *)from)[source];
            }
    if (dtype == GT_FLOAT32) return GT_OK;
    matrix->scale = gt_allocate(3 * padded * sizeof *matrix->scale);
    if (matrix->scale == NULL) return GT_ERROR_MEMORY;
    for (int32_t gate = 0; gate < 3; ++gate)
        for (int32_t unit = 0; unit < units; ++unit)
            matrix->scale[(size_t)gate * padded + (size_t)unit] =
                scale[gate * units + unit] * 0x1p-14f; /* states have 14 fractional bits */
    return GT_OK;
}

/* Copy `from` (parts, count) to (parts, padded), zeros behind each part. */
static float *gt_pack_rows(const float *from, size_t parts, size_t count, size_t padded) {
    float *packed = gt_allocate(parts * padded * sizeof *packed);
    if (packed != NULL)
        for (size_t part = 0; part < parts; ++part)
            memcpy(packed + part * padded, from + part * count, count * sizeof *packed);
    return packed;
}

static gt_status gt_pack_model(gt_model *model, const gt_arrays *arrays) {
    const gt_config *config = &model->config;
    const int width = model->kernel->width;
    const size_t units = (size_t)config->units, classes = (size_t)config->num_classes;
    const int32_t outputs = config->directions * config->units;
    model->panels = (config->units + width - 1) / width;
    model->padded_units = (size_t)model->panels * (size_t)width;
    model->padded_classes = (classes + (size_t)width - 1) / (size_t)width * (size_t)width;
    for (int32_t layer = 0; layer < config->layers; ++layer)
        for (int32_t side = 0; side < config->directions; ++side) {
            const gt_direction_arrays *from = &arrays->layers[layer][side];
            gt_direction *to = &model->layers[layer][side];
            gt_status status =
                gt_pack_matrix(&to->recurrent, config->recurrent_dtype, from->recurrent_kernel,
                               from->recurrent_kernel_scale, config->units, config->units, width);
            if (status != GT_OK) return status;
            to->candidate_bias = gt_pack_rows(from->candidate_bias, 1, units, model->padded_units);
            if (to->candidate_bias == NULL) return GT_ERROR_MEMORY;
            if (layer == 0) {
                to->table = arrays->gate_table[side];
                to->table_scale = arrays->gate_table_scale[side];
                continue;
            }
            status = gt_pack_matrix(&to->kernel, GT_FLOAT32, from->kernel, NULL, outputs,
                                    config->units, width);
            if (status != GT_OK) return status;
            to->bias = gt_pack_rows(from->bias, 3, units, model->padded_units);
            if (to->bias == NULL) return GT_ERROR_MEMORY;
        }
    model->head_kernel =
        gt_pack_rows(arrays->head_kernel, (size_t)outputs, classes, model->padded_classes);
    model->head_bias = gt_pack_rows(arrays->head_bias, 1, classes, model->padded_classes);
    return model->head_kernel && model->head_bias ? GT_OK : GT_ERROR_MEMORY;
}

gt_status gt_model_create(const gt_config *config, const gt_arrays *arrays,
                          const gt_word_arrays *words, const char *isa, gt_model **model,
                          char *message) {
    *model = NULL;
    gt_model *made = calloc(1, sizeof *made);
    if (made == NULL) return gt_fail(message, GT_ERROR_MEMORY, "Out of memory.");
    made->config = *config;
    gt_status status = gt_choose_isa(isa, &made->isa, &made->kernel, message);
    if (status == GT_OK) {
        status = gt_pack_model(made, arrays);
        if (status == GT_OK && words != NULL) status = gt_index_words(&made->words, words);
        if (status != GT_OK) gt_fail(message, status, "Out of memory while packing the model.");
    }
    if (status != GT_OK) {
        gt_close(made);
        return status;
    }
    *model = made;
    return GT_OK;
}

gt_status gt_open(const char *folder, gt_model **model, char *message) {
    gt_config config;
    gt_arrays arrays;
    gt_word_arrays words;
    gt_folder owner;
    *model = NULL;
    gt_status status = gt_read_folder(folder, &config, &arrays, &words, &owner, message);
    if (status != GT_OK) return status;
    status = gt_model_create(&config, &arrays, &words, NULL, model, message);
    if (status != GT_OK)
        gt_folder_release(&owner);
    else
        (*model)->folder = owner;
    return status;
}

void gt_close(gt_model *model) {
    if (model == NULL) return;
    for (int layer = 0; layer < GT_MAX_LAYERS; ++layer)
        for (int side = 0; side < 2; ++side) {
            gt_direction *direction = &model->layers[layer][side];
            free(direction->recurrent.data);
            free(direction->recurrent.scale);
            free(direction->candidate_bias);
            free(direction->kernel.data);
            free(direction->bias);
        }
    free(model->head_kernel);
    free(model->head_bias);
    free(model->words.slots);
    gt_folder_release(&model->folder);
    free(model);
}

int32_t gt_vocab_size(const gt_model *model) { return model->config.vocab_size; }
int32_t gt_num_classes(const gt_model *model) { return model->config.num_classes; }
int32_t gt_max_tokens(const gt_model *model) { return model->config.max_tokens; }
const char *gt_isa(const gt_model *model) { return model->isa; }

const char *gt_label(const gt_model *model, int32_t class_id) {
    const int known = class_id >= 0 && class_id < model->config.num_classes;
    return known && model->folder.labels != NULL ? model->folder.labels[class_id] : NULL;
}

const char *gt_status_name(gt_status status) {
    static const char *const names[] = {"ok",           "out of memory",   "input/output error",
                                        "bad format",   "unknown version", "bad argument",
                                        "unknown word", "no word table",   "unsupported ISA"};
    const size_t number = (size_t)status;
    return number < sizeof names / sizeof *names ? names[number] : "unknown status";
}

/* ---- running ---- */

/* Scratch of one call: every pointer lies in `memory`. Nothing is allocated after that. */
typedef struct gt_scratch {
    void *memory;
    float *h;         /* (rows, padded_units) */
    float *y;         /* (rows, 3, padded_units) */
    float *x;         /* (rows, 3, padded_units), where table rows must be converted or padded */
    float *direction; /* (rows, padded_units), pooled states of one direction */
    float *pooled;    /* (rows, directions*H) */
    float *logits;    /* (padded_classes,) */
    int16_t *rounded; /* (rows, padded_units + 1), integer kernels only */
    float *outputs;   /* (rows, steps, directions*H), several layers only */
    float *inputs[2]; /* (rows, steps, 3, padded_units) a direction, several layers only */
    size_t steps;
} gt_scratch;

static gt_status gt_make_scratch(const gt_model *model, size_t rows, size_t steps,
                                 gt_scratch *scratch) {
    const gt_config *config = &model->config;
    const size_t padded = model->padded_units;
    const size_t outputs = (size_t)config->directions * (size_t)config->units;
    const size_t kept = config->layers > 1 ? steps : 0;
    /* Each part is rounded up to a cache line, in floats. */
    const size_t line = GT_ALIGNMENT / sizeof(float);
#define GT_PART(floats) (((floats) + line - 1) / line * line)
    const size_t parts[] = {GT_PART(rows * padded),          GT_PART(rows * 3 * padded),
                            GT_PART(rows * 3 * padded),      GT_PART(rows * padded),
                            GT_PART(rows * outputs),         GT_PART(model->padded_classes),
                            GT_PART(rows * (padded + 2)),    GT_PART(rows * kept * outputs),
                            GT_PART(rows * kept * 3 * padded), GT_PART(rows * kept * 3 * padded)};
#undef GT_PART
    size_t total = line;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) total += parts[i];
    scratch->memory = malloc(total * sizeof(float));
    if (scratch->memory == NULL) return GT_ERROR_MEMORY;
    float *next = (float *)(((uintptr_t)scratch->memory + GT_ALIGNMENT - 1) &
                            ~(uintptr_t)(GT_ALIGNMENT - 1));
    float **const pointers[] = {&scratch->h,      &scratch->y,      &scratch->x,
                                &scratch->direction, &scratch->pooled, &scratch->logits,
                                NULL,             &scratch->outputs, &scratch->inputs[0],
                                &scratch->inputs[1]};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; next += parts[i++])
        if (pointers[i] != NULL)
            *pointers[i] = next;
        else
            scratch->rounded = (int16_t *)(void *)next;
    scratch->steps = steps;
    return GT_OK;
}

static size_t gt_item_bytes(gt_dtype dtype) {
    return dtype == GT_FLOAT32 ? 4 : dtype == GT_INT8 ? 1 : 2;
}

/* Ask for a table row early: it is the one thing that does not stay in the caches. The second
 * level is as good as the first; the non-temporal hint lost 10 to 147 %. */
static void gt_prefetch_row(const gt_model *model, const gt_direction *direction, int32_t token) {
    const size_t bytes = 3 * (size_t)model->config.units * gt_item_bytes(model->config.table_dtype);
    const char *row = (const char *)direction->table + (size_t)token * bytes;
    for (size_t at = 0; at < bytes; at += GT_ALIGNMENT) __builtin_prefetch(row + at, 0, 2);
}

/* Point x[3] at the gate inputs of a token, converted to `copy` where they cannot be read as they
 * lie: other types, or vectors that would read beyond the row. */
static void gt_find_inputs(const gt_model *model, const gt_direction *direction, int32_t token,
                           float *copy, const float *x[3]) {
    const size_t units = (size_t)model->config.units, padded = model->padded_units;
    const size_t start = (size_t)token * 3 * units;
    if (model->config.table_dtype == GT_FLOAT32 && padded == units) {
        for (size_t gate = 0; gate < 3; ++gate)
            x[gate] = (const float *)direction->table + start + gate * units;
        return;
    }
    const float scale = direction->table_scale ? direction->table_scale[token] : 1.0f;
    for (size_t gate = 0; gate < 3; ++gate) {
        float *part = copy + gate * padded;
        model->kernel->load_values(model->config.table_dtype, direction->table,
                                   start + gate * units, (int)units, scale, part);
        for (size_t lane = units; lane < padded; ++lane) part[lane] = 0;
        x[gate] = part;
    }
}

/* One step of one row: h = next state, from x and y = h U. */
static void gt_finish_step(const gt_model *model, const gt_direction *direction,
                           const float *const x[3], const float *y, float *h, int16_t *rounded) {
    model->kernel->step_gates(model->panels, x[0], x[1], x[2], y, direction->candidate_bias, h);
    if (direction->recurrent.dtype != GT_FLOAT32)
        model->kernel->round_state(model->panels, h, rounded);
}

/* A block of rows, longest first. */
typedef struct gt_block {
    int rows;
    const int32_t *const *tokens; /* one pointer a row */
    const int32_t *lengths;       /* at least 1, falling */
} gt_block;

/* Run one direction of one layer over a block.
 *
 * Writes the states to `outputs` if this is not the last layer, else the pooled states to
 * `pooled`, both in the columns of this direction.
 */
static void gt_run_direction(const gt_model *model, int layer, int side, const gt_block *block,
                             gt_scratch *scratch) {
    const gt_config *config = &model->config;
    const gt_kernel *kernel = model->kernel;
    const gt_direction *direction = &model->layers[layer][side];
    const size_t units = (size_t)config->units, padded = model->padded_units;
    const size_t width = (size_t)config->directions * units, steps = scratch->steps;
    const int is_integer = direction->recurrent.dtype != GT_FLOAT32;
    const size_t stride = is_integer ? padded + 2 : padded;
    const void *states = is_integer ? (const void *)scratch->rounded : (const void *)scratch->h;
    const int is_last = layer == config->layers - 1;
    int active = block->rows;
    memset(scratch->h, 0, (size_t)active * padded * sizeof(float));
    memset(scratch->y, 0, (size_t)active * 3 * padded * sizeof(float));
    if (is_integer) memset(scratch->rounded, 0, (size_t)active * stride * sizeof(int16_t));
    for (int32_t t = 0; t < block->lengths[0]; ++t) {
        while (block->lengths[active - 1] <= t) --active;
        if (t > 0) { /* before, h and so y is 0 */
            if (active == 1)
                kernel->multiply_one(&direction->recurrent, states, scratch->y, t & 1);
            else
                kernel->multiply_rows(&direction->recurrent, states, stride, scratch->y, active);
        }
        for (int row = 0; row < active; ++row) {
            const int32_t length = block->lengths[row];
            const int32_t at = side == 0 ? t : length - 1 - t;
            const float *x[3];
            if (layer == 0) {
                const int32_t *tokens = block->tokens[row];
                if (t + 1 < length)
                    gt_prefetch_row(model, direction, tokens[side == 0 ? at + 1 : at - 1]);
                gt_find_inputs(model, direction, tokens[at],
                               scratch->x + (size_t)row * 3 * padded, x);
            } else {
                const float *inputs =
                    scratch->inputs[side] + ((size_t)row * steps + (size_t)at) * 3 * padded;
                for (size_t gate = 0; gate < 3; ++gate) x[gate] = inputs + gate * padded;
            }
            float *h = scratch->h + (size_t)row * padded;
            gt_finish_step(model, direction, x, scratch->y + (size_t)row * 3 * padded, h,
                           scratch->rounded + (size_t)row * stride);
            float *pooled = scratch->direction + (size_t)row * padded;
            if (!is_last)
                memcpy(scratch->outputs + ((size_t)row * steps + (size_t)at) * width +
                           (size_t)side * units,
                       h, units * sizeof *h);
            else if (config->pooling == GT_LAST)
                continue;
            else if (t == 0)
                memcpy(pooled, h, padded * sizeof *h);
            else
                kernel->pool_state(model->panels, config->pooling == GT_MAX, h, pooled);
        }
    }
    if (!is_last) return;
    const float *result = config->pooling == GT_LAST ? scratch->h : scratch->direction;
    for (int row = 0; row < block->rows; ++row) {
        float *to = scratch->pooled + (size_t)row * width + (size_t)side * units;
        memcpy(to, result + (size_t)row * padded, units * sizeof *to);
        if (config->pooling == GT_MEAN) {
            const float length = (float)block->lengths[row];
            for (size_t unit = 0; unit < units; ++unit) to[unit] /= length;
        }
    }
}

/* inputs = outputs @ kernel + bias for one direction of a layer above the first. */
static void gt_project(const gt_model *model, int layer, int side, const gt_block *block,
                       gt_scratch *scratch) {
    const gt_direction *direction = &model->layers[layer][side];
    const size_t padded = model->padded_units, steps = scratch->steps;
    const size_t width = (size_t)model->config.directions * (size_t)model->config.units;
    for (int row = 0; row < block->rows; ++row) {
        float *inputs = scratch->inputs[side] + (size_t)row * steps * 3 * padded;
        model->kernel->multiply_rows(&direction->kernel,
                                     scratch->outputs + (size_t)row * steps * width, width, inputs,
                                     block->lengths[row]);
        for (int32_t t = 0; t < block->lengths[row]; ++t)
            for (size_t i = 0; i < 3 * padded; ++i)
                inputs[(size_t)t * 3 * padded + i] += direction->bias[i];
    }
}

/* logits (C,) of a pooled state (directions*H,), which ReLU may change in place. */
static void gt_finish(const gt_model *model, float *pooled, float *padded_logits, float *logits) {
    const gt_config *config = &model->config;
    const int width = config->directions * config->units;
    if (config->relu)
        for (int i = 0; i < width; ++i) pooled[i] = pooled[i] > 0 ? pooled[i] : 0;
    model->kernel->apply_head(model->head_kernel, model->head_bias, width, model->padded_classes,
                              pooled, padded_logits);
    memcpy(logits, padded_logits, (size_t)config->num_classes * sizeof *logits);
}

/* Run all layers over a block, up to `pooled` of the scratch. */
static void gt_run_block(const gt_model *model, const gt_block *block, gt_scratch *scratch) {
    for (int layer = 0; layer < model->config.layers; ++layer) {
        /* Both directions read the outputs below before either overwrites them. */
        for (int side = 0; layer > 0 && side < model->config.directions; ++side)
            gt_project(model, layer, side, block, scratch);
        for (int side = 0; side < model->config.directions; ++side)
            gt_run_direction(model, layer, side, block, scratch);
    }
}

/* Logits of rows that the caller has checked and sorted, longest first. */
static gt_status gt_run_rows(const gt_model *model, const int32_t *const *tokens,
                             const int32_t *lengths, float *const *logits, size_t rows) {
    const gt_config *config = &model->config;
    size_t at_once = rows < GT_BLOCK ? rows : GT_BLOCK;
    /* Several layers keep all their states: bound that to 64 MB, one row at least. */
    const size_t per_row = (size_t)lengths[0] * 7 * (model->padded_units + 1);
    if (config->layers > 1 && at_once * per_row > ((size_t)1 << 24)) at_once = 1;
    gt_scratch scratch;
    if (gt_make_scratch(model, at_once, (size_t)lengths[0], &scratch) != GT_OK)
        return GT_ERROR_MEMORY;
    const gt_float_mode mode = gt_flush_denormals();
    const size_t width = (size_t)config->directions * (size_t)config->units;
    for (size_t start = 0; start < rows; start += at_once) {
        const size_t count = rows - start < at_once ? rows - start : at_once;
        const gt_block block = {(int)count, tokens + start, lengths + start};
        gt_run_block(model, &block, &scratch);
        for (size_t row = 0; row < count; ++row)
            gt_finish(model, scratch.pooled + row * width, scratch.logits, logits[start + row]);
    }
    gt_restore_denormals(mode);
    free(scratch.memory);
    return GT_OK;
}

/* ---- public calls ---- */

static int gt_are_ids(const gt_model *model, const int32_t *ids, int64_t count) {
    /* One comparison an id, unsigned: negative ids are large ones. No branch, so that it runs in
     * vectors. */
    const uint32_t limit = (uint32_t)model->config.vocab_size;
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; ++i) bad |= (uint32_t)((uint32_t)ids[i] >= limit);
    return bad == 0;
}

gt_status gt_logits(const gt_model *model, const int32_t *ids, int64_t length, float *logits) {
    static const int32_t unknown[] = {GT_UNK_ID};
    if (length < 0 || length > GT_MAX_LENGTH || !gt_are_ids(model, ids, length))
        return GT_ERROR_ARGUMENT;
    const int32_t *tokens = length > 0 ? ids : unknown;
    const int32_t steps = length > 0 ? (int32_t)length : 1;
    return gt_run_rows(model, &tokens, &steps, &logits, 1);
}

static int gt_compare_keys(const void *left, const void *right) {
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

gt_status gt_logits_batch(const gt_model *model, const int32_t *ids, int64_t rows, int64_t width,
                          const int32_t *lengths, float *logits) {
    static const int32_t unknown[] = {GT_UNK_ID};
    const size_t classes = (size_t)model->config.num_classes;
    if (rows < 0 || rows > INT32_MAX || width < 0 || width > GT_MAX_LENGTH)
        return GT_ERROR_ARGUMENT;
    for (int64_t row = 0; row < rows; ++row)
        if (lengths[row] < 0 || lengths[row] > width) return GT_ERROR_ARGUMENT;
    if (!gt_are_ids(model, ids, rows * width)) return GT_ERROR_ARGUMENT;
    if (rows == 0) return GT_OK;
    /* One piece of memory: sort keys, then row pointers, then lengths in that order. */
    const size_t count = (size_t)rows;
    uint64_t *keys =
        malloc(count * (sizeof *keys + sizeof(int32_t *) + sizeof(float *) + sizeof(int32_t)));
    if (keys == NULL) return GT_ERROR_MEMORY;
    const int32_t **tokens = (const int32_t **)(void *)(keys + count);
    float **outputs = (float **)(void *)(tokens + count);
    int32_t *steps = (int32_t *)(void *)(outputs + count);
    for (size_t row = 0; row < count; ++row) /* longest first, equal ones in their order */
        keys[row] = (uint64_t)(UINT32_MAX - (uint32_t)lengths[row]) << 32 | row;
    qsort(keys, count, sizeof *keys, gt_compare_keys);
    for (size_t i = 0; i < count; ++i) {
        const size_t row = (size_t)(keys[i] & UINT32_MAX);
        steps[i] = lengths[row] > 0 ? lengths[row] : 1;
        tokens[i] = lengths[row] > 0 ? ids + row * (size_t)width : unknown;
        outputs[i] = logits + row * classes;
    }
    const gt_status status = gt_run_rows(model, tokens, steps, outputs, count);
    free(keys);
    return status;
}

void gt_softmax(const gt_model *model, float *logits) {
    const gt_float_mode mode = gt_flush_denormals();
    model->kernel->softmax(logits, model->config.num_classes);
    gt_restore_denormals(mode);
}

void gt_choose_best(const float *probabilities, int32_t count, int32_t k, int32_t *classes,
                    float *best) {
    int32_t found = 0;
    for (int32_t id = 0; id < count; ++id) {
        const float value = probabilities[id];
        if (found == k && !(value > best[k - 1])) continue;
        int32_t place = found < k ? found++ : k - 1;
        for (; place > 0 && value > best[place - 1]; --place) {
            best[place] = best[place - 1];
            classes[place] = classes[place - 1];
        }
        best[place] = value;
        classes[place] = id;
    }
}

gt_status gt_predict(const gt_model *model, const int32_t *ids, int64_t length, int32_t k,
                     int32_t *classes, float *probabilities) {
    const int32_t count = model->config.num_classes;
    if (k < 1 || k > count) return GT_ERROR_ARGUMENT;
    float on_stack[256];
    float *all = count <= 256 ? on_stack : malloc((size_t)count * sizeof *all);
    if (all == NULL) return GT_ERROR_MEMORY;
    const gt_status status = gt_logits(model, ids, length, all);
    if (status == GT_OK) {
        gt_softmax(model, all);
        gt_choose_best(all, count, k, classes, probabilities);
    }
    if (all != on_stack) free(all);
    return status;
}

/* ---- streams ---- */

/* Layers whose state can be kept: none above a bidirectional one, where every output depends on
 * every token. */
struct gt_stream {
    const gt_model *model;
    gt_scratch scratch; /* of one row and one step */
    float *h;           /* (kept layers, padded_units) */
    int16_t *rounded;   /* (kept layers, padded_units + 2) */
    float *pooled;      /* (padded_units,) */
    int32_t *tokens;    /* all so far; bidirectional models only */
    int64_t length, capacity;
    int32_t kept;
};

gt_status gt_stream_open(const gt_model *model, gt_stream **stream) {
    *stream = NULL;
    gt_stream *made = calloc(1, sizeof *made);
    if (made == NULL) return GT_ERROR_MEMORY;
    made->model = model;
    made->kept = model->config.directions == 2 ? 1 : model->config.layers;
    const size_t kept = (size_t)made->kept;
    made->h = gt_allocate(kept * model->padded_units * sizeof(float));
    made->rounded = gt_allocate(kept * (model->padded_units + 2) * sizeof(int16_t));
    made->pooled = gt_allocate(model->padded_units * sizeof(float));
    const gt_status status = gt_make_scratch(model, 1, 1, &made->scratch);
    if (made->h == NULL || made->rounded == NULL || made->pooled == NULL || status != GT_OK) {
        gt_stream_close(made);
        return GT_ERROR_MEMORY;
    }
    *stream = made;
    return GT_OK;
}

void gt_stream_close(gt_stream *stream) {
    if (stream == NULL) return;
    free(stream->scratch.memory);
    free(stream->h);
    free(stream->rounded);
    free(stream->pooled);
    free(stream->tokens);
    free(stream);
}

void gt_stream_reset(gt_stream *stream) {
    const size_t kept = (size_t)stream->kept, padded = stream->model->padded_units;
    memset(stream->h, 0, kept * padded * sizeof(float));
    memset(stream->rounded, 0, kept * (padded + 2) * sizeof(int16_t));
    stream->length = 0;
}

/* One step of layer `layer`, forwards, from gate inputs x. */
static void gt_push_layer(gt_stream *stream, int layer, const float *const x[3]) {
    const gt_model *model = stream->model;
    const gt_direction *direction = &model->layers[layer][0];
    const size_t padded = model->padded_units;
    float *h = stream->h + (size_t)layer * padded;
    int16_t *rounded = stream->rounded + (size_t)layer * (padded + 2);
    const int is_integer = direction->recurrent.dtype != GT_FLOAT32;
    model->kernel->multiply_one(&direction->recurrent, is_integer ? (void *)rounded : (void *)h,
                                stream->scratch.y, (int)(stream->length & 1));
    gt_finish_step(model, direction, x, stream->scratch.y, h, rounded);
}

static gt_status gt_remember(gt_stream *stream, int32_t id) {
    if (stream->length == stream->capacity) {
        const int64_t capacity = stream->capacity ? 2 * stream->capacity : 64;
        int32_t *tokens = realloc(stream->tokens, (size_t)capacity * sizeof *tokens);
        if (tokens == NULL) return GT_ERROR_MEMORY;
        stream->tokens = tokens;
        stream->capacity = capacity;
    }
    stream->tokens[stream->length] = id;
    return GT_OK;
}

gt_status gt_stream_push(gt_stream *stream, int32_t id) {
    const gt_model *model = stream->model;
    const gt_config *config = &model->config;
    if (id < 0 || id >= config->vocab_size || stream->length >= GT_MAX_LENGTH)
        return GT_ERROR_ARGUMENT;
    if (config->directions == 2) {
        const gt_status status = gt_remember(stream, id);
        if (status != GT_OK) return status;
        if (config->layers > 1) {
            ++stream->length;
            return GT_OK;
        }
    }
    const gt_float_mode mode = gt_flush_denormals();
    const size_t units = (size_t)config->units, padded = model->padded_units;
    const float *x[3];
    gt_find_inputs(model, &model->layers[0][0], id, stream->scratch.x, x);
    gt_push_layer(stream, 0, x);
    for (int layer = 1; layer < stream->kept; ++layer) {
        float *outputs = stream->scratch.outputs;
        memcpy(outputs, stream->h + (size_t)(layer - 1) * padded, units * sizeof *outputs);
        const int32_t one = 1;
        const gt_block block = {1, NULL, &one};
        gt_project(model, layer, 0, &block, &stream->scratch);
        for (size_t gate = 0; gate < 3; ++gate)
            x[gate] = stream->scratch.inputs[0] + gate * padded;
        gt_push_layer(stream, layer, x);
    }
    const float *h = stream->h + (size_t)(stream->kept - 1) * padded;
    if (config->pooling == GT_LAST || stream->length == 0)
        memcpy(stream->pooled, h, padded * sizeof *h);
    else
        model->kernel->pool_state(model->panels, config->pooling == GT_MAX, h, stream->pooled);
    ++stream->length;
    gt_restore_denormals(mode);
    return GT_OK;
}

gt_status gt_stream_logits(gt_stream *stream, float *logits) {
    const gt_model *model = stream->model;
    const gt_config *config = &model->config;
    if (stream->length == 0) return gt_logits(model, NULL, 0, logits);
    if (config->directions == 2 && config->layers > 1)
        return gt_logits(model, stream->tokens, stream->length, logits);
    const gt_float_mode mode = gt_flush_denormals();
    const size_t units = (size_t)config->units;
    gt_scratch *scratch = &stream->scratch;
    const float divisor = config->pooling == GT_MEAN ? (float)stream->length : 1.0f;
    if (config->directions == 2) {
        const int32_t *tokens = stream->tokens;
        const int32_t length = (int32_t)stream->length;
        const gt_block block = {1, &tokens, &length};
        gt_run_direction(model, 0, 1, &block, scratch);
    }
    for (size_t unit = 0; unit < units; ++unit)
        scratch->pooled[unit] = stream->pooled[unit] / divisor;
    gt_finish(model, scratch->pooled, scratch->logits, logits);
    gt_restore_denormals(mode);
    return GT_OK;
}

gt_status gt_stream_fork(const gt_stream *stream, gt_stream **twin) {
    const gt_status status = gt_stream_open(stream->model, twin);
    if (status != GT_OK) return status;
    gt_stream *made = *twin;
    const size_t kept = (size_t)stream->kept, padded = stream->model->padded_units;
    memcpy(made->h, stream->h, kept * padded * sizeof(float));
    memcpy(made->rounded, stream->rounded, kept * (padded + 2) * sizeof(int16_t));
    memcpy(made->pooled, stream->pooled, padded * sizeof(float));
    if (stream->tokens != NULL) {
        made->tokens = malloc((size_t)stream->capacity * sizeof *made->tokens);
        if (made->tokens == NULL) {
            gt_stream_close(made);
            *twin = NULL;
            return GT_ERROR_MEMORY;
        }
        memcpy(made->tokens, stream->tokens, (size_t)stream->length * sizeof *made->tokens);
        made->capacity = stream->capacity;
    }
    made->length = stream->length;
    return GT_OK;
}

/* ---- for benchmarks ---- */

static double gt_now(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double gt_read_seconds(const char *isa, size_t bytes, int64_t repeats) {
    const gt_kernel *kernel = isa ? gt_find_kernel(isa) : gt_find_kernel(*gt_list_isas());
    float *buffer = kernel != NULL ? gt_allocate(bytes) : NULL;
    if (buffer == NULL) return -1;
    const size_t vectors = bytes / sizeof(float) / (size_t)kernel->width;
    volatile float sink = kernel->read_all(buffer, vectors, 0);
    const double start = gt_now();
    for (int64_t i = 0; i < repeats; ++i) sink = kernel->read_all(buffer, vectors, i & 1);
    const double seconds = gt_now() - start;
    (void)sink;
    free(buffer);
    return seconds;
}

double gt_gates_seconds(const char *isa, int32_t units, int64_t repeats) {
    const gt_kernel *kernel = isa ? gt_find_kernel(isa) : gt_find_kernel(*gt_list_isas());
    if (kernel == NULL) return -1;
    const int panels = (units + kernel->width - 1) / kernel->width;
    const size_t padded = (size_t)panels * (size_t)kernel->width;
    float *x = gt_allocate(8 * padded * sizeof *x);
    if (x == NULL) return -1;
    float *y = x + 3 * padded, *bias = x + 6 * padded, *h = x + 7 * padded;
    const double start = gt_now();
    for (int64_t i = 0; i < repeats; ++i)
        kernel->step_gates(panels, x, x + padded, x + 2 * padded, y, bias, h);
    const double seconds = gt_now() - start;
    free(x);
    return seconds;
}
