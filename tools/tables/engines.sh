#!/usr/bin/env bash
# docs/figures.md: the same plans on every engine that is here (tests/peers/conformance.c): all-INT8 and
# partial plans of T, S and yolox_nano. A partial plan's AP further than 0.003 from the cpu engine's fails. OpenVINO and
# ONNX Runtime are those of the python3 on PATH. Rows that PQ_WORK has are not measured again.
# engines.sh [PART...]: those parts alone, a few minutes each.
. tools/tables/common
need "$Y"
need "$PQ_BIN/conformance"
[ $# -gt 0 ] || set -- T_int8 T_tiny S_small yolox_nano
from=1
rows() # MODEL PLAN IMAGES-ON-REF
{
    local bound=0.003 # asked of partial plans
    [ "$2" != int8 ] || bound=1
    "$PQ_BIN/conformance" "$1" "$2" "$PQ_SHARED" $bound "$3" || {
        [ $? -eq 3 ] && echo "$2" >>"$work/engines_beyond"
    }
}
rm -f "$work/engines_beyond"
on() # MODEL PLAN IMAGES-ON-REF
{
    kept "engines_$part" rows "$@" | tail -n +$from
    from=3
}
for part in "$@"; do
    case $part in
    T_*) on "$T" "${part#T_}" 16 ;;
    S_*) on "$S" "${part#S_}" 8 ;;
    yolox_nano)
        plan=$work/engines_yolox/plan.json
        [ -e "$plan" ] || done_or_3 "$pq" select "$Y" $val $calib --calib-images 64 $plain \
            -o "${plan%/*}" >"$work/engines_yolox.txt"
        on "$Y" "$plan" 128
        ;;
    esac
done
made 'build/release/conformance MODEL PLAN SHARED 0.003 REF_IMAGES' cpu openvino onnxruntime
if [ -e "$work/engines_beyond" ]; then
    echo "further than 0.003 from the cpu engine: $(tr '\n' ' ' <"$work/engines_beyond")" >&2
    exit 1
fi
