/* Inside of gatetable.c: manifest.json, what a model looks like and which files hold it.
 *
 * The same checks as manifest.py: keys exactly those of the version, the checksum that the text
 * holds of itself, every value in its range, the list of files exactly the one that axes and
 * options call for. Checksums of files must look like checksums but are not compared with them.
 */
#ifndef GATETABLE_MANIFEST_H
#define GATETABLE_MANIFEST_H

#include "json.h"
#include "layout.h"
#include "refuse.h"
#include "sha256.h"

enum {
    GT_FORMAT_VERSION = 3,
    GT_DIGEST_BYTES = GT_SHA256_DIGITS + 8 /* a longer string is not cut to a right length */
};

#define GT_SEAL "manifest_sha256"

/* Refuse the manifest for one of its values, quoted as it stands there. */
static gt_status gt_refuse_value(const gt_place *place, const char *subject, const char *expected,
                                 gt_json value) {
    char quoted[GT_QUOTE_BYTES];
    gt_json_peek(&value);
    const uint8_t *start = value.at;
    gt_json_skip(&value, GT_JSON_DEPTH);
    return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT, "%s: expected %s, found %s.",
                     subject, expected, gt_quote(quoted, start, (size_t)(value.at - start)));
}

/* Find the members of an object that must have exactly these keys. */
static gt_status gt_take_members(const gt_place *place, const char *subject, gt_json object,
                                 const char *const *keys, int count, gt_json *values) {
    char other[GT_JSON_KEY_BYTES], quoted[GT_QUOTE_BYTES];
    if (!gt_json_members(object, keys, count, values, other))
        return gt_refuse_value(place, subject, "an object", object);
    if (other[0] != '\0')
        return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT,
                         "%s: expected only keys that the format has for these options, found %s.",
                         subject, gt_quote(quoted, other, strlen(other)));
    for (int i = 0; i < count; ++i)
        if (values[i].at == NULL)
            return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT,
                             "%s: expected the key %s, found none such.", subject, keys[i]);
    return GT_OK;
}

static gt_status gt_take_integer(const gt_place *place, const char *subject, gt_json value,
                                 int64_t low, int64_t high, int64_t *result) {
    char expected[64];
    if (gt_json_integer(value, low, high, result)) return GT_OK;
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)low,
             (long long)high);
    return gt_refuse_value(place, subject, expected, value);
}

/* Read one of the names in `choices`, which ends with NULL, as its position there. */
static gt_status gt_take_choice(const gt_place *place, const char *subject, gt_json value,
                                const char *const *choices, int *result) {
    char expected[80] = "one of ", found[32];
    gt_json text = value;
    if (!gt_json_string(&text, found, sizeof found)) found[0] = '\0';
    for (int i = 0; choices[i] != NULL; ++i) {
        if (strcmp(choices[i], found) == 0) {
            *result = i;
            return GT_OK;
        }
        if (i > 0) strcat(expected, ", ");
        strcat(expected, choices[i]);
    }
    return gt_refuse_value(place, subject, expected, value);
}

static gt_status gt_take_bool(const gt_place *place, const char *subject, gt_json value,
                              int *result) {
    *result = gt_json_word(&value, "true");
    if (*result || gt_json_word(&value, "false")) return GT_OK;
    return gt_refuse_value(place, subject, "true or false", value);
}

static gt_status gt_take_axes(const gt_place *place, gt_json axes, gt_config *config) {
    static const char *const keys[] = {"V", "E", "H", "C"};
    static const char *const subjects[] = {"axes.V", "axes.E", "axes.H", "axes.C"};
    static const int64_t limits[][2] = {{2, 1000000}, {1, 4096}, {1, 4096}, {2, 100000}};
    gt_json values[4];
    int64_t sizes[4];
    gt_status status = gt_take_members(place, "axes", axes, keys, 4, values);
    for (int i = 0; i < 4 && status == GT_OK; ++i)
        status =
            gt_take_integer(place, subjects[i], values[i], limits[i][0], limits[i][1], &sizes[i]);
    if (status != GT_OK) return status;
    config->vocab_size = (int32_t)sizes[0]; /* E is told to readers; nothing here depends on it */
    config->units = (int32_t)sizes[2];
    config->num_classes = (int32_t)sizes[3];
    return GT_OK;
}

