"""Writes unicode_categories.inc: the general category of every code point, as runs.

The source is the regular-expression engine inside the `tokenizers` package (Oniguruma, Unicode 16.0),
because a split pattern must cut text exactly where that package cuts it.
Needs: pip install tokenizers==0.22.2
"""
import os

from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
TEXT = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def members(name):
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed", invert=True)
    return [ord(c) for piece, _ in split.pre_tokenize_str(TEXT) for c in piece]


def main():
    category = [None] * 0x110000
    category[0xD800:0xE000] = [CATEGORIES.index("Cn")] * 0x800  # surrogates are no text
    for index, name in enumerate(CATEGORIES):
        for c in members(name):
            assert category[c] is None, (hex(c), name)
            category[c] = index
    assert None not in category
    starts = [c for c in range(0x110000) if c == 0 or category[c] != category[c - 1]]
    words = [f"0x{c << 8 | category[c]:x}" for c in starts]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) + 2 > 100:
            lines.append(line.rstrip())
            line = ""
        line += word + ", "
    lines.append(line.rstrip())
    file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unicode_categories.inc")
    with open(file, "w") as out:
        out.write("// Made by make_unicode_categories.py: first code point << 8 | category, Unicode 16.0.\n")
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
