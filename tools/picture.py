#!/usr/bin/env python3
"""The README's picture: what each operator costs in INT8, in network order, with those that the plan
keeps in full precision marked. tools/picture.py OUT FILE.svg, where OUT is a folder of `pquant run`."""
import html
import json
import pathlib
import sys

out, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
run = json.loads((out / 'run.json').read_text())
names = [o['name'] for o in run['operators']]
kept = [o['precision'] != 'int8' for o in run['operators']]
damage = [100 * o.get('damage', 0) for o in run['operators']]
n = len(names)

W, H, LEFT, RIGHT, TOP, BOTTOM = 900, 330, 60, 20, 64, 44
top = max(damage) * 1.08
bottom = min(0, min(damage)) * 1.3


def y(v):
    return TOP + (top - v) / (top - bottom) * (H - TOP - BOTTOM)


step = (W - LEFT - RIGHT) / n
tick = next(t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if top / t <= 5)
rows = {r['name']: r for r in run['precisions']}
full, int8, partial = rows['fp32'], rows['int8'], rows['partial']
title = f"{pathlib.Path(run['model']).stem}: AP points lost to INT8, operator by operator"
said = (f"full precision {full['AP']:.4f} AP; all-INT8 {int8['AP']:.4f}, {int8['speedup']:.2f}x; with "
        f"{sum(kept)} of {n} operators kept {partial['AP']:.4f}, {partial['speedup']:.2f}x")
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" role="img" '
       'aria-labelledby="title desc">',
       f'<title id="title">{html.escape(title)}</title>',
       f'<desc id="desc">A bar an operator in network order. {html.escape(said)}.</desc>',
       '<style>text { font: 13px sans-serif; fill: #1b2733; } .h { font-size: 16px; font-weight: '
       'bold; } .bar { fill: #9db8d2; } .kept { fill: #c4511d; } .grid { stroke: #dde3e9; } .axis { '
       'stroke: #51606e; } .end { text-anchor: end; }</style>',
       f'<rect width="{W}" height="{H}" fill="#ffffff"/>',
       f'<text class="h" x="{LEFT}" y="22">{html.escape(title)}</text>',
       f'<text x="{LEFT}" y="42">{html.escape(said)}</text>']
k = 0
while k * tick <= top:
    svg.append(f'<line class="grid" x1="{LEFT}" x2="{W - RIGHT}" y1="{y(k * tick):.1f}" '
               f'y2="{y(k * tick):.1f}"/><text class="end" x="{LEFT - 8}" '
               f'y="{y(k * tick) + 4:.1f}">{k * tick:g}</text>')
    k += 1
for i, d in enumerate(damage):
    a, b = sorted((y(d), y(0)))
    svg.append(f'<rect class="{"kept" if kept[i] else "bar"}" x="{LEFT + i * step:.1f}" y="{a:.1f}" '
               f'width="{max(1, step - 1.5):.1f}" height="{max(0.5, b - a):.1f}"><title>'
               f'{html.escape(names[i])}: {d:+.2f} points</title></rect>')
svg += [f'<line class="axis" x1="{LEFT}" x2="{W - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>',
        f'<rect class="kept" x="{LEFT}" y="{H - 24}" width="12" height="12"/>'
        f'<text x="{LEFT + 18}" y="{H - 13}">kept in full precision</text>',
        f'<rect class="bar" x="{LEFT + 190}" y="{H - 24}" width="12" height="12"/>'
        f'<text x="{LEFT + 208}" y="{H - 13}">INT8</text>',
        f'<text class="end" x="{W - RIGHT}" y="{H - 13}">input to output</text>', '</svg>', '']
target.write_text('\n'.join(svg))
