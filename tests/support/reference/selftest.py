#!/usr/bin/env python3
"""Asserts that the reference reproduces the golden numbers of spec/engram.md section 11 and is consistent."""
import hashlib
import json
import os
import tempfile

import numpy as np

import engram_reference as ref
import make_checkpoint
import relatives
import tensor_file
from canonical_ids import normalise, token_map

HERE = os.path.dirname(os.path.abspath(__file__))


def numbers(text):
    return [int(n) for n in text.replace("|", " ").split()]


def constants(C, layers, N, K, S):
    return ref.derive_constants({
        "engram_layer_ids": layers, "engram_max_ngram_size": N, "engram_n_heads": K, "engram_vocab_size": S,
        "engram_compressed_vocab_size": C, "engram_seed": 0})


# ------------------------------------------------------------------------------------------- section 11.2
def test_random_numbers():
    golden = {0: ("db2cd7e7b0f478be abf4641a2c71ba49 20c6ed6d9d7b8d41 2c4099de223c39d4",
                  "11749869230777074271 4976686463289251617 755828109848996024"),
              10007: ("77d32a348ad70d07 993ed609b84a4fa5 d5f972dec8698e49 7d79ebaebcf148de",
                      "15187255322829266483 959186003677246517 7126631698937927467"),
              140098: ("db5869feeeccf2be ad465727d9cf3645 5155d26378b6bab4 9f9e49df66ff1c85",
                       "13420388419549774097 10208617735032736636 6128116274024149523"),
              150105: ("d81b63c1c152e155 4f78d1f67f67762a 111ccf563d129a55 8b8977b73877171a",
                       "5731302735937527132 11102341020473763372 10687872321234204531")}
    for seed, (words, raw) in golden.items():
        state = np.random.SeedSequence(seed).generate_state(4, np.uint64)
        assert [int(w, 16) for w in words.split()] == state.tolist()
        assert numbers(raw) == np.random.default_rng(seed).bit_generator.random_raw(3).tolist()


def test_multipliers_and_primes():
    golden = {(1000, 1): [7593627661414631, 479593001838623, 3563315849468963],
              (1000, 15): [2865651367968763, 5551170510236881, 5343936160617101],
              (99092, 1): [76632096046245, 4839876093313, 35959672319349],
              (99092, 15): [28919099099511, 56020370062535, 53929037264533]}
    for (C, layer), expected in golden.items():
        assert ref.multipliers(C, 3, layer).tolist() == expected
    v41 = constants(99092, [1, 14], 4, 8, 16_000_000)
    assert v41[1]["multipliers"].tolist() == numbers("76632096046245 4839876093313 35959672319349 73987337458391")
    assert v41[14]["multipliers"].tolist() == numbers("67716810739261 51510806800915 30921347202721 82619226485591")
    assert [int(v41[n]["moduli"].sum()) for n in (1, 14)] == [384006168, 384016682]
    assert (v41[1]["moduli"][0], v41[14]["moduli"][-1]) == (16000057, 16000889)
    demo = ref.moduli([1, 15], 3, 8, [646400, 646400])
    assert demo[1].tolist() == numbers("646403 646411 646421 646423 646433 646453 646519 646523 "
                                       "646537 646543 646549 646571 646573 646577 646609 646619")
    assert demo[15].tolist() == numbers("646631 646637 646643 646669 646687 646721 646757 646771 "
                                        "646781 646823 646831 646837 646843 646859 646873 646879")
    assert [int(p.sum()) for p in demo.values()] == [10344164, 10348242]