/* 1e-5 of exact arrays, up to 1 of others; the C reader replays no probes and only checks it. */
static gt_status gt_take_tolerance(const gt_place *place, gt_json value, const gt_config *config) {
    const int is_exact =
        config->table_dtype == GT_FLOAT32 && config->recurrent_dtype == GT_FLOAT32;
    const double slack = 1e-14; /* gt_json_float rounds more than once */
    double tolerance;
    if (gt_json_float(value, &tolerance) && tolerance >= 1e-5 - slack &&
        tolerance <= (is_exact ? 1e-5 + slack : 1.0))
        return GT_OK;
    return gt_refuse_value(place, "tolerance",
                           is_exact ? "1e-05 for exact arrays" : "a number from 1e-05 to 1", value);
}

static gt_status gt_take_word_table(const gt_place *place, gt_json value, gt_word_sizes *words) {
    static const char *const keys[] = {"words", "word_bytes", "word_ids"};
    static const char *const subjects[] = {"word_table.words", "word_table.word_bytes",
                                           "word_table.word_ids"};
    static const int64_t limits[][2] = {{1, 2000000}, {1, 1 << 28}, {0, 1 << 26}};
    int64_t *const sizes[] = {&words->words, &words->word_bytes, &words->word_ids};
    gt_json values[3];
    *words = (gt_word_sizes){0, 0, 0};
    if (gt_json_word(&value, "null")) return GT_OK;
    gt_status status = gt_take_members(place, "word_table", value, keys, 3, values);
    for (int i = 0; i < 3 && status == GT_OK; ++i)
        status =
            gt_take_integer(place, subjects[i], values[i], limits[i][0], limits[i][1], sizes[i]);
    return status;
}

/* Whether a list of integers is a file's shape. */
static int gt_is_shape(gt_json list, const gt_file *file) {
    if (!gt_json_take(&list, '[')) return 0;
    for (int i = 0; i < file->rank; ++i) {
        int64_t size;
        if (i > 0 && !gt_json_take(&list, ',')) return 0;
        if (!gt_json_integer(list, file->shape[i], file->shape[i], &size)) return 0;
        gt_json_skip(&list, 0);
    }
    return gt_json_take(&list, ']');
}

/* Read a checksum. */
static gt_status gt_take_digest(const gt_place *place, const char *subject, gt_json value,
                                char digest[GT_DIGEST_BYTES]) {
    gt_json text = value;
    if (gt_json_string(&text, digest, GT_DIGEST_BYTES) && strlen(digest) == GT_SHA256_DIGITS &&
        strspn(digest, "0123456789abcdef") == GT_SHA256_DIGITS)
        return GT_OK;
    return gt_refuse_value(place, subject, "64 lower-case hex digits", value);
}

/* Compare the manifest's bytes, zeros in the place of the checksum `value`, with that checksum. */
static gt_status gt_check_seal(const gt_place *place, const uint8_t *text, size_t bytes,
                               gt_json value) {
    char zeros[GT_SHA256_DIGITS], digest[GT_DIGEST_BYTES], found[GT_SHA256_DIGITS + 1];
    const gt_status status = gt_take_digest(place, GT_SEAL, value, digest);
    if (status != GT_OK) return status;
    gt_json_peek(&value);
    const uint8_t *digits = value.at + 1, *rest = digits + GT_SHA256_DIGITS;
    memset(zeros, '0', sizeof zeros);
    gt_sha256 sum = gt_sha256_start();
    gt_sha256_add(&sum, text, (size_t)(digits - text));
    gt_sha256_add(&sum, zeros, sizeof zeros);
    gt_sha256_add(&sum, rest, (size_t)(text + bytes - rest));
    gt_sha256_end(&sum, found);
    /* Digits that stand there as escapes are no checksum: what they are part of has another. */
    if (memcmp(digits, found, GT_SHA256_DIGITS) == 0) return GT_OK;
    return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT,
                     "expected " GT_SEAL " %s, found %s." GT_REMEDY, digest, found);
}

