#!/usr/bin/env python3
"""Trains the sample's detector: a DAMO-YOLO Ns for the scenes that pquant-scenes draws.

    python3 sample/train.py --scenes build/release/pquant-scenes --out OUT [--seconds 420]

The network is DAMO-YOLO's Nano of the small kind (TinyNAS_mob, GiraffeNeckV2, ZeroHead), its
modules called as in the original's checkpoints, so that whatever reads those reads ours; the code
is our own. Scenes are drawn while training runs, kept as uint8 on the device, and mirrored,
transposed and recoloured there. Training ends when its time is over; the learning rate goes by time
too. OUT gets model.pth (float16 weights of the moving average) and log.txt, both all along the way.

    python3 sample/train.py --scenes ... --evaluate OUT/model.pth    # AP on the test scenes

Needs PyTorch and NumPy alone; a GPU with 40 GB for the default number of scenes.
"""
import argparse
import copy
import json
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SIDE, CLASSES, REG_MAX, STRIDES, MOST = 416, 10, 7, (8, 16, 32), 14
CHUNK = 512                     # scenes a run of the generator
TRAIN_SEED, TEST_SEED = 100000, 3   # of the first chunk; the demo's test scenes
CROWD = -2                      # minus the class: what need not be found; -1: no object

# ---- network ----


def norm(c):
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.03)


