#!/usr/bin/env python3
"""Writes the novels of Jane Austen (public domain) as one plain text to stdout.

usage: prose.py FOLDER      FOLDER: where Debian's package r-cran-janeaustenr was unpacked (`make text` does it)

The package keeps each novel as an R character vector of lines: zlib streams, each after a 4-byte length, of R's XDR
serialisation, in which a string is a CHARSXP: flags (low byte 9), length (-1: NA), bytes.
"""
import glob
import struct
import sys
import zlib


def strings(raw):
    pos = raw.index(b"\0\0\0\x10") + 8  # STRSXP and its length
    count = struct.unpack(">i", raw[pos - 4 : pos])[0]
    for _ in range(count):
        flags, size = struct.unpack(">ii", raw[pos : pos + 8])
        if flags & 0xFF != 9:
            raise SystemExit("prose.py: not a vector of strings; has the package's format changed?")
        pos += 8
        yield raw[pos : pos + max(size, 0)].decode("utf-8")
        pos += max(size, 0)


def main():
    paths = glob.glob(sys.argv[1] + "/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
    if not paths:
        raise SystemExit("prose.py: no janeaustenr data under " + sys.argv[1])
    data = open(paths[0], "rb").read()
    books = []
    while data:
        size = struct.unpack(">I", data[:4])[0]
        stream = zlib.decompressobj()
        raw = stream.decompress(data[4:])
        data = stream.unused_data
        if size > 400000:  # the rest of the package's data are small tables
            books.append("\n".join(strings(raw)))
    sys.stdout.write("\n\n".join(books) + "\n")


main()
