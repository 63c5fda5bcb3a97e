#!/usr/bin/env python3
"""Makes the checkpoints that tests load, below one directory; what is there already is kept.

  make_test_checkpoints.py DIRECTORY

Every file is compared with the SHA-256 in its golden, so that a difference of NumPy's generator between machines
shows here and not as a wrong logit. NAME-f16 and NAME-f32 are the tensors of NAME in another dtype: f32 holds
exactly the same values, so NAME's golden holds for it too.
"""
import hashlib
import json
import os
import shutil
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "reference"), HERE]

from make_checkpoint import SHAPES, make  # noqa: E402
from make_table_checkpoints import MAKERS  # noqa: E402
from shapes import SHAPES as MORE_SHAPES  # noqa: E402
from tensor_file import read_safetensors, widen, write_safetensors  # noqa: E402

NAMES = ["tiny-dense", "tiny-engram", "tiny-engram-fp8", "tiny-llama3-rope", "tiny-qwen3-engram", *MORE_SHAPES]
WIDENED = {"tiny-engram-f16": ("tiny-engram", "F16", np.float16), "tiny-engram-f32": ("tiny-engram", "F32", np.float32)}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def check(name, directory):
    with open(os.path.join(HERE, "..", "golden", name + ".seed1.json"), encoding="utf-8") as f:
        golden = json.load(f)
    digests = {"config.json": golden["config_sha256"], "tokenizer.json": golden["tokenizer_sha256"],
               **golden["weights_sha256"]}
    for file, expected in digests.items():
        if sha256(os.path.join(directory, file)) != expected:
            sys.exit(f"{directory}/{file}: SHA-256 differs from tests/golden/{name}.seed1.json "
                     "(an old file of this build tree: remove it; else NumPy draws other numbers here)")


def convert(source, directory, dtype, numpy_type):
    shutil.copytree(source, directory)
    path = os.path.join(directory, "model.safetensors")
    tensors = {name: (dtype, widen("BF16", raw).astype(numpy_type)) if stored == "BF16" else (stored, np.array(raw))
               for name, (stored, raw) in read_safetensors(path).items()}
    write_safetensors(path + ".new", tensors)
    os.replace(path + ".new", path)


def make_once(root, name, build):
    """A checkpoint appears under its name only when it is complete."""
    directory, unfinished = os.path.join(root, name), os.path.join(root, name + ".unfinished")
    if not os.path.isdir(directory):
        shutil.rmtree(unfinished, ignore_errors=True)
        build(unfinished)
        os.rename(unfinished, directory)
    return directory


def main():
    root = sys.argv[1]
    os.makedirs(root, exist_ok=True)
    shapes = {**SHAPES, **MORE_SHAPES}
    for name in NAMES:
        check(name, make_once(root, name, lambda to: make(shapes[name], to, seed=1)))
    for name, (source, dtype, numpy_type) in WIDENED.items():
        make_once(root, name, lambda to: convert(os.path.join(root, source), to, dtype, numpy_type))
    for name, build in MAKERS.items():
        make_once(root, name, build)
    print(f"{root}: {len(NAMES) + len(WIDENED) + len(MAKERS)} checkpoints")


if __name__ == "__main__":
    main()
