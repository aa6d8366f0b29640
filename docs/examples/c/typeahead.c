/* Answers while a text arrives: typeahead FOLDER < ids
 *
 * Reads one token id a line and prints the best label of everything read so far after each: label,
 * tab, probability. An empty line begins a new text.
 */
#include "gatetable.h"

#include <stdio.h>
#include <stdlib.h>

static gt_status answer(const gt_model *model, gt_stream *stream, float *logits) {
    const gt_status status = gt_stream_logits(stream, logits);
    if (status != GT_OK) return status;
    gt_softmax(model, logits);
    int32_t best = 0;
    for (int32_t i = 1; i < gt_num_classes(model); ++i)
        if (logits[i] > logits[best]) best = i;
    printf("%s\t%.9g\n", gt_label(model, best), (double)logits[best]);
    fflush(stdout); /* somebody is typing */
    return GT_OK;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: typeahead FOLDER < ids\n");
        return 2;
    }
    char message[GT_MESSAGE_BYTES], line[32];
    gt_model *model;
    gt_stream *stream = NULL;
    if (gt_open(argv[1], &model, message) != GT_OK) {
        fprintf(stderr, "%s\n", message);
        return 2;
    }
    float *logits = malloc((size_t)gt_num_classes(model) * sizeof *logits);
    gt_status status = logits == NULL ? GT_ERROR_MEMORY : gt_stream_open(model, &stream);
    while (status == GT_OK && fgets(line, sizeof line, stdin) != NULL) {
        if (line[0] == '\n') {
            gt_stream_reset(stream);
            continue;
        }
        char *end;
        const long id = strtol(line, &end, 10);
        if (end == line || *end != '\n' || id < 0 || id > INT32_MAX)
            status = GT_ERROR_ARGUMENT;
        else
            status = gt_stream_push(stream, (int32_t)id);
        if (status == GT_OK) status = answer(model, stream, logits);
    }
    if (status != GT_OK) fprintf(stderr, "%s\n", gt_status_name(status));
    gt_stream_close(stream);
    free(logits);
    gt_close(model);
    return status == GT_OK ? 0 : 2;
}
