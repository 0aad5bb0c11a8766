#!/usr/bin/env bash
# An installed tree works wherever it lies: the command runs, a consumer builds through pkg-config
# and through CMake, and nothing points back into the build.
set -euo pipefail
build=$1
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset LD_LIBRARY_PATH
cmake --install "$build" --prefix "$temp/first" >/dev/null
mv "$temp/first" "$temp/tree"
tree=$temp/tree
libdir=$(dirname "$(find "$tree" -name 'libpquant.so' -print -quit)")
export PKG_CONFIG_PATH=$libdir/pkgconfig

"$tree/bin/pquant" --version
cat > "$temp/consumer.c" <<'C'
#include <pquant/pquant.h>
#include <stdio.h>

int main(void)
{
    pq_ctx *ctx;
    pq_graph *g;
    const pq_engine *engine;
    pq_engine_info info;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    if (pq_engine_find(ctx, &engine, "cpu") != PQ_OK) return 2;
    if (engine->probe(ctx, &info) != PQ_OK) return 3;
    printf("pquant %s: %s, %s\n", pq_version(), info.version, info.device);
    if (pq_read(ctx, &g, "no such file", NULL) != PQ_E_IO) return 4;
    printf("%s\n", pq_ctx_error(ctx));
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return 0;
}
C
cc -std=c11 "$temp/consumer.c" -o "$temp/consumer" $(pkg-config --cflags --libs pquant)
LD_LIBRARY_PATH=$libdir "$temp/consumer"

mkdir "$temp/project"
cat > "$temp/project/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.24)
project(consumer LANGUAGES C)
find_package(pquant 0.1 REQUIRED)
add_executable(consumer ../consumer.c)
target_link_libraries(consumer PRIVATE pquant::pquant)
C
cmake -S "$temp/project" -B "$temp/made" -DCMAKE_PREFIX_PATH="$tree" >/dev/null
cmake --build "$temp/made" >/dev/null
"$temp/made/consumer" >/dev/null

if command -v readelf >/dev/null; then
    for file in "$tree/bin/pquant" "$libdir/libpquant.so"; do
        if readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -q "$PWD"; then
            echo "$file looks for libraries in the source tree"
            exit 1
        fi
    done
fi
