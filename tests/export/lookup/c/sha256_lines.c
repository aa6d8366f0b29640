/* Prints the SHA-256 of as many bytes of standard input as each argument says, one a line. The bytes
 * are added in pieces of 1, 2, 3, ... so that pieces end anywhere in a block.
 */
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    static uint8_t data[1 << 20];
    const size_t all = fread(data, 1, sizeof data, stdin);
    for (int i = 1; i < argc; ++i) {
        const size_t bytes = strtoul(argv[i], NULL, 10);
        char digits[GT_SHA256_DIGITS + 1];
        gt_sha256 sum = gt_sha256_start();
        if (bytes > all) return 1;
        for (size_t start = 0, piece = 1; start < bytes; start += piece, ++piece) {
            if (piece > bytes - start) piece = bytes - start;
            gt_sha256_add(&sum, data + start, piece);
        }
        gt_sha256_end(&sum, digits);
        puts(digits);
    }
    return 0;
}
