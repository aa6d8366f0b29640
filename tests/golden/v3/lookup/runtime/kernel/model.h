/* Inside of gatetable.c: what a model is made of before it is packed for a kernel.
 *
 * Two callers build models: gt_open from a folder (reader.h), and the Python module from arrays
 * that Python has checked (module.c). Nothing here is public.
 */
#ifndef GATETABLE_MODEL_H
#define GATETABLE_MODEL_H

#include "gatetable.h"

enum { GT_MAX_LAYERS = 8 };

typedef enum gt_dtype { GT_FLOAT32 = 0, GT_FLOAT16 = 1, GT_INT16 = 2, GT_INT8 = 3 } gt_dtype;
typedef enum gt_pooling { GT_LAST = 0, GT_MAX = 1, GT_MEAN = 2 } gt_pooling;

typedef struct gt_config {
    int32_t vocab_size, units, num_classes, max_tokens;
    int32_t layers;     /* 1 to GT_MAX_LAYERS */
    int32_t directions; /* 1 or 2 */
    gt_pooling pooling;
    int32_t relu;
    gt_dtype table_dtype;     /* any */
    gt_dtype recurrent_dtype; /* GT_FLOAT32, GT_INT16 or GT_INT8 */
} gt_config;

/* One reading direction of one layer, arrays as they lie in the folder (Keras's order z, r, h). */
typedef struct gt_direction_arrays {
    const void *recurrent_kernel;        /* (H, 3H) in recurrent_dtype */
    const float *recurrent_kernel_scale; /* (3H,) of integer kernels, else NULL */
    const float *candidate_bias;         /* (H,) */
    const float *kernel, *bias;          /* (directions*H, 3H), (3H,); layers above 0 only */
} gt_direction_arrays;

typedef struct gt_arrays {
    const void *gate_table[2];        /* (V, 3H) in table_dtype; must outlive the model */
    const float *gate_table_scale[2]; /* (V,) of integer tables; must outlive the model */
    gt_direction_arrays layers[GT_MAX_LAYERS][2];
    const float *head_kernel, *head_bias; /* (directions*H, C), (C,) */
} gt_arrays;

/* The word table, as it lies in the folder; all arrays must outlive the model. */
typedef struct gt_word_arrays {
    uint32_t words;             /* W, 0 for none */
    const uint8_t *word_bytes;  /* (N,) */
    const uint32_t *word_ends;  /* (W,) rising, last N */
    const int32_t *word_ids;    /* (M,) in range */
    const uint32_t *word_id_ends; /* (W,) non-falling, last M */
} gt_word_arrays;

/* Pack a model for an instruction set. All arrays are trusted: shapes, ids and finite values were
 * checked by the caller.
 *
 * isa  name of an instruction set, or NULL for GATETABLE_ISA, or else the best of this machine
 */
gt_status gt_model_create(const gt_config *config, const gt_arrays *arrays,
                          const gt_word_arrays *words, const char *isa, gt_model **model,
                          char *message);

/* Look up one word: returns its number of ids and points `ids` at them, or -1 if it is not in the
 * table. */
int32_t gt_find_word(const gt_model *model, const char *word, size_t bytes, const int32_t **ids);

/* Find the k largest of `count` probabilities, largest first, equal ones by class id. */
void gt_choose_best(const float *probabilities, int32_t count, int32_t k, int32_t *classes,
                    float *best);

/* Names of the instruction sets this machine can run, best first, NULL behind the last. */
const char *const *gt_list_isas(void);

/* For benchmarks: seconds that `repeats` passes over `bytes` bytes take, read in vectors in
 * alternating direction; and seconds of `repeats` gate computations of H units. */
double gt_read_seconds(const char *isa, size_t bytes, int64_t repeats);
double gt_gates_seconds(const char *isa, int32_t units, int64_t repeats);

#endif
