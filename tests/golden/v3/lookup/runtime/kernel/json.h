/* Inside of gatetable.c: strict JSON, as much of it as manifest.json and labels.json need.
 *
 * A cursor walks over bytes that never change; nothing is allocated. Refused, besides what is not
 * JSON: bytes that are not UTF-8, lone surrogates, U+0000 (labels are C strings), a key twice in
 * one object, more than GT_JSON_KEYS keys in one, nesting beyond GT_JSON_DEPTH, anything behind the
 * value. gt_json_check looks at a whole text so; the functions that take values out of it check
 * again whatever they pass.
 */
#ifndef GATETABLE_JSON_H
#define GATETABLE_JSON_H

#include "utf8.h"

#include <string.h>

enum {
    GT_JSON_DEPTH = 8,  /* a manifest has 4 */
    GT_JSON_KEYS = 128, /* in one object; a manifest lists at most 89 files */
    GT_JSON_KEY_BYTES = 64, /* a longer key is cut, and no key of ours is as long as a cut one */
    GT_JSON_END = -1,   /* of a string */
    GT_JSON_BAD = -2
};

typedef struct gt_json {
    const uint8_t *at, *end;
    const char *defect; /* the first one, at `at`; NULL while there is none */
} gt_json;

static int gt_json_fail(gt_json *json, const char *defect) {
    if (json->defect == NULL) json->defect = defect;
    return 0;
}

static int32_t gt_json_bad(gt_json *json, const char *defect) {
    gt_json_fail(json, defect);
    return GT_JSON_BAD;
}

/* Move to what is not blank and return it, or 0 at the end. */
static int gt_json_peek(gt_json *json) {
    while (json->at < json->end && memchr(" \t\n\r", *json->at, 4) != NULL) ++json->at;
    return json->at < json->end ? *json->at : 0;
}

/* Take one character if it comes next. */
static int gt_json_take(gt_json *json, int character) {
    if (gt_json_peek(json) != character || json->at == json->end) return 0;
    ++json->at;
    return 1;
}

static int32_t gt_json_hex(gt_json *json) {
    int32_t code = 0;
    for (int i = 0; i < 4; ++i) {
        const int digit = json->at < json->end ? *json->at : 0;
        if (digit >= '0' && digit <= '9')
            code = code << 4 | (digit - '0');
        else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
            code = code << 4 | ((digit | 0x20) - 'a' + 10);
        else
            return gt_json_bad(json, "an escape without four hex digits");
        ++json->at;
    }
    return code;
}

