#!/usr/bin/env bash
# An installed tree works wherever it lies: the command runs, the example builds through pkg-config
# and through CMake and finds what the command finds, and nothing points back into the build.
# Usage: install.sh BUILD
set -euo pipefail
build=$1
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset LD_LIBRARY_PATH
flags=""
grep -q '^PQ_SANITIZE:STRING=.' "$build/CMakeCache.txt" &&
    flags=-fsanitize=$(sed -n 's/^PQ_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
cmake --install "$build" --prefix "$temp/first" >/dev/null
mv "$temp/first" "$temp/tree"
tree=$temp/tree
libdir=$(dirname "$(find "$tree" -name 'libpquant.so' -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig

"$tree/bin/pquant" --version
for file in share/man/man1/pquant.1 share/man/man1/pquant-run.1 share/zsh/site-functions/_pquant \
    share/bash-completion/completions/pquant; do
    [ -s "$tree/$file" ] || { echo "no $file"; exit 1; }
done
"$tree/bin/pquant" export sample/damoyolo_shapes_Ns.pth -o "$temp/model.pqe" -q >/dev/null
"$build/pquant-scenes" --seed 3 --count 1 --out "$temp/scenes" >/dev/null
picture=$temp/scenes/images/000001.png
"$tree/bin/pquant" detect "$temp/model.pqe" "$picture" --conf-thres 0.3 --json >"$temp/command.json"
python3 - "$temp/command.json" >"$temp/expected" <<'PY'
import json
import sys
for d in json.load(open(sys.argv[1]))[0]['detections']:
    print('class %d, score %.3f: left %.1f, top %.1f, width %.1f, height %.1f'
          % (d['label'], d['score'], *d['box']))
PY
[ "$(wc -l <"$temp/expected")" -ge 3 ] || { echo "too few boxes"; cat "$temp/expected"; exit 1; }

# What the program prints is what the command finds; what it cannot read is said in one line.
check()
{
    "$1" "$temp/model.pqe" "$picture" >"$temp/got"
    diff "$temp/expected" "$temp/got"
    if "$1" "$temp/none.pqe" "$picture" >"$temp/got" 2>"$temp/error"; then return 1; fi
    [ ! -s "$temp/got" ]
    [ "$(cat "$temp/error")" = "detect: $temp/none.pqe: No such file or directory" ]
}
[ "$(wc -l <examples/detect.c)" -lt 60 ]
cc -std=c11 -Wall -Wextra -Werror -pedantic $flags examples/detect.c -o "$temp/detect" \
    $(pkg-config --cflags --libs pquant)
LD_LIBRARY_PATH=$libdir check "$temp/detect"
cmake -S examples -B "$temp/made" -DCMAKE_PREFIX_PATH="$tree" -DCMAKE_C_FLAGS="$flags" >/dev/null
cmake --build "$temp/made" >/dev/null
check "$temp/made/detect"

# Another ABI is refused: before 1.0 each minor version is one.
mkdir "$temp/later"
cat >"$temp/later/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.24)
project(later LANGUAGES NONE)
find_package(pquant 0.9 REQUIRED)
C
if cmake -S "$temp/later" -B "$temp/later/made" -DCMAKE_PREFIX_PATH="$tree" >/dev/null 2>&1; then
    echo "CMake takes $("$tree/bin/pquant" --version) for 0.9"
    exit 1
fi
if pkg-config --exists 'pquant >= 0.9'; then
    echo "pkg-config takes $("$tree/bin/pquant" --version) for 0.9"
    exit 1
fi

if command -v readelf >/dev/null; then
    for file in "$tree/bin/pquant" "$libdir/libpquant.so"; do
        if readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -q "$PWD"; then
            echo "$file looks for libraries in the source tree"
            exit 1
        fi
    done
fi
