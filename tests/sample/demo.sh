#!/bin/sh
# tools/demo.sh on a few scenes, without the correction that takes longest: it ends well, its table
# has three rows of numbers, and what it names is there. Usage: demo.sh BUILD
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
PQ_BIN=$1 tools/demo.sh "$dir/demo" 4 3 4 --no-equalize >"$dir/said" 2>&1 || failed=1
cat "$dir/said"
number='[0-9]+\.[0-9]+'
for row in "full precision +$number +$number +1\.00x" \
    "all-INT8 +$number +[+-]$number +[+-]$number \.\. [+-]$number +$number +${number}x" \
    "partial +$number +[+-]$number +[+-]$number \.\. [+-]$number +$number +${number}x"; do
    grep -Eq "^$row\$" "$dir/demo/table.txt" || { echo "no row like: $row"; failed=1; }
done
for file in result/plan.json result/run.json pictures/000001.png pictures/000004.png; do
    [ -s "$dir/demo/$file" ] || { echo "no $file"; failed=1; }
done
ls "$dir/demo/result" | grep -q '\.onnx$' || { echo 'no ONNX file'; failed=1; }
exit $failed
