#!/usr/bin/env bash
# README: YOLOX-nano in full precision, all-INT8 and partial, and the picture of its sweep. A run that
# PQ_WORK has is not made again.
. tools/tables/common
need "$Y"
out=$work/yolox_nano
[ -e "$out/run.json" ] || done_or_3 "$pq" run "$Y" $val $calib -o "$out" >"$work/run.txt"
tools/picture.py "$out" docs/img/sensitivity.svg
python3 - "$out/run.json" <<'PY'
import json
import sys
title = {'fp32': 'full precision', 'int8': 'all-INT8'}
print('| | AP | difference | 95 % interval | ms | speed-up | INT8 arithmetic | kept float |')
print('|---|---|---|---|---|---|---|---|')
for r in json.load(open(sys.argv[1]))['precisions']:
    difference = ' | '
    if r['name'] != 'fp32':
        difference = f"{-r['drop']:+.4f} | {-r['drop_high']:+.4f} .. {-r['drop_low']:+.4f}"
    print(f"| {title.get(r['name'], r['name'])} | {r['AP']:.4f} | {difference} | {r['ms']:.2f} | {r['speedup']:.2f}x | "
          f"{100 * r['int8_mac_share']:.1f} % | {r['kept']} |")
PY
made 'pquant run yolox_nano.onnx --data val2017 --ann instances_val2017.json --calib-data train2017 -o OUT'
