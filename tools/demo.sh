#!/usr/bin/env bash
# The whole job on the sample, in a few minutes and with nothing fetched: draws scenes, lets
# `pquant run` choose the precisions on some of them, and measures the result on others.
# tools/demo.sh [OUT [CALIBRATION SELECTION TEST [OPTION...]]]: folder (default build/demo), numbers of
# scenes, and what `run` is to be told besides.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/demo}
n_calib=${2:-128} n_select=${3:-128} n_test=${4:-200}
bin=${PQ_BIN:-build/release}
model=sample/damoyolo_shapes_Ns.pth
run=("$bin/pquant" run $model --data "$out/selection/images" --ann "$out/selection/instances.json"
    --calib-data "$out/calibration/images" --max-drop 0.1 --time-budget 6m -o "$out/result" "${@:5}")
test=(--data "$out/test/images" --ann "$out/test/instances.json"
    --ranges "$out/result/ranges.json" --against fp32 -q)

echo "drawing scenes into $out"
rm -rf "$out"/{calibration,selection,test,result,pictures}
"$bin/pquant-scenes" --seed 1 --count "$n_calib" --out "$out/calibration"
"$bin/pquant-scenes" --seed 2 --count "$n_select" --out "$out/selection"
"$bin/pquant-scenes" --seed 3 --count "$n_test" --out "$out/test"

echo
echo "choosing on the $n_select selection scenes (a minute or two):"
echo "${run[*]}"
# 3: done, but the budget does not hold or INT8 is not worth it; the outputs are there.
"${run[@]}" >"$out/run.txt" || [ $? -eq 3 ] || exit 1
cat "$out/run.txt"

echo
echo "measuring on the $n_test test scenes, which nothing was chosen on"
for p in int8 "$out/result/plan.json"; do
    "$bin/pquant" eval $model --precision "$p" "${test[@]}"
done >"$out/eval.txt"

# ms of the three rows of run.txt, then figures of the two evaluations.
awk '
    FILENAME == ARGV[1] && /^(fp32|int8|partial) / {
        for (i = 2; i <= NF; i++) if ($i ~ /^[0-9.]+x$/) ms[$1] = $(i - 1)
    }
    FILENAME == ARGV[2] && $1 == "AP" && $2 != "of" { ap[++n] = $2 }
    FILENAME == ARGV[2] && /^AP of fp32/ { base = $4 }
    FILENAME == ARGV[2] && $1 == "difference" { d[n] = $2 + 0; lo[n] = $6; hi[n] = $8 }
    END {
        printf "\n%-16s %8s %12s %20s %8s %9s\n", "", "AP", "difference", "95 % interval", "ms",
            "speed-up"
        printf "%-16s %8.4f %12s %20s %8.2f %8.2fx\n", "full precision", base, "", "", ms["fp32"], 1
        for (i = 1; i <= n; i++) {
            k = i == 1 ? "int8" : "partial"
            printf "%-16s %8.4f %+12.4f %20s %8.2f %8.2fx\n", k == "int8" ? "all-INT8" : k, ap[i], d[i],
                lo[i] " .. " hi[i], ms[k], ms["fp32"] / ms[k]
        }
    }' "$out/run.txt" "$out/eval.txt" | tee "$out/table.txt"

# A run with a time budget leaves the detections before and after to this.
"$bin/pquant" report "$out/result" -q >/dev/null

"$bin/pquant" detect $model --precision "$out/result/plan.json" --ann "$out/test/instances.json" \
    -o "$out/pictures" -q "$out"/test/images/00000[1-4].png >/dev/null
cat <<EOF

$out/result/report.html   all of it on one page: open it in a browser
$out/result       the plan, its weights, the measurements, the ONNX and engine files
$out/pictures     what the partial model finds on four test scenes
$out/table.txt    this table
EOF
