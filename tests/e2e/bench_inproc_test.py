"""engram bench throughput, latency and paper: what they count, save and refuse."""

import json
import os
import signal
import subprocess
import tempfile
import unittest

import harness

ENGRAM = os.path.join(harness.BUILD, "engram")
DEMO = ["--model", "configs/demo", "--kv-cache-memory=64MiB"]


class Bench(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "result.json")

    def run_bench(self, *arguments, code=0):
        done = subprocess.run([ENGRAM, "bench", *arguments], text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def read(self):
        with open(self.path) as f:
            return json.load(f)

    def check_work(self, r):
        """What throughput and latency have in common."""
        self.assertEqual(r["x_schema"], 1)
        self.assertIn("cpu", r["x_machine"]["device"])
        self.assertEqual(r["x_model"]["engram_layers"], [1, 4])
        for key in ("read_gbps", "copy_gbps", "gflops"):
            self.assertGreater(r["x_peaks"][key], 0)
        for key in ("mean", "p50", "p99", "max"):
            self.assertGreater(r["x_step_ms"][key], 0)
        seconds = r["x_prefill"]["seconds"] + r["x_decode"]["seconds"]
        self.assertAlmostEqual(
            r["x_roofline"]["share"], r["x_roofline"]["least_seconds"] / seconds, places=9)
        ops = {op["name"]: op for op in r["x_ops"]}
        least = sum(op["least_seconds"] for op in r["x_ops"])
        self.assertAlmostEqual(least, r["x_roofline"]["least_seconds"], places=9)
        # 6 layers of 4 matrices and the logits; each of 2 Engram layers has one.
        steps = r["x_prefill"]["steps"] + r["x_decode"]["steps"]
        self.assertEqual(ops["attention"]["calls"], 6 * steps)
        self.assertEqual(ops["linear"]["calls"], (6 * 4 + 2 + 1) * steps)
        self.assertFalse(r["x_interrupted"])


class Throughput(Bench):
    def test_random(self):
        done = self.run_bench(
            "throughput", *DEMO, "--num-prompts=20", "--input-len=40", "--output-len=10",
            "--max-num-seqs=8", "--threads=2", "--label=try", "--output-json", self.path)
        r = self.read()
        self.check_work(r)
        self.assertEqual(r["x_kind"], "throughput")
        self.assertEqual(r["label"], "try")
        self.assertEqual(r["num_requests"], 20)
        self.assertEqual(r["total_num_tokens"], 20 * 50)
        self.assertAlmostEqual(r["requests_per_second"], 20 / r["elapsed_time"])
        self.assertAlmostEqual(r["tokens_per_second"], 1000 / r["elapsed_time"])
        self.assertAlmostEqual(r["x_output_tokens_per_second"], 200 / r["elapsed_time"])
        self.assertEqual(r["x_prefill"]["tokens"], 20 * 40)
        self.assertEqual(r["x_decode"]["tokens"], 20 * 9)
        self.assertEqual(r["x_ngram"]["rows"], 20 * 49 * 8 * 2)
        self.assertGreater(r["x_ngram"]["hash_seconds"], 0)
        self.assertGreater(r["x_ngram"]["gather_seconds"], 0)
        self.assertIsNone(r["x_sampling_seconds"])
        self.assertEqual(r["x_settings"]["max_num_seqs"], 8)
        self.assertTrue(r["x_command"].endswith(self.path))
        self.assertRegex(
            done.stdout, r"^Throughput: [0-9.]+ requests/s, [0-9.]+ total tokens/s, "
            r"[0-9.]+ output tokens/s\nTotal num prompt tokens:  800\n"
            r"Total num output tokens:  200\n")
        self.assertIn("roofline: this machine", done.stdout)

    def test_other_datasets_and_fetches(self):
        path = os.path.join(self.directory.name, "custom.jsonl")
        with open(path, "w") as f:
            for i in range(5):
                f.write(json.dumps({"prompt": f"options of ls -{i}", "output_tokens": 3}) + "\n")
        self.run_bench("throughput", *DEMO, "--dataset-name=custom", "--dataset-path", path,
                       "--num-prompts=5", "--ignore-eos", "--ngram-fetch=skip", "-o", self.path)
        r = self.read()
        self.assertEqual((r["num_requests"], r["x_output_tokens"]), (5, 15))
        self.assertIsNone(r["x_ngram"])
        self.run_bench("throughput", *DEMO, "--dataset-name=prefix_repetition", "--num-prompts=8",
                       "--prefix-repetition-prefix-len=64", "--prefix-repetition-suffix-len=8",
                       "--prefix-repetition-num-prefixes=1", "--output-len=2", "--max-num-seqs=1",
                       "--load-format=dummy", "--table-codec=int8", "--kv-cache-dtype=fp8",
                       "-o", self.path)
        r = self.read()
        self.assertEqual(r["x_cached_tokens"], 7 * 64)
        self.assertEqual(r["x_settings"]["load_format"], "dummy")
        self.assertEqual(r["x_settings"]["table_codec"], "int8")
        self.assertEqual(r["x_settings"]["kv_cache_dtype"], "fp8")
        self.assertEqual(r["x_ngram"]["bytes"], r["x_ngram"]["rows"] * (32 + 2))

    def test_ctrl_c_keeps_what_there_is(self):
        process = subprocess.Popen(
            [ENGRAM, "bench", "throughput", *DEMO, "--num-prompts=3000", "--input-len=10",
             "--output-len=1500", "-o", self.path],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = process.stderr.readline()  # the first line about progress
        self.assertIn("of 3000", line)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("interrupted", out)
        r = self.read()
        self.assertTrue(r["x_interrupted"])
        self.assertLess(r["num_requests"], 3000)
        self.assertGreater(r["x_output_tokens"], 0)


class Latency(Bench):
    def test_a_batch(self):
        done = self.run_bench(
            "latency", *DEMO, "--batch-size=3", "--input-len=20", "--output-len=8",
            "--num-iters-warmup=1", "--num-iters=4", "--output-json", self.path)
        r = self.read()
        self.check_work(r)
        self.assertEqual(r["x_kind"], "latency")
        self.assertEqual(len(r["latencies"]), 4)
        self.assertAlmostEqual(r["avg_latency"], sum(r["latencies"]) / 4)
        self.assertEqual(list(r["percentiles"]), ["10", "25", "50", "75", "90", "99"])
        values = list(r["percentiles"].values())
        self.assertEqual(values, sorted(values))
        self.assertLessEqual(min(r["latencies"]), values[0])
        self.assertGreater(r["x_ttft_ms"]["p50"], 0)
        self.assertGreaterEqual(r["x_worst_ttft_ms"]["p50"], r["x_ttft_ms"]["p50"])
        self.assertGreater(r["x_tpot_ms"]["p50"], 0)
        self.assertEqual(r["x_prefill"]["tokens"], 4 * 3 * 20)
        self.assertEqual(r["x_cached_tokens"], 0)
        self.assertRegex(done.stdout, r"^Avg latency: [0-9.]+ seconds\n")
        self.assertIn("99% percentile latency: ", done.stdout)
        self.assertIn("TTFT: median", done.stdout)

    def test_one_token_has_no_tpot(self):
        self.run_bench("latency", *DEMO, "--batch-size=1", "--output-len=1", "--num-iters=2",
                       "--num-iters-warmup=0", "-o", self.path)
        self.assertIsNone(self.read()["x_tpot_ms"]["p50"])


class Paper(Bench):
    # The shapes of the demo model, with small tables.
    SMALL = ["--model=configs/demo", "--table-parameters=1e6", "--max-num-seqs=4"]

    def test_rows_stand_beside_the_papers(self):
        done = self.run_bench("paper", "--scale=0.002", "--table-parameters=1e6",
                              "--input-range=4:8", "--output-range=2:4",
                              "--table-codec=f8_e4m3", "-o", self.path)
        r = self.read()
        self.assertEqual(r["x_kind"], "paper")
        self.assertFalse(r["interrupted"])
        self.assertIn("layers 36 -> 2", r["scaled_down"])
        self.assertEqual([p["model"] for p in r["points"]], ["paper-4b", "paper-8b"])
        self.assertEqual([(row["model"], row["arm"], row["paper_output_throughput"])
                          for row in r["paper"]],
                         [("paper-4b", "N", 9031.62), ("paper-4b", "D", 8858.28),
                          ("paper-8b", "N", 6315.52), ("paper-8b", "D", 6140.02)])
        for point in r["points"]:
            self.assertEqual(point["table_codec"], "f8_e4m3")
            # A byte for each, in whole pages.
            self.assertLess(point["table_bytes"] - point["table_parameters"], 4096)
        self.assertIn("table rows f8_e4m3", done.stdout)
        for row in r["paper"]:
            self.assertGreater(row["output_throughput"], 0)
            self.assertIn("sequences 512 -> 1", row["scaled_down"])
        self.assertEqual(done.stdout.count("SCALED DOWN"), 2)
        self.assertRegex(done.stdout, r"paper-4b SCALED +D .* 8858.28 +1.92 %")
        # The other commands read it.
        self.run_bench("compare", self.path, self.path)

    def test_interrupted(self):
        process = subprocess.Popen(
            [ENGRAM, "bench", "paper", *self.SMALL, "--num-seqs=500", "--output-range=900:1000",
             "-o", self.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()  # the first line about progress
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertTrue(self.read()["interrupted"])
        self.assertIn("SCALED DOWN", out)


class Refusals(Bench):
    def test_they_name_what_is_wrong(self):
        for arguments, code, text in (
                (["throughput"], 2, "--model DIR is required"),
                (["latency"], 2, "--model DIR is required"),
                (["throughput", "--model=configs/nothing"], 1, "configs/nothing"),
                (["throughput", *DEMO, "--num-prompts=0"], 2, "num-prompts"),
                (["throughput", *DEMO, "--dataset-name=sharegpt"], 2, "dataset-path"),
                (["throughput", *DEMO, "--dataset-name=custom", "--dataset-path=none.jsonl"], 1,
                 "none.jsonl"),
                (["throughput", *DEMO, "--input-len=5000"], 2, "5000 tokens in"),
                (["throughput", *DEMO, "--max-num-seqs=64", "--max-num-batched-tokens=9"], 2,
                 "--max-num-batched-tokens 9 is below"),
                (["throughput", *DEMO, "--table-placement=moon"], 2, "--table-placement"),
                (["throughput", *DEMO, "--table-codec=int8"], 2, "needs --load-format dummy"),
                (["paper", "--table-codec=f8_e4m3+ue8m0"], 2, "a multiple of 32"),
                (["throughput", *DEMO, "--table-cache=much"], 2, "--table-cache"),
                (["throughput", *DEMO, "--numa-policy=far"], 2, "--numa-policy"),
                (["throughput", *DEMO[:2], "--kv-cache-memory=9000GiB"], 1, "are there"),
                (["throughput", *DEMO, "--device=tpu"], 2, "tpu"),
                (["latency", *DEMO, "--batch-size=0"], 2, "batch-size"),
                (["latency", *DEMO, "--num-iters=0"], 2, "num-iters"),
                (["latency", *DEMO, "--input-len=2000", "--output-len=2000"], 2, "2000 out"),
                (["latency", *DEMO, "--output-json=/nowhere/r.json"], 1, "/nowhere"),
                (["latency", *DEMO, "--batch-size=1", "--num-iters=1", "--num-iters-warmup=0",
                  "--output-len=2", "--output-json=/dev/full"], 1, "/dev/full"),
                (["throughput", "--model=configs/bench/dense-0.5b"], 1, "tokenizer"),
                (["paper", "--scale=2"], 2, "--scale"),
                (["paper", "--input-range=7", *Paper.SMALL], 2, "expected LOW:HIGH"),
                (["paper", "--rounds=3", *Paper.SMALL], 2, "at least 7"),
                (["paper", "--arms=N", *Paper.SMALL], 2, "D is missing"),
                (["paper", "--arms=N,D,H", *Paper.SMALL], 2, "on the CPU H is D"),
                (["paper", "--device=cuda", *Paper.SMALL], 1, "CUDA"),
                (["paper", "--model=configs/nothing"], 1, "configs/nothing"),
                (["paper", "--table-parameters=1e12"], 1, "are needed (table "),
                (["paper", *Paper.SMALL, "--output=/nowhere/r.json"], 1, "/nowhere")):
            with self.subTest(arguments=arguments):
                done = self.run_bench(*arguments, code=code)
                self.assertIn(text, done.stderr)


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # refusals are the same on machines with a GPU
    harness.main()
