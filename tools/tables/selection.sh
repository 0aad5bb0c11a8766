#!/usr/bin/env bash
# docs/figures.md: what the selection keeps, what it holds and what it takes.
. tools/tables/common
need "$Y"
echo '| model | asked | AP | difference from fp32 | 95 % interval | kept | MACs in INT8 | time |'
echo '|---|---|---|---|---|---|---|---|'
row() # NAME ASKED MODEL ARGUMENT...
{
    local name=$1 asked=$2 model=$3 begun=$SECONDS out=$work/select_${1%%,*}
    shift 3
    done_or_3 "$pq" select "$model" $val $calib "$@" -o "$out" >"$out.txt"
    local took=$((SECONDS - begun)) said
    said=$(grep -o '[0-9]* of [0-9]* operators kept, [0-9.]*%' "$out.txt" | sed 's/ operators kept,/ |/')
    echo "| $name | $asked | $(compared "$model" $val --precision "$out/plan.json") | $said | $took s |"
}
row 'yolox_nano, drop 0.3' 'at least 0.3364 with 90 % of MACs' "$Y" --max-drop 0.3
row 'T_hard, s8 max, 64 images, drop 0.3' 'at least 0.9128, at most 10 kept, 15 minutes' "$H" \
    --scheme s8 --calibrator max --calib-images 64 $plain --max-drop 0.3
made 'pquant select MODEL --data val2017 --ann instances_val2017.json --calib-data train2017 -o OUT'