/* Read the record of one file: its length, and proof that its writer meant the same array. */
static gt_status gt_take_record(const gt_place *place, gt_json record, gt_file *file) {
    static const char *const keys[] = {"bytes", "sha256", "dtype", "shape"};
    const int is_array = file->type != GT_TYPE_NONE;
    const int64_t cap =
        is_array ? gt_data_bytes(file) + GT_HEADER_BYTES : gt_side_cap(file->name);
    gt_json values[4];
    char subject[GT_NAME_BYTES + 16], part[GT_NAME_BYTES + 24], digest[GT_DIGEST_BYTES];
    char dtype[8], expected[64];
    snprintf(subject, sizeof subject, "files.%s", file->name);
    gt_status status =
        gt_take_members(place, subject, record, keys, is_array ? 4 : 2, values);
    snprintf(part, sizeof part, "%s.bytes", subject);
    if (status == GT_OK) status = gt_take_integer(place, part, values[0], 0, cap, &file->bytes);
    if (status != GT_OK) return status;
    snprintf(part, sizeof part, "%s.sha256", subject);
    status = gt_take_digest(place, part, values[1], digest);
    if (status != GT_OK || !is_array) return status;
    if (!gt_json_string(&values[2], dtype, sizeof dtype) ||
        strcmp(dtype, gt_types[file->type].descr) != 0 || !gt_is_shape(values[3], file)) {
        snprintf(expected, sizeof expected, file->rank == 2 ? "dtype %s, shape [%lld, %lld]"
                                                            : "dtype %s, shape [%lld]",
                 gt_types[file->type].descr, (long long)file->shape[0], (long long)file->shape[1]);
        return gt_refuse_value(place, subject, expected, record);
    }
    return GT_OK;
}

static gt_status gt_take_files(const gt_place *place, gt_json files, gt_layout *layout) {
    const char *names[GT_MAX_FILES];
    gt_json records[GT_MAX_FILES];
    for (int i = 0; i < layout->count; ++i) names[i] = layout->files[i].name;
    gt_status status = gt_take_members(place, "files", files, names, layout->count, records);
    for (int i = 0; i < layout->count && status == GT_OK; ++i)
        status = gt_take_record(place, records[i], &layout->files[i]);
    return status;
}

/* Check that the text is a manifest of a version known here, and find its version. */
static gt_status gt_take_version(const gt_place *place, gt_json *json, int64_t *version) {
    static const char *const keys[] = {"format", "format_version"};
    const uint8_t *start = json->at;
    gt_json values[2];
    char other[GT_JSON_KEY_BYTES], format[32] = "", quoted[GT_QUOTE_BYTES];
    if (!gt_json_check(json))
        return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT,
                         "expected JSON, found a defect: %s at byte %lld." GT_REMEDY, json->defect,
                         (long long)(json->at - start));
    const int is_object = gt_json_members(*json, keys, 2, values, other);
    if (is_object && values[0].at != NULL) gt_json_string(&values[0], format, sizeof format);
    if (strcmp(format, "gatetable-lookup") != 0)
        return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_FORMAT,
                         "expected the manifest of a lookup folder, with format gatetable-lookup, "
                         "found %s. Give the path of an artifact's lookup/ folder.",
                         gt_quote(quoted, format, strlen(format)));
    if (values[1].at == NULL || !gt_json_integer(values[1], 1, GT_FORMAT_VERSION, version)) {
        const uint8_t *found = values[1].at;
        if (found != NULL) gt_json_skip(&values[1], GT_JSON_DEPTH);
        return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_VERSION,
                         "expected format_version 1 to %d, found %s. Build a gatetable.c as new "
                         "as the one that wrote the folder.",
                         GT_FORMAT_VERSION,
                         found == NULL ? "none"
                                       : gt_quote(quoted, found, (size_t)(values[1].at - found)));
    }
    return GT_OK;
}

