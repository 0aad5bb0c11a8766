#!/usr/bin/env bash
# docs/figures.md: the demo's table on three sets of scenes that nothing was chosen on.
. tools/tables/common
model=sample/damoyolo_shapes_Ns.pth
scenes=${PQ_SCENES:-128 128 200}
n=${scenes##* }
PQ_BIN=$PQ_BIN tools/demo.sh "$work/demo" $scenes >"$work/demo.txt"
echo '| scenes of seed | precision | AP | difference from fp32 | 95 % interval |'
echo '|---|---|---|---|---|'
for seed in 3 31 32; do
    "$PQ_BIN/pquant-scenes" --seed $seed --count "$n" --out "$work/scenes_$seed" >/dev/null
    data="--data $work/scenes_$seed/images --ann $work/scenes_$seed/instances.json -q"
    echo "| $seed | full precision | $("$pq" eval $model $data | awk '$1 == "AP" { print $2 }') | | |"
    echo "| $seed | all-INT8 | $(compared $model $data --precision int8 --ranges "$work/demo/result/ranges.json") |"
    echo "| $seed | partial | $(compared $model $data --precision "$work/demo/result/plan.json") |"
done
made 'make demo'
