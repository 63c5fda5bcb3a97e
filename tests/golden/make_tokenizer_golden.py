"""Writes tests/golden/tokenizer/: small byte-level BPE tokenizers and what `tokenizers` makes of many texts.

    python3 -m venv ENV && ENV/bin/pip install tokenizers==0.22.2 numpy
    ENV/bin/python tests/golden/make_tokenizer_golden.py

The tokenizers have the exact normalizers, pre-tokenizers, post-processors and decoders of GPT-2, Llama 3,
Qwen2.5/Qwen3, DeepSeek-V3 and GPT-4o, with a vocabulary of about two thousand trained on what this machine has
to read. A rerun therefore trains others; fixtures and expectations belong together. --keep-trained makes the
expectations anew for the tokenizers that are there.

Files:
  NAME.json      a tokenizer.json
  variants.json  [{name, base, patch}]: NAME.json of the base with a JSON merge patch
  cases.hex      one text per line, in hexadecimal, some of it not UTF-8
  NAME.golden    line i: "COUNT HASH [ids]" of case i (ids for the first ones only), then, after a line "large",
                 "KIND COUNT HASH" of the large inputs of large_input(), then, after a line "decode",
                 "HASH SKIPPED_HASH" of the texts of the id lists of random_ids(), without and with skipping
HASH is FNV-1a, 64 bits, over the little-endian 32-bit ids or over the text.
"""
import glob
import gzip
import json
import os
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PINNED = "0.22.2"
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "tokenizer")
CASES_WITH_IDS = 150
DECODES = 200

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def fnv_ids(ids):
    return fnv(b"".join(i.to_bytes(4, "little") for i in ids))


class Lcg:
    """The random numbers that the test makes too."""

    def __init__(self, seed):
        self.x = seed

    def next(self, bound):
        self.x = (self.x * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.x >> 33) % bound


# ---- text -------------------------------------------------------------------------------------------------


def training_text():
    rng = random.Random(5)
    texts = []
    for file in sorted(glob.glob("/usr/share/common-licenses/*")) + sorted(glob.glob("/usr/share/doc/*/README*"))[:60]:
        if os.path.isfile(file):
            data = gzip.open(file).read() if file.endswith(".gz") else open(file, "rb").read()
            texts.append(data.decode("utf-8", "replace")[:30000])
    library = os.path.dirname(os.__file__)
    for file in sorted(glob.glob(library + "/*.py"))[:80] + sorted(glob.glob(library + "/test/cjkencodings/*utf8.txt")):
        texts.append(open(file, "rb").read().decode("utf-8", "replace")[:20000])
    scripts = ["的一是不了人我在有他这中大来上国和说时要生", "のにはをたがでてとしれさ日本語東京", "한국어그리고나는이다사람", "हिन्दीमेंकाकेहैऔर",
               "தமிழ்ஒருமற்றும்", "ภาษาไทยและที่", "العربيةفيمنعلىأن", "русскийязыкинепо", "ελληνικάκαιτο", "עבריתשלאת"]
    for script in scripts:
        words = ["".join(rng.choice(script) for _ in range(rng.randint(1, 5))) for _ in range(60)]
        texts.append(" ".join(rng.choice(words) for _ in range(800)))
    texts.append(" ".join(rng.choice("😀 😂 👨‍👩‍👧 ❤️ 👍🏽 🇩🇪 1234 2024 007 3.14 café naïve über Ω".split()) for _ in range(2000)))
    texts.append("\n".join(" " * rng.choice([0, 2, 4, 8, 12, 16]) + "return x;" for _ in range(2000)))
    return texts


