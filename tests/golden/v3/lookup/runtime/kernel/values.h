/* Inside of gatetable.c: what the numbers of a lookup folder must satisfy.
 *
 * The bounds of values.py and word_arrays.py, and one more: no float may be beyond GT_MAX_WEIGHT.
 * Checksums are not compared here, so a flipped exponent bit must not lead to infinity minus
 * infinity: with |weight| <= 1e30, states in [-1, 1] and at most 8192 of them in a sum, every
 * sum stays finite and so does every probability.
 */
#ifndef GATETABLE_VALUES_H
#define GATETABLE_VALUES_H

#include "layout.h"
#include "refuse.h"
#include "utf8.h"

#define GT_MAX_WEIGHT 1e30f
#define GT_MAX_SCALE 1e25f /* times an int16 it is below GT_MAX_WEIGHT */

enum { GT_MAX_COLUMN_SUM = 131071 }; /* times states of 14 fractional bits: below 2**31 */

static uint32_t gt_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Whether some of `count` floats is beyond `limit`, infinite or NaN. As integers: without sign,
 * the bits of floats are ordered like their values, and NaN stands above all. The loop has no
 * exit, so that compilers turn it into vectors. */
static int gt_has_large_float(const uint32_t *bits, int64_t count, float limit) {
    const int32_t most = (int32_t)gt_float_bits(limit);
    int32_t is_found = 0;
    for (int64_t i = 0; i < count; ++i) is_found |= (int32_t)(bits[i] & 0x7FFFFFFFu) > most;
    return is_found;
}

/* Whether some of `count` float16 is infinite or NaN. */
static int gt_has_large_half(const uint16_t *bits, int64_t count) {
    int16_t is_found = 0;
    for (int64_t i = 0; i < count; ++i)
        is_found = (int16_t)(is_found | ((int16_t)(bits[i] & 0x7FFF) >= 0x7C00));
    return is_found;
}

static gt_status gt_check_floats(const gt_place *place, const gt_file *file) {
    const uint32_t *bits = file->data;
    const int64_t count = file->shape[0] * file->shape[1];
    if (file->type == GT_TYPE_FLOAT16) {
        if (!gt_has_large_half(file->data, count)) return GT_OK;
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected finite weights, found NaN or infinity. Train and export again.");
    }
    if (!gt_has_large_float(bits, count, GT_MAX_WEIGHT)) return GT_OK;
    int64_t first = 0;
    while (!gt_has_large_float(bits + first, 1, GT_MAX_WEIGHT)) ++first;
    return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                     "expected finite weights up to %g, found %g at position %lld. Train and "
                     "export again.",
                     (double)GT_MAX_WEIGHT, (double)((const float *)file->data)[first],
                     (long long)first);
}

static gt_status gt_check_scale(const gt_place *place, const gt_file *file) {
    const float *scale = file->data;
    for (int64_t i = 0; i < file->shape[0]; ++i)
        if (!(scale[i] > 0 && scale[i] <= GT_MAX_SCALE))
            return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                             "expected scales above 0 and up to %g, found %g at position "
                             "%lld." GT_REMEDY,
                             (double)GT_MAX_SCALE, (double)scale[i], (long long)i);
    return GT_OK;
}

/* Check that no sum of a column's products can overflow int32. */
static gt_status gt_check_kernel_integers(const gt_place *place, const gt_file *file) {
    enum { BLOCK = 256 }; /* columns whose sums stay in the first cache */
    const int is_int8 = file->type == GT_TYPE_INT8;
    const int32_t most = is_int8 ? INT8_MAX : INT16_MAX;
    const int64_t rows = file->shape[0], columns = file->shape[1];
    for (int64_t first = 0; first < columns; first += BLOCK) {
        int32_t sums[BLOCK] = {0}, largest = 0;
        const int64_t count = columns - first < BLOCK ? columns - first : BLOCK;
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t i = 0; i < count; ++i) {
                const int64_t at = row * columns + first + i;
                const int32_t value = is_int8 ? ((const int8_t *)file->data)[at]
                                              : ((const int16_t *)file->data)[at];
                const int32_t magnitude = value < 0 ? -value : value;
                largest = largest > magnitude ? largest : magnitude;
                sums[i] += magnitude; /* at most 4096 x 32768 */
            }
        if (largest > most)
            return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                             "expected integers from %d to %d, found %d." GT_REMEDY, -most, most,
                             -largest);
        for (int64_t i = 0; i < count; ++i)
            if (sums[i] > GT_MAX_COLUMN_SUM)
                return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                                 "expected columns whose magnitudes add up to at most %d, found %d "
                                 "in column %lld." GT_REMEDY,
                                 GT_MAX_COLUMN_SUM, sums[i], (long long)(first + i));
    }
    return GT_OK;
}

