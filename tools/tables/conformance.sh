#!/usr/bin/env bash
# docs/figures.md: one plan on every engine that is here.
. tools/tables/common
need "$T"
need "$PQ_BIN/conformance"
"$PQ_BIN/conformance" "$T" tiny "$PQ_SHARED" 0.003
made 'build/release/conformance MODEL tiny SHARED 0.003'
