#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over every C file that the build compiles, two at a time.
set -euo pipefail
build=$1
command -v clang-tidy >/dev/null || { echo "skipped: no clang-tidy"; exit 77; }
[ -e "$build/compile_commands.json" ] || { echo "skipped: no compile_commands.json"; exit 77; }
grep -o '"file": "[^"]*"' "$build/compile_commands.json" | cut -d'"' -f4 | sort -u |
    grep "\.c$" | grep -v "^$build" | xargs -P "$(nproc)" -n 6 clang-tidy -p "$build" --quiet 2>/dev/null
