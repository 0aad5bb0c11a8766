/* Small ONNX models for tests, built with the exporter's writer. Anything that fails ends the test.
 */
#ifndef TEST_ONNX_BUILD_H
#define TEST_ONNX_BUILD_H

#include <pquant/read.h>

#include "export/onnx_writer.h"

typedef struct model {
    pq_onnx_writer w;
    Onnx__ModelProto m;
    Onnx__GraphProto g;
    Onnx__OperatorSetIdProto opset, *opsets;
    Onnx__ValueInfoProto *in[8], *out[8];
} model;

void model_begin(model *m, pq_ctx *ctx, int opset);
void model_end(model *m);
/* rank dimensions; a negative one is left open */
void model_input(model *m, const char *name, int type, int rank, const int64_t *dim);
void model_output(model *m, const char *name);
/* in and out: names separated by commas ("x,,z" has an absent one) */
Onnx__NodeProto *model_node(model *m, const char *type, const char *name, const char *in,
                            const char *out);
Onnx__TensorProto *model_const(model *m, const char *name, int type, int rank, const int64_t *dim,
                               const void *data);
void model_ints(model *m, const char *name, int n, const int64_t *v);
void put_int(model *m, Onnx__NodeProto *n, const char *name, int64_t v);
void put_float(model *m, Onnx__NodeProto *n, const char *name, float v);
void put_ints(model *m, Onnx__NodeProto *n, const char *name, int count, const int64_t *v);
void put_text(model *m, Onnx__NodeProto *n, const char *name, const char *v);
/* Fresh bytes (pq_free). */
uint8_t *model_bytes(model *m, size_t *n);
/* Pack and read. */
pq_status model_read(model *m, pq_graph **out, const char *folder, const pq_read_opts *opts);

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (const int64_t[]) { __VA_ARGS__ }

#endif
