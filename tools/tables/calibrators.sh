#!/usr/bin/env bash
# docs/figures.md: all-INT8 by calibrator and scheme, nothing corrected. Rows that PQ_WORK has are not
# measured again. calibrators.sh [MODEL_SCHEME...]: those rows alone.
. tools/tables/common
need "$Y"
calibrators='max percentile entropy mse auto'
[ $# -gt 0 ] || set -- yolox_nano_u8 yolox_nano_s8 T_u8 T_s8 S_u8 S_s8
echo "| model | scheme | ${calibrators// / | } |"
echo '|---|---|---|---|---|---|---|'
for row in "$@"; do
    name=${row%_*} scheme=${row##*_}
    case $name in
    yolox_nano) model=$Y n=128 ;;
    T) model=$T n=64 ;;
    S) model=$S n=64 ;;
    esac
    done=$work/calibrators_$row
    if [ ! -s "$done" ]; then
        {
            printf '| %s, %s images | %s |' "$name" $n "$scheme"
            for calibrator in $calibrators; do
                printf ' %s |' "$("$pq" eval "$model" $val --precision int8 $calib --calib-images $n \
                    --scheme "$scheme" --calibrator $calibrator $plain | awk '$1 == "AP" { print $2 }')"
            done
            echo
        } >"$done.new"
        mv "$done.new" "$done"
    fi
    cat "$done"
done
made 'pquant eval MODEL ... --precision int8 --calibrator C --scheme S --no-equalize --no-bias-correct --no-adaround'
