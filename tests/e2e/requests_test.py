"""Wrong requests: each is refused by name, and none disturbs the requests beside it."""

import math
import threading
import unittest

import grpc

import harness
from harness import collect, completions_pb2, make_request

INVALID = grpc.StatusCode.INVALID_ARGUMENT
HEALTHY = 16


def request(**_):
    return make_request("a prompt", 4)


def changed(change):
    r = request()
    change(r)
    return r


def put(path, value):
    """Sets a field by its path; lists are extended."""
    def change(r):
        *parents, last = path.split(".")
        for name in parents:
            r = getattr(r, name)
        if isinstance(value, list):
            getattr(r, last).extend(value)
        else:
            setattr(r, last, value)
    return change


def no_prompt(r):
    r.ClearField("text")


def bias(key, value):
    def change(r):
        r.penalties.logit_bias[key] = value
    return change


def many_biases(r):
    for key in range(5000):
        r.penalties.logit_bias[key] = 1


def batch_times_n(r):
    r.texts.texts.extend(["x"] * 64)
    r.sampling.n = 5


# (what is wrong, change, code, field named in google.rpc.BadRequest)
POISON = [
    ("no prompt", no_prompt, INVALID, "prompt"),
    ("empty text", put("text", ""), INVALID, "text"),
    ("text over 4 MiB", put("text", "x" * ((4 << 20) + 1)), INVALID, "text"),
    ("prompt over the context", put("text", "word " * 200000), INVALID, "prompt"),
    ("no ids", lambda r: r.token_ids.SetInParent(), INVALID, "token_ids"),
    ("id beyond the vocabulary", put("token_ids.ids", [1, 2**31 - 1]), INVALID, "prompt[1]"),
    ("id beyond 31 bits", put("token_ids.ids", [2**32 - 1]), INVALID, "token_ids.ids[0]"),
    ("a million ids", put("token_ids.ids", [1] * 1000000), INVALID, "prompt"),
    ("empty batch", lambda r: r.texts.SetInParent(), INVALID, "texts.texts"),
    ("batch of 65", put("texts.texts", ["x"] * 65), INVALID, "texts.texts"),
    ("batch of a million", put("texts.texts", ["x"] * 1000000), INVALID, "texts.texts"),
    ("empty text in a batch", put("texts.texts", ["x", ""]), INVALID, "texts.texts[1]"),
    ("batch times n", batch_times_n, INVALID, "sampling.n"),
    ("n 0", put("sampling.n", 0), INVALID, "sampling.n"),
    ("n 129", put("sampling.n", 129), INVALID, "sampling.n"),
    ("n 2^32-1", put("sampling.n", 2**32 - 1), INVALID, "sampling.n"),
    ("temperature NaN", put("sampling.temperature", math.nan), INVALID, "sampling.temperature"),
    ("temperature inf", put("sampling.temperature", math.inf), INVALID, "sampling.temperature"),
    ("temperature -1", put("sampling.temperature", -1), INVALID, "sampling.temperature"),
    ("top_p 0", put("sampling.top_p", 0), INVALID, "sampling.top_p"),
    ("top_p NaN", put("sampling.top_p", math.nan), INVALID, "sampling.top_p"),
    ("top_p above 1", put("sampling.top_p", 1.0001), INVALID, "sampling.top_p"),
    ("top_k -2", put("sampling.top_k", -2), INVALID, "sampling.top_k"),
    ("min_p 2", put("sampling.min_p", 2), INVALID, "sampling.min_p"),
    ("repetition 0", put("penalties.repetition", 0), INVALID, "penalties.repetition"),
    ("repetition NaN", put("penalties.repetition", math.nan), INVALID, "penalties.repetition"),
    ("presence 3", put("penalties.presence", 3), INVALID, "penalties.presence"),
    ("frequency -inf", put("penalties.frequency", -math.inf), INVALID, "penalties.frequency"),
    ("bias NaN", bias(1, math.nan), INVALID, "penalties.logit_bias"),
    ("bias beyond 31 bits", bias(2**32 - 1, 1), INVALID, "penalties.logit_bias"),
    ("too many biases", many_biases, INVALID, "penalties.logit_bias"),
    ("max_tokens 0", put("stopping.max_tokens", 0), INVALID, "stopping.max_tokens"),
    ("min over max", put("stopping.min_tokens", 5), INVALID, "stopping.min_tokens"),
    ("min 2^32-1", put("stopping.min_tokens", 2**32 - 1), INVALID, "stopping.min_tokens"),
    ("empty stop", put("stopping.stop", [""]), INVALID, "stopping.stop[0]"),
    ("long stop", put("stopping.stop", ["ok", "x" * 1025]), INVALID, "stopping.stop[1]"),
    ("65 stops", put("stopping.stop", ["x"] * 65), INVALID, "stopping.stop"),
    ("stop id", put("stopping.stop_token_ids", [2**31]), INVALID, "stopping.stop_token_ids[0]"),
    ("stop ids", put("stopping.stop_token_ids", [1] * 1025), INVALID, "stopping.stop_token_ids"),
    ("logprobs 21", put("output.logprobs", 21), INVALID, "output.logprobs"),
    ("logprobs 2^32-1", put("output.logprobs", 2**32 - 1), INVALID, "output.logprobs"),
    ("prompt_logprobs", put("output.prompt_logprobs", 21), INVALID, "output.prompt_logprobs"),
    ("truncate 0", put("truncate_prompt_tokens", 0), INVALID, "truncate_prompt_tokens"),
    ("truncate 2^31", put("truncate_prompt_tokens", 2**31), INVALID, "truncate_prompt_tokens"),
    ("request id", put("request_id", "no spaces"), INVALID, "request_id"),
    ("request id length", put("request_id", "x" * 129), INVALID, "request_id"),
    ("salt", put("cache.salt", "x" * 257), INVALID, "cache.salt"),
    ("model", put("model", "gpt"), grpc.StatusCode.NOT_FOUND, None),
    ("long model", put("model", "ä" * 1000000), grpc.StatusCode.NOT_FOUND, None),
]


