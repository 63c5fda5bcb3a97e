"""engram bench overhead as people call it: the report, what is refused, Ctrl-C."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ENGRAM = os.path.join(os.path.abspath(sys.argv.pop(1)), "engram")
DEMO = ["--model", "configs/demo", "--batch", "1", "--input-len", "16", "--output-len", "16",
        "--rounds", "7"]


def run(*arguments, limit=None):
    def set_limit():
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run([ENGRAM, "bench", "overhead", *arguments], text=True, timeout=120,
                          preexec_fn=set_limit, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Overhead(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.report = os.path.join(self.directory.name, "report.json")
        self.work = os.path.join(self.directory.name, "work")
        os.mkdir(self.work)

    def tearDown(self):
        self.assertEqual(os.listdir(self.work), [])
        self.directory.cleanup()

    def read_report(self):
        with open(self.report) as f:
            return json.load(f)

    def test_report_of_real_arms(self):
        done = run(*DEMO, "--arms", "N,D,S,Z,V", "--work-dir", self.work, "--label", "a label",
                   "--table-parameters", "0,2e7", "-o", self.report)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = self.read_report()
        self.assertEqual(report["label"], "a label")
        self.assertTrue(report["command"].startswith("engram bench overhead --model configs/demo"))
        self.assertFalse(report["interrupted"])
        self.assertEqual([p["batch"] for p in report["points"]], [1, 1])
        for point in report["points"]:
            hashes = {key: arm["token_hash"] for key, arm in point["arms"].items()}
            self.assertEqual(hashes["D"], hashes["S"])
            self.assertEqual(hashes["D"], hashes["V"])
            self.assertNotEqual(hashes["D"], hashes["N"])
        self.assertIn("D = H", done.stdout)
        self.assertIn("by table size", done.stdout)

    def test_rows_and_cache_of_fewer_bytes(self):
        done = run(*DEMO, "--arms", "N,D", "--table-codec", "f8_e4m3", "--kv-cache-dtype", "fp8",
                   "-o", self.report)
        self.assertEqual(done.returncode, 0, done.stderr)
        settings = self.read_report()["settings"]
        self.assertEqual(settings["table_codec"], "f8_e4m3")
        self.assertEqual(settings["kv_cache_dtype"], "fp8")
        self.assertIn(" in f8_e4m3\n", done.stdout)

    def test_simulated_zero_is_told_as_nothing(self):
        done = run("--engine", "fake", "--fake-overhead-percent", "0", "--fake-stalls", "0",
                   "--seed", "3", "-o", self.report)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = re.findall(r"^  D = H .*$", done.stdout, re.MULTILINE)
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertIn("not distinguishable from 0", row)

    def test_refusals_name_the_option(self):
        for arguments, code, text in (
                ([], 2, "--model DIR is required"),
                (["--model", "configs/demo", "--arms", "N,H"], 2, "on the CPU H is D"),
                (["--model", "configs/demo", "--rounds", "3"], 2, "at least 7"),
                (["--model", "configs/demo", "--input-range", "5"], 2, "expected LOW:HIGH"),
                (["--model", "configs/demo", "--table-parameters", "1e13"], 2, "up to 1e12"),
                (["--model", "configs/demo", "--table-parameters", "9e11"], 1, "are needed"),
                (["--model", "configs/bench/dense-0.5b"], 2, "no Engram layers"),
                (["--model", "configs/nothing"], 1, "configs/nothing"),
                (["--model", "configs/demo", "--table-codec", "fp8"], 2, "must be one of bf16, f16"),
                (["--model", "configs/bench/paper-4b", "--table-codec", "f8_e4m3+ue8m0"], 2,
                 "cannot store the model's rows of 80 values: it needs a multiple of 32"),
                (["--engine", "fake", "--table-codec", "int8"], 2, "simulated arms"),
                (["--engine", "quick"], 2, "expected real or fake")):
            done = run(*arguments, "-o", self.report)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stderr)
            self.assertFalse(os.path.exists(self.report))

    def test_a_report_that_cannot_be_written_is_an_error(self):
        done = run("--engine", "fake", "-o", os.path.join(self.directory.name, "none", "r.json"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be written", done.stderr)
        self.assertIn("D = H", done.stdout)
        # A full disk: the report that was there stays.
        self.assertEqual(run("--engine", "fake", "-o", self.report).returncode, 0)
        before = self.read_report()
        done = run("--engine", "fake", "--seed", "1", "-o", self.report, limit=1000)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be written", done.stderr)
        self.assertEqual(self.read_report(), before)

    def test_ctrl_c_keeps_what_there_is(self):
        process = subprocess.Popen(
            [ENGRAM, "bench", "overhead", *DEMO[:2], "--arms", "N,D,V", "--rounds", "7",
             "--batch", "1,2,3,4", "--input-len", "8", "--output-len", "400",
             "--work-dir", self.work, "-o", self.report],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        limit = time.monotonic() + 90
        while not os.path.exists(self.report) and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        report = self.read_report()
        self.assertTrue(report["interrupted"])
        self.assertGreaterEqual(len(report["points"]), 1)
        self.assertLess(len(report["points"]), 5)
        self.assertIn("w3: batch 1", output)


if __name__ == "__main__":
    unittest.main()
