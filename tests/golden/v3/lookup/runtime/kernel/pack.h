/* Inside of gatetable.c: laying out a model's arrays as the kernel of its instruction set reads
 * them. Gate tables stay where they are.
 */

/* Zeroed memory at a cache line. The system's own is freed with free(). */
static void *gt_allocate(size_t bytes) {
    bytes = (bytes + GT_ALIGNMENT - 1) / GT_ALIGNMENT * GT_ALIGNMENT;
    void *memory = aligned_alloc(GT_ALIGNMENT, bytes ? bytes : GT_ALIGNMENT);
    if (memory != NULL) memset(memory, 0, bytes);
    return memory;
}

/* Pack `from` (rows, 3H) as panels; see gru_kernel.h for the order. */
static gt_status gt_pack_matrix(gt_matrix *matrix, gt_dtype dtype, const void *from,
                                const float *scale, int32_t rows, int32_t units, int width) {
    const int32_t panels = (units + width - 1) / width;
    const size_t padded = (size_t)panels * (size_t)width;
    matrix->dtype = dtype;
    matrix->panels = panels;
    matrix->rows = dtype == GT_FLOAT32 ? rows : (rows + 1) / 2 * 2;
    const size_t item = dtype == GT_FLOAT32 ? 4 : dtype == GT_INT16 ? 2 : 1;
    matrix->data = gt_allocate((size_t)matrix->rows * 3 * padded * item);
    if (matrix->data == NULL) return GT_ERROR_MEMORY;
    for (int32_t row = 0; row < rows; ++row)
        for (int32_t gate = 0; gate < 3; ++gate)
            for (int32_t unit = 0; unit < units; ++unit) {
                const size_t source = ((size_t)row * 3 + (size_t)gate) * (size_t)units + (size_t)unit;
                const size_t panel = (size_t)(unit / width), lane = (size_t)(unit % width);
                if (dtype == GT_FLOAT32) {
                    const size_t line = (panel * (size_t)rows + (size_t)row) * 3 + (size_t)gate;
                    ((float *)matrix->data)[line * (size_t)width + lane] =
                        ((const float *)from)[source];
                    continue;
                }
                const size_t pairs = (size_t)matrix->rows / 2;
                const size_t line = (panel * pairs + (size_t)row / 2) * 3 + (size_t)gate;
                const size_t target = 2 * (line * (size_t)width + lane) + (size_t)row % 2;
                if (dtype == GT_INT16)
                    ((int16_t *)matrix->data)[target] = ((const int16_t *)from)[source];
                else
                    ((int8_t *)matrix->data)[target] = ((const int8_t *)from)[source];
            }
    if (dtype == GT_FLOAT32) return GT_OK;
    matrix->scale = gt_allocate(3 * padded * sizeof *matrix->scale);
    if (matrix->scale == NULL) return GT_ERROR_MEMORY;
    for (int32_t gate = 0; gate < 3; ++gate)
        for (int32_t unit = 0; unit < units; ++unit)
            matrix->scale[(size_t)gate * padded + (size_t)unit] =
                scale[gate * units + unit] * 0x1p-14f; /* states have 14 fractional bits */
    return GT_OK;
}

/* Copy `from` (parts, count) to (parts, padded), zeros behind each part. */
static float *gt_pack_rows(const float *from, size_t parts, size_t count, size_t padded) {
    float *packed = gt_allocate(parts * padded * sizeof *packed);
    if (packed != NULL)
        for (size_t part = 0; part < parts; ++part)
            memcpy(packed + part * padded, from + part * count, count * sizeof *packed);
    return packed;
}

static gt_status gt_pack_model(gt_model *model, const gt_arrays *arrays) {
    const gt_config *config = &model->config;
    const int width = model->kernel->width;
    const size_t units = (size_t)config->units, classes = (size_t)config->num_classes;
    const int32_t outputs = config->directions * config->units;
    model->panels = (config->units + width - 1) / width;
    model->padded_units = (size_t)model->panels * (size_t)width;
    model->padded_classes = (classes + (size_t)width - 1) / (size_t)width * (size_t)width;
    for (int32_t layer = 0; layer < config->layers; ++layer)
        for (int32_t side = 0; side < config->directions; ++side) {
            const gt_direction_arrays *from = &arrays->layers[layer][side];
            gt_direction *to = &model->layers[layer][side];
            gt_status status =
                gt_pack_matrix(&to->recurrent, config->recurrent_dtype, from->recurrent_kernel,
                               from->recurrent_kernel_scale, config->units, config->units, width);
            if (status != GT_OK) return status;
            to->candidate_bias = gt_pack_rows(from->candidate_bias, 1, units, model->padded_units);
            if (to->candidate_bias == NULL) return GT_ERROR_MEMORY;
            if (layer == 0) {
                to->table = arrays->gate_table[side];
                to->table_scale = arrays->gate_table_scale[side];
                continue;
            }
            status = gt_pack_matrix(&to->kernel, GT_FLOAT32, from->kernel, NULL, outputs,
                                    config->units, width);
            if (status != GT_OK) return status;
            to->bias = gt_pack_rows(from->bias, 3, units, model->padded_units);
            if (to->bias == NULL) return GT_ERROR_MEMORY;
        }
    model->head_kernel =
        gt_pack_rows(arrays->head_kernel, (size_t)outputs, classes, model->padded_classes);
    model->head_bias = gt_pack_rows(arrays->head_bias, 1, classes, model->padded_classes);
    return model->head_kernel && model->head_bias ? GT_OK : GT_ERROR_MEMORY;
}
