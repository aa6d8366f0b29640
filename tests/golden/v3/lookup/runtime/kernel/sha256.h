/* Inside of gatetable.c: SHA-256 (FIPS 180-4), for the checksum that a manifest holds of itself.
 *
 * Plain C and no faster than that: a manifest has kilobytes. The constants are those of the
 * standard, the fractions of square and cube roots of the first primes.
 */
#ifndef GATETABLE_SHA256_H
#define GATETABLE_SHA256_H

#include <stdint.h>
#include <string.h>

enum {
    GT_SHA256_BLOCK = 64,
    GT_SHA256_DIGITS = 64, /* of the sum in hex */
    GT_SHA256_LENGTH = 8   /* bytes at the end of the last block that hold the length */
};

typedef struct gt_sha256 {
    uint32_t state[8];
    uint64_t bytes; /* so many were added */
    uint8_t block[GT_SHA256_BLOCK]; /* the last bytes % 64 of them */
} gt_sha256;

static gt_sha256 gt_sha256_start(void) {
    return (gt_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

static uint32_t gt_rotate(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void gt_sha256_take_block(uint32_t state[8], const uint8_t *block) {
    static const uint32_t constants[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t words[64], v[8];
    for (int i = 0; i < 16; ++i) /* big-endian */
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; ++i) {
        const uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + (gt_rotate(a, 7) ^ gt_rotate(a, 18) ^ a >> 3) + words[i - 7] +
                   (gt_rotate(b, 17) ^ gt_rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; ++i) {
        const uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        const uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        const uint32_t first = v[7] + (gt_rotate(v[4], 6) ^ gt_rotate(v[4], 11) ^
                                       gt_rotate(v[4], 25)) + choice + constants[i] + words[i];
        const uint32_t second =
            (gt_rotate(v[0], 2) ^ gt_rotate(v[0], 13) ^ gt_rotate(v[0], 22)) + majority;
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += first;
        v[0] = first + second;
    }
    for (int i = 0; i < 8; ++i) state[i] += v[i];
}

static void gt_sha256_add(gt_sha256 *sum, const void *data, size_t count) {
    const uint8_t *at = data;
    while (count > 0) {
        const size_t filled = (size_t)(sum->bytes % GT_SHA256_BLOCK);
        const size_t room = GT_SHA256_BLOCK - filled, taken = count < room ? count : room;
        memcpy(sum->block + filled, at, taken);
        sum->bytes += taken;
        if (taken == room) gt_sha256_take_block(sum->state, sum->block);
        at += taken;
        count -= taken;
    }
}

/* Write the sum of what was added, lower-case hex ended by zero. Nothing can be added any more. */
static void gt_sha256_end(gt_sha256 *sum, char digits[GT_SHA256_DIGITS + 1]) {
    static const uint8_t padding[GT_SHA256_BLOCK] = {0x80};
    const uint64_t bits = 8 * sum->bytes;
    const size_t filled = (size_t)(sum->bytes % GT_SHA256_BLOCK);
    const size_t whole = GT_SHA256_BLOCK - GT_SHA256_LENGTH;
    gt_sha256_add(sum, padding, filled < whole ? whole - filled : whole + GT_SHA256_BLOCK - filled);
    uint8_t length[GT_SHA256_LENGTH];
    for (int i = 0; i < GT_SHA256_LENGTH; ++i) length[i] = (uint8_t)(bits >> (56 - 8 * i));
    gt_sha256_add(sum, length, sizeof length);
    for (int i = 0; i < GT_SHA256_DIGITS; ++i)
        digits[i] = "0123456789abcdef"[sum->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    digits[GT_SHA256_DIGITS] = '\0';
}

#endif
