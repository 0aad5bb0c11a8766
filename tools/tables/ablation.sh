#!/usr/bin/env bash
# docs/quantization.md: what each correction gives.
. tools/tables/common
need "$Y"
need tools/ablation.sh
tools/ablation.sh "$PQ_SHARED" "$work/ablation"
