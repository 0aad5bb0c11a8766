#!/bin/sh
# Tests and measures the cuda engine on a machine with a GPU, from what cuda_pack.sh packed beside
# this file. run.sh [STAGE...]; every log goes to $OUT (default: out). Stages, in this order when none
# is named: tests ptx memcheck racecheck synccheck models torch bench bench32 pictures ap sweep ncu.
# Peers and engines are timed under one lock, on an otherwise idle GPU, clocks as they are.
here=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-$PWD/out}
work=${TMPDIR:-/tmp}/pquant-cuda
mkdir -p "$OUT" "$work"
start=$(date +%s)

# limit SECONDS LOG COMMAND...: its output to the log, one line here if it fails or takes longer.
limit() {
    seconds=$1 log=$OUT/$2
    shift 2
    timeout -k 5 "$seconds" "$@" >"$log" 2>&1
    code=$?
    [ $code -eq 0 ] || echo "  exit status $code: $* (see $(basename "$log"))"
    return $code
}

# bench NAME MODEL BATCH PRECISIONS RUNS
bench() {
    limit 90 "bench.$1.$3.txt" ./pquant bench "$2" --engine cuda --batch "$3" --precision "$4" \
        --ranges "$1.ranges.json" --runs "$5" --layers
    grep -E 'device was at work|^pquant:' "$OUT/bench.$1.$3.txt"
}

sanitize() {
    for test in graphs nets detect; do
        PQ_CUDA_UNTUNED=1 PQ_CUDA_GRAPHS=4 PQ_CUDA_LAYERS=1 PQ_CUDA_SIDE=9 PQ_CUDA_PICTURES=20 \
            limit 150 "$1.$test.txt" compute-sanitizer --tool "$1" "./test_cuda_$test"
        grep -E 'SUMMARY' "$OUT/$1.$test.txt"
    done
}

stage() {
    case $1 in
    tests)
        for test in graphs nets detect; do
            limit 150 "tests.$test.txt" "./test_cuda_$test"
            grep -E 'differ|fp16|equal|FAILED|PASSED' "$OUT/tests.$test.txt"
        done ;;
    ptx)
        for arch in 75 80; do
            for test in graphs nets detect; do
                PQ_CUDA_UNTUNED=1 PQ_CUDA_GRAPHS=12 PQ_CUDA_LAYERS=2 \
                    limit 150 "ptx$arch.$test.txt" "./test_cuda_${test}_ptx$arch"
                grep -E 'differ|FAILED|PASSED' "$OUT/ptx$arch.$test.txt"
            done
        done ;;
    memcheck | racecheck | synccheck) sanitize "$1" ;;
    models)
        for name in T S M; do
            limit 60 "model.$name.txt" ./pq_peer_model synthetic $name 640 $name.pqe
        done
        for name in T S M; do
            limit 60 "export.$name.txt" ./pquant export $name.pqe --precision fp32 \
                -o $name.onnx
        done ;;
    torch) # compiled side by side into the compiler's cache; timed one after the other
        for name in T S M; do
            limit 250 "torch.$name.compiled.txt" python3 torch_compile.py $name.onnx --runs 1 &
        done
        limit 250 torch.T.32.compiled.txt python3 torch_compile.py T.onnx --batch 32 --runs 1 &
        wait
        for name in T S M; do
            limit 100 "torch.$name.txt" python3 torch_compile.py $name.onnx --runs 1000
            tail -1 "$OUT/torch.$name.txt"
        done
        limit 100 torch.T.32.txt python3 torch_compile.py T.onnx --batch 32 --runs 50
        tail -1 "$OUT/torch.T.32.txt" ;;
    bench)
        for name in T S M; do
            bench $name $name.pqe 1 "fp16,$name.partial.json,int8,fp32" 1000
        done ;;
    bench32)
        for name in T S M; do bench $name $name.pqe 32 fp16,int8 50; done ;;
    pictures) # of the trained S: pictures to boxes, and the network alone
        for batch in 1 32; do
            for what in --e2e ''; do
                limit 90 "pictures.$batch$what.txt" ./pquant bench trained.pth --engine cuda \
                    --batch $batch --precision fp16,int8 --ranges trained.ranges.json \
                    --data images --runs 100 $what
                grep -vE '^$' "$OUT/pictures.$batch$what.txt"
            done
        done ;;
    ap) # all-INT8 by plain maxima: far below, but the same as the cpu engine's
        for precision in fp32 fp16 int8; do
            limit 60 "ap.$precision.txt" ./pquant eval nano.onnx --engine cuda \
                --precision $precision --ranges nano.ranges.json --data images \
                --ann annotations.json -q
            echo "  YOLOX-nano $precision AP $(awk '$1 == "AP" {print $2}' "$OUT/ap.$precision.txt")"
        done ;;
    sweep)
        for jobs in ${PQ_JOBS:-1 4}; do
            rm -rf "$work/sweep"
            began=$(date +%s)
            limit 300 sweep.$jobs.txt ./pquant sweep trained.pth --engine cuda --jobs "$jobs" \
                --data images --ann annotations.json --ranges trained.ranges.json -o "$work/sweep"
            echo "  sweep of S, $jobs processes: $(($(date +%s) - began)) s," \
                "$(wc -l <"$work/sweep/sensitivity.jsonl") lines"
        done ;;
    ncu) # every convolution at batch 1, the first of batch 32; shapes come from the tuned file
        for batch in 1 32; do
            for precision in fp16 int8; do
                set -- ./pquant bench T.pqe --engine cuda --batch $batch --precision $precision \
                    --ranges T.ranges.json --runs 1
                limit 90 ncu.tune.$batch.$precision.txt "$@"
                limit 90 ncu.$batch.$precision.csv ncu --clock-control none \
                    --set $([ $batch = 1 ] && echo roofline -c 90 || echo full -c 12) \
                    -k regex:conv_mma --csv --page details "$@"
            done
        done ;;
    *) echo "no stage '$1'" ;;
    esac
}

{
    cd "$work" || exit 1
    for pack in "$here/cuda.txz" "$here-data/data.txz"; do
        [ ! -e "$pack" ] || tar -xJf "$pack" 2>/dev/null ||
            python3 -c "import tarfile; tarfile.open('$pack').extractall('.')" || exit 1
    done
    export LD_LIBRARY_PATH="$work/lib" PQ_SHARED="$work/shared"
    export PQUANT_CUDA="$work/libpquant_cuda.so" PQUANT_CUDA_TUNED="$OUT/tuned.txt"
    nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv,noheader
    if ./pquant engines | tee "$OUT/engines.txt" | grep '^cuda .*not here'; then exit 1; fi
    [ $# -gt 0 ] || set -- tests ptx memcheck racecheck synccheck models torch bench bench32 pictures \
        ap sweep ncu
    for name in "$@"; do
        echo "== $(($(date +%s) - start)) s: $name"
        stage "$name"
    done
    echo "== $(($(date +%s) - start)) s: done"
} 2>&1 | tee "$OUT/log.txt"
