/* The ONNX reader: attributes into their normal form, versions, sizes, names, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pquant/pass.h>

#include "onnx_build.h"

static pq_ctx *ctx;
static model m;
static float floats[4096];

static void expect(pq_status st, pq_status want, const char *text)
{
    if (st != want)
        fail_msg("%s '%s', expected %s", pq_status_name(st), pq_ctx_error(ctx),
                 pq_status_name(want));
    if (text && !strstr(pq_ctx_error(ctx), text))
        fail_msg("message '%s', expected '%s'", pq_ctx_error(ctx), text);
}

/* A model whose input x is an image and whose one node is returned for attributes. */
static Onnx__NodeProto *image_model(const char *type, const char *in, int opset, int64_t c,
                                    int64_t h, int64_t w)
{
    model_begin(&m, ctx, opset);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(1, c, h, w));
    model_output(&m, "y");
    return model_node(&m, type, "n", in, "y");
}

static pq_graph *read_ok(void)
{
    pq_graph *g;
    expect(model_read(&m, &g, NULL, NULL), PQ_OK, NULL);
    model_end(&m);
    return g;
}

static void read_fails(pq_status want, const char *text)
{
    pq_graph *g;
    expect(model_read(&m, &g, NULL, NULL), want, text);
    assert_null(g);
    model_end(&m);
}

static void assert_shape(const pq_graph *g, const char *value, int rank, const int64_t *dim)
{
    char got[160], want[160];
    pq_shape s = {rank, {0}};
    memcpy(s.dim, dim, (size_t)rank * sizeof *dim);
    const pq_value_id v = pq_graph_find_value(g, value);
    assert_int_not_equal(v, PQ_NONE);
    assert_string_equal(pq_shape_text(&g->value[v].shape, got, sizeof got),
                        pq_shape_text(&s, want, sizeof want));
}

static void assert_pads(const pq_node *n, int64_t t, int64_t l, int64_t b, int64_t r)
{
    const int64_t want[4] = {t, l, b, r};
    assert_memory_equal(n->attr.window.pad, want, sizeof want);
}

static void conv_attributes(void **state)
{
    (void)state;
    Onnx__NodeProto *n = image_model("Conv", "x,w,b", 11, 4, 8, 10);
    model_const(&m, "w", PQ_ONNX_F32, DIMS(6, 2, 3, 1), floats);
    model_const(&m, "b", PQ_ONNX_F32, DIMS(6), floats);
    put_int(&m, n, "group", 2);
    put_ints(&m, n, "strides", DIMS(2, 1));
    put_ints(&m, n, "pads", DIMS(1, 2, 3, 4));
    put_ints(&m, n, "dilations", DIMS(2, 1));
    pq_graph *g = read_ok();
    const pq_window *w = &g->node[0].attr.window;
    assert_int_equal(w->groups, 2);
    assert_int_equal(w->kernel[0], 3); /* from the weights */
    assert_int_equal(w->kernel[1], 1);
    assert_int_equal(w->stride[0], 2);
    assert_int_equal(w->dilation[0], 2);
    assert_pads(&g->node[0], 1, 2, 3, 4);
    assert_shape(g, "y", DIMS(1, 6, 4, 16));
    assert_int_equal(pq_graph_quantizable_count(g), 1);
    assert_string_equal(g->node[0].type, "Conv");
    pq_graph_free(g);
}

static void auto_pad(void **state)
{
    static const struct {
        const char *mode;
        int64_t top, left, bottom, right, h, w;
    } rows[] = {
        {"SAME_UPPER", 0, 1, 1, 1, 4, 9}, /* height 8 stride 2: one row too few, at the end */
        {"SAME_LOWER", 1, 1, 0, 1, 4, 9},
        {"VALID", 0, 0, 0, 0, 3, 7},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        Onnx__NodeProto *n = image_model("Conv", "x,w", 13, 1, 8, 9);
        model_const(&m, "w", PQ_ONNX_F32, DIMS(1, 1, 3, 3), floats);
        put_ints(&m, n, "strides", DIMS(2, 1));
        put_text(&m, n, "auto_pad", rows[i].mode);
        pq_graph *g = read_ok();
        assert_pads(&g->node[0], rows[i].top, rows[i].left, rows[i].bottom, rows[i].right);
        assert_shape(g, "y", DIMS(1, 1, rows[i].h, rows[i].w));
        pq_graph_free(g);
    }
}

