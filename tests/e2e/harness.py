"""What the end-to-end tests share: starting the real engramd, calling it with grpcio, judging it."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ARGUMENTS = argparse.ArgumentParser()
ARGUMENTS.add_argument("--build", required=True, help="build tree with the programs and stubs")
ARGUMENTS.add_argument("--engine", choices=["fake", "demo"], default="fake")
OPTIONS, REST = ARGUMENTS.parse_known_args()
BUILD = os.path.abspath(OPTIONS.build)
STUBS = os.path.join(BUILD, "python_stubs")
sys.path.insert(0, STUBS)

from engram.v1 import admin_pb2, admin_pb2_grpc  # noqa: E402
from engram.v1 import completions_pb2, completions_pb2_grpc  # noqa: E402
from engram.v1 import models_pb2, models_pb2_grpc  # noqa: E402
from engram.v1 import tokenizer_pb2, tokenizer_pb2_grpc  # noqa: E402

FAKE = OPTIONS.engine == "fake"


def load_other_messages():
    """Messages of packages whose generated modules would hide installed ones (grpc, google)."""
    pool = descriptor_pool.DescriptorPool()
    with open(os.path.join(STUBS, "other.desc"), "rb") as f:
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName(name))


other = load_other_messages()
HealthRequest = other("grpc.health.v1.HealthCheckRequest")
HealthResponse = other("grpc.health.v1.HealthCheckResponse")
RpcStatus = other("google.rpc.Status")
BadRequest = other("google.rpc.BadRequest")
RetryInfo = other("google.rpc.RetryInfo")


class Server:
    """engramd on a free port. Its log is read line by line as JSON."""

    def __init__(self, *flags, engine=None, wait=True):
        engine = engine or OPTIONS.engine
        model = ["--engine=fake"] if engine == "fake" else ["--model", "configs/demo"]
        command = [os.path.join(BUILD, "engramd"), *model, "--port=0", "--metrics-port=0",
                   "--log-format=json", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        listening = self.wait_for("listening")
        self.address = listening["address"]
        self.metrics_url = listening.get("metrics")
        self.channel = grpc.insecure_channel(self.address)
        if wait:
            self.wait_for("ready", 120)

    def read_log(self):
        for line in self.process.stderr:
            with self.changed:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.lines.append({"message": line.strip(), "level": "raw"})
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, message, seconds=20.0, field=None, value=None):
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for line in self.lines:
                    if line["message"] == message and (field is None or line.get(field) == value):
                        return line
                left = end - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise AssertionError(f"no log line {message!r} in {self.lines[-20:]}")
                self.changed.wait(min(left, 0.5))

    def completions(self):
        return completions_pb2_grpc.CompletionsStub(self.channel)

    def info(self):
        return admin_pb2_grpc.AdminStub(self.channel).GetServerInfo(
            admin_pb2.GetServerInfoRequest(), timeout=20)

    def health(self, service):
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthRequest.SerializeToString,
            HealthResponse.FromString)
        try:
            status = check(HealthRequest(service=service), timeout=10).status
        except grpc.RpcError as error:
            return error.code().name
        return {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING"}[status]

    def metrics(self):
        with urllib.request.urlopen(self.metrics_url, timeout=10) as response:
            return parse_metrics(response.read().decode())

    def wait_idle(self, seconds=20.0):
        """No request left and every page back; the numbers that prove it."""
        end = time.monotonic() + seconds
        while True:
            n = self.info().numbers
            if n.running == 0 and n.waiting == 0 and n.kv_pages_free == n.kv_pages_total:
                return n
            if time.monotonic() > end:
                raise AssertionError(f"not idle: {n}")
            time.sleep(0.05)

    def kill(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, seconds=60.0):
        """Signals and returns the exit code."""
        if self.process.poll() is None:
            self.kill(number)
        code = self.process.wait(seconds)
        self.reader.join(10)
        self.channel.close()
        self.process.stderr.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.channel.close()


METRIC = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)$")


def parse_metrics(text):
    """name{labels} to value; fails on a line that is no Prometheus text."""
    values = {}
    for line in text.splitlines():
        if not line or line.startswith("# HELP ") or line.startswith("# TYPE "):
            continue
        match = METRIC.match(line)
        if match is None:
            raise AssertionError(f"not a metric: {line!r}")
        values[match.group(1) + (match.group(2) or "")] = float(match.group(3))
    return values


def metric(values, name):
    """The sum over a name's labels."""
    return sum(v for k, v in values.items() if k.split("{")[0] == name)


class Answer:
    """One choice put together from deltas or from a unary answer."""

    def __init__(self):
        self.text = ""
        self.ids = []
        self.bytes = b""
        self.reason = None
        self.finished = 0

    def add(self, choice):
        assert self.reason is None, "a delta after finish_reason"
        self.text += choice.text
        self.ids += choice.token_ids
        self.bytes += b"".join(choice.token_bytes)
        if choice.HasField("finish_reason"):
            self.reason = choice.finish_reason
            self.finished += 1

    def key(self):
        return (self.text, tuple(self.ids), self.reason)


def collect(messages):
    """(choices by index, usage, messages) of a stream or of [unary answer]."""
    choices, usage, count = {}, None, 0
    for message in messages:
        count += 1
        assert usage is None, "a message after usage"
        for choice in message.choices:
            choices.setdefault(choice.index, Answer()).add(choice)
        if message.HasField("usage"):
            usage = message.usage
    return choices, usage, count


def make_request(prompt, max_tokens, **options):
    """A greedy request; the simulator's answers depend on prompt and seed alone."""
    request = completions_pb2.CompleteRequest(text=prompt)
    request.sampling.temperature = 0
    request.stopping.max_tokens = max_tokens
    request.stopping.ignore_eos = options.get("ignore_eos", True)
    if "n" in options:
        request.sampling.n = options["n"]
        request.sampling.seed = 5
        request.sampling.temperature = 0.8
    return request


def details(error):
    """The google.rpc details of a failed call, by message name."""
    for key, value in error.trailing_metadata() or []:
        if key == "grpc-status-details-bin":
            found = {}
            for any_message in RpcStatus.FromString(value).details:
                name = any_message.type_url.split("/")[-1]
                found[name] = other(name).FromString(any_message.value)
            return found
    return {}


def main():
    unittest.main(argv=[sys.argv[0], *REST], verbosity=2)
