#!/usr/bin/env bash
# docs/quantization.md: what each correction gives, with the seconds that calibrating took.
. tools/tables/common
need "$Y"
PQUANT=$pq tools/ablation.sh "$PQ_SHARED" "$work/ablation"
made 'tools/ablation.sh'