static void conv_transpose(void **state)
{
    (void)state;
    Onnx__NodeProto *n = image_model("ConvTranspose", "x,w", 11, 4, 5, 6);
    model_const(&m, "w", PQ_ONNX_F32, DIMS(4, 3, 3, 3), floats);
    put_int(&m, n, "group", 2);
    put_ints(&m, n, "strides", DIMS(2, 2));
    put_ints(&m, n, "pads", DIMS(1, 1, 1, 1));
    put_ints(&m, n, "output_padding", DIMS(1, 0));
    pq_graph *g = read_ok();
    assert_shape(g, "y", DIMS(1, 6, 10, 11));
    pq_graph_free(g);

    n = image_model("ConvTranspose", "x,w", 11, 4, 5, 6);
    model_const(&m, "w", PQ_ONNX_F32, DIMS(4, 3, 3, 3), floats);
    put_ints(&m, n, "strides", DIMS(2, 2));
    put_ints(&m, n, "output_shape", DIMS(10, 12));
    g = read_ok();
    assert_shape(g, "y", DIMS(1, 3, 10, 12));
    assert_pads(&g->node[0], 1, 1, 0, 0);
    pq_graph_free(g);
}

static void gemm_factors_go_into_constants(void **state)
{
    (void)state;
    const float w[6] = {1, 2, 3, 4, 5, 6}, b[3] = {1, 1, 2};
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(1, 2));
    model_output(&m, "y");
    Onnx__NodeProto *n = model_node(&m, "Gemm", "n", "x,w,b", "y");
    put_float(&m, n, "alpha", 0.5f);
    put_float(&m, n, "beta", 3);
    model_const(&m, "w", PQ_ONNX_F32, DIMS(2, 3), w);
    model_const(&m, "b", PQ_ONNX_F32, DIMS(3), b);
    pq_graph *g = read_ok();
    assert_true(g->node[0].attr.alpha == 1.0f && g->node[0].attr.beta == 1.0f);
    const float *sw = pq_buf_data(g->value[g->node[0].in[1]].data);
    const float *sb = pq_buf_data(g->value[g->node[0].in[2]].data);
    assert_true(sw[5] == 3.0f && sb[2] == 6.0f);
    pq_graph_free(g);
}

static void half_floats_become_floats(void **state)
{
    (void)state;
    const uint16_t half[2] = {0x3c00, 0xc000}, brain[2] = {0x3f80, 0x4040};
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F16, DIMS(2));
    model_output(&m, "z");
    model_const(&m, "h", PQ_ONNX_F16, DIMS(2), half);
    Onnx__TensorProto *t = model_const(&m, "b", 16, DIMS(2), brain);
    t->raw_data.len = 4; /* bfloat16 */
    model_node(&m, "Add", "", "x,h", "y");
    Onnx__NodeProto *cast = model_node(&m, "Cast", "", "y", "f");
    put_int(&m, cast, "to", PQ_ONNX_F32);
    cast = model_node(&m, "Cast", "", "b", "c");
    put_int(&m, cast, "to", PQ_ONNX_F16);
    model_node(&m, "Mul", "", "f,c", "z");
    pq_graph *g = read_ok();
    const float *h = pq_buf_data(g->value[pq_graph_find_value(g, "h")].data);
    const float *b = pq_buf_data(g->value[pq_graph_find_value(g, "b")].data);
    assert_true(h[0] == 1.0f && h[1] == -2.0f && b[0] == 1.0f && b[1] == 3.0f);
    for (size_t i = 0; i < g->n_values; i++) assert_int_equal(g->value[i].dtype, PQ_F32);
    pq_graph_free(g);
}

