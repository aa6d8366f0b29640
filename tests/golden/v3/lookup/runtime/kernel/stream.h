/* Inside of gatetable.c: texts that arrive token by token. */

/* Layers whose state can be kept: none above a bidirectional one, where every output depends on
 * every token. */
struct gt_stream {
    const gt_model *model;
    gt_scratch scratch; /* of one row and one step */
    float *h;           /* (kept layers, padded_units) */
    int16_t *rounded;   /* (kept layers, padded_units + 2) */
    float *pooled;      /* (padded_units,) */
    int32_t *tokens;    /* all so far; bidirectional models only */
    int64_t length, capacity;
    int32_t kept;
};

gt_status gt_stream_open(const gt_model *model, gt_stream **stream) {
    *stream = NULL;
    gt_stream *made = calloc(1, sizeof *made);
    if (made == NULL) return GT_ERROR_MEMORY;
    made->model = model;
    made->kept = model->config.directions == 2 ? 1 : model->config.layers;
    const size_t kept = (size_t)made->kept;
    made->h = gt_allocate(kept * model->padded_units * sizeof(float));
    made->rounded = gt_allocate(kept * (model->padded_units + 2) * sizeof(int16_t));
    made->pooled = gt_allocate(model->padded_units * sizeof(float));
    const gt_status status = gt_make_scratch(model, 1, 1, &made->scratch);
    if (made->h == NULL || made->rounded == NULL || made->pooled == NULL || status != GT_OK) {
        gt_stream_close(made);
        return GT_ERROR_MEMORY;
    }
    *stream = made;
    return GT_OK;
}

void gt_stream_close(gt_stream *stream) {
    if (stream == NULL) return;
    free(stream->scratch.memory);
    free(stream->h);
    free(stream->rounded);
    free(stream->pooled);
    free(stream->tokens);
    free(stream);
}

void gt_stream_reset(gt_stream *stream) {
    const size_t kept = (size_t)stream->kept, padded = stream->model->padded_units;
    memset(stream->h, 0, kept * padded * sizeof(float));
    memset(stream->rounded, 0, kept * (padded + 2) * sizeof(int16_t));
    stream->length = 0;
}

/* One step of layer `layer`, forwards, from gate inputs x. */
static void gt_push_layer(gt_stream *stream, int layer, const float *const x[3]) {
    const gt_model *model = stream->model;
    const gt_direction *direction = &model->layers[layer][0];
    const size_t padded = model->padded_units;
    float *h = stream->h + (size_t)layer * padded;
    int16_t *rounded = stream->rounded + (size_t)layer * (padded + 2);
    const int is_integer = direction->recurrent.dtype != GT_FLOAT32;
    model->kernel->multiply_one(&direction->recurrent, is_integer ? (void *)rounded : (void *)h,
                                stream->scratch.y, (int)(stream->length & 1));
    gt_finish_step(model, direction, x, stream->scratch.y, h, rounded);
}

static gt_status gt_remember(gt_stream *stream, int32_t id) {
    if (stream->length == stream->capacity) {
        const int64_t capacity = stream->capacity ? 2 * stream->capacity : 64;
        int32_t *tokens = realloc(stream->tokens, (size_t)capacity * sizeof *tokens);
        if (tokens == NULL) return GT_ERROR_MEMORY;
        stream->tokens = tokens;
        stream->capacity = capacity;
    }
    stream->tokens[stream->length] = id;
    return GT_OK;
}

gt_status gt_stream_push(gt_stream *stream, int32_t id) {
    const gt_model *model = stream->model;
    const gt_config *config = &model->config;
    if (id < 0 || id >= config->vocab_size || stream->length >= GT_MAX_LENGTH)
        return GT_ERROR_ARGUMENT;
    if (config->directions == 2) {
        const gt_status status = gt_remember(stream, id);
        if (status != GT_OK) return status;
        if (config->layers > 1) {
            ++stream->length;
            return GT_OK;
        }
    }
    const gt_float_mode mode = gt_flush_denormals();
    const size_t units = (size_t)config->units, padded = model->padded_units;
    const float *x[3];
    gt_find_inputs(model, &model->layers[0][0], id, stream->scratch.x, x);
    gt_push_layer(stream, 0, x);
    for (int layer = 1; layer < stream->kept; ++layer) {
        float *outputs = stream->scratch.outputs;
        memcpy(outputs, stream->h + (size_t)(layer - 1) * padded, units * sizeof *outputs);
        const int32_t one = 1;
        const gt_block block = {1, NULL, &one};
        gt_project(model, layer, 0, &block, &stream->scratch);
        for (size_t gate = 0; gate < 3; ++gate)
            x[gate] = stream->scratch.inputs[0] + gate * padded;
        gt_push_layer(stream, layer, x);
    }
    const float *h = stream->h + (size_t)(stream->kept - 1) * padded;
    if (config->pooling == GT_LAST || stream->length == 0)
        memcpy(stream->pooled, h, padded * sizeof *h);
    else
        model->kernel->pool_state(model->panels, config->pooling == GT_MAX, h, stream->pooled);
    ++stream->length;
    gt_restore_denormals(mode);
    return GT_OK;
}

gt_status gt_stream_logits(gt_stream *stream, float *logits) {
    const gt_model *model = stream->model;
    const gt_config *config = &model->config;
    if (stream->length == 0) return gt_logits(model, NULL, 0, logits);
    if (config->directions == 2 && config->layers > 1)
        return gt_logits(model, stream->tokens, stream->length, logits);
    const gt_float_mode mode = gt_flush_denormals();
    const size_t units = (size_t)config->units;
    gt_scratch *scratch = &stream->scratch;
    const float divisor = config->pooling == GT_MEAN ? (float)stream->length : 1.0f;
    if (config->directions == 2) {
        const int32_t *tokens = stream->tokens;
        const int32_t length = (int32_t)stream->length;
        const gt_block block = {1, &tokens, &length};
        gt_run_direction(model, 0, 1, &block, scratch);
    }
    for (size_t unit = 0; unit < units; ++unit)
        scratch->pooled[unit] = stream->pooled[unit] / divisor;
    gt_finish(model, scratch->pooled, scratch->logits, logits);
    gt_restore_denormals(mode);
    return GT_OK;
}

gt_status gt_stream_fork(const gt_stream *stream, gt_stream **twin) {
    const gt_status status = gt_stream_open(stream->model, twin);
    if (status != GT_OK) return status;
    gt_stream *made = *twin;
    const size_t kept = (size_t)stream->kept, padded = stream->model->padded_units;
    memcpy(made->h, stream->h, kept * padded * sizeof(float));
    memcpy(made->rounded, stream->rounded, kept * (padded + 2) * sizeof(int16_t));
    memcpy(made->pooled, stream->pooled, padded * sizeof(float));
    if (stream->tokens != NULL) {
        made->tokens = malloc((size_t)stream->capacity * sizeof *made->tokens);
        if (made->tokens == NULL) {
            gt_stream_close(made);
            *twin = NULL;
            return GT_ERROR_MEMORY;
        }
        memcpy(made->tokens, stream->tokens, (size_t)stream->length * sizeof *made->tokens);
        made->capacity = stream->capacity;
    }
    made->length = stream->length;
    return GT_OK;
}
