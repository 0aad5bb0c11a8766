/** @file pth.h  Writing PyTorch checkpoints that torch.load(weights_only=True) takes. */
#ifndef PQ_EXPORT_PTH_H
#define PQ_EXPORT_PTH_H

#include <pquant/tensor.h>

#include "base/ctx.h"

/**
 * Write a state dict: OrderedDict of names to float32 tensors, in this order. A zip archive of
 * stored members: data.pkl (protocol 2), byteorder, data/0 …, version; the same input gives the
 * same bytes. Appears under its name only when complete. Names are UTF-8, unique; tensors dense
 * float32. Errors: IO; INVALID (a tensor of another type, too many bytes); NOMEM.
 */
PQ_MUST_USE pq_status pq_pth_write(pq_ctx *ctx, const char *path, const char *const *names,
                                   const pq_tensor *tensors, size_t n);

#endif
