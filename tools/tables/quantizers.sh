#!/usr/bin/env bash
# docs/figures.md: all-INT8 T beside what the runtimes' own quantizers make of it. Needs a python
# (PQ_PYTHON, default python3) with onnxruntime, openvino, nncf, onnx, numpy and opencv, and a machine that
# does nothing else.
. tools/tables/common
python=${PQ_PYTHON:-python3}
need "$T"
"$python" -c 'import cv2, nncf, onnx, onnxruntime, openvino' 2>/dev/null ||
    { echo "$python has no nncf, onnxruntime and openvino" >&2; exit 77; }
"$python" tests/peers/quantizers.py "$pq" "$T" "$images/train2017" --threads "$(nproc)" \
    --folder "$work/quantizers" 2>"$work/quantizers.log"
nncf=$("$python" -c 'import importlib.metadata as m; print("NNCF", m.version("nncf"))')
made "tests/peers/quantizers.py build/release/pquant MODEL train2017; $nncf" openvino onnxruntime