static void typed_data(void **state)
{
    (void)state;
    int32_t ints[2] = {1, -1};
    double doubles[2] = {0.5, -0.25};
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(2));
    model_output(&m, "y");
    Onnx__TensorProto *t = model_const(&m, "a", 11, DIMS(2), NULL);
    t->has_raw_data = 0;
    t->double_data = doubles;
    t->n_double_data = 2;
    t = model_const(&m, "i", 5, DIMS(2), NULL);
    t->has_raw_data = 0;
    t->int32_data = ints;
    t->n_int32_data = 2;
    model_node(&m, "Mul", "", "x,a", "y");
    pq_graph *g = read_ok();
    assert_true(((float *)pq_buf_data(g->value[pq_graph_find_value(g, "a")].data))[1] == -0.25f);
    const pq_value *i = &g->value[pq_graph_find_value(g, "i")];
    assert_int_equal(i->dtype, PQ_S16);
    assert_int_equal(((int16_t *)pq_buf_data(i->data))[1], -1);
    pq_graph_free(g);

    model_begin(&m, ctx, 13);
    model_output(&m, "a");
    t = model_const(&m, "a", PQ_ONNX_F32, DIMS(1000, 1000), NULL);
    t->has_raw_data = 0;
    read_fails(PQ_E_FORMAT, "tensor 'a': 0 elements, expected 1000000");
    model_begin(&m, ctx, 13);
    model_output(&m, "a");
    t = model_const(&m, "a", PQ_ONNX_F32, DIMS(3), floats);
    t->raw_data.len = 8;
    read_fails(PQ_E_FORMAT, "tensor 'a': 8 bytes, expected 12");
    model_begin(&m, ctx, 13);
    model_output(&m, "a");
    t = model_const(&m, "a", PQ_ONNX_F32, DIMS(1), floats);
    t->dims[0] = -1;
    read_fails(PQ_E_FORMAT, "tensor 'a': shape [-1]");
    model_begin(&m, ctx, 13);
    model_output(&m, "a");
    model_const(&m, "a", 8, DIMS(1), floats);
    read_fails(PQ_E_UNSUPPORTED, "element type 8");
}

static void names(void **state)
{
    (void)state;
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(2));
    model_output(&m, "d");
    model_node(&m, "Relu", "", "x", "a");
    model_node(&m, "Relu", "same", "a", "b");
    model_node(&m, "Relu", "same", "b", "c");
    model_node(&m, "Dropout", "same", "c", "d,mask");
    pq_graph *g = read_ok();
    assert_string_equal(g->node[0].name, "Relu_0");
    assert_string_equal(g->node[1].name, "same");
    assert_string_equal(g->node[2].name, "same_2");
    assert_string_equal(g->node[3].name, "same_3");
    assert_string_equal(g->node[3].type, "Dropout");
    assert_int_equal(g->node[3].op, PQ_OP_IDENTITY);
    assert_int_equal(pq_graph_verify(ctx, g), PQ_OK);
    pq_graph_free(g);
}

static void versions(void **state)
{
    (void)state;
    image_model("Relu", "x", 10, 1, 2, 2);
    read_fails(PQ_E_UNSUPPORTED, "opset 10, expected 11 to 21");
    image_model("Relu", "x", 22, 1, 2, 2);
    read_fails(PQ_E_UNSUPPORTED, "opset 22, expected 11 to 21");
    image_model("Relu", "x", 13, 1, 2, 2);
    m.m.ir_version = 2;
    read_fails(PQ_E_UNSUPPORTED, "IR version 2");
    image_model("Relu", "x", 13, 1, 2, 2);
    m.opset.domain = (char *)"com.example";
    read_fails(PQ_E_UNSUPPORTED, "opset 0");
    image_model("Relu", "x", 13, 1, 2, 2);
    m.m.graph = NULL;
    read_fails(PQ_E_FORMAT, "no graph");
}

static void unsupported_operators(void **state)
{
    (void)state;
    image_model("GridSample", "x", 13, 1, 2, 2);
    read_fails(PQ_E_UNSUPPORTED, "node 'n': operator 'GridSample' (opset 13) is not supported");
    image_model("QuantizeLinear", "x", 13, 1, 2, 2);
    read_fails(PQ_E_UNSUPPORTED, "node 'n': operator 'QuantizeLinear' (opset 13) is not supported: "
                                 "model is already quantized");
    Onnx__NodeProto *n = image_model("Relu", "x", 13, 1, 2, 2);
    n->domain = (char *)"com.microsoft";
    read_fails(PQ_E_UNSUPPORTED, "operator 'com.microsoft.Relu' (opset 13) is not supported");
    n = image_model("Pad", "x,p", 13, 1, 2, 2);
    model_ints(&m, "p", DIMS(0, 0, 0, 0, 0, 0, 0, 0));
    put_text(&m, n, "mode", "reflect");
    read_fails(PQ_E_UNSUPPORTED, "node 'n' (Pad): mode 'reflect' is not supported");
    n = image_model("Resize", "x", 13, 1, 2, 2);
    put_text(&m, n, "mode", "cubic");
    read_fails(PQ_E_UNSUPPORTED, "mode 'cubic'");
    n = image_model("BatchNormalization", "x,s,s,s,s", 14, 1, 2, 2);
    model_const(&m, "s", PQ_ONNX_F32, DIMS(1), floats);
    put_int(&m, n, "training_mode", 1);
    read_fails(PQ_E_UNSUPPORTED, "training mode");
    image_model("Reshape", "x,s", 13, 1, 2, 2);
    model_input(&m, "s", PQ_ONNX_S64, DIMS(2));
    read_fails(PQ_E_UNSUPPORTED, "node 'n' (Reshape): input 1 ('s') is not constant");
}

