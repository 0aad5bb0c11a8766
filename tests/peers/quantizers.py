#!/usr/bin/env python3
"""Our all-INT8 files against what the runtimes' own quantizers make of the same network, in turn.

    quantizers.py COMMAND MODEL IMAGES [--threads 2] [--runs 60] [--folder DIR]

COMMAND: the built pquant. MODEL: a detector that it reads. IMAGES: calibration images, the same for
all. Needs numpy, opencv, onnx, onnxruntime, openvino and nncf. Each quantizer is given the float32 file
that pquant exports and 64 images: ONNX Runtime's quantize_static (QDQ, u8 activations, s8 weights per
channel, min-max), NNCF's quantize (its defaults). Every file is then timed on its runtime, all rows of
a runtime taking turns in one process.
"""
import argparse
import contextlib
import pathlib
import statistics
import subprocess
import sys
import time

import cv2
import numpy as np

IMAGES = 64


def pictures(folder, size):
    for path in sorted(pathlib.Path(folder).glob('*.jpg'))[:IMAGES]:
        pixels = cv2.resize(cv2.imread(str(path)), (size[3], size[2]))
        yield pixels.transpose(2, 0, 1)[None].astype(np.float32)


def onnxruntime_own(source, target, folder, name, size):
    from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType,
                                          quantize_static)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = pictures(folder, size)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {name: image}

    from onnxruntime.quantization.shape_inference import quant_pre_process
    prepared = target.replace('.onnx', '_prepared.onnx')
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, target, Reader(), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)


def nncf_own(source, target, folder, size):
    import nncf
    import openvino
    model = openvino.Core().read_model(source)
    data = nncf.Dataset(list(pictures(folder, size)))
    with contextlib.redirect_stdout(sys.stderr):  # its progress is not part of the table
        quantized = nncf.quantize(model, data, subset_size=IMAGES)
    openvino.save_model(quantized, target, compress_to_fp16=False)


def on_onnxruntime(path, threads, image):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry('session.force_spinning_stop', '1')
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)


def on_openvino(path, threads, image):
    import openvino
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1, 'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_PRECISION_HINT': 'f32'})
    request = compiled.create_infer_request()
    return lambda: request.infer([image], share_inputs=True)


def take_turns(rows, runs):
    times = [[] for _ in rows]
    for i in range(-5, runs):
        for (_, run), t in zip(rows, times):
            begin = time.perf_counter()
            run()
            if i >= 0:
                t.append(1e3 * (time.perf_counter() - begin))
    return times


def main():
    p = argparse.ArgumentParser()
    p.add_argument('command')
    p.add_argument('model')
    p.add_argument('images')
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--runs', type=int, default=60)
    p.add_argument('--folder', default='build/peers')
    o = p.parse_args()
    folder = pathlib.Path(o.folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = pathlib.Path(o.model).stem

    def export(name, *words):
        path = str(folder / f'{stem}_{name}.onnx')
        subprocess.run([o.command, 'export', o.model, '-q', '-o', path, *words], check=True,
                       stdout=subprocess.DEVNULL)
        return path

    ranges = folder / f'{stem}_ranges.json'
    if not ranges.exists():  # corrections of weights do not change times
        subprocess.run([o.command, 'calibrate', o.model, '-q', '-o', str(ranges), '--calib-data',
                        o.images, '--calib-images', str(IMAGES), '--no-equalize',
                        '--no-bias-correct', '--no-adaround'], check=True,
                       stdout=subprocess.DEVNULL)
    plain = export('fp32', '--precision', 'fp32')
    ours = {t: export(t, '--ranges', str(ranges), '--precision', 'int8', '--for', t)
            for t in ('onnxruntime', 'openvino')}
    import onnx
    first = onnx.load(plain, load_external_data=False).graph.input[0]
    size = [d.dim_value for d in first.type.tensor_type.shape.dim]
    own = {'onnxruntime': str(folder / f'{stem}_ort_quantizer.onnx'),
           'openvino': str(folder / f'{stem}_nncf.xml')}
    if not pathlib.Path(own['onnxruntime']).exists():
        onnxruntime_own(plain, own['onnxruntime'], o.images, first.name, size)
    if not pathlib.Path(own['openvino']).exists():
        nncf_own(plain, own['openvino'], o.images, size)

    image = next(pictures(o.images, size))
    make = {'onnxruntime': on_onnxruntime, 'openvino': on_openvino}
    print('| runtime | file | median ms | min ms | to its own quantizer |')
    print('|---|---|---|---|---|')
    for runtime in make:
        rows = [(label, make[runtime](path, o.threads, image)) for label, path in
                (('float32', plain), ('its own quantizer', own[runtime]), ('ours', ours[runtime]))]
        times = take_turns(rows, o.runs)
        for (label, _), t in zip(rows, times):
            ratio = statistics.median(a / b for a, b in zip(t, times[1]))  # of the same turn
            print(f'| {runtime} | {label} | {statistics.median(t):.2f} | {min(t):.2f} | {ratio:.3f}x |')


if __name__ == '__main__':
    main()
