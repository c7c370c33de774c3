#!/usr/bin/env python3
"""Writes a GGUF file of random weights, to time loading with: random_gguf.py FILE [--layers 16] [--type q8_0]

The shape is Llama-3.1-8B's but for the number of layers; the tokenizer has the 256 bytes, and tokens that nobody needs. Every matrix is one pattern of
some megabytes again and again, so that the file is written as fast as the disk takes it.
"""
import argparse
import os
import struct

HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 4096, 32, 8, 14336, 128256
TYPES = {"f16": (1, 1, 2), "bf16": (30, 1, 2), "q8_0": (8, 32, 34), "q4_0": (2, 32, 18)}  # number, elements and bytes of a block
U32, F32, BOOL, STR, ARRAY, I32 = 4, 6, 7, 8, 9, 5


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def metadata(layers):
    tokens = ["<|endoftext|>", *byte_tokens(), "th"]
    tokens += [f"<|{i}|>" for i in range(len(tokens), VOCAB)]
    kinds = [3, *[1] * 257, *[3] * (VOCAB - 258)]
    kv = [
        ("general.architecture", STR, text("llama")),
        ("llama.block_count", U32, struct.pack("<I", layers)),
        ("llama.context_length", U32, struct.pack("<I", 131072)),
        ("llama.embedding_length", U32, struct.pack("<I", HIDDEN)),
        ("llama.feed_forward_length", U32, struct.pack("<I", FFN)),
        ("llama.attention.head_count", U32, struct.pack("<I", HEADS)),
        ("llama.attention.head_count_kv", U32, struct.pack("<I", KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
        ("llama.rope.freq_base", F32, struct.pack("<f", 500000)),
        ("tokenizer.ggml.model", STR, text("gpt2")),
        ("tokenizer.ggml.pre", STR, text("smollm")),
        ("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STR, len(tokens)) + b"".join(map(text, tokens))),
        ("tokenizer.ggml.token_type", ARRAY, struct.pack("<IQ", I32, len(tokens)) + struct.pack(f"<{len(tokens)}i", *kinds)),
        ("tokenizer.ggml.merges", ARRAY, struct.pack("<IQ", STR, 1) + text("t h")),
        ("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 0)),
        ("tokenizer.ggml.add_bos_token", BOOL, b"\0"),
    ]
    return kv


def tensors(layers, kind):
    kv = HIDDEN // HEADS * KV_HEADS
    yield "token_embd.weight", kind, (HIDDEN, VOCAB)
    yield "output_norm.weight", "f32", (HIDDEN,)
    yield "output.weight", kind, (HIDDEN, VOCAB)
    for i in range(layers):
        for name, shape in (("attn_norm", (HIDDEN,)), ("attn_q", (HIDDEN, HIDDEN)), ("attn_k", (HIDDEN, kv)), ("attn_v", (HIDDEN, kv)),
                            ("attn_output", (HIDDEN, HIDDEN)), ("ffn_norm", (HIDDEN,)), ("ffn_gate", (HIDDEN, FFN)),
                            ("ffn_up", (HIDDEN, FFN)), ("ffn_down", (FFN, HIDDEN))):
            yield f"blk.{i}.{name}.weight", "f32" if len(shape) == 1 else kind, shape


def size_of(kind, shape):
    number, block, size = (0, 1, 4) if kind == "f32" else TYPES[kind]
    elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return number, elements // block * size


def pattern_of(kind):
    """Random blocks with scales that leave the weights about +-0.04."""
    _, block, size = TYPES[kind]
    raw = bytearray(os.urandom(size * 131072))
    if block == 1:
        raw[1::2] = bytes(0x20 + (b & 0x80) + b % 8 if kind == "f16" else 0x3c + (b & 0x80) for b in raw[1::2])
    else:
        raw[0::size], raw[1::size] = b"\x00" * 131072, b"\x0d" * 131072
    return bytes(raw)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("file")
    p.add_argument("--layers", type=int, default=16)
    p.add_argument("--type", choices=TYPES, default="q8_0")
    a = p.parse_args()
    kv, all_tensors, pattern = metadata(a.layers), list(tensors(a.layers, a.type)), pattern_of(a.type)
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(kv)))
    for key, kind, value in kv:
        head += text(key) + struct.pack("<I", kind) + value
    offset = 0
    for name, kind, shape in all_tensors:
        number, size = size_of(kind, shape)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, offset)
        offset += (size + 31) // 32 * 32
    head += b"\0" * (-len(head) % 32)
    with open(a.file + ".tmp", "wb", buffering=1 << 24) as f:
        f.write(head)
        for _, kind, shape in all_tensors:
            size = size_of(kind, shape)[1]
            source = struct.pack("<f", 1) * shape[0] if kind == "f32" else pattern
            for at in range(0, size, len(source)):
                f.write(source[:size - at])
            f.write(b"\0" * (-size % 32))
    os.rename(a.file + ".tmp", a.file)
    print(f"{a.file}: {os.path.getsize(a.file) / 1e9:.2f} GB")


main()
