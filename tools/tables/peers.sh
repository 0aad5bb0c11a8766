#!/usr/bin/env bash
# docs/figures.md: T and S on our engine and on the runtimes of the python3 on PATH, in turn in one process.
. tools/tables/common
need "$T"
"$pq" engines | awk '/^(openvino|onnxruntime)/ && !/not here/ { n++ } END { exit n < 2 }' ||
    { echo "no OpenVINO, or no ONNX Runtime" >&2; exit 77; }
echo '| model | precision | cpu, ms | OpenVINO | ONNX Runtime |'
echo '|---|---|---|---|---|'
for name in T S; do
    [ $name = T ] && model=$T || model=$S
    "$pq" bench "$model" --engine cpu,openvino,onnxruntime --precision fp32,int8 $calib --calib-images 16 \
        $plain --runs 40 -q >"$work/peers_$name.txt"
    for precision in fp32 int8; do
        awk -v name=$name -v p=$precision '
            $2 == p { ms[$1] = $4 }
            END {
                printf "| %s | %s | %.1f | %.1f (%.2fx) | %.1f (%.2fx) |\n", name, p, ms["cpu"],
                    ms["openvino"], ms["openvino"] / ms["cpu"], ms["onnxruntime"],
                    ms["onnxruntime"] / ms["cpu"]
            }' "$work/peers_$name.txt"
    done
done
made 'pquant bench MODEL --engine cpu,openvino,onnxruntime --precision fp32,int8 --calib-data train2017' cpu \
    openvino onnxruntime
