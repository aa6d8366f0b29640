/* Hold every instruction set of this machine against the portable kernel, on random models of many
 * shapes: single rows, batches, streams. Needs no file and no Python, so that it also runs as one
 * static program where a machine with other instructions is at hand, or an emulator of one:
 *
 *     cc -O3 -static -I<kernel> isa_parity.c <kernel>/gatetable.c -lm -o isa_parity && ./isa_parity
 *
 * An argument n tries one model out of n.
 *
 * Prints the largest difference of a logit for each instruction set; exit code 1 above the bound.
 */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 23, LONGEST = 14, ROWS = 37 };

static uint64_t state = 88172645463325252u;

static float draw(void) { /* uniform in -1 to 1 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)((double)(state >> 11) / 4503599627370496.0 - 1.0);
}

static float *draw_many(size_t count, float scale) {
    float *values = malloc((count ? count : 1) * sizeof *values);
    for (size_t i = 0; i < count; ++i) values[i] = draw() * scale;
    return values;
}

static void *draw_integers(size_t count, int is_int8, int largest) {
    int8_t *small = malloc(count * 2);
    int16_t *large = (int16_t *)(void *)small;
    for (size_t i = 0; i < count; ++i)
        if (is_int8)
            small[i] = (int8_t)(draw() * (float)largest);
        else
            large[i] = (int16_t)(draw() * (float)largest);
    return small;
}

static float largest_difference(const float *a, const float *b, size_t count) {
    float largest = 0;
    for (size_t i = 0; i < count; ++i) {
        const float difference = fabsf(a[i] - b[i]);
        if (!(difference <= largest)) largest = difference; /* NaN is the largest of all */
    }
    return largest;
}

static void fill_arrays(const gt_config *config, gt_arrays *arrays) {
    const size_t units = (size_t)config->units, sides = (size_t)config->directions;
    memset(arrays, 0, sizeof *arrays);
    for (size_t side = 0; side < sides; ++side) {
        const size_t items = VOCAB * 3 * units;
        if (config->table_dtype == GT_FLOAT32) {
            arrays->gate_table[side] = draw_many(items, 2);
        } else if (config->table_dtype == GT_FLOAT16) {
            /* Every finite half: of both signs, normal and not; large ones only rarely. */
            uint16_t *halves = malloc(items * 2);
            for (size_t i = 0; i < items; ++i)
                halves[i] = (uint16_t)((draw() < 0 ? 0x8000u : 0) |
                                       (uint16_t)(fabsf(draw()) * 0x4400));
            arrays->gate_table[side] = halves;
        } else {
            const int is_int8 = config->table_dtype == GT_INT8;
            arrays->gate_table[side] = draw_integers(items, is_int8, is_int8 ? 127 : 32767);
            float *scale = draw_many(VOCAB, 1);
            for (size_t i = 0; i < VOCAB; ++i)
                scale[i] = (fabsf(scale[i]) + 0.5f) * (is_int8 ? 0.02f : 8e-5f);
            arrays->gate_table_scale[side] = scale;
        }
        for (int layer = 0; layer < config->layers; ++layer) {
            gt_direction_arrays *to = &arrays->layers[layer][side];
            if (config->recurrent_dtype == GT_FLOAT32) {
                to->recurrent_kernel = draw_many(units * 3 * units, 1.5f / sqrtf((float)units));
            } else {
                const int is_int8 = config->recurrent_dtype == GT_INT8;
                int largest = is_int8 ? 127 : 32767;
                if (largest > 131071 / config->units) largest = 131071 / config->units;
                to->recurrent_kernel = draw_integers(units * 3 * units, is_int8, largest);
                float *scale = draw_many(3 * units, 1);
                for (size_t i = 0; i < 3 * units; ++i)
                    scale[i] = (fabsf(scale[i]) + 0.5f) * 1.5f / sqrtf((float)units) /
                               (float)largest;
                to->recurrent_kernel_scale = scale;
            }
            to->candidate_bias = draw_many(units, 0.5f);
            to->kernel = draw_many(sides * units * 3 * units, 1.0f / sqrtf((float)units));
            to->bias = draw_many(3 * units, 0.5f);
        }
    }
    arrays->head_kernel = draw_many(sides * units * (size_t)config->num_classes,
                                    1.0f / sqrtf((float)units));
    arrays->head_bias = draw_many((size_t)config->num_classes, 1);
}

