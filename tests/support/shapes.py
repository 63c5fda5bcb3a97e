"""Shapes beside those of reference/make_checkpoint.py, for what the format allows and they do not use."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference"))

from make_checkpoint import ENGRAM, FAMILY, GQA  # noqa: E402

LLAMA = {**GQA, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
         "num_hidden_layers": 3}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}

# As transformers and DeepSeek write it.
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}

SHAPES = {
    # fp8 weights: several blocks each way, the last ones cut; the parts of the fused matrices begin at multiples of
    # 192 and 96. One of the two Engram layers and one feed-forward matrix are not converted.
    "tiny-fp8-weights": {
        **FAMILY, **GQA, **ENGRAM, "hidden_size": 160, "num_hidden_layers": 3, "head_dim": 48, "intermediate_size": 296,
        "engram_layer_ids": [1, 2], "engram_vocab_size": 500, "qk_norm": True,
        "quantization_config": {**FP8, "modules_to_not_convert": ["lm_head", "layers.2.engram", "layers.0.mlp.down_proj"]},
        "make": {"tokens": 512}},
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
    # For golden/make_hf_golden.py: published backbones, computed by their publisher's library. That library replaces
    # the factor of yarn by the ratio of the two context lengths, so here they agree.
    "hf-llama3": {
        **LLAMA, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 224,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64}, "make": {"tokens": 512}},
    "hf-llama-bias": {
        **LLAMA, "attention_bias": True, "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 2.5}, "make": {"tokens": 500}},
    "hf-llama-yarn": {
        **LLAMA, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "max_position_embeddings": 256,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "make": {"tokens": 512}},
    "hf-qwen3": {
        **GQA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "head_dim": 32,
        "num_hidden_layers": 3, "rope_theta": 1000000.0, "tie_word_embeddings": True, "make": {"tokens": 512}},
}