class Requests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        flags = ["--fake-step-ms=5"] if harness.FAKE else []
        cls.server = harness.Server(*flags, "--max-num-seqs=32")
        cls.stub = cls.server.completions()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def refuse(self, r, code, field):
        for call in (lambda: self.stub.Complete(r), lambda: list(self.stub.StreamComplete(r))):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assertEqual(caught.exception.code(), code, caught.exception.details())
            self.assertTrue(caught.exception.details())
            if field is not None:
                bad = harness.details(caught.exception)["google.rpc.BadRequest"]
                self.assertEqual(bad.field_violations[0].field, field)

    def test_poison_beside_healthy_streams(self):
        expected, _, _ = collect([self.stub.Complete(make_request("healthy", 100))])
        results = []

        def healthy():
            while not done.is_set():
                choices, _, _ = collect(self.stub.StreamComplete(make_request("healthy", 100)))
                results.append(choices[0].key())

        done = threading.Event()
        threads = [threading.Thread(target=healthy) for _ in range(HEALTHY)]
        for thread in threads:
            thread.start()
        try:
            for name, change, code, field in POISON:
                with self.subTest(name):
                    self.refuse(changed(change), code, field)
        finally:
            done.set()
            for thread in threads:
                thread.join(60)
        self.assertGreaterEqual(len(results), HEALTHY)
        self.assertEqual(set(results), {expected[0].key()})
        self.server.wait_idle()

    def test_invalid_utf8_never_reaches_the_engine(self):
        raw = completions_pb2.CompleteRequest(text="abcd").SerializeToString()
        call = self.server.channel.unary_unary(
            "/engram.v1.Completions/Complete", lambda data: data, lambda data: data)
        for broken in (raw.replace(b"abcd", b"ab\xff\xfe"), raw[:-2], b"\xff" * 64):
            with self.assertRaises(grpc.RpcError):
                call(broken, timeout=10)
        self.assertEqual(self.server.health(""), "SERVING")

    def test_a_too_large_message_is_refused(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.Complete(completions_pb2.CompleteRequest(text="x" * (17 << 20)))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_unset_fields_have_their_defaults(self):
        model = harness.models_pb2_grpc.ModelsStub(self.server.channel).Get(
            harness.models_pb2.GetModelRequest())
        defaults = model.sampling_defaults
        bare = completions_pb2.CompleteRequest(text="a prompt")
        bare.stopping.max_tokens = 24
        bare.sampling.seed = 3
        full = completions_pb2.CompleteRequest(text="a prompt", add_special_tokens=True)
        full.sampling.n = 1
        full.sampling.temperature = defaults.temperature
        full.sampling.top_p = defaults.top_p
        full.sampling.top_k = defaults.top_k
        full.sampling.min_p = defaults.min_p
        full.sampling.seed = 3
        full.penalties.repetition = defaults.repetition_penalty
        full.penalties.presence = 0
        full.penalties.frequency = 0
        full.stopping.max_tokens = 24
        full.stopping.min_tokens = 0
        full.stopping.ignore_eos = False
        full.output.text = True
        full.output.token_ids = True
        full.output.skip_special_tokens = True
        full.output.echo = False
        a, _, _ = collect([self.stub.Complete(bare)])
        b, _, _ = collect([self.stub.Complete(full)])
        self.assertEqual(a[0].key(), b[0].key())

    def test_values_at_their_bounds_are_served(self):
        r = make_request("a prompt", 2)
        r.sampling.n = 2
        r.sampling.temperature = -0.0
        r.sampling.top_p = 1e-30
        r.sampling.top_k = 2**31 - 1
        r.penalties.presence = -2
        r.penalties.frequency = 2
        r.stopping.stop.extend(["z" * 1024] * 64)
        r.output.logprobs = 20
        r.output.prompt_logprobs = 20
        r.request_id = "A" * 128
        r.cache.salt = "s" * 256
        choices, _, _ = collect(self.stub.StreamComplete(r))
        self.assertEqual(len(choices), 2)

    def test_output_switches(self):
        r = make_request("a prompt", 4)
        r.output.text = False
        choices, _, _ = collect(self.stub.StreamComplete(r))
        self.assertEqual((choices[0].text, len(choices[0].ids)), ("", 4))
        r.output.text = True
        r.output.token_ids = False
        choices, _, _ = collect(self.stub.StreamComplete(r))
        self.assertEqual(choices[0].ids, [])
        self.assertNotEqual(choices[0].text, "")

    def test_logprobs_come_for_every_token(self):
        r = make_request("a prompt", 5)
        r.output.logprobs = 3
        r.output.prompt_logprobs = 2
        answer = self.stub.Complete(r)
        choice = answer.choices[0]
        self.assertEqual(list(choice.logprobs.token_ids), list(choice.token_ids))
        self.assertEqual(len(choice.logprobs.top), 5)
        self.assertEqual({len(t.token_ids) for t in choice.logprobs.top}, {3})
        self.assertEqual(len(choice.prompt_logprobs.token_ids), answer.usage.prompt_tokens - 1)

    def test_large_prompt_logprobs_are_split_or_refused(self):
        ids = [5] * 1800 if not harness.FAKE else [65] * 30000
        r = make_request("", 1)
        r.token_ids.ids.extend(ids)
        r.output.prompt_logprobs = 20
        largest, positions = 0, 0
        for message in self.stub.StreamComplete(r):
            largest = max(largest, message.ByteSize())
            positions += sum(len(c.prompt_logprobs.token_ids) for c in message.choices)
        self.assertEqual(positions, len(ids) - 1)
        self.assertLess(largest, 3.5 * 2**20)
        if harness.FAKE:
            with self.assertRaises(grpc.RpcError) as caught:
                self.stub.Complete(r)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.server.wait_idle()

    def test_request_ids(self):
        r = make_request("a prompt", 200)
        r.request_id = "mine"
        stream = self.stub.StreamComplete(r)
        metadata = dict(stream.initial_metadata())
        self.assertEqual(metadata["x-request-id"], "mine")
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.Complete(r)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.ALREADY_EXISTS)
        collect(stream)
        call = self.stub.Complete.with_call(
            make_request("a prompt", 1), metadata=[("x-request-id", "from-metadata")])
        self.assertEqual(call[0].id, "from-metadata")
        self.server.wait_for("request", 5, "request_id", "mine")

    def test_tokenizer(self):
        stub = harness.tokenizer_pb2_grpc.TokenizerStub(self.server.channel)
        pb = harness.tokenizer_pb2
        text = "Grüße, 世界 🙂\n" * 2000
        answer = stub.Tokenize(pb.TokenizeRequest(
            text=text, add_special_tokens=False, token_bytes=True))
        self.assertEqual(b"".join(answer.token_bytes).decode(), text)
        back = stub.Detokenize(pb.DetokenizeRequest(token_ids=answer.token_ids))
        self.assertEqual(back.text, text)
        for bad in (pb.DetokenizeRequest(token_ids=[2**31]),
                    pb.DetokenizeRequest(token_ids=[1] * ((1 << 20) + 1))):
            with self.assertRaises(grpc.RpcError) as caught:
                stub.Detokenize(bad)
            self.assertEqual(caught.exception.code(), INVALID)
        for bad in (pb.TokenizeRequest(), pb.TokenizeRequest(text="x" * ((4 << 20) + 1))):
            with self.assertRaises(grpc.RpcError) as caught:
                stub.Tokenize(bad)
            self.assertEqual(caught.exception.code(), INVALID)

    def test_models(self):
        stub = harness.models_pb2_grpc.ModelsStub(self.server.channel)
        pb = harness.models_pb2
        models = stub.List(pb.ListModelsRequest()).models
        self.assertEqual(len(models), 1)
        self.assertEqual(stub.Get(pb.GetModelRequest(id=models[0].id)), models[0])
        self.assertEqual(models[0].limits.max_choices, 128)
        with self.assertRaises(grpc.RpcError) as caught:
            stub.Get(pb.GetModelRequest(id="other"))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)


