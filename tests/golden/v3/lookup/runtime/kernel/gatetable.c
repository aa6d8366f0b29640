/* gatetable.c: the lookup runtime in C. The one file to compile; gatetable.h is its interface.
 *
 * Here: what a packed model is, opening and closing it, and the calls for ids. Included, in this
 * order: reader.h reads a folder; isa.h holds the arithmetic of gru_kernel.h once for each
 * instruction set; pack.h lays a model out for one; run.h runs sequences; words.h turns text into
 * ids; stream.h takes tokens as they come.
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
    GT_BLOCK = 16 /* rows of a batch that run together: docs/decisions/0008 */
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

#include "isa.h"
#include "pack.h"
#include "run.h"
#include "words.h"
#include "stream.h"

/* ---- models ---- */

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

/* ---- ids to answers ---- */

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
