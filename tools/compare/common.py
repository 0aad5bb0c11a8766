"""What the comparison scripts share: running pquant, its files, COCO figures, tables and plots."""
import argparse
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def arguments(text, **defaults):
    p = argparse.ArgumentParser(description=text)
    p.add_argument('--pquant', default=str(ROOT / 'build/release/pquant'))
    p.add_argument('--shared', default=str(ROOT / '../shared'),
                   help='folder with models/ and coco128/')
    p.add_argument('--work', default=str(ROOT / 'build/compare'), help='scratch folder')
    for name, value in defaults.items():
        p.add_argument('--' + name.replace('_', '-'), default=value,
                       type=type(value) if value is not None else str)
    return p


class Place:
    """Where things lie."""

    def __init__(self, options, name):
        self.pquant = options.pquant
        self.shared = pathlib.Path(options.shared)
        self.coco = self.shared / 'coco128'
        self.work = pathlib.Path(options.work) / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.val = self.coco / 'images/val2017'
        self.ann = self.coco / 'annotations/instances_val2017.json'
        self.train = self.coco / 'images/train2017'

    def model(self, name):
        path = pathlib.Path(name)
        return path if path.exists() else self.shared / 'models' / name

    def data(self, ann=None):
        return ['--data', self.val, '--ann', ann or self.ann]

    def calib(self):
        return ['--calib-data', self.train]


def pquant(place, *words, ok=(0,), limit=None):
    """Run it; returns what it printed and how long it took."""
    command = [place.pquant, *map(str, words)]
    begin = time.time()
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode not in ok:
        sys.exit(f'{" ".join(command)}\n{done.stderr.strip()}\nexit {done.returncode}')
    return done.stdout, time.time() - begin


def run(place, model, out, *words, ann=None, limit=None):
    """pquant run; returns run.json and the seconds. Exit 3 (not worth it) is an answer too."""
    _, seconds = pquant(place, 'run', model, *place.data(ann), *place.calib(), '-o', out, '-q',
                        *words, ok=(0, 3), limit=limit)
    return json.loads((pathlib.Path(out) / 'run.json').read_text()), seconds


def row(result, name):
    """A row of run.json by its name, from "precisions" or "results"."""
    for key in ('precisions', 'results'):
        for r in result.get(key, []):
            if r.get('name') == name or r.get('precision') == name:
                return r
    sys.exit(f'run.json has no row "{name}"')


def ap_of(r):
    return r['figures']['AP'] if 'figures' in r else r['AP']


def kept(result):
    """Names of the operators that are not in INT8."""
    return [o['name'] for o in result['operators'] if o['precision'] != 'int8']


def evaluate(place, model, plan, *words, ann=None):
    text, _ = pquant(place, 'eval', model, *place.data(ann), '--precision', plan, '--json', '-q',
                     *words)
    return json.loads(text)


def write_plan(out, path, keep):
    """A plan.json for `run --plan`: the operators named in `keep` in full precision, the rest in
    INT8. `run` takes the precisions alone and makes scales of its own, so any scale will do here;
    the operators come from the plan.json, the values from the ranges.json of an earlier run."""
    plan = json.loads((pathlib.Path(out) / 'plan.json').read_text())
    ranges = json.loads((pathlib.Path(out) / 'ranges.json').read_text())
    for n in plan['nodes']:
        if n['quantizable']:
            n['precision'] = plan['base'] if n['name'] in keep else 'int8'
    dtype = 'uint8' if plan['scheme'] == 'u8' else 'int8'
    plan['tensors'] = [{'name': t['name'], 'dtype': dtype, 'scale': 1, 'zero_point': 0}
                       for t in ranges['tensors']]
    plan['weights'] = None
    pathlib.Path(path).write_text(json.dumps(plan))
    return path


def measured(place, model, out, keep, copy, *words):
    """AP of a plan by the operators it keeps; the plan lies at `copy`, without the corrected weights,
    on which its time does not depend."""
    path = write_plan(out, pathlib.Path(out) / 'asked.json', keep)
    result, _ = run(place, model, out, '--plan', path, *words)
    plan = json.loads((pathlib.Path(out) / 'plan.json').read_text())
    copy.write_text(json.dumps({**plan, 'weights': None}))
    return ap_of(row(result, 'partial'))


def times(place, model, plans, *words):
    """Median ms of full precision and of each plan, all taking turns in one process: from one process
    to the next times differ by some per cent."""
    text, _ = pquant(place, 'bench', model, '--precision', ','.join(map(str, ['fp32', *plans])),
                     '--json', '-q', *words)
    return [r['median_ms'] for r in json.loads(text)]


def table(head, rows):
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for r in rows:
        print('| ' + ' | '.join(str(c) for c in r) + ' |', flush=True)


def plot(path, series, x_label, y_label):
    """series: {name: [(x, y), ...]} as an SVG of lines and dots."""
    width, height, left, bottom = 640, 420, 70, 50
    points = [p for s in series.values() for p in s]
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    x1, y1 = x1 + (x1 == x0), y1 + (y1 == y0)
    colours = ['#1b6ca8', '#c0392b', '#7f8c8d', '#27ae60', '#8e44ad']

    def at(p):
        return (left + (p[0] - x0) / (x1 - x0) * (width - left - 20),
                height - bottom - (p[1] - y0) / (y1 - y0) * (height - bottom - 20))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for i in range(5):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        px, py = at((x, y))
        out += [f'<line x1="{px:.1f}" y1="20" x2="{px:.1f}" y2="{height - bottom}" stroke="#eee"/>',
                f'<line x1="{left}" y1="{py:.1f}" x2="{width - 20}" y2="{py:.1f}" stroke="#eee"/>',
                f'<text x="{px:.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:.3g}'
                '</text>',
                f'<text x="{left - 8}" y="{py + 4:.1f}" text-anchor="end">{y:.4g}</text>']
    for i, (name, s) in enumerate(series.items()):
        colour = colours[i % len(colours)]
        dots = [at(p) for p in sorted(s)]
        if len(dots) > 1:
            out.append('<polyline fill="none" stroke="{}" points="{}"/>'.format(
                colour, ' '.join(f'{x:.1f},{y:.1f}' for x, y in dots)))
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
        out.append(f'<text x="{left + 15}" y="{34 + 16 * i}" fill="{colour}">{name}</text>')
    out += [f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">{x_label}</text>',
            f'<text x="16" y="{height / 2}" transform="rotate(-90 16 {height / 2})" '
            f'text-anchor="middle">{y_label}</text>', '</svg>']
    pathlib.Path(path).write_text('\n'.join(out))
