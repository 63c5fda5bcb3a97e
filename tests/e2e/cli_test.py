"""The client `engram` against a real server: output, exit codes, Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import harness

sys.path.insert(0, os.path.join("tests", "support", "reference"))
import tensor_file  # noqa: E402

ENGRAM = os.path.join(harness.BUILD, "engram")


class Cli(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        flags = ["--fake-step-ms=5"] if harness.FAKE else []
        cls.server = harness.Server(*flags)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def run_engram(self, *arguments, stdin="", server=None):
        environment = {**os.environ, "ENGRAM_SERVER": server or self.server.address}
        return subprocess.run([ENGRAM, *arguments], input=stdin, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def complete(self, *arguments, **options):
        return self.run_engram("complete", "--temperature", "0", "--max-tokens", "24",
                               "--ignore-eos", *arguments, **options)

    def test_text_is_the_json_text(self):
        plain = self.complete("NAME\n\nls - ")
        self.assertEqual(plain.returncode, 0, plain.stderr)
        answer = json.loads(self.complete("NAME\n\nls - ", "--json").stdout)
        self.assertEqual(plain.stdout.rstrip("\n"), answer["text"].rstrip("\n"))
        self.assertEqual(answer["completion_tokens"], 24)
        self.assertEqual(len(answer["token_ids"]), 24)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertGreater(answer["prompt_tokens"], 0)
        piped = self.complete("-", stdin="NAME\n\nls - ")
        self.assertEqual(piped.stdout, plain.stdout)

    def test_text_comes_as_it_is_made(self):
        process = subprocess.Popen(
            [ENGRAM, "complete", "--server", self.server.address, "--max-tokens", "400",
             "--ignore-eos", "slow"], stdout=subprocess.PIPE)
        first = os.read(process.stdout.fileno(), 1)
        self.assertTrue(first)
        self.assertIsNone(process.poll())
        process.stdout.read()
        self.assertEqual(process.wait(30), 0)
        process.stdout.close()

    def test_prompt_ids(self):
        a = self.complete("--prompt-ids", "65,66,67", "--json")
        self.assertEqual(a.returncode, 0, a.stderr)
        self.assertEqual(json.loads(a.stdout)["prompt_tokens"], 3)

    def test_choices_and_logprobs(self):
        result = self.complete("x", "--json", "--n", "2", "--logprobs", "3",
                               "--prompt-logprobs", "2")
        objects = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([o["index"] for o in objects], [0, 1])
        for o in objects:
            self.assertEqual([p["token_id"] for p in o["logprobs"]], o["token_ids"])
            self.assertEqual({len(p["top"]) for p in o["logprobs"]}, {3})
            self.assertEqual(o["completion_tokens"], 24)

    def test_stop_strings(self):
        whole = json.loads(self.complete("stop", "--json").stdout)["text"]
        stop = whole[10:13]
        cut = json.loads(self.complete("stop", "--json", "--stop", stop).stdout)
        self.assertEqual(cut["text"], whole[:whole.index(stop)])
        self.assertEqual((cut["finish_reason"], cut["matched_stop"]), ("stop", stop))
        kept = self.complete("stop", "--json", "--stop", stop, "--include-stop-str-in-output")
        self.assertEqual(json.loads(kept.stdout)["text"], whole[:whole.index(stop) + len(stop)])

    def test_stats(self):
        result = self.complete("x", "--stats")
        self.assertIn("tokens/s", result.stderr)
        self.assertIn("24 generated", result.stderr)
        if not harness.FAKE:
            self.assertIn("n-gram rows", result.stderr)
            self.assertIn("exposed wait", result.stderr)

    def test_tables(self):
        text = self.run_engram("tables")
        self.assertEqual(text.returncode, 0, text.stderr)
        tables = json.loads(self.run_engram("tables", "--json").stdout)["tables"]
        if harness.FAKE:
            self.assertEqual(tables, [])
            self.assertIn("no n-gram tables", text.stdout)
            return
        with open("configs/demo/config.json") as file:
            config = json.load(file)
        self.assertEqual([t["layer"] for t in tables], config["engram_layer_ids"])
        for table in tables:
            self.assertIn(f"layer {table['layer']}", text.stdout)
            self.assertIn(table["version"], text.stdout)
            self.assertEqual(sum(int(t["rows"]) for t in table["tiers"]), int(table["rows"]))
            self.assertTrue(0 <= table["memory"]["huge_page_share"] <= 1)
            self.assertEqual(table["load"]["bytes_done"], table["load"]["bytes_total"])
            self.assertGreaterEqual(
                int(table["bytes"]), int(table["rows"]) * int(table["row_bytes"]))
        before = {t["layer"]: int(t["traffic"]["rows_read"]) for t in tables}
        self.complete("NAME ls")
        for table in json.loads(self.run_engram("tables", "--json").stdout)["tables"]:
            self.assertGreater(int(table["traffic"]["rows_read"]), before[table["layer"]])

    def test_wrong_usage_is_2(self):
        for arguments in (["complete"], ["complete", "x", "--tmperature", "0"], ["nonsense"], [],
                          ["complete", "--prompt-ids", "1,x"], ["complete", "x", "--n", "many"],
                          ["complete", "x", "--logit-bias", "5"], ["tokenize"]):
            result = self.run_engram(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertTrue(result.stderr.startswith("engram: "), result.stderr)

    def test_a_refused_request_is_1(self):
        result = self.run_engram("complete", "x", "--top-p", "7")
        self.assertEqual(result.returncode, 1)
        self.assertIn("INVALID_ARGUMENT", result.stderr)
        self.assertIn("sampling.top_p", result.stderr)
        result = self.run_engram("complete", "x", "--timeout", "0.05")
        self.assertEqual(result.returncode, 1)
        self.assertIn("DEADLINE_EXCEEDED", result.stderr)

    def test_no_server_is_3(self):
        for command in (["complete", "x"], ["tokenize", "x"], ["stats"], ["tables"]):
            result = self.run_engram(*command, server="127.0.0.1:1")
            self.assertEqual(result.returncode, 3, command)
            self.assertIn("127.0.0.1:1", result.stderr)

    def test_ctrl_c_is_130_and_cancels(self):
        process = subprocess.Popen(
            [ENGRAM, "complete", "--server", self.server.address, "--ignore-eos",
             "--request-id", "interrupted", "a long story"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(os.read(process.stdout.fileno(), 1))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 130)
        process.stdout.close()
        process.stderr.close()
        line = self.server.wait_for("request", 10, "request_id", "interrupted")
        self.assertEqual(line["aborted"], "client")
        self.server.wait_idle()

    def test_tokenize_there_and_back(self):
        text = "Hello, Wörld 世界!"
        there = json.loads(
            self.run_engram("tokenize", "--json", "--no-add-special-tokens", text).stdout)
        ids = ",".join(str(i) for i in there["token_ids"])
        back = self.run_engram("tokenize", "--ids", ids)
        self.assertEqual(back.stdout, text + "\n")

    def test_stats_command(self):
        self.complete("x")
        result = self.run_engram("stats")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("ready", result.stdout)
        self.assertIn("pages in use", result.stdout)
        numbers = json.loads(self.run_engram("stats", "--json").stdout)["numbers"]
        self.assertGreaterEqual(int(numbers["generation_tokens"]), 24)

    def test_help_and_version(self):
        for program in (ENGRAM, os.path.join(harness.BUILD, "engramd")):
            for flag in ("--help", "--version"):
                result = subprocess.run([program, flag], stdout=subprocess.PIPE, timeout=20)
                self.assertEqual(result.returncode, 0, (program, flag))
                self.assertIn(b"engram", result.stdout)


class Offline(unittest.TestCase):
    """Commands that read a checkpoint and need no server."""

    def run_engram(self, *arguments):
        return subprocess.run([ENGRAM, *arguments], text=True, timeout=60, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    def hash(self, model, *arguments):
        result = self.run_engram("hash", "--model", model, "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_rows_are_those_of_the_golden_file(self):
        with open("tests/golden/demo-model.json") as f:
            prompts = json.load(f)["prompts"]
        self.assertTrue(prompts)
        for prompt in prompts:
            answer = self.hash("configs/demo", "--ids", ",".join(map(str, prompt["ids"])))
            self.assertEqual(list(answer), ["canonical_ids", "rows"])
            self.assertEqual(len(answer["canonical_ids"]), len(prompt["ids"]))
            self.assertEqual(list(answer["rows"]), list(prompt["rows"]))
            for layer, golden in prompt["rows"].items():  # of the first positions
                self.assertTrue(golden)
                self.assertEqual(len(answer["rows"][layer]), len(prompt["ids"]))
                self.assertEqual(answer["rows"][layer][:len(golden)], golden)

    def test_text_and_its_ids_hash_alike(self):
        # "The following" with the begin-of-text token in front.
        self.assertEqual(self.hash("configs/demo", "--text", "The following"),
                         self.hash("configs/demo", "--ids", "0,339,876"))

    def test_wrong_input(self):
        for arguments, code in ((["--ids", "5,x"], 2), (["--ids", "99999"], 1), ([], 2),
                                (["--ids", "5", "--text", "x"], 2)):
            result = self.run_engram("hash", "--model", "configs/demo", *arguments)
            self.assertEqual(result.returncode, code, arguments)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        result = self.run_engram("hash", "--model", "/no/such/model", "--ids", "5")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/no/such/model", result.stderr)

    def test_convert_derives_the_token_map(self):
        with tempfile.TemporaryDirectory() as directory:
            bare, out = os.path.join(directory, "bare"), os.path.join(directory, "out")
            os.mkdir(bare)
            for name in os.listdir("configs/demo"):
                if name != "model.safetensors":
                    shutil.copy(os.path.join("configs/demo", name), bare)
            tensors = tensor_file.read_safetensors("configs/demo/model.safetensors")
            del tensors["model.engram_token_map"]
            tensor_file.write_safetensors(os.path.join(bare, "model.safetensors"), tensors)
            result = self.run_engram("convert", "--model", bare, "--out", out)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, r"Unicode \d+\.\d")
            ids = ",".join(str(i) for i in range(0, 8192, 7))
            self.assertEqual(self.hash(out, "--ids", ids), self.hash("configs/demo", "--ids", ids))
            self.assertEqual(self.hash(bare, "--ids", ids), self.hash(out, "--ids", ids))
            again = self.run_engram("convert", "--model", bare, "--out", out)
            self.assertEqual(again.returncode, 1)
            self.assertIn("exists", again.stderr)
            whole = self.run_engram("convert", "--model", "configs/demo", "--out", out + "2")
            self.assertEqual(whole.returncode, 1)
            self.assertIn("nothing to derive", whole.stderr)


if __name__ == "__main__":
    harness.main()