static void wrong_files(void **state)
{
    (void)state;
    image_model("Relu", "z", 13, 1, 2, 2);
    read_fails(PQ_E_FORMAT, "node 'n' (Relu): input 'z' is not made by anything before it");
    image_model("Relu", "x", 13, 1, 2, 2);
    model_output(&m, "nowhere");
    read_fails(PQ_E_FORMAT, "output 'nowhere' is not made by any node");
    image_model("Relu", "x", 13, 1, 2, 2);
    model_node(&m, "Relu", "again", "x", "y");
    read_fails(PQ_E_FORMAT, "value 'y' is made twice");
    image_model("Relu", "", 13, 1, 2, 2);
    read_fails(PQ_E_FORMAT, "node 'n' (Relu): no input");
    image_model("Conv", "x", 13, 1, 2, 2);
    read_fails(PQ_E_FORMAT, "node 'n' (Conv)");
    image_model("Concat", "x,x", 13, 1, 2, 2);
    read_fails(PQ_E_FORMAT, "attribute 'axis' is missing");
    Onnx__NodeProto *n = image_model("Concat", "x,x", 13, 1, 2, 2);
    put_float(&m, n, "axis", 1);
    read_fails(PQ_E_FORMAT, "attribute 'axis' has the type 1, expected 2");
    n = image_model("MaxPool", "x", 13, 1, 8, 8);
    put_ints(&m, n, "kernel_shape", DIMS(2));
    read_fails(PQ_E_UNSUPPORTED, "only images of two dimensions");
    n = image_model("MaxPool", "x", 13, 1, 8, 8);
    put_ints(&m, n, "kernel_shape", DIMS(2, INT64_MAX));
    read_fails(PQ_E_FORMAT, "out of range");
}

static void open_sizes(void **state)
{
    const pq_read_opts size = {.h = 6, .w = 8}, batch = {.batch = 3, .h = 6, .w = 8};
    pq_graph *g;
    (void)state;
    for (int i = 0; i < 2; i++) {
        model_begin(&m, ctx, 13);
        model_input(&m, "x", PQ_ONNX_F32, DIMS(-1, 3, -1, -1));
        model_output(&m, "y");
        model_node(&m, "Relu", "n", "x", "y");
        expect(model_read(&m, &g, NULL, i ? &batch : &size), PQ_OK, NULL);
        assert_shape(g, "y", DIMS(i ? 3 : 1, 3, 6, 8));
        pq_graph_free(g);
        if (!i) model_end(&m);
    }
    read_fails(PQ_E_INVALID, "input 'x': the file leaves the height open");
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(1, -1, 4, 4));
    model_output(&m, "x");
    read_fails(PQ_E_UNSUPPORTED, "input 'x': dimension 1 is not fixed");
}

/* What PaddleDetection asks for beside the image becomes constant. */
static void inputs_beside_the_image(void **state)
{
    const pq_read_opts size = {.h = 6, .w = 8};
    pq_graph *g;
    (void)state;
    model_begin(&m, ctx, 13);
    model_input(&m, "scale_factor", PQ_ONNX_F32, DIMS(-1, 2));
    model_input(&m, "im_shape", PQ_ONNX_F32, DIMS(-1, 2));
    model_input(&m, "image", PQ_ONNX_F32, DIMS(-1, 3, -1, -1));
    model_output(&m, "y");
    model_node(&m, "Add", "n", "scale_factor,im_shape", "y");
    expect(model_read(&m, &g, NULL, &size), PQ_OK, NULL);
    assert_int_equal(g->n_inputs, 1);
    assert_string_equal(g->value[g->input[0]].name, "image");
    const float *scale = pq_buf_data(g->value[pq_graph_find_value(g, "scale_factor")].data);
    const float *shape = pq_buf_data(g->value[pq_graph_find_value(g, "im_shape")].data);
    assert_true(scale[0] == 1.0f && scale[1] == 1.0f && shape[0] == 6.0f && shape[1] == 8.0f);
    pq_graph_free(g);
    model_end(&m);
}

