"""Makes quant.txt: random blocks of each type with the values that the Python package gguf (0.19.0, by ggml's authors) gives them.

    pip install gguf numpy && python tests/vectors/quant.py > tests/vectors/quant.txt

A line is: type number, element count, the block's bytes in hexadecimal, the values as hexadecimal fp32 bits.
"""
import numpy as np
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize

rng = np.random.default_rng(20240607)
HALVES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}

for kind, halves in HALVES.items():
    elements, size = GGML_QUANT_SIZES[kind]
    for _ in range(2):
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for at in halves:  # a scale that is a number
            block[at:at + 2] = np.array([rng.normal() * 0.01], dtype=np.float16).view(np.uint8)
        values = dequantize(block.reshape(1, -1), kind).astype(np.float32).reshape(-1)
        print(kind.value, elements, block.tobytes().hex(), values.view(np.uint32).astype(">u4").tobytes().hex())
