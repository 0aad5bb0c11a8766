#!/usr/bin/env bash
# docs/figures.md: AP against what the original and its simulation give. Those figures are of plain
# calibration, so corrections are off. Rows that PQ_WORK has are not measured again.
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
int8="--precision int8 $calib"
kept accuracy_T float T '0.9159 ± 0.0005' "$T"
kept accuracy_S float S '0.9386 ± 0.0005' "$S"
kept accuracy_Y float yolox_nano '0.3394 ± 0.0005' "$Y"
kept accuracy_T8 row 'T, all-INT8, s8 max, 64 images' '0.9148 ± 0.004' "$T" $int8 $golden
kept accuracy_S8 row 'S, all-INT8, s8 max, 64 images' '0.9331 ± 0.004' "$S" $int8 $golden
kept accuracy_H8 row 'T_hard, all-INT8, s8 max, 64 images' '0.2372, see below' "$H" $int8 $golden
kept accuracy_Tp preset 'T, preset tiny, s8 max, 64 images' '0.9167 ± 0.004' "$T" tiny
kept accuracy_Sp preset 'S, preset small, s8 max, 64 images' '0.9324 ± 0.004' "$S" small
kept accuracy_Y8 row 'yolox_nano, all-INT8, u8 mse' 'at least 0.25' "$Y" $int8 --scheme u8 \
    --calibrator mse $plain
made 'pquant eval MODEL --data val2017 --ann instances_val2017.json --precision P --against fp32'
