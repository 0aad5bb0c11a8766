#!/usr/bin/env python3
"""Do the intervals hold? Select on one half of the images, look at the drop on the other.

    tools/compare/splits.py [--model yolox_nano.onnx] [--splits 20]

Each split draws half of the annotated images for `run`, whose run.json gives the drop of the
partial plan and its interval; the plan is then evaluated against full precision on the other
half. Asked: in at least 90 % of the splits that drop lies within the interval. Scales and
corrections are made once: they know nothing of the annotated images. Exit 1 where that does not
hold."""
import json
import random
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
                         half=64, max_drop=0.3, time_budget=None)
    o = p.parse_args()
    place = common.Place(o, 'splits')
    model = place.model(o.model)
    ranges = place.work / 'ranges.json'
    common.pquant(place, 'calibrate', model, *place.calib(), '-o', ranges, '-q')
    extra = ['--time-budget', o.time_budget] if o.time_budget else []
    rows, inside, counted = [], 0, 0
    for seed in range(1, o.splits + 1):
        first, second = halves(place, seed, o.half)
        out = place.work / f'split{seed}'
        result, seconds = common.run(place, model, out, '--ranges', ranges, '--max-drop',
                                     o.max_drop, *extra, ann=first)
        if result['status'] == 3 and not any(q['precision'] == 'int8' for q in result['operators']):
            rows.append([seed, '', '', '', '', 'not worth it', f'{seconds:.0f}'])
            continue
        drop, low, high = interval(result)
        plan = out / 'plan.json'
        there = (common.evaluate(place, model, 'fp32', ann=second)['AP'] -
                 common.evaluate(place, model, plan, ann=second)['AP'])
        inside += low <= there <= high
        counted += 1
        rows.append([seed, len(common.kept(result)), f'{drop:+.4f}', f'{low:+.4f} .. {high:+.4f}',
                     f'{there:+.4f}', 'yes' if low <= there <= high else 'no', f'{seconds:.0f}'])
    common.table(['split', 'kept', 'drop here', '95 % interval', 'drop there', 'inside', 's'], rows)
    print(f'{inside} of {counted} inside')
    return 0 if counted and inside >= 0.9 * counted else 1


if __name__ == '__main__':
    sys.exit(main())
