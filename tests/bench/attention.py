"""Attention of a chunk and causal attention: `weir bench prefill` beside PyTorch's flash attention (FA2) and cuDNN's, in one run on one
GPU, taking turns so that clocks and heat are the same for all. Needs PyTorch.

    python3 tests/bench/attention.py [path of weir] [sweeps]

FA2 gets the chunk's causal mask over all keys; cuDNN's attention through PyTorch has no such mask, so there it sees every key of the
chunk too. Neither scores keys nor evicts any.
"""
import json
import statistics
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, KV_HEADS, SINKS = 32, 8, 64


def tensors(tokens, keys, d):
    q = torch.randn(1, tokens, HEADS, d, device="cuda", dtype=torch.bfloat16)
    k = torch.randn(1, keys, KV_HEADS, d, device="cuda", dtype=torch.bfloat16)
    return q, k, torch.randn_like(k)


def flash(tokens, keys, d):
    q, k, v = tensors(tokens, keys, d)
    return lambda: torch.ops.aten._flash_attention_forward(q, k, v, None, None, tokens, keys, 0.0, True, False)


def cudnn(tokens, keys, d):
    q, k, v = (x.transpose(1, 2) for x in tensors(tokens, keys, d))
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 1) for x in (k, v))

    def run():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            F.scaled_dot_product_attention(q, k, v, is_causal=tokens == keys)

    return run


def milliseconds(run, repeats=7):
    run()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(marks, marks[1:]))


def weir(path, d):
    command = [path, "bench", "prefill", "-o", "json", "--head-dim", str(d)]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {(row["work"], row["part"]): row["ms"] for row in rows}


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "build/weir"
    sweeps = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    print("| work | part | weir ms | FA2 ms | FA2 / weir | cuDNN ms |\n|---|---|---:|---:|---:|---:|")
    for d in (128, 64):
        shapes = {"chunk": (4096, SINKS + 16384 + 4096), "causal T=8192": (8192, 8192), "causal T=16384": (16384, 16384)}
        others = {name: (flash(*s, d), cudnn(*s, d)) for name, s in shapes.items()}
        times = {name: ([], []) for name in shapes}
        ours = {}
        for _ in range(sweeps):
            for row, ms in weir(path, d).items():
                ours.setdefault(row, []).append(ms)
            for name, runs in others.items():
                for run, list_of_times in zip(runs, times[name]):
                    list_of_times.append(milliseconds(run))
        for (work, part), ms in ours.items():
            name = next(n for n in shapes if work.startswith(n))
            mine, fa2, cu = (statistics.median(x) for x in (ms, *times[name]))
            beside = part.startswith(("attn_prefill", "whole"))
            print(f"| {work} | {part} | {mine:.3f} | " + (f"{fa2:.3f} | {fa2 / mine:.2f} | {cu:.3f} |" if beside else "- | - | - |"))


if __name__ == "__main__":
    main()
