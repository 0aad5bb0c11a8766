#!/usr/bin/env python3
"""NNCF's quantize_with_accuracy_control against `pquant run` on YOLOX-nano: the same calibration
images, the same evaluation images, a drop of at most 0.003 AP.

    tools/compare/nncf_accuracy_control.py [--limit 900] [--threads 2]

Needs nncf, openvino, pycocotools, opencv-python-headless and numpy. NNCF is stopped after --limit
seconds of processor time; what it had reported until then is shown. The figures of both come from pycocotools or,
ours, from pquant, which agrees with it (tests/evaluate)."""
import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import re
import sys

import common

SIZE, STRIDES = 416, (8, 16, 32)


def load(path):
    """Letterbox at the top left, BGR 0..255."""
    import cv2
    import numpy as np
    image = cv2.imread(str(path))
    h, w = image.shape[:2]
    ratio = min(SIZE / h, SIZE / w)
    x = np.full((SIZE, SIZE, 3), 114, np.uint8)
    small = cv2.resize(image, (int(w * ratio), int(h * ratio)), interpolation=cv2.INTER_LINEAR)
    x[:small.shape[0], :small.shape[1]] = small
    return x.transpose(2, 0, 1)[None].astype(np.float32), ratio


def boxes_of(out, ratio):
    import cv2
    import numpy as np
    grid, stride = [], []
    for s in STRIDES:
        n = SIZE // s
        grid.append(np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2))
        stride.append(np.full((n * n, 1), s))
    grid, stride = np.concatenate(grid), np.concatenate(stride)
    xy, wh = (out[:, :2] + grid) * stride, np.exp(out[:, 2:4]) * stride
    scores = out[:, 4:5] * out[:, 5:]
    anchor, cls = np.nonzero(scores > 0.01)
    if not len(anchor):
        return []
    box = np.concatenate([(xy - wh / 2) / ratio, wh / ratio], 1)[anchor]
    score = scores[anchor, cls]
    keep = cv2.dnn.NMSBoxesBatched(box.tolist(), score.tolist(), cls.tolist(), 0.01, 0.65)
    keep = sorted(np.array(keep).reshape(-1), key=lambda i: -score[i])[:300]
    return [(box[i], float(score[i]), int(cls[i])) for i in keep]


def average_precision(coco, results):
    from pycocotools.cocoeval import COCOeval
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        e = COCOeval(coco, coco.loadRes(results), 'bbox')
        e.evaluate()
        e.accumulate()
        e.summarize()
    return float(e.stats[0])


def accuracy_control(options, report):
    """In a process of its own, so that it can be stopped."""
    import nncf
    import openvino as ov
    from pycocotools.coco import COCO
    place = common.Place(options, 'nncf')
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(place.ann))
    categories = sorted(coco.cats)
    images = [(i, place.val / coco.imgs[i]['file_name']) for i in sorted(coco.imgs)]
    inputs = {i: load(p) for i, p in images}
    calibration = [load(p)[0] for p in sorted(place.train.iterdir())[:128]]
    core = ov.Core()
    # Without the hint OpenVINO computes in bfloat16 where the processor can, and NNCF in float32.
    core.set_property('CPU', {'INFERENCE_NUM_THREADS': options.threads,
                              'INFERENCE_PRECISION_HINT': 'f32'})
    model = core.read_model(str(place.model('yolox_nano.onnx')))

    def validate(compiled, loader):
        results = []
        for i in loader:
            x, ratio = inputs[i]
            out = list(compiled([x]).values())[0][0]
            results += [{'image_id': i, 'category_id': categories[c], 'score': s,
                         'bbox': [float(v) for v in b]} for b, s, c in boxes_of(out, ratio)]
        report.put(('evaluated', len(loader)))
        return average_precision(coco, results) if len(loader) == len(images) else 0.0

    quantized = nncf.quantize_with_accuracy_control(
        model, calibration_dataset=nncf.Dataset(calibration),
        validation_dataset=nncf.Dataset([i for i, _ in images]),
        validation_fn=lambda m, d: validate(m, list(d)), max_drop=0.003,
        preset=nncf.QuantizationPreset.MIXED, subset_size=len(calibration))
    out = place.work / 'nncf.xml'
    ov.save_model(quantized, str(out))
    ap = validate(core.compile_model(quantized, 'CPU'), [i for i, _ in images])
    full = validate(core.compile_model(model, 'CPU'), [i for i, _ in images])
    report.put(('done', (full, ap)))


