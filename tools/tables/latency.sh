#!/usr/bin/env bash
# README: DAMO-YOLO T and S at each precision, and what is not convolution.
. tools/tables/common
need "$T"
echo '| | fp32, ms | bf16 | int8 | network / its convolutions alone: fp32, int8 |'
echo '|---|---|---|---|---|'
for name in T S; do
    [ $name = T ] && model=$T || model=$S
    "$pq" bench "$model" --precision fp32,bf16,int8 $calib --calib-images 16 $plain --runs 30 -q \
        --layers >"$work/bench_$name.txt"
    awk -v name=$name '
        $1 == "cpu" && NF > 2 && $NF ~ /x$/ { ms[$2] = $4; ratio[$2] = $NF }
        $1 == "cpu" && NF == 2 { at = $2 }
        /^whole network/ { share[at] = $NF }
        END {
            printf "| %s | %.1f | %.1f (%s) | %.1f (%s) | %s, %s |\n", name, ms["fp32"], ms["bf16"],
                ratio["bf16"], ms["int8"], ratio["int8"], share["fp32"], share["int8"]
        }' "$work/bench_$name.txt"
done
made 'pquant bench MODEL --precision fp32,bf16,int8 --calib-data train2017 --runs 30 --layers'