/* Read the escape behind a backslash. */
static int32_t gt_json_escape(gt_json *json) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const int name = json->at < json->end ? *json->at : 0;
    const char *known = name == 0 ? NULL : strchr(names, name);
    if (known != NULL) {
        ++json->at;
        return meanings[known - names];
    }
    if (name != 'u') return gt_json_bad(json, "an unknown escape");
    ++json->at;
    int32_t code = gt_json_hex(json);
    if (code == GT_JSON_BAD) return GT_JSON_BAD;
    if (code >= 0xD800 && code < 0xE000) {
        if (code >= 0xDC00 || json->end - json->at < 2 || memcmp(json->at, "\\u", 2) != 0)
            return gt_json_bad(json, "half a surrogate pair");
        json->at += 2;
        const int32_t low = gt_json_hex(json);
        if (low == GT_JSON_BAD) return GT_JSON_BAD;
        if (low < 0xDC00 || low >= 0xE000)
            return gt_json_bad(json, "half a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    return code;
}

/* Read one character of a string whose opening quote was taken. */
static int32_t gt_json_character(gt_json *json) {
    if (json->at == json->end) return gt_json_bad(json, "a string without end");
    int32_t code;
    if (*json->at == '"') {
        ++json->at;
        return GT_JSON_END;
    }
    if (*json->at == '\\') {
        ++json->at;
        code = gt_json_escape(json);
        if (code == GT_JSON_BAD) return GT_JSON_BAD;
    } else if (*json->at < 0x20) {
        return gt_json_bad(json, "a control character in a string");
    } else {
        code = gt_utf8_next(&json->at, json->end);
        if (code < 0) return gt_json_bad(json, "bytes that are not UTF-8");
    }
    if (code == 0) return gt_json_bad(json, "the character U+0000");
    return code;
}

/* Read a string into `text`, UTF-8 and ended by zero, cut to whole characters where `capacity`
 * bytes do not hold it. Returns 0 where there is no string or a broken one. */
static int gt_json_string(gt_json *json, char *text, size_t capacity) {
    if (!gt_json_take(json, '"')) return gt_json_fail(json, "no string where one was expected");
    size_t length = 0;
    int is_cut = 0;
    for (int32_t code; (code = gt_json_character(json)) != GT_JSON_END;) {
        if (code == GT_JSON_BAD) return 0;
        char bytes[4];
        const size_t count = gt_utf8_write(code, bytes);
        is_cut |= length + count >= capacity;
        if (!is_cut) {
            memcpy(text + length, bytes, count);
            length += count;
        }
    }
    if (capacity > 0) text[length] = '\0';
    return 1;
}

/* Whether two strings, cursors behind their opening quotes, are the same. */
static int gt_json_equal(gt_json a, gt_json b) {
    for (;;) {
        const int32_t code = gt_json_character(&a);
        if (code != gt_json_character(&b) || code == GT_JSON_BAD) return 0;
        if (code == GT_JSON_END) return 1;
    }
}

static int gt_json_digits(gt_json *json) {
    const uint8_t *start = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') ++json->at;
    return json->at > start || gt_json_fail(json, "a number without a digit");
}

static int gt_json_number(gt_json *json) {
    if (*json->at == '-') ++json->at;
    const uint8_t *start = json->at;
    if (!gt_json_digits(json)) return 0;
    if (*start == '0' && json->at - start > 1) return gt_json_fail(json, "a number with leading 0");
    if (json->at < json->end && *json->at == '.') {
        ++json->at;
        if (!gt_json_digits(json)) return 0;
    }
    if (json->at < json->end && (*json->at | 0x20) == 'e') {
        ++json->at;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-')) ++json->at;
        if (!gt_json_digits(json)) return 0;
    }
    return 1;
}

/* Read one of the words true, false and null. */
static int gt_json_word(gt_json *json, const char *word) {
    const size_t bytes = strlen(word);
    gt_json_peek(json);
    if ((size_t)(json->end - json->at) < bytes || memcmp(json->at, word, bytes) != 0) return 0;
    json->at += bytes;
    return 1;
}

static int gt_json_skip(gt_json *json, int depth);

/* Pass over an array or object whose bracket comes next. */
static int gt_json_skip_members(gt_json *json, int depth) {
    const int is_object = *json->at++ == '{', close = is_object ? '}' : ']';
    gt_json keys[GT_JSON_KEYS];
    int count = 0;
    if (depth == 0) return gt_json_fail(json, "deep nesting");
    if (gt_json_take(json, close)) return 1;
    do {
        if (is_object) {
            if (gt_json_peek(json) != '"') return gt_json_fail(json, "a key that is no string");
            gt_json key = *json;
            ++key.at;
            for (int i = 0; i < count; ++i)
                if (gt_json_equal(keys[i], key)) return gt_json_fail(json, "a key twice");
            if (count == GT_JSON_KEYS) return gt_json_fail(json, "too many keys in one object");
            keys[count++] = key;
            if (!gt_json_string(json, NULL, 0)) return 0;
            if (!gt_json_take(json, ':')) return gt_json_fail(json, "a key without ':'");
        }
        if (!gt_json_skip(json, depth - 1)) return 0;
    } while (gt_json_take(json, ','));
    return gt_json_take(json, close) || gt_json_fail(json, "no ',' or closing bracket");
}

/* Pass over any value. */
static int gt_json_skip(gt_json *json, int depth) {
    const int first = gt_json_peek(json);
    if (first == '{' || first == '[') return gt_json_skip_members(json, depth);
    if (first == '"') return gt_json_string(json, NULL, 0);
    if (first == '-' || (first >= '0' && first <= '9')) return gt_json_number(json);
    return gt_json_word(json, "true") || gt_json_word(json, "false") ||
           gt_json_word(json, "null") || gt_json_fail(json, "no value where one was expected");
}

/* Check a whole text: one value and nothing else. On failure `defect` and `at` say what and where. */
static int gt_json_check(gt_json *json) {
    const gt_json start = *json;
    if (!gt_json_skip(json, GT_JSON_DEPTH)) return 0;
    gt_json_peek(json);
    if (json->at != json->end) return gt_json_fail(json, "something behind the value");
    *json = start;
    return 1;
}

/* Find members of an object: values[i] goes to the value of keys[i], its `at` to NULL where the
 * object has no such key. `other` receives the first key that is not among them, or "". Returns 0
 * where there is no object. */
static int gt_json_members(gt_json json, const char *const *keys, int count, gt_json *values,
                           char other[GT_JSON_KEY_BYTES]) {
    for (int i = 0; i < count; ++i) values[i].at = NULL;
    other[0] = '\0';
    if (!gt_json_take(&json, '{')) return 0;
    char key[GT_JSON_KEY_BYTES];
    while (gt_json_string(&json, key, sizeof key) && gt_json_take(&json, ':')) {
        int i = 0;
        while (i < count && strcmp(keys[i], key) != 0) ++i;
        gt_json_peek(&json);
        if (i < count)
            values[i] = json;
        else if (other[0] == '\0')
            strcpy(other, key[0] == '\0' ? "the empty one" : key);
        if (!gt_json_skip(&json, GT_JSON_DEPTH) || !gt_json_take(&json, ',')) break;
    }
    return 1;
}

/* Read an integer from `low` to `high`; its magnitude is below 10**18. A fraction or exponent makes
 * a number of the same worth another thing, as in Python. */
static int gt_json_integer(gt_json json, int64_t low, int64_t high, int64_t *value) {
    gt_json_peek(&json);
    const uint8_t *digit = json.at;
    if (!gt_json_skip(&json, 0) || json.at - digit > 18) return 0;
    const int is_negative = *digit == '-';
    int64_t magnitude = 0;
    for (digit += is_negative; digit < json.at; ++digit) {
        if (*digit < '0' || *digit > '9') return 0;
        magnitude = 10 * magnitude + (*digit - '0');
    }
    *value = is_negative ? -magnitude : magnitude;
    return *value >= low && *value <= high;
}

/* Read a number, to about 15 digits and whatever the locale: enough to see whether it is in a
 * range. */
static int gt_json_float(gt_json json, double *value) {
    gt_json_peek(&json);
    const uint8_t *at = json.at;
    if (!gt_json_skip(&json, 0) || (*at != '-' && (*at < '0' || *at > '9'))) return 0;
    const int is_negative = *at == '-';
    double magnitude = 0;
    int is_fraction = 0, exponent = 0;
    for (at += is_negative; at < json.at && (*at | 0x20) != 'e'; ++at) {
        is_fraction |= *at == '.';
        if (*at == '.') continue;
        magnitude = 10 * magnitude + (*at - '0');
        exponent -= is_fraction;
    }
    if (at < json.at) {
        const int is_small = at[1] == '-';
        int written = 0;
        for (at += 1 + (is_small || at[1] == '+'); at < json.at; ++at)
            if (written < 100000) written = 10 * written + (*at - '0');
        exponent += is_small ? -written : written;
    }
    for (; exponent > 0 && magnitude < 1e300; --exponent) magnitude *= 10;
    for (; exponent < 0; ++exponent) magnitude /= 10;
    *value = is_negative ? -magnitude : magnitude;
    return 1;
}

#endif
