#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over every C file that the build compiles, on all cores. A file that
# passed is passed over while it, its headers, the checks and clang-tidy stay as they are.
set -euo pipefail
build=$1
command -v clang-tidy >/dev/null || { echo "skipped: no clang-tidy"; exit 77; }
[ -e "$build/compile_commands.json" ] || { echo "skipped: no compile_commands.json"; exit 77; }
mkdir -p "$build/tidy"
export build checks="$(clang-tidy --version; cat .clang-tidy)"
# COMMAND FILE of each, as in compile_commands.json: -E makes the text that is checked, comments kept.
tidy()
{
    local file=$1 command text key
    command=$(grep -F -B2 "\"file\": \"$file\"" "$build/compile_commands.json" | grep -m1 '"command"' |
        sed 's/.*"command": "//; s/ -o .*//; s/\\"/"/g')
    text=$(cd "$build" && eval "$command -E -C $file") || text=$RANDOM$RANDOM
    key=$(printf '%s' "$checks $command $text" | sha256sum | cut -d' ' -f1)
    [ -e "$build/tidy/$key" ] && return
    clang-tidy -p "$build" --quiet "$file" 2>/dev/null && : >"$build/tidy/$key"
}
export -f tidy
grep -o '"file": "[^"]*"' "$build/compile_commands.json" | cut -d'"' -f4 | sort -u |
    grep '\.c$' | grep -v "^$build" | xargs -P "$(nproc)" -n 1 bash -c 'tidy "$0"'
