#!/usr/bin/env python3
"""Small checkpoints with random n-gram tables in the published layouts: their tensor names, config fields and hash
constants, and nothing of their backbones but a tensor or two.

Each directory NAME below the given one also holds expected.json: per table its geometry, the SHA-256 of all rows in
order, and the rows that some ids read, computed by reference/ and so independently of the program.
"""
import hashlib
import json
import os

import numpy as np

from canonical_ids import token_map, vocabulary
from engram_reference import derive_constants, moduli, multipliers, ngram_rows
from make_checkpoint import SHAPES, make, tokenizer_json, write_json, write_tensors
from relatives import longcat_ids, qwen4_constants, qwen4_rows
from tensor_file import read_safetensors, write_safetensors

DTYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F8_E4M3": "u1", "F8_E8M0": "u1", "U8": "u1", "I8": "i1"}


def random_tensor(dtype, shape, seed):
    """Random bits: rows are copied, never computed with."""
    rng = np.random.default_rng(seed)
    raw = (rng.random((*shape, np.dtype(DTYPES[dtype]).itemsize)) * 256).astype(np.uint8)
    return dtype, raw.view(DTYPES[dtype]).reshape(shape)


def integers(values):
    return "I64", np.array(values, np.int64)


def sha256(arrays):
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def some_ids(count, size, seed, rare=None):
    ids = (np.random.default_rng(seed).random(count) * size).astype(int)
    if rare is not None:
        ids[[2, 7, 8, count - 2]] = rare
    return [int(i) for i in ids]


def describe(layer, constants, width, codec, values, scales, row_ids, rows=None):
    return {"layer": layer, "rows": int(sum(constants["moduli"])) if rows is None else rows, "row_width": width,
            "codec": codec, "moduli": [int(m) for m in constants["moduli"]], "row_ids": np.asarray(row_ids).tolist(),
            "multipliers": [int(m) for m in constants.get("multipliers", [])],
            "values_sha256": sha256(values), "scales_sha256": sha256(scales) if scales else None}


def finish(directory, layout, ids, hashed, tables, **more):
    write_json(os.path.join(directory, "expected.json"),
               {"layout": layout, "ids": ids, "hashed_ids": [int(i) for i in hashed], "tables": tables, **more})


# ------------------------------------------------------------------------------------------------ DeepSeek-V4.1
def make_v41(directory, nested, scale_dtype):
    os.makedirs(directory)
    tokenizer = tokenizer_json(600)
    write_json(os.path.join(directory, "tokenizer.json"), tokenizer)
    canonical, count = token_map(vocabulary(tokenizer))
    fields = {"engram_layer_ids": [2, 1], "engram_max_ngram_size": 4, "engram_vocab_size": 150, "engram_n_heads": 3,
              "engram_head_dim": 64, "engram_compressed_vocab_size": count}
    constants = derive_constants({**fields, "engram_seed": 0})
    rows = [int(constants[layer]["moduli"].sum()) for layer in fields["engram_layer_ids"]]
    fields["engram_num_embeddings"] = rows
    pad = 2
    if nested:
        fields["engram_pad_token_id"] = pad
        config = {"architectures": ["DeepseekV41ForConditionalGeneration"], "model_type": "deepseek_v41",
                  "text_config": {"vocab_size": 640, **fields}}
    else:
        config = {"vocab_size": 640, **fields, "engram_pad_id": pad}
    write_json(os.path.join(directory, "config.json"), config)
    tensors = {"layers.0.ffn.experts.0.w1.weight": random_tensor("I8", (4, 16), 90),
               "layers.0.ffn.experts.0.w1.scale": random_tensor("F8_E8M0", (4, 1), 91)}
    ids = some_ids(20, 600, 3)
    hashed, tables = canonical[ids], []
    for layer, count in zip(fields["engram_layer_ids"], rows):
        p = f"layers.{layer}.engram."
        tensors[p + "embed.weight"] = random_tensor("F8_E4M3", (count, 64), layer)
        tensors[p + "embed.scale"] = random_tensor(scale_dtype, (count, 2), 10 + layer)
        tensors[p + "q_weight"] = random_tensor("BF16", (4, 8), 20 + layer)
        tables.append(describe(layer, constants[layer], 64, "f8_e4m3+ue8m0", [tensors[p + "embed.weight"][1]],
                               [tensors[p + "embed.scale"][1]],
                               ngram_rows(hashed, constants[layer], 3, canonical[pad])))
    write_tensors(directory, tensors, 2 if nested else 1)
    finish(directory, "DeepSeek-V4.1", ids, hashed, tables)


