#!/bin/sh
# AP of the command against the reference figures of shared/golden (original code in PyTorch, ONNX
# Runtime; INT8 simulated there). Usage: golden_ap.sh PQUANT; skips without ../shared ($PQ_SHARED).
set -u
pquant=$1
shared=${PQ_SHARED:-../shared}
data="--data $shared/coco128/images/val2017 --ann $shared/coco128/annotations/instances_val2017.json"
calib="--calib-data $shared/coco128/images/train2017 --calib-images 64 --calibrator max --scheme s8"
plain="--no-equalize --no-bias-correct --no-adaround" # as the reference simulation has it
failed=0

# figure MODEL EXPECTED TOLERANCE OPTION...
figure()
{
    model=$shared/models/$1 expected=$2 tolerance=$3
    shift 3
    if [ ! -f "$model" ]; then
        echo "$model is absent"
        exit 77
    fi
    # shellcheck disable=SC2086
    ap=$("$pquant" eval "$model" $data "$@" -q | awk '$1 == "AP" { print $2 }')
    echo "$(basename "$model") $*: AP $ap, expected $expected +- $tolerance"
    awk -v a="${ap:-9}" -v e="$expected" -v t="$tolerance" \
        'BEGIN { d = a - e; exit !(d <= t && d >= -t) }' || failed=1
}

figure yolox_nano.onnx 0.3394 0.0005
figure damoyolo_tinynasL20_T.pth 0.9159 0.0005
# shellcheck disable=SC2086
figure damoyolo_tinynasL20_T.pth 0.9148 0.004 --precision int8 $calib $plain
exit $failed