/* Check that padding where a token should be counts as an unknown token. */
static gt_status gt_check_first_rows(const gt_place *place, const gt_file *file) {
    const size_t bytes = (size_t)file->shape[1] * (size_t)gt_types[file->type].bytes;
    if (memcmp(file->data, (const char *)file->data + bytes, bytes) == 0) return GT_OK;
    return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                     "expected row 0 (padding) equal to row 1 (unknown), found them to "
                     "differ." GT_REMEDY);
}

/* Check the numbers of one weight array. */
static gt_status gt_check_values(const gt_place *place, const gt_file *file) {
    const int is_table = strncmp(file->name, "gate_table", 10) == 0;
    gt_status status = GT_OK;
    if (strstr(file->name, "_scale") != NULL)
        status = gt_check_scale(place, file);
    else if (file->type == GT_TYPE_FLOAT32 || file->type == GT_TYPE_FLOAT16)
        status = gt_check_floats(place, file);
    else if (!is_table)
        status = gt_check_kernel_integers(place, file);
    if (status == GT_OK && is_table) status = gt_check_first_rows(place, file);
    return status;
}

static gt_status gt_refuse_words(const gt_place *place, const char *array, const char *expected,
                                 int64_t word) {
    char name[GT_NAME_BYTES];
    snprintf(name, sizeof name, "%s.npy", array);
    return gt_refuse(place, name, GT_ERROR_FORMAT,
                     "expected %s, found otherwise at position %lld." GT_REMEDY, expected,
                     (long long)word);
}

/* Check that word ends and ids can be followed, and that the words are what can be searched for:
 * UTF-8, without a space, sorted, distinct. */
static gt_status gt_check_words(const gt_place *place, const gt_word_arrays *words,
                                const gt_word_sizes *sizes, int32_t vocab_size) {
    const uint32_t *ends = words->word_ends, *id_ends = words->word_id_ends;
    for (int64_t i = 0; i < sizes->words; ++i) {
        if (ends[i] <= (i > 0 ? ends[i - 1] : 0))
            return gt_refuse_words(place, "word_ends", "rising ends of words that are not empty",
                                   i);
        if (id_ends[i] < (i > 0 ? id_ends[i - 1] : 0))
            return gt_refuse_words(place, "word_id_ends", "ends that never fall", i);
    }
    if (ends[sizes->words - 1] != sizes->word_bytes)
        return gt_refuse_words(place, "word_ends", "the last to be the length of word_bytes",
                               sizes->words - 1);
    if (id_ends[sizes->words - 1] != sizes->word_ids)
        return gt_refuse_words(place, "word_id_ends", "the last to be the length of word_ids",
                               sizes->words - 1);
    for (int64_t i = 0; i < sizes->word_ids; ++i)
        if (words->word_ids[i] < 0 || words->word_ids[i] >= vocab_size)
            return gt_refuse_words(place, "word_ids", "ids of the vocabulary", i);
    const uint8_t *last = NULL, *word = words->word_bytes;
    size_t last_bytes = 0;
    for (int64_t i = 0; i < sizes->words; ++i) {
        const uint8_t *end = words->word_bytes + ends[i];
        const size_t bytes = (size_t)(end - word);
        for (const uint8_t *at = word; at < end;)
            if (*at == ' ' || gt_utf8_next(&at, end) < 0)
                return gt_refuse_words(place, "word_bytes", "UTF-8 without a space", i);
        if (last != NULL) {
            const int order = memcmp(last, word, bytes < last_bytes ? bytes : last_bytes);
            if (order > 0 || (order == 0 && last_bytes >= bytes))
                return gt_refuse_words(place, "word_bytes", "distinct words sorted by bytes", i);
        }
        last = word;
        last_bytes = bytes;
        word = end;
    }
    return GT_OK;
}

#endif
