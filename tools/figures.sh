#!/usr/bin/env bash
# The figures of docs/figures.md, measured again: tools/figures.sh [SHARED] [WORK]
# SHARED: folder with models/ and coco128/ (default ../shared); WORK: scratch folder.
# Peers are measured where python3 (or PQ_PYTHON) has onnxruntime, openvino, numpy, opencv and pycocotools.
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${1:-../shared}
work=${2:-build/figures}
pq=build/release/pquant
python=${PQ_PYTHON:-python3}
mkdir -p "$work"
T=$shared/models/damoyolo_tinynasL20_T.pth
S=$shared/models/damoyolo_tinynasL25_S.pth
H=$shared/models/damoyolo_tinynasL20_T_hard.pth
Y=$shared/models/yolox_nano.onnx
val="--data $shared/coco128/images/val2017 --ann $shared/coco128/annotations/instances_val2017.json -q"
calib="--calib-data $shared/coco128/images/train2017"
golden="--scheme s8 --calibrator max --calib-images 64 --no-equalize --no-bias-correct --no-adaround"

ap() { "$pq" eval "$@" $val | awk '$1 == "AP" {print $2}'; }
row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3"; }
seconds() { local t0 t1; t0=$(date +%s.%N); "$@" >/dev/null; t1=$(date +%s.%N); echo "$t1 - $t0" | bc; }

echo "Machine: $("$pq" engines | awk '/^cpu/ {sub(/^cpu +/, ""); print; exit}'), $(nproc) threads"
echo
echo '| figure | asked | measured |'
echo '|---|---|---|'
row 'AP T, fp32' '0.9159 ± 0.0005' "$(ap "$T")"
row 'AP S, fp32' '0.9386 ± 0.0005' "$(ap "$S")"
row 'AP yolox_nano, fp32' '0.3394 ± 0.0005' "$(ap "$Y")"
row 'AP T, all-INT8, s8 max' '0.9148 ± 0.004' "$(ap "$T" --precision int8 $calib $golden)"
row 'AP S, all-INT8, s8 max' '0.9331 ± 0.004' "$(ap "$S" --precision int8 $calib $golden)"
row 'AP T_hard, all-INT8, s8 max' '0.2372 ± 0.004' "$(ap "$H" --precision int8 $calib $golden)"
for m in tiny small; do
    [ $m = tiny ] && { model=$T; want=0.9167; } || { model=$S; want=0.9324; }
    "$pq" run "$model" --preset $m $val $calib $golden --runs 5 -o "$work/preset_$m" >"$work/preset_$m.txt" || true
    row "AP preset $m, s8 max" "$want ± 0.004" "$(awk '$1 == "partial" {print $2}' "$work/preset_$m.txt")"
done
row 'AP yolox_nano, all-INT8, u8 mse' '≥ 0.25' "$(ap "$Y" --precision int8 $calib --scheme u8 --calibrator mse)"
rm -rf "$work/yolox" "$work/hard"
"$pq" run "$Y" $val $calib --max-drop 0.3 -o "$work/yolox" >"$work/yolox.txt" || true
row 'AP yolox_nano, partial, drop ≤ 0.3' '≥ 0.3364, ≥ 90 % of MACs in INT8' "$(awk '$1 == "partial" {print $2 ", " $6}' "$work/yolox.txt")"
t=$(seconds "$pq" select "$H" $val $calib $golden --max-drop 0.3 -o "$work/hard")
"$pq" select "$H" $val $calib $golden --max-drop 0.3 -o "$work/hard" >"$work/hard.txt" || true
row 'AP T_hard, partial, s8 max, drop ≤ 0.3' '≥ 0.9128, ≤ 10 kept' "$(sed 's/^[^:]*: //' "$work/hard.txt")"
row 'sweep and selection of T_hard, 128 images, 2 threads' '≤ 900 s' "$t s"
row 'inspect S' '≤ 0.3 s' "$(seconds "$pq" inspect "$S") s"
echo
echo 'Latency, batch 1, median ms, rows interleaved; "convolutions": alone, back to back.'
for model in "$T" "$S" "$Y"; do
    echo
    echo "$(basename "$model")"
    "$pq" bench "$model" --precision fp32,int8 $calib --calib-images 16 --scheme u8 --runs 60 -q --layers | grep -E "^engine|^cpu  |^cpu |whole network"
done
if "$python" -c 'import onnxruntime, openvino, cv2, pycocotools' 2>/dev/null; then
    echo
    echo 'fp32 of the same networks in the peers (whole process, median ms)'
    for name in T S; do
        [ $name = T ] && model=$T || model=$S
        "$pq" export "$model" --precision fp32 -o "$work/$name.onnx" -q
        for engine in onnxruntime openvino; do
            echo "$name $engine $("$python" "$shared/tools/referee.py" "$work/$name.onnx" --family damo --engine $engine |
                sed 's/.*"median_ms": \([0-9.]*\).*/\1 ms/')"
        done
    done
fi
