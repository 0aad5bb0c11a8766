#!/usr/bin/env bash
# The reference of the public headers is made without a warning.
set -euo pipefail
command -v doxygen >/dev/null || { echo "skipped: no doxygen"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
{ cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $temp"; } | doxygen -
# Comments behind members have come through the filter.
grep -q 'a bug of ours' "$temp/html/base_8h.html"