static void other_sizes_than_the_file(void **state)
{
    const pq_read_opts size = {.h = 16, .w = 24}, batch = {.batch = 2};
    pq_graph *g;
    (void)state;
    image_model("Reshape", "x,s", 13, 3, 8, 8);
    model_ints(&m, "s", DIMS(1, 3, -1));
    expect(model_read(&m, &g, NULL, &size), PQ_OK, NULL);
    assert_shape(g, "y", DIMS(1, 3, 384));
    pq_graph_free(g);
    expect(model_read(&m, &g, NULL, &batch), PQ_E_UNSUPPORTED, "pins the batch size");
    model_end(&m);
    image_model("Reshape", "x,s", 13, 3, 8, 8);
    model_ints(&m, "s", DIMS(1, 3, 64));
    expect(model_read(&m, &g, NULL, &size), PQ_E_UNSUPPORTED, "cannot reshape");
    model_end(&m);
}

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static pq_status read_external(const char *folder, const char *location, const char *offset,
                               const char *length, pq_graph **g)
{
    Onnx__StringStringEntryProto e[3], *list[3];
    const char *const pairs[3][2] = {
        {"location", location}, {"offset", offset}, {"length", length}};
    model_begin(&m, ctx, 13);
    model_input(&m, "x", PQ_ONNX_F32, DIMS(2));
    model_output(&m, "y");
    model_node(&m, "Add", "n", "x,c", "y");
    Onnx__TensorProto *t = model_const(&m, "c", PQ_ONNX_F32, DIMS(2), NULL);
    t->has_raw_data = 0;
    t->has_data_location = 1;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    for (int i = 0; i < 3; i++) {
        onnx__string_string_entry_proto__init(&e[i]);
        e[i].key = (char *)pairs[i][0];
        e[i].value = (char *)pairs[i][1];
        list[i] = &e[i];
    }
    t->external_data = list;
    t->n_external_data = 3;
    pq_status st = model_read(&m, g, folder, NULL);
    model_end(&m);
    return st;
}

static void external_data(void **state)
{
    const float data[4] = {9, 1.5f, 2.5f, 9};
    pq_graph *g;
    (void)state;
    char folder[] = "/tmp/pquant-onnx-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/w.bin", folder);
    write_file(path, data, sizeof data);
    expect(read_external(folder, "w.bin", "4", "8", &g), PQ_OK, NULL);
    const float *c = pq_buf_data(g->value[pq_graph_find_value(g, "c")].data);
    assert_true(c[0] == 1.5f && c[1] == 2.5f);
    pq_graph_free(g);
    expect(read_external(folder, "./w.bin", "8", "8", &g), PQ_OK, NULL);
    pq_graph_free(g);
    expect(read_external(folder, "w.bin", "12", "8", &g), PQ_E_FORMAT, "in a file of 16");
    expect(read_external(folder, "w.bin", "0", "12", &g), PQ_E_FORMAT, "expected 8 bytes");
    expect(read_external(folder, "w.bin", "18446744073709551615", "8", &g), PQ_E_FORMAT,
           "in a file");
    expect(read_external(folder, "w.bin", "-4", "8", &g), PQ_E_FORMAT, "'-4' is not a size");
    expect(read_external(folder, "none.bin", "0", "8", &g), PQ_E_IO, "none.bin");
    expect(read_external(folder, path, "0", "8", &g), PQ_E_FORMAT, "inside the model's folder");
    expect(read_external(folder, "../w.bin", "0", "8", &g), PQ_E_FORMAT, "inside the model's");
    expect(read_external(folder, "a/../../w.bin", "0", "8", &g), PQ_E_FORMAT, "inside the model's");
    expect(read_external(folder, "a/..", "0", "8", &g), PQ_E_FORMAT, "inside the model's folder");
    expect(read_external(folder, "", "0", "8", &g), PQ_E_FORMAT, "inside the model's folder");
    expect(read_external(NULL, "w.bin", "0", "8", &g), PQ_E_UNSUPPORTED, "not read from a folder");
    char link[64], elsewhere[] = "/tmp/pquant-onnx-XXXXXX";
    const int fd = mkstemp(elsewhere);
    assert_true(fd >= 0);
    close(fd);
    write_file(elsewhere, data, sizeof data);
    snprintf(link, sizeof link, "%s/out.bin", folder);
    assert_int_equal(symlink(elsewhere, link), 0);
    expect(read_external(folder, "out.bin", "4", "8", &g), PQ_E_FORMAT, "a link out of the");
    remove(link);
    assert_int_equal(symlink("w.bin", link), 0);
    expect(read_external(folder, "out.bin", "4", "8", &g), PQ_OK, NULL);
    pq_graph_free(g);
    remove(link);
    remove(elsewhere);
    remove(path);
    remove(folder);
}

