/**
 * @file pquant.h
 * Everything: one header per stage of the pipeline, in its order.
 *
 * @mainpage
 * libpquant: partial post-training quantization of object detectors. A stage of the pipeline is a
 * header: read.h, pass.h, calibrate.h, sensitivity.h, select.h, export.h, engine.h, detect.h,
 * evaluate.h, ... Conventions, threads and ABI are in docs/library.md, a first program in
 * examples/detect.c, both in the source tree.
 */
#ifndef PQUANT_PQUANT_H
#define PQUANT_PQUANT_H

#include <pquant/advice.h>
#include <pquant/assign.h>
#include <pquant/audit.h>
#include <pquant/base.h>
#include <pquant/bench.h>
#include <pquant/calibrate.h>
#include <pquant/correct.h>
#include <pquant/data.h>
#include <pquant/detect.h>
#include <pquant/engine.h>
#include <pquant/evaluate.h>
#include <pquant/export.h>
#include <pquant/graph.h>
#include <pquant/latency.h>
#include <pquant/pass.h>
#include <pquant/plan.h>
#include <pquant/pqe.h>
#include <pquant/read.h>
#include <pquant/report.h>
#include <pquant/select.h>
#include <pquant/sensitivity.h>
#include <pquant/tensor.h>

#endif
