#!/usr/bin/env bash
# docs/figures.md: AP against what the original and its simulation give. Those figures are of plain
# calibration, so corrections are off.
. tools/tables/common
need "$T"
golden="--scheme s8 --calibrator max --calib-images 64 $plain"
echo '| figure | asked | AP | difference from fp32 | 95 % interval |'
echo '|---|---|---|---|---|'
row() # NAME ASKED ARGUMENT...
{
    local name=$1 asked=$2
    shift 2
    echo "| $name | $asked | $(compared "$@" $val) |"
}
float() { echo "| $1, fp32 | $2 | $("$pq" eval "$3" $val | awk '$1 == "AP" { print $2 }') | | |"; }
preset() # NAME ASKED MODEL PRESET: its plan, then the plan's AP
{
    done_or_3 "$pq" run "$3" --preset "$4" $val $calib $golden --runs 5 -o "$work/$4" >"$work/$4.txt"
    row "$1" "$2" "$3" --precision "$work/$4/plan.json"
}
float T '0.9159 ± 0.0005' "$T"
float S '0.9386 ± 0.0005' "$S"
float yolox_nano '0.3394 ± 0.0005' "$Y"
row 'T, all-INT8, s8 max, 64 images' '0.9148 ± 0.004' "$T" --precision int8 $calib $golden
row 'S, all-INT8, s8 max, 64 images' '0.9331 ± 0.004' "$S" --precision int8 $calib $golden
row 'T_hard, all-INT8, s8 max, 64 images' '0.2372' "$H" --precision int8 $calib $golden
preset 'T, preset tiny, s8 max, 64 images' '0.9167 ± 0.004' "$T" tiny
preset 'S, preset small, s8 max, 64 images' '0.9324 ± 0.004' "$S" small
row 'yolox_nano, all-INT8, u8 mse' 'at least 0.25' "$Y" --precision int8 $calib --scheme u8 \
    --calibrator mse $plain
made 'pquant eval MODEL --data val2017 --ann instances_val2017.json --precision P --against fp32'