static void families_and_meta(void **state)
{
    pq_graph *g;
    Onnx__StringStringEntryProto e, *list = &e;
    (void)state;
    for (int i = 0; i < 3; i++) { /* 64 x 64: 64 + 16 + 4 anchors */
        model_begin(&m, ctx, 13);
        model_input(&m, "x", PQ_ONNX_F32, DIMS(1, 3, 64, 64));
        model_output(&m, "scores");
        if (i == 1) model_output(&m, "boxes");
        model_const(&m, "scores", PQ_ONNX_F32, DIMS(1, 84, 7), floats);
        model_const(&m, "boxes", PQ_ONNX_F32, DIMS(1, 84, 4), floats);
        if (i == 2) {
            onnx__string_string_entry_proto__init(&e);
            e.key = (char *)"pquant.family";
            e.value = (char *)"DAMO-YOLO-T";
            m.m.metadata_props = &list;
            m.m.n_metadata_props = 1;
        }
        g = read_ok();
        assert_string_equal(g->family, i == 0 ? "YOLOX" : i == 1 ? "DAMO-YOLO" : "DAMO-YOLO-T");
        if (i == 2) assert_string_equal(g->meta[1], "DAMO-YOLO-T");
        if (i == 2) assert_null(g->meta[2]);
        pq_graph_free(g);
    }
}

static void yolox_nano(void **state)
{
    const char *shared = getenv("PQ_SHARED");
    char path[512];
    pq_graph *g;
    (void)state;
    snprintf(path, sizeof path, "%s/models/yolox_nano.onnx", shared ? shared : "../shared");
    FILE *f = fopen(path, "rb");
    if (!f) {
        print_message("no %s: skipped\n", path);
        skip();
        return;
    }
    fclose(f);
    expect(pq_read_onnx(ctx, &g, path, NULL), PQ_OK, NULL);
    assert_string_equal(g->family, "YOLOX");
    assert_int_equal(g->opset, 11);
    assert_shape(g, "images", DIMS(1, 3, 416, 416));
    assert_shape(g, "output", DIMS(1, 3549, 85));
    assert_int_equal(pq_graph_quantizable_count(g), 116); /* 113 Conv, 3 MaxPool */
    int last = -1;
    for (int i = 0; i < 116; i++) {
        const pq_node_id id = pq_graph_quantizable(g, i);
        assert_true(id != PQ_NONE && (int)id > last);
        last = (int)id;
    }
    assert_string_equal(g->node[pq_graph_quantizable(g, 0)].name, "Conv_41");
    assert_string_equal(g->node[pq_graph_quantizable(g, 115)].name, "Conv_394");
    pq_graph_free(g);
}

static int begin(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_attributes),
        cmocka_unit_test(auto_pad),
        cmocka_unit_test(conv_transpose),
        cmocka_unit_test(gemm_factors_go_into_constants),
        cmocka_unit_test(half_floats_become_floats),
        cmocka_unit_test(typed_data),
        cmocka_unit_test(names),
        cmocka_unit_test(versions),
        cmocka_unit_test(unsupported_operators),
        cmocka_unit_test(wrong_files),
        cmocka_unit_test(open_sizes),
        cmocka_unit_test(other_sizes_than_the_file),
        cmocka_unit_test(external_data),
        cmocka_unit_test(inputs_beside_the_image),
        cmocka_unit_test(families_and_meta),
        cmocka_unit_test(yolox_nano),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