static void release_arrays(const gt_config *config, gt_arrays *arrays) {
    for (int side = 0; side < config->directions; ++side) {
        free((void *)arrays->gate_table[side]);
        free((void *)arrays->gate_table_scale[side]);
        for (int layer = 0; layer < config->layers; ++layer) {
            gt_direction_arrays *from = &arrays->layers[layer][side];
            free((void *)from->recurrent_kernel);
            free((void *)from->recurrent_kernel_scale);
            free((void *)from->candidate_bias);
            free((void *)from->kernel);
            free((void *)from->bias);
        }
    }
    free((void *)arrays->head_kernel);
    free((void *)arrays->head_bias);
}

static int32_t ids[ROWS][LONGEST], lengths[ROWS];

/* Logits of a batch, then of its first rows alone, then of a stream over the longest row. */
static float *run_model(const gt_model *model, size_t *count) {
    const size_t classes = (size_t)gt_num_classes(model);
    float *logits = calloc((ROWS + 4 + LONGEST) * classes, sizeof *logits), *next = logits;
    if (gt_logits_batch(model, &ids[0][0], ROWS, LONGEST, lengths, next) != GT_OK) exit(2);
    next += ROWS * classes;
    for (int row = 0; row < 4; ++row, next += classes)
        if (gt_logits(model, ids[row], lengths[row], next) != GT_OK) exit(2);
    gt_stream *stream;
    if (gt_stream_open(model, &stream) != GT_OK) exit(2);
    for (int t = 0; t < LONGEST; ++t, next += classes)
        if (gt_stream_push(stream, ids[0][t]) != GT_OK || gt_stream_logits(stream, next) != GT_OK)
            exit(2);
    gt_stream_close(stream);
    *count = (size_t)(next - logits);
    return logits;
}

int main(int argc, char **argv) {
    const int stride = argc > 1 ? atoi(argv[1]) : 1; /* try one model out of so many */
    static const int all_units[] = {1, 3, 7, 8, 9, 15, 16, 17, 32, 33, 48, 64, 96, 100, 128, 144};
    static const gt_dtype recurrents[] = {GT_FLOAT32, GT_INT16, GT_INT8};
    const char *const *isas = gt_list_isas();
    float worst[8] = {0};
    int models = 0;
    for (int row = 0; row < ROWS; ++row) {
        lengths[row] = row == 0 ? LONGEST : (int32_t)(fabsf(draw()) * (LONGEST + 1)) % LONGEST;
        for (int t = 0; t < LONGEST; ++t)
            ids[row][t] = (int32_t)(fabsf(draw()) * VOCAB) % VOCAB;
    }
    for (size_t u = 0; u < sizeof all_units / sizeof *all_units; ++u)
        for (int shape = 0; shape < 12; ++shape) {
            if (((int)u * 12 + shape) % stride != 0) continue;
            ++models;
            const gt_config config = {.vocab_size = VOCAB,
                                      .units = all_units[u],
                                      .num_classes = 2 + 7 * shape,
                                      .max_tokens = LONGEST,
                                      .layers = 1 + shape % 4 / 3,
                                      .directions = 1 + shape % 2,
                                      .pooling = (gt_pooling)(shape % 3),
                                      .relu = shape % 5 > 1,
                                      .table_dtype = (gt_dtype)(shape % 4),
                                      .recurrent_dtype = recurrents[(shape / 4 + (int)u) % 3]};
            gt_arrays arrays;
            fill_arrays(&config, &arrays);
            float *expected = NULL;
            size_t count = 0;
            int last = 0;
            while (isas[last + 1] != NULL) ++last;
            for (int i = last; i >= 0; --i) { /* portable first */
                char message[GT_MESSAGE_BYTES];
                gt_model *model;
                if (gt_model_create(&config, &arrays, NULL, isas[i], &model, message) != GT_OK) {
                    fprintf(stderr, "%s\n", message);
                    return 2;
                }
                float *found = run_model(model, &count);
                gt_close(model);
                if (expected == NULL) {
                    expected = found;
                    continue;
                }
                const float difference = largest_difference(found, expected, count);
                if (!(difference <= worst[i])) worst[i] = difference;
                free(found);
            }
            free(expected);
            release_arrays(&config, &arrays);
        }
    int status = 0;
    for (int i = 0; isas[i] != NULL; ++i) {
        printf("%s: %d models, largest difference %.2g\n", isas[i], models, (double)worst[i]);
        /* Different rounding in the gates; a state that rounds to another 14-bit number besides. */
        if (!(worst[i] <= 2e-3f)) status = 1;
    }
    return status;
}
