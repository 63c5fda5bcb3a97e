"""Writes tests/golden/tokenizer/canonical.txt: what the reference makes of tokens, for the derivation with ICU.

Lines: "NAME COUNT HASH" of the canonical map of each tokenizer, then "code-points COUNT HASH" of the canonical
texts, each followed by a line feed, of all characters that this Python's Unicode (14.0) knows.
HASH is FNV-1a, 64 bits, over little-endian int32 or over the text. Run with Debian 12's /usr/bin/python3.
"""
import json
import os
import sys
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support", "reference"))

from canonical_ids import normalise, token_map, vocabulary  # noqa: E402


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:x}"


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    directory = os.path.join(HERE, "tokenizer")
    with open(os.path.join(directory, "canonical.txt"), "w") as out:
        for name in ["gpt2", "llama3", "qwen", "deepseek3", "o200k", "checkpoint"]:
            with open(os.path.join(directory, name + ".json")) as file:
                canonical, count = token_map(vocabulary(json.load(file)))
            out.write(f"{name} {count} {fnv(canonical.astype('<i4').tobytes())}\n")
        known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
        texts = "".join((normalise(c) or c) + "\n" for c in known)
        out.write(f"code-points {len(known)} {fnv(texts.encode())}\n")


if __name__ == "__main__":
    main()