# ---------------------------------------------------------------------------------------------------- Qwen4-Exp
def make_qwen(directory, layers, dtype):
    os.makedirs(directory)
    heads, width, vocab, end, base, multiple, parts = 4, 16, 700, 650, 211, 64, 7
    text = {"vocab_size": vocab, "eos_token_id": end, "ple_layer_ids": [layer + 1 for layer in layers],
            "ple_embed_dim": 2 * heads * width, "ngram_size": 3, "heads_per_ngram": heads,
            "ngram_vocab_size_base": base, "make_ngram_vocab_size_divisible_by": multiple,
            "split_ngram_parts": parts}
    write_json(os.path.join(directory, "config.json"), {"model_type": "qwen4_exp", "text_config": text})
    ids, tensors, tables = some_ids(20, vocab, 4, rare=end), {}, []
    for index, layer in enumerate(layers):
        constants = qwen4_constants(vocab, base, 3, heads, index=index)
        rows = -(-int(constants["moduli"].sum()) // multiple) * multiple
        p = f"model.language_model.layers.{layer}.ple."
        tensors[p + "key_proj.weight"] = random_tensor("BF16", (8, 8), 70)
        p += "ple_embedding."
        tensors[p + "layer_multipliers"] = integers(constants["multipliers"])
        tensors[p + "ngram_heads_vocab_sizes"] = integers(constants["moduli"])
        tensors[p + "ngram_heads_offsets"] = integers(constants["offsets"])
        _, table = random_tensor(dtype, (rows, width), 30 + layer)
        step = -(-rows // parts)  # as torch.chunk: the last shard may be short
        for i in range(parts):
            tensors[f"{p}ngram_embedding.shard_{i}.weight"] = dtype, table[i * step:(i + 1) * step]
        scale = {}
        if dtype == "F8_E4M3":
            tensors[p + "ngram_embedding.weight_scale"] = "BF16", np.array([0x3951], np.uint16)  # 1.9932e-4
            scale = {"tensor_scale": float(np.array([0x39510000], np.uint32).view(np.float32)[0])}
        tables.append({**describe(layer, constants, width, "f8_e4m3" if scale else "bf16", [table], None,
                                  qwen4_rows(ids, constants, heads, end), rows), **scale})
    write_tensors(directory, tensors, 3)
    finish(directory, "Qwen4-Exp", ids, ids, tables)


# ------------------------------------------------------------------------------------------------- LongCat-Flash
def make_longcat(directory, dtype, codec):
    os.makedirs(directory)
    orders, splits, ratio, vocab, hidden, end = 4, 2, 3, 120, 48, 2
    write_json(os.path.join(directory, "config.json"), {
        "architectures": ["LongcatFlashNgramForCausalLM"], "vocab_size": vocab, "hidden_size": hidden,
        "eos_token_id": end, "emb_neighbor_num": orders, "emb_split_num": splits, "ngram_vocab_size_ratio": ratio})
    columns = (orders - 1) * splits
    sizes = np.array([ratio * vocab + 2 * i + 1 for i in range(columns)])
    width = hidden // columns
    tensors = {f"model.ngram_embeddings.embedders.{i}.weight": random_tensor(dtype, (int(size), width), 50 + i)
               for i, size in enumerate(sizes)}
    values = [a for _, a in tensors.values()]
    tensors["model.ngram_embeddings.post_projs.0.weight"] = random_tensor("BF16", (hidden, width), 69)
    ids = some_ids(20, vocab, 5, rare=end)
    row_ids = longcat_ids(ids, vocab, ratio, orders, splits, end) + (np.cumsum(sizes) - sizes)
    write_tensors(directory, tensors, 1)
    finish(directory, "LongCat-Flash", ids, ids,
           [describe(0, {"moduli": sizes}, width, codec, values, None, row_ids)])


# ---------------------------------------------------------------------------------------------------- engram-peft
def peft_rows(ids, constants, orders, heads, pad):
    """Orders with gaps, and ids so large that products wrap: NumPy's own int64 arithmetic."""
    stream = np.concatenate([np.full(max(orders) - 1, pad, np.int64), np.array(ids, np.int64)])
    columns = []
    for i, order in enumerate(orders):
        mix = np.zeros(len(ids), np.int64)
        for back in range(order):
            begin = max(orders) - 1 - back
            mix ^= stream[begin:begin + len(ids)] * np.int64(constants["multipliers"][back])
        for c in range(i * heads, (i + 1) * heads):
            columns.append(np.mod(mix, constants["moduli"][c]) + constants["offsets"][c])
    return np.stack(columns, 1)


def make_peft(directory, compress, orders, dtype, codec):
    """With a map, it leaves out the tokens that were added to the vocabulary; C is then too small for their ids."""
    os.makedirs(directory)
    tokenizer = tokenizer_json(500)
    write_json(os.path.join(directory, "tokenizer.json"), tokenizer)
    base = len(tokenizer["model"]["vocab"])
    canonical, count = token_map(vocabulary(tokenizer)[:base])
    layers, heads, width, pad, seed = [3, 1], 3, 8, 7, 11
    sizes = [400 + 100 * i for i in range(len(orders))]
    count = count if compress else 500
    write_json(os.path.join(directory, "config.json"), {
        "model_type": "engram", "engram_vocab_size_per_ngram": sizes, "ngram_sizes": orders, "n_head_per_ngram": heads,
        "embedding_dim": len(orders) * heads * width, "enable_tokenizer_compression": compress,
        "target_layers": layers, "compressed_vocab_size": count, "pad_id": pad, "seed": seed, "engram_version": "1.2.6"})
    primes = moduli(sorted(layers), len(orders) + 1, heads, [size // heads for size in sizes])
    ids = some_ids(18, base, 6) + [base, base + 1]
    hashed = [int(canonical[i]) if compress and i < base else i for i in ids]
    fill, tensors, tables = int(canonical[pad]) if compress else pad, {}, []
    for layer in layers:
        constants = {"multipliers": multipliers(count, max(orders), layer, seed), "moduli": primes[layer],
                     "offsets": np.cumsum(primes[layer]) - primes[layer]}
        p = f"{layer}.multi_head_embedding."
        tensors[p + "embedding.weight"] = random_tensor(dtype, (int(primes[layer].sum()), width), 80 + layer)
        tensors[p + "offsets"] = integers(constants["offsets"])
        tensors[f"{layer}.gating.w_v.weight"] = random_tensor("F32", (4, 4), 85)
        tables.append(describe(layer, constants, width, codec, [tensors[p + "embedding.weight"][1]], None,
                               peft_rows(hashed, constants, orders, heads, fill)))
    write_safetensors(os.path.join(directory, "engram_adapters.safetensors"), tensors)
    finish(directory, "engram-peft", ids, hashed, tables)


# ------------------------------------------------------------------------------------------------------------ ours
def make_moe(directory):
    """An EngramForCausalLM whose backbone is not served yet; its token map is left out, as if it were not stored."""
    make(SHAPES["tiny-moe-mhc-engram"], directory, 1)
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with open(os.path.join(directory, "tokenizer.json"), encoding="utf-8") as f:
        canonical, _ = token_map(vocabulary(json.load(f)))
    with open(os.path.join(directory, "model.safetensors.index.json"), encoding="utf-8") as f:
        files = sorted(set(json.load(f)["weight_map"].values()))
    tensors = {}
    for file in files:
        tensors.update({name: (dtype, np.array(a))
                        for name, (dtype, a) in read_safetensors(os.path.join(directory, file)).items()})
    del tensors["model.engram_token_map"]
    write_tensors(directory, tensors, 2)
    config = {"engram_seed": 0, **config}
    constants, ids, tables = derive_constants(config), some_ids(20, len(canonical), 7), []
    hashed, pad = canonical[ids], canonical[config["engram_pad_token_id"]]
    for layer in config["engram_layer_ids"]:
        dtype, table = tensors[f"model.layers.{layer}.engram.embedding.weight"]
        tables.append(describe(layer, constants[layer], config["engram_head_dim"], dtype.lower(), [table], None,
                               ngram_rows(hashed, constants[layer], config["engram_n_heads"], pad)))
    finish(directory, "EngramForCausalLM", ids, hashed, tables)


MAKERS = {
    "layout-engram-moe": make_moe,
    "layout-v41": lambda to: make_v41(to, True, "F8_E8M0"),
    "layout-v41-flat": lambda to: make_v41(to, False, "U8"),
    "layout-qwen": lambda to: make_qwen(to, [1], "BF16"),
    "layout-qwen-fp8": lambda to: make_qwen(to, [1, 4], "F8_E4M3"),
    "layout-longcat": lambda to: make_longcat(to, "BF16", "bf16"),
    "layout-longcat-f32": lambda to: make_longcat(to, "F32", "f32"),
    "layout-peft": lambda to: make_peft(to, True, [2, 3], "F32", "f32"),
    "layout-peft-raw": lambda to: make_peft(to, False, [2, 4], "F16", "f16"),
}
