#!/usr/bin/env python3
"""MB/s of text to token ids, one core, median of several runs: `weir tokenize` (the whole program: reading, printing the ids; less what
it takes for an empty text), Hugging Face tokenizers and llama.cpp where their Python packages are there. CPU time of the process.

    python3 tests/bench/tokenize_speed.py build/weir MODEL.gguf TEXT [runs]
"""
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
binary, model, path = sys.argv[1:4]
runs = int(sys.argv[4]) if len(sys.argv) > 4 else 5
data = open(path, "rb").read()


def cpu_of_child(file):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([binary, "tokenize", "-m", model, "-f", file], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_of(function):
    begin = time.process_time()
    function()
    return time.process_time() - begin


def show(name, size, seconds):
    rates = sorted(size / s / 1e6 for s in seconds)
    print(f"{name:24} {statistics.median(rates):8.2f} MB/s   ({rates[0]:.2f} to {rates[-1]:.2f})")


start = statistics.median(cpu_of_child(os.devnull) for _ in range(runs))
show("weir", len(data), [max(cpu_of_child(path) - start, 1e-6) for _ in range(runs)])
print(f"{'weir, empty text':24} {1e3 * start:8.1f} ms")
try:
    from compare_tokenizer import Reference
    text = data[:1000000].decode("utf-8", "ignore")
    reference = Reference(model)
    show("tokenizers", len(text.encode()), [cpu_of(lambda: reference.ids(text)) for _ in range(min(runs, 3))])
except (ImportError, KeyError) as e:
    print(f"tokenizers: not measured ({e})")
try:
    import llama_cpp
    part = data[:500000]
    lm = llama_cpp.Llama(model, vocab_only=True, verbose=False)
    show("llama.cpp", len(part), [cpu_of(lambda: lm.tokenize(part, add_bos=False, special=False)) for _ in range(min(runs, 3))])
except (ImportError, KeyError) as e:
    print(f"llama.cpp: not measured ({e})")