class Queue(unittest.TestCase):
    def test_a_full_queue_says_retry(self):
        if not harness.FAKE:
            self.skipTest("needs steps of a fixed time")
        with harness.Server("--fake-step-ms=20", "--max-num-seqs=1",
                            "--max-queued-requests=2") as server:
            stub = server.completions()
            streams = [stub.StreamComplete(make_request("x", 100)) for _ in range(6)]
            codes = []
            for stream in streams:
                try:
                    next(stream)
                    stream.cancel()
                except grpc.RpcError as error:
                    codes.append(error.code())
                    self.assertIn("google.rpc.RetryInfo", harness.details(error))
            self.assertEqual(set(codes), {grpc.StatusCode.RESOURCE_EXHAUSTED})
            server.wait_idle()
            rejected = harness.metric(server.metrics(), "engram_rejected_total")
            self.assertEqual(rejected, len(codes))

    def test_more_than_the_whole_cache_is_never_retried(self):
        if not harness.FAKE:
            self.skipTest("needs a cache of a fixed size")
        with harness.Server("--fake-kv-pages=8") as server:
            with self.assertRaises(grpc.RpcError) as caught:
                server.completions().Complete(make_request("x", 1000))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)

    def test_the_server_limits_the_time_of_a_request(self):
        with harness.Server("--fake-step-ms=10", "--max-request-seconds=0.3",
                            engine="fake") as server:
            text = ""
            with self.assertRaises(grpc.RpcError) as caught:
                for message in server.completions().StreamComplete(make_request("x", 30000)):
                    text += "".join(c.text for c in message.choices)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            self.assertNotEqual(text, "")
            server.wait_idle()


if __name__ == "__main__":
    harness.main()
