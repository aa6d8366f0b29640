/* Classifies lines: predict FOLDER K [--text] < lines
 *
 * A line holds token ids with blanks between them, or with --text raw UTF-8 text. For each line it
 * prints the K most probable labels, best first: label, tab, probability, tab, label, ...
 */
#include "gatetable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int unknown_words = 0;

/* A program with SentencePiece would encode the word here. This one calls it unknown, id 1. */
static int32_t encode_unknown(const char *word, size_t bytes, int32_t *ids, int32_t capacity,
                              void *context) {
    (void)word, (void)bytes, (void)context;
    ++unknown_words;
    if (capacity > 0) ids[0] = 1;
    return 1;
}

/* Read ids separated by blanks. Returns how many, or -1 for anything else. */
static int64_t parse_ids(const char *line, int32_t *ids) {
    int64_t count = 0;
    for (;;) {
        char *end;
        while (*line == ' ') ++line;
        if (*line == '\0') return count;
        const long id = strtol(line, &end, 10);
        if (end == line || id < 0 || id > INT32_MAX || count == GT_MAX_LENGTH) return -1;
        ids[count++] = (int32_t)id;
        line = end;
    }
}

int main(int argc, char **argv) {
    const int is_text = argc == 4 && strcmp(argv[3], "--text") == 0;
    if (argc != 3 + is_text) {
        fprintf(stderr, "usage: predict FOLDER K [--text] < lines\n");
        return 2;
    }
    char message[GT_MESSAGE_BYTES];
    gt_model *model;
    if (gt_open(argv[1], &model, message) != GT_OK) {
        fprintf(stderr, "%s\n", message);
        return 2;
    }
    const int32_t k = (int32_t)strtol(argv[2], NULL, 10);
    if (k < 1 || k > gt_num_classes(model)) {
        fprintf(stderr, "K: expected 1 to %d, found %s.\n", gt_num_classes(model), argv[2]);
        gt_close(model);
        return 2;
    }
    int32_t *ids = malloc(GT_MAX_LENGTH * sizeof *ids);
    int32_t *classes = malloc((size_t)k * sizeof *classes);
    float *probabilities = malloc((size_t)k * sizeof *probabilities);
    gt_status status = ids && classes && probabilities ? GT_OK : GT_ERROR_MEMORY;
    char *line = NULL;
    size_t room = 0;
    long number = 0;
    for (ssize_t bytes; status == GT_OK && (bytes = getline(&line, &room, stdin)) >= 0;) {
        int32_t encoded = 0;
        ++number;
        if (bytes > 0 && line[bytes - 1] == '\n') line[--bytes] = '\0';
        if (is_text)
            status = gt_encode(model, line, (size_t)bytes, encode_unknown, NULL, ids, &encoded);
        const int64_t length = is_text ? encoded : parse_ids(line, ids);
        /* A length of -1 is refused like any other that is out of range. */
        if (status == GT_OK)
            status = gt_predict(model, ids, length, k, classes, probabilities);
        for (int32_t i = 0; status == GT_OK && i < k; ++i)
            printf("%s\t%.9g%c", gt_label(model, classes[i]), (double)probabilities[i],
                   i + 1 < k ? '\t' : '\n');
    }
    if (status != GT_OK) fprintf(stderr, "line %ld: %s\n", number, gt_status_name(status));
    if (unknown_words > 0)
        fprintf(stderr, "%d words are not in the word table and counted as unknown\n",
                unknown_words);
    free(line);
    free(probabilities);
    free(classes);
    free(ids);
    gt_close(model);
    return status == GT_OK ? 0 : 2;
}