CURATED = [
    "", " ", "  ", "   ", "\n", "\r\n", "\t", " \n ", "\n\n\n", " \r\n\t x", "a", " a", "a ", "  a  ", "\u00a0a", "a\u3000 b", "\u2028x\u2029",
    "\x85y\x0b\x0cz", "Hello, world!", "don't can't WON'T I'LL we'Re they'vE I'm i'M he'D 'S 'T ''s 'ſ 'ſt d'ſ", "'s't're've'm'll'd", "'S'T'RE'VE'M'LL'D",
    "1234567890", "1 12 123 1234 12345", "٣٤٥ ½ ⅷ ① 一二三 १२३४", "3.14e-10 0xFF 1_000 1,000,000", "x=1;y=2", "def f(x):\n    return x ** 2\n\n\n",
    "if (a && b) {\r\n\tc();\r\n}\r\n", "#include <stdio.h>\nint main(void) { return 0; }", "http://example.com/a?b=c&d=%20#e", "C:\\path\\to\\file",
    "!!!???...---***", "a!b?c", "日本語テキスト、漢字。カタカナ ひらがな", "中文 混合 English 和 123 数字", "龥龦一丁㐀𠀀𪜀", "ゟ゠ヿ\u3040ぁ", "한국어 텍스트",
    "हिन्दी में लिखा", "தமிழ் மொழி", "ภาษาไทยไม่มีวรรค", "العربية: مرحبا بالعالم", "עברית", "русский текст", "ΑΒΓ αβγ ς", "é e\u0301 ü u\u0308 Å \u212b", "ﬁ ﬀ ﬆ ß ẞ SS",
    "a\u0301\u0323 \u0301 \u0323a", "\u1100\u1161\u11a8 각", "\u0958 \u0915\u093c", "👨‍👩‍👧 👍🏽 🇩🇪 ❤️ ☝️", "\u200b\u200d\ufeff", "x\u0000y", "\x01\x02\x7f\x1b[0m", "\ufffd \ue000 \uf8ff",
    "İ ı I i K K ſ s", "aAbB camelCase XMLHttpRequest iPhone ABCdef'S", "foo/bar//\r\n/x", "___ __init__ $x @y `z` ~|^", "€5 £6 ¥7 ₿", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋", "→ ⇒ ✓ ★",
    "²³ x¹", "Ⅷ ⅷ", "\u2003\u2002 em", "tab\tsep\tvalues", "trailing spaces   \nnext   ", "   \n   \n   x", "\n \n \n", " \n\n  \t\n x y  z   ", "a  b   c    d     e",
    "ab" * 50, "あ" * 30, "-" * 70, " " * 90 + "x", "\n" * 40, "=" * 30 + "\n", "0" * 25, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\U0001f600" * 20, "𝐀𝐁𝐂 𝟏𝟐𝟑", "\U00016100\U00016d40\U00010d40\U0001cc00", "\U0002ebf0\U00031350", "\U000e0001\U000f0000\U0010ffff",
]
INVALID = [b"\xff", b"a\xc3", b"\xc3\x28", b"\xe2\x82", b"\xe2\x82x", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80\xf0\x9f", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80",
           b"\x80\x81\x82", b"ok \xe4\xb8 \xe4\xb8\xad", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"x\xef\xbf\xbe y\xef\xbf"]
POOLS = ["abc XYZ'sStTrReE ", "\n\r\t  \u00a0\u3000\u2003x", "0123٣४½ⅷ①", "日本語漢字カナひら。、", "👨‍👩‍👧🏽☝🇩🇪❤️", "\u0301\u0323\u093f\u0e31aक\u0903", "éÅ\u212bﬁ①ﬀ½", "\x00\x1f\x7f\ufffd\ue000", "'s't're've'm'll'd'S'LL'ſ", "_-+=!?.,;:()[]{}\"\\/<>|@#$%^&*~`", "ΑΣσςİıßẞǅǆ", "한글각\u1100\u1161\u11a8", "      \n\n  ", "的一是不了人", "العربيةعبر ", "ʰʲˠᵃ\u02bc'’"]
WORDS = "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years where much your way down should because long each just state those people too mr how little good world make very year still see own work men day get here old life both between being under three never know same last another while us might great since against go came right used take return self import def class None True False print int void const static".split()


def cases(specials):
    rng = random.Random(11)
    texts = [t.encode() for t in CURATED] + INVALID
    for s in specials:
        for t in [s, s + s, "a" + s + "b", " " + s + " ", "\n" + s + "\t x", s[:-1], s[1:] + s, "é" + s + "日", "_" + s + "1", "a " + s + "."]:
            texts.append(t.encode())
    for _ in range(1100):  # alphabets mixed
        t = ""
        for _ in range(rng.randint(1, 8)):
            pool = rng.choice(POOLS)
            t += "".join(rng.choice(pool) for _ in range(rng.randint(1, 5))) if rng.random() < 0.85 else rng.choice(specials + [pool[:8]])
        texts.append(t.encode())
    for _ in range(500):  # any code points
        ranges = [(0, 0x80), (0x80, 0x3000), (0x3000, 0xD800), (0xE000, 0x110000), (0x10000, 0x20000)]
        texts.append("".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 16))).encode())
    for _ in range(500):  # prose
        words = [rng.choice([w, w.capitalize(), w.upper()]) for w in rng.choices(WORDS, k=rng.randint(2, 12))]
        t = "".join(w + rng.choice([" ", " ", " ", ", ", ".\n", "  ", "'s ", "\n\n", "(", "=", "1"]) for w in words)
        texts.append(t.encode())
    for _ in range(400):  # not UTF-8
        t = bytearray("".join(rng.choice(rng.choice(POOLS)) for _ in range(rng.randint(1, 12))).encode())
        for _ in range(rng.randint(1, 3)):
            t[rng.randrange(len(t))] = rng.randrange(256)
        texts.append(bytes(t))
    return texts


