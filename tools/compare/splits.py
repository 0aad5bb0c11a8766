#!/usr/bin/env python3
"""Do the intervals hold? Select on one half of the images, look at the drop on the other.

    tools/compare/splits.py [--model yolox_nano.onnx] [--splits 20]

Each split draws half of the annotated images for `run`, whose run.json gives the drop of the
partial plan and its interval; `run --plan` then measures the same plan on the other half. Asked: in
at least 90 % of the splits that drop lies within the interval. Scales, corrections and latencies are
made once: they know nothing of the annotated images. The drop on the other half is itself chance:
intervals that are right would hold 83 % of such drops, since the difference of two has the root of
two times the spread of one; so the last column says whether it lies within the interval about as
wide as both have it. Exit 1 where fewer than 90 % are inside."""
import json
import math
import random
import shutil
import sys

import common


def halves(place, seed, n):
    """Two annotation files, n images in the first."""
    doc = json.loads(place.ann.read_text())
    ids = sorted(i['id'] for i in doc['images'])
    chosen = set(random.Random(seed).sample(ids, n))
    paths = []
    for part, inside in (('a', True), ('b', False)):
        path = place.work / f'split{seed}{part}.json'
        half = {**doc, 'images': [i for i in doc['images'] if (i['id'] in chosen) == inside],
                'annotations': [a for a in doc['annotations']
                                if (a['image_id'] in chosen) == inside]}
        path.write_text(json.dumps(half))
        paths.append(path)
    return paths


def interval(result):
    r = common.row(result, 'partial')
    if 'drop_low' not in r:
        sys.exit('run.json gives no interval: members "drop", "drop_low" and "drop_high" expected')
    return r['drop'], r['drop_low'], r['drop_high']


def main():
    p = common.arguments(__doc__.split('\n', maxsplit=1)[0], model='yolox_nano.onnx', splits=20,
                         half=64, max_drop=0.3, threads=1, screen_images=8,
                         time_budget=None)
    o = p.parse_args()
    place = common.Place(o, 'splits')
    model = place.model(o.model)
    ranges = place.work / 'ranges.json'
    if not ranges.exists():
        common.pquant(place, 'calibrate', model, *place.calib(), '-o', ranges, '-q')
    options = ['--ranges', ranges, '--max-drop', o.max_drop, '--threads', o.threads, '--runs', 9,
               '--screen-images', o.screen_images]
    extra = ['--time-budget', o.time_budget] if o.time_budget else []
    rows, inside, both, counted = [], 0, 0, 0
    for seed in range(1, o.splits + 1):
        first, second = halves(place, seed, o.half)
        out = place.work / f'split{seed}'
        out.mkdir(exist_ok=True)
        times = place.work / 'split1/latency.jsonl'
        if seed > 1 and not (out / 'latency.jsonl').exists():
            shutil.copy(times, out)
        result, seconds = common.run(place, model, out, *options, *extra, ann=first)
        if result['status'] == 3 and not any(q['precision'] == 'int8' for q in result['operators']):
            rows.append([seed, '', '', '', '', 'not worth it', '', f'{seconds:.0f}'])
            continue
        drop, low, high = interval(result)
        result_there, _ = common.run(place, model, place.work / f'split{seed}b', *options, '--plan',
                                     out / 'plan.json', ann=second)
        there, low_there, high_there = interval(result_there)
        width = math.hypot(high - low, high_there - low_there) / 2
        ok, near = low <= there <= high, abs(there - drop) <= width
        inside, both, counted = inside + ok, both + near, counted + 1
        rows.append([seed, len(common.kept(result)), f'{drop:+.4f}', f'{low:+.4f} .. {high:+.4f}',
                     f'{there:+.4f}', 'yes' if ok else 'no', 'yes' if near else 'no',
                     f'{seconds:.0f}'])
        print(*rows[-1], file=sys.stderr, flush=True)
    common.table(['split', 'kept', 'drop here', '95 % interval', 'drop there', 'inside',
                  'inside, both halves chance', 's'], rows)
    print(f'{inside} of {counted} inside; {both} where both halves are taken for chance')
    return 0 if counted and inside >= 0.9 * counted else 1


if __name__ == '__main__':
    sys.exit(main())
