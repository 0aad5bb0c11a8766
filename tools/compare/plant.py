#!/usr/bin/env python3
"""Plant trouble for INT8 in an ONNX model without changing what it computes.

    plant.py MODEL.onnx OUT.onnx --seed N [--count 5] [--data IMAGES]

In random places a convolution's output channel is multiplied by a power of two and the weights
that read it are divided by it: exact in float32 (powers of two), through a ReLU (positive), but
one channel of the tensor between them now takes nearly all levels of its grid: the power is the
least that lifts the channel to --strength times what the whole tensor reached before, so that at 64
the other channels have two of 127 levels left. Only channels that are used as much as the median one
are taken; only tensors that one convolution reads.

What counts: OUT.planted.json beside it lists the convolutions that read such a tensor, because the
tensor is rounded where its reader runs in INT8. The one that makes it is as good as before (its
weights have a scale for each channel) and does not count. A place is taken only where it is trouble:
the tensor rounded to 8 bits, all else in float32, must move the scores that matter by --harm (0.1: a
tenth); a branch beside a shortcut may lose all it says and nothing is lost. Pquant has no part in
that.

Needs onnx, onnxruntime and numpy. Prints the largest difference of the outputs, which must be 0."""
import argparse
import json
import math
import pathlib
import random
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper


def pairs(graph):
    """(first convolution, the one that alone reads it, tensor between), through ReLU or nothing."""
    readers = {}
    for n in graph.node:
        for name in n.input:
            readers.setdefault(name, []).append(n)
    outputs = {o.name for o in graph.output}
    constant = {c.name for c in graph.initializer}
    found = []
    for n in graph.node:
        if n.op_type != 'Conv' or n.input[1] not in constant:
            continue
        name = n.output[0]
        after = readers.get(name, [])
        if len(after) == 1 and after[0].op_type == 'Relu' and name not in outputs:
            name = after[0].output[0]
            after = readers.get(name, [])
        if (len(after) == 1 and after[0].op_type == 'Conv' and name not in outputs
                and after[0].input[0] == name and after[0].input[1] in constant):
            found.append((n, after[0], name))
    shared = {}
    for n in graph.node:
        for name in n.input:
            shared[name] = shared.get(name, 0) + 1
    return [f for f in found if shared[f[0].input[1]] == 1 and shared[f[1].input[1]] == 1]


def run(model, inputs, wanted=()):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for name in wanted:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.log_severity_level = 3
    s = ort.InferenceSession(model.SerializeToString(), o, providers=['CPUExecutionProvider'])
    return [s.run(None, {s.get_inputs()[0].name: x}) for x in inputs]


def pictures(model, folder, rng):
    value = model.graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if not folder:
        noise = np.random.default_rng(rng.randrange(1 << 30))
        return [noise.integers(0, 256, shape).astype(np.float32)]
    import cv2
    inputs = []
    for path in sorted(pathlib.Path(folder).iterdir())[:2]:
        image = cv2.resize(cv2.imread(str(path)), (shape[3], shape[2]))[:, :, ::-1]
        inputs.append(image.transpose(2, 0, 1)[None].astype(np.float32))
    return inputs


def scale(graph, name, axis, channel, factor):
    for i, c in enumerate(graph.initializer):
        if c.name == name:
            w = numpy_helper.to_array(c).copy()
            index = [slice(None)] * w.ndim
            index[axis] = channel
            w[tuple(index)] *= np.float32(factor)
            graph.initializer[i].CopyFrom(numpy_helper.from_array(w, name))


def rounded(model, name, peak):
    """The model with one tensor rounded to a signed grid of 8 bits, for all that read it."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    g = model.graph
    g.initializer.append(numpy_helper.from_array(np.float32(peak / 127), name + '/step'))
    g.initializer.append(numpy_helper.from_array(np.int8(0), name + '/zero'))
    at = 1 + max(i for i, n in enumerate(g.node) if name in n.output)
    for n in g.node:
        for i, x in enumerate(n.input):
            if x == name:
                n.input[i] = name + '/rounded'
    grid = [name + '/step', name + '/zero']
    g.node.insert(at, helper.make_node('QuantizeLinear', [name, *grid], [name + '/levels']))
    g.node.insert(at + 1, helper.make_node('DequantizeLinear', [name + '/levels', *grid],
                                           [name + '/rounded']))
    return model


def moved(before, after):
    """How far the scores move that matter: sum of s |s - s'| by the sum of s^2."""
    s = np.concatenate([x[0].ravel() for x in before])
    t = np.concatenate([x[0].ravel() for x in after])
    return float((s * np.abs(s - t)).sum() / (s * s).sum())


def plant_one(model, place, rng, inputs, o):
    """A copy with trouble at a place and what was planted; None where rounding does no harm."""
    first, second, name = place
    model = onnx.ModelProto.FromString(model.SerializeToString())
    n_out = len(model.graph.output)
    seen = run(model, inputs, [name])
    peak = np.max([np.abs(s[n_out]).max(axis=(0, 2, 3)) for s in seen], axis=0)
    channel = rng.choice([c for c in range(len(peak)) if peak[c] >= np.median(peak)])
    factor = 2.0 ** math.ceil(math.log2(o.strength * peak.max() / peak[channel]))
    groups = next((a.i for a in second.attribute if a.name == 'group'), 1)
    scale(model.graph, first.input[1], 0, channel, factor)
    if len(first.input) > 2:
        scale(model.graph, first.input[2], 0, channel, factor)
    # depthwise: the channel has a filter of its own
    scale(model.graph, second.input[1], 0 if groups > 1 else 1, channel, 1 / factor)
    harm = moved(seen, run(rounded(model, name, factor * peak[channel]), inputs))
    if harm < o.harm:
        return None
    return model, {'operator': second.name, 'channel': channel, 'factor': factor, 'moved': harm}


def plant(model, rng, inputs, o):
    places = pairs(model.graph)
    rng.shuffle(places)
    planted = []
    for place in places:
        found = plant_one(model, place, rng, inputs, o)
        if found:
            model = found[0]
            planted.append(found[1])
        if len(planted) == o.count:
            return model, planted
    sys.exit(f'{len(planted)} places of {len(places)} where trouble harms, expected {o.count}')


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    p.add_argument('model')
    p.add_argument('out')
    p.add_argument('--seed', type=int, required=True)
    p.add_argument('--count', type=int, default=5)
    p.add_argument('--strength', type=float, default=64)
    p.add_argument('--harm', type=float, default=0.1)
    p.add_argument('--data', help='folder of pictures to see which channels are used')
    a = p.parse_args()
    rng = random.Random(a.seed)
    before = onnx.load(a.model)
    inputs = pictures(before, a.data, rng)
    after, planted = plant(before, rng, inputs, a)
    onnx.save(after, a.out)
    pathlib.Path(a.out).with_suffix('.planted.json').write_text(
        json.dumps({'seed': a.seed, 'planted': planted}, indent=1))
    worst = max(float(np.abs(x - y).max()) for s, t in zip(run(before, inputs), run(after, inputs))
                for x, y in zip(s, t))
    print(f'{a.out}: {", ".join(q["operator"] for q in planted)}; outputs differ by {worst:g}')
    return 0 if worst == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
