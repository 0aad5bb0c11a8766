#!/bin/sh
# What a bare machine with a GPU needs to test and measure the cuda engine: the command, the module,
# the tests (also compiled for older GPUs, as PTX), the libraries that they load, models, ranges,
# plans and images. cuda_pack.sh FOLDER, after make build; then, there: sh FOLDER/run.sh
# T, S and M have weights by formula, as speed goes by shapes. FOLDER-data has what AP and a sweep go
# by (images, YOLOX-nano, the trained S): where it lies beside FOLDER it is unpacked too.
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: tools/cuda_pack.sh FOLDER" >&2; exit 2; }
to=$1
shared=${PQ_SHARED:-../shared}
release=build/release
work=build/cuda-pack
data=build/cuda-pack-data
rm -rf "$work" "$data"
mkdir -p "$to" "$to-data" "$work/lib" "$work/shared/golden" "$data/images"

# The code of older GPUs runs on a newer one where it comes as PTX alone.
for arch in 75 80; do
    cmake -S . -B build/ptx$arch -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DPQ_CUDA_ARCHS=$arch-virtual >"$work/configure.log"
    cmake --build build/ptx$arch --target test_cuda_graphs test_cuda_nets test_cuda_detect
    for test in graphs nets detect; do
        cp build/ptx$arch/tests/engine/cuda/test_cuda_$test "$work/test_cuda_${test}_ptx$arch"
    done
done
cmake --build --preset release --target pquant_cli pquant_cuda \
    test_cuda_graphs test_cuda_nets test_cuda_detect pq_peer_model
cp $release/pquant $release/libpquant_cuda.so $release/tests/peers/pq_peer_model \
    $release/tests/engine/cuda/test_cuda_graphs $release/tests/engine/cuda/test_cuda_nets \
    $release/tests/engine/cuda/test_cuda_detect "$work"
ldd $release/pquant "$work"/test_cuda_graphs | awk '/=> \//{print $3}' | sort -u |
    grep -vE '/(libc|libm|libpthread|libdl|libstdc\+\+|libgcc_s|ld-linux)[.-]' |
    while read -r library; do cp -L "$library" "$work/lib/"; done
strip "$work"/pquant "$work"/pq_peer_model "$work"/test_cuda_* "$work"/lib/*

cp -r "$shared/golden/synthetic" "$work/shared/golden/"
cp "$shared"/coco128/images/val2017/* "$data/images/"
cp "$shared"/coco128/annotations/instances_val2017.json "$data/annotations.json"
cp "$shared/models/yolox_nano.onnx" "$data/nano.onnx"
cp "$shared/models/damoyolo_tinynasL25_S.pth" "$data/trained.pth"
PQ_SHARED=$shared
export PQ_SHARED
# ranges MODEL TO [IMAGES]: its ranges, everything seen.
ranges() {
    $release/pquant calibrate "$1" --calib-data "$shared/coco128/images/train2017" \
        --calib-images "${3:-4}" --calibrator max --no-equalize --no-bias-correct --no-adaround -q \
        -o "$2" >"$work/ranges.log"
}
for name in T S M; do
    case $name in
    T) kept=tiny ;;
    S) kept=small ;;
    M) kept=medium ;;
    esac
    model=$work/$name.pqe
    $release/tests/peers/pq_peer_model synthetic $name 640 "$model"
    ranges "$model" "$work/$name.ranges.json"
    $release/tests/peers/pq_peer_model plan "$model" "$work/$name.ranges.json" $kept fp16 \
        "$work/$name.partial.json"
done
rm "$work"/[TSM].pqe # made again there
ranges "$data/nano.onnx" "$data/nano.ranges.json" 32
ranges "$data/trained.pth" "$data/trained.ranges.json" 32
cp tests/peers/torch_compile.py "$work"
tar -C "$work" -cJf "$to/cuda.txz" .
tar -C "$data" -cJf "$to-data/data.txz" .
cp tools/cuda_run.sh "$to/run.sh"
du -sh "$to" "$to-data"
