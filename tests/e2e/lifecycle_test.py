"""engramd's life: loading, ready, draining, gone; ports, signals, health, reflection."""

import os
import signal
import subprocess
import threading
import time
import unittest

import grpc

import harness
from harness import collect, make_request

SERVICES = ["engram.v1.Completions", "engram.v1.Models", "engram.v1.Tokenizer", "engram.v1.Admin"]


def run_engramd(*flags, **options):
    return subprocess.run([os.path.join(harness.BUILD, "engramd"), *flags], text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


class Stream(threading.Thread):
    """A stream read in the background; `error` or the answer at its end."""

    def __init__(self, server, request):
        super().__init__(daemon=True)
        self.stream = server.completions().StreamComplete(request)
        self.begun = threading.Event()
        self.error = None
        self.choices = None
        self.start()

    def run(self):
        def watched():
            for message in self.stream:
                self.begun.set()
                yield message
        try:
            self.choices, self.usage, _ = collect(watched())
        except grpc.RpcError as error:
            self.error = error


class Phases(unittest.TestCase):
    def test_health_while_loading_ready_and_draining(self):
        with harness.Server("--fake-load-seconds=2.5", "--fake-step-ms=10", wait=False) as server:
            self.assertEqual(server.health(""), "SERVING")
            for name in ["readiness", *SERVICES]:
                self.assertEqual(server.health(name), "NOT_SERVING", name)
            self.assertEqual(server.health("no.such.Service"), "NOT_FOUND")
            with self.assertRaises(grpc.RpcError) as caught:
                server.completions().Complete(make_request("x", 1))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertIn("google.rpc.RetryInfo", harness.details(caught.exception))
            self.assertEqual(server.info().phase, harness.admin_pb2.PHASE_LOADING)
            rejected = {k: v for k, v in server.metrics().items() if "rejected_total" in k}
            self.assertEqual(rejected, {'engram_rejected_total{reason="loading"}': 1})
            check = run_engramd("--health-check", server.address)
            self.assertEqual(check.returncode, 1)
            first = server.info().load
            self.assertEqual(first.stage, "weights")
            self.assertRegex(caught.exception.details(), r"the model is loading: weights \d+ %")
            time.sleep(0.1)
            later = server.info().load
            self.assertTrue(0 <= first.percent < later.percent <= 100, (first, later))
            self.assertLess(harness.metric(server.metrics(), "engram_load_ratio"), 1)

            server.wait_for("ready")
            self.assertFalse(server.info().HasField("load"))
            self.assertEqual(harness.metric(server.metrics(), "engram_load_ratio"), 1)
            for name in ["", "readiness", *SERVICES]:
                self.assertEqual(server.health(name), "SERVING", name)
            self.assertEqual(run_engramd("--health-check", server.address).returncode, 0)

            stream = Stream(server, make_request("x", 150))
            self.assertTrue(stream.begun.wait(10))
            server.kill(signal.SIGTERM)
            server.wait_for("draining")
            self.assertEqual(server.health(""), "SERVING")
            self.assertEqual(server.health("readiness"), "NOT_SERVING")
            stream.join(30)
            self.assertEqual(server.process.wait(30), 0)

    def test_stop_while_loading(self):
        with harness.Server("--fake-load-seconds=30", wait=False) as server:
            self.assertEqual(server.stop(seconds=10), 0)


class Drain(unittest.TestCase):
    def test_sigterm_lets_streams_finish_and_refuses_new_ones(self):
        with harness.Server("--fake-step-ms=10") as server:
            expected, _, _ = collect([server.completions().Complete(make_request("drain", 150))])
            streams = [Stream(server, make_request("drain", 150)) for _ in range(16)]
            for stream in streams:
                self.assertTrue(stream.begun.wait(10))
            server.kill(signal.SIGTERM)
            server.wait_for("draining")
            with self.assertRaises(grpc.RpcError) as caught:
                server.completions().Complete(make_request("new", 1))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertIn("google.rpc.RetryInfo", harness.details(caught.exception))
            for stream in streams:
                stream.join(30)
                self.assertIsNone(stream.error)
                self.assertEqual(stream.choices[0].key(), expected[0].key())
            self.assertEqual(server.process.wait(20), 0)

    def test_what_outlasts_the_timeout_is_cut_off(self):
        with harness.Server("--fake-step-ms=10", "--shutdown-timeout=500ms") as server:
            stream = Stream(server, make_request("long", 5000))
            self.assertTrue(stream.begun.wait(10))
            begin = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - begin, 20)
            stream.join(10)
            self.assertEqual(stream.error.code(), grpc.StatusCode.UNAVAILABLE)

    def test_a_second_signal_ends_at_once(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with harness.Server("--fake-step-ms=10") as server:
                stream = Stream(server, make_request("long", 30000))
                self.assertTrue(stream.begun.wait(10))
                server.kill(number)
                server.wait_for("draining")
                server.kill(number)
                self.assertEqual(server.process.wait(10), code)
                stream.join(10)


class Failure(unittest.TestCase):
    def test_a_device_that_fails_ends_its_requests_and_the_server(self):
        with harness.Server("--fake-step-ms=10", "--fake-fail-at-s=1") as server:
            streams = [Stream(server, make_request("long", 30000)) for _ in range(4)]
            for stream in streams:
                stream.join(30)
                self.assertEqual(stream.error.code(), grpc.StatusCode.UNAVAILABLE)
                self.assertIn("device failed", stream.error.details())
            self.assertEqual(server.process.wait(30), 1)
            server.reader.join(10)
            errors = [line for line in server.lines if line.get("level") == "error"]
            self.assertEqual(len(errors), 1, server.lines)
            self.assertIn("device failed", errors[0]["message"])


class Ports(unittest.TestCase):
    def one_line(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        lines = [line for line in result.stderr.splitlines() if "engramd:" in line]
        self.assertEqual(len(lines), 1, result.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def test_a_taken_port_is_one_clear_line(self):
        with harness.Server() as server:
            port = server.address.rsplit(":", 1)[1]
            result = run_engramd("--engine=fake", f"--port={port}", "--metrics-port=0")
            self.one_line(result, port, "--port")
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            metrics = server.metrics_url.split(":")[2].split("/")[0]
            result = run_engramd("--engine=fake", "--port=0", f"--metrics-port={metrics}")
            self.one_line(result, "--metrics-port")

    def test_a_missing_model_is_one_clear_line(self):
        result = run_engramd("--model", "/no/such/model", "--port=0", "--metrics-port=0")
        self.one_line(result, "/no/such/model")

    def test_wrong_flags(self):
        for flags, words in (
                ([], ["--model"]),
                (["--modle=x"], ["--modle", "--model"]),
                (["--engine=fake", "--port=70000"], ["--port", "65535"]),
                (["--engine=fake", "--max-model-len=many"], ["--max-model-len", "many"]),
                (["--engine=fake", "--config=/no/such.yaml"], ["/no/such.yaml"])):
            result = run_engramd(*flags)
            self.assertEqual(result.returncode, 2, flags)
            self.one_line(result, *words)

    def test_print_config_names_origins(self):
        result = run_engramd("--engine=fake", "--max-model-len=2k", "--print-config",
                             env={**os.environ, "ENGRAM_PORT": "9000"})
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = {line.split(":")[0]: line for line in result.stdout.splitlines()}
        self.assertRegex(lines["max-model-len"], r"2048 +# command line")
        self.assertRegex(lines["port"], r"9000 +# environment ENGRAM_PORT")
        self.assertRegex(lines["host"], r"127\.0\.0\.1 +# default")

    def test_outside_addresses_are_warned_about(self):
        with harness.Server("--host=0.0.0.0", "--metrics-host=127.0.0.1") as server:
            self.assertTrue(any("without TLS" in line["message"] for line in server.lines))
            self.assertEqual(server.stop(), 0)


class Reflection(unittest.TestCase):
    # ServerReflectionRequest { list_services: "*" }
    LIST = b"\x3a\x01*"

    def ask(self, server):
        call = server.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            lambda raw: raw, lambda raw: raw)
        return b"".join(call(iter([self.LIST]), timeout=10))

    def test_reflection_lists_the_services(self):
        with harness.Server() as server:
            answer = self.ask(server)
            for name in [*SERVICES, "grpc.health.v1.Health"]:
                self.assertIn(name.encode(), answer)

    def test_no_reflection(self):
        with harness.Server("--no-reflection") as server:
            with self.assertRaises(grpc.RpcError) as caught:
                self.ask(server)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)


class Idle(unittest.TestCase):
    def test_an_idle_keepalive_pinger_is_not_dropped(self):
        options = [("grpc.keepalive_time_ms", 11000), ("grpc.keepalive_permit_without_calls", 1),
                   ("grpc.http2.max_pings_without_data", 0)]
        with harness.Server("--fake-step-ms=1") as server:
            with grpc.insecure_channel(server.address, options=options) as channel:
                stub = harness.completions_pb2_grpc.CompletionsStub(channel)
                collect([stub.Complete(make_request("a", 2))])
                time.sleep(12)
                collect([stub.Complete(make_request("b", 2))])


if __name__ == "__main__":
    harness.main()
