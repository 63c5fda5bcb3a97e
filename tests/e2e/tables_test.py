"""Table files behind the real server: loading, reports, swapping while requests run."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

import harness
from harness import admin_pb2, admin_pb2_grpc, collect, make_request, metric

ENGRAM = os.path.join(harness.BUILD, "engram")
SMALL = "--kv-cache-memory=64MiB"  # starts faster
LAYERS = [1, 4]
PROMPT = "NAME\n\nls - list directory contents\n\nSYNOPSIS\n\n"


def write_tables(directory, layout="split", rotate=0):
    subprocess.run([os.path.join(harness.BUILD, "write_tables"), "configs/demo", directory, layout,
                    str(rotate)], check=True, timeout=120)


def admin(server):
    return admin_pb2_grpc.AdminStub(server.channel)


def tables_of(server):
    return admin(server).GetTables(admin_pb2.GetTablesRequest(), timeout=20).tables


def swap(server, directory):
    return admin(server).SwapTable(admin_pb2.SwapTableRequest(directory=directory), timeout=60)


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("still not so")
        time.sleep(0.05)


def answer(server):
    choices, usage, _ = collect([server.completions().Complete(make_request(PROMPT, 48))])
    return choices[0].ids, list(usage.table_versions)


class Tables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp()
        cls.a, cls.b = os.path.join(cls.root, "a"), os.path.join(cls.root, "b")
        write_tables(cls.a)
        write_tables(cls.b, rotate=7)  # other rows, hence other tokens
        with harness.Server(SMALL) as server:
            cls.expected, _ = answer(server)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def test_table_files_serve_what_the_checkpoint_does(self):
        for flags in ([], ["--start-early"], ["--table-io=threads", "--no-table-pin"],
                      ["--numa-policy=none"]):
            with self.subTest(flags), harness.Server(SMALL, "--tables", self.a, *flags) as server:
                ids, versions = answer(server)
                self.assertEqual(ids, self.expected)
                tables = tables_of(server)
                self.assertEqual([t.layer for t in tables], LAYERS)
                self.assertEqual(versions, ["+".join(t.version for t in tables)])
                for table in tables:
                    self.assertEqual(
                        table.source, os.path.join(self.a, f"layer-{table.layer}.engram-table"))
                    self.assertGreater(table.traffic.rows_read, 0)
                    if "--no-table-pin" in flags:
                        self.assertEqual(table.memory.pinned_bytes, 0)
                    if "--table-io=threads" in flags:
                        self.assertIn("threads", table.load.method)
                self.assertEqual(server.stop(), 0)

    def test_tiers_give_the_same_tokens(self):
        """Rows in the file, some of them cached; verified all the while."""
        files = os.path.join(self.root, "interleaved")
        write_tables(files, layout="interleaved")
        cases = [["--table-placement=nvme", "--table-cache=4MiB"],
                 ["--table-placement=host:1MiB,nvme"], ["--table-placement=auto"]]
        for flags in cases:
            with self.subTest(flags), harness.Server(
                    SMALL, "--tables", files, "--verify-rows=1000", *flags) as server:
                self.assertEqual(answer(server)[0], self.expected)
                self.assertEqual(answer(server)[0], self.expected)
                tables = tables_of(server)
                for table in tables:
                    self.assertEqual(sum(t.rows for t in table.tiers), table.rows)
                tiers = {t.name for table in tables for t in table.tiers}
                wanted = {"nvme"} if "nvme" in flags[0].split("=")[1].split(",")[0] else {"host"}
                self.assertLessEqual(wanted, tiers)
                if flags[0] == "--table-placement=nvme":
                    self.assertGreater(sum(t.traffic.cache_hits for t in tables), 0)
                    self.assertGreater(sum(t.traffic.file_reads for t in tables), 0)
                eventually(lambda: server.info().numbers.rows_verified > 0)
                self.assertEqual(server.info().numbers.rows_wrong, 0)
                self.assertEqual(server.stop(), 0)

    def test_tables_of_a_daemon(self):
        socket = os.path.join(self.root, "tables.sock")
        daemon = subprocess.Popen(
            [ENGRAM, "table", "serve", "--tables", self.a, "--socket", socket],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: os.path.exists(socket) or daemon.poll() is not None)
            self.assertIsNone(daemon.poll())
            with harness.Server(SMALL, "--tables", self.a, "--table-socket", socket) as server:
                ids, versions = answer(server)
                self.assertEqual(ids, self.expected)
                tables = tables_of(server)
                self.assertEqual([t.memory.shared for t in tables], [True, True])
                self.assertEqual(versions, ["+".join(t.version for t in tables)])
                daemon.kill()
                daemon.wait(20)
                self.assertEqual(answer(server)[0], self.expected)
                self.assertEqual(server.stop(), 0)
        finally:
            daemon.kill()
            daemon.wait(20)
            daemon.stderr.close()

    def test_what_huge_pages_are_required_for(self):
        """Either they are there, or the server says so and does not start."""
        command = [os.path.join(harness.BUILD, "engramd"), "--model", "configs/demo", "--port=0",
                   "--no-metrics", SMALL, "--tables", self.a, "--require-huge-pages"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if " ready" in line:
                process.terminate()
        process.stderr.close()
        if process.wait(60) == 0:
            return
        self.assertEqual(process.returncode, 1, lines)
        self.assertIn("huge pages", lines[-1])

    def test_swap_while_requests_run(self):
        with harness.Server(SMALL, "--tables", self.b) as server:
            expected_b, versions_b = answer(server)
            self.assertNotEqual(expected_b, self.expected)
            self.assertEqual(server.stop(), 0)
        with harness.Server(SMALL, "--tables", self.a) as server:
            before, versions_a = answer(server)
            self.assertEqual(before, self.expected)
            finished, stop = [], threading.Event()

            def run():
                while not stop.is_set():
                    choices, usage, _ = collect(
                        server.completions().StreamComplete(make_request(PROMPT, 200)))
                    finished.append((len(choices[0].ids), list(usage.table_versions)))

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
            swapped = swap(server, self.b)
            eventually(lambda: any(v == [swapped.new_version] for _, v in finished))
            stop.set()
            for thread in threads:
                thread.join(60)
            self.assertEqual([swapped.old_version], versions_a)
            self.assertEqual([swapped.new_version], versions_b)
            self.assertEqual({length for length, _ in finished}, {200})  # nothing was dropped
            seen = {tuple(versions) for _, versions in finished}
            both = (swapped.old_version, swapped.new_version)
            self.assertLessEqual(seen, {both, both[:1], both[1:]})
            self.assertIn(both[1:], seen)
            self.assertEqual(answer(server), (expected_b, versions_b))
            self.assertEqual(server.info().numbers.table_swaps, 1)
            eventually(lambda: metric(server.metrics(), "engram_table_swaps_total") == 1)
            back = subprocess.run([ENGRAM, "tables", "--server", server.address, "--swap", self.a],
                                  text=True, timeout=60, stdout=subprocess.PIPE)
            self.assertEqual(back.returncode, 0)
            self.assertIn(swapped.old_version, back.stdout)
            self.assertEqual(answer(server), (before, versions_a))
            server.wait_idle()
            self.assertEqual(server.stop(), 0)

    def test_a_refused_swap_changes_nothing(self):
        damaged = os.path.join(self.root, "damaged")
        shutil.copytree(self.b, damaged, dirs_exist_ok=True)
        with open(os.path.join(damaged, "layer-4.engram-table"), "r+b") as file:
            file.seek(-100, os.SEEK_END)
            byte = file.read(1)
            file.seek(-100, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
        cases = [("", grpc.StatusCode.INVALID_ARGUMENT, "directory"),
                 ("x" * 5000, grpc.StatusCode.INVALID_ARGUMENT, "directory"),
                 (os.path.join(self.root, "nowhere"), grpc.StatusCode.NOT_FOUND, "nowhere"),
                 (damaged, grpc.StatusCode.DATA_LOSS, "layer-4.engram-table")]
        with harness.Server(SMALL, "--tables", self.a) as server:
            for directory, code, named in cases:
                with self.subTest(directory[-20:]), self.assertRaises(grpc.RpcError) as caught:
                    swap(server, directory)
                self.assertEqual(caught.exception.code(), code, caught.exception.details())
                self.assertIn(named, caught.exception.details())
            self.assertEqual(answer(server)[0], self.expected)
            self.assertEqual(server.info().numbers.table_swaps, 0)
            self.assertEqual(server.stop(), 0)

    def test_a_model_without_tables(self):
        with harness.Server(engine="fake") as server:
            self.assertEqual(list(tables_of(server)), [])
            with self.assertRaises(grpc.RpcError) as caught:
                swap(server, self.a)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
            self.assertEqual(server.stop(), 0)

    def test_wrong_flags_and_files(self):
        cases = [(["--tables", os.path.join(self.root, "none")], 1, "layer-1.engram-table"),
                 (["--start-early"], 2, "--tables"), (["--numa-policy=moon"], 2, "--numa-policy"),
                 (["--table-io=dma"], 2, "--table-io")]
        for flags, code, named in cases:
            with self.subTest(flags):
                result = subprocess.run(
                    [os.path.join(harness.BUILD, "engramd"), "--model", "configs/demo", "--port=0",
                     "--no-metrics", *flags], text=True, timeout=60, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(named, result.stderr.splitlines()[-1])


if __name__ == "__main__":
    harness.main()
