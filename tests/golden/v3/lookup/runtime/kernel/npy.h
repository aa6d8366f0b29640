/* Inside of gatetable.c: a .npy file, version 1.0, in the one form NumPy writes.
 *
 * The header is compared with the text that NumPy gives the shape and type that the manifest calls
 * for; it is not parsed, so it cannot ask for anything.
 */
#ifndef GATETABLE_NPY_H
#define GATETABLE_NPY_H

#include "layout.h"
#include "refuse.h"

/* Check the header of an array file and its length, and find its numbers.
 *
 * bytes   the file, mapped or read
 * count   its length
 * data    receives where the numbers begin, a multiple of 64 bytes from `bytes`
 */
static gt_status gt_check_npy(const gt_place *place, const gt_file *file, const uint8_t *bytes,
                              int64_t count, const void **data) {
    static const uint8_t magic[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    char expected[160], shape[64], quoted[GT_QUOTE_BYTES];
    const size_t seen = count < GT_HEADER_BYTES ? (size_t)count : GT_HEADER_BYTES;
    if (seen < 10 || memcmp(bytes, magic, sizeof magic) != 0)
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected a .npy file of version 1.0, found it begins with %s." GT_REMEDY,
                         gt_quote(quoted, bytes, seen < 8 ? seen : 8));
    const size_t length = 10 + (size_t)bytes[8] + ((size_t)bytes[9] << 8);
    if (length > seen)
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected a header of at most %d bytes inside the file, found one of "
                         "%lld." GT_REMEDY,
                         GT_HEADER_BYTES, (long long)length);
    snprintf(shape, sizeof shape, file->rank == 2 ? "(%lld, %lld)" : "(%lld,)",
             (long long)file->shape[0], (long long)file->shape[1]);
    const size_t written = (size_t)snprintf(
        expected, sizeof expected, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
        gt_types[file->type].descr, shape);
    size_t end = 10 + written;
    int is_same = length > end && memcmp(bytes + 10, expected, written) == 0;
    while (is_same && end < length - 1) is_same = bytes[end++] == ' ';
    if (!is_same || bytes[length - 1] != '\n')
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected the header %s from manifest.json, found %s." GT_REMEDY, expected,
                         gt_quote(quoted, bytes + 10, length - 10));
    if (length % 64 != 0)
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected the data at a multiple of 64 bytes, found it at "
                         "%lld." GT_REMEDY,
                         (long long)length);
    if (count != (int64_t)length + gt_data_bytes(file))
        return gt_refuse(place, file->name, GT_ERROR_FORMAT,
                         "expected %lld bytes for shape %s, found %lld." GT_REMEDY,
                         (long long)((int64_t)length + gt_data_bytes(file)), shape,
                         (long long)count);
    *data = bytes + length;
    return GT_OK;
}

#endif
