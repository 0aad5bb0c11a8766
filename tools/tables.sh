#!/usr/bin/env bash
# Remakes the tables of README and docs: tools/tables.sh [TABLE...] (default: all, some hours). Each
# script of tools/tables/ prints one as Markdown, with machine and command; what stands between
# "<!-- table NAME -->" and "<!-- end -->" is replaced by it. Models and images are those of ../shared
# (PQ_SHARED); what a script needs and does not find makes it skip (exit status 77).
# PQ_WORK: scratch folder (default build/tables), which keeps sweeps that were interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."
export PQ_SHARED=${PQ_SHARED:-../shared} PQ_WORK=${PQ_WORK:-build/tables} PQ_BIN=${PQ_BIN:-build/release}
mkdir -p "$PQ_WORK"

# put NAME FILE: into every document that has the table's place.
put()
{
    grep -lF "<!-- table $1 -->" README.md docs/*.md sample/*.md | while read -r document; do
        awk -v name="$1" -v file="$2" '
            $0 == "<!-- end -->" { inside = 0 }
            !inside
            $0 == "<!-- table " name " -->" {
                inside = 1
                while ((getline line < file) > 0) print line
            }' "$document" >"$PQ_WORK/document"
        cat "$PQ_WORK/document" >"$document"
        echo "$1: written to $document"
    done
}

[ $# -gt 0 ] || set -- $(cd tools/tables && ls -- *.sh | sed 's/\.sh$//')
failed=0
for name in "$@"; do
    status=0
    tools/tables/"$name".sh >"$PQ_WORK/$name.md" || status=$?
    case $status in
    0) put "$name" "$PQ_WORK/$name.md" ;;
    77) echo "$name: passed over" ;;
    *)
        echo "$name: exit status $status"
        failed=1
        ;;
    esac
done
exit $failed
