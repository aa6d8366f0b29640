/* Inside of gatetable.c: sequences through all layers of a packed model.
 *
 * Rows run in blocks, longest first, so that the rows still active are always the first ones. One
 * piece of scratch memory serves a whole call; no step allocates.
 */

/* Scratch of one call: every pointer lies in `memory`. Nothing is allocated after that. */
typedef struct gt_scratch {
    void *memory;
    float *h;         /* (rows, padded_units) */
    float *y;         /* (rows, 3, padded_units) */
    float *x;         /* (rows, 3, padded_units), where table rows must be converted or padded */
    float *direction; /* (rows, padded_units), pooled states of one direction */
    float *pooled;    /* (rows, directions*H) */
    float *logits;    /* (padded_classes,) */
    int16_t *rounded; /* (rows, padded_units + 1), integer kernels only */
    float *outputs;   /* (rows, steps, directions*H), several layers only */
    float *inputs[2]; /* (rows, steps, 3, padded_units) a direction, several layers only */
    size_t steps;
} gt_scratch;

static gt_status gt_make_scratch(const gt_model *model, size_t rows, size_t steps,
                                 gt_scratch *scratch) {
    const gt_config *config = &model->config;
    const size_t padded = model->padded_units;
    const size_t outputs = (size_t)config->directions * (size_t)config->units;
    const size_t kept = config->layers > 1 ? steps : 0;
    /* Each part is rounded up to a cache line, in floats. */
    const size_t line = GT_ALIGNMENT / sizeof(float);
#define GT_PART(floats) (((floats) + line - 1) / line * line)
    const size_t parts[] = {GT_PART(rows * padded),          GT_PART(rows * 3 * padded),
                            GT_PART(rows * 3 * padded),      GT_PART(rows * padded),
                            GT_PART(rows * outputs),         GT_PART(model->padded_classes),
                            GT_PART(rows * (padded + 2)),    GT_PART(rows * kept * outputs),
                            GT_PART(rows * kept * 3 * padded), GT_PART(rows * kept * 3 * padded)};
#undef GT_PART
    size_t total = line;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) total += parts[i];
    scratch->memory = malloc(total * sizeof(float));
    if (scratch->memory == NULL) return GT_ERROR_MEMORY;
    float *next = (float *)(((uintptr_t)scratch->memory + GT_ALIGNMENT - 1) &
                            ~(uintptr_t)(GT_ALIGNMENT - 1));
    float **const pointers[] = {&scratch->h,      &scratch->y,      &scratch->x,
                                &scratch->direction, &scratch->pooled, &scratch->logits,
                                NULL,             &scratch->outputs, &scratch->inputs[0],
                                &scratch->inputs[1]};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; next += parts[i++])
        if (pointers[i] != NULL)
            *pointers[i] = next;
        else
            scratch->rounded = (int16_t *)(void *)next;
    scratch->steps = steps;
    return GT_OK;
}

static size_t gt_item_bytes(gt_dtype dtype) {
    return dtype == GT_FLOAT32 ? 4 : dtype == GT_INT8 ? 1 : 2;
}

/* Ask for a table row early: it is the one thing that does not stay in the caches. The second
 * level is as good as the first; the non-temporal hint lost 10 to 147 %. */
static void gt_prefetch_row(const gt_model *model, const gt_direction *direction, int32_t token) {
    const size_t bytes = 3 * (size_t)model->config.units * gt_item_bytes(model->config.table_dtype);
    const char *row = (const char *)direction->table + (size_t)token * bytes;
    for (size_t at = 0; at < bytes; at += GT_ALIGNMENT) __builtin_prefetch(row + at, 0, 2);
}

/* Point x[3] at the gate inputs of a token, converted to `copy` where they cannot be read as they
 * lie: other types, or vectors that would read beyond the row. */
