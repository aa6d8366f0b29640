/* Inside of gatetable.c: opening a lookup folder (docs/artifact_format.md, versions 1 and 2).
 *
 * The checks and their order are those of the Python reader, from cheap and safe to costly: kinds
 * and caps of all entries, manifest, names, lengths, headers, values, labels. A folder that fails
 * is refused as a whole. No path is taken from a file, links are not followed, nothing but the
 * labels is copied, and what is allocated is bounded by files whose length was checked.
 *
 * Arrays stay mapped read-only. Checksums are not compared, tokenizer.model and golden.jsonl are
 * not read. Files must not change once they are mapped: one that is cut short then ends the
 * process, one that is overwritten is not checked again. Replace a folder by renaming.
 */
#ifndef GATETABLE_READER_H
#define GATETABLE_READER_H

#include "layout.h"
#include "manifest.h"
#include "npy.h"
#include "refuse.h"
#include "values.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The arrays of a lookup folder are little-endian and used as they lie."
#endif

typedef struct gt_mapping {
    void *address;
    size_t bytes;
} gt_mapping;

/* What an open folder holds on to. */
typedef struct gt_folder {
    int mapping_count;
    gt_mapping mappings[GT_MAX_FILES];
    char *label_text; /* all labels, each ended by zero */
    char **labels;    /* (C,) into label_text */
} gt_folder;

static void gt_folder_release(gt_folder *owner) {
    for (int i = 0; i < owner->mapping_count; ++i)
        munmap(owner->mappings[i].address, owner->mappings[i].bytes);
    free(owner->label_text);
    free(owner->labels);
    *owner = (gt_folder){0};
}

static gt_status gt_refuse_system(const gt_place *place, const char *name, const char *expected) {
    const int error = errno;
    return gt_refuse(place, name, error == ENOMEM ? GT_ERROR_MEMORY : GT_ERROR_IO,
                     "expected %s, found: %s.", expected, strerror(error));
}

static gt_status gt_refuse_kind(const gt_place *place, const char *name, mode_t mode) {
    return gt_refuse(place, name, GT_ERROR_FORMAT,
                     "expected a regular file, found %s. Copy the files themselves into the "
                     "folder.",
                     S_ISLNK(mode) ? "a symbolic link" : "something else");
}

