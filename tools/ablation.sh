#!/usr/bin/env bash
# The ablation table of docs/quantization.md, measured again:
# tools/ablation.sh [SHARED] [WORK] [PATTERN]
# SHARED: folder with models/ and coco128/ (default ../shared). WORK: where results are kept
# (default build/ablation); what is there is not measured again. PATTERN: measure only what
# "CASE STEP" of it matches (a regular expression); the table has a dash for the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${1:-../shared}
work=${2:-build/ablation}
pattern=${3:-.}
pq=${PQUANT:-build/release/pquant}
steps='max auto equalize bias rounding'
mkdir -p "$work"

# Options of a step. T_hard keeps the plain maximum: the others' calibrators hide its trouble.
options() { # CASE STEP
    local calibrator=auto
    [ "$2" = max ] || [[ $1 == T_hard* && $2 != auto ]] && calibrator=max
    echo --calibrator $calibrator
    case $2 in
    max | auto) echo --no-equalize --no-bias-correct --no-adaround ;;
    equalize) echo --no-bias-correct --no-adaround ;;
    bias) echo --no-adaround ;;
    esac
}

measure() { # CASE MODEL SCHEME CALIBRATE-ON EVALUATE-ON STEP
    local out=$work/${1// /_}_$6 t0 t1
    [[ "$1 $6" =~ $pattern ]] && [ ! -s "$out.txt" ] || return 0
    t0=$(date +%s.%N)
    # shellcheck disable=SC2046
    "$pq" calibrate "$shared/models/$2" --scheme "$3" --calib-data "$shared/coco128/images/$4" \
        $(options "$1" "$6") -o "$out.json" -q >"$out.log"
    t1=$(date +%s.%N)
    "$pq" eval "$shared/models/$2" --precision int8 --scheme "$3" --ranges "$out.json" -q \
        --data "$shared/coco128/images/$5" --ann "$shared/coco128/annotations/instances_$5.json" |
        awk -v s="$(echo "$t1 - $t0" | bc)" '$1 == "AP" {printf "%.4f (%.0f)\n", $2, s}' >"$out.txt"
}

row() { # CASE MODEL SCHEME CALIBRATE-ON EVALUATE-ON
    local step
    printf '| %s ' "$1"
    for step in $steps; do
        measure "$@" "$step"
        printf '| %s ' "$(cat "$work/${1// /_}_$step.txt" 2>/dev/null || echo -)"
    done
    echo '|'
}

echo '| model, scheme, evaluated on | max | auto | + equalisation | + biases | + rounding |'
echo '|---|---|---|---|---|---|'
row 'yolox_nano u8 val' yolox_nano.onnx u8 train2017 val2017
row 'yolox_nano u8 train' yolox_nano.onnx u8 val2017 train2017
row 'yolox_nano s8 val' yolox_nano.onnx s8 train2017 val2017
row 'yolox_nano s8 train' yolox_nano.onnx s8 val2017 train2017
for scheme in u8 s8; do
    row "T $scheme val" damoyolo_tinynasL20_T.pth $scheme train2017 val2017
    row "T_hard $scheme val" damoyolo_tinynasL20_T_hard.pth $scheme train2017 val2017
    row "S $scheme val" damoyolo_tinynasL25_S.pth $scheme train2017 val2017
done
