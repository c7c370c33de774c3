"""Decoding and prompts of a Llama-3.1-8B-shaped model by Hugging Face transformers, random weights in bf16 made on the GPU: what
`weir bench model --shape llama-3.1-8b --dtype bf16` is put beside. Needs PyTorch and transformers.

    python3 tests/bench/beside_transformers.py [context 16384] [prompt 65536 ...]

Decoding is token after token with transformers' own cache holding `context` tokens, greedy; a prompt is one forward pass of its
tokens (flash attention by PyTorch's scaled_dot_product_attention), logits of the last one only.
"""
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def build():
    config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                         num_key_value_heads=8, vocab_size=128256, max_position_embeddings=131072, rope_theta=500000.0,
                         attn_implementation="sdpa", tie_word_embeddings=False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    return model.eval()


def seconds(run):
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main():
    context = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    prompts = [int(x) for x in sys.argv[2:]] or [65536]
    model = build()
    ids = torch.randint(0, 128256, (1, max(context, *prompts)), device="cuda")
    state = model(ids[:, :context], use_cache=True, logits_to_keep=1)
    cache, token = state.past_key_values, state.logits[:, -1:].argmax(-1)

    def decode(n):
        nonlocal token
        for _ in range(n):
            out = model(token, past_key_values=cache, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            token.item()

    decode(4)
    print(f"transformers decode, {context} tokens of context: {32 / seconds(lambda: decode(32)):.1f} tokens/s", flush=True)
    del cache, state
    for prompt in prompts:
        took = [seconds(lambda: model(ids[:, :prompt], use_cache=True, logits_to_keep=1)) for _ in range(2 if prompt < 100000 else 1)]
        print(f"transformers prompt of {prompt} tokens: {prompt / min(took):.0f} tokens/s", flush=True)


main()
