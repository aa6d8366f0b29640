/* _gatetable: the Python module over gatetable.c. Python has checked the arrays; calls are checked
 * here, because a check in Python costs more than a short sequence.
 *
 * A call that is not of the fast form (contiguous int32 arrays, everything in range) returns None:
 * Python then says exactly what is wrong, or converts and asks again.
 *
 * Only the stable ABI of Python 3.11 and of NumPy 2 is used: one build serves later versions too.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include "gatetable.h"
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef GT_SOURCE_SHA256
#define GT_SOURCE_SHA256 "unknown"
#endif

/* Multiplications of a call from which on other Python threads may run meanwhile, about 10 us.
 * Below, giving the interpreter lock away and taking it back costs more than it wins. */
#define GT_RELEASE_WORK 200000

typedef struct {
    PyObject_HEAD
    gt_model *model;
    gt_config config;
    PyObject *arrays; /* dict: keeps the tables alive */
    PyObject *labels; /* tuple of C strings */
    int64_t step_work; /* multiplications of one step through all layers */
} ModelObject;

typedef struct {
    PyObject_HEAD
    ModelObject *owner;
    gt_stream *stream;
} StreamObject;

static PyTypeObject *model_type, *stream_type;

static PyObject *raise_status(gt_status status, const char *message) {
    if (status == GT_ERROR_MEMORY) return PyErr_NoMemory();
    PyErr_SetString(PyExc_ValueError,
                    message != NULL && *message ? message : gt_status_name(status));
    return NULL;
}

/* ---- building a model ---- */

/* Point `data` at the array `name`, which must have `count` items of `type`. */
static int find_array(PyObject *arrays, const char *name, int type, int64_t count,
                      const void **data) {
    PyObject *array = PyDict_GetItemString(arrays, name); /* borrowed */
    if (array == NULL || !PyArray_Check(array)) {
        PyErr_Format(PyExc_ValueError, "arrays[%s]: expected an array, found none.", name);
        return 0;
    }
    PyArrayObject *found = (PyArrayObject *)array;
    if (PyArray_TYPE(found) != type || !PyArray_ISCARRAY_RO(found) ||
        PyArray_SIZE(found) != count) {
        PyErr_Format(PyExc_ValueError,
                     "arrays[%s]: expected %lld contiguous items of type %d, found %zd of %d.", name,
                     (long long)count, type, (Py_ssize_t)PyArray_SIZE(found),
                     PyArray_TYPE(found));
        return 0;
    }
    *data = PyArray_DATA(found);
    return 1;
}

static const int numpy_types[] = {NPY_FLOAT32, NPY_FLOAT16, NPY_INT16, NPY_INT8};

static int find_direction(PyObject *arrays, const gt_config *config, int layer, int side,
                          gt_direction_arrays *direction) {
    const int64_t units = config->units, outputs = config->directions * units;
    const char *suffix = side == 1 ? "_backward" : "";
    char prefix[16] = "", name[64];
    if (layer > 0) snprintf(prefix, sizeof prefix, "layer_%d_", layer);
#define FIND(what, type, count, to)                                                          \
    do {                                                                                     \
        const void *data_;                                                                   \
        snprintf(name, sizeof name, "%s" what "%s", prefix, suffix);                         \
        if (!find_array(arrays, name, type, count, &data_)) return 0;                        \
        (to) = data_;                                                                        \
    } while (0)
    FIND("recurrent_kernel", numpy_types[config->recurrent_dtype], units * 3 * units,
         direction->recurrent_kernel);
    if (config->recurrent_dtype != GT_FLOAT32)
        FIND("recurrent_kernel_scale", NPY_FLOAT32, 3 * units, direction->recurrent_kernel_scale);
    FIND("candidate_bias", NPY_FLOAT32, units, direction->candidate_bias);
    if (layer > 0) {
        FIND("kernel", NPY_FLOAT32, outputs * 3 * units, direction->kernel);
        FIND("bias", NPY_FLOAT32, 3 * units, direction->bias);
    }
#undef FIND
    return 1;
}

