#!/usr/bin/env python3
"""Writes onnx_cases.inc: small models, inputs, and what ONNX Runtime makes of them.

    python3 -m pip install onnx onnxruntime numpy
    tests/read/make_onnx_cases.py        (seed 1; versions stand in the file)
"""
import os
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

rng = np.random.RandomState(1)
TYPES = {'float32': T.FLOAT, 'int64': T.INT64, 'int32': T.INT32, 'bool': T.BOOL}
ENUM = {'float32': 'PQ_F32', 'int64': 'PQ_S64', 'int32': 'PQ_S32', 'bool': 'PQ_BOOL'}
cases = []


def x(*shape, lo=-3, hi=3):
    return (rng.uniform(lo, hi, shape) * 16).round().astype('f') / 16


def i64(*v):
    return np.array(v, dtype=np.int64)


def case(name, op, inputs, opset=13, const=None, n_out=1, nodes=None, **attrs):
    """inputs: name -> array; const: name -> array ('' keeps a place empty), in the order of the node's inputs."""
    const = const or {}
    names = list(inputs) + list(const)
    outs = ['y%d' % i for i in range(n_out)] if n_out > 1 else ['y']
    node = nodes or [h.make_node(op, [n if not n.startswith('_') else '' for n in names], outs, name='node', **attrs)]
    g = h.make_graph(node, 'g', [h.make_tensor_value_info(k, TYPES[v.dtype.name], v.shape) for k, v in inputs.items()],
                     [h.make_empty_tensor_value_info(o) for o in outs],
                     [nh.from_array(v, k) for k, v in const.items() if v is not None])
    m = h.make_model(g, opset_imports=[h.make_opsetid('', opset)], ir_version=7 if opset < 15 else 8 if opset < 20 else 10)
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.log_severity_level = 3
    s = ort.InferenceSession(m.SerializeToString(), o, providers=['CPUExecutionProvider'])
    cases.append((name, m.SerializeToString(), inputs, s.run(None, inputs)))


X = {'x': x(1, 2, 3, 4)}
for op in 'Relu Sigmoid Tanh Exp Neg Abs Floor Ceil Identity Reciprocal'.split():
    case(op.lower(), op, {'x': x(2, 5) + np.float32(0.03)})
case('log', 'Log', {'x': x(6, lo=1)})
case('sqrt', 'Sqrt', {'x': x(6, lo=0.5)})
case('round', 'Round', {'x': np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49], dtype='f')})
case('leaky_relu', 'LeakyRelu', X, alpha=0.1)
case('leaky_relu_default', 'LeakyRelu', X)
case('hard_sigmoid', 'HardSigmoid', X, alpha=0.25, beta=0.4)
case('hard_sigmoid_default', 'HardSigmoid', X)
case('hard_swish', 'HardSwish', {'x': x(12, lo=-5, hi=5)}, opset=14)
case('clip', 'Clip', X, const={'lo': np.float32(-1), 'hi': np.float32(1.5)})
case('clip_upper', 'Clip', X, const={'_lo': None, 'hi': np.float32(0.5)})
case('clip_int', 'Clip', {'x': i64(-5, 2, 9007199254740993)}, const={'lo': np.int64(0)})
case('neg_int', 'Neg', {'x': i64(-5, 2, 0)})
case('cast_to_int', 'Cast', {'x': np.array([-2.7, -0.2, 0, 0.9, 3.5], dtype='f')}, to=T.INT64)
case('cast_to_bool', 'Cast', {'x': np.array([-2.7, -0.2, 0, 0.9], dtype='f')}, to=T.BOOL)
case('cast_to_float', 'Cast', {'x': i64(-3, 0, 7)}, to=T.FLOAT)
for op in 'Add Sub Mul Div'.split():
    case(op.lower() + '_broadcast', op, {'a': x(2, 1, 3), 'b': x(4, 1) + np.float32(7)})
