#!/usr/bin/env bash
# docs/figures.md: all-INT8 by calibrator and scheme, nothing corrected.
. tools/tables/common
need "$Y"
calibrators='max percentile entropy mse auto'
echo "| model | scheme | ${calibrators// / | } |"
echo '|---|---|---|---|---|---|---|'
for name in yolox_nano T S; do
    case $name in
    yolox_nano) model=$Y n=128 ;;
    T) model=$T n=64 ;;
    S) model=$S n=64 ;;
    esac
    for scheme in u8 s8; do
        printf '| %s, %s images | %s |' $name $n $scheme
        for calibrator in $calibrators; do
            printf ' %s |' "$("$pq" eval "$model" $val --precision int8 $calib --calib-images $n \
                --scheme $scheme --calibrator $calibrator $plain | awk '$1 == "AP" { print $2 }')"
        done
        echo
    done
done
made 'pquant eval MODEL ... --precision int8 --calibrator C --scheme S --no-equalize --no-bias-correct --no-adaround'
