#!/usr/bin/env bash
# docs/figures.md: the same plans on every engine that is here, by tests/peers/conformance.c: all-INT8 and
# partial plans of T, S and yolox_nano; AP within 0.003 of the cpu engine's, or exit status 1.
# OpenVINO and ONNX Runtime are those of the python3 on PATH. Run from the repository's root.
set -euo pipefail
shared=${PQ_SHARED:-../shared} work=${PQ_WORK:-build/tables} built=${PQ_BIN:-build/release}
models=$shared/models images=$shared/coco128/images
[ -e "$models/yolox_nano.onnx" ] || { echo "skipped: no $models" >&2; exit 77; }
mkdir -p "$work"
if [ ! -e "$work/yolox/plan.json" ]; then
    "$built/pquant" select "$models/yolox_nano.onnx" --data "$images/val2017" \
        --ann "$shared/coco128/annotations/instances_val2017.json" --calib-data "$images/train2017" \
        --calib-images 64 --no-equalize --no-bias-correct --no-adaround -o "$work/yolox" -q >"$work/yolox.txt"
fi
status=0 header=1
on() # MODEL PLAN
{
    "$built/conformance" "$models/$1" "$2" "$shared" 0.003 >"$work/engines_rows" || status=1
    [ $header = 0 ] && sed -i 1,2d "$work/engines_rows"
    header=0
    cat "$work/engines_rows"
}
on damoyolo_tinynasL20_T.pth int8
on damoyolo_tinynasL20_T.pth tiny
on damoyolo_tinynasL25_S.pth small
on yolox_nano.onnx "$work/yolox/plan.json"
printf '\n%s; %s. `tools/tables/engines.sh`\n' "$("$built/pquant" engines | awk '
    /^(cpu|openvino|onnxruntime) .*[0-9]/ { printf "%s%s %s", n++ ? ", " : "", $2, $3 }')" "$(date -u +%F)"
exit $status
