"""engram bench serve against engramd: what it counts is what was, and what goes wrong is said."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness

ENGRAM = os.path.join(harness.BUILD, "engram")
# `vllm bench serve` writes these; scripts read them.
KEYS = """date backend model_id tokenizer_id label num_prompts request_rate burstiness
    max_concurrency duration completed failed total_input_tokens total_output_tokens
    request_throughput request_goodput output_throughput total_token_throughput
    max_output_tokens_per_s max_concurrent_requests""".split()
DETAILS = """input_lens output_lens ttfts itls latencies start_times queue_times generated_texts
    errors""".split()

DIRECTORY = tempfile.TemporaryDirectory()


class Bench:
    """A run of `engram bench serve` in a directory of its own."""

    def __init__(self, address, *flags, save=True, **popen):
        self.path = os.path.join(tempfile.mkdtemp(dir=DIRECTORY.name), "sub", "result.json")
        saving = ["--save-result", "--save-detailed", "--result-dir", os.path.dirname(self.path),
                  "--result-filename", "result.json"] if save else []
        self.process = subprocess.Popen(
            [ENGRAM, "bench", "serve", "--server", address, *saving, *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)

    def wait(self, seconds=100):
        self.out, self.err = self.process.communicate(timeout=seconds)
        self.code = self.process.returncode
        if os.path.exists(self.path):
            with open(self.path) as f:
                self.json = json.load(f)
        return self


def bench(address, *flags, **options):
    return Bench(address, *flags, **options).wait()


class Measures(unittest.TestCase):
    """Against one server that makes a token every 2 ms."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(
            "--fake-step-ms=2", "--max-num-seqs=64", "--max-queued-requests=4096",
            "--served-model-name=small,tiny")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def run_bench(self, *flags, code=0):
        result = bench(self.server.address, *flags)
        self.assertEqual(result.code, code, result.err)
        self.server.wait_idle()
        return result

    def finished(self):
        return dict(self.server.info().numbers.finished)

    def test_a_run_is_counted_and_saved(self):
        before = self.server.info().numbers
        result = self.run_bench(
            "--num-prompts=100", "--request-rate=200", "--random-input-len=20",
            "--random-output-len=30", "--num-warmups=5", "--seed=3", "--metadata", "a=b", "c=d=e",
            "--label=try", "--goodput", "e2el:60000", "--model=tiny",
            "--percentile-metrics=ttft,tpot,itl,e2el", "--metric-percentiles=50,90,99")
        r = result.json
        for key in KEYS + DETAILS:
            self.assertIn(key, r)
        for metric in ("ttft", "tpot", "itl", "e2el"):
            for figure in ("mean", "median", "std", "p50", "p90", "p99"):
                self.assertGreater(r[f"{figure}_{metric}_ms"], 0 if figure != "std" else -1)
        self.assertEqual(r["x_kind"], "serve")
        self.assertEqual(r["x_schema"], 1)
        self.assertEqual((r["completed"], r["failed"], r["num_prompts"]), (100, 0, 100))
        self.assertEqual((r["total_input_tokens"], r["total_output_tokens"]), (2000, 3000))
        self.assertEqual((r["input_lens"], r["output_lens"]), ([20] * 100, [30] * 100))
        self.assertEqual((r["label"], r["model_id"]), ("try", "tiny"))
        self.assertEqual((r["a"], r["c"]), ("b", "d=e"))
        self.assertEqual(r["request_rate"], 200)
        self.assertEqual(r["x_dataset"], {"name": "random", "random_input_len": "20",
                                          "random_output_len": "30"})
        self.assertAlmostEqual(r["request_goodput"], r["request_throughput"], places=6)
        for ttft, itls, latency, text in zip(
                r["ttfts"], r["itls"], r["latencies"], r["generated_texts"]):
            self.assertGreaterEqual(latency + 1e-9, ttft + sum(itls))
            self.assertEqual(len(text), 30)  # the simulator's tokens are letters
        after = self.server.info().numbers
        self.assertEqual(after.generation_tokens - before.generation_tokens, 105 * 30)
        self.assertIn("Serving Benchmark Result", result.out)
        self.assertRegex(result.out, r"Successful requests: +100 *\n")
        self.assertRegex(result.out, r"Mean TTFT \(ms\): +[0-9.]+ *\n")

    def test_concurrency_is_never_exceeded(self):
        most = []
        over = threading.Event()

        def watch():
            while not over.is_set():
                numbers = self.server.info().numbers
                most.append(numbers.running + numbers.waiting)

        watcher = threading.Thread(target=watch)
        watcher.start()
        # A closed loop: all are there at once, and wait in the client.
        r = self.run_bench(
            "--num-prompts=120", "--max-concurrency=5", "--random-input-len=8",
            "--random-output-len=20", "--connections=3").json
        over.set()
        watcher.join(20)
        self.assertLessEqual(max(most), 5)
        self.assertEqual(r["max_concurrent_requests"], 5)
        self.assertEqual((r["completed"], r["max_concurrency"]), (120, 5))
        # Those who came last waited for 23 rounds of 20 steps before them.
        self.assertGreater(max(r["queue_times"]), 23 * 19 * 0.002)

    def test_cancelled_requests_are_counted(self):
        before = self.finished().get("abort", 0)
        r = self.run_bench(
            "--num-prompts=40", "--random-input-len=8", "--random-output-len=400",
            "--cancellation-rate=0.5", "--cancellation-delay=0.05", "--max-concurrency=64").json
        cancelled = self.finished().get("abort", 0) - before
        self.assertGreater(cancelled, 5)
        self.assertGreater(r["completed"], 5)
        self.assertEqual(r["completed"] + cancelled, 40)
        self.assertEqual(r["x_cancelled"], cancelled)
        self.assertEqual(r["failed"], 0)
        self.assertEqual(r["total_output_tokens"], 400 * r["completed"])

    def test_slow_readers_get_everything(self):
        r = self.run_bench(
            "--num-prompts=20", "--random-input-len=8", "--random-output-len=50",
            "--slow-reader-rate=0.5", "--slow-reader-pause=0.03").json
        self.assertEqual((r["completed"], r["total_output_tokens"]), (20, 1000))
        slow = [sum(itls) for itls in r["itls"] if itls and min(itls) >= 0.03]
        self.assertGreater(len(slow), 2)
        self.assertLess(len(slow), 18)

    def test_probes_are_apart(self):
        before = self.server.info().numbers.generation_tokens
        r = self.run_bench(
            "--num-prompts=20", "--request-rate=20", "--random-input-len=8",
            "--random-output-len=10", "--max-concurrency=1", "--probe-request-rate=50").json
        probes = self.server.info().numbers.generation_tokens - before - 200
        self.assertGreater(probes, 20)
        self.assertEqual(r["completed"], 20)
        self.assertEqual(r["probe_completed"], probes)

    def test_ramp_and_datasets(self):
        with tempfile.TemporaryDirectory() as directory:
            custom = os.path.join(directory, "custom.jsonl")
            with open(custom, "w") as f:
                for i in range(10):
                    f.write(json.dumps({"prompt": f"ls -{i}", "output_tokens": 5 + i}) + "\n")
            r = self.run_bench(
                "--dataset-name=custom", "--dataset-path", custom, "--num-prompts=10",
                "--ignore-eos", "--ramp-up-strategy=linear", "--ramp-up-start-rps=10",
                "--ramp-up-end-rps=100").json
            self.assertEqual(sorted(r["output_lens"]), list(range(5, 15)))
            self.assertTrue(r["rps_change_events"])
            trace = os.path.join(directory, "trace.jsonl")
            with open(trace, "w") as f:
                for i in range(10):
                    f.write(json.dumps({"timestamp": 50 * i, "input_length": 40,
                                        "output_length": 6, "hash_ids": [i % 2]}) + "\n")
            r = self.run_bench("--dataset-name=trace", "--dataset-path", trace,
                               "--num-prompts=0", "--trace-speed=0.5").json
            self.assertEqual((r["completed"], r["total_input_tokens"]), (10, 400))
            self.assertGreaterEqual(max(r["start_times"]) - min(r["start_times"]), 0.8)
            talk = os.path.join(directory, "talk.json")
            with open(talk, "w") as f:
                json.dump([{"conversations": [{"from": "human", "value": "ask " * (5 + i)},
                                              {"from": "gpt", "value": "tell " * (4 + i)}]}
                           for i in range(6)], f)
            r = self.run_bench("--dataset-name=sharegpt", "--dataset-path", talk,
                               "--num-prompts=6", "--ignore-eos").json
            # The simulator's tokens are bytes, so that the server says how long the texts are.
            self.assertEqual(sorted(r["input_lens"]), [4 * (5 + i) for i in range(6)])
            self.assertEqual(sorted(r["output_lens"]), [5 * (4 + i) for i in range(6)])

    def test_help_says_what_is_measured(self):
        result = subprocess.run([ENGRAM, "bench", "serve", "--help"], capture_output=True,
                                text=True, timeout=20)
        self.assertEqual(result.returncode, 0)
        for word in ("TTFT", "TPOT", "E2EL", "ITL", "goodput", "--request-rate", "Exit codes"):
            self.assertIn(word, result.stdout)
        self.assertEqual([line for line in result.stdout.split("\n") if len(line) > 100], [])

    def test_deadlines_fail_requests(self):
        result = self.run_bench(
            "--num-prompts=5", "--random-input-len=8", "--random-output-len=1000",
            "--request-timeout-s=0.1", code=1)
        self.assertEqual((result.json["completed"], result.json["failed"]), (0, 5))
        self.assertIn("5 failed: DEADLINE_EXCEEDED", result.err)

    def test_wrong_model(self):
        result = bench(self.server.address, "--model=huge", "--num-prompts=1")
        self.assertEqual(result.code, 1)
        self.assertIn("NOT_FOUND", result.err)
        self.assertIn("small", result.err)

    def test_impossible_flags(self):
        for flags, word in [
                (["--request-rate=0"], "request-rate"),
                (["--request-rate=-3"], "request-rate"),
                (["--burstiness=0"], "burstiness"),
                (["--max-concurrency=0"], "max-concurrency"),
                (["--num-prompts=0"], "num-prompts"),
                (["--cancellation-rate=2"], "cancellation-rate"),
                (["--slow-reader-pause=1"], "slow-reader-rate"),
                (["--ramp-up-strategy=linear"], "ramp-up"),
                (["--ramp-up-strategy=up"], "ramp-up"),
                (["--ramp-up-strategy=linear", "--ramp-up-start-rps=1", "--ramp-up-end-rps=9",
                  "--request-rate=4"], "request-rate"),
                (["--goodput", "speed:1"], "goodput"),
                (["--metric-percentiles=101"], "metric-percentiles"),
                (["--percentile-metrics=speed"], "percentile-metrics"),
                (["--metadata", "word"], "metadata"),
                (["--save-csv"], "--save-result"),
                (["--request-id-prefix=a b"], "request-id-prefix"),
                (["--trace-speed=2"], "trace"),
                (["--dataset-name=nosuch"], "nosuch"),
                (["--dataset-name=sharegpt"], "dataset-path"),
                (["--random-input-len=100000"], "longer than the server takes"),
                (["--connections=0"], "connections"),
                (["--no-such-flag"], "no-such-flag")]:
            with self.subTest(flags=flags):
                result = bench(self.server.address, *flags, save=False)
                self.assertEqual(result.code, 2, result.err)
                self.assertIn(word, result.err)

    def test_damaged_dataset(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "cut.jsonl")
            with open(path, "w") as f:
                f.write('{"prompt": "whole", "output_tokens": 3}\n{"prompt": "cu')
            result = bench(self.server.address, "--dataset-name=custom", "--dataset-path", path)
            self.assertEqual(result.code, 2, result.err)
            self.assertIn("cut.jsonl:2", result.err)
            result = bench(self.server.address, "--dataset-name=custom", "--dataset-path",
                           path + ".not")
            self.assertEqual(result.code, 1, result.err)
            self.assertIn("cut.jsonl.not", result.err)

    def test_full_disk(self):
        for flag in ("--save-result", "--append-result"):
            result = bench(self.server.address, "--num-prompts=3", "--random-output-len=3", flag,
                           "--result-dir=/dev", "--result-filename=full", save=False)
            self.assertEqual(result.code, 1, result.err)
            self.assertIn("/dev/full", result.err)
            self.assertIn("No space left", result.err)

    def test_results_are_appended(self):
        with tempfile.TemporaryDirectory() as directory:
            for label in ("a", "b"):
                result = bench(
                    self.server.address, "--num-prompts=2", "--random-output-len=3",
                    "--append-result", "--result-dir", directory, "--result-filename=all.jsonl",
                    "--label", label, save=False)
                self.assertEqual(result.code, 0, result.err)
            with open(os.path.join(directory, "all.jsonl")) as f:
                self.assertEqual([json.loads(line)["label"] for line in f], ["a", "b"])


