"""Makes smollm2.txt: likelihoods of SmolLM2-135M-Instruct, by numpy in double precision, full attention.

    pip install gguf numpy && python tests/vectors/smollm2.py MODEL.gguf < ids.txt > tests/vectors/smollm2.txt

A line is: token, and its negative log-likelihood in nats after all tokens before it (nan for the first). The tokens are those
that llama.cpp's tokenizer gives for smollm2_text.txt (the beginning of Pride and Prejudice); ids.txt holds them one a line,
so that the first column of smollm2.txt serves as well. Weights are expanded by the Python package gguf (0.19.0, by ggml's
authors); the forward pass below is written from the model's description and shares nothing with this project.
"""
import sys
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

reader = GGUFReader(sys.argv[1])
weight = {t.name: dequantize(t.data, t.tensor_type).astype(np.float64).reshape([int(n) for n in t.shape[::-1]])
          for t in reader.tensors}
tokens = [int(line.split()[0]) for line in sys.stdin if line.strip()]
n, layers, heads, kv_heads, d, base, eps = len(tokens), 30, 9, 3, 64, 100000.0, np.float32(1e-5)

angle = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / d)
cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
later = np.triu(np.full((n, n), -np.inf), 1)


def norm(x, name):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight[name + ".weight"]


def turn(x):  # GGUF files of the llama architecture order q and k so that neighbours turn together
    y = np.empty_like(x)
    y[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    y[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return y


x = weight["token_embd.weight"][tokens]
for layer in range(layers):
    def times(h, name):
        return h @ weight[f"blk.{layer}.{name}.weight"].T

    h = norm(x, f"blk.{layer}.attn_norm")
    q = turn(times(h, "attn_q").reshape(n, heads, d))
    k = turn(times(h, "attn_k").reshape(n, kv_heads, d))
    v = times(h, "attn_v").reshape(n, kv_heads, d)
    out = np.empty((n, heads, d))
    for head in range(heads):
        kv = head // (heads // kv_heads)
        s = q[:, head] @ k[:, kv].T / np.sqrt(d) + later
        p = np.exp(s - s.max(-1, keepdims=True))
        out[:, head] = p / p.sum(-1, keepdims=True) @ v[:, kv]
    x = x + times(out.reshape(n, -1), "attn_output")
    h = norm(x, f"blk.{layer}.ffn_norm")
    gate = times(h, "ffn_gate")
    x = x + times(gate / (1 + np.exp(-gate)) * times(h, "ffn_up"), "ffn_down")

x = norm(x, "output_norm")
print(tokens[0], "nan")
for i in range(n - 1):
    logits = weight["token_embd.weight"] @ x[i]
    top = logits.max()
    print(tokens[i + 1], "%.7f" % (top + np.log(np.exp(logits - top).sum()) - logits[tokens[i + 1]]))