def main_of(options, report, log):
    """Standard output and error of NNCF into a file."""
    with open(log, 'w', buffering=1) as f, contextlib.redirect_stdout(f), \
            contextlib.redirect_stderr(f):
        import logging
        logging.basicConfig(stream=f, level=logging.INFO, force=True)
        logging.getLogger('nncf').addHandler(logging.StreamHandler(f))
        accuracy_control(options, report)


def cpu_seconds(pid):
    """Processor time of a process and its threads: it goes on counting nothing while it is paused."""
    try:
        fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def run_nncf(options):
    log = common.Place(options, 'nncf').work / 'nncf.log'
    report = multiprocessing.Queue()
    worker = multiprocessing.Process(target=main_of, args=(options, report, log))
    evaluations, done, seconds = 0, None, 0.0
    worker.start()
    while done is None and worker.is_alive() and seconds < options.limit:
        with contextlib.suppress(Exception):
            kind, value = report.get(timeout=1)
            evaluations += kind == 'evaluated'
            done = value if kind == 'done' else None
        seconds = max(seconds, cpu_seconds(worker.pid))
    if worker.is_alive():
        worker.terminate()
    worker.join()
    words = log.read_text()
    reverted = sum(int(n) for n in re.findall(r'^INFO:nncf:Reverted (\d+) oper', words, re.M))
    kept = re.search(r'^INFO:nncf:(\d+) out of \d+ were reverted', words, re.M)
    reverted = int(kept[1]) if kept else reverted  # it takes back what did not help
    drops = re.findall(r'^INFO:nncf:Accuracy drop: (-?[\d.]+)', words, re.M)
    if done is None and drops:  # what it had come to
        full = float(re.search(r'^INFO:nncf:Metric of initial model: ([\d.]+)', words, re.M)[1])
        return (full, full - float(drops[-1])), seconds, evaluations, reverted, 'stopped'
    return done, seconds, evaluations, reverted, 'finished' if done else 'stopped'


def main():
    p = common.arguments(__doc__.split('\n', maxsplit=1)[0], limit=900, threads=2,
                         only='both')
    o = p.parse_args()
    place = common.Place(o, 'nncf')
    rows = []
    if o.only in ('both', 'ours'):
        out = place.work / 'ours'
        result, seconds = common.run(place, place.model('yolox_nano.onnx'), out, '--max-drop', 0.3,
                                     '--threads', o.threads)
        full, part = (common.row(result, n) for n in ('fp32', 'partial'))
        rows.append(['pquant run', f'{seconds:.0f}', f'{common.ap_of(full):.4f}',
                     f'{common.ap_of(part):.4f}',
                     f'{common.ap_of(full) - common.ap_of(part):+.4f}', len(common.kept(result)),
                     f'{100 * part["int8_mac_share"]:.1f} % of the arithmetic in INT8, '
                     f'{part["speedup"]:.2f}x'])
    if o.only in ('both', 'nncf'):
        done, seconds, evaluations, reverted, how = run_nncf(o)
        full, ap = done or (float('nan'), float('nan'))
        rows.append(['NNCF, accuracy control', f'{seconds:.0f}', f'{full:.4f}', f'{ap:.4f}',
                     f'{full - ap:+.4f}', reverted,
                     f'{evaluations} evaluations; {how}'])
    common.table(['way', 's', 'AP full', 'AP', 'drop', 'in full precision', ''], rows)
    (place.work / 'nncf.json').write_text(json.dumps(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())