static int find_arrays(PyObject *arrays, const gt_config *config, gt_arrays *found) {
    const int64_t units = config->units, vocab = config->vocab_size;
    memset(found, 0, sizeof *found);
    for (int side = 0; side < config->directions; ++side) {
        const char *table = side ? "gate_table_backward" : "gate_table";
        const char *scale = side ? "gate_table_scale_backward" : "gate_table_scale";
        const void *data;
        if (!find_array(arrays, table, numpy_types[config->table_dtype], vocab * 3 * units, &data))
            return 0;
        found->gate_table[side] = data;
        if (config->table_dtype == GT_INT16 || config->table_dtype == GT_INT8) {
            if (!find_array(arrays, scale, NPY_FLOAT32, vocab, &data)) return 0;
            found->gate_table_scale[side] = data;
        }
        for (int layer = 0; layer < config->layers; ++layer)
            if (!find_direction(arrays, config, layer, side, &found->layers[layer][side]))
                return 0;
    }
    const void *kernel, *bias;
    if (!find_array(arrays, "head_kernel", NPY_FLOAT32,
                    config->directions * units * config->num_classes, &kernel) ||
        !find_array(arrays, "head_bias", NPY_FLOAT32, config->num_classes, &bias))
        return 0;
    found->head_kernel = kernel;
    found->head_bias = bias;
    return 1;
}

static int find_words(PyObject *arrays, gt_word_arrays *found) {
    memset(found, 0, sizeof *found);
    PyObject *ends = PyDict_GetItemString(arrays, "word_ends");
    PyObject *bytes = PyDict_GetItemString(arrays, "word_bytes");
    PyObject *ids = PyDict_GetItemString(arrays, "word_ids");
    if (ends == NULL || bytes == NULL || ids == NULL || !PyArray_Check(ends) ||
        !PyArray_Check(bytes) || !PyArray_Check(ids))
        return 1; /* a folder without a word table */
    const int64_t words = PyArray_SIZE((PyArrayObject *)ends);
    const void *data[4];
    if (!find_array(arrays, "word_bytes", NPY_UINT8, PyArray_SIZE((PyArrayObject *)bytes),
                    &data[0]) ||
        !find_array(arrays, "word_ends", NPY_UINT32, words, &data[1]) ||
        !find_array(arrays, "word_ids", NPY_INT32, PyArray_SIZE((PyArrayObject *)ids), &data[2]) ||
        !find_array(arrays, "word_id_ends", NPY_UINT32, words, &data[3]))
        return 0;
    found->words = (uint32_t)words;
    found->word_bytes = data[0];
    found->word_ends = data[1];
    found->word_ids = data[2];
    found->word_id_ends = data[3];
    return 1;
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"vocab_size", "units",       "num_classes",     "max_tokens", "layers",
                            "directions", "pooling",     "relu",            "table_dtype",
                            "recurrent_dtype", "arrays", "labels",          "isa",        NULL};
    gt_config config;
    int pooling, table_dtype, recurrent_dtype;
    PyObject *arrays, *labels;
    const char *isa;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$iiiiiiipiiO!O!z", names, &config.vocab_size,
                                     &config.units, &config.num_classes, &config.max_tokens,
                                     &config.layers, &config.directions, &pooling, &config.relu,
                                     &table_dtype, &recurrent_dtype, &PyDict_Type, &arrays,
                                     &PyTuple_Type, &labels, &isa))
        return NULL;
    config.pooling = (gt_pooling)pooling;
    config.table_dtype = (gt_dtype)table_dtype;
    config.recurrent_dtype = (gt_dtype)recurrent_dtype;
    if (config.vocab_size < 2 || config.units < 1 || config.num_classes < 1 ||
        config.max_tokens < 1 || config.layers < 1 || config.layers > GT_MAX_LAYERS ||
        config.directions < 1 || config.directions > 2 || pooling < 0 || pooling > GT_MEAN ||
        table_dtype < 0 || table_dtype > GT_INT8 || recurrent_dtype < 0 ||
        recurrent_dtype > GT_INT8 || recurrent_dtype == GT_FLOAT16 ||
        PyTuple_Size(labels) != config.num_classes) {
        PyErr_SetString(PyExc_ValueError, "config: expected the axes of a lookup folder.");
        return NULL;
    }
    gt_arrays found;
    gt_word_arrays words;
    if (!find_arrays(arrays, &config, &found) || !find_words(arrays, &words)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ModelObject *self = (ModelObject *)allocate(type, 0);
    if (self == NULL) return NULL;
    char message[GT_MESSAGE_BYTES] = "";
    const gt_status status =
        gt_model_create(&config, &found, &words, isa, &self->model, message);
    if (status != GT_OK) {
        Py_DECREF(self);
        return raise_status(status, message);
    }
    self->config = config;
    self->step_work = (int64_t)config.layers * config.directions * config.units * config.units * 3;
    self->arrays = Py_NewRef(arrays);
    self->labels = Py_NewRef(labels);
    return (PyObject *)self;
}

