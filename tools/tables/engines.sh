#!/usr/bin/env bash
# docs/figures.md: the same plans on every engine that is here (tests/peers/conformance.c): all-INT8 and
# partial plans of T, S and yolox_nano. An AP further than 0.003 from the cpu engine's fails. OpenVINO and
# ONNX Runtime are those of the python3 on PATH.
. tools/tables/common
need "$Y"
need "$PQ_BIN/conformance"
partial=$work/engines_yolox
if [ ! -e "$partial/plan.json" ]; then
    "$pq" select "$Y" $val $calib --calib-images 64 $plain -o "$partial" >"$work/engines_yolox.txt"
fi
status=0 from=1
on() # MODEL PLAN
{
    "$PQ_BIN/conformance" "$1" "$2" "$PQ_SHARED" 0.003 >"$work/engines_rows" || status=1
    tail -n +$from "$work/engines_rows"
    from=3
}
on "$T" int8
on "$T" tiny
on "$S" small
on "$Y" "$partial/plan.json"
made 'build/release/conformance MODEL PLAN SHARED 0.003'
exit $status
