/** @file calib_pth.h  A calibrated checkpoint: folded weights with the ranges of their quantizers.
 */
#ifndef PQ_EXPORT_CALIB_PTH_H
#define PQ_EXPORT_CALIB_PTH_H

#include <pquant/plan.h>

#include "base/ctx.h"

/**
 * Write the state dict of the quantizable operators, in their order: "<op>.weight", "<op>.bias"
 * (folded and corrected; batch norms are gone), and for INT8 operators
 *     "<op>._input_quantizer._amax"    scalar: the largest magnitude that its input's scale holds
 *     "<op>._weight_quantizer._amax"   127 * scale per output channel, [O, 1, 1, 1]
 *                                      (ConvTranspose [1, O, 1, 1])
 * as pytorch-quantization names them. Readable by torch.load(weights_only=True).
 * Errors: as pq_plan_bind; IO, NOMEM.
 */
PQ_MUST_USE pq_status pq_export_calib_pth(pq_ctx *ctx, const char *path, const pq_graph *g,
                                          const pq_plan *plan);

#endif
