#!/usr/bin/env python3
"""Writes tests/vectors/tokenizer*: a mixed text, two tiny vocabularies trained on it, and the ids that the Python packages
`tokenizers` and `sentencepiece` give. tests/vectors/README.md says which versions were used.

    python3 tests/make_tokenizer_vectors.py MODEL.gguf PROSE.txt
"""
import collections
import io
import json
import os
import random
import sys

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, trainers

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
from compare_tokenizer import PRE, Reference, byte_alphabet  # noqa: E402

OUT = os.path.join(here, "vectors")
SCRIPTS = {"latin": (0xC0, 0x24F), "greek": (0x391, 0x3C9), "cyrillic": (0x410, 0x44F), "hebrew": (0x5D0, 0x5EA),
           "arabic": (0x621, 0x64A), "devanagari": (0x905, 0x94D), "thai": (0xE01, 0xE3A), "hangul": (0xAC00, 0xAEFF),
           "kana": (0x3041, 0x30FE), "han": (0x4E00, 0x51FF), "math": (0x2200, 0x22FF), "emoji": (0x1F600, 0x1F64F),
           "marks": (0x300, 0x36F), "digits": (0x660, 0x669), "gothic": (0x10330, 0x1034A)}
PIECES = ["'s", "'S", "'ll", "'Ll", "'re", "'VE", "'d", "'\u017f", "'", " ", "  ", "    ", "\n", "\r\n", "\n\n", "\t", "1", "23",
          "4567", "3.14", "\u0967\u0968", "\u00bd", "the", " of", "Word", "CamelCase", "snake_case", "\u00e9t\u00e9", "\u4e2d\u6587",
          "\U0001f468\u200d\U0001f469", "e\u0301", "...", "!?", "$", "+=", "`", "\u00a9", "_", "-", "(", "[x]", "{}", "\x00", "\x04",
          "\x1c", "\x0b", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u3000", "\u180e", "\u200b", "\ufeff", "\u2581", "<0x41>",
          "<s>", "<|im_start|>"]
CASES = ["", " ", "  ", "a", "Hello world", " Hello  world ", "It's 2024, isn't it?", "I'LL don't we'Ve", "x = 12345 + 3.14;",
         "\n\n  indented\n\ttabs\r\n", "na\u00efve caf\u00e9 \u2014 \u00bdkg", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0645\u0631\u062d\u0628\u0627 \u0661\u0662\u0663",
         "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u3000b\xa0c\u2003 d", "<|im_start|>user\nhi<|im_end|>\n", "\u2581x \u2581", "tab\x00nul",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]


def mixed_text(prose):
    rng = random.Random(20)
    parts = [prose[:24000]]
    for f in ["../runtime/err.c", "../gen/embed.lua", "make_unicode_class.py"]:
        parts.append(open(os.path.join(here, f), encoding="utf-8").read()[:6000])
    for lo, hi in SCRIPTS.values():
        chars = [chr(c) for c in range(lo, hi + 1) if chr(c).isprintable()]
        common = rng.choices(chars, k=24)
        line = ""
        while len(line.encode()) < 2200:
            word = "".join(rng.choice(common if rng.random() < 0.8 else chars) for _ in range(rng.randint(1, 9)))
            line += word + rng.choice([" ", " ", " ", ", ", ". ", "\n", "", " 42 ", "-"])
        parts.append(line)
    for _ in range(60):
        parts.append("".join(rng.choice(PIECES) for _ in range(60)))
    parts.append(" ".join(str(rng.randrange(10 ** rng.randint(1, 12))) for _ in range(300)))
    rng.shuffle(parts)
    return "\n".join(parts)


def fnv(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def summary(ids):
    """Count and hash, and the hash of each thousand, to find a difference by."""
    return {"count": len(ids), "hash": f"{fnv(ids):016x}",
            "thousands": [f"{fnv(ids[i:i + 1000]):016x}" for i in range(0, len(ids), 1000)]}


def write(name, value):
    value["cases"] = [c.replace("\0", "\u2400") for c in value["cases"]]  # C strings end at NUL
    with open(os.path.join(OUT, name), "w") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def byte_level(text):
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = PRE["gpt-2"]
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(byte_alphabet().values()), show_progress=False,
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    trained.train_from_iterator([text], trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    assert all(tuple(m) for m in merges)
    # Byte 4 is left out, as SmolLM2's vocabulary does with some control characters.
    gone = byte_alphabet()[4]
    vocab = [t for t in vocab if gone not in t]
    merges = [m for m in merges if gone not in m[0] + m[1]]
    # Words that no merge makes, for the models that look for whole words first.
    words = collections.Counter(w for w, _ in PRE["llama-bpe"].pre_tokenize_str(text))
    vocab += [w for w, _ in words.most_common(400) if w not in vocab][:20]
    of = {t: i for i, t in enumerate(vocab)}
    results = {}
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"]:
        t = tokenizers.Tokenizer(models.BPE(vocab=of, merges=merges, ignore_merges=pre == "llama-bpe"))
        t.pre_tokenizer = PRE[pre]
        ids = lambda s: t.encode(s, add_special_tokens=False).ids
        results[pre] = summary(ids(text)) | {"cases": [ids(c) for c in CASES]}
    write("tokenizer_bpe.json", {"tokens": vocab, "merges": [" ".join(m) for m in merges], "control": 3, "cases": CASES, "ids": results})


def sentence_piece(text):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("".join(c for c in text if c < "\u0500" and c != "\0").split("\n")), model_writer=model, model_type="bpe", vocab_size=900, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        max_sentence_length=100000, minloglevel=2)
    m = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    write("tokenizer_spm.json", {"tokens": [p.piece for p in m.pieces], "scores": [p.score for p in m.pieces],
                                 "types": [p.type for p in m.pieces], "cases": CASES, "ids": summary(sp.encode(text)) | {"cases": [sp.encode(c) for c in CASES]}})


def main():
    model, prose = sys.argv[1:]
    text = mixed_text(open(prose, encoding="utf-8").read())
    with open(os.path.join(OUT, "tokenizer.txt"), "w", encoding="utf-8", newline="") as f:
        f.write(text)
    byte_level(text)
    sentence_piece(text)
    ref = Reference(model)
    write("tokenizer_smollm2.json", {"cases": CASES, "ids": summary(ref.ids(text)) | {"cases": [ref.ids(c) for c in CASES]}})


main()
