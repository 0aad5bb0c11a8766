#!/usr/bin/env bash
# clang-format agrees with every tracked source file.
set -euo pipefail
command -v clang-format >/dev/null || { echo "skipped: no clang-format"; exit 77; }
git rev-parse >/dev/null 2>&1 || { echo "skipped: no git checkout"; exit 77; }
git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp' | xargs clang-format --dry-run -Werror
