#!/usr/bin/env python3
"""Planted trouble: does the selection find it, and keep little else in full precision?

    tools/compare/planted.py [--model S.pth] [--draws 10] [--count 5]

Exports the model, plants trouble in random places (plant.py), selects on each draw without any
correction and with ranges of everything seen, and counts: recall is the part of the planted
operators that stay in full precision, precision the part of those in full precision that were
planted. Asked: recall 1.0, precision >= 0.7. Exit 1 where that does not hold."""
import json
import subprocess
import sys

import common


def main():
    p = common.arguments(__doc__.split('\n', maxsplit=1)[0], model='damoyolo_tinynasL25_S.pth',
                         draws=10, count=5, max_drop=0.3, time_budget=None,
                         python=sys.executable)
    o = p.parse_args()
    place = common.Place(o, 'planted')
    plain = place.work / 'plain.onnx'
    common.pquant(place, 'export', place.model(o.model), '-o', plain)
    extra = ['--time-budget', o.time_budget] if o.time_budget else []
    rows, all_found, all_kept, all_planted = [], 0, 0, 0
    for seed in range(1, o.draws + 1):
        model = place.work / f'draw{seed}.onnx'
        subprocess.run([o.python, common.ROOT / 'tools/compare/plant.py', plain, model, '--seed',
                        str(seed), '--count', str(o.count), '--data', str(place.train)], check=True)
        planted = [q['operator'] for q in
                   json.loads(model.with_suffix('.planted.json').read_text())['planted']]
        result, seconds = common.run(place, model, place.work / f'draw{seed}', '--scheme', 's8',
                                     '--calibrator', 'max', '--no-equalize', '--no-bias-correct',
                                     '--no-adaround', '--max-drop', o.max_drop, *extra)
        kept = common.kept(result)
        found = len(set(kept) & set(planted))
        all_found, all_kept = all_found + found, all_kept + len(kept)
        all_planted += len(planted)
        drop = (common.ap_of(common.row(result, 'fp32')) -
                common.ap_of(common.row(result, 'partial')))
        all_int8 = common.ap_of(common.row(result, 'int8'))
        rows.append([seed, len(planted), len(kept), found, f'{found / len(planted):.2f}',
                     f'{found / max(1, len(kept)):.2f}', f'{all_int8:.4f}', f'{drop:.4f}',
                     f'{seconds:.0f}'])
    common.table(['draw', 'planted', 'kept', 'both', 'recall', 'precision', 'AP all-INT8', 'drop',
                  's'], rows)
    recall, precision = all_found / all_planted, all_found / max(1, all_kept)
    print(f'recall {recall:.3f}, precision {precision:.3f}')
    return 0 if recall == 1 and precision >= 0.7 else 1


if __name__ == '__main__':
    sys.exit(main())
