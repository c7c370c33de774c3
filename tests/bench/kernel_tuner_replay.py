#!/usr/bin/env python3
"""Kernel Tuner's own package (PyPI) on weir's exports: python3 -m venv v && v/bin/pip install kernel_tuner
scikit-learn (bayes_opt wants it), then v/bin/python tests/bench/kernel_tuner_replay.py --weir build/weir --log tests/vectors/h200_trials.jsonl [--seeds 20].

1. Every T1, and T4 file that `weir tune --export` writes validates against the schemas in the package.
2. The conditions of each T1, evaluated by Kernel Tuner's search space, leave exactly the configs that weir holds valid.
3. Its simulation mode replays a search from each cache file, and finds the best time that the file holds.
4. With --seeds: trials until each of its strategies first comes within 5 % and within 2 % of the best, over the seeds, beside
   `weir tune --replay` on the same trials. A seed that has not come so far after --most trials counts as one more than that.
Prints one line a problem and ends with 1 if anything is wrong.
"""
import argparse, contextlib, io, json, random, statistics, subprocess, sys, tempfile, warnings
from pathlib import Path

import jsonschema
import numpy
from constraint import FunctionConstraint
from kernel_tuner import tune_kernel
from kernel_tuner.file_utils import input_file_schema, output_file_schema
from kernel_tuner.searchspace import Searchspace

WITHIN = [0.05, 0.02]
STRATEGIES = ["random_sample", "genetic_algorithm", "greedy_ils", "greedy_mls", "mls", "pso", "firefly_algorithm", "simulated_annealing", "diff_evo",
              "dual_annealing", "basinhopping", "hybrid_vndx", "adaptive_tabu_greywolf", "bayes_opt"]


def restrict_to(cache, names):
    """The configs that a cache file holds, failed ones too: a search may ask for no others."""
    known = {tuple(v[n] for n in names) for v in cache["cache"].values()}
    return [FunctionConstraint(lambda *values: values in known)]


def replay(path, strategy, seed, evaluations):
    """Trials in the order in which the strategy first asks for them: their times, None for failed ones."""
    random.seed(seed)
    numpy.random.seed(seed)
    cache = json.loads(Path(path).read_text())
    names = cache["tune_params_keys"]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, _ = tune_kernel(cache["kernel_name"], "", tuple(cache["problem_size"]), [], cache["tune_params"],
                                 restrictions=restrict_to(cache, names), cache=str(path), simulation_mode=True, lang="CUDA", quiet=True,
                                 strategy=strategy, strategy_options={"max_fevals": evaluations} if evaluations else {})
    seen, times = set(), []
    for r in results:
        key = tuple(r[n] for n in names)
        if key not in seen:
            seen.add(key)
            times.append(r["time"] if isinstance(r["time"], float) else None)
    return times


def trials_until(times, goal):
    for i, t in enumerate(times):
        if t is not None and t <= goal:
            return i + 1
    return None


def compare(path, strategies, seeds, most, best):
    """One line a strategy: trials until within each of WITHIN."""
    for strategy in strategies:
        needed = []
        for seed in range(seeds):
            try:
                times = replay(path, strategy, seed, most)[:most]
                needed.append([trials_until(times, (1 + w) * best) or most + 1 for w in WITHIN])
            except Exception as e:  # a strategy that cannot search this space says so once
                print(f"    {strategy}: {type(e).__name__}: {str(e)[:100]}", flush=True)
                break
        parts = [f"{100 * w:.0f} %: median {statistics.median(k):6.1f} mean {statistics.mean(k):6.1f} most {max(k):4d} missed {sum(x > most for x in k)}"
                 for w, k in zip(WITHIN, zip(*needed))]
        if parts:
            print(f"    {strategy:22s} {' | '.join(parts)}", flush=True)


def check_space(t1, cache):
    """Kernel Tuner's search space of a T1 file against weir's valid configs, as far as they were tried."""
    space = t1["ConfigurationSpace"]
    params = {p["Name"]: eval(p["Values"]) for p in space["TuningParameters"]}
    restrictions = [c["Expression"] for c in space["Conditions"]]
    valid = set(Searchspace(params, restrictions, 1 << 30).list)
    tried = {tuple(v[n] for n in cache["tune_params_keys"]) for v in cache["cache"].values()}
    return len(valid), tried - valid


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--weir", default="build/weir")
    a.add_argument("--log", required=True, help="trial log (.jsonl)")
    a.add_argument("--gpu", default="h200")
    a.add_argument("--problem", action="append", default=[], help="'MODEL_SHAPE WINDOW STRIDE'; default: two of them")
    a.add_argument("--set", default="", help="tile parameters that the log holds fixed, as pd=1")
    a.add_argument("--seeds", type=int, default=0)
    a.add_argument("--least", type=int, default=100, help="spaces with fewer trials are not searched")
    a.add_argument("--most", type=int, default=300, help="trials after which a search is given up")
    a.add_argument("--strategies", default=",".join(STRATEGIES))
    o = a.parse_args()
    bad = 0
    _, t1_schema = input_file_schema()
    _, t4_schema = output_file_schema("results")
    with tempfile.TemporaryDirectory() as folder:
        for problem in o.problem or ["llama-3.1-8b 16384 4096", "llama-3.2-1b 16384 4096", "llama-3.2-3b 2048 1024", "smollm2-135m 2048 1024"]:
            shape, window, stride = problem.split()
            subprocess.run([o.weir, "tune", "--export", folder, "--gpu", o.gpu, "--log", o.log, "--model-shape", shape, "--window", window,
                            "--stride", stride] + (["--set", o.set] if o.set else []), check=True, stderr=subprocess.DEVNULL)
        for t1_path in sorted(Path(folder).glob("*.t1.json")):
            name = t1_path.name[: -len(".t1.json")]
            t1 = json.loads(t1_path.read_text())
            jsonschema.validate(t1, t1_schema)
            t4_path, cache_path = Path(folder, name + ".t4.json"), Path(folder, name + ".cache.json")
            if not cache_path.exists():
                print(f"{name}: T1 valid, no trials")
                continue
            jsonschema.validate(json.loads(t4_path.read_text()), t4_schema)
            cache = json.loads(cache_path.read_text())
            n, outside = check_space(t1, cache)
            times = replay(cache_path, "brute_force", 0, None)
            best = min(v["time"] for v in cache["cache"].values() if isinstance(v["time"], float))
            replayed = min(t for t in times if t is not None)
            wrong = bool(outside) or replayed != best or len(times) != len(cache["cache"])
            bad += wrong
            print(f"{name}: T1, T4 valid; {n} configs by its search space, {len(times)} trials replayed, best {replayed:.4f} ms{'  WRONG' if wrong else ''}", flush=True)
            if not o.seeds or len(times) < o.least:
                continue
            compare(cache_path, o.strategies.split(","), o.seeds, min(o.most, len(times)), best)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
