/* Inside of gatetable.c: UTF-8, as strictly as Python decodes it. */
#ifndef GATETABLE_UTF8_H
#define GATETABLE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Read the character at *at and move *at behind it.
 *
 * Returns its code point, or -1 where no well-formed character begins: a continuation byte, a cut
 * or overlong form, a surrogate, a value above U+10FFFF. Then *at stays.
 */
static int32_t gt_utf8_next(const uint8_t **at, const uint8_t *end) {
    static const int32_t least[4] = {0, 0x80, 0x800, 0x10000}; /* below it a form is overlong */
    const uint8_t *byte = *at;
    if (byte == end) return -1;
    int32_t code = *byte++;
    int more = 0;
    if (code >= 0x80) {
        if (code >> 5 == 0x06)
            more = 1;
        else if (code >> 4 == 0x0E)
            more = 2;
        else if (code >> 3 == 0x1E)
            more = 3;
        else
            return -1;
        if (end - byte < more) return -1;
        code &= 0x3F >> more;
    }
    for (int i = 0; i < more; ++i, ++byte) {
        if ((*byte & 0xC0) != 0x80) return -1;
        code = code << 6 | (*byte & 0x3F);
    }
    if (code < least[more] || code > 0x10FFFF || code >> 11 == 0xD800 >> 11) return -1;
    *at = byte;
    return code;
}

/* Write a code point as 1 to 4 bytes and return how many. */
static size_t gt_utf8_write(int32_t code, char bytes[4]) {
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const int lead[4] = {0, 0xC0, 0xE0, 0xF0};
    for (int i = more; i > 0; --i, code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3F));
    bytes[0] = (char)(lead[more] | code);
    return (size_t)more + 1;
}

#endif