case('div_int', 'Div', {'a': i64(7, -7, 9), 'b': i64(2, 2, -4)})
case('mul_int_scalar', 'Mul', {'a': i64(7, -7, 9), 'b': np.array(3, dtype=np.int64)})
case('pow', 'Pow', {'a': x(5, lo=0.5), 'b': x(5)})
case('pow_int_exponent', 'Pow', {'a': x(5)}, const={'b': i64(2)})
case('pow_int', 'Pow', {'a': i64(2, -3, 5), 'b': i64(5, 3, 0)})
case('min_three', 'Min', {'a': x(2, 3), 'b': x(3), 'c': x(2, 1)})
case('max_two', 'Max', {'a': x(2, 3), 'b': x(3)})
case('max_one', 'Max', {'a': x(2, 3)})
case('sum_three', 'Sum', {'a': x(2, 3), 'b': x(3), 'c': x(2, 1)})
case('equal', 'Equal', {'a': i64(1, 2, 3), 'b': i64(1, 0, 3)})
case('max_pool', 'MaxPool', {'x': x(1, 2, 5, 4)}, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
case('max_pool_ceil', 'MaxPool', {'x': x(1, 1, 6, 5)}, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
case('max_pool_dilated', 'MaxPool', {'x': x(1, 1, 6, 6)}, kernel_shape=[2, 2], dilations=[2, 3])
case('max_pool_same_upper', 'MaxPool', {'x': x(1, 1, 5, 6)}, kernel_shape=[2, 3], strides=[2, 2], auto_pad='SAME_UPPER')
case('average_pool', 'AveragePool', {'x': x(1, 2, 5, 4)}, kernel_shape=[3, 3], strides=[2, 1], pads=[1, 0, 1, 1])
case('average_pool_counting_pad', 'AveragePool', {'x': x(1, 1, 5, 4)}, kernel_shape=[3, 3], strides=[2, 1],
     pads=[1, 0, 1, 1], count_include_pad=1)
case('average_pool_same_lower', 'AveragePool', {'x': x(1, 1, 5, 6)}, kernel_shape=[2, 3], strides=[2, 2], auto_pad='SAME_LOWER')
case('average_pool_valid', 'AveragePool', {'x': x(1, 1, 5, 6)}, kernel_shape=[2, 3], auto_pad='VALID')
case('global_average_pool', 'GlobalAveragePool', X)
case('global_max_pool', 'GlobalMaxPool', X)
case('concat', 'Concat', {'a': x(2, 1, 2), 'b': x(2, 3, 2)}, axis=-2)
case('split_attribute', 'Split', {'x': x(2, 6)}, opset=11, n_out=3, axis=1, split=[1, 2, 3])
case('split_input', 'Split', {'x': x(2, 6)}, const={'s': i64(4, 2)}, n_out=2, axis=-1)
case('split_even', 'Split', {'x': x(4, 3)}, n_out=2)
case('split_num_outputs', 'Split', {'x': x(5, 2)}, opset=18, n_out=2, num_outputs=2)
case('slice', 'Slice', {'x': x(3, 6)}, const={'b': i64(1, -1), 'e': i64(2**63 - 1, -100), 'a': i64(0, -1), 's': i64(1, -2)})
case('slice_plain', 'Slice', {'x': x(3, 4)}, const={'b': i64(-2), 'e': i64(-1)})
case('slice_empty', 'Slice', {'x': x(3, 4)}, const={'b': i64(3), 'e': i64(1)})
case('reshape', 'Reshape', X, const={'s': i64(0, -1, 2)})
case('flatten', 'Flatten', X, axis=-2)
case('flatten_rank', 'Flatten', X, axis=4)
case('squeeze_11', 'Squeeze', {'x': x(1, 3, 1)}, opset=11, axes=[-1])
case('squeeze_13', 'Squeeze', {'x': x(1, 3, 1)}, const={'a': i64(0)})
case('squeeze_all', 'Squeeze', {'x': x(1, 3, 1)})
case('unsqueeze_11', 'Unsqueeze', {'x': x(3)}, opset=11, axes=[0, 2])
case('unsqueeze_13', 'Unsqueeze', {'x': x(3)}, const={'a': i64(-1)})
case('transpose', 'Transpose', X, perm=[0, 3, 1, 2])
case('transpose_default', 'Transpose', {'x': x(2, 3)})
case('expand', 'Expand', {'x': x(3, 1)}, const={'s': i64(2, 1, 4)})
case('gather_scalar', 'Gather', {'x': x(3, 4)}, const={'i': np.array(-1, dtype=np.int64)}, axis=1)
case('gather', 'Gather', {'x': x(3, 2)}, const={'i': np.array([[2, 0], [1, 1]], dtype=np.int64)})
case('pad', 'Pad', {'x': x(2, 3)}, const={'p': i64(0, 1, 1, 2), 'v': np.float32(0.5)})
case('pad_negative', 'Pad', {'x': x(3, 4)}, const={'p': i64(-1, 0, 0, -2)})
case('pad_axes', 'Pad', {'x': x(2, 3)}, opset=18, const={'p': i64(1, 1), 'v': np.float32(0), 'a': i64(-1)})
R = {'x': x(1, 1, 3, 4)}
UP, DOWN = np.array([1, 1, 2, 2], dtype='f'), np.array([1, 1, 0.6, 0.5], dtype='f')
ODD = np.array([1, 1, 1.5, 2.6], dtype='f')
NO = {'_roi': None}
for mode in ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil']:
    for k, c in enumerate(['asymmetric', 'half_pixel', 'pytorch_half_pixel', 'align_corners']):
        case('resize_nearest_%s_%s' % (mode, c), 'Resize', R, const=dict(NO, s=[UP, ODD, DOWN, ODD][k]), mode='nearest',
             coordinate_transformation_mode=c, nearest_mode=mode)
for c in ['asymmetric', 'half_pixel', 'pytorch_half_pixel', 'align_corners']:
    case('resize_linear_up_' + c, 'Resize', R, const=dict(NO, s=ODD), mode='linear', coordinate_transformation_mode=c)
    case('resize_linear_down_' + c, 'Resize', R, const=dict(NO, s=DOWN), mode='linear', coordinate_transformation_mode=c)
case('resize_sizes', 'Resize', R, const={'_roi': None, '_s': None, 'z': i64(1, 1, 5, 6)}, mode='linear')
case('resize_11', 'Resize', R, opset=11, const={'roi': np.zeros(0, 'f'), 's': UP}, mode='nearest',
     coordinate_transformation_mode='asymmetric', nearest_mode='floor')
case('shape', 'Shape', X)
case('shape_part', 'Shape', X, opset=15, start=1, end=-1)
case('constant_of_shape', 'ConstantOfShape', {}, const={'s': i64(2, 3)}, value=h.make_tensor('v', T.INT64, [1], [7]))
case('constant_of_shape_default', 'ConstantOfShape', {}, const={'s': i64(4)})
case('range_int', 'Range', {}, const={'a': np.int64(7), 'b': np.int64(-2), 'd': np.int64(-3)})
case('range_float', 'Range', {}, const={'a': np.float32(0), 'b': np.float32(1), 'd': np.float32(0.25)})
case('softmax_13', 'Softmax', X, axis=1)
case('softmax_13_default', 'Softmax', X)
case('softmax_11_joint', 'Softmax', X, opset=11)
case('softmax_11_last', 'Softmax', X, opset=11, axis=-1)
case('reduce_sum_11', 'ReduceSum', X, opset=11, axes=[-1, 1], keepdims=0)
case('reduce_sum_13', 'ReduceSum', X, const={'a': i64(2)})
case('reduce_sum_all', 'ReduceSum', X)
case('reduce_sum_noop', 'ReduceSum', X, noop_with_empty_axes=1)
case('reduce_sum_int', 'ReduceSum', {'x': np.arange(6, dtype=np.int64).reshape(2, 3)}, const={'a': i64(1)}, keepdims=0)
case('reduce_mean_13', 'ReduceMean', X, axes=[2, 3])
case('reduce_mean_18', 'ReduceMean', X, opset=18, const={'a': i64(1)}, keepdims=0)
case('reduce_max', 'ReduceMax', X, axes=[-2], keepdims=0)
case('reduce_max_int', 'ReduceMax', {'x': -np.arange(1, 7, dtype=np.int64).reshape(2, 3)}, axes=[1])
case('batch_norm', 'BatchNormalization', X, const={'g': x(2), 'b': x(2), 'm': x(2), 'v': x(2, lo=0.5)}, epsilon=1e-3)
case('gemm', 'Gemm', {'a': x(3, 2)}, const={'b': x(4, 3), 'c': x(1, 4)}, transA=1, transB=1, alpha=0.5, beta=2.0)
case('gemm_inputs', 'Gemm', {'a': x(2, 3), 'b': x(3, 4), 'c': x(2, 1)}, alpha=0.5, beta=2.0)
case('matmul', 'MatMul', {'a': x(2, 1, 2, 3), 'b': x(2, 3, 2)})
case('matmul_vector', 'MatMul', {'a': x(3), 'b': x(2, 3, 2)})
case('matmul_vectors', 'MatMul', {'a': x(3), 'b': x(3)})
case('dropout', 'Dropout', X, const={'r': np.float32(0.5)})
n = h.make_node
case('constants', '', {'x': x(2)}, nodes=[
    n('Constant', [], ['f'], value_float=0.5), n('Constant', [], ['fs'], value_floats=[1.0, 2.0]),
    n('Constant', [], ['t'], value=nh.from_array(np.array([3, 4], dtype=np.float16))),
    n('Constant', [], ['i'], value_int=2), n('Constant', [], ['is'], value_ints=[2, 1]),
    n('Cast', ['i'], ['ic'], to=T.FLOAT), n('Cast', ['t'], ['tc'], to=T.FLOAT), n('Mul', ['x', 'f'], ['a']), n('Add', ['a', 'fs'], ['b']),
    n('Add', ['b', 'ic'], ['c']), n('Add', ['c', 'tc'], ['d']), n('Reshape', ['d', 'is'], ['y'])])
case('shape_chain', '', {'x': x(2, 3, 4)}, const={'zero': np.array(0, dtype=np.int64), 'minus': i64(-1)}, nodes=[
    n('Shape', ['x'], ['s']), n('Gather', ['s', 'zero'], ['g']), n('Constant', [], ['ax'], value_ints=[0]),
    n('Unsqueeze', ['g', 'ax'], ['u']), n('Concat', ['u', 'minus'], ['c'], axis=0), n('Reshape', ['x', 'c'], ['y'])])

for op in 'Erf Softplus Softsign Sign Sin Cos Selu Celu'.split():
    case(op.lower(), op, {'x': x(2, 5)})
case('elu', 'Elu', X, alpha=0.7)
case('mish', 'Mish', X, opset=18)
case('gelu', 'Gelu', X, opset=20)
case('gelu_tanh', 'Gelu', X, opset=20, approximate='tanh')
case('prelu', 'PRelu', X, const={'s': x(2, 1, 1)})
case('not', 'Not', {'x': np.array([True, False])})
case('and', 'And', {'a': np.array([True, False, True]), 'b': np.array([True, True, False])})
for op in 'Greater Less GreaterOrEqual LessOrEqual'.split():
    case(op.lower(), op, {'a': x(2, 1, 3), 'b': x(4, 1)})
case('where', 'Where', {'c': np.array([[True], [False]]), 'a': x(2, 3), 'b': x(3)})
case('mod_int', 'Mod', {'a': i64(7, -7, 7, -7), 'b': i64(3, 3, -3, -3)})
case('mod_float', 'Mod', {'a': x(6), 'b': x(6, lo=1)}, fmod=1)
case('mean_three', 'Mean', {'a': x(2, 3), 'b': x(3), 'c': x(2, 1)})
case('tile', 'Tile', {'x': x(2, 3)}, const={'r': i64(2, 3)})
case('gather_nd', 'GatherND', {'x': x(2, 3, 2)}, const={'i': np.array([[1, 0], [0, -1]], dtype=np.int64)})
case('gather_nd_batch', 'GatherND', {'x': x(2, 3, 2)}, const={'i': np.array([[1], [0]], dtype=np.int64)}, batch_dims=1)
case('gather_elements', 'GatherElements', {'x': x(3, 2)}, const={'i': np.array([[2, -1], [0, 1]], dtype=np.int64)})
case('scatter_nd', 'ScatterND', {'x': x(3, 2), 'u': x(2, 2)}, const=None, nodes=[
    h.make_node('Constant', [], ['i'], value=nh.from_array(np.array([[2], [0]], dtype=np.int64))),
    h.make_node('ScatterND', ['x', 'i', 'u'], ['y'])])
case('scatter_elements', 'ScatterElements', {'x': x(3, 3), 'u': x(1, 2)}, nodes=[
    h.make_node('Constant', [], ['i'], value=nh.from_array(np.array([[1, -1]], dtype=np.int64))),
    h.make_node('ScatterElements', ['x', 'i', 'u'], ['y'], axis=1)])
case('top_k', 'TopK', {'x': x(2, 6)}, const={'k': i64(3)}, n_out=2)
case('top_k_smallest', 'TopK', {'x': np.arange(12, dtype='f').reshape(2, 6)[:, ::-1].copy()}, const={'k': i64(2)},
     n_out=2, axis=0, largest=0)
case('arg_max', 'ArgMax', {'x': x(2, 5)}, axis=1, keepdims=0)
case('arg_min_last', 'ArgMin', {'x': np.array([[1, 0, 0]], dtype='f')}, axis=1, select_last_index=1)
case('log_softmax', 'LogSoftmax', X, axis=1)
case('reduce_min', 'ReduceMin', X, axes=[1])
case('reduce_prod', 'ReduceProd', X, axes=[1, -1], keepdims=0)
case('reduce_l1', 'ReduceL1', X, axes=[1])
case('reduce_l2', 'ReduceL2', X, opset=18, const={'a': i64(1)}, keepdims=0)
case('reduce_sum_square', 'ReduceSumSquare', X, axes=[-1])
case('reduce_log_sum', 'ReduceLogSum', {'x': x(2, 3, lo=1)}, axes=[1])
case('lp_normalization', 'LpNormalization', X, axis=1)
case('instance_norm', 'InstanceNormalization', X, const={'s': x(2), 'b': x(2)}, epsilon=1e-3)
case('group_norm_21', 'GroupNormalization', {'x': x(2, 4, 2, 3)}, opset=21, const={'s': x(4), 'b': x(4)}, num_groups=2)
case('layer_norm', 'LayerNormalization', X, opset=17, const={'s': x(4), 'b': x(4)})
case('layer_norm_axis', 'LayerNormalization', X, opset=17, const={'s': x(3, 4)}, axis=2)
case('depth_to_space', 'DepthToSpace', {'x': x(1, 8, 2, 3)}, blocksize=2)
case('depth_to_space_crd', 'DepthToSpace', {'x': x(1, 8, 2, 3)}, blocksize=2, mode='CRD')
case('space_to_depth', 'SpaceToDepth', {'x': x(1, 2, 4, 6)}, blocksize=2)
case('size', 'Size', X)
case('cast_like', 'CastLike', {'a': x(3), 'b': i64(1)}, opset=15)

def text(a):
    def number(v):
        if a.dtype != np.float32:
            return '%d' % v
        t = '%.9g' % v
        return t + ('f' if '.' in t or 'e' in t else '.0f')
    return ','.join(map(number, a.flatten())) or '0'


def tensor(a):
    return '{%s, {%d, {%s}}}' % (ENUM[a.dtype.name], a.ndim, ','.join(map(str, a.shape)) or '0')


out = ['/* Generated by make_onnx_cases.py with onnx %s and onnxruntime %s. */' % (onnx.__version__, ort.__version__)]
for k, (name, model, inputs, outputs) in enumerate(cases):
    out.append('static const uint8_t model_%d[] = {%s};' % (k, ','.join(map(str, model))))
    for kind, arrays in (('in', list(inputs.values())), ('out', outputs)):
        for j, a in enumerate(arrays):
            ctype = {'float32': 'float', 'int64': 'int64_t', 'int32': 'int32_t', 'bool': 'uint8_t'}[a.dtype.name]
            out.append('static const %s %s_%d_%d[] = {%s};' % (ctype, kind, k, j, text(a)))
out.append('static const struct onnx_case cases[] = {')
for k, (name, model, inputs, outputs) in enumerate(cases):
    ins = ','.join('{%s, in_%d_%d}' % (tensor(a), k, j) for j, a in enumerate(inputs.values())) or '{{PQ_F32, {0, {0}}}, 0}'
    outs = ','.join('{%s, out_%d_%d}' % (tensor(a), k, j) for j, a in enumerate(outputs))
    out.append('{"%s", model_%d, sizeof model_%d, %d, {%s}, %d, {%s}},' % (name, k, k, len(inputs), ins, len(outputs), outs))
out.append('};')
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'onnx_cases.inc')
open(path, 'w').write('\n'.join(out) + '\n')
print(len(cases), 'cases,', os.path.getsize(path), 'bytes')