LARGE = ["spaces", "letters", "cjk", "digits", "newlines", "every-code-point", "every-code-point-apart", "random-bytes", "words", "marks", "mixed-spaces"]


def large_input(kind):
    """Bytes; the test has the same function."""
    lcg = Lcg(LARGE.index(kind) + 1)
    code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    if kind == "spaces":
        return b" " * 1000000
    if kind == "letters":
        return b"a" * 1000000
    if kind == "cjk":
        return "".join(chr(0x4E00 + lcg.next(20000)) for _ in range(350000)).encode()
    if kind == "digits":
        return "".join(chr(0x30 + lcg.next(10)) for _ in range(300000)).encode()
    if kind == "newlines":
        return "".join("\n\r \t"[lcg.next(4)] for _ in range(300000)).encode()
    if kind == "every-code-point":
        return "".join(map(chr, code_points)).encode()
    if kind == "every-code-point-apart":
        return "".join(chr(c) + ("a" if c % 2 else " ") for c in code_points).encode()
    if kind == "random-bytes":
        return bytes(lcg.next(256) for _ in range(300000))
    if kind == "words":
        letters = "etaoinshrdlu"
        return "".join("".join(letters[lcg.next(12)] for _ in range(1 + lcg.next(9))) + (". " if lcg.next(12) == 0 else " ")
                       for _ in range(150000)).encode()
    if kind == "marks":
        return "".join(chr(0x300 + lcg.next(0x70)) if lcg.next(3) else chr(0x61 + lcg.next(26)) for _ in range(200000)).encode()
    if kind == "mixed-spaces":
        return "".join("  \u00a0\u3000x"[lcg.next(5)] for _ in range(300000)).encode()
    raise ValueError(kind)


def random_ids(index, size):
    lcg = Lcg(1000 + index)
    return [lcg.next(size) for _ in range(1 + lcg.next(40))]


# ---- tokenizers -------------------------------------------------------------------------------------------


def byte_level(prefix, trim, regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, trim_offsets=trim, use_regex=regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def train(normalizer, pre_tokenizer, post_processor, decoder, in_vocabulary, size, texts):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=in_vocabulary, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoder
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


BASES = ["gpt2", "llama3", "qwen", "deepseek3", "o200k", "checkpoint"]


def bases(texts):
    special = dict(special=True, normalized=False)
    gpt2 = train(None, byte_level(False, True, True), processors.ByteLevel(trim_offsets=False), decoders.ByteLevel(), [], 1800, texts)
    gpt2.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])

    llama3 = train(None, pre_tokenizers.Sequence([split(LLAMA3), byte_level(False, True, False)]), None,
                   decoders.ByteLevel(), [], 2000, texts)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    llama3.add_special_tokens([AddedToken(n, **special) for n in names])
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))])])

    qwen = train(normalizers.NFC(), pre_tokenizers.Sequence([split(QWEN2), byte_level(False, False, False)]),
                 processors.ByteLevel(trim_offsets=False), decoders.ByteLevel(), [], 2000, texts)
    qwen.add_special_tokens([AddedToken(n, **special) for n in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]])
    qwen.add_tokens([AddedToken(n, special=False, normalized=False) for n in ["<tool_call>", "</tool_call>", "<think>", "</think>"]])

    deepseek_special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
    deepseek = train(normalizers.Sequence([]), pre_tokenizers.Sequence([*map(split, DEEPSEEK3), byte_level(False, True, False)]),
                     processors.ByteLevel(trim_offsets=False), decoders.ByteLevel(), deepseek_special, 2000, texts)
    deepseek.add_special_tokens([AddedToken(n, special=True, normalized=True) for n in deepseek_special])
    deepseek.add_tokens([AddedToken(n, special=False, normalized=False) for n in ["<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>"]])
    deepseek.add_special_tokens([AddedToken("<|EOT|>", special=True, normalized=True)])

    o200k = train(None, pre_tokenizers.Sequence([split(O200K, "removed", True), byte_level(False, True, False)]),
                  processors.ByteLevel(trim_offsets=False), decoders.ByteLevel(), [], 1800, texts)
    o200k.add_special_tokens([AddedToken(n, **special) for n in ["<|endoftext|>", "<|endofprompt|>"]])

    result = {name: json.loads(t.to_str()) for name, t in
              [("gpt2", gpt2), ("llama3", llama3), ("qwen", qwen), ("deepseek3", deepseek), ("o200k", o200k)]}
    result["llama3"]["model"]["ignore_merges"] = True
    result["gpt2"]["model"].update(unk_token="", continuing_subword_prefix="", end_of_word_suffix="")
    for name in ["gpt2", "llama3", "qwen"]:  # as their files have it
        model = result[name]["model"]
        model["merges"] = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    sys.path.insert(0, os.path.join(HERE, "..", "support", "reference"))
    from make_checkpoint import tokenizer_json
    result["checkpoint"] = tokenizer_json(700)
    return result