def test_demo_hash():
    golden = {
        1000: ([5, 7, 11, 13, 17], {
            (1, 0): "203567 550808 532566 360806 600351 104236 543158 322868 | "
                    "435964 560467 530914 178646 160968 73896 120701 153998",
            (1, 1): "587006 535012 38180 527566 99965 382660 57443 273001 | "
                    "468516 179333 521566 278287 441462 331323 474325 228843",
            (1, 4): "506819 613702 188913 567948 256824 229155 10360 244836 | "
                    "591010 492573 250842 358050 427910 303549 195146 336127",
            (15, 4): "478180 413952 471676 248830 111586 416662 43223 223550 | "
                     "204619 107353 231739 223808 590573 90459 264722 281491"}),
        99092: ([0, 1, 2, 99091, 12345, 54321], {
            (1, 0): "420644 208327 431909 218613 447759 273518 541093 132781 | "
                    "96567 590438 451716 277891 36268 204243 478025 79139",
            (1, 3): "2657 34797 375202 254346 570430 93274 428346 97030 | "
                    "297052 451611 569299 240584 589634 135786 113111 252449",
            (1, 5): "200629 471394 515072 369458 122290 447398 280637 600838 | "
                    "500492 283519 107617 54560 403332 247533 616551 186483",
            (15, 5): "110232 455458 612132 94839 170561 436932 13688 109708 | "
                     "352068 40145 11910 70062 116848 30955 429494 428251"})}
    for C, (ids, expected) in golden.items():
        c = constants(C, [1, 15], 3, 8, [646400, 646400])
        for (layer, t), row in expected.items():
            rows = ref.ngram_rows(ids, c[layer], 8, pad=2)
            assert (rows[t] - c[layer]["offsets"]).tolist() == numbers(row)
            for at in range(1, len(ids)):  # in two parts, the second knowing at most the last N-1 ids of the first
                parts = [ref.ngram_rows(ids[:at], c[layer], 8, 2),
                         ref.ngram_rows(ids[at:], c[layer], 8, 2, history=ids[max(0, at - 2):at])]
                assert np.array_equal(np.concatenate(parts), rows)


def test_v41_rows():
    ids = [0, 1, 2, 99091, 12345, 54321, 7]
    c = constants(99092, [1, 14], 4, 8, 16_000_000)
    live = {
        (1, 0): "5702652 24393184 39183301 61503783 78984481 90144770 103724983 121476532 131476717 152385926 "
                "164143652 191599181 198145581 217419202 238329687 247482304 257520185 283540304 288689443 "
                "315264704 322314652 348890037 367865216 380066193",
        (1, 3): "2008568 17698461 32185018 60619676 67746795 83049331 108124504 125647891 130939961 155576397 "
                "160105771 184968909 195873435 214139346 233554809 240610152 262194541 285968187 298266289 "
                "307618704 325707012 338618719 363316092 374920019",
        (14, 5): "7542173 25357012 44783456 55097175 69063164 90483838 107661888 116629818 129041155 145878891 "
                "174972316 177701502 204485244 221162613 239991119 253554654 260817072 275402521 301379829 "
                "313099035 327076297 348508745 353626361 379800511"}
    dead = {
        (1, 5): "12092422 29335974 46229602 58061002 75418037 90699761 99121123 120289984 134575750 145186966 "
                "164976101 188173364 206612861 214856719 236002798 249067259 262316833 285414977 300264558 "
                "317445523 334883330 338014976 353032850 370877491",
        (1, 6): "4410056 30038933 44054650 60476284 70096550 94900248 107351497 113769296 135744924 154149867 "
                "168997195 182879848 194728119 209096825 231205436 254195366 269964945 283234493 299120900 "
                "315175348 320585975 336763809 366274007 373692804"}
    for (layer, t), row in live.items():
        assert ref.ngram_rows(ids, c[layer], 8, 2)[t].tolist() == numbers(row)
    for (layer, t), row in dead.items():
        assert ref.ngram_rows(ids, c[layer], 8, 2, dead=[i == 4 for i in range(7)])[t].tolist() == numbers(row)


def test_relatives():
    c = relatives.qwen4_constants()
    assert c["multipliers"] == [23703573157769, 20109073645365, 8052911324071]
    assert (c["moduli"][0], c["moduli"][-1], c["moduli"].sum()) == (20000003, 20000171, 320001446)
    rows = relatives.qwen4_rows([9707, 11, 1879, 248044, 0, 248319], c)
    golden = {0: "16410909 39682429 55103279 60931720 87006904 116506179 131512017 152932897 "
                 "169641436 182022480 209277433 237891023 256841529 277007269 290665954 300984276",
              3: "18827606 27700912 56521518 65780303 81132822 100518937 120474864 142052741 "
                 "163793416 184135950 219854666 227756662 248975183 271245822 285569892 318943450",
              4: "768795 32189829 51641306 71063218 85886852 104959504 134316676 154856127 "
                 "173280301 194832882 202840854 222492280 256138797 271010889 296240796 304432235",
              5: "17035305 37104214 41553187 64726037 94893895 112558302 129937787 148091832 "
                 "170263291 191853921 208567818 236579041 257464514 279310953 293473367 305886554"}
    assert all(rows[t].tolist() == numbers(row) for t, row in golden.items())
    ids = [11, 523, 9001, 44, 130000, 7, 88, 4]
    rows = relatives.longcat_ids(ids)
    assert rows[0].tolist() == [11] * 12 and rows[1].tolist() == [1442315] * 12
    assert rows[2].tolist() == numbers("7217955 7217943 7217931 7217919 2070806 2033824 1996842 1959860 "
                                       "1922878 1885896 1848914 1811932")
    assert rows[7].tolist() == numbers("1310723 1310721 1310719 1310717 10117753 10094227 10070701 10047175 "
                                       "9045423 867998 4872324 611117")
    rows = relatives.longcat_ids(ids[:2] + [2] + ids[3:])
    assert rows[3].tolist() == [44] * 12 and rows[4].tolist() == [5897168] * 12


