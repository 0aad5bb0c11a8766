#!/usr/bin/env python3
"""torch.compile in float16 on our folded ONNX: the peer of the cuda engine.

torch_compile.py MODEL.onnx [--batch N] [--runs N] [--mode default|max-autotune]
The ONNX file (pquant export --precision fp32) is turned into PyTorch calls node by node, compiled,
captured in a CUDA graph and timed with events: device time, network and decoding without NMS, the
median of the runs. One JSON line on stdout.
"""
import argparse
import fcntl
import json
import statistics

import numpy as np
import onnx
import torch
import torch._inductor.config
import torch.nn.functional as F
from onnx import numpy_helper


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


class Folded(torch.nn.Module):
    """The nodes of an ONNX graph as PyTorch calls; float constants in half precision."""

    def __init__(self, model, batch):
        super().__init__()
        self.model, self.batch = model, batch
        self.constant = {}
        self.scales = {}
        for t in model.graph.initializer:
            self.keep(t.name, numpy_helper.to_array(t))
        for n in model.graph.node:
            if n.op_type == "Constant":
                self.keep(n.output[0], numpy_helper.to_array(attributes(n)["value"]))
        self.nodes = [(n.op_type, list(n.input), list(n.output), attributes(n))
                      for n in model.graph.node if n.op_type != "Constant"]
        self.inputs = [i.name for i in model.graph.input if i.name not in self.constant]
        self.outputs = [o.name for o in model.graph.output]

    def keep(self, name, array):
        array = np.array(array)
        self.constant[name] = array
        if array.size == 4:  # of a Resize, wanted on the host
            self.scales[name] = array.reshape(-1).tolist()
        if array.dtype == np.float32:
            key = "c%d" % len(self.constant)
            t = torch.from_numpy(array).half()
            if t.dim() == 4:
                t = t.contiguous(memory_format=torch.channels_last)
            self.register_buffer(key, t)
            self.constant[name] = key

    def forward(self, x):
        v = {self.inputs[0]: x}

        def get(name):
            if name in v:
                return v[name]
            c = self.constant[name]
            return getattr(self, c) if isinstance(c, str) else c

        def ints(name):
            c = self.constant[name]
            return [int(i) for i in np.array(c).reshape(-1)]

        for op, i, o, a in self.nodes:
            y = None
            if op == "Conv":
                pad = a.get("pads", [0, 0, 0, 0])
                assert pad[:2] == pad[2:]
                y = F.conv2d(get(i[0]), get(i[1]), get(i[2]) if len(i) > 2 else None,
                             stride=a.get("strides", [1, 1]), padding=pad[:2],
                             dilation=a.get("dilations", [1, 1]), groups=a.get("group", 1))
            elif op == "Relu":
                y = F.relu(get(i[0]))
            elif op == "Sigmoid":
                y = torch.sigmoid(get(i[0]))
            elif op == "Softmax":
                y = torch.softmax(get(i[0]), dim=a.get("axis", -1))
            elif op in ("Add", "Sub", "Mul", "Div"):
                p, q = (torch.as_tensor(t, device=x.device) if isinstance(t, np.ndarray) else t
                        for t in (get(i[0]), get(i[1])))
                y = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}[op](p, q)
            elif op == "Concat":
                y = torch.cat([get(k) for k in i], dim=a["axis"])
            elif op == "MaxPool":
                y = F.max_pool2d(get(i[0]), a["kernel_shape"], a.get("strides", [1, 1]), a["pads"][:2])
            elif op == "Resize":
                t = get(i[0])
                sizes = ints(i[3])[2:] if len(i) > 3 and i[3] else None
                if sizes is None:
                    s = self.scales[i[2]]
                    sizes = [int(round(t.shape[2] * float(s[2]))), int(round(t.shape[3] * float(s[3])))]
                y = F.interpolate(t, size=sizes, mode="nearest")
            elif op == "Reshape":
                shape = ints(i[1])
                shape[0] = self.batch if shape[0] == 1 else shape[0]
                y = get(i[0]).reshape(shape)
            elif op == "Transpose":
                y = get(i[0]).permute(a["perm"])
            elif op == "Slice":
                y = get(i[0])
                axes = ints(i[3]) if len(i) > 3 else list(range(len(ints(i[1]))))
                steps = ints(i[4]) if len(i) > 4 else [1] * len(axes)
                for axis, b, e, s in zip(axes, ints(i[1]), ints(i[2]), steps):
                    index = [slice(None)] * y.dim()
                    index[axis] = slice(b, min(e, y.shape[axis]), s)
                    y = y[tuple(index)]
            elif op == "ReduceSum":
                axes = ints(i[1]) if len(i) > 1 else a["axes"]
                y = get(i[0]).sum(dim=axes, keepdim=bool(a.get("keepdims", 1)))
            elif op == "MatMul":
                y = torch.matmul(get(i[0]), get(i[1]))
            elif op == "Squeeze":
                y = get(i[0]).squeeze(ints(i[1])[0] if len(i) > 1 else a["axes"][0])
            elif op == "Unsqueeze":
                y = get(i[0]).unsqueeze(ints(i[1])[0] if len(i) > 1 else a["axes"][0])
            elif op == "Identity":
                y = get(i[0])
            elif op == "Cast":
                y = get(i[0])
            elif op == "Split":
                parts = torch.split(get(i[0]), ints(i[1]) if len(i) > 1 else a["split"], a.get("axis", 0))
                for name, part in zip(o, parts):
                    v[name] = part
                continue
            else:
                raise NotImplementedError(op)
            v[o[0]] = y
        return tuple(v[name] for name in self.outputs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--mode", default="default")
    parser.add_argument("--layout", default="forced", choices=("forced", "chosen"),
                        help="channels last throughout, or where the compiler chooses it")
    parser.add_argument("--lock", help="file to hold locked while timing, so that nobody else times")
    parser.add_argument("--check", action="store_true", help="run once on the CPU, uncompiled")
    o = parser.parse_args()
    model = onnx.load(o.model)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    shape[0] = o.batch
    net = Folded(model, o.batch).eval()
    if o.check:
        with torch.no_grad():
            for y in net.float()(torch.randint(0, 256, shape).float()):
                print(list(y.shape), float(y.sum()))
        return
    torch.backends.cudnn.benchmark = True
    torch._inductor.config.force_layout_optimization = o.layout == "forced"
    net = net.cuda()
    x = torch.randint(0, 256, shape, device="cuda").half().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        run = torch.compile(net, mode=None if o.mode == "default" else o.mode + "-no-cudagraphs")
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                run(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run(x)
        if o.lock:
            lock = open(o.lock, "w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        ms = []
        flush = torch.empty(5 << 20, dtype=torch.uint8, device="cuda")
        host = torch.empty(5 << 20, dtype=torch.uint8).pin_memory()
        for k in range(o.runs + 20):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            flush.copy_(host, non_blocking=True)  # as an input would be, and so that launching is hidden
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            if k >= 20:
                ms.append(begin.elapsed_time(end))
    ms.sort()
    print(json.dumps({"engine": "torch.compile", "torch": torch.__version__, "mode": o.mode,
                      "precision": "fp16", "batch": o.batch, "median_ms": statistics.median(ms),
                      "min_ms": ms[0], "p90_ms": ms[int(0.9 * len(ms))]}))


if __name__ == "__main__":
    main()
