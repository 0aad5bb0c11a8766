/**
 * @file read.h
 * Model files into graphs: .pth of DAMO-YOLO and .onnx of any convolutional detector.
 */
#ifndef PQUANT_READ_H
#define PQUANT_READ_H

#include <pquant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Zero means default. */
typedef struct pq_read_opts {
    const char *config; /* DAMO-YOLO config name or path that the checkpoint must agree with */
    int64_t batch, h,
        w; /* fix the input size (default: the file's; 1 x 640 x 640 for .pth, Nano 416) */
} pq_read_opts;

/**
 * Read a model: by content, not by extension. The graph is as the file has it (unfolded); see
 * pass.h. Memory: *out is yours (pq_graph_free), NULL on error. Errors: IO; FORMAT (what, where,
 * found, expected); UNSUPPORTED (operator, node, opset; a pickle global by name); INVALID (config
 * disagrees).
 */
PQ_API PQ_MUST_USE pq_status pq_read(pq_ctx *ctx, pq_graph **out, const char *path,
                                     const pq_read_opts *opts);
PQ_API PQ_MUST_USE pq_status pq_read_onnx(pq_ctx *ctx, pq_graph **out, const char *path,
                                          const pq_read_opts *opts);
/** ONNX from memory; folder: where external data lies (NULL: none allowed). */
PQ_API PQ_MUST_USE pq_status pq_read_onnx_memory(pq_ctx *ctx, pq_graph **out, const void *data,
                                                 size_t bytes, const char *folder,
                                                 const pq_read_opts *opts);
PQ_API PQ_MUST_USE pq_status pq_read_pth(pq_ctx *ctx, pq_graph **out, const char *path,
                                         const pq_read_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
