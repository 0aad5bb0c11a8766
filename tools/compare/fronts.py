#!/usr/bin/env python3
"""Accuracy at equal measured time: ours, one operator at a time, random, and the original's preset.

    tools/compare/fronts.py [--model yolox_nano.onnx] [--preset tiny|small|medium]

Each way gives plans with ever more operators in full precision: ours from `run` at several budgets;
"one at a time" keeps those that lose most AP when quantized alone (the sweep of the first run);
"random" keeps any. All plans share scales and corrections, are evaluated on the same images and
timed in turn. Ours must be nowhere worse than another by more than the noise: for each plan of
another way, the best of ours that is at most 1 % slower may lose at most --noise AP against it.
Writes fronts.svg and fronts.json; exit 1 where ours is worse."""
import json
import random
import sys

import common


def one_at_a_time(result):
    """Names, the most harmful first; None where the run says nothing of that kind."""
    ops = result['operators']
    if not all('AP_quantized' in o for o in ops):
        return None
    return [o['name'] for o in sorted(ops, key=lambda o: o['AP_quantized'])]


def alone(place, model, all_int8, names):
    """The same, measured here: each operator quantized alone."""
    path = place.work / 'alone.json'
    score = {}
    for name in names:
        common.write_plan(all_int8, path, set(names) - {name})
        score[name] = evaluated(place, model, path)
    return sorted(names, key=lambda n: score[n])


def evaluated(place, model, plan):
    return common.evaluate(place, model, plan)['AP']


def main():
    p = common.arguments(__doc__.split('\n', maxsplit=1)[0], model='yolox_nano.onnx', preset=None,
                         budgets='3,1,0.5,0.3,0.1,0.03', noise=0.004, seed=1, runs=40)
    o = p.parse_args()
    place = common.Place(o, 'fronts')
    model = place.model(o.model)
    out = place.work / 'ours'
    base, _ = common.run(place, model, out, '--max-drop', 100)
    all_int8 = place.work / 'int8' / 'plan.json'
    all_int8.parent.mkdir(exist_ok=True)
    common.write_plan(out / 'plan.json', all_int8, set())
    names = [q['name'] for q in base['operators']]
    if common.kept(base):
        sys.exit('a budget of 100 points did not give the all-INT8 plan')
    plans = {'ours': [all_int8]}
    for budget in o.budgets.split(','):
        last, _ = common.run(place, model, out, '--max-drop', budget)
        path = out.parent / 'plans' / f'ours_{budget}.json'
        path.parent.mkdir(exist_ok=True)
        plans['ours'].append(common.write_plan(all_int8, path, set(common.kept(last))))
    order = {'one at a time': one_at_a_time(last) or alone(place, model, all_int8, names),
             'random': random.Random(o.seed).sample(names, len(names))}
    counts = sorted({round(len(names) * f) for f in (0.03, 0.08, 0.15, 0.25, 0.4, 0.6)} - {0})
    for way, ranked in order.items():
        plans[way] = [common.write_plan(all_int8, place.work / 'plans' / f'{way[:3]}_{n}.json',
                                        set(ranked[:n])) for n in counts]
    if o.preset:
        given, _ = common.run(place, model, place.work / 'preset', '--preset', o.preset)
        plans['preset'] = [common.write_plan(all_int8, place.work / 'plans' / 'preset.json',
                                             set(common.kept(given)))]
    flat = [(way, path) for way, paths in plans.items() for path in paths]
    ms = common.bench(place, model, ['fp32', *(path for _, path in flat)], o.runs)
    full = common.evaluate(place, model, 'fp32')['AP']
    points = {way: [] for way in plans}
    for (way, path), t in zip(flat, ms[1:]):
        points[way].append((t, evaluated(place, model, path)))
    rows = [['full precision', f'{ms[0]:.3f}', f'{full:.4f}', '']]
    worse = 0
    for way, found in points.items():
        for t, ap in sorted(found):
            ours = max((a for u, a in points['ours'] + [(ms[0], full)] if u <= 1.01 * t),
                       default=float('nan'))
            bad = way != 'ours' and not ours >= ap - o.noise
            worse += bad
            rows.append([way, f'{t:.3f}', f'{ap:.4f}',
                         '' if way == 'ours' else f'{ours - ap:+.4f}' + (' worse' if bad else '')])
    common.table(['way', 'ms', 'AP', 'ours at this time'], rows)
    common.plot(place.work / 'fronts.svg', points, 'ms', 'AP')
    (place.work / 'fronts.json').write_text(json.dumps({'full': [ms[0], full], **points}, indent=1))
    print(f'{worse} plans are better than ours at their time; {place.work}/fronts.svg')
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
