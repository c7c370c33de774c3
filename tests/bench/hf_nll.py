#!/usr/bin/env python3
"""Per-token likelihoods of a GGUF model by Hugging Face transformers (fp32, full attention, weights dequantised from the file).

usage: hf_nll.py MODEL.gguf TEXT.txt TOKENS > vector.txt      (needs: torch transformers gguf llama-cpp-python)

Writes one line a token: its id and its negative log-likelihood in nats given all before it ("-" for the first). Ids come from
llama.cpp's tokeniser, so that neither ids nor likelihoods come from this project.
"""
import os
import sys

import torch
from llama_cpp import Llama
from transformers import AutoModelForCausalLM


def main():
    path, text, count = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
    ids = Llama(path, vocab_only=True, verbose=False).tokenize(text, add_bos=False, special=False)[:count]
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32,
                                                 attn_implementation="eager")
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    nll = -torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    print(f"{ids[0]} -")
    for i, v in zip(ids[1:], nll.tolist()):
        print(f"{i} {v:.6f}")


main()
