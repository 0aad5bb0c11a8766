#!/usr/bin/env python3
"""Writes the ONNX package's own operator test cases as one file that test_onnx_backend reads.

    tests/read/onnx_backend.py SOURCE_DIR OUT_FILE      (exit 77 without the onnx package)

Taken are the cases of operators that the reader knows, with element types that graphs hold. Inputs
that must be known before a network runs (a shape, a number of elements) become constants, as they
are in detectors. What is left out, and why, goes to stderr.
"""
import collections
import os
import re
import struct
import sys
import warnings

try:
    import numpy as np
    import onnx
    from onnx import numpy_helper
    warnings.simplefilter('ignore')
    from onnx.backend.test.loader import load_model_tests
except ImportError as e:
    print('skipped: %s' % e)
    sys.exit(77)

source, target = sys.argv[1:3]
known = set()
for name in ('onnx_node.c', 'onnx_compose.c'):
    with open(os.path.join(source, 'src', 'read', name)) as f:
        known |= set(re.findall(r'^    \{"(\w+)", PQ_OP_', f.read(), re.M))
FIXED = {'Reshape': [1], 'Slice': [1, 2, 3, 4], 'TopK': [1], 'NonMaxSuppression': [2, 3, 4], 'Pad': [1, 2, 3],
         'Resize': [1, 2, 3], 'Expand': [1], 'Tile': [1], 'Unsqueeze': [1], 'Squeeze': [1], 'Split': [1],
         'Range': [0, 1, 2], 'ConstantOfShape': [0], 'Conv': [1, 2], 'ConvTranspose': [1, 2], 'Clip': [1, 2], 'Dropout': [1, 2]}
DTYPES = {'float32': 0, 'int64': 8, 'int32': 7, 'bool': 9}  # pq_dtype
MAX_OPSET = 21
SECOND = ('BatchNormalization', 'Dropout', 'LayerNormalization', 'MaxPool')  # outputs that only training has
DISPUTED = {'test_resize_downsample_scales_linear_align_corners': 'ONNX Runtime counts whole pixels, as we do'}
left, taken = collections.Counter(), []


def fixed_inputs(op, n):
    return [1] if op.startswith('Reduce') and n > 1 else FIXED.get(op, [])


def reason(case):
    g = case.model.graph
    arrays = [a for data in case.data_sets[0] for a in data]
    if any(n.op_type not in known or n.domain not in ('', 'ai.onnx') for n in g.node):
        return 'operator not read'
    if any(not isinstance(a, np.ndarray) or a.dtype.name not in DTYPES for a in arrays):
        return 'element type'
    if any(a.ndim > 8 for a in arrays):
        return 'rank'
    if any(a.size == 0 for a in case.data_sets[0][0]):
        return 'empty input'
    if case.name in DISPUTED:
        return DISPUTED[case.name]
    for o in case.model.opset_import:
        if o.domain in ('', 'ai.onnx') and o.version < 11:
            return 'opset'
    return None


def tensor(a):
    a = np.asarray(a, order='C')
    return struct.pack('<2I8q', DTYPES[a.dtype.name], a.ndim, *(list(a.shape) + [0] * (8 - a.ndim))) + a.tobytes()


for case in load_model_tests(kind='node'):
    why = reason(case)
    if why:
        left[why] += 1
        continue
    m, (inputs, outputs) = case.model, case.data_sets[0]
    m.ir_version = min(m.ir_version, 10)
    for o in m.opset_import:
        o.version = min(o.version, MAX_OPSET)
    if m.graph.node[0].op_type in SECOND:
        del m.graph.output[1:]
        outputs = outputs[:1]
    order = [i.name for i in m.graph.input]
    arrays = dict(zip(order, inputs))
    fixed = [n.input[i] for n in m.graph.node for i in fixed_inputs(n.op_type, len(n.input))
             if i < len(n.input) and n.input[i] in arrays]
    fixed = list(dict.fromkeys(fixed))
    m.graph.initializer.extend(numpy_helper.from_array(arrays[n], n) for n in fixed)
    for name in [n for n in order if n in fixed]:
        m.graph.input.remove(next(i for i in m.graph.input if i.name == name))
    for i in m.graph.input:  # the shapes of the arrays, where the case leaves them open
        del i.type.tensor_type.shape.dim[:]
        for d in arrays[i.name].shape:
            i.type.tensor_type.shape.dim.add().dim_value = d
    taken.append((case, m.SerializeToString(), [arrays[n] for n in order if n not in fixed], outputs))

with open(target + '.part', 'wb') as f:
    f.write(struct.pack('<I', len(taken)))
    for case, model, inputs, outputs in taken:
        name = case.name.encode()
        f.write(struct.pack('<2I', len(name), len(model)) + name + model)
        f.write(struct.pack('<2I', len(inputs), len(outputs)) + b''.join(map(tensor, list(inputs) + list(outputs))))
os.replace(target + '.part', target)
print('onnx %s: %d cases' % (onnx.__version__, len(taken)))
print('left out: ' + ', '.join('%s %d' % k for k in left.most_common()), file=sys.stderr)
