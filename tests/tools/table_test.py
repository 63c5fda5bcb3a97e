"""`engram table serve` and `engram table list`, as a user runs them: start, questions, signals."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.path.abspath(sys.argv.pop())
ENGRAM = os.path.join(BUILD, "engram")


def run(*arguments):
    return subprocess.run([ENGRAM, *arguments], text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Table(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="engram-table-")
        cls.tables = os.path.join(cls.root, "tables")
        done = run("convert", "--synthesize", "deepseek-v4.1-flash", "--tables", cls.tables,
                   "--rows", "50k")
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def setUp(self):
        self.socket = os.path.join(self.root, "socket")
        self.daemons = []

    def tearDown(self):
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.communicate()

    def serve(self, *flags, tables=None):
        daemon = subprocess.Popen(
            [ENGRAM, "table", "serve", "--tables", tables or self.tables, "--socket", self.socket,
             *flags], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.daemons.append(daemon)
        return daemon

    def entries(self):
        done = run("table", "list", "--socket", self.socket, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else []

    def wait_ready(self, daemon):
        for _ in range(600):
            entries = self.entries()
            if entries and all(e["state"] == "ready" for e in entries):
                return entries
            self.assertIsNone(daemon.poll(), "the daemon has ended")
            time.sleep(0.05)
        self.fail("not ready within 30 s")

    def test_serve_list_stop(self):
        daemon = self.serve("--socket-mode", "660", "--threads", "1")
        entries = self.wait_ready(daemon)
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o660)
        for entry in entries:
            header = json.loads(run("inspect", "--table", entry["path"], "--json").stdout)
            self.assertEqual(entry["id"], header["id"])
            self.assertEqual(entry["layer"], header["layer"])
            self.assertEqual(entry["bytes"], header["data_bytes"])
            self.assertEqual(entry["bytes_done"], entry["bytes"])
            self.assertEqual(entry["attached"], 0)
        self.assertEqual(len({e["id"] for e in entries}), len(entries))
        text = run("table", "list", "--socket", self.socket)
        self.assertEqual(text.returncode, 0)
        for entry in entries:
            self.assertIn(entry["id"], text.stdout)

        second = self.serve()
        _, error = second.communicate(timeout=60)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another table daemon", error)

        daemon.send_signal(signal.SIGTERM)
        _, error = daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0, error)
        self.assertIn("listening on", error)
        self.assertIn("huge, touched in", error)
        self.assertFalse(os.path.exists(self.socket))
        self.assertEqual(run("table", "list", "--socket", self.socket).returncode, 3)

    def test_killed_daemon_leaves_no_obstacle(self):
        first = self.serve("--no-huge-pages")
        entries = self.wait_ready(first)
        self.assertTrue(all(e["huge_percent"] == 0 for e in entries))
        first.kill()
        first.communicate()
        self.assertTrue(os.path.exists(self.socket))
        gone = run("table", "list", "--socket", self.socket)
        self.assertEqual(gone.returncode, 3)
        self.assertIn("engram table serve", gone.stderr)
        self.wait_ready(self.serve())

    def test_corrupt_table_is_named(self):
        broken = os.path.join(self.root, "broken")
        shutil.copytree(self.tables, broken)
        path = os.path.join(broken, sorted(os.listdir(broken))[0])
        with open(path, "r+b") as f:
            f.seek(4096 + 12345)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 1]))
        for extra in sorted(os.listdir(broken))[1:]:
            os.remove(os.path.join(broken, extra))
        daemon = self.serve(tables=broken)
        _, error = daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 1)
        self.assertIn("DATA_LOSS", error)
        self.assertIn(path, error)
        self.assertIn("extent 0", error)

    def test_wrong_usage(self):
        for says, flags in [
                ("--socket-mode", ["--socket-mode", "9"]),
                ("--numa-policy", ["--numa-policy", "somewhere"]),
                ("--lock", ["--lock", "maybe"]),
                ("excludes", ["--no-huge-pages", "--require-huge-pages"])]:
            daemon = self.serve(*flags)
            _, error = daemon.communicate(timeout=60)
            self.assertEqual(daemon.returncode, 2, flags)
            self.assertIn(says, error, flags)
        daemon = self.serve("--numa-policy", "bind:999")
        _, error = daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 1)
        self.assertIn("NUMA node 999", error)
        daemon = self.serve(tables=os.path.join(self.root, "none"))
        _, error = daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 1)
        self.assertIn("NOT_FOUND", error)


if __name__ == "__main__":
    unittest.main(verbosity=2)
