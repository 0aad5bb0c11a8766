#!/usr/bin/env python3
"""Accuracy at equal measured time: ours, one operator at a time, random, and the original's preset.

    tools/compare/fronts.py [--model yolox_nano.onnx] [--preset tiny|small|medium]

Each way gives plans with ever more operators in full precision: ours are the points of `run
--pareto`, "one at a time" keeps those that lose most AP when quantized alone (`run --every`),
"random" keeps any. Ours are these points and the plan chosen. AP is measured by `run --plan`: the
same scales, corrections and images; times of all plans in turn with full precision, by `bench`. For
each plan of another way, the best of ours that is at most 1 % slower may lose at most --noise AP
against it. Writes fronts.svg and fronts.json; exit 1 where ours is worse, or where a predicted time
or AP of ours is off by more than 5 % or 0.004.

Times want a quiet machine, AP does not: `--prepare` measures AP alone into --work, on any, and what
follows finds it there."""
import json
import random
import sys

import common


def keep_of(result, bits):
    return {o['name'] for o in result['operators'] if bits[o['index']] != '1'}


def check_predictions(result):
    """The front as predicted and as `run` measured it; times over full precision's in the same turn,
    so that a machine that has become slower since is not taken for a bad prediction."""
    bad, full = 0, common.ap_of(common.row(result, 'fp32'))
    rows = []
    for q in result['front']:
        part, predicted = q['ms'] / q['full_ms'], q['predicted_ms'] / q['predicted_full_ms']
        off = abs(predicted / part - 1)
        far = abs(q['predicted_drop'] - q['drop'])
        bad += off > 0.05 or far > 0.004
        rows.append([q['kept'], f'{q["ms"]:.3f}', f'{part:.3f}', f'{predicted:.3f}',
                     f'{100 * off:.1f} %',
                     f'{full - q["drop"]:.4f}', f'{full - q["predicted_drop"]:.4f}', f'{far:.4f}'])
    common.table(['kept', 'ms', 'of full precision', 'predicted', 'off', 'AP', 'predicted', 'off'],
                 rows)
    print(f'{bad} of {len(rows)} points beyond 5 % or 0.004\n')
    return bad


def main():
    p = common.arguments(__doc__.split('\n', maxsplit=1)[0], model='yolox_nano.onnx', preset=None,
                         noise=0.004, seed=1, threads=1, runs=100)
    p.add_argument('--prepare', action='store_true', help='only what is measured of AP')
    o = p.parse_args()
    place = common.Place(o, 'fronts')
    model, out = place.model(o.model), place.work / 'run'
    ranges = place.work / 'ranges.json'
    if not ranges.exists():
        common.pquant(place, 'calibrate', model, *place.calib(), '-o', ranges, '-q')
    words = ['--ranges', ranges, '--threads', o.threads, '--runs', 30]
    if o.prepare:
        (out / 'latency.jsonl').unlink(missing_ok=True)
    result, _ = common.run(place, model, out, '--every', '--pareto', *words)
    bad = check_predictions(result)
    operators = result['operators']
    names = [q['name'] for q in operators]
    alone = sorted(operators, key=lambda q: q.get('AP_quantized', 2))
    order = {'one at a time': [q['name'] for q in alone],
             'random': random.Random(o.seed).sample(names, len(names))}
    counts = sorted({round(len(names) * f) for f in (0.03, 0.08, 0.15, 0.25, 0.4, 0.6)} - {0})
    wanted = [('ours', keep_of(result, q['int8'])) for q in result['front']]
    wanted.append(('ours', set(common.kept(result))))
    wanted += [(way, set(ranked[:n])) for way, ranked in order.items() for n in counts]
    wanted = [('all-INT8', set()), *wanted]
    if o.preset:
        given, _ = common.run(place, model, out, '--preset', o.preset, *words)
        wanted.append(('preset', set(common.kept(given))))
    words += ['--time-budget', '1h']  # leaves out the report's detections, which nobody reads here
    plans = [place.work / f'plan{i}.json' for i in range(len(wanted))]
    ap = [common.measured(place, model, out, keep, copy, *words)
          for (_, keep), copy in zip(wanted, plans)]
    if o.prepare:
        (out / 'latency.jsonl').unlink(missing_ok=True)
        return 0
    full_ms, *ms = common.times(place, model, plans, '--threads', o.threads, '--runs', o.runs)
    full = common.ap_of(common.row(result, 'fp32'))
    points = {}
    for (way, _), *point in zip(wanted, ms, ap):
        points.setdefault(way, []).append(tuple(point))
    ours = [*points['ours'], (full_ms, full)]
    rows, worse = [['full precision', f'{full_ms:.3f}', f'{full:.4f}', '']], 0
    for way, found in points.items():
        for time, ap in sorted(found):
            best = max((a for t, a in ours if t <= 1.01 * time), default=float('nan'))
            lost = way != 'ours' and not best >= ap - o.noise
            worse += lost
            rows.append([way, f'{time:.3f}', f'{ap:.4f}',
                         '' if way == 'ours' else f'{best - ap:+.4f}' + (' worse' if lost else '')])
    common.table(['way', 'ms', 'AP', 'ours at this time'], rows)
    common.plot(place.work / 'fronts.svg', points, 'ms', 'AP')
    (place.work / 'fronts.json').write_text(
        json.dumps({'full': [full_ms, full], **points}, indent=1))
    print(f'{worse} plans are better than ours at their time; {place.work}/fronts.svg')
    return 1 if worse or bad else 0


if __name__ == '__main__':
    sys.exit(main())
