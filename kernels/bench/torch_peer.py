#!/usr/bin/env python3
"""Times what PyTorch does for the shapes of an op log, on the same GPU and in the same way as `faultline bench kernels`: the cache of
the GPU is overwritten before every run, events around the run, the least of the runs. Prints one table line a shape.

  torch_peer.py OPS.jsonl [--seconds S] [--out PEER.jsonl]

FP8 GEMM is torch._scaled_mm with one scale a tensor (cuBLASLt); ours has a scale for each row or block as well. BF16 GEMM is torch.bmm.
MLA decode is softmax(Q K^T) V by torch.matmul over a bf16 cache (PyTorch has no FP8 attention), which moves twice our bytes."""
import argparse
import json
import statistics

import torch

parser = argparse.ArgumentParser()
parser.add_argument("log")
parser.add_argument("--seconds", type=float, default=0.1)
parser.add_argument("--out")
options = parser.parse_args()
cache = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")


def time_ns(work):
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    runs = []
    while len(runs) < 5 or (sum(runs) < options.seconds * 1e9 and len(runs) < 300):
        cache.fill_(len(runs) & 255)
        begin.record()
        work()
        end.record()
        end.synchronize()
        runs.append(begin.elapsed_time(end) * 1e6)
    return min(runs), statistics.median(runs)


def gemm(o):
    m, n, k, batch = o["m"], o["n"], o["k"], o.get("batch", 1)
    if o["precision"] == "bf16":
        a = torch.randn(batch, m, k, device="cuda", dtype=torch.bfloat16)
        w = torch.randn(batch, n, k, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
        out = torch.empty(batch, m, n, device="cuda", dtype=torch.bfloat16)
        return "torch.bmm bf16", lambda: torch.bmm(a, w, out=out)
    a = torch.randn(m, k, device="cuda").to(torch.float8_e4m3fn)
    w = torch.randn(n, k, device="cuda").to(torch.float8_e4m3fn).t()
    one = torch.ones((), device="cuda")
    return "cuBLASLt fp8", lambda: torch._scaled_mm(a, w, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def decode(o):
    s, h = o["sequences"], o["heads"]
    kv = torch.randn(s, o["context"] // s, 576, device="cuda", dtype=torch.bfloat16)
    q = torch.randn(s, h, 576, device="cuda", dtype=torch.bfloat16)
    return "torch attention bf16", lambda: torch.matmul(torch.softmax(torch.matmul(q, kv.transpose(1, 2)) * 0.07, -1), kv[:, :, :512])


def prefill(o):
    t, h = o["tokens"], o["heads"]
    q = torch.randn(1, h, t, 192, device="cuda", dtype=torch.bfloat16)
    k, v = torch.randn_like(q), torch.randn(1, h, t, 128, device="cuda", dtype=torch.bfloat16)
    return "torch sdpa bf16", lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


kinds = {"gemm": gemm, "decode_attention": decode, "prefill_attention": prefill}
lines = []
for text in open(options.log):
    o = json.loads(text)
    if o["kind"] not in kinds:
        continue
    shape = " ".join(f"{key}{o[key]}" for key in ("m", "n", "k", "batch", "sequences", "tokens", "context", "heads") if key in o)
    try:
        name, work = kinds[o["kind"]](o)
        least, median = time_ns(work)
    except RuntimeError as error:
        print(f"{o['op']:14} {o['precision']:8} {shape:44} not run: {str(error).splitlines()[0][:80]}")
        torch.cuda.empty_cache()
        continue
    print(f"{o['op']:14} {o['precision']:8} {shape:44} ours {o['ns'] / 1e3:9.1f} us  {name} {least / 1e3:9.1f} us  ratio {least / o['ns']:5.2f}", flush=True)
    lines.append(json.dumps({**o, "peer": name, "peer_ns": round(least), "peer_median_ns": round(median)}))
    del work
    torch.cuda.empty_cache()
if options.out:
    with open(options.out, "w") as file:
        file.write("\n".join(lines) + "\n")