static void gt_find_inputs(const gt_model *model, const gt_direction *direction, int32_t token,
                           float *copy, const float *x[3]) {
    const size_t units = (size_t)model->config.units, padded = model->padded_units;
    const size_t start = (size_t)token * 3 * units;
    if (model->config.table_dtype == GT_FLOAT32 && padded == units) {
        for (size_t gate = 0; gate < 3; ++gate)
            x[gate] = (const float *)direction->table + start + gate * units;
        return;
    }
    const float scale = direction->table_scale ? direction->table_scale[token] : 1.0f;
    for (size_t gate = 0; gate < 3; ++gate) {
        float *part = copy + gate * padded;
        model->kernel->load_values(model->config.table_dtype, direction->table,
                                   start + gate * units, (int)units, scale, part);
        for (size_t lane = units; lane < padded; ++lane) part[lane] = 0;
        x[gate] = part;
    }
}

/* One step of one row: h = next state, from x and y = h U. */
static void gt_finish_step(const gt_model *model, const gt_direction *direction,
                           const float *const x[3], const float *y, float *h, int16_t *rounded) {
    model->kernel->step_gates(model->panels, x[0], x[1], x[2], y, direction->candidate_bias, h);
    if (direction->recurrent.dtype != GT_FLOAT32)
        model->kernel->round_state(model->panels, h, rounded);
}

/* A block of rows, longest first. */
typedef struct gt_block {
    int rows;
    const int32_t *const *tokens; /* one pointer a row */
    const int32_t *lengths;       /* at least 1, falling */
} gt_block;

/* Run one direction of one layer over a block.
 *
 * Writes the states to `outputs` if this is not the last layer, else the pooled states to
 * `pooled`, both in the columns of this direction.
 */
static void gt_run_direction(const gt_model *model, int layer, int side, const gt_block *block,
                             gt_scratch *scratch) {
    const gt_config *config = &model->config;
    const gt_kernel *kernel = model->kernel;
    const gt_direction *direction = &model->layers[layer][side];
    const size_t units = (size_t)config->units, padded = model->padded_units;
    const size_t width = (size_t)config->directions * units, steps = scratch->steps;
    const int is_integer = direction->recurrent.dtype != GT_FLOAT32;
    const size_t stride = is_integer ? padded + 2 : padded;
    const void *states = is_integer ? (const void *)scratch->rounded : (const void *)scratch->h;
    const int is_last = layer == config->layers - 1;
    int active = block->rows;
    memset(scratch->h, 0, (size_t)active * padded * sizeof(float));
    memset(scratch->y, 0, (size_t)active * 3 * padded * sizeof(float));
    if (is_integer) memset(scratch->rounded, 0, (size_t)active * stride * sizeof(int16_t));
    for (int32_t t = 0; t < block->lengths[0]; ++t) {
        while (block->lengths[active - 1] <= t) --active;
        if (t > 0) { /* before, h and so y is 0 */
            if (active == 1)
                kernel->multiply_one(&direction->recurrent, states, scratch->y, t & 1);
            else
                kernel->multiply_rows(&direction->recurrent, states, stride, scratch->y, active);
        }
        for (int row = 0; row < active; ++row) {
            const int32_t length = block->lengths[row];
            const int32_t at = side == 0 ? t : length - 1 - t;
            const float *x[3];
            if (layer == 0) {
                const int32_t *tokens = block->tokens[row];
                if (t + 1 < length)
                    gt_prefetch_row(model, direction, tokens[side == 0 ? at + 1 : at - 1]);
                gt_find_inputs(model, direction, tokens[at],
                               scratch->x + (size_t)row * 3 * padded, x);
            } else {
                const float *inputs =
                    scratch->inputs[side] + ((size_t)row * steps + (size_t)at) * 3 * padded;
                for (size_t gate = 0; gate < 3; ++gate) x[gate] = inputs + gate * padded;
            }
            float *h = scratch->h + (size_t)row * padded;
            gt_finish_step(model, direction, x, scratch->y + (size_t)row * 3 * padded, h,
                           scratch->rounded + (size_t)row * stride);
            float *pooled = scratch->direction + (size_t)row * padded;
            if (!is_last)
                memcpy(scratch->outputs + ((size_t)row * steps + (size_t)at) * width +
                           (size_t)side * units,
                       h, units * sizeof *h);
            else if (config->pooling == GT_LAST)
                continue;
            else if (t == 0)
                memcpy(pooled, h, padded * sizeof *h);
            else
                kernel->pool_state(model->panels, config->pooling == GT_MAX, h, pooled);
        }
    }
    if (!is_last) return;
    const float *result = config->pooling == GT_LAST ? scratch->h : scratch->direction;
    for (int row = 0; row < block->rows; ++row) {
        float *to = scratch->pooled + (size_t)row * width + (size_t)side * units;
        memcpy(to, result + (size_t)row * padded, units * sizeof *to);
        if (config->pooling == GT_MEAN) {
            const float length = (float)block->lengths[row];
            for (size_t unit = 0; unit < units; ++unit) to[unit] /= length;
        }
    }
}

