#!/usr/bin/env bash
# docs/figures.md: all-INT8 by calibrator and scheme, nothing corrected. Rows that PQ_WORK has are not
# measured again. calibrators.sh [MODEL_SCHEME...]: those rows alone.
. tools/tables/common
need "$Y"
calibrators='max percentile entropy mse auto'
row() # NAME MODEL IMAGES SCHEME
{
    printf '| %s, %s images | %s |' "$1" "$3" "$4"
    for calibrator in $calibrators; do
        printf ' %s |' "$("$pq" eval "$2" $val --precision int8 $calib --calib-images "$3" \
            --scheme "$4" --calibrator $calibrator $plain | awk '$1 == "AP" { print $2 }')"
    done
    echo
}
[ $# -gt 0 ] || set -- yolox_nano_u8 yolox_nano_s8 T_u8 T_s8 S_u8 S_s8
echo "| model | scheme | ${calibrators// / | } |"
echo '|---|---|---|---|---|---|---|'
for part in "$@"; do
    case ${part%_*} in
    yolox_nano) model=$Y n=128 ;;
    T) model=$T n=64 ;;
    S) model=$S n=64 ;;
    esac
    kept "calibrators_$part" row "${part%_*}" "$model" $n "${part##*_}"
done
made 'pquant eval MODEL ... --precision int8 --calibrator C --scheme S --no-equalize --no-bias-correct --no-adaround'
