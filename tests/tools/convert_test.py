"""`engram convert --tables` and `engram inspect`, as a user runs them: files, kills, Ctrl-C, limits."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support", "reference"))
import tensor_file  # noqa: E402

BUILD = os.path.abspath(sys.argv.pop())
ENGRAM = os.path.join(BUILD, "engram")
MASK = (1 << 64) - 1


def run(*arguments, limit=None):
    def set_limit():
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run([ENGRAM, *arguments], text=True, timeout=240, preexec_fn=set_limit,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def synthetic_row(layer, row, first_word, keep, put, count):
    """The definition of memory/table/synthetic_rows.h, in plain integers."""
    x = (row + (layer + 1) * 0x9E3779B97F4A7C15) & MASK
    for _ in range(2):
        x = ((x ^ (x >> 32)) * 0xD6E8FEB86659FD93) & MASK
    x ^= x >> 32
    out = b""
    for j in range(first_word, first_word + (count + 3) // 4):
        w = (x + j * 0x9E3779B9) & 0xFFFFFFFF
        w = ((w ^ (w >> 15)) * ((x >> 32) | 1)) & 0xFFFFFFFF
        out += struct.pack("<I", ((w ^ (w >> 13)) & keep) | put)
    return out[:count]


DEMO = "configs/demo"


def open_table(path):
    """The header of a table file and its rows: arrays [rows, bytes] of values and of scales."""
    shown = run("inspect", "--table", path, "--json", "--check")
    assert shown.returncode == 0, shown.stderr
    h = json.loads(shown.stdout)
    data = np.frombuffer(read(path), np.uint8)[h["data_offset"]:][:h["data_bytes"]]

    def rows(at, stride, width):
        padded = np.concatenate([data, np.zeros(stride, np.uint8)])
        return padded[at:at + h["rows"] * stride].reshape(h["rows"], stride)[:, :width]

    scales = None
    if h["scale_bytes"] > 0:
        scales = rows(h["scales_at"], h["scale_stride"], h["scale_bytes"])
    return h, rows(h["values_at"], h["value_stride"], h["value_bytes"]), scales


def decode(h, values, scales):
    """Rows in float64, by the definitions of the codecs."""
    values = np.ascontiguousarray(values)
    if h["codec"] == "f32":
        return values.view("<f4").astype(np.float64)
    if h["codec"] == "bf16":
        return (values.view("<u2").astype(np.uint32) << 16).view("<f4").astype(np.float64)
    if h["codec"] == "f8_e4m3":
        return tensor_file.E4M3[values] * np.float32(h["tensor_scale"])
    if h["codec"] == "f8_e4m3+ue8m0":
        return tensor_file.E4M3[values] * np.repeat(2.0 ** (scales.astype(int) - 127), 32, axis=1)
    if h["codec"] == "int4":
        pairs = np.stack([values & 15, values >> 4], axis=2).reshape(len(values), -1).astype(int)
        integers = np.where(pairs > 7, pairs - 16, pairs)
    else:
        integers = values.view(np.int8)
    scale = np.ascontiguousarray(scales).view("<f2").astype(np.float64)
    return integers * np.repeat(scale, h["group"], axis=1)


class ConvertCheckpoint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tensors = tensor_file.read_safetensors(os.path.join(DEMO, "model.safetensors"))

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="engram-convert-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def tensor(self, layer, name):
        return np.array(self.tensors[f"model.layers.{layer}.engram.{name}"][1])

    def convert(self, out, *flags):
        done = run("convert", "--model", DEMO, "--tables", os.path.join(self.directory, out), *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def table(self, out, layer):
        return os.path.join(self.directory, out, f"layer-{layer}.engram-table")

    def test_rows_and_constants_are_the_checkpoints(self):
        token_map = np.array(self.tensors["model.engram_token_map"][1])
        for layout in ("split", "interleaved"):
            self.convert(layout, "--layout", layout, "--extent-size", "64KiB", "--verify")
            for layer in (1, 4):
                h, values, scales = open_table(self.table(layout, layer))
                self.assertEqual(h["layer"], layer)
                self.assertEqual(h["moduli"], self.tensor(layer, "moduli").tolist())
                self.assertEqual(h["multipliers"], self.tensor(layer, "multipliers").tolist())
                self.assertEqual(h["token_map_sha256"],
                                 hashlib.sha256(token_map.astype("<i4").tobytes()).hexdigest())
                np.testing.assert_array_equal(values, self.tensor(layer, "embedding.weight"))
                np.testing.assert_array_equal(scales, self.tensor(layer, "embedding.scale"))
        again = self.convert("split", "--extent-size", "64KiB")
        self.assertEqual(again.stdout.count("is there already"), 2)

    def test_other_codecs_and_their_errors(self):
        source = decode({"codec": "f8_e4m3+ue8m0"}, self.tensor(4, "embedding.weight"),
                        self.tensor(4, "embedding.scale"))
        worst = {"bf16": 0, "f32": 0, "f8_e4m3": 0.01, "int8": 1e-4, "int4": 0.03}
        for codec, most in worst.items():
            layout = "interleaved" if codec in ("int8", "f32") else "split"
            done = self.convert(codec, "--codec", codec, "--layers", "4", "--group", "16",
                                "--layout", layout, "--io-threads", "3")
            h, values, scales = open_table(self.table(codec, 4))
            self.assertEqual(h["codec"], codec)
            result = decode(h, values, scales)
            nmse = np.sum((result - source) ** 2) / np.sum(source ** 2)
            self.assertLessEqual(nmse, most, codec)
            report = json.loads(read(self.table(codec, 4) + ".json"))["encoding_errors"]
            self.assertEqual(report["all"]["rows"], len(source))
            self.assertAlmostEqual(report["all"]["nmse"], nmse, delta=1e-4 * nmse + 1e-12)
            self.assertAlmostEqual(report["all"]["max_abs_error"], np.max(np.abs(result - source)),
                                   delta=1e-5)
            self.assertEqual(len(report["columns"]), len(h["moduli"]))
            self.assertEqual([c["rows"] for c in report["columns"]], h["moduli"])
            self.assertIn("column 7", done.stdout)
        self.assertFalse(os.path.exists(self.table("int8", 1)))

    def test_killed_while_encoding_it_ends_with_the_same_bytes(self):
        flags = ["--codec", "int4", "--layers", "1", "--extent-size", "16KiB", "--io-threads", "2"]
        self.convert("wanted", *flags)
        seed = random.randrange(1 << 32)
        print("seed", seed)
        moments = random.Random(seed)
        for attempt in range(300):
            process = subprocess.Popen(
                [ENGRAM, "convert", "--model", DEMO, "--tables",
                 os.path.join(self.directory, "out"), *flags],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(moments.uniform(0, 0.02 * (attempt + 1)))
            process.kill()
            if process.wait() == 0:
                break
        self.assertEqual(read(self.table("out", 1)), read(self.table("wanted", 1)))

    def test_wrong_layers_and_widths(self):
        out = os.path.join(self.directory, "out")
        for says, flags in [("tables in the layers 1, 4", ["--layers", "3"]),
                            ("expected a multiple of 64", ["--codec", "int8", "--group", "64"])]:
            done = run("convert", "--model", DEMO, "--tables", out, *flags)
            self.assertEqual(done.returncode, 1)
            self.assertIn(says, done.stderr)
        self.assertEqual(run("convert", "--model", out, "--tables", out).returncode, 1)


class Convert(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="engram-convert-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def synthesize(self, out, *flags, **options):
        return run("convert", "--synthesize", "deepseek-v4.1-flash", "--layers", "1",
                   "--tables", self.path(out), *flags, **options)

    def test_rows_lie_where_the_header_says(self):
        for layout in ("split", "interleaved"):
            done = self.synthesize(layout, "--rows", "50k", "--layout", layout, "--verify")
            self.assertEqual(done.returncode, 0, done.stderr)
            table = self.path(layout, "layer-1.engram-table")
            shown = run("inspect", "--table", table, "--json", "--check")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            h = json.loads(shown.stdout)
            self.assertEqual(h["layout"], layout)
            self.assertEqual(h["layer"], 1)
            self.assertEqual(len(h["moduli"]), 24)
            self.assertEqual(h["rows"], sum(h["moduli"]))
            self.assertEqual(h["orders"], [2, 3, 4])
            self.assertEqual(os.path.getsize(table), h["file_bytes"])
            companion = json.loads(read(table + ".json"))
            self.assertEqual(companion["id"], h["id"])
            self.assertIn(h["id"], done.stdout)
            data = read(table)[h["data_offset"]:][:h["data_bytes"]]
            picker = random.Random(1)
            for row in [0, h["rows"] - 1] + [picker.randrange(h["rows"]) for _ in range(200)]:
                at = h["values_at"] + row * h["value_stride"]
                self.assertEqual(data[at:at + 256],
                                 synthetic_row(1, row, 0, 0xBFBFBFBF, 0, 256))
                at = h["scales_at"] + row * h["scale_stride"]
                self.assertEqual(data[at:at + 8],
                                 synthetic_row(1, row, 1 << 24, 0x07070707, 0x78787878, 8))

    def test_killed_again_and_again_it_ends_with_the_same_bytes(self):
        flags = ["--rows", "600k", "--extent-size", "1MiB", "--io-threads", "2"]
        self.assertEqual(self.synthesize("wanted", *flags).returncode, 0)
        wanted = self.path("wanted", "layer-1.engram-table")
        seed = random.randrange(1 << 32)
        print("seed", seed)
        moments = random.Random(seed)
        table = self.path("out", "layer-1.engram-table")
        kills = 0
        for attempt in range(1000):
            process = subprocess.Popen(
                [ENGRAM, "convert", "--synthesize", "deepseek-v4.1-flash", "--layers", "1",
                 "--tables", self.path("out"), *flags],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(moments.uniform(0, 0.02 * (attempt + 1)))
            process.kill()
            _, errors = process.communicate()
            if os.path.exists(table):  # whole from the first moment on
                self.assertEqual(read(table), read(wanted))
            if process.returncode == 0:
                break
            self.assertEqual(process.returncode, -signal.SIGKILL, errors)
            kills += 1
        self.assertGreater(kills, 0)
        again = self.synthesize("out", *flags)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("is there already", again.stdout)
        self.assertEqual(sorted(os.listdir(self.path("out"))),
                         ["layer-1.engram-table", "layer-1.engram-table.json"])
        self.assertEqual(read(table + ".json"), read(wanted + ".json"))

    def test_killed_between_the_rename_and_the_end_it_tidies_up(self):
        flags = ["--rows", "50k"]
        self.assertEqual(self.synthesize("out", *flags).returncode, 0)
        table = self.path("out", "layer-1.engram-table")
        companion = read(table + ".json")
        with open(table + ".json", "wb") as f:
            f.write(companion.replace(json.dumps(json.loads(companion)["id"]).encode(), b"null"))
        with open(table + ".unfinished.journal", "wb") as f:
            f.write(b"what is left of a journal")
        again = self.synthesize("out", *flags)
        self.assertIn("is there already", again.stdout)
        self.assertEqual(read(table + ".json"), companion)
        self.assertFalse(os.path.exists(table + ".unfinished.journal"))

    def test_ctrl_c_keeps_what_is_done(self):
        flags = ["--rows", "4M", "--extent-size", "1MiB"]  # 1 GiB, so that there is time
        process = subprocess.Popen(
            [ENGRAM, "convert", "--synthesize", "deepseek-v4.1-flash", "--layers", "1",
             "--tables", self.path("out"), *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        unfinished = self.path("out", "layer-1.engram-table.unfinished")
        while process.poll() is None and not os.path.exists(unfinished + ".journal"):
            time.sleep(0.005)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            self.skipTest("the conversion was faster than the signal")
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("goes on from here", errors)
        self.assertNotEqual(run("inspect", "--table", unfinished).returncode, 0)
        other = self.synthesize("out", "--rows", "3M", "--extent-size", "1MiB")
        self.assertEqual(other.returncode, 1)
        self.assertIn("unfinished conversion", other.stderr)
        rest = self.synthesize("out", *flags, "--verify")
        self.assertEqual(rest.returncode, 0, rest.stderr)
        self.assertRegex(rest.stderr, r"goes on with \d+ of \d+ extents done")

    def test_a_full_disk_is_said_before_the_work(self):
        done = self.synthesize("out", "--rows", "100k", limit=20 << 20)
        self.assertEqual(done.returncode, 1)
        self.assertIn("RESOURCE_EXHAUSTED", done.stderr)
        self.assertIn("layer-1.engram-table.unfinished", done.stderr)
        self.assertEqual(os.listdir(self.path("out")), [])

    def test_memory_is_bounded(self):
        flags = ["--rows", "2M", "--extent-size", "1MiB", "--io-threads", "2"]  # 500 MiB
        process = subprocess.Popen(
            [ENGRAM, "convert", "--synthesize", "deepseek-v4.1-flash", "--layers", "1",
             "--tables", self.path("out"), *flags], stdout=subprocess.DEVNULL)
        _, state, usage = os.wait4(process.pid, 0)
        self.assertEqual(state, 0)
        process.returncode = 0
        baseline = subprocess.Popen([ENGRAM, "--version"], stdout=subprocess.DEVNULL)
        _, _, least = os.wait4(baseline.pid, 0)
        baseline.returncode = 0
        extra = (usage.ru_maxrss - least.ru_maxrss) * 1024
        # (4 threads' extents + 2) of 1 MiB each, a run of rows per thread, code and stacks.
        self.assertLess(extra, (4 * 2 + 2 + 2 * 2 + 16) << 20)

    def test_a_flipped_bit_is_found(self):
        self.assertEqual(
            self.synthesize("out", "--rows", "50k", "--extent-size", "64KiB").returncode, 0)
        table = self.path("out", "layer-1.engram-table")
        with open(table, "r+b") as f:
            f.seek(4096 + 5 * 65536 + 123)
            byte = f.read(1)[0]
            f.seek(-1, 1)
            f.write(bytes([byte ^ 16]))
        checked = run("inspect", "--table", table, "--check")
        self.assertEqual(checked.returncode, 1)
        self.assertIn(f"{table}: extent 5 (bytes 331776 to 397312) is corrupt", checked.stderr)
        self.assertIn("1 of ", checked.stderr)
        self.assertEqual(run("inspect", "--table", table).returncode, 0)

    def test_every_published_model_at_a_small_size(self):
        for kind, layers in [("paper", [1, 14]), ("deepseek-v4.1-flash", [1, 14]),
                             ("qwen3.8-flash-next", [1]), ("longcat-flash-lite", [0])]:
            for codec in ("same", "int8", "int4", "f8_e4m3", "f32"):
                out = self.path(kind + codec)
                done = run("convert", "--synthesize", kind, "--params", "2M", "--codec", codec,
                           "--group", "16", "--tables", out)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(sorted(n for n in os.listdir(out) if n.endswith("table")),
                                 sorted(f"layer-{n}.engram-table" for n in layers))

    def test_overwriting_needs_to_be_asked_for(self):
        self.assertEqual(self.synthesize("out", "--rows", "50k").returncode, 0)
        other = self.synthesize("out", "--rows", "60k")
        self.assertEqual(other.returncode, 1)
        self.assertIn("--overwrite", other.stderr)
        done = self.synthesize("out", "--rows", "60k", "--overwrite")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_wrong_usage(self):
        out = self.path("out")
        for says, flags in [
                ("give --tables DIR or --out DIR", []),
                ("--tables needs --model or --synthesize", ["--tables", out]),
                ("expected one of paper", ["--tables", out, "--synthesize", "gpt"]),
                ("--codec int3", ["--tables", out, "--synthesize", "paper", "--codec", "int3"]),
                ("--layout x", ["--tables", out, "--synthesize", "paper", "--layout", "x"]),
                ("--rows many", ["--tables", out, "--synthesize", "paper", "--rows", "many"]),
                ("give --rows or --params",
                 ["--tables", out, "--synthesize", "paper", "--rows", "9", "--params", "9"]),
                ("extent bytes",
                 ["--tables", out, "--synthesize", "paper", "--rows", "9", "--extent-size", "5"]),
                ("none of these",
                 ["--tables", out, "--synthesize", "paper", "--layers", "3"])]:
            done = run("convert", *flags)
            self.assertIn(done.returncode, (1, 2), flags)
            self.assertIn(says, done.stderr, flags)
        missing = run("inspect", "--table", self.path("none"))
        self.assertEqual(missing.returncode, 1)
        self.assertIn("NOT_FOUND", missing.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