/* inputs = outputs @ kernel + bias for one direction of a layer above the first. */
static void gt_project(const gt_model *model, int layer, int side, const gt_block *block,
                       gt_scratch *scratch) {
    const gt_direction *direction = &model->layers[layer][side];
    const size_t padded = model->padded_units, steps = scratch->steps;
    const size_t width = (size_t)model->config.directions * (size_t)model->config.units;
    for (int row = 0; row < block->rows; ++row) {
        float *inputs = scratch->inputs[side] + (size_t)row * steps * 3 * padded;
        model->kernel->multiply_rows(&direction->kernel,
                                     scratch->outputs + (size_t)row * steps * width, width, inputs,
                                     block->lengths[row]);
        for (int32_t t = 0; t < block->lengths[row]; ++t)
            for (size_t i = 0; i < 3 * padded; ++i)
                inputs[(size_t)t * 3 * padded + i] += direction->bias[i];
    }
}

/* logits (C,) of a pooled state (directions*H,), which ReLU may change in place. */
static void gt_finish(const gt_model *model, float *pooled, float *padded_logits, float *logits) {
    const gt_config *config = &model->config;
    const int width = config->directions * config->units;
    if (config->relu)
        for (int i = 0; i < width; ++i) pooled[i] = pooled[i] > 0 ? pooled[i] : 0;
    model->kernel->apply_head(model->head_kernel, model->head_bias, width, model->padded_classes,
                              pooled, padded_logits);
    memcpy(logits, padded_logits, (size_t)config->num_classes * sizeof *logits);
}

/* Run all layers over a block, up to `pooled` of the scratch. */
static void gt_run_block(const gt_model *model, const gt_block *block, gt_scratch *scratch) {
    for (int layer = 0; layer < model->config.layers; ++layer) {
        /* Both directions read the outputs below before either overwrites them. */
        for (int side = 0; layer > 0 && side < model->config.directions; ++side)
            gt_project(model, layer, side, block, scratch);
        for (int side = 0; side < model->config.directions; ++side)
            gt_run_direction(model, layer, side, block, scratch);
    }
}

/* Logits of rows that the caller has checked and sorted, longest first. */
static gt_status gt_run_rows(const gt_model *model, const int32_t *const *tokens,
                             const int32_t *lengths, float *const *logits, size_t rows) {
    const gt_config *config = &model->config;
    size_t at_once = rows < GT_BLOCK ? rows : GT_BLOCK;
    /* Several layers keep all their states: bound that to 64 MB, one row at least. */
    const size_t per_row = (size_t)lengths[0] * 7 * (model->padded_units + 1);
    if (config->layers > 1 && at_once * per_row > ((size_t)1 << 24)) at_once = 1;
    gt_scratch scratch;
    if (gt_make_scratch(model, at_once, (size_t)lengths[0], &scratch) != GT_OK)
        return GT_ERROR_MEMORY;
    const gt_float_mode mode = gt_flush_denormals();
    const size_t width = (size_t)config->directions * (size_t)config->units;
    for (size_t start = 0; start < rows; start += at_once) {
        const size_t count = rows - start < at_once ? rows - start : at_once;
        const gt_block block = {(int)count, tokens + start, lengths + start};
        gt_run_block(model, &block, &scratch);
        for (size_t row = 0; row < count; ++row)
            gt_finish(model, scratch.pooled + row * width, scratch.logits, logits[start + row]);
    }
    gt_restore_denormals(mode);
    free(scratch.memory);
    return GT_OK;
}
