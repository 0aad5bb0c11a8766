#!/bin/sh
# pquant-scenes as users run it: same pixels as PNG files and raw, files where they should be, wrong
# usage refused; and the sample's AP through pquant eval. Usage: scenes.sh PQUANT PQUANT_SCENES
set -u
pquant=$1
scenes=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

check() # WHAT COMMAND...: the command must succeed
{
    what=$1
    shift
    "$@" || { echo "failed: $what"; failed=1; }
}

refuse() # STATUS ARGUMENT...: one line on stderr, nothing on stdout
{
    want=$1
    shift
    "$scenes" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ $got -eq "$want" ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && return
    echo "pquant-scenes $*: exit status $got, expected $want"
    cat "$dir/err"
    failed=1
}

want='16 scenes, 110 objects, pixels 48e28664c95ad1cc75df634331a39925ccc47820676da0cfba893ad99868ab97'
png=$("$scenes" --seed 3 --count 16 --out "$dir/png")
raw=$("$scenes" --seed 3 --count 16 --out "$dir/raw" --raw --threads 1)
echo "$png"
check 'pixels as committed' [ "$png" = "$want" ]
check 'raw pixels are the same' [ "$raw" = "$want" ]
check 'one PNG a scene' [ "$(ls "$dir/png/images" | tr '\n' ' ')" = "$(seq -f '%06.0f.png' 16 | tr '\n' ' ')" ]
check 'size of raw pixels' [ "$(wc -c <"$dir/raw/pixels.u8")" -eq $((16 * 416 * 416 * 3)) ]
check 'same annotations' cmp -s "$dir/png/instances.json" "$dir/raw/instances.json"
check '--help' "$scenes" --help >/dev/null
refuse 2
refuse 2 --seed 1 --count 2
refuse 2 --seed x --count 2 --out "$dir/x"
refuse 2 --seed 1 --count 0 --out "$dir/x"
refuse 2 --seed 1 --count 2 --out "$dir/x" --fast
refuse 1 --seed 1 --count 2 --out "$dir/png/instances.json/x"

said=$("$pquant" eval sample/damoyolo_shapes_Ns.pth --data "$dir/png/images" \
    --ann "$dir/png/instances.json" --precision bf16 --against fp32 -q)
echo "$said"
ap=$(echo "$said" | awk '$1 == "AP" && $2 != "of" { print $2 }')
check 'AP' awk -v a="${ap:-0}" 'BEGIN { exit !(a >= 0.6) }'
# bf16 loses next to nothing, and the interval holds the difference.
echo "$said" | awk '$1 == "difference" { d = $2 + 0; lo = $6 + 0; hi = $8 + 0; n++ }
    END { exit !(n == 1 && lo <= d && d <= hi && lo > -0.03 && hi < 0.03) }'
check 'difference and interval' [ $? -eq 0 ]
exit $failed
