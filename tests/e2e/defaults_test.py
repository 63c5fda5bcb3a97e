"""Sampling defaults: generation_config.json of the model, of another directory, none."""

import json
import os
import subprocess
import tempfile
import unittest

import harness
from harness import collect, completions_pb2

TOKENS = 64


def sampled(server, **options):
    """The text of a request that sets seed, length and `options`, and nothing else."""
    request = completions_pb2.CompleteRequest(text="NAME\n\nls - ")
    request.sampling.seed = 11
    request.stopping.ignore_eos = True
    request.stopping.max_tokens = options.pop("max_tokens", TOKENS)
    for name, value in options.items():
        setattr(request.sampling, name, value)
    choices, _, _ = collect([server.completions().Complete(request)])
    return choices[0]


def defaults_of(server):
    return harness.models_pb2_grpc.ModelsStub(server.channel).Get(
        harness.models_pb2.GetModelRequest()).sampling_defaults


class Defaults(unittest.TestCase):
    def test_the_models_own(self):
        with harness.Server() as server:
            defaults = defaults_of(server)
            self.assertAlmostEqual(defaults.temperature, 0.8, places=6)
            self.assertAlmostEqual(defaults.top_p, 0.95, places=6)
            self.assertFalse(defaults.HasField("max_tokens"))
            bare = sampled(server)
            self.assertEqual(bare.key(), sampled(server, temperature=0.8, top_p=0.95).key())
            self.assertNotEqual(bare.key(), sampled(server, temperature=1, top_p=1).key())
            self.assertEqual(server.stop(), 0)

    def test_none(self):
        with harness.Server("--generation-config=vllm") as server:
            self.assertEqual(defaults_of(server).temperature, 1)
            self.assertEqual(
                sampled(server).key(), sampled(server, temperature=1, top_p=1).key())
            self.assertEqual(server.stop(), 0)

    def test_of_another_directory(self):
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "generation_config.json"), "w") as file:
                json.dump({"do_sample": False, "temperature": 0.6, "max_new_tokens": 9}, file)
            with harness.Server("--generation-config", directory) as server:
                self.assertEqual(defaults_of(server).max_tokens, 9)
                bare = sampled(server)
                self.assertEqual(len(bare.ids), 9)
                self.assertEqual(bare.reason, completions_pb2.FINISH_REASON_LENGTH)
                self.assertEqual(bare.key(), sampled(server, temperature=0).key())
                self.assertEqual(len(sampled(server, max_tokens=4).ids), 4)
                self.assertEqual(server.stop(), 0)

    def test_a_directory_without_the_file_is_an_error(self):
        with tempfile.TemporaryDirectory() as directory:
            result = subprocess.run(
                [os.path.join(harness.BUILD, "engramd"), "--model", "configs/demo", "--port=0",
                 "--no-metrics", "--generation-config", directory],
                text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertEqual(result.returncode, 1)
            self.assertIn("generation_config.json", result.stderr.splitlines()[-1])
            self.assertIn(directory, result.stderr.splitlines()[-1])


if __name__ == "__main__":
    harness.main()
