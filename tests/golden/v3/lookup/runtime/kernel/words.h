/* Inside of gatetable.c: the index of the word table, and raw text to ids through it. */

/* FNV-1a, 64 bits: words are a few bytes long, so a hash by bytes costs less than a call. */
static uint64_t gt_hash_word(const uint8_t *word, size_t bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; ++i) hash = (hash ^ word[i]) * 0x100000001b3u;
    return hash ^ (hash >> 32);
}

static gt_status gt_index_words(gt_word_index *index, const gt_word_arrays *arrays) {
    index->arrays = *arrays;
    if (arrays->words == 0) return GT_OK;
    uint32_t size = 16;
    while (size < 2 * arrays->words) size *= 2;
    index->slots = calloc(size, sizeof *index->slots);
    if (index->slots == NULL) return GT_ERROR_MEMORY;
    index->mask = size - 1;
    uint32_t start = 0;
    for (uint32_t word = 0; word < arrays->words; ++word) {
        const uint32_t end = arrays->word_ends[word];
        uint32_t slot = (uint32_t)gt_hash_word(arrays->word_bytes + start, end - start);
        while (index->slots[slot & index->mask] != 0) ++slot;
        index->slots[slot & index->mask] = word + 1;
        start = end;
    }
    return GT_OK;
}

static int32_t gt_find_indexed(const gt_word_index *index, const uint8_t *word, size_t bytes,
                               const int32_t **ids) {
    const gt_word_arrays *arrays = &index->arrays;
    if (arrays->words == 0) return -1;
    uint32_t slot = (uint32_t)gt_hash_word(word, bytes);
    for (uint32_t number; (number = index->slots[slot & index->mask]) != 0; ++slot) {
        const uint32_t start = number > 1 ? arrays->word_ends[number - 2] : 0;
        const uint32_t end = arrays->word_ends[number - 1];
        if (end - start == bytes && memcmp(arrays->word_bytes + start, word, bytes) == 0) {
            const uint32_t first = number > 1 ? arrays->word_id_ends[number - 2] : 0;
            *ids = arrays->word_ids + first;
            return (int32_t)(arrays->word_id_ends[number - 1] - first);
        }
    }
    return -1;
}

int32_t gt_find_word(const gt_model *model, const char *word, size_t bytes, const int32_t **ids) {
    return gt_find_indexed(&model->words, (const uint8_t *)word, bytes, ids);
}

gt_status gt_encode(const gt_model *model, const char *text, size_t bytes,
                    gt_encode_word fallback, void *context, int32_t *ids, int32_t *length) {
    if (model->words.arrays.words == 0 && fallback == NULL) return GT_ERROR_NO_WORDS;
    const int32_t capacity = model->config.max_tokens;
    int32_t count = 0;
    const char *const text_end = text + bytes;
    for (const char *word = text; word < text_end && count < capacity;) {
        const char *end = memchr(word, ' ', (size_t)(text_end - word));
        if (end == NULL) end = text_end;
        if (end > word) {
            const int32_t room = capacity - count;
            const int32_t *known;
            int32_t found = gt_find_indexed(&model->words, (const uint8_t *)word,
                                            (size_t)(end - word), &known);
            if (found >= 0) {
                if (found > room) found = room;
                for (int32_t i = 0; i < found; ++i) ids[count + i] = known[i];
            } else {
                if (fallback == NULL) return GT_ERROR_UNKNOWN_WORD;
                found = fallback(word, (size_t)(end - word), ids + count, room, context);
                if (found < 0) return GT_ERROR_UNKNOWN_WORD;
                if (found > room) found = room;
                for (int32_t i = 0; i < found; ++i)
                    if (ids[count + i] < 0 || ids[count + i] >= model->config.vocab_size)
                        return GT_ERROR_ARGUMENT;
            }
            count += found;
        }
        word = end + 1;
    }
    if (count == 0) ids[count++] = GT_UNK_ID;
    *length = count;
    return GT_OK;
}