static void model_dealloc(ModelObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    gt_close(self->model);
    Py_XDECREF(self->arrays);
    Py_XDECREF(self->labels);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* ---- ids ---- */

/* Compute the logits or probabilities (B, C) of a batch; None if it is not of the fast form. */
static PyObject *compute_batch(ModelObject *self, PyObject *const *args, Py_ssize_t count,
                               int want_probabilities) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "expected ids and lengths.");
        return NULL;
    }
    if (!PyArray_Check(args[0]) || !PyArray_Check(args[1])) Py_RETURN_NONE;
    PyArrayObject *ids = (PyArrayObject *)args[0], *lengths = (PyArrayObject *)args[1];
    if (PyArray_TYPE(ids) != NPY_INT32 || PyArray_TYPE(lengths) != NPY_INT32 ||
        PyArray_NDIM(ids) != 2 || PyArray_NDIM(lengths) != 1 || !PyArray_ISCARRAY_RO(ids) ||
        !PyArray_ISCARRAY_RO(lengths) || PyArray_DIM(lengths, 0) != PyArray_DIM(ids, 0))
        Py_RETURN_NONE;
    const npy_intp rows = PyArray_DIM(ids, 0), width = PyArray_DIM(ids, 1);
    npy_intp shape[2] = {rows, self->config.num_classes};
    PyObject *result = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (result == NULL) return NULL;
    float *logits = PyArray_DATA((PyArrayObject *)result);
    const int32_t *tokens = PyArray_DATA(ids), *counts = PyArray_DATA(lengths);
    gt_status status;
    PyThreadState *others =
        rows * width * self->step_work >= GT_RELEASE_WORK ? PyEval_SaveThread() : NULL;
    if (rows == 1 && counts[0] == width)
        status = gt_logits(self->model, tokens, width, logits);
    else
        status = gt_logits_batch(self->model, tokens, rows, width, counts, logits);
    if (want_probabilities && status == GT_OK)
        for (npy_intp row = 0; row < rows; ++row)
            gt_softmax(self->model, logits + row * shape[1]);
    if (others != NULL) PyEval_RestoreThread(others);
    if (status == GT_OK) return result;
    Py_DECREF(result);
    if (status == GT_ERROR_ARGUMENT) Py_RETURN_NONE;
    return raise_status(status, NULL);
}

static PyObject *model_logits(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return compute_batch((ModelObject *)self, args, count, 0);
}

static PyObject *model_probabilities(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    return compute_batch((ModelObject *)self, args, count, 1);
}

/* ---- text ---- */

typedef struct {
    PyObject *encode; /* word (str) -> list of ids */
} Fallback;

