/* gatetable: a GRU text classifier served from lookup tables, without Python.
 *
 *     gt_model *model;
 *     char message[GT_MESSAGE_BYTES];
 *     if (gt_open("lookup", &model, message) != GT_OK) { fprintf(stderr, "%s\n", message); ... }
 *     gt_predict(model, ids, length, 3, classes, probabilities);
 *     gt_close(model);
 *
 * Build it with any C11 compiler that has vector extensions (gcc, clang) and one command:
 *
 *     cc -O3 program.c gatetable.c -o program -lm
 *
 * gatetable.c picks the fastest instruction set of the machine when a model is opened; the
 * environment variable GATETABLE_ISA forces one ("avx512vnni", "avx512", "avx2", "portable").
 *
 * A model never changes after it was opened: any number of threads may use one. A stream belongs
 * to one thread at a time. Token ids: 0 is padding, 1 the unknown piece. Axes: V vocabulary, C
 * classes, H units, as in docs/artifact_format.md, which defines the folder.
 */
#ifndef GATETABLE_H
#define GATETABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GT_API_VERSION 1

/* Room for any message, its ending zero included. */
#define GT_MESSAGE_BYTES 512

/* Longest sequence of ids that one call takes. */
#define GT_MAX_LENGTH 1048576

typedef struct gt_model gt_model;
typedef struct gt_stream gt_stream;

typedef enum gt_status {
    GT_OK = 0,
    GT_ERROR_MEMORY = 1,       /* the system has none left */
    GT_ERROR_IO = 2,           /* a file is missing or cannot be read */
    GT_ERROR_FORMAT = 3,       /* the folder is damaged or was not written by gatetable */
    GT_ERROR_VERSION = 4,      /* a format version this code does not know */
    GT_ERROR_ARGUMENT = 5,     /* an id, a length or a size is out of range */
    GT_ERROR_UNKNOWN_WORD = 6, /* a word is not in the table and there is no fallback for it */
    GT_ERROR_NO_WORDS = 7,     /* the folder has no word table */
    GT_ERROR_ISA = 8           /* this machine cannot run the instruction set that was forced */
} gt_status;

/* Return a short English name of a status. */
const char *gt_status_name(gt_status status);

/* Open a lookup folder: check every size, shape, id and value once, map its tables.
 *
 * Of the checksums only the manifest's own is compared, not those of the other files: verify a
 * copied artifact with `python -m export verify`.
 *
 * folder   path of an artifact's lookup/ folder
 * model    receives the model, or NULL on failure
 * message  receives what is wrong, GT_MESSAGE_BYTES bytes; may be NULL
 */
gt_status gt_open(const char *folder, gt_model **model, char *message);

/* Release a model; no stream of it may be in use. NULL is allowed. */
void gt_close(gt_model *model);

int32_t gt_vocab_size(const gt_model *model);  /* V */
int32_t gt_num_classes(const gt_model *model); /* C */
int32_t gt_max_tokens(const gt_model *model);  /* texts are cut to so many ids */
const char *gt_isa(const gt_model *model);     /* instruction set in use */

/* Return the label of a class, UTF-8, owned by the model; NULL if there is no such class. */
const char *gt_label(const gt_model *model, int32_t class_id);

/* Compute the logits of one sequence of ids.
 *
 * ids     length ids, each 0 <= id < V
 * length  0 to GT_MAX_LENGTH; 0 counts as one unknown token
 * logits  receives C values
 */
gt_status gt_logits(const gt_model *model, const int32_t *ids, int64_t length, float *logits);

/* Compute the logits of a batch, rows padded on the right.
 *
 * ids      rows x width ids; what stands behind a row's length must be an id all the same
 * lengths  rows lengths, 0 to width
 * logits   receives rows x C values in the order of the rows
 */
gt_status gt_logits_batch(const gt_model *model, const int32_t *ids, int64_t rows, int64_t width,
                          const int32_t *lengths, float *logits);

/* Turn C logits into probabilities, in place. */
void gt_softmax(const gt_model *model, float *logits);

/* Find the k most probable classes of one sequence of ids, best first, equal ones by class id.
 *
 * k              1 to C
 * classes        receives k class ids
 * probabilities  receives their k probabilities
 */
gt_status gt_predict(const gt_model *model, const int32_t *ids, int64_t length, int32_t k,
                     int32_t *classes, float *probabilities);

/* Ids of one word that is not in the word table: a SentencePiece processor's answer for it alone.
 *
 * word      bytes bytes of UTF-8, not ended by zero
 * ids       receives at most capacity ids
 * context   as given to gt_encode
 * Returns how many ids the word has (more than capacity is allowed: the rest is cut), or a
 * negative number to give up, which gt_encode answers with GT_ERROR_UNKNOWN_WORD.
 */
typedef int32_t (*gt_encode_word)(const char *word, size_t bytes, int32_t *ids, int32_t capacity,
                                  void *context);

/* Turn raw UTF-8 text into ids by the folder's word table.
 *
 * text      bytes bytes
 * fallback  called for each word that is not in the table; NULL: GT_ERROR_UNKNOWN_WORD instead
 * ids       receives at most gt_max_tokens(model) ids, at least one
 * length    receives how many
 */
gt_status gt_encode(const gt_model *model, const char *text, size_t bytes,
                    gt_encode_word fallback, void *context, int32_t *ids, int32_t *length);

/* A text that arrives token by token, with an answer at every prefix, equal to the answer for the
 * whole sequence so far. A unidirectional model does one step a push. A bidirectional one keeps
 * the forward state and reads the tokens backwards when asked; with several bidirectional layers
 * asking costs the whole sequence.
 */
gt_status gt_stream_open(const gt_model *model, gt_stream **stream);
void gt_stream_close(gt_stream *stream); /* NULL is allowed */
gt_status gt_stream_push(gt_stream *stream, int32_t id);
gt_status gt_stream_logits(gt_stream *stream, float *logits); /* C values */
void gt_stream_reset(gt_stream *stream);
gt_status gt_stream_fork(const gt_stream *stream, gt_stream **twin);

#ifdef __cplusplus
}
#endif
#endif