# ------------------------------------------------------------------------------------------- section 11.3
def portable(tag, *shape):
    s, out = (tag * 2654435761 + 12345) % 2 ** 32, []
    for _ in range(int(np.prod(shape))):
        s = (s * 1664525 + 1013904223) % 2 ** 32
        out.append((s >> 8) / 2 ** 23 - 1)
    return np.array(out).reshape(shape)


def test_dense():
    T, G, D, E, taps = 5, 2, 4, 6, 4
    h, e = portable(1, T, G, D), portable(2, T, E)
    assert np.allclose(h.ravel()[:3], [-0.915533066, 0.846173763, -0.011230469], atol=1e-9)
    w = {"key_proj.weight": portable(3, G * D, E), "value_proj.weight": portable(5, D, E),
         "key_norm.weight": 1 + 0.25 * portable(7, G, D), "query_norm.weight": 1 + 0.25 * portable(8, G, D),
         "conv_norm.weight": 1 + 0.25 * portable(9, G, D), "conv.weight": portable(10, G * D, 1, taps)}
    config = {"engram_norm_eps": 1.1920929e-07, "engram_conv_norm_eps": 1e-5, "engram_kernel_size": taps,
              "engram_conv_dilation": 3}
    y, gate, q = ref.engram_layer(h, e, w, config)
    assert np.allclose(gate, [[0.226353661, 0.192520847], [0.324526678, 0.297668409], [0.757876957, 0.355915310],
                              [0.215231949, 0.430865719], [0.375666178, 0.259714699]], atol=1e-9)
    value = [0.677390867, -0.193199147, -0.431640394, -0.134436754]
    assert np.allclose(e[0] @ w["value_proj.weight"].T, value, atol=1e-9)
    assert np.allclose(y[0], [[0.665446930, -0.091230444, -0.005594901, -0.004953108],
                              [0.535469034, 0.009050590, -0.332452399, 0.112847483]], atol=1e-9)
    assert np.allclose(y[4], [[-0.386146139, 0.554523335, 0.122214832, 0.110393845],
                              [-0.333868817, 0.590592735, 0.410465659, -0.067386798]], atol=1e-9)
    for at in range(T):  # in two parts, the second given the first's normalised values
        first, second = (ref.engram_layer(h[s], e[s], w, config, past) for s, past in
                         ((slice(0, at), None), (slice(at, T), q[:at])))
        assert np.allclose(np.concatenate([first[0], second[0]]), y, atol=1e-14)
    v41 = {**config, "engram_norm_eps": 1e-20, "engram_kernel_size": 0}
    out = h + ref.engram_layer(h, e, w, v41)[0]
    assert np.allclose(out[4], [[0.672884241, -0.526986680, 0.144029830, -0.112981506],
                                [-0.939152527, 0.145111505, 0.006935669, 0.887319582]], atol=1e-9)
    zero = ref.engram_layer(h, 0 * e, w, v41)[1]
    assert (zero == 0.5).all()


# ------------------------------------------------------------------------------------ canonical ids, files
def test_canonical_ids():
    same = [["a", "A", " a", "á", "ä", "Å"], ["ﬁ", "fi", "FI"], [" ", "  ", "\n", "\t\n", "\xa0", "\u3000"],
            ["The", " the", "THE"], ["İ", "i"], ["ß", "ẞ"], ["SS", "ss"], ["क", "कि", "का"], ["\u03a9", "\u2126"],
            ["½", "1⁄2"], ["1", "①"], ["ｱ", "ア"], ["ガ", "カ"], ["Σ", "σ"], ["ς"], ["\u0301"], ["\x0b"], ["\u200b"]]
    P, C = token_map([t.encode() for group in same for t in group])
    expected = [i for i, group in enumerate(same) for _ in group]
    assert P.tolist() == expected and C == len(same)
    P, C = token_map([b"\xc3", b"\xc3\xa9", b"e", "<|end|>", b"<|END|>", b"\xc3"])  # a part of a character is itself
    assert P.tolist() == [0, 1, 1, 2, 2, 0] and C == 3
    assert normalise(" \ue000 ") == " " and normalise("\x1fx\x1f") == "\x1fx\x1f" and normalise("ΑΣ") == "ασ"


