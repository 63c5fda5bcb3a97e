"""--quantization fp8: the demo model answers, in any company alike, and its log says what became of its weights."""

import os
import subprocess
import unittest

import harness
from harness import collect, completions_pb2

PROMPTS = ["NAME\n\nls - ", "The GNU General Public ", "x"]


def requests():
    for text in PROMPTS:
        request = completions_pb2.CompleteRequest(text=text)
        request.sampling.temperature = 0
        request.stopping.ignore_eos = True
        request.stopping.max_tokens = 24
        yield request


def answers(*flags):
    """Keys of the choices, each request alone, then all at once; what the log says."""
    with harness.Server("--log-level=debug", *flags) as server:
        stub = server.completions()
        alone = [collect([stub.Complete(r)])[0][0].key() for r in requests()]
        calls = [stub.Complete.future(r) for r in requests()]
        together = [collect([c.result()])[0][0].key() for c in calls]
        assert server.stop() == 0
        return alone, together, [line["message"] for line in server.lines]


class Quantization(unittest.TestCase):
    def test_fp8(self):
        alone, together, log = answers("--quantization", "fp8")
        self.assertEqual(alone, together)
        for text, ids, _ in alone:
            self.assertTrue(text)
            self.assertEqual(len(ids), 24)
        errors = [line for line in log if " in fp8: off by " in line]
        self.assertEqual(len(errors), 7)
        for line in errors:
            percent = float(line.split(" off by ")[1].split(" ")[0])
            self.assertGreater(percent, 1)
            self.assertLess(percent, 4)

    def test_others_are_refused(self):
        result = subprocess.run(
            [os.path.join(harness.BUILD, "engramd"), "--model", "configs/demo", "--port=0",
             "--no-metrics", "--quantization", "awq"],
            text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--quantization", result.stderr)


if __name__ == "__main__":
    harness.main()
