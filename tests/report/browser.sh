#!/usr/bin/env bash
# Pages of a small, a large and a failed run and of a comparison, opened in a browser.
# browser.sh TEST_REPORT: the unit test, which leaves its pages in a folder when asked to.
set -euo pipefail
pages=$(mktemp -d /tmp/pquant-pages-XXXXXX)
trap 'rm -rf "$pages"' EXIT
PQ_REPORT_PAGES=$pages "$1" >"$pages/log" 2>&1 || { cat "$pages/log"; exit 1; }
python3 "$(dirname "$0")/browser.py" "$pages"/{small,large,failed}/report.html \
    "$pages/other/compare.html"