/* Read the bytes of a manifest.json: the model's shape, and the files it must have. */
static gt_status gt_read_manifest(const gt_place *place, const uint8_t *text, size_t bytes,
                                  gt_config *config, gt_word_sizes *words, gt_layout *layout) {
    enum { FORMAT, VERSION, AXES, LAYERS, BIDIRECTIONAL, POOLING, RELU, MAX_TOKENS, FILES, OF_1,
           TABLE = OF_1, RECURRENT, TOLERANCE, WORDS, OF_2, SEAL = OF_2, OF_3 };
    static const int counts[] = {OF_1, OF_2, OF_3};
    static const char *const keys[] = {
        "format",       "format_version", "axes",  "layers",      "bidirectional",
        "pooling",      "relu",           "max_tokens", "files",  "table_dtype",
        "recurrent_dtype", "tolerance",   "word_table", GT_SEAL};
    static const char *const poolings[] = {"last", "max", "mean", NULL};
    static const char *const table_dtypes[] = {"float32", "float16", "int16", "int8", NULL};
    static const char *const recurrent_dtypes[] = {"float32", "int16", "int8", NULL};
    static const gt_dtype recurrent_meanings[] = {GT_FLOAT32, GT_INT16, GT_INT8};
    gt_json json = {text, text + bytes, NULL}, values[OF_3];
    int64_t version, layers, max_tokens;
    int is_bidirectional, pooling, table = 0, recurrent = 0;
    gt_status status = gt_take_version(place, &json, &version);
    if (status == GT_OK)
        status = gt_take_members(place, "the manifest", json, keys, counts[version - 1], values);
    if (status == GT_OK && version > 2) status = gt_check_seal(place, text, bytes, values[SEAL]);
    if (status == GT_OK) status = gt_take_axes(place, values[AXES], config);
    if (status == GT_OK)
        status = gt_take_integer(place, keys[LAYERS], values[LAYERS], 1, GT_MAX_LAYERS, &layers);
    if (status == GT_OK)
        status = gt_take_bool(place, keys[BIDIRECTIONAL], values[BIDIRECTIONAL],
                              &is_bidirectional);
    if (status == GT_OK)
        status = gt_take_choice(place, keys[POOLING], values[POOLING], poolings, &pooling);
    if (status == GT_OK) status = gt_take_bool(place, keys[RELU], values[RELU], &config->relu);
    if (status == GT_OK)
        status = gt_take_integer(place, keys[MAX_TOKENS], values[MAX_TOKENS], 1, 65536,
                                 &max_tokens);
    if (status == GT_OK && version > 1)
        status = gt_take_choice(place, keys[TABLE], values[TABLE], table_dtypes, &table);
    if (status == GT_OK && version > 1)
        status = gt_take_choice(place, keys[RECURRENT], values[RECURRENT], recurrent_dtypes,
                                &recurrent);
    if (status != GT_OK) return status;
    config->layers = (int32_t)layers;
    config->directions = is_bidirectional ? 2 : 1;
    config->pooling = (gt_pooling)pooling;
    config->max_tokens = (int32_t)max_tokens;
    config->table_dtype = (gt_dtype)table;
    config->recurrent_dtype = recurrent_meanings[recurrent];
    *words = (gt_word_sizes){0, 0, 0};
    if (version > 1) status = gt_take_tolerance(place, values[TOLERANCE], config);
    if (status == GT_OK && version > 1)
        status = gt_take_word_table(place, values[WORDS], words);
    if (status != GT_OK) return status;
    gt_list_files(layout, config, words);
    return gt_take_files(place, values[FILES], layout);
}

#endif
