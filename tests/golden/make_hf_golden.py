#!/usr/bin/env python3
"""Goldens of the published backbones, computed by Hugging Face transformers in float32 on the CPU.

  make_hf_golden.py          rewrites hf-*.seed1.json beside this file

Run once, with exactly these versions (the tests need only NumPy):

  pip install torch==2.6.0 transformers==4.53.3 numpy==1.26.4

The checkpoints are random: shapes `hf-*` of ../support/shapes.py made with seed 1, the same bytes wherever NumPy's
generator is the same; a golden holds the SHA-256 of each file. Its format is that of the other goldens, without
Engram: `prompts`, each with `ids`; `last_logits`, all logits of the last position; `top5_ids` and `top5_logits` of
every position; `greedy`, the 16 ids that follow, and `greedy_gaps`, by how much each led the runner-up. Generation does
not stop at an end token. Logits are those of the ids alone, positions from 0, no padding, attention "eager".
"""
import json
import os
import sys
import tempfile

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support", "reference"), os.path.join(HERE, "..", "support")]

from engram_reference import forward, load  # noqa: E402
from make_checkpoint import make  # noqa: E402
from make_golden import LENGTHS, STEPS, TOP, choose, float32, gaps, sha256  # noqa: E402
from shapes import SHAPES  # noqa: E402

TORCH, TRANSFORMERS = "2.6.0", "4.53.3"
LONG = 200  # one more prompt, beyond the original context of the scaled rotations


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def prompt_record(model, reference, prompt):
    ids, leads = list(prompt), []
    first = logits_of(model, ids)
    for _ in range(STEPS):
        logits = logits_of(model, ids)
        leads.append(float(gaps(logits[-1:])[0]))
        ids.append(int(logits[-1].argmax()))
    expected = forward(reference, prompt)["logits"]
    error = float(((first - expected) ** 2).mean() / (expected ** 2).mean())
    assert error < 1e-9, f"transformers and the reference differ: NMSE {error}"
    order = np.argsort(-first, axis=-1, kind="stable")[:, :TOP]
    return {"ids": prompt, "greedy": ids[len(prompt):], "greedy_gaps": float32(leads), "top5_ids": order.tolist(),
            "top5_logits": [float32(row) for row in np.take_along_axis(first, order, -1)],
            "last_logits": float32(first[-1])}, error


def golden(name, directory):
    make(SHAPES[name], directory, seed=1)
    reference, model = load(directory), transformers.AutoModelForCausalLM.from_pretrained(
        directory, torch_dtype=torch.float32, attn_implementation="eager").eval()
    tokens, rng = SHAPES[name]["make"]["tokens"], np.random.default_rng(len(name))
    prompts = [choose(reference, rng, n, tokens, {1})[0] for n in LENGTHS]
    prompts.append([int(i) for i in rng.integers(3, tokens, LONG)])
    records, errors = zip(*(prompt_record(model, reference, p) for p in prompts))
    head = {"format": 1, "name": name, "made_by": f"transformers {TRANSFORMERS}, torch {TORCH}, float32",
            "config_sha256": sha256(os.path.join(directory, "config.json")),
            "tokenizer_sha256": sha256(os.path.join(directory, "tokenizer.json")),
            "weights_sha256": {"model.safetensors": sha256(os.path.join(directory, "model.safetensors"))}}
    print(f"{name}: NMSE to the float64 reference {max(errors):.1e}, "
          f"smallest greedy lead {min(min(r['greedy_gaps']) for r in records):.3f}")
    return head, records


def main():
    assert torch.__version__.split("+")[0] == TORCH and transformers.__version__ == TRANSFORMERS
    for name in (n for n in SHAPES if n.startswith("hf-")):
        with tempfile.TemporaryDirectory() as directory:
            head, records = golden(name, directory)
        with open(os.path.join(HERE, name + ".seed1.json"), "w", encoding="utf-8") as f:  # one prompt a line
            f.write(json.dumps(head)[:-1] + ', "prompts": [\n')
            f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in records) + "\n]}\n")


if __name__ == "__main__":
    main()
