/* Opens every folder named on standard input, one a line, and prints a line for each:
 *
 *     0 ok            it opened, and all its answers are probabilities
 *     3 message       it was refused with that status
 *
 * Ends with code 1 and an explanation on standard error at the first folder that does neither.
 * Built with sanitizers: tests/export/lookup/hostile.py.
 */
#include "gatetable.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 40, WIDTH = 5, ROWS = 9 };

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void expect(gt_status status) {
    if (status != GT_OK) fail(gt_status_name(status));
}

/* Turn logits into probabilities and check both. */
static void check_probabilities(const gt_model *model, float *logits) {
    double sum = 0;
    for (int32_t i = 0; i < gt_num_classes(model); ++i)
        if (!isfinite(logits[i])) fail("a logit that is not finite"); /* softmax would hide it */
    gt_softmax(model, logits);
    for (int32_t i = 0; i < gt_num_classes(model); ++i) {
        if (!isfinite(logits[i]) || logits[i] < 0) fail("a probability that is none");
        sum += (double)logits[i];
    }
    if (fabs(sum - 1) > 1e-4) fail("probabilities that do not sum to 1");
}

static void use_stream(const gt_model *model, const int32_t *ids, float *logits) {
    gt_stream *stream, *twin;
    expect(gt_stream_open(model, &stream));
    for (int32_t i = 0; i < 8; ++i) {
        expect(gt_stream_logits(stream, logits));
        check_probabilities(model, logits);
        expect(gt_stream_push(stream, ids[i]));
    }
    expect(gt_stream_fork(stream, &twin));
    gt_stream_reset(stream);
    expect(gt_stream_logits(twin, logits));
    check_probabilities(model, logits);
    if (gt_stream_push(twin, gt_vocab_size(model)) != GT_ERROR_ARGUMENT ||
        gt_stream_push(twin, -1) != GT_ERROR_ARGUMENT)
        fail("a stream took an id that is none");
    gt_stream_close(stream);
    gt_stream_close(twin);
}

static void use_words(const gt_model *model, float *logits) {
    static const char *const texts[] = {"", " ", "a", "cat dog  a", "고양이 cat", "zebra", "\xff a"};
    int32_t *ids = malloc((size_t)gt_max_tokens(model) * sizeof *ids);
    if (ids == NULL) fail("no memory");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        int32_t length = -1;
        const gt_status status =
            gt_encode(model, texts[i], strlen(texts[i]), NULL, NULL, ids, &length);
        if (status == GT_OK) {
            if (length < 1 || length > gt_max_tokens(model)) fail("a text of no or many ids");
            expect(gt_logits(model, ids, length, logits));
            check_probabilities(model, logits);
        } else if (status != GT_ERROR_NO_WORDS && status != GT_ERROR_UNKNOWN_WORD) {
            fail(gt_status_name(status));
        }
    }
    free(ids);
}

static void use_model(const gt_model *model) {
    const int32_t vocab_size = gt_vocab_size(model), classes = gt_num_classes(model);
    float *logits = malloc((size_t)classes * ROWS * sizeof *logits);
    int32_t ids[LONGEST], lengths[ROWS], best[3];
    if (logits == NULL) fail("no memory");
    for (int32_t i = 0; i < LONGEST; ++i) ids[i] = (i * 7 + vocab_size - 1) % vocab_size;
    for (int32_t length = 0; length <= LONGEST; length += length < 4 ? 1 : 9) {
        expect(gt_logits(model, ids, length, logits));
        check_probabilities(model, logits);
    }
    const int32_t k = classes < 3 ? classes : 3;
    expect(gt_predict(model, ids, LONGEST, k, best, logits));
    for (int32_t i = 0; i < k; ++i)
        if (best[i] < 0 || best[i] >= classes || gt_label(model, best[i]) == NULL)
            fail("a class without a label");
    const int32_t batch[ROWS * WIDTH] = {1};
    for (int32_t i = 0; i < ROWS; ++i) lengths[i] = i % (WIDTH + 1);
    expect(gt_logits_batch(model, batch, ROWS, WIDTH, lengths, logits));
    for (int32_t i = 0; i < ROWS; ++i)
        check_probabilities(model, logits + (size_t)i * (size_t)classes);
    ids[3] = vocab_size;
    if (gt_logits(model, ids, LONGEST, logits) != GT_ERROR_ARGUMENT) fail("took an id that is none");
    ids[3] = 0;
    use_stream(model, ids, logits);
    use_words(model, logits);
    for (int32_t i = 0; i < classes; ++i)
        if (gt_label(model, i) == NULL) fail("a class without a label");
    if (gt_label(model, -1) != NULL || gt_label(model, classes) != NULL) fail("one label too many");
    free(logits);
}

int main(void) {
    char folder[4096];
    while (fgets(folder, sizeof folder, stdin) != NULL) {
        gt_model *model;
        char message[GT_MESSAGE_BYTES] = "";
        folder[strcspn(folder, "\n")] = '\0';
        const gt_status status = gt_open(folder, &model, message);
        if (status == GT_OK) {
            use_model(model);
            gt_close(model);
            printf("0 ok\n");
        } else {
            if (model != NULL) fail("a model in spite of an error");
            if (strlen(message) < 10 || strchr(message, '\n') != NULL) fail("no usable message");
            printf("%d %s\n", (int)status, message);
        }
        fflush(stdout); /* the caller counts the lines after a crash */
    }
    return 0;
}
