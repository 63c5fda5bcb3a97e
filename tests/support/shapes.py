"""Shapes beside those of reference/make_checkpoint.py, for what the format allows and they do not use."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference"))

from make_checkpoint import ENGRAM, FAMILY, GQA  # noqa: E402

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}

SHAPES = {
    # All biases, no convolution, orders 2 to 4, layers out of order, f16 rows, linear rope, three shards.
    "tiny-engram-bias": {
        **FAMILY, **GQA, **ENGRAM, "attention_bias": True, "engram_bias": True, "engram_kernel_size": 0,
        "engram_max_ngram_size": 4, "engram_vocab_size": [700, 800, 700], "engram_layer_ids": [3, 0],
        "engram_seed": 5, "rope_scaling": {"type": "linear", "factor": 2.0},
        "make": {"tokens": 512, "table": "F16", "shards": 3}},
    # Newer spelling of rope, yarn, short taps with a dilation of their own, f32 rows, tied head, no head_dim field.
    "tiny-engram-yarn": {
        **FAMILY, **{k: v for k, v in GQA.items() if k not in ("head_dim", "rope_theta", "rope_scaling")}, **ENGRAM,
        "rope_parameters": YARN, "engram_kernel_size": 3, "engram_conv_dilation": 2, "engram_layer_ids": [1],
        "tie_word_embeddings": True, "make": {"tokens": 512, "table": "F32"}},
}