/* gt_encode_word by a Python function. An exception stays set. */
static int32_t ask_python(const char *word, size_t bytes, int32_t *ids, int32_t capacity,
                          void *context) {
    PyObject *text = PyUnicode_DecodeUTF8(word, (Py_ssize_t)bytes, NULL);
    if (text == NULL) return -1;
    PyObject *found = PyObject_CallFunctionObjArgs(((Fallback *)context)->encode, text, NULL);
    Py_DECREF(text);
    if (found == NULL) return -1;
    const Py_ssize_t count = PyList_Check(found) ? PyList_Size(found) : -1;
    if (count < 0) PyErr_SetString(PyExc_TypeError, "encode_word: expected a list of ids.");
    for (Py_ssize_t i = 0; i < count && i < capacity; ++i) {
        const long id = PyLong_AsLong(PyList_GetItem(found, i));
        if (id == -1 && PyErr_Occurred()) break;
        ids[i] = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1; /* gt_encode refuses -1 */
    }
    Py_DECREF(found);
    return PyErr_Occurred() ? -1 : (int32_t)(count < capacity ? count : capacity);
}

/* Turn a str into ids in `ids`, `max_tokens` of them at most. Returns 0 with an exception set. */
static int encode_text(ModelObject *self, PyObject *text, PyObject *encode, int32_t *ids,
                       int32_t *length) {
    Py_ssize_t bytes;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &bytes);
    if (utf8 == NULL) return 0;
    Fallback fallback = {encode};
    const gt_status status = gt_encode(self->model, utf8, (size_t)bytes, ask_python, &fallback, ids,
                                       length);
    if (status == GT_OK) return 1;
    if (!PyErr_Occurred()) raise_status(status, "encode_word: expected ids of the vocabulary.");
    return 0;
}

/* encode(text, encode_word) -> list of ids. */
static PyObject *model_encode(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    ModelObject *self = (ModelObject *)object;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "expected text and encode_word.");
        return NULL;
    }
    int32_t *ids = malloc((size_t)self->config.max_tokens * sizeof *ids), length = 0;
    if (ids == NULL) return PyErr_NoMemory();
    PyObject *result = NULL;
    if (encode_text(self, args[0], args[1], ids, &length)) result = PyList_New(length);
    for (int32_t i = 0; result != NULL && i < length; ++i)
        PyList_SetItem(result, i, PyLong_FromLong(ids[i]));
    free(ids);
    return result;
}

/* text_probabilities(text, encode_word) -> (1, C). */
static PyObject *model_text_probabilities(PyObject *object, PyObject *const *args,
                                          Py_ssize_t count) {
    ModelObject *self = (ModelObject *)object;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "expected text and encode_word.");
        return NULL;
    }
    int32_t *ids = malloc((size_t)self->config.max_tokens * sizeof *ids), length = 0;
    if (ids == NULL) return PyErr_NoMemory();
    npy_intp shape[2] = {1, self->config.num_classes};
    PyObject *result = NULL;
    if (encode_text(self, args[0], args[1], ids, &length))
        result = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (result != NULL) {
        float *logits = PyArray_DATA((PyArrayObject *)result);
        PyThreadState *others =
            length * self->step_work >= GT_RELEASE_WORK ? PyEval_SaveThread() : NULL;
        const gt_status status = gt_logits(self->model, ids, length, logits);
        if (status == GT_OK) gt_softmax(self->model, logits);
        if (others != NULL) PyEval_RestoreThread(others);
        if (status != GT_OK) {
            Py_CLEAR(result);
            raise_status(status, NULL);
        }
    }
    free(ids);
    return result;
}