class ConvBN(nn.Module):
    """A convolution, its batch norm and SiLU; the names are the original's."""

    def __init__(self, i, o, k=1, stride=1, names=('conv', 'bn')):
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Conv2d(i, o, k, stride, k // 2, bias=False))
        self.add_module(names[1], norm(o))

    def forward(self, x):
        return F.silu(getattr(self, self.names[1])(getattr(self, self.names[0])(x)))


class Stem(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.conv = ConvBN(3, o, 3, 2, ('conv1', 'bn1'))

    def forward(self, x):
        return self.conv(x)


class Inverted(nn.Module):
    """Expand, depthwise 5x5, project. The backbone's list is idle in one place."""

    def __init__(self, i, o, inner, stride=1, idle=False):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(i, inner, 1, bias=False), norm(inner), nn.SiLU(),
            nn.Conv2d(inner, inner, 5, stride, 2, groups=inner, bias=False), norm(inner),
            *([nn.Identity()] if idle else []), nn.SiLU(),
            nn.Conv2d(inner, o, 1, bias=False), norm(o))
        self.add = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


class Pyramid(nn.Module):
    """Spatial pyramid pooling."""

    def __init__(self, c):
        super().__init__()
        self.conv1 = ConvBN(c, c // 2)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        self.conv2 = ConvBN(2 * c, c)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(torch.cat([x] + [m(x) for m in self.m], 1))


class Stage(nn.Module):
    def __init__(self, i, o, inner, blocks, stride, pool):
        super().__init__()
        self.block_list = nn.ModuleList([Inverted(i, o, inner, stride, True)])
        if pool:
            self.block_list.append(Pyramid(o))
        self.block_list.extend(Inverted(o, o, inner, 1, True) for _ in range(blocks - 1))

    def forward(self, x):
        for b in self.block_list:
            x = b(x)
        return x


class Backbone(nn.Module):
    STAGES = ((24, 88, 1, 2), (40, 160, 2, 2), (64, 288, 2, 2), (80, 400, 2, 1), (160, 880, 2, 2))

    def __init__(self):
        super().__init__()
        self.block_list = nn.ModuleList([Stem(16)])
        i = 16
        for k, (o, inner, blocks, stride) in enumerate(self.STAGES):
            self.block_list.append(Stage(i, o, inner, blocks, stride, k == 4))
            i = o

    def forward(self, x):
        out = []
        for k, b in enumerate(self.block_list):
            x = b(x)
            if k in (2, 4, 5):
                out.append(x)
        return out


class Down(nn.Module):
    """Depthwise stride 2, then pointwise."""

    def __init__(self, c):
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 3, 2, 1, groups=c, bias=False)
        self.dwnorm = norm(c)
        self.pointwise = nn.Conv2d(c, c, 1, bias=False)
        self.pwnorm = norm(c)

    def forward(self, x):
        return F.silu(self.pwnorm(self.pointwise(F.silu(self.dwnorm(self.depthwise(x))))))


class NeckBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = Inverted(c, c, (3 * c + 7) // 8 * 8)

    def forward(self, x):
        return self.conv(x)


class Merge(nn.Module):
    def __init__(self, i, o, blocks=2):
        super().__init__()
        first, mid = o // 2, o - o // 2
        self.conv1 = ConvBN(i, first)
        self.conv2 = ConvBN(i, mid)
        self.convs = nn.Sequential(*(NeckBlock(mid) for _ in range(blocks)))
        self.conv3 = ConvBN(mid * blocks + first, o)

    def forward(self, *x):
        x = torch.cat(x, 1)
        parts, y = [self.conv1(x)], self.conv2(x)
        for b in self.convs:
            y = b(y)
            parts.append(y)
        return self.conv3(torch.cat(parts, 1))


class Neck(nn.Module):
    def __init__(self, a=40, b=80, c=160):
        super().__init__()
        self.bu_conv13, self.merge_3 = Down(b), Merge(b + c, c)
        self.bu_conv24, self.merge_4 = Down(a), Merge(a + b + c, b)
        self.merge_5 = Merge(b + a, a)
        self.bu_conv57, self.merge_7 = Down(a), Merge(a + b, b)
        self.bu_conv46, self.bu_conv76, self.merge_6 = Down(b), Down(b), Merge(b + b + c, c)

    def forward(self, x2, x1, x0):
        x3 = self.merge_3(x0, self.bu_conv13(x1))
        x4 = self.merge_4(x1, self.bu_conv24(x2), F.interpolate(x3, scale_factor=2))
        x5 = self.merge_5(x2, F.interpolate(x4, scale_factor=2))
        x7 = self.merge_7(x4, self.bu_conv57(x5))
        return x5, x7, self.merge_6(x3, self.bu_conv46(x4), self.bu_conv76(x7))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.scale


class Head(nn.Module):
    def __init__(self, channels=(40, 80, 160)):
        super().__init__()
        self.gfl_cls = nn.ModuleList(nn.Conv2d(c, CLASSES, 1) for c in channels)
        self.gfl_reg = nn.ModuleList(nn.Conv2d(c, 4 * (REG_MAX + 1), 1) for c in channels)
        self.scales = nn.ModuleList(Scale() for _ in channels)
        for m in self.gfl_cls:
            nn.init.normal_(m.weight, std=0.01)
            nn.init.constant_(m.bias, -math.log(99))
        for m in self.gfl_reg:
            nn.init.normal_(m.weight, std=0.01)
            nn.init.zeros_(m.bias)

    def forward(self, levels):
        """Class logits [n, anchors, classes], logits of distances [n, anchors, 4, REG_MAX + 1]."""
        cls = [m(x).flatten(2) for m, x in zip(self.gfl_cls, levels)]
        reg = [s(m(x)).flatten(2) for s, m, x in zip(self.scales, self.gfl_reg, levels)]
        reg = torch.cat(reg, 2).transpose(1, 2)
        return (torch.cat(cls, 2).transpose(1, 2).float(),
                reg.unflatten(2, (4, REG_MAX + 1)).float())


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.neck, self.head = Backbone(), Neck(), Head()
        points, strides = [], []
        for s in STRIDES:
            at = torch.arange(SIDE // s) * s
            y, x = torch.meshgrid(at, at, indexing='ij')
            points.append(torch.stack([x.flatten(), y.flatten()], 1))
            strides.append(torch.full((x.numel(),), s))
        self.register_buffer('points', torch.cat(points).float(), persistent=False)
        self.register_buffer('strides', torch.cat(strides).float(), persistent=False)

    def forward(self, x):
        return self.head(self.neck(*self.backbone(x)))

    def boxes(self, reg):
        """x1 y1 x2 y2 in pixels from the logits of distances."""
        bins = torch.arange(REG_MAX + 1, device=reg.device, dtype=reg.dtype)
        d = (reg.softmax(-1) * bins).sum(-1) * self.strides[:, None]
        return torch.cat([self.points - d[..., :2], self.points + d[..., 2:]], -1)


# ---- loss ----


def iou(a, b, generalized=False):
    """Of boxes that broadcast."""
    lo, hi = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (hi - lo).clamp(min=0).prod(-1)
    area = [(t[..., 2:] - t[..., :2]).clamp(min=0).prod(-1) for t in (a, b)]
    union = area[0] + area[1] - both + 1e-6
    if not generalized:
        return both / union
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return both / union - (hull - union) / (hull + 1e-6)


@torch.no_grad()
def assign(scores, boxes, points, gt, label, most=10):
    """Which object each anchor is to find: per object the anchors inside it that agree best in
    class and place (score * iou^6), as in TOOD (Feng et al. 2021).
    scores [n, A, C], boxes [n, A, 4], gt [n, M, 4], label [n, M] -> object [n, A], target score
    [n, A] (0: background), ignored [n, A]."""
    p = points[None, None]
    inside = ((p > gt[:, :, None, :2]) & (p < gt[:, :, None, 2:])).all(-1)     # [n, M, A]
    ignored = (inside & (label <= CROWD)[..., None]).any(1)
    inside &= (label >= 0)[..., None]
    overlap = iou(gt[:, :, None], boxes[:, None]) * inside
    own = scores.transpose(1, 2).gather(
        1, label.clamp(min=0)[..., None].expand(-1, -1, scores.shape[1]))
    metric = own * overlap ** 6
    value, index = metric.topk(most, -1)
    chosen = torch.zeros_like(metric).scatter_(-1, index, (value > 0).to(metric.dtype))
    claimed = overlap * chosen
    best, which = claimed.max(1)                                               # [n, A]
    chosen = chosen * F.one_hot(which, gt.shape[1]).transpose(1, 2)
    metric = metric * chosen
    peak = metric.amax(-1, keepdim=True)
    fit = (overlap * chosen).amax(-1, keepdim=True)
    target = (metric / (peak + 1e-9) * fit).amax(1)
    return which, target * (best > 0), ignored & (best <= 0)


def losses(model, cls, reg, gt, label):
    boxes = model.boxes(reg)
    scores = cls.sigmoid()
    which, target, ignored = assign(scores, boxes, model.points, gt, label)
    n = target.sum().clamp(min=1)
    box = gt.gather(1, which[..., None].expand(-1, -1, 4))
    kind = F.one_hot(label.clamp(min=0).gather(1, which), CLASSES)
    wanted = kind * target[..., None]
    weight = (wanted - scores).pow(2) * ~ignored[..., None]
    l_cls = (weight * F.binary_cross_entropy_with_logits(cls, wanted, reduction='none')).sum() / n
    l_box = ((1 - iou(boxes, box, True)) * target).sum() / n
    d = torch.cat([model.points - box[..., :2], box[..., 2:] - model.points], -1)
    d = (d / model.strides[:, None]).clamp(0, REG_MAX - 0.01)
    left = d.floor().long()
    log = reg.log_softmax(-1)
    l_dfl = -(log.gather(-1, left[..., None])[..., 0] * (left + 1 - d) +
              log.gather(-1, left[..., None] + 1)[..., 0] * (d - left)).mean(-1)
    return l_cls, 2 * l_box, 0.5 * (l_dfl * target).sum() / n


# ---- scenes ----


def draw(tool, seed, count, threads=1):
    """Pixels [count, SIDE, SIDE, 3] uint8, boxes [count, MOST, 4], labels [count, MOST]."""
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        subprocess.run([tool, '--seed', str(seed), '--count', str(count), '--raw', '--threads',
                        str(threads), '--out', str(folder)], check=True, stdout=subprocess.DEVNULL)
        pixels = np.fromfile(folder / 'pixels.u8', np.uint8).reshape(count, SIDE, SIDE, 3)
        found = json.loads((folder / 'instances.json').read_text())['annotations']
    finally:
        shutil.rmtree(folder)
    boxes = np.zeros((count, MOST, 4), np.float32)
    labels = np.full((count, MOST), -1, np.int64)
    n = np.zeros(count, int)
    for a in found:
        i = a['image_id'] - 1
        x, y, w, h = a['bbox']
        boxes[i, n[i]] = x, y, x + w, y + h
        c = a['category_id'] - 1
        labels[i, n[i]] = CROWD - c if a['iscrowd'] else c
        n[i] += 1
    return torch.from_numpy(pixels), torch.from_numpy(boxes), torch.from_numpy(labels)


class Scenes:
    """Scenes on the device, more of them while time passes."""

    def __init__(self, tool, count, device, workers):
        self.count = max(count // CHUNK, 1) * CHUNK
        self.pixels = torch.empty(self.count, SIDE, SIDE, 3, dtype=torch.uint8, device=device)
        self.boxes = torch.empty(self.count, MOST, 4, device=device)
        self.labels = torch.empty(self.count, MOST, dtype=torch.long, device=device)
        self.n, self.lock = 0, threading.Lock()
        pool = ThreadPoolExecutor(workers)
        self.work = [pool.submit(self.add, tool, TRAIN_SEED + i)
                     for i in range(self.count // CHUNK)]
        pool.shutdown(wait=False)

    def add(self, tool, seed):
        part = draw(tool, seed, CHUNK)
        with self.lock:
            at = slice(self.n, self.n + CHUNK)
            for to, new in zip((self.pixels, self.boxes, self.labels), part):
                to[at] = new.to(to.device)
            if to.is_cuda:
                torch.cuda.synchronize()
            self.n += CHUNK

    def wait(self, n):
        while self.n < min(n, self.count):
            for w in self.work:
                if w.done():
                    w.result()
            time.sleep(0.05)

    def batch(self, size, parts=4):
        """Input [size, 3, SIDE, SIDE], boxes, labels; parts are mirrored and recoloured."""
        index = torch.randint(self.n, (size,), device=self.pixels.device)
        x, gt = self.pixels[index].permute(0, 3, 1, 2), self.boxes[index]
        out = []
        for x, gt in zip(x.chunk(parts), gt.chunk(parts)):
            x = x[:, np.random.permutation(3)]
            if np.random.rand() < 0.5:
                x, gt = x.flip(3), gt[..., [2, 1, 0, 3]] * gt.new_tensor([-1, 1, -1, 1]) + \
                    gt.new_tensor([SIDE, 0, SIDE, 0])
            if np.random.rand() < 0.5:
                x, gt = x.transpose(2, 3), gt[..., [1, 0, 3, 2]]
            out.append((x, gt))
        return torch.cat([o[0] for o in out]), torch.cat([o[1] for o in out]), self.labels[index]


# ---- figures ----


def suppress(boxes, scores, most=0.65):
    order, kept = np.argsort(-scores, kind='stable'), []
    while order.size:
        i, rest = order[0], order[1:]
        kept.append(i)
        lo = np.maximum(boxes[i, :2], boxes[rest, :2])
        hi = np.minimum(boxes[i, 2:], boxes[rest, 2:])
        both = np.clip(hi - lo, 0, None).prod(1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        order = rest[both / (area[i] + area[rest] - both) <= most]
    return kept


@torch.no_grad()
def detect(model, pixels, device, size=50, least=0.03):
    """Of each picture: boxes [n, 4], scores [n], classes [n], best first, at most 100 a class."""
    model.eval()
    found = []
    for at in range(0, len(pixels), size):
        cls, reg = model(pixels[at:at + size].to(device).permute(0, 3, 1, 2).float())
        for s, b in zip(cls.sigmoid().cpu().numpy(), model.boxes(reg).cpu().numpy()):
            parts = []
            for c in range(CLASSES):
                k = np.nonzero(s[:, c] > least)[0]
                k = k[suppress(b[k], s[k, c])][:100]
                parts.append((b[k], s[k, c], np.full(k.size, c)))
            b, s, c = (np.concatenate(p) for p in zip(*parts))
            order = np.argsort(-s, kind='stable')
            found.append((b[order], s[order], c[order]))
    return found


def average_precision(found, gt, label):
    """COCO's AP over IoU 0.50 .. 0.95 and at 0.50, crowd regions ignored; areas do not count."""
    grid, out = np.linspace(0.5, 0.95, 10), []
    for c in range(CLASSES):
        scores, hits, skips, total = [], [], [], 0
        for (b, s, k), g, lab in zip(found, gt, label):
            mine, crowd, b, s = g[lab == c], g[lab == CROWD - c], b[k == c], s[k == c]
            total += len(mine)
            taken = np.zeros((10, len(mine)), bool)
            for box, score in zip(b, s):
                lo, hi = np.maximum(box[:2], g[:, :2]), np.minimum(box[2:], g[:, 2:])
                both = np.clip(hi - lo, 0, None).prod(1)
                own = (box[2:] - box[:2]).prod()
                over = (both / (own + (g[:, 2:] - g[:, :2]).prod(1) - both))[lab == c]
                hit = np.zeros(10, bool)
                if len(mine):
                    free = np.where(taken, -1, over)
                    best = free.argmax(1)
                    hit = free[np.arange(10), best] >= grid
                    taken[hit, best[hit]] = True
                inside = both[lab == CROWD - c].max() / own if len(crowd) else 0
                scores.append(score)
                hits.append(hit)
                skips.append(~hit & (inside >= grid))
        if not total:
            continue
        order = np.argsort(-np.array(scores), kind='stable')
        hits = np.array(hits, bool).reshape(-1, 10)[order]
        skips = np.array(skips, bool).reshape(-1, 10)[order]
        ap = []
        for t in range(10):
            h = hits[~skips[:, t], t]
            tp = h.cumsum()
            precision = np.maximum.accumulate((tp / np.arange(1, h.size + 1))[::-1])[::-1]
            at = np.searchsorted(tp / total, np.linspace(0, 1, 101))
            ap.append(np.append(precision, 0)[np.minimum(at, h.size)].mean())
        out.append(ap)
    out = np.array(out)
    return out.mean(), out[:, 0].mean()


# ---- training ----


def flat(state):
    """The same tensors as parts of one storage each type: an archive of few, large members."""
    out = dict(state)
    for dtype in {v.dtype for v in state.values()}:
        names = [k for k, v in state.items() if v.dtype == dtype]
        parts = torch.cat([state[k].flatten() for k in names])
        parts = parts.split([state[k].numel() for k in names])
        out.update({k: p.view(state[k].shape) for k, p in zip(names, parts)})
    return out


def save(model, path):
    """As the original does: {'model': state dict}. Convolutions float16, the rest float32."""
    state = {k: v.detach().cpu().half() if v.dim() == 4 else v.detach().cpu().float()
             for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    torch.save({'model': flat(state)}, path.with_suffix('.part'))
    path.with_suffix('.part').replace(path)


def load(model, path):
    state = torch.load(path, map_location='cpu', weights_only=True)['model']
    missing, left = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not left and all(k.endswith('num_batches_tracked') for k in missing), (missing, left)


def groups(model, decay):
    plain = [p for p in model.parameters() if p.dim() < 4]
    return [{'params': [p for p in model.parameters() if p.dim() == 4], 'weight_decay': decay},
            {'params': plain, 'weight_decay': 0.0}]


class Trainer:
    def __init__(self, args, device, log):
        self.args, self.device, self.log = args, device, log
        self.model = Detector().to(device)
        self.average = copy.deepcopy(self.model).eval()
        self.scenes = Scenes(args.scenes, args.count, device, args.workers)
        self.optimizer = self.new_optimizer()
        self.layout = torch.channels_last
        self.steps, self.pairs = 0, None

    def new_optimizer(self):
        return torch.optim.AdamW(groups(self.model, self.args.decay), lr=self.args.rate)

    def step(self):
        x, gt, label = self.scenes.batch(self.args.batch)
        x = x.float().contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == 'cuda'):
            cls, reg = self.model(x)
        parts = losses(self.model, cls, reg, gt, label)
        self.optimizer.zero_grad(set_to_none=True)
        sum(parts).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10)
        self.optimizer.step()
        return torch.stack(parts).detach()

    @torch.no_grad()
    def follow(self):
        """The moving average, quick at first."""
        self.steps += 1
        keep = min(0.999, (1 + self.steps) / (20 + self.steps))
        if self.pairs is None:
            both = zip(self.average.state_dict().values(), self.model.state_dict().values())
            self.pairs = tuple(zip(*(p for p in both if p[0].is_floating_point())))
        torch._foreach_lerp_(*self.pairs, 1 - keep)

    def choose_layout(self):
        """Depthwise convolutions differ much in which memory layout is fast."""
        took = {}
        before = copy.deepcopy(self.model.state_dict())
        for layout in (torch.contiguous_format, torch.channels_last):
            self.layout = layout
            self.model.to(memory_format=layout)
            self.optimizer = self.new_optimizer()
            for i in range(8):
                if i == 3:
                    torch.cuda.synchronize()
                    start = time.time()
                self.step()
            torch.cuda.synchronize()
            took[layout] = (time.time() - start) / 5
        self.layout = min(took, key=took.get)
        self.log(' '.join(f'{k}: {1e3 * v:.0f} ms a step;' for k, v in took.items()))
        self.model.to(memory_format=self.layout)
        self.model.load_state_dict(before)
        self.optimizer = self.new_optimizer()

    def figures(self, test):
        found = detect(self.average, test[0], self.device)
        return average_precision(found, test[1].numpy(), test[2].numpy())

    def run(self, out):
        args = self.args
        test = draw(args.scenes, TEST_SEED, args.test, args.workers)
        self.scenes.wait(4096)
        if self.device.type == 'cuda':
            self.choose_layout()
        start = shown = saved = time.time()
        seen, total = 0, torch.zeros(3, device=self.device)
        while True:
            done = (time.time() - start) / args.seconds
            if done >= 1:
                break
            fall = 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
            rate = args.rate * min(1, done / 0.04) * fall
            for g in self.optimizer.param_groups:
                g['lr'] = rate
            total += self.step()
            self.follow()
            seen += 1
            if seen % 10 == 0 and time.time() - shown > args.every / 6:
                part = (total / seen).tolist()
                now = time.time()
                self.log(f'{now - start:5.0f} s  step {self.steps:6}  rate {rate:.5f}  loss class '
                         f'{part[0]:.4f} box {part[1]:.4f} distance {part[2]:.4f}  '
                         f'{seen * args.batch / (now - shown):.0f} images/s  '
                         f'{self.scenes.n} scenes')
                shown, seen, total = now, 0, torch.zeros_like(total)
            if time.time() - saved > args.every:
                ap = self.figures(test)
                save(self.average, out / 'model.pth')
                self.log(f'{time.time() - start:5.0f} s  AP {ap[0]:.4f}  AP50 {ap[1]:.4f}')
                saved = shown = time.time()
                seen, total = 0, torch.zeros_like(total)
        ap = self.figures(test)
        save(self.average, out / 'model.pth')
        self.log(f'end, {self.steps} steps of {args.batch}: AP {ap[0]:.4f}  AP50 {ap[1]:.4f}')


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--scenes', required=True, help='the generator, pquant-scenes')
    p.add_argument('--out', type=pathlib.Path, help='folder for model.pth and log.txt')
    p.add_argument('--evaluate', type=pathlib.Path, help='a model.pth: its AP, no training')
    p.add_argument('--seconds', type=float, default=420)
    p.add_argument('--batch', type=int, default=128)
    p.add_argument('--count', type=int, default=60000, help='training scenes')
    p.add_argument('--test', type=int, default=200, help='test scenes')
    p.add_argument('--rate', type=float, default=0.003)
    p.add_argument('--decay', type=float, default=0.02)
    p.add_argument('--every', type=float, default=60, help='seconds between two evaluations')
    p.add_argument('--workers', type=int, default=max(1, (os.cpu_count() or 2) - 4))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = p.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(1)
    np.random.seed(1)
    torch.backends.cudnn.benchmark = True
    if args.evaluate:
        model = Detector().to(device)
        load(model, args.evaluate)
        test = draw(args.scenes, TEST_SEED, args.test, args.workers)
        ap = average_precision(detect(model, test[0], device), test[1].numpy(), test[2].numpy())
        print(f'AP {ap[0]:.4f}  AP50 {ap[1]:.4f}')
        return
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / 'log.txt', 'w', encoding='utf-8') as f:
        def log(text):
            print(text, flush=True)
            f.write(text + '\n')
            f.flush()
        name = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
        hidden = ('out', 'scenes', 'evaluate')
        shown = [f'{k}={v}' for k, v in vars(args).items() if k not in hidden]
        log(f'PyTorch {torch.__version__}, {name}; ' + ' '.join(shown))
        Trainer(args, device, log).run(args.out)


if __name__ == '__main__':
    main()
