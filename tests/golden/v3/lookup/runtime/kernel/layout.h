/* Inside of gatetable.c: the files of a lookup folder that follow from a model's shape.
 *
 * Names, shapes and types are derived here and nowhere else, as config.py does for Python; neither
 * the manifest's own list nor a file's header has a say.
 */
#ifndef GATETABLE_LAYOUT_H
#define GATETABLE_LAYOUT_H

#include "model.h"

#include <stdio.h>
#include <string.h>

enum {
    /* Two directions of a table, 8 layers and their scales, the head, the words, 3 other files:
     * 89 at most. */
    GT_MAX_FILES = 96,
    GT_NAME_BYTES = 56, /* layer_7_recurrent_kernel_scale_backward.npy, the longest, has 43 */
    GT_HEADER_BYTES = 1024 /* NumPy writes 128 for every shape of ours */
};

#define GT_MANIFEST_FILE "manifest.json"
#define GT_LABELS_FILE "labels.json"
#define GT_TOKENIZER_FILE "tokenizer.model"
#define GT_GOLDEN_FILE "golden.jsonl"
#define GT_RUNTIME_FOLDER "runtime"

#define GT_MANIFEST_CAP ((int64_t)1 << 20)
#define GT_ARRAY_CAP (GT_HEADER_BYTES + (int64_t)4 * 1000000 * 3 * 4096)

/* Type of the numbers in a file, in the order of gt_types. */
typedef enum gt_type {
    GT_TYPE_FLOAT32,
    GT_TYPE_FLOAT16,
    GT_TYPE_INT16,
    GT_TYPE_INT8,
    GT_TYPE_UINT8,
    GT_TYPE_UINT32,
    GT_TYPE_INT32,
    GT_TYPE_NONE /* not an array */
} gt_type;

static const struct {
    const char *descr; /* as a .npy header spells it */
    int bytes;
} gt_types[] = {{"<f4", 4}, {"<f2", 2}, {"<i2", 2}, {"|i1", 1}, {"|u1", 1}, {"<u4", 4}, {"<i4", 4}};

typedef struct gt_file {
    char name[GT_NAME_BYTES]; /* with its ending */
    gt_type type;
    int rank;         /* 1 or 2 */
    int64_t shape[2]; /* of a rank 1 array: the length and 1 */
    int64_t bytes;    /* of the whole file, as the manifest has it */
    const void *data; /* of a mapped array */
} gt_file;

typedef struct gt_layout {
    int count;
    gt_file files[GT_MAX_FILES];
} gt_layout;

/* How large a word table is; words is 0 where there is none. */
typedef struct gt_word_sizes {
    int64_t words, word_bytes, word_ids;
} gt_word_sizes;

/* Bytes a side file may have at most, or 0 for a name that is not one. */
static int64_t gt_side_cap(const char *name) {
    if (strcmp(name, GT_LABELS_FILE) == 0) return (int64_t)1 << 26;
    if (strcmp(name, GT_TOKENIZER_FILE) == 0) return (int64_t)1 << 26;
    if (strcmp(name, GT_GOLDEN_FILE) == 0) return (int64_t)1 << 29;
    return 0;
}

/* Bytes of an array's numbers. The largest has 1,000,000 x 3 x 4096 of them. */
static int64_t gt_data_bytes(const gt_file *file) {
    return file->shape[0] * file->shape[1] * gt_types[file->type].bytes;
}

/* Write the file name of an array: layer is 0 for the names that have no layer prefix. */
static void gt_array_name(char name[GT_NAME_BYTES], int layer, const char *array, int direction) {
    char prefix[24] = "";
    if (layer > 0) snprintf(prefix, sizeof prefix, "layer_%d_", layer);
    snprintf(name, GT_NAME_BYTES, "%s%s%s.npy", prefix, array, direction ? "_backward" : "");
}

static gt_file *gt_find_file(gt_layout *layout, const char *name) {
    for (int i = 0; i < layout->count; ++i)
        if (strcmp(layout->files[i].name, name) == 0) return &layout->files[i];
    return NULL;
}

static void gt_add_file(gt_layout *layout, const char *name, gt_type type, int rank, int64_t rows,
                        int64_t columns) {
    gt_file *file = &layout->files[layout->count++];
    *file = (gt_file){.type = type, .rank = rank, .shape = {rows, columns}};
    snprintf(file->name, sizeof file->name, "%s", name);
}

/* Add one array of one direction of one layer. */
static void gt_add_array(gt_layout *layout, int layer, const char *array, int direction,
                         gt_type type, int rank, int64_t rows, int64_t columns) {
    char name[GT_NAME_BYTES];
    gt_array_name(name, layer, array, direction);
    gt_add_file(layout, name, type, rank, rows, columns);
}

/* List every file such a model has, but the manifest. */
static void gt_list_files(gt_layout *layout, const gt_config *config, const gt_word_sizes *words) {
    static const gt_type stored[] = {[GT_FLOAT32] = GT_TYPE_FLOAT32,
                                     [GT_FLOAT16] = GT_TYPE_FLOAT16,
                                     [GT_INT16] = GT_TYPE_INT16,
                                     [GT_INT8] = GT_TYPE_INT8};
    const gt_type f4 = GT_TYPE_FLOAT32;
    const int64_t H = config->units, pooled = H * config->directions;
    layout->count = 0;
    for (int d = 0; d < config->directions; ++d) {
        gt_add_array(layout, 0, "gate_table", d, stored[config->table_dtype], 2,
                     config->vocab_size, 3 * H);
        if (config->table_dtype == GT_INT16 || config->table_dtype == GT_INT8)
            gt_add_array(layout, 0, "gate_table_scale", d, f4, 1, config->vocab_size, 1);
        for (int k = 0; k < config->layers; ++k) {
            if (k > 0) {
                gt_add_array(layout, k, "kernel", d, f4, 2, pooled, 3 * H);
                gt_add_array(layout, k, "bias", d, f4, 1, 3 * H, 1);
            }
            gt_add_array(layout, k, "recurrent_kernel", d, stored[config->recurrent_dtype], 2, H,
                         3 * H);
            if (config->recurrent_dtype != GT_FLOAT32)
                gt_add_array(layout, k, "recurrent_kernel_scale", d, f4, 1, 3 * H, 1);
            gt_add_array(layout, k, "candidate_bias", d, f4, 1, H, 1);
        }
    }
    gt_add_file(layout, "head_kernel.npy", f4, 2, pooled, config->num_classes);
    gt_add_file(layout, "head_bias.npy", f4, 1, config->num_classes, 1);
    if (words->words > 0) {
        gt_add_file(layout, "word_bytes.npy", GT_TYPE_UINT8, 1, words->word_bytes, 1);
        gt_add_file(layout, "word_ends.npy", GT_TYPE_UINT32, 1, words->words, 1);
        gt_add_file(layout, "word_ids.npy", GT_TYPE_INT32, 1, words->word_ids, 1);
        gt_add_file(layout, "word_id_ends.npy", GT_TYPE_UINT32, 1, words->words, 1);
    }
    gt_add_file(layout, GT_LABELS_FILE, GT_TYPE_NONE, 0, 0, 0);
    gt_add_file(layout, GT_TOKENIZER_FILE, GT_TYPE_NONE, 0, 0, 0);
    gt_add_file(layout, GT_GOLDEN_FILE, GT_TYPE_NONE, 0, 0, 0);
}

#endif
