#!/usr/bin/env bash
# README: YOLOX-nano in full precision, all-INT8 and partial, and the picture of its sweep.
. tools/tables/common
need "$Y"
out=$work/yolox_nano
done_or_3 "$pq" run "$Y" $val $calib -o "$out" >"$work/run.txt"
tools/picture.py "$out" docs/img/sensitivity.svg
cells() { awk -v r="$1" 'index($0, r) == 1 { sub(r " +", ""); print $3 " | " $4 " | " $5 " | " $6 }' "$work/run.txt"; }
echo '| | AP | difference | 95 % interval | ms | speed-up | INT8 arithmetic | kept float |'
echo '|---|---|---|---|---|---|---|---|'
echo "| full precision | $("$pq" eval "$Y" $val | awk '$1 == "AP" { print $2 }') | | | $(cells 'full precision') |"
echo "| all-INT8 | $(compared "$Y" $val --precision int8 --ranges "$out/ranges.json") | $(cells all-INT8) |"
echo "| partial | $(compared "$Y" $val --precision "$out/plan.json") | $(cells partial) |"
made 'pquant run yolox_nano.onnx --data val2017 --ann instances_val2017.json --calib-data train2017 -o OUT'
