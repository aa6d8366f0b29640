/* Reads a manifest and refuses it with each of its bits flipped, and cut at each of its bytes:
 *
 *     manifest_bits lookup/manifest.json
 *
 * prints how many bits it flipped, how many cuts it made, and how many of both were not refused.
 * Ends with code 1 where the manifest itself is refused, or a refusal says nothing.
 */
#include "model.h"

#include "manifest.h"

#include <stdlib.h>

static gt_status read_manifest(const uint8_t *text, size_t bytes, char *message) {
    const gt_place place = {"lookup", message};
    gt_config config;
    gt_word_sizes words;
    gt_layout layout;
    message[0] = '\0';
    return gt_read_manifest(&place, text, bytes, &config, &words, &layout);
}

/* 1 where the manifest passes, 0 where it is refused; a copy of its own length, so that a sanitizer
 * sees a byte too far. */
static size_t passes(const uint8_t *text, size_t bytes) {
    char message[GT_MESSAGE_BYTES];
    uint8_t *copy = malloc(bytes + (bytes == 0));
    if (copy == NULL) exit(2);
    memcpy(copy, text, bytes);
    const gt_status status = read_manifest(copy, bytes, message);
    free(copy);
    if (status == GT_OK) return 1;
    if ((status != GT_ERROR_FORMAT && status != GT_ERROR_VERSION) || message[0] == '\0') {
        fprintf(stderr, "status %d: %s\n", status, message);
        exit(1);
    }
    return 0;
}

int main(int argc, char **argv) {
    static uint8_t text[GT_MANIFEST_CAP];
    char message[GT_MESSAGE_BYTES];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL) return 2;
    const size_t bytes = fread(text, 1, sizeof text, file);
    fclose(file);
    if (read_manifest(text, bytes, message) != GT_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    size_t passed = 0;
    for (size_t bit = 0; bit < 8 * bytes; ++bit) {
        const uint8_t flip = (uint8_t)(1 << bit % 8);
        text[bit / 8] ^= flip;
        passed += passes(text, bytes);
        text[bit / 8] ^= flip;
    }
    for (size_t kept = 0; kept < bytes; ++kept) passed += passes(text, kept);
    printf("%zu %zu %zu\n", 8 * bytes, bytes, passed);
    return 0;
}