class Datasets(unittest.TestCase):
    """Against a model, whose cache shows which prompts share their beginning."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(engine="demo")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def run_bench(self, *flags):
        result = bench(self.server.address, "--max-concurrency=1", *flags)
        self.assertEqual(result.code, 0, result.err)
        r = result.json
        r["cached"] = r["x_server_after"]["cached_tokens"] - r["x_server_before"]["cached_tokens"]
        return result, r

    def test_equal_hash_ids_of_a_trace_are_cached(self):
        with tempfile.TemporaryDirectory() as directory:
            trace = os.path.join(directory, "trace.jsonl")
            with open(trace, "w") as f:
                for i in range(20):
                    f.write(json.dumps({"timestamp": i, "input_length": 70, "output_length": 2,
                                        "hash_ids": [1, 2, 10 + i]}) + "\n")
                f.write(json.dumps({"timestamp": 30, "input_length": 10000000,
                                    "output_length": 2}) + "\n")
            result, r = self.run_bench("--dataset-name=trace", "--dataset-path", trace,
                                       "--num-prompts=0", "--trace-block-tokens=32")
        self.assertEqual((r["completed"], r["total_input_tokens"]), (20, 1400))
        self.assertEqual(r["cached"], 19 * 64)
        self.assertIn("1 entries are left out", result.err)

    def test_each_prefix_is_computed_once(self):
        _, r = self.run_bench(
            "--dataset-name=prefix_repetition", "--num-prompts=24", "--seed=5",
            "--prefix-repetition-prefix-len=64", "--prefix-repetition-suffix-len=9",
            "--prefix-repetition-num-prefixes=4", "--prefix-repetition-output-len=2")
        self.assertEqual(r["total_input_tokens"], 24 * 73)
        self.assertEqual(r["cached"], 20 * 64)

    def test_the_server_counts_tokens_of_sharegpt(self):
        turns = [("List the files of this directory.", "ls -l shows them, one on each line."),
                 ("a", "An answer to a question that is too short."),
                 ("How do I see hidden files, too?", "ls -a")]
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "sharegpt.json")
            with open(path, "w") as f:
                json.dump([{"id": str(i), "conversations": [
                    {"from": "human", "value": ask}, {"from": "gpt", "value": answer}]}
                    for i, (ask, answer) in enumerate(turns)], f, indent=1)
            flags = ["--dataset-name=sharegpt", "--dataset-path", path, "--num-prompts=4"]
            _, r = self.run_bench(*flags, "--ignore-eos", "--sharegpt-output-len=5")
            self.assertEqual((r["completed"], r["output_lens"]), (4, [5] * 4))
            self.assertGreater(min(r["input_lens"]), 3)
            with open(path, "r+") as f:
                f.truncate(os.path.getsize(path) - 3)
            result = bench(self.server.address, *flags)
        self.assertEqual(result.code, 2, result.err)
        self.assertIn("was it cut off?", result.err)


class Freezes(unittest.TestCase):
    """An engine that stands still for 2 s, from 1 s after the first request on."""

    def run_frozen(self, *flags):
        with harness.Server("--fake-step-ms=10", "--fake-freeze-at-s=1",
                            "--fake-freeze-s=2") as server:
            result = bench(
                server.address, "--num-prompts=200", "--request-rate=50", "--burstiness=inf",
                "--random-input-len=8", "--random-output-len=5",
                "--percentile-metrics=ttft,e2el,e2el_including_client_queue",
                "--metric-percentiles=99,100", *flags)
            self.assertEqual(result.code, 0, result.err)
            self.assertEqual(result.json["completed"], 200)
            return result.json

    def test_every_request_of_the_plan_shows_it(self):
        r = self.run_frozen()
        # One is sent every 20 ms and takes 50 ms, so some were running when it began.
        self.assertGreaterEqual(r["p100_e2el_ms"], 2000)
        self.assertGreaterEqual(r["p99_e2el_ms"], 1900)
        begin = min(r["start_times"])
        held = [(s - begin, e) for s, e in zip(r["start_times"], r["latencies"])
                if 1.5 <= s - begin < 3]
        # As planned, but for the ends; a client that waited for answers would send next to none.
        self.assertIn(len(held), range(73, 78))
        for sent, latency in held:
            self.assertGreaterEqual(sent + latency, 3)

    def test_a_limit_on_concurrency_does_not_hide_it(self):
        r = self.run_frozen("--max-concurrency=4")
        self.assertLessEqual(sum(e > 1 for e in r["latencies"]), 4)
        self.assertGreaterEqual(r["p99_e2el_including_client_queue_ms"], 1800)
        waited = sum(q + e > 1 for q, e in zip(r["queue_times"], r["latencies"]))
        self.assertGreaterEqual(waited, 50)


class Ends(unittest.TestCase):
    """Servers that are not there, not ready, or go away."""

    LONG = ["--num-prompts=2000", "--request-rate=100", "--random-input-len=8",
            "--random-output-len=20"]

    def wait_for_requests(self, server, count):
        while sum(server.info().numbers.finished.values()) < count:
            time.sleep(0.02)

    def test_no_server(self):
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % port.getsockname()[1]
            for flags in ([], ["--ready-check-timeout-sec=1"], ["--ready-check-timeout-sec=0"]):
                result = bench(address, *flags)
                self.assertEqual(result.code, 3, result.err)
                self.assertIn(address, result.err)

    def test_a_loading_server_is_waited_for(self):
        with harness.Server("--fake-load-seconds=2", wait=False) as server:
            result = bench(server.address, "--num-prompts=3", "--random-output-len=3")
            self.assertEqual(result.code, 0, result.err)
            self.assertIn("loading", result.err)
            self.assertEqual(result.json["completed"], 3)
        with harness.Server("--fake-load-seconds=60", wait=False) as server:
            result = bench(server.address, "--ready-check-timeout-sec=1")
            self.assertEqual(result.code, 1, result.err)
            self.assertIn("loading", result.err)

    def test_server_that_dies(self):
        with harness.Server("--fake-step-ms=5") as server:
            run = Bench(server.address, *self.LONG)
            self.wait_for_requests(server, 100)
            server.kill(signal.SIGKILL)
            run.wait()
            self.assertEqual(run.code, 1, run.err)
            self.assertIn("went away", run.err)
            self.assertGreaterEqual(run.json["completed"], 100)
            self.assertLess(run.json["completed"], 2000)
            self.assertGreater(run.json["failed"], 0)
            self.assertEqual(
                run.json["completed"] + run.json["failed"] + run.json["x_dropped_sends"], 2000)
            self.assertIn("2 s", run.json["x_server_lost"])
            self.assertIn("Serving Benchmark Result", run.out)

    def test_server_that_drains(self):
        with harness.Server("--fake-step-ms=20") as server:
            run = Bench(server.address, *self.LONG)
            self.wait_for_requests(server, 50)
            self.assertEqual(server.stop(), 0)
            run.wait()
            self.assertEqual(run.code, 1, run.err)
            # Those in flight were answered, later ones refused, then nobody was there.
            self.assertIn("draining", run.err)
            self.assertIn("went away", run.err)
            self.assertGreaterEqual(run.json["completed"], 50)

    def test_interrupt(self):
        with harness.Server("--fake-step-ms=5") as server:
            run = Bench(server.address, *self.LONG)
            self.wait_for_requests(server, 100)
            run.process.send_signal(signal.SIGINT)
            run.wait()
            self.assertEqual(run.code, 130, run.err)
            self.assertIn("interrupted", run.err)
            self.assertGreaterEqual(run.json["completed"], 100)
            self.assertIs(run.json["x_interrupted"], True)
            server.wait_idle()


if __name__ == "__main__":
    with DIRECTORY:
        harness.main()