def test_number_formats():
    codes = np.array([c for c in range(256) if c not in (0x7F, 0xFF)], np.uint8)
    assert np.array_equal(tensor_file.to_e4m3(tensor_file.E4M3[codes]), codes)
    assert tensor_file.E4M3[[0x01, 0x08, 0x38, 0x7E, 0xFE]].tolist() == [2 ** -9, 2 ** -6, 1.0, 448.0, -448.0]
    assert tensor_file.to_bf16([1.0, 1.00390625, 1.01171875, -0.0]).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x8000]
    tensors = {"a": ("BF16", np.array([[1, 2, 3]], np.uint16)), "b": ("U8", np.arange(5, dtype=np.uint8)),
               "c": ("I64", np.array([2 ** 62 + 1])), "d": ("F32", np.array(1.5, np.float32))}
    with tempfile.TemporaryDirectory() as directory:
        tensor_file.write_safetensors(os.path.join(directory, "x"), tensors)
        back = tensor_file.read_safetensors(os.path.join(directory, "x"))
        for name, (dtype, a) in tensors.items():
            assert back[name][0] == dtype and np.array_equal(back[name][1], a) and back[name][1].shape == a.shape


# --------------------------------------------------------------------------------------------- checkpoints
def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def refuses(config, tensors, naming):
    try:
        ref.Model(config, tensors)
    except ValueError as error:
        assert naming in str(error)
    else:
        raise AssertionError("accepted a wrong " + naming)


def check_shape(name, directory):
    make_checkpoint.make(make_checkpoint.SHAPES[name], directory, seed=1)
    model = ref.load(directory)
    ids = np.random.default_rng(11).integers(0, model.config["vocab_size"], 24)
    whole = ref.forward(model, ids)
    for T in (1, 2, 7, 23):  # what a sequence says about its beginning does not depend on its end
        part = ref.forward(model, ids[:T])
        assert np.allclose(part["logits"], whole["logits"][:T], rtol=0, atol=1e-11)
        for layer, gate in part["gates"].items():
            assert np.allclose(gate, whole["gates"][layer][:T], rtol=0, atol=1e-12)
    path = os.path.join(HERE, "..", "..", "golden", name + ".seed1.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            golden = json.load(f)
        assert golden["config_sha256"] == sha256(os.path.join(directory, "config.json"))
        assert golden["tokenizer_sha256"] == sha256(os.path.join(directory, "tokenizer.json"))
        for file, digest in golden["weights_sha256"].items():
            assert sha256(os.path.join(directory, file)) == digest, file
        for prompt in golden["prompts"]:
            out = ref.forward(model, prompt["ids"])
            assert np.abs(out["logits"][-1] - prompt["last_logits"]).max() < 1e-5
        assert ref.generate_greedy(model, golden["prompts"][1]["ids"], 3) == golden["prompts"][1]["greedy"][:3]
    if model.constants:
        with open(os.path.join(directory, "tokenizer.json"), encoding="utf-8") as f:
            assert np.array_equal(ref.token_map(ref.vocabulary(json.load(f)))[0], model.token_map)
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        layer = list(model.constants)[-1]
        multipliers, swapped = f"model.layers.{layer}.engram.multipliers", np.array(model.token_map)
        swapped[[5, 6]] = swapped[[6, 5]]
        refuses(config, {**model.tensors, multipliers: ("I64", model.tensors[multipliers][1] + 2)}, f"layer {layer}")
        refuses(config, {**model.tensors, "model.engram_token_map": ("I32", swapped)}, "token map")


def test_checkpoints():
    for name in make_checkpoint.SHAPES:
        with tempfile.TemporaryDirectory() as directory:
            check_shape(name, directory)


if __name__ == "__main__":
    tests = [(name, test) for name, test in list(globals().items()) if name.startswith("test_")]
    for name, test in tests:
        test()
        print("ok", name[5:].replace("_", " "))
    print(len(tests), "passed, 0 failed")
