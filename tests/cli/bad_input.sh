#!/bin/sh
# Bad files and bad usage, through the command: exit status 1 for what is wrong in a file (2 for
# wrong usage), one line on stderr that names the place and what was found, nothing on stdout, no
# file left behind. Usage: bad_input.sh PQUANT; models come from ../shared (or $PQ_SHARED).
set -u
export LC_ALL=C
pquant=$1
shared=$(cd "${PQ_SHARED:-../shared}" 2>/dev/null && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0
n=0

# refuse STATUS 'words in the message' ARGUMENT...
refuse()
{
    want=$1 words=$2
    shift 2
    n=$((n + 1))
    ls -AR . >"$dir.before"
    timeout 120 "$pquant" "$@" >"$dir.out" 2>"$dir.err"
    got=$?
    ls -AR . >"$dir.after"
    lines=$(wc -l <"$dir.err")
    why=
    [ $got -eq "$want" ] || why="exit status $got, expected $want"
    [ "$lines" -eq 1 ] || why="$why; $lines lines on stderr, expected 1"
    grep -qF -- "$words" "$dir.err" || why="$why; no '$words'"
    [ ! -s "$dir.out" ] || why="$why; output on stdout"
    cmp -s "$dir.before" "$dir.after" || why="$why; files left behind"
    if [ -n "$why" ]; then
        failed=$((failed + 1))
        printf 'pquant %s: %s\n' "$*" "$why"
        head -5 "$dir.err"
    fi
    rm -f "$dir.before" "$dir.after" "$dir.out" "$dir.err"
}

# ---- a picture of 16 x 16 pixels and its annotations ----

mkdir images empty
base64 -d >images/a.jpg <<'EOF'
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1R
V19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj
Y2NjY2NjY2NjY2NjY2P/wAARCAAQABADASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAA
AgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6
Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXG
x8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREA
AgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5
OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPE
xcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwCJo7DTyUkWFplIDQjy0cZGckPGv+TTgHvP
lzBHEH3KEESMB2BZJFz/AC9qmVEs1Xc0zuwO0R+ZIMj1KSnFBS/vxsdZo4WUBoV81kb3IeNv8igD/9k=
EOF
images='"images":[{"id":1,"file_name":"a.jpg","width":16,"height":16}]'
classes='"categories":[{"id":1,"name":"person"}]'
box='"id":1,"image_id":1,"category_id":1,"area":81,"iscrowd":0'
coco() # NAME IMAGES ANNOTATIONS CATEGORIES
{
    printf '{%s,"annotations":[%s],%s}' "$2" "$3" "$4" >"$1"
}
coco good.json "$images" "{$box,\"bbox\":[1,1,9,9]}" "$classes"

# ---- usage ----

refuse 2 "no command 'quantise'" quantise
refuse 2 "no MODEL given" eval --data images --ann good.json
refuse 2 "--data and --ann are needed" eval m.onnx
refuse 2 "--data and --ann are needed" eval m.onnx --data images
refuse 2 "unknown option '--precise'" eval m.onnx --precise
refuse 2 "'--data' needs" eval m.onnx --data
refuse 2 "'x', expected a number" eval m.onnx --threads x
refuse 2 "int8 needs --calib-data or --ranges" eval m.onnx --precision int8 --data images \
    --ann good.json
refuse 2 "int8 needs --calib-data or --ranges" eval m.onnx --against int8 --data images \
    --ann good.json
refuse 2 "unexpected argument" eval m.onnx n.onnx

# ---- models that are none ----

: >empty.pth
: >empty.onnx
echo text >text.pth
echo text >text.onnx
printf 'PK\003\004 and no more' >cut.pth
printf '\200\002cos\nsystem\nX\002\000\000\000id\205R.' >global.pth
for command in inspect "eval --data images --ann good.json -q"; do
    # shellcheck disable=SC2086
    {
        refuse 1 "none.pth: No such file" $command none.pth
        refuse 1 "images: not a regular file" $command images
        refuse 1 "empty.pth: empty file" $command empty.pth
        refuse 1 "empty.onnx: empty file" $command empty.onnx
        refuse 1 "neither a zip archive nor a pickle" $command text.pth
        refuse 1 "not a protobuf message" $command text.onnx
        refuse 1 "the file is cut short" $command cut.pth
        refuse 1 "not a zip archive" $command global.pth
    }
done

if [ -z "$shared" ] || [ ! -f "$shared/models/yolox_nano.onnx" ]; then
    echo "$n cases; the rest needs shared/models, which is absent"
    [ $failed -eq 0 ] && exit 77
    exit 1
fi
onnx=$shared/models/yolox_nano.onnx
pth=$shared/models/damoyolo_tinynasL20_T.pth

# ---- models that were one ----

for bytes in 100 1000 100000; do
    head -c $bytes "$onnx" >cut.onnx
    refuse 1 "cut.onnx: not a protobuf message" inspect cut.onnx
    head -c $bytes "$pth" >cut.pth
    refuse 1 "the file is cut short" inspect cut.pth
done
# Names of the same length keep the rest of the file as it was; in the archive the checksum tells.
sed 's/head\.gfl_cls\.0\.weight/head.gfl_clx.0.weight/' "$pth" >forged.pth
refuse 1 "forged.pth: " inspect forged.pth
sed 's/Resize/Reside/g' "$onnx" >operator.onnx
refuse 1 "operator 'Reside'" inspect operator.onnx
sed 's/AveragePool\|MaxPool/MaxPo\x00l/g' "$onnx" >zero.onnx
refuse 1 "zero.onnx: " inspect zero.onnx

# ---- images ----

use() # FOLDER: a copy of the images with a.jpg from stdin
{
    mkdir "$1" && cat >"$1/a.jpg"
}
head -c 300 images/a.jpg | use truncated
use nothing </dev/null
echo text | use text
mkdir -p folder/a.jpg absent
evaluate="eval $onnx -q --ann good.json --data"
# shellcheck disable=SC2086
{
    refuse 1 "truncated/a.jpg: " $evaluate truncated
    refuse 1 "nothing/a.jpg: empty file" $evaluate nothing
    refuse 1 "text/a.jpg: neither JPEG nor PNG" $evaluate text
    refuse 1 "folder/a.jpg: not a regular file" $evaluate folder
    refuse 1 "absent/a.jpg: No such file" $evaluate absent
    refuse 1 "nowhere/a.jpg: No such file" $evaluate nowhere
}

# ---- annotations ----

annotations() # 'words' ANNOTATIONS [IMAGES [CATEGORIES]]
{
    coco bad.json "${3-$images}" "$2" "${4-$classes}"
    refuse 1 "$1" eval "$onnx" -q --data images --ann bad.json
}
annotations "annotations[0]: image_id 7 is not among" \
    '{"id":1,"image_id":7,"category_id":1,"bbox":[1,1,2,2],"area":4,"iscrowd":0}'
annotations "annotations[0]: category_id 7 is not among" \
    '{"id":1,"image_id":1,"category_id":7,"bbox":[1,1,2,2],"area":4,"iscrowd":0}'
annotations "'bbox'" "{$box}"
annotations "'bbox' has 3 elements, expected 4" "{$box,\"bbox\":[1,2,3]}"
annotations "'bbox' is a string" "{$box,\"bbox\":\"1 2 3 4\"}"
annotations "'bbox' is -3 x 4" "{$box,\"bbox\":[1,2,-3,4]}"
annotations "no images" "" '"images":[]'
annotations "'images' is nothing" "" '"pictures":[]'
annotations "'categories'" "" "$images" '"classes":[]'
echo '{"images": [' >bad.json
refuse 1 "bad.json: not JSON" eval "$onnx" -q --data images --ann bad.json
: >bad.json
refuse 1 "bad.json: not JSON" eval "$onnx" -q --data images --ann bad.json
refuse 1 "none.json: No such file" eval "$onnx" -q --data images --ann none.json

# ---- calibration, ranges, plans ----

# shellcheck disable=SC2086
{
    int8="$evaluate images --precision int8"
    refuse 1 "empty: none of 0 files" $int8 --calib-data empty
    refuse 1 "nowhere: No such file" $int8 --calib-data nowhere
    refuse 1 "good.json: Not a directory" $int8 --calib-data good.json
    refuse 1 "text/a.jpg: neither JPEG nor PNG" $int8 --calib-data text
    refuse 2 "--calib-images 0" $int8 --calib-data images --calib-images 0
    refuse 2 "calibrator 'best', expected auto, max" $int8 --calib-data images --calibrator best
    refuse 2 "scheme 's4', expected s8 or u8" $int8 --calib-data images --scheme s4
    refuse 1 "good.json: ranges: member 'graph_hash'" $int8 --ranges good.json
    refuse 1 "none.json: No such file" $int8 --ranges none.json
    refuse 1 "good.json: plan: member 'graph_hash'" $evaluate images --precision good.json
    refuse 1 "none.json: No such file" $evaluate images --precision none.json
    refuse 2 "precision 'int4'" $evaluate images --precision int4
    refuse 2 "precision 'int4'" $evaluate images --against int4
    refuse 2 "engine 'abacus', expected" $evaluate images --engine abacus
    refuse 2 "--conf-thres 7" $evaluate images --conf-thres 7
    refuse 1 "input size 1 x 3 x 333 x 333" $evaluate images --img-size 333
}
"$pquant" calibrate "$onnx" --calib-data images -o ranges.json -q --no-equalize --no-bias-correct \
    --no-adaround >/dev/null || failed=$((failed + 1))
if [ -f "$pth" ]; then
    refuse 1 "ranges.json: made for graph" eval "$pth" -q --data images --ann good.json \
        --precision int8 --ranges ranges.json
fi

# ---- where nothing can be written ----

for to in good.json/x nowhere/x /proc/x; do
    refuse 1 "$to.json: cannot write" calibrate "$onnx" --calib-data images -q -o $to.json
    refuse 1 "$to.onnx: cannot write" export "$onnx" -o $to.onnx
done
refuse 1 "good.json/out: cannot make folder" run "$onnx" --data images --ann good.json \
    --calib-data images -q -o good.json/out

echo "$n cases, $failed failed"
[ $failed -eq 0 ]
