"""engramd under load: many streams at once, some cancelled, late, slow or stopped."""

import random
import threading
import time
import unittest

import grpc

import harness
from harness import collect, make_request

STREAMS = 64
SEED = random.SystemRandom().randrange(1 << 30)
PROMPTS = ["The following options are ", "NAME\n\nls - ", "The GNU General Public ", "Usage: ",
           "A process that ", "static int ", "see also ", "If the file "]


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        flags = ["--fake-step-ms=2", "--fake-prefill-rate=1e6"] if harness.FAKE else []
        cls.server = harness.Server(*flags, "--max-num-seqs=64", "--max-queued-requests=1024")
        cls.stub = cls.server.completions()
        cls.tokens = 200 if harness.FAKE else 48
        cls.expected = {}
        for prompt in PROMPTS:
            choices, usage, _ = collect([cls.stub.Complete(make_request(prompt, cls.tokens))])
            cls.expected[prompt] = choices[0].key()
            assert usage.completion_tokens == cls.tokens, usage

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def run_stream(self, kind, prompt, rng, outcome):
        request = make_request(prompt, self.tokens)
        if kind == "normal":
            choices, usage, _ = collect(self.stub.StreamComplete(request))
            outcome.append((choices[0].key(), usage.completion_tokens))
        elif kind == "slow":
            def slowly(stream):
                for message in stream:
                    time.sleep(rng.random() * 0.01)
                    yield message
            choices, usage, _ = collect(slowly(self.stub.StreamComplete(request)))
            outcome.append((choices[0].key(), usage.completion_tokens))
        elif kind == "cancel":
            stream = self.stub.StreamComplete(request)
            for _ in range(rng.randrange(4)):
                next(stream)
            stream.cancel()
            outcome.append(None)
        else:
            self.run_deadline(prompt, rng, outcome)

    def run_deadline(self, prompt, rng, outcome):
        stream = self.stub.StreamComplete(
            make_request(prompt, 1500), timeout=0.001 + rng.random() * 0.2)
        text = ""
        try:
            for message in stream:
                text += "".join(c.text for c in message.choices)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        # What came before the deadline is a beginning of the whole answer.
        whole = self.expected[prompt][0]
        assert whole.startswith(text[:len(whole)]), (whole, text)
        outcome.append(None)

    def test_streams_cancels_deadlines_and_slow_readers(self):
        outcomes = []

        def worker(index):
            rng = random.Random(SEED + index)
            for _ in range(3):
                kind = rng.choice(["normal", "normal", "slow", "cancel", "deadline"])
                prompt = rng.choice(PROMPTS)
                outcome = []
                outcomes.append((kind, prompt, outcome))
                try:
                    self.run_stream(kind, prompt, rng, outcome)
                except Exception as error:  # noqa: BLE001: reported below, with the seed
                    outcome.append(error)

        threads = [threading.Thread(target=worker, args=(i,)) for i in range(STREAMS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            self.assertFalse(thread.is_alive(), "a stream hangs")
        for kind, prompt, outcome in outcomes:
            with self.subTest(seed=SEED, kind=kind, prompt=prompt):
                self.assertEqual(len(outcome), 1, outcome)
                if kind in ("normal", "slow"):
                    self.assertEqual(outcome[0], (self.expected[prompt], self.tokens))
                else:
                    self.assertIsNone(outcome[0])
        self.server.wait_idle()

    def test_stream_equals_unary_for_several_choices(self):
        request = make_request("The following options are ", 64, n=3)
        unary, unary_usage, _ = collect([self.stub.Complete(request)])
        stream, usage, count = collect(self.stub.StreamComplete(request))
        self.assertEqual(sorted(stream), [0, 1, 2])
        self.assertEqual({i: a.key() for i, a in unary.items()},
                         {i: a.key() for i, a in stream.items()})
        self.assertEqual(usage.completion_tokens, unary_usage.completion_tokens)
        self.assertGreater(count, 1)
        self.assertEqual({a.finished for a in stream.values()}, {1})

    def test_batch_equals_single_prompts(self):
        request = make_request("", 32)
        request.texts.texts.extend(PROMPTS)
        choices, usage, _ = collect(self.stub.StreamComplete(request))
        self.assertEqual(sorted(choices), list(range(len(PROMPTS))))
        for index, prompt in enumerate(PROMPTS):
            single, _, _ = collect([self.stub.Complete(make_request(prompt, 32))])
            self.assertEqual(choices[index].key(), single[0].key(), prompt)
        self.assertEqual(usage.completion_tokens, 32 * len(PROMPTS))

    def test_token_bytes_give_the_text(self):
        request = make_request("NAME\n\nls - ", 64)
        request.output.token_bytes = True
        choices, _, _ = collect(self.stub.StreamComplete(request))
        self.assertEqual(choices[0].bytes.decode("utf-8", "replace"), choices[0].text)

    def test_cancel_while_queued(self):
        running = [self.stub.StreamComplete(make_request(PROMPTS[0], 1000)) for _ in range(80)]
        for stream in running:
            stream.cancel()
        self.server.wait_idle()

    def test_metrics_agree(self):
        before = self.server.metrics()
        collect(self.stub.StreamComplete(make_request(PROMPTS[1], 40)))
        self.server.wait_idle()
        time.sleep(1.2)
        after = self.server.metrics()

        def grown(name):
            return harness.metric(after, name) - harness.metric(before, name)

        self.assertGreaterEqual(grown("engram_generation_tokens_total"), 40)
        self.assertGreaterEqual(grown("engram_e2e_request_latency_seconds_count"), 1)
        self.assertEqual(harness.metric(after, "engram_num_requests_running"), 0)
        self.assertEqual(harness.metric(after, "engram_kv_cache_usage_perc"), 0)
        self.assertEqual(harness.metric(after, "engram_active_streams"), 0)


@unittest.skipUnless(harness.FAKE, "needs more output than a small model's context holds")
class StoppedReader(unittest.TestCase):
    def test_a_stopped_reader_is_cut_off_and_disturbs_nobody(self):
        with harness.Server("--fake-step-ms=0.2", "--client-stall-timeout=1.5") as server:
            stub = server.completions()
            # Log-probabilities make the output larger than any flow-control window.
            big = make_request("x", 30000)
            big.output.logprobs = 20
            channel = grpc.insecure_channel(
                server.address, options=[("grpc.http2.lookahead_bytes", 65536),
                                         ("grpc.http2.bdp_probe", 0)])
            stopped = harness.completions_pb2_grpc.CompletionsStub(channel).StreamComplete(big)
            next(stopped)
            expected, _, _ = collect([stub.Complete(make_request("healthy", 300))])
            healthy, _, _ = collect(stub.StreamComplete(make_request("healthy", 300)))
            self.assertEqual(healthy[0].key(), expected[0].key())
            server.wait_for("request", 30, "aborted", "stall")
            self.assertEqual(harness.metric(server.metrics(), "engram_client_stalled_total"), 1)
            server.wait_idle()
            with self.assertRaises(grpc.RpcError):
                for _ in stopped:
                    pass
            channel.close()
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
