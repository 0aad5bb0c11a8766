#!/usr/bin/env bash
# docs/figures.md: times of all-INT8 T beside what the runtimes' own quantizers make of it, by
# tests/peers/quantizers.py. Needs a python (PQ_PYTHON, default python3) with onnxruntime, openvino, nncf,
# onnx, numpy and opencv, and a machine that does nothing else. Run from the repository's root.
set -euo pipefail
shared=${PQ_SHARED:-../shared} work=${PQ_WORK:-build/tables} built=${PQ_BIN:-build/release}
python=${PQ_PYTHON:-python3} model=$shared/models/damoyolo_tinynasL20_T.pth
[ -e "$model" ] || { echo "skipped: no $model" >&2; exit 77; }
"$python" -c 'import cv2, nncf, onnx, onnxruntime, openvino' 2>/dev/null ||
    { echo "skipped: $python has no nncf, onnxruntime and openvino" >&2; exit 77; }
"$python" tests/peers/quantizers.py "$built/pquant" "$model" "$shared/coco128/images/train2017" \
    --threads "$(nproc)" --folder "$work/quantizers" 2>"$work/quantizers.log"
printf '\n%s threads; %s; %s. `tools/tables/quantizers.sh`\n' "$(nproc)" "$("$python" -c 'import nncf, onnxruntime, openvino
print("ONNX Runtime", onnxruntime.__version__ + ", OpenVINO", openvino.__version__.split("-")[0] + ", NNCF", nncf.__version__)')" "$(date -u +%F)"
