#!/usr/bin/env python3
"""Writes runtime/unicode_class.c: which code points are letters, numbers, white space and punctuation.

The classes are asked of the Python package `tokenizers` (0.23, whose Oniguruma 6.9.10 knows Unicode 16), because token ids are
held equal to it: `\\p{L}`, `\\p{N}`, `\\s`, `\\p{P}`.

    python3 tests/make_unicode_class.py > runtime/unicode_class.c
"""
from tokenizers import Regex, pre_tokenizers

CLASSES = [("LETTER", r"\p{L}"), ("NUMBER", r"\p{N}"), ("SPACE", r"\s"), ("PUNCT", r"\p{P}")]


def members(pattern):
    drop = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for first in range(0, 0x110000, 256):
        if 0xD800 <= first < 0xE000:
            continue
        text = "".join(map(chr, range(first, first + 256)))
        kept = set("".join(piece for piece, _ in drop.pre_tokenize_str(text)))
        found |= {ord(c) for c in text if c not in kept}
    return found


def main():
    of = {}
    for name, pattern in CLASSES:
        for c in members(pattern):
            assert c not in of
            of[c] = name
    ranges = []
    for c in sorted(of):
        if ranges and ranges[-1][0] + ranges[-1][1] == c and ranges[-1][2] == of[c] and ranges[-1][1] < 0xFFFF:
            ranges[-1][1] += 1
        else:
            ranges.append([c, 1, of[c]])
    print("/* Written by tests/make_unicode_class.py from Unicode 16 general categories; do not edit. */")
    print('#include "unicode.h"\n')
    print("/* clang-format off */")
    print("enum { L = CHAR_LETTER, N = CHAR_NUMBER, S = CHAR_SPACE, P = CHAR_PUNCT };")
    print("const struct char_range char_ranges[] = {")
    row = ""
    for first, count, name in ranges:
        item = "{0x%x, %d, %s}," % (first, count, name[0])
        if len(row) + len(item) > 115:
            print("    " + row.rstrip())
            row = ""
        row += item + " "
    print("    " + row.rstrip())
    print("};")
    print("const int char_range_count = sizeof char_ranges / sizeof char_ranges[0];")


main()
