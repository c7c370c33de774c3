#!/usr/bin/env python3
"""Times weir and llama.cpp on the same file, in turn on the same machine, and prints the ratios.

usage: tests/bench/beside_llama_cpp.py -m MODEL [--weir build/weir] [--rounds 5] [--threads 1,2]

Needs the Python package llama-cpp-python (built from source; where -march=native picks instructions that the machine refuses:
CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_AVX512=ON'). Each round runs both programs with each number of threads; of
all rounds the best counts, since other work on the machine only ever adds time, and each program is given its better number of
threads. Rows: a prompt of 1024 tokens, 64 tokens decoded from an empty cache, and 64 decoded with about 2112 keys held (weir
keeps exact scores and its cascade throughout; llama.cpp holds as many keys and has neither).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PROMPT, DECODED, FULL = 1024, 64, 2112
ROWS = ["prompt, empty cache", "decode, empty cache", "decode, full cache"]


def weir(options, threads):
    command = [options.weir, "bench", "model", "-m", options.model, "-t", str(threads), "--prompt", str(PROMPT), "-n",
               str(DECODED), "-o", "json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {r["work"]: r["tokens_per_s"] for r in json.loads(out)}


def llama_rates(model, threads):
    """Runs in a process of its own, so that its threads do not spin while weir is timed."""
    from llama_cpp import Llama
    llm = Llama(model_path=model, n_ctx=4096, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    tokens = [(i * 7919 + 13) % (llm.n_vocab() - 100) + 50 for i in range(4096)]

    def decode(start):
        times = []
        for i in range(DECODED):
            begin = time.perf_counter()
            llm.eval([tokens[start + i]])
            times.append(time.perf_counter() - begin)
        return 1 / statistics.median(times)

    llm.eval(tokens[:16])  # the file's pages are read, the threads awake
    llm.reset()
    begin = time.perf_counter()
    llm.eval(tokens[:PROMPT])
    rates = {ROWS[0]: PROMPT / (time.perf_counter() - begin)}
    llm.eval(tokens[PROMPT:FULL])
    rates[ROWS[2]] = decode(FULL)
    llm.reset()
    rates[ROWS[1]] = decode(0)
    return rates


def llama_cpp(options, threads):
    command = [sys.executable, os.path.abspath(__file__), "--llama-only", str(threads), "-m", options.model]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--weir", default="build/weir")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--llama-only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.llama_only:
        print(json.dumps(llama_rates(options.model, options.llama_only)))
        return
    threads = [int(t) for t in options.threads.split(",")]
    best = {}
    for number in range(options.rounds):
        for t in threads:
            for name, run in (("llama.cpp", llama_cpp), ("weir", weir)):
                for row, rate in run(options, t).items():
                    best[name, row, t] = max(rate, best.get((name, row, t), 0))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print("| work | " + " | ".join(f"{n}, {t} thread{'s' * (t > 1)}" for n in ("llama.cpp", "weir") for t in threads) + " | ratio |")
    print("|---|" + "---:|" * (2 * len(threads) + 1))
    for row in ROWS:
        rates = {n: [best[n, row, t] for t in threads] for n in ("llama.cpp", "weir")}
        print(f"| {row} | " + " | ".join(f"{r:.1f}" for n in rates for r in rates[n]) +
              f" | {max(rates['weir']) / max(rates['llama.cpp']):.2f} |")


if __name__ == "__main__":
    main()