/* Name of the next entry, or NULL with errno 0 at the end of the folder. */
static const char *gt_next_entry(DIR *directory) {
    const struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(directory);
    } while (entry != NULL &&
             (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry == NULL ? NULL : entry->d_name;
}

/* Refuse links, anything that is not a file, and files beyond their cap, before one is opened. */
static gt_status gt_scan(const gt_place *place, DIR *directory) {
    int has_manifest = 0;
    char quoted[GT_QUOTE_BYTES];
    for (const char *name; (name = gt_next_entry(directory)) != NULL;) {
        const char *shown = gt_quote(quoted, name, strlen(name));
        struct stat entry;
        if (fstatat(dirfd(directory), name, &entry, AT_SYMLINK_NOFOLLOW) != 0)
            return gt_refuse_system(place, shown, "a readable entry");
        if (strcmp(name, GT_RUNTIME_FOLDER) == 0 && S_ISDIR(entry.st_mode)) continue;
        if (!S_ISREG(entry.st_mode)) return gt_refuse_kind(place, shown, entry.st_mode);
        const int is_manifest = strcmp(name, GT_MANIFEST_FILE) == 0;
        const int64_t side_cap = gt_side_cap(name);
        const int64_t cap = is_manifest ? GT_MANIFEST_CAP : side_cap > 0 ? side_cap : GT_ARRAY_CAP;
        if (entry.st_size > cap)
            return gt_refuse(place, shown, GT_ERROR_FORMAT,
                             "expected at most %lld bytes, found %lld." GT_REMEDY, (long long)cap,
                             (long long)entry.st_size);
        has_manifest |= is_manifest;
    }
    if (errno != 0) return gt_refuse_system(place, "", "a readable folder");
    if (!has_manifest)
        return gt_refuse(place, GT_MANIFEST_FILE, GT_ERROR_IO,
                         "no such file, so this is not a lookup folder. Give the path of an "
                         "artifact's lookup/ folder.");
    return GT_OK;
}

/* Compare the entries of the folder with the layout: names, then lengths. */
static gt_status gt_check_entries(const gt_place *place, DIR *directory, gt_layout *layout) {
    struct stat entry;
    int64_t sizes[GT_MAX_FILES];
    char quoted[GT_QUOTE_BYTES];
    for (int i = 0; i < layout->count; ++i) {
        const char *name = layout->files[i].name;
        if (fstatat(dirfd(directory), name, &entry, AT_SYMLINK_NOFOLLOW) != 0)
            return gt_refuse(place, name, GT_ERROR_IO,
                             "listed in manifest.json, found no such file." GT_REMEDY);
        sizes[i] = entry.st_size;
    }
    rewinddir(directory);
    for (const char *name; (name = gt_next_entry(directory)) != NULL;) {
        const int is_runtime = strcmp(name, GT_RUNTIME_FOLDER) == 0 &&
                               fstatat(dirfd(directory), name, &entry, AT_SYMLINK_NOFOLLOW) == 0 &&
                               S_ISDIR(entry.st_mode);
        if (gt_find_file(layout, name) == NULL && strcmp(name, GT_MANIFEST_FILE) != 0 &&
            !is_runtime)
            return gt_refuse(place, gt_quote(quoted, name, strlen(name)), GT_ERROR_FORMAT,
                             "expected only files that manifest.json lists, found this one. "
                             "Remove it, or copy the artifact again.");
    }
    for (int i = 0; i < layout->count; ++i)
        if (sizes[i] != layout->files[i].bytes)
            return gt_refuse(place, layout->files[i].name, GT_ERROR_FORMAT,
                             "expected %lld bytes from manifest.json, found %lld." GT_REMEDY,
                             (long long)layout->files[i].bytes, (long long)sizes[i]);
    return GT_OK;
}

/* Map a whole file read-only. An empty one gives no mapping and an address that is not read.
 *
 * bytes  length it must have, or -1 for any up to `cap`
 */
static gt_status gt_map_file(const gt_place *place, DIR *directory, const char *name,
                             int64_t bytes, int64_t cap, gt_mapping *mapping) {
    /* Should a pipe or link take the place of the file that was looked at: no waiting for the
     * pipe's writer, no following the link. */
    const int file = openat(dirfd(directory), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return gt_refuse_system(place, name, "a readable file");
    struct stat entry;
    gt_status status = GT_OK;
    *mapping = (gt_mapping){(void *)"", 0};
    if (fstat(file, &entry) != 0)
        status = gt_refuse_system(place, name, "a readable file");
    else if (!S_ISREG(entry.st_mode))
        status = gt_refuse_kind(place, name, entry.st_mode);
    else if (bytes >= 0 ? entry.st_size != bytes : entry.st_size > cap)
        status = gt_refuse(place, name, GT_ERROR_FORMAT,
                           "expected %s%lld bytes, found %lld." GT_REMEDY,
                           bytes >= 0 ? "" : "at most ", (long long)(bytes >= 0 ? bytes : cap),
                           (long long)entry.st_size);
    else if (entry.st_size > 0) {
        mapping->bytes = (size_t)entry.st_size;
        mapping->address = (uint64_t)entry.st_size > SIZE_MAX / 2
                               ? MAP_FAILED
                               : mmap(NULL, mapping->bytes, PROT_READ, MAP_SHARED, file, 0);
        if (mapping->address == MAP_FAILED)
            status = gt_refuse_system(place, name, "a file that can be mapped");
    }
    close(file);
    return status;
}

/* Map every array and check its header; no number is looked at yet. */
static gt_status gt_map_arrays(const gt_place *place, DIR *directory, gt_layout *layout,
                               gt_folder *owner) {
    for (int i = 0; i < layout->count; ++i) {
        gt_file *file = &layout->files[i];
        if (file->type == GT_TYPE_NONE) continue;
        gt_mapping mapping;
        gt_status status = gt_map_file(place, directory, file->name, file->bytes, 0, &mapping);
        if (status != GT_OK) return status;
        if (mapping.bytes > 0) owner->mappings[owner->mapping_count++] = mapping;
        status = gt_check_npy(place, file, mapping.address, file->bytes, &file->data);
        if (status != GT_OK) return status;
    }
    return GT_OK;
}

static const void *gt_find_array(gt_layout *layout, int layer, const char *array, int direction) {
    char name[GT_NAME_BYTES];
    gt_array_name(name, layer, array, direction);
    const gt_file *file = gt_find_file(layout, name);
    return file == NULL ? NULL : file->data;
}

static void gt_point_arrays(gt_layout *layout, const gt_config *config, gt_arrays *arrays) {
    for (int d = 0; d < config->directions; ++d) {
        arrays->gate_table[d] = gt_find_array(layout, 0, "gate_table", d);
        arrays->gate_table_scale[d] = gt_find_array(layout, 0, "gate_table_scale", d);
        for (int k = 0; k < config->layers; ++k)
            arrays->layers[k][d] = (gt_direction_arrays){
                .recurrent_kernel = gt_find_array(layout, k, "recurrent_kernel", d),
                .recurrent_kernel_scale = gt_find_array(layout, k, "recurrent_kernel_scale", d),
                .candidate_bias = gt_find_array(layout, k, "candidate_bias", d),
                .kernel = k == 0 ? NULL : gt_find_array(layout, k, "kernel", d),
                .bias = k == 0 ? NULL : gt_find_array(layout, k, "bias", d)};
    }
    arrays->head_kernel = gt_find_array(layout, 0, "head_kernel", 0);
    arrays->head_bias = gt_find_array(layout, 0, "head_bias", 0);
}

static int gt_compare_labels(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Find a label that is there twice, or NULL. Sorts. */
static const char *gt_find_twice(char **labels, int32_t count) {
    qsort(labels, (size_t)count, sizeof *labels, gt_compare_labels);
    for (int32_t i = 1; i < count; ++i)
        if (strcmp(labels[i - 1], labels[i]) == 0) return labels[i];
    return NULL;
}

/* Take the labels out of labels.json into `owner`. */
static gt_status gt_parse_labels(const gt_place *place, const gt_mapping *text, int32_t classes,
                                 gt_folder *owner) {
    gt_json json = {text->address, (const uint8_t *)text->address + text->bytes, NULL};
    const uint8_t *start = json.at;
    char quoted[GT_QUOTE_BYTES];
    int32_t count = 0;
    size_t length = 0;
    /* A label is never longer than it stands in the file, and its quotes make room for its zero. */
    owner->label_text = malloc(text->bytes + 1);
    owner->labels = malloc(2 * (size_t)classes * sizeof *owner->labels); /* and room to sort */
    if (owner->label_text == NULL || owner->labels == NULL)
        return gt_refuse(place, GT_LABELS_FILE, GT_ERROR_MEMORY,
                         "expected memory for %lld bytes of labels, found none.",
                         (long long)text->bytes);
    int is_list = gt_json_take(&json, '[');
    if (is_list && !gt_json_take(&json, ']')) {
        do {
            char *label = owner->label_text + length;
            is_list = gt_json_string(&json, label, text->bytes + 1 - length);
            if (!is_list) break;
            length += strlen(label) + 1;
            if (count < classes) owner->labels[count] = label;
            ++count;
        } while (gt_json_take(&json, ','));
        is_list = is_list && gt_json_take(&json, ']');
    }
    if (!is_list || gt_json_peek(&json) != 0 || json.at != json.end)
        return gt_refuse(place, GT_LABELS_FILE, GT_ERROR_FORMAT,
                         "labels: expected a JSON list of strings, found %s at byte "
                         "%lld." GT_REMEDY,
                         json.defect == NULL ? "something else" : json.defect,
                         (long long)(json.at - start));
    if (count != classes)
        return gt_refuse(place, GT_LABELS_FILE, GT_ERROR_FORMAT,
                         "labels: expected %d, found %d." GT_REMEDY, classes, count);
    memcpy(owner->labels + classes, owner->labels, (size_t)classes * sizeof *owner->labels);
    const char *twice = gt_find_twice(owner->labels + classes, classes);
    if (twice != NULL)
        return gt_refuse(place, GT_LABELS_FILE, GT_ERROR_FORMAT,
                         "labels: expected distinct ones, found '%s' twice." GT_REMEDY,
                         gt_quote(quoted, twice, strlen(twice)));
    return GT_OK;
}

static gt_status gt_read_open_folder(const gt_place *place, DIR *directory, gt_config *config,
                                     gt_arrays *arrays, gt_word_arrays *words, gt_folder *owner) {
    gt_layout layout;
    gt_word_sizes sizes;
    gt_mapping text;
    gt_status status = gt_scan(place, directory);
    if (status == GT_OK)
        status = gt_map_file(place, directory, GT_MANIFEST_FILE, -1, GT_MANIFEST_CAP, &text);
    if (status != GT_OK) return status;
    status = gt_read_manifest(place, text.address, text.bytes, config, &sizes, &layout);
    if (text.bytes > 0) munmap(text.address, text.bytes);
    if (status == GT_OK) status = gt_check_entries(place, directory, &layout);
    if (status == GT_OK) status = gt_map_arrays(place, directory, &layout, owner);
    for (int i = 0; i < layout.count && status == GT_OK; ++i)
        if (layout.files[i].type <= GT_TYPE_INT8)
            status = gt_check_values(place, &layout.files[i]);
    if (status != GT_OK) return status;
    gt_point_arrays(&layout, config, arrays);
    if (sizes.words > 0) {
        words->words = (uint32_t)sizes.words;
        words->word_bytes = gt_find_array(&layout, 0, "word_bytes", 0);
        words->word_ends = gt_find_array(&layout, 0, "word_ends", 0);
        words->word_ids = gt_find_array(&layout, 0, "word_ids", 0);
        words->word_id_ends = gt_find_array(&layout, 0, "word_id_ends", 0);
        status = gt_check_words(place, words, &sizes, config->vocab_size);
        if (status != GT_OK) return status;
    }
    const gt_file *labels = gt_find_file(&layout, GT_LABELS_FILE);
    status = gt_map_file(place, directory, labels->name, labels->bytes, 0, &text);
    if (status != GT_OK) return status;
    status = gt_parse_labels(place, &text, config->num_classes, owner);
    if (text.bytes > 0) munmap(text.address, text.bytes);
    return status;
}

/* Open and check a lookup folder.
 *
 * folder   its path
 * config   receives the model's shape
 * arrays   receives pointers into what `owner` holds
 * words    likewise
 * owner    receives the mappings and labels; give it to gt_folder_release. Empty on failure
 * message  receives what is wrong, GT_MESSAGE_BYTES bytes; may be NULL
 */
static gt_status gt_read_folder(const char *folder, gt_config *config, gt_arrays *arrays,
                                gt_word_arrays *words, gt_folder *owner, char *message) {
    const gt_place place = {folder, message};
    *config = (gt_config){0};
    *arrays = (gt_arrays){0};
    *words = (gt_word_arrays){0};
    *owner = (gt_folder){0};
    DIR *directory = opendir(folder);
    if (directory == NULL && (errno == ENOENT || errno == ENOTDIR))
        return gt_refuse(&place, "", GT_ERROR_IO,
                         "expected a lookup folder, found none. Give the path of an artifact's "
                         "lookup/ folder.");
    if (directory == NULL) return gt_refuse_system(&place, "", "a readable folder");
    const gt_status status = gt_read_open_folder(&place, directory, config, arrays, words, owner);
    closedir(directory);
    if (status != GT_OK) gt_folder_release(owner);
    return status;
}

#endif
