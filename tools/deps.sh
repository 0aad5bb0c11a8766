#!/usr/bin/env bash
# Install what the build needs on Debian 12: system packages, and oneDNN 3 (the system has only
# version 2) unpacked from its Python wheels into deps/onednn. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="gcc g++ cmake ninja-build pkg-config unzip python3 python3-pip libzip-dev libturbojpeg0-dev
libspng-dev libprotobuf-c-dev protobuf-c-compiler libonnx-dev libcjson-dev libcmocka-dev zlib1g-dev
openmpi-bin libopenmpi-dev"
[ "${1:-}" = package ] && packages="$packages dpkg-dev file"
[ "${1:-}" = lint ] && packages="$packages clang-format clang-tidy"
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing
fi
version=2023.2.0
if [ ! -e "deps/onednn/.$version" ]; then
    temp=$(mktemp -d); trap 'rm -rf "$temp"' EXIT
    python3 -m pip download -q --no-deps -d "$temp" "onednn-cpu-gomp==$version" "onednn-devel-cpu-gomp==$version"
    for wheel in "$temp"/*.whl; do unzip -q -o "$wheel" -d "$temp/x"; done
    rm -rf deps/onednn; mkdir -p deps/onednn
    cp -r "$temp"/x/onednn_devel_*/data/include "$temp"/x/onednn_cpu_*/data/share deps/onednn/
    mkdir -p deps/onednn/lib
    cp "$temp"/x/onednn_cpu_*/data/lib/libdnnl.so.3.2 deps/onednn/lib/
    ln -s libdnnl.so.3.2 deps/onednn/lib/libdnnl.so.3; ln -s libdnnl.so.3 deps/onednn/lib/libdnnl.so
    touch "deps/onednn/.$version"
fi
