#!/usr/bin/env bash
# Each public header compiles alone, as C11 and as C++17, without a warning.
set -euo pipefail
flags="-Wall -Wextra -Werror -pedantic -fsyntax-only -Iinclude"
for header in include/pquant/*.h; do
    line="#include <pquant/$(basename "$header")>"
    echo "$line" | ${CC:-cc} -std=c11 $flags -x c -
    if command -v "${CXX:-c++}" >/dev/null; then
        echo "$line" | ${CXX:-c++} -std=c++17 $flags -x c++ -
    else
        echo "no C++ compiler: $header as C only"
    fi
done