/* predict(text, k, encode_word) -> [(label, probability)], 1 <= k <= C. */
static PyObject *model_predict(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    ModelObject *self = (ModelObject *)object;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "expected text, k and encode_word.");
        return NULL;
    }
    const long k = PyLong_AsLong(args[1]);
    if (k == -1 && PyErr_Occurred()) return NULL;
    if (k < 1 || k > self->config.num_classes)
        return raise_status(GT_ERROR_ARGUMENT, "k: expected 1 to the number of classes.");
    const size_t capacity = (size_t)self->config.max_tokens;
    int32_t *ids = malloc((capacity + (size_t)k) * sizeof *ids + (size_t)k * sizeof(float));
    if (ids == NULL) return PyErr_NoMemory();
    int32_t *classes = ids + capacity, length = 0;
    float *best = (float *)(classes + k);
    PyObject *result = NULL;
    if (encode_text(self, args[0], args[2], ids, &length)) {
        gt_status status;
        PyThreadState *others =
            length * self->step_work >= GT_RELEASE_WORK ? PyEval_SaveThread() : NULL;
        status = gt_predict(self->model, ids, length, (int32_t)k, classes, best);
        if (others != NULL) PyEval_RestoreThread(others);
        result = status == GT_OK ? PyList_New(k) : raise_status(status, NULL);
    }
    for (long i = 0; result != NULL && i < k; ++i) {
        PyObject *pair = PyTuple_New(2), *value = PyFloat_FromDouble(best[i]);
        if (pair == NULL || value == NULL) {
            Py_XDECREF(pair);
            Py_XDECREF(value);
            Py_CLEAR(result);
            break;
        }
        PyTuple_SetItem(pair, 0, Py_NewRef(PyTuple_GetItem(self->labels, classes[i])));
        PyTuple_SetItem(pair, 1, value);
        PyList_SetItem(result, i, pair);
    }
    free(ids);
    return result;
}

/* ---- streams ---- */

static PyObject *wrap_stream(ModelObject *owner, gt_stream *stream) {
    allocfunc allocate = (allocfunc)PyType_GetSlot(stream_type, Py_tp_alloc);
    StreamObject *self = (StreamObject *)allocate(stream_type, 0);
    if (self == NULL) {
        gt_stream_close(stream);
        return NULL;
    }
    self->owner = (ModelObject *)Py_NewRef((PyObject *)owner);
    self->stream = stream;
    return (PyObject *)self;
}

static PyObject *model_stream(PyObject *self, PyObject *unused) {
    (void)unused;
    gt_stream *stream;
    const gt_status status = gt_stream_open(((ModelObject *)self)->model, &stream);
    return status == GT_OK ? wrap_stream((ModelObject *)self, stream) : raise_status(status, NULL);
}

