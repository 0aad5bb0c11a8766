#!/usr/bin/env bash
# Manual pages and completions as built: every option of --help stands in its page, the pages have
# no faults, and the completions offer what they should. Usage: manual.sh PQUANT FOLDER
set -euo pipefail
pquant=$1 folder=$2
failed=0
bad() { echo "$*"; failed=1; }

commands=$("$pquant" --help | sed -n 's/^  \([a-z-]*\)  *[a-z].*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 10 ] || bad "commands of --help: $commands"
for c in $commands; do
    page=$folder/pquant-$c.1
    [ -s "$page" ] || { bad "no page for $c"; continue; }
    text=$(sed 's/\\-/-/g; s/\\f[IR]//g; s/\\&//g' "$page")
    while read -r option; do
        grep -qF -- "${option//,/, }" <<<"$text" || bad "$page: no $option"
    done < <("$pquant" "$c" --help | sed -n 's/^  \(-[^ ]*\).*/\1/p')
    grep -qF "pquant-$c (1)" <(sed 's/\\-/-/g' "$folder/pquant.1") || bad "pquant.1: no $c"
done
if command -v mandoc >/dev/null; then
    mandoc -Tlint -W warning "$folder"/*.1 || bad 'mandoc finds faults'
elif command -v man >/dev/null; then
    for page in "$folder"/*.1; do
        faults=$(man -l --warnings "$page" 2>&1 >/dev/null)
        [ -z "$faults" ] || bad "$page: $faults"
    done
fi

# complete WORD ...: what bash offers behind these words.
# shellcheck source=/dev/null
. "$folder/pquant.bash"
complete_words()
{
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _pquant
    echo "${COMPREPLY[*]}"
}
expect() # 'WORDS OFFERED' WORD ...
{
    local want=$1 got
    shift
    got=$(complete_words "$@")
    [ "$got" = "$want" ] || bad "$*: offered '$got', expected '$want'"
}
bash -n "$folder/pquant.bash" || bad 'bash does not read its completion'
expect 'select' pquant se
expect 'sweep select' pquant s
expect '--version' pquant --v
expect '--max-drop --max-det' pquant run m.onnx --max-d
expect 's8 u8' pquant run m.onnx --scheme ''
expect 'u8' pquant run m.onnx --scheme = u
expect 'max mse' pquant calibrate m.onnx --calibrator m
expect 'tensorrt' pquant export m.onnx --for t
expect 'tiny small medium' pquant partial_quant --model_type ''
expect '--calib_weights --calib-data --calib-images --calibrator' pquant partial-quant --calib
cd "$folder"
expect 'fp32 fp16' pquant detect m.onnx --precision fp
expect 'pquant.bash' pquant eval m.onnx --precision pquant.b
if command -v zsh >/dev/null; then zsh -n "$folder/_pquant" || bad 'zsh does not read its completion'; fi
exit $failed
