#!/usr/bin/env python3
"""Token ids of `weir tokenize` beside those of the Python packages `tokenizers` and (with --llama-cpp) `llama-cpp-python`.

The reference tokenizer is made from the GGUF file's own vocabulary and merges, with the pre-tokeniser that the model's
tokenizer.json has. The text is a mix made here: files found on this machine (documentation, sources, licences, locales, other
scripts), every Unicode character in some context, digits, emoji, odd white space; then a text of invalid UTF-8, which no package
takes, is held to its definition: an invalid byte is a symbol.

    python3 tests/compare_tokenizer.py build/weir MODEL.gguf [--bytes 3000000] [--seed 1] [--llama-cpp] [--text FILE]...
"""
import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tempfile

import gguf
import tokenizers
from tokenizers import Regex, models, pre_tokenizers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_alphabet():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def split_and_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "llama-bpe": split_and_bytes(LLAMA3 % "{1,3}"),
    "qwen2": split_and_bytes(LLAMA3 % ""),
}
PRE["starcoder"] = PRE["command-r"] = PRE["refact"] = PRE["smollm"]


class Reference:
    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields
        get = lambda key: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else None
        self.pre = get("pre")
        tokens = get("tokens")
        merges = [tuple(m.split(" ", 1)) for m in get("merges")]
        vocab = {t: i for i, t in enumerate(tokens)}
        bpe = models.BPE(vocab=vocab, merges=merges, ignore_merges=self.pre == "llama-bpe")
        self.whole = tokenizers.Tokenizer(bpe)
        self.whole.pre_tokenizer = PRE[self.pre]
        self.words = tokenizers.Tokenizer(bpe)  # no pre-tokeniser: one word at a time
        self.alphabet = byte_alphabet()

    def ids(self, text):
        return self.whole.encode(text, add_special_tokens=False).ids

    def ids_of_bytes(self, data):
        """The pre-tokeniser sees a private-use character, which is a symbol, for each invalid byte."""
        text = data.decode("utf-8", "surrogateescape")
        seen = "".join(chr(0x10F700 + ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)
        out = []
        for _, (begin, end) in PRE[self.pre].pre_tokenize_str(seen):
            mapped = "".join(self.alphabet[b] for b in text[begin:end].encode("utf-8", "surrogateescape"))
            out += self.words.encode(mapped, add_special_tokens=False).ids
        return out


def mixed_text(size, rng):
    parts = []

    def take(pattern, total, most=20000):
        files = sorted(f for f in glob.glob(pattern, recursive=True) if os.path.isfile(f))
        rng.shuffle(files)
        for f in files:
            if total <= 0:
                break
            try:
                text = open(f, encoding="utf-8").read(200000)
            except (UnicodeDecodeError, OSError):
                continue
            at = rng.randrange(max(1, len(text) - most))
            parts.append(text[at:at + most])
            total -= len(text[at:at + most].encode())

    share = size // 10
    take("/usr/share/common-licenses/*", share)
    take("/usr/share/doc/**/*", share)
    take("/usr/share/perl/**/*.p[lm]", share)
    take("/usr/lib/python3*/**/*.py", share)
    take(os.path.dirname(os.__file__) + "/**/*.py", share)
    take("/usr/include/**/*.h", share)
    take("/usr/share/i18n/locales/*", share, 4000)
    take("/usr/share/**/*.[tcj]*", share, 4000)
    spaces = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u202f\u3000\u180e\u200b"
    chars = [chr(c) for c in list(range(1, 0x3000)) + list(range(0x3000, 0x110000, 7)) if not 0xD800 <= c < 0xE000]
    rng.shuffle(chars)
    one = []
    for c in chars:  # each character between others that make its class matter
        one.append(rng.choice([" ", "a", "1", "'", "!", "\n", "", "  ", "don't "]) + c + rng.choice([" ", "b", "2", "s", "?", "", "\n\n"]))
    parts += ["".join(one[i:i + 500]) for i in range(0, len(one), 500)]
    pieces = ["'s", "'S", "'ll", "'Ll", "'re", "'VE", "'d", "'\u017f", "'", " ", "  ", "   ", "\n", "\r\n", "\t", "1", "23",
              "4567", "\u0967\u0968", "\u00bd", "the", " of", "Word", "\u00e9t\u00e9", "\u4e2d\u6587", "\u0e44\u0e17\u0e22",
              "\u05e9\u05dc\u05d5\u05dd", "\U0001f600", "\U0001f468\u200d\U0001f469", "\u0301", "...", "!?", "$", "+=", "`", "\u00a9",
              "_", "-", "(", ")", "\x00", "\x04", "\x1c"] + list(spaces)
    for _ in range(share // 1000):
        parts.append("".join(rng.choice(pieces) for _ in range(300)))
    rng.shuffle(parts)
    return "".join(parts)


def weir(binary, model, data):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        return json.loads(subprocess.run([binary, "tokenize", "-m", model, "-f", f.name], check=True, capture_output=True).stdout)


def report(name, got, want, size):
    same = sum(a == b for a, b in zip(got, want))
    ok = got == want
    print(f"{name}: {size} bytes, {len(got)} ids, reference {len(want)}: " + ("all equal" if ok else "DIFFERENT"))
    if not ok:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        print(f"  first difference at id {at}: {got[at - 3:at + 8]} reference {want[at - 3:at + 8]}")
    return ok


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("binary")
    ap.add_argument("model")
    ap.add_argument("--bytes", type=int, default=3000000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--llama-cpp", action="store_true")
    ap.add_argument("--text", action="append", default=[])
    a = ap.parse_args()
    rng = random.Random(a.seed)
    ref = Reference(a.model)
    ok = True
    texts = [("mixed", mixed_text(a.bytes, rng))] + [(f, open(f, encoding="utf-8").read()) for f in a.text]
    for name, text in texts:
        data = text.encode()
        ok &= report(name, weir(a.binary, a.model, data), ref.ids(text), len(data))
    text = texts[0][1]
    broken = bytearray(text.encode()[:a.bytes // 3])
    for _ in range(len(broken) // 20):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    ok &= report("invalid UTF-8", weir(a.binary, a.model, bytes(broken)), ref.ids_of_bytes(bytes(broken)), len(broken))
    if a.llama_cpp:
        import llama_cpp
        lm = llama_cpp.Llama(a.model, vocab_only=True, verbose=False)
        text = text.replace("\0", "")[:200000]  # it is slow
        ok &= report("llama.cpp", weir(a.binary, a.model, text.encode()), lm.tokenize(text.encode(), add_bos=False, special=False), len(text.encode()))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