static void stream_dealloc(StreamObject *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    gt_stream_close(self->stream);
    Py_XDECREF((PyObject *)self->owner);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *stream_push(PyObject *self, PyObject *token) {
    const long id = PyLong_AsLong(token);
    if (id == -1 && PyErr_Occurred()) return NULL;
    const gt_status status = gt_stream_push(((StreamObject *)self)->stream,
                                            id >= 0 && id <= INT32_MAX ? (int32_t)id : -1);
    if (status != GT_OK) return raise_status(status, NULL);
    Py_RETURN_NONE;
}

static PyObject *stream_logits(PyObject *object, PyObject *unused) {
    (void)unused;
    StreamObject *self = (StreamObject *)object;
    npy_intp classes = self->owner->config.num_classes;
    PyObject *result = PyArray_SimpleNew(1, &classes, NPY_FLOAT32);
    if (result == NULL) return NULL;
    const gt_status status =
        gt_stream_logits(self->stream, PyArray_DATA((PyArrayObject *)result));
    if (status == GT_OK) return result;
    Py_DECREF(result);
    return raise_status(status, NULL);
}

static PyObject *stream_fork(PyObject *object, PyObject *unused) {
    (void)unused;
    StreamObject *self = (StreamObject *)object;
    gt_stream *twin;
    const gt_status status = gt_stream_fork(self->stream, &twin);
    return status == GT_OK ? wrap_stream(self->owner, twin) : raise_status(status, NULL);
}

/* ---- module ---- */

static PyObject *model_isa(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(gt_isa(((ModelObject *)self)->model));
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef model_methods[] = {
    {"logits", FAST(model_logits), METH_FASTCALL, "logits(ids, lengths) -> (B, C), or None."},
    {"probabilities", FAST(model_probabilities), METH_FASTCALL,
     "probabilities(ids, lengths) -> (B, C), or None."},
    {"encode", FAST(model_encode), METH_FASTCALL, "encode(text, encode_word) -> list of ids."},
    {"text_probabilities", FAST(model_text_probabilities), METH_FASTCALL,
     "text_probabilities(text, encode_word) -> (1, C)."},
    {"predict", FAST(model_predict), METH_FASTCALL,
     "predict(text, k, encode_word) -> [(label, probability)]."},
    {"stream", model_stream, METH_NOARGS, "stream() -> a stream that has read nothing."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef model_getset[] = {
    {"isa", model_isa, NULL, "Instruction set in use.", NULL}, {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot model_slots[] = {{Py_tp_new, model_new},
                                    {Py_tp_dealloc, model_dealloc},
                                    {Py_tp_methods, model_methods},
                                    {Py_tp_getset, model_getset},
                                    {Py_tp_doc, "A packed model; made by native_engine.py."},
                                    {0, NULL}};
static PyType_Spec model_spec = {"_gatetable.Model", sizeof(ModelObject), 0, Py_TPFLAGS_DEFAULT,
                                 model_slots};

static PyMethodDef stream_methods[] = {
    {"push", stream_push, METH_O, "push(id): read one more token."},
    {"logits", stream_logits, METH_NOARGS, "logits() -> (C,) of the tokens so far."},
    {"fork", stream_fork, METH_NOARGS, "fork() -> an independent copy."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot stream_slots[] = {{Py_tp_dealloc, stream_dealloc},
                                     {Py_tp_methods, stream_methods},
                                     {Py_tp_doc, "A text that arrives token by token."},
                                     {0, NULL}};
static PyType_Spec stream_spec = {"_gatetable.Stream", sizeof(StreamObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                  stream_slots};

static PyObject *list_isas(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyObject *names = PyList_New(0);
    for (const char *const *isa = gt_list_isas(); names != NULL && *isa != NULL; ++isa) {
        PyObject *name = PyUnicode_FromString(*isa);
        if (name == NULL || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyObject *measure(PyObject *args, int is_read) {
    const char *isa;
    Py_ssize_t size;
    long long repeats;
    if (!PyArg_ParseTuple(args, "znL", &isa, &size, &repeats)) return NULL;
    if (size < 1 || size > ((Py_ssize_t)1 << 32) || repeats < 1)
        return raise_status(GT_ERROR_ARGUMENT, NULL);
    const double seconds = is_read ? gt_read_seconds(isa, (size_t)size, repeats)
                                   : gt_gates_seconds(isa, (int32_t)size, repeats);
    return seconds < 0 ? raise_status(GT_ERROR_ISA, NULL) : PyFloat_FromDouble(seconds);
}

static PyObject *read_seconds(PyObject *self, PyObject *args) {
    (void)self;
    return measure(args, 1);
}

static PyObject *gates_seconds(PyObject *self, PyObject *args) {
    (void)self;
    return measure(args, 0);
}

static PyMethodDef module_methods[] = {
    {"list_isas", list_isas, METH_NOARGS, "Instruction sets of this machine, best first."},
    {"read_seconds", read_seconds, METH_VARARGS,
     "read_seconds(isa, bytes, repeats): seconds of that many passes over a buffer."},
    {"gates_seconds", gates_seconds, METH_VARARGS,
     "gates_seconds(isa, units, repeats): seconds of that many gate computations."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT,
                                    "_gatetable",
                                    "The compiled kernel of the lookup runtime.",
                                    -1,
                                    module_methods,
                                    NULL,
                                    NULL,
                                    NULL,
                                    NULL};

PyMODINIT_FUNC PyInit__gatetable(void) {
    import_array();
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) return NULL;
    model_type = (PyTypeObject *)PyType_FromSpec(&model_spec);
    stream_type = (PyTypeObject *)PyType_FromSpec(&stream_spec);
    if (model_type == NULL || stream_type == NULL ||
        PyModule_AddObjectRef(made, "Model", (PyObject *)model_type) < 0 ||
        PyModule_AddStringConstant(made, "SOURCE_SHA256", GT_SOURCE_SHA256) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
