#!/usr/bin/env python3
"""Detectors as their own projects export them, through our reader and engines, beside ONNX Runtime.

tests/peers/exports.py PQ_PEER_MODEL [ENGINE...]     (exit 77 where a package is missing)

Ultralytics' YOLO families and torchvision's SSD, RetinaNet and FCOS (backbone and head), with random
weights and spread normalisation, at 320 x 320 on one random image. A Markdown row each: operators,
what the head is taken for, the largest difference from ONNX Runtime by the largest output.
"""
import os
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
try:
    import numpy as np
    import onnxruntime
    import torch
    from torchvision.models import detection
    from ultralytics import YOLO
except ImportError as e:
    print("skipped: %s" % e, file=sys.stderr)
    sys.exit(77)

SIDE = 320
ULTRALYTICS = "yolov3-tiny yolov5n yolov6n yolov8n yolov9t yolov10n yolo11n yolo12n".split()
TORCHVISION = "ssdlite320_mobilenet_v3_large ssd300_vgg16 retinanet_resnet50_fpn_v2 fcos_resnet50_fpn".split()


class Raw(torch.nn.Module):
    """What torchvision's detectors compute before boxes are made of it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        maps = self.model.backbone(x)
        maps = list(maps.values()) if isinstance(maps, dict) else [maps]
        return tuple(self.model.head(maps).values())


def spread(model):
    """Normalisation as after training, so that no value is 0 or alike everywhere."""
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.uniform_(-0.2, 0.2)
            m.running_var.uniform_(0.5, 1.5)


def export(name, folder):
    torch.manual_seed(0)
    path = os.path.join(folder, name + ".onnx")
    if name in ULTRALYTICS:
        os.chdir(folder)
        net = YOLO(name + ".yaml", verbose=False)
        spread(net.model)
        os.replace(net.export(format="onnx", imgsz=SIDE, opset=13, simplify=False, verbose=False), path)
        return path
    net = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    spread(net)
    side = 300 if "300" in name else SIDE
    torch.onnx.export(Raw(net), (torch.rand(1, 3, side, side),), path, opset_version=17, dynamo=False)
    return path


def main():
    program, engines = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["cpu"]
    command = os.path.join(os.path.dirname(program), "..", "..", "pquant")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print("| export | quantizable operators | head | " + " | ".join(engines) + " |")
    print("|---|---|---|" + "---|" * len(engines))
    with tempfile.TemporaryDirectory() as folder:
        given, got = os.path.join(folder, "in"), os.path.join(folder, "out")
        for name in ULTRALYTICS + TORCHVISION:
            path = export(name, folder)
            session = onnxruntime.InferenceSession(path, options)
            x = np.random.default_rng(0).random(session.get_inputs()[0].shape, dtype=np.float32)
            x.tofile(given)
            want = np.concatenate([y.ravel() for y in session.run(None, {session.get_inputs()[0].name: x})])
            told = subprocess.run([command, "inspect", path], capture_output=True, text=True, check=True).stdout
            of = {line.split()[0]: line for line in told.splitlines() if line}
            row = []
            for engine in engines:
                subprocess.run([program, "outputs", path, engine, given, got], check=True)
                row.append("%.1e" % (np.abs(np.fromfile(got, dtype=np.float32) - want).max() / np.abs(want).max()))
            print("| %s | %s | %s | %s |" % (name, of["quantizable"].split()[-1],
                                            of["head"].split()[1].rstrip(",").replace("not", "not known"),
                                            " | ".join(row)), flush=True)
            os.remove(path)


if __name__ == "__main__":
    main()