def added(content, token_id, **flags):
    token = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    return {**token, **flags}


def variants(base):
    """Components and options beyond those of the models above, on the same vocabularies."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}

    def sequence(*steps, **last):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, {**level, **last}]}}

    def cut(pattern, behavior, invert=False, regex=True):
        return {"type": "Split", "pattern": {"Regex" if regex else "String": pattern}, "behavior": behavior, "invert": invert}

    count = len(base["gpt2"]["model"]["vocab"])
    ids = iter(range(count, count + 100))
    tokens = [
        added("<l>", next(ids), lstrip=True), added("<r>", next(ids), rstrip=True, special=True),
        added("<lr>", next(ids), lstrip=True, rstrip=True), added("word", next(ids), single_word=True),
        added("Ünder", next(ids), normalized=True), added("ﬁx", next(ids), normalized=True),
        added("<|a|>", next(ids), special=True), added("<|a|><|b|>", next(ids), special=True), added("  ", next(ids)),
        added("é", next(ids), special=True),
    ]
    # A vocabulary without some bytes; merges and tokens that use them go with them.
    missing = set("zZQ~\u0122")
    vocab = {}
    for text in base["gpt2"]["model"]["vocab"]:
        if not set(text) & missing:
            vocab[text] = len(vocab)
    merges = [m for m in base["gpt2"]["model"]["merges"] if all(t in vocab for t in [*m.split(" "), m.replace(" ", "")])]
    holes = {"vocab": {**{t: None for t in base["gpt2"]["model"]["vocab"] if t not in vocab}, **vocab}, "merges": merges}
    result = [
        ("added", "gpt2", {"added_tokens": tokens, "normalizer": {"type": "NFKC"}}),
        ("nfd", "gpt2", {"normalizer": {"type": "NFD"}}),
        ("nfkd-lower", "gpt2", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Lowercase"}]}}),
        ("replace", "gpt2", {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Replace", "pattern": {"Regex": " {2,}|x*y"}, "content": "<>"},
            {"type": "Replace", "pattern": {"String": "a"}, "content": "\u00e4"}, {"type": "Prepend", "prepend": "> "}]}}),
        ("prefix-space", "qwen", {"normalizer": None, **sequence(cut(QWEN2, "Isolated"), add_prefix_space=True)}),
        ("digits", "qwen", sequence({"type": "Digits", "individual_digits": True}, use_regex=True)),
        ("digits-together", "qwen", sequence({"type": "Digits", "individual_digits": False}, use_regex=True)),
        ("merged-with-previous", "qwen", sequence(cut(r"\s", "MergedWithPrevious"))),
        ("merged-with-next", "qwen", sequence(cut("e", "MergedWithNext", regex=False))),
        ("contiguous", "qwen", sequence(cut(r"[\p{L}\d]", "Contiguous"))),
        ("removed", "qwen", sequence(cut(r"\h{2}|[^\S\n]", "Removed"))),
        ("empty-matches", "qwen", sequence(cut("x*", "Isolated"))),
        ("lazy", "qwen", sequence(cut(r"\p{Lu}\P{Lu}*?[aeiou ]|\p{^L}|.", "Isolated"))),
        ("deepseek-coder", "deepseek3", sequence(
            cut("[\r\n]", "Isolated"), cut(r"\s?\p{L}+", "Isolated"), cut(r"\s?\p{P}+", "Isolated"),
            cut("[一-龥ࠀ-一가-퟿]+", "Isolated"), {"type": "Digits", "individual_digits": True})),
        ("deepseek-llm", "deepseek3", sequence(
            cut("[\r\n]", "Isolated"), cut(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+", "Isolated"), cut(r"\s?[!-/:-~！-／：-～‘-‟　-。]+", "Isolated"),
            cut(r"\s+$", "Isolated"), cut("[一-龥ࠀ-一가-퟿]+", "Isolated"), {"type": "Digits", "individual_digits": True})),
        ("nested-class", "deepseek3", sequence(cut(r" ?[^(\s|[.,!?…。，、।۔،])]+", "Isolated"))),
        ("intersection", "deepseek3", sequence(cut(r"[\p{L}&&[^a-m]&&[^\p{Lo}]]+|[\x{4e00}-\u9fff]", "Isolated"))),
        ("unknown", "gpt2", {"added_tokens": [], "model": {**holes, "unk_token": "!"}}),
        ("unknown-fused", "gpt2", {"added_tokens": [], "model": {**holes, "unk_token": "!", "fuse_unk": True}}),
        ("unknown-dropped", "gpt2", {"added_tokens": [], "model": {**holes, "unk_token": None}}),
    ]
    # Ids that the package itself would give: "word" is in the vocabulary.
    patch = result[0][2]
    patch["added_tokens"] = json.loads(load(merge_patch(base["gpt2"], patch)).to_str())["added_tokens"]
    return [{"name": n, "base": b, "patch": p} for n, b, p in result]


def load(value):
    absent = dict.fromkeys(["normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"])
    return Tokenizer.from_str(json.dumps({**absent, **value}))


def merge_patch(value, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            value.pop(key, None)
        else:
            value[key] = merge_patch(value.get(key), change)
    return value


# ---- output -----------------------------------------------------------------------------------------------


def write_golden(name, tokenizer, texts, large):
    def encode(data):
        return tokenizer.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids

    with open(os.path.join(OUT, name + ".golden"), "w") as out:
        for i, text in enumerate(texts):
            ids = encode(text)
            shown = " " + " ".join(map(str, ids)) if i < CASES_WITH_IDS and ids else ""
            out.write(f"{len(ids)} {fnv_ids(ids):x}{shown}\n")
        out.write("large\n")
        for kind in large:
            ids = encode(large_input(kind))
            out.write(f"{kind} {len(ids)} {fnv_ids(ids):x}\n")
        out.write("decode\n")
        for i in range(DECODES):
            ids = random_ids(i, tokenizer.get_vocab_size())
            out.write(" ".join(f"{fnv(tokenizer.decode(ids, skip_special_tokens=skip).encode()):x}" for skip in [False, True]) + "\n")


def write_json(name, value):
    with open(os.path.join(OUT, name + ".json"), "w") as out:
        json.dump(value, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


def main():
    assert tokenizers.__version__ == PINNED, tokenizers.__version__
    os.makedirs(OUT, exist_ok=True)
    if sys.argv[1:] == ["--keep-trained"]:
        base = {name: json.load(open(os.path.join(OUT, name + ".json"))) for name in BASES}
    else:
        base = bases(training_text())
    more = variants(base)
    specials = sorted({t["content"] for value in base.values() for t in value["added_tokens"]}
                      | {t["content"] for v in more for t in v["patch"].get("added_tokens", [])})
    texts = cases(specials)
    with open(os.path.join(OUT, "cases.hex"), "w") as out:
        out.writelines(t.hex() + "\n" for t in texts)
    for name, value in base.items():
        write_json(name, value)
        write_golden(name, load(value), texts, LARGE)
    write_json("variants", more)
    for v in more:
        write_golden(v["name"], load(merge_patch(base[v["base"]], v["patch"])), texts, [])
    demo = Tokenizer.from_file(os.path.join(HERE, "..", "..", "configs", "demo", "tokenizer.json"))
    write_golden("demo", demo, texts, LARGE)


if __name__ == "__main__":
    main()
