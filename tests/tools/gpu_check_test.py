"""tools/gpu_check against programs that pass, fail, skip, hang and crash: outcomes, files, exit status.

  gpu_check_test.py TOOL [CATCH_PROGRAM]   CATCH_PROGRAM: a real test program that passes anywhere
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

CATCH_PROGRAM = os.path.abspath(sys.argv.pop()) if len(sys.argv) > 2 else None
TOOL = os.path.abspath(sys.argv.pop())

# What the test programs are replaced by: `--out FILE` gets what Catch2 writes there.
PROGRAM = """#!{python}
import os, signal, sys, time
behaviour = {behaviour!r}
arguments = sys.argv[1:]
if "--out" in arguments:
    out = open(arguments[arguments.index("--out") + 1], "w")
    out.write('<?xml version="1.0" encoding="UTF-8"?>\\n<Catch name="x"><Group name="x">'
              '<TestCase name="first &amp; good" filename="a.cc" line="3">'
              '<OverallResult success="true" durationInSeconds="0.25"/></TestCase>')
    out.flush()
    if behaviour == "fail":
        out.write('<TestCase name="sums" filename="a.cc" line="5"><Info>rows := 7</Info>'
                  '<Expression success="false" type="CHECK" filename="a.cc" line="9"><Original>x == y'
                  '</Original><Expanded>1 == 2</Expanded></Expression>'
                  '<OverallResult success="false" durationInSeconds="0.5"/></TestCase>')
    if behaviour in ("hang", "crash"):
        out.write('<TestCase name="the second" filename="a.cc" line="20">')
        out.flush()
    if behaviour == "silent":
        out.close()
        sys.exit(0)
if behaviour == "skip":
    print("SKIPPED: no CUDA device: none here")
    sys.exit(0)
if behaviour == "hang":
    print("waiting for a flag", flush=True)
    os.system("sleep 1000")
if behaviour == "crash":
    print("CUDA error: an illegal memory access was encountered", flush=True)
    os.kill(os.getpid(), signal.SIGABRT)
if "--out" in arguments:
    out.write("</Group></Catch>\\n")
    out.close()
sys.exit(1 if behaviour == "fail" else 0)
"""

BENCH = """#!{python}
import json, os, sys
out = open(sys.argv[sys.argv.index("--json") + 1], "w")
for line in {lines!r}:
    out.write(json.dumps(line) + "\\n")
out.write('{{"name": "torn')
out.close()
sys.exit({code})
"""

# In the place of compute-sanitizer: the program's name says what it finds.
SANITIZER = """#!/bin/bash
case "$*" in
  *memcheck*bad*) echo "========= Invalid __global__ write of size 4"; echo "========= ERROR SUMMARY: 1 error"; exit 86 ;;
  *blind*) exit 0 ;;
  *slow*) sleep 100 ;;
  *) echo "========= ERROR SUMMARY: 0 errors" ;;
esac
"""

FIGURES = [
    {"group": "limits", "name": "HBM read", "us": 100.0, "spread_percent": 1.0, "gbps": 4300.0},
    {"group": "gather", "name": "256 B", "us": 10.0, "spread_percent": 2.0, "gbps": 30.0, "mrows": 120.0,
     "limit": "SM host read", "limit_rate": 35.0, "ratio": 0.857, "prediction": "137 M rows/s",
     "bar": {"of": "ratio", "least": 0.85, "aim": 0.95}},
    {"group": "gather", "name": "one token", "us": 9.0, "bar": {"of": "us", "most": 6.0, "aim": 3.5}},
    {"group": "gather", "name": "fork and join", "us": None, "note": "not under emulation"},
    {"group": "engine", "name": "prefetch against skip", "us": None, "percent": 0.4,
     "prediction": "0.1 to 0.3 %", "bar": {"of": "percent", "most": 1.0, "aim": 0.3}},
]


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="gpu-check-test-")
        self.build = os.path.join(self.folder.name, "build")
        self.out = os.path.join(self.folder.name, "out")
        os.makedirs(self.build)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = os.path.join(self.build, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def program(self, name, behaviour):
        self.write(name, PROGRAM.format(python=sys.executable, behaviour=behaviour))

    def bench(self, name, lines, code=0):
        self.write(name, BENCH.format(python=sys.executable, lines=lines, code=code))

    def run_tool(self, *arguments, parts=("grid", "ops"), assume=True, environment=None):
        command = [TOOL, "run", "--build", self.build, "-o", self.out, *arguments]
        command += [a for p in parts for a in ("--part", p)] + (["--assume-gpu"] if assume else [])
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              env=environment)
        return done, self.results() if os.path.isdir(self.out) else None

    def results(self):
        names = [n for n in os.listdir(self.out) if n.endswith(".json")]
        self.assertEqual(len(names), 1)
        with open(os.path.join(self.out, names[0]), encoding="utf-8") as file:
            return json.load(file)

    def table(self):
        name = next(n for n in os.listdir(self.out) if n.endswith(".txt"))
        with open(os.path.join(self.out, name), encoding="utf-8") as file:
            return file.read()

    def outcomes(self, results, part="ops"):
        return {t["name"]: t["outcome"] for t in results["parts"][part]["tests"]}

    def test_all_pass(self):
        self.program("gpu_grid_test", "pass")
        self.program("gpu.a_test", "pass")
        if CATCH_PROGRAM:
            os.symlink(CATCH_PROGRAM, os.path.join(self.build, "gpu.real_test"))
        done, results = self.run_tool()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.outcomes(results, "grid"), {"gpu_grid_test: first & good": "passed"})
        ops = self.outcomes(results)
        self.assertEqual(set(ops.values()), {"passed"})
        self.assertEqual(len([n for n in ops if n.startswith("gpu.real_test: ")]) > 1, bool(CATCH_PROGRAM))
        self.assertIn("PASSED", done.stdout)
        for key in ("date", "commit", "machine"):
            self.assertIn(key, results)

    def test_each_way_to_go_wrong(self):
        self.program("gpu_grid_test", "pass")
        for behaviour in ("pass", "fail", "skip", "hang", "crash", "silent"):
            self.program(f"gpu.{behaviour}_test", behaviour)
        done, results = self.run_tool("--program-seconds", "1.5")
        self.assertEqual(done.returncode, 1)
        ops = self.outcomes(results)
        self.assertEqual(ops["gpu.pass_test: first & good"], "passed")
        self.assertEqual(ops["gpu.fail_test: sums"], "failed")
        self.assertEqual(ops["gpu.skip_test"], "not run")
        self.assertEqual(ops["gpu.hang_test: the second"], "hung")
        self.assertEqual(ops["gpu.crash_test: the second"], "crashed")
        self.assertEqual(ops["gpu.silent_test"], "failed")  # exit status 0, but it never said it was done
        details = {t["name"]: t["detail"] for t in results["parts"]["ops"]["tests"]}
        self.assertIn("1 == 2", details["gpu.fail_test: sums"])
        self.assertIn("rows := 7", details["gpu.fail_test: sums"])
        self.assertIn("illegal memory access", details["gpu.crash_test: the second"])
        self.assertIn("SIGABRT", details["gpu.crash_test: the second"])
        self.assertIn("waiting for a flag", details["gpu.hang_test: the second"])
        # What failed first, with the end of its output.
        self.assertIn("first of the failures: crashed: ops: gpu.crash_test: the second", done.stdout)
        self.assertIn("FAILED", done.stdout)
        self.assertIn("ops: hung: gpu.hang_test: the second", self.table())

    def test_a_hanging_program_takes_its_children_along(self):
        self.program("gpu_grid_test", "hang")
        self.run_tool("--program-seconds", "1", parts=["grid"])
        listed = subprocess.run(["ps", "-eo", "args"], text=True, stdout=subprocess.PIPE).stdout
        self.assertNotIn(os.path.join(self.build, "gpu_grid_test"), listed)

    def test_the_parts_time_is_bounded(self):
        self.program("gpu.a_test", "hang")
        self.program("gpu.b_test", "pass")
        done, results = self.run_tool("--seconds", "1.5", parts=["ops"])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.outcomes(results)["gpu.b_test"], "not run")

    def test_a_part_without_programs_did_not_run(self):
        self.program("gpu.a_test", "pass")
        done, results = self.run_tool(parts=["ops", "goldens"])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.outcomes(results, "goldens"), {"goldens": "not run"})

    def test_sanitizer(self):
        for name in ("gpu.good_test", "gpu.bad_test", "gpu.blind_test", "gpu.slow_test"):
            self.program(name, "pass")
        self.write("compute-sanitizer", SANITIZER)
        path = {**os.environ, "PATH": self.build + ":" + os.environ["PATH"]}
        done, results = self.run_tool("--program-seconds", "1", parts=["sanitizer"], environment=path)
        self.assertEqual(done.returncode, 1)
        found = self.outcomes(results, "sanitizer")
        self.assertEqual(found["memcheck gpu.good_test"], "passed")
        self.assertEqual(found["initcheck gpu.good_test"], "passed")
        self.assertEqual(found["memcheck gpu.bad_test"], "failed")
        self.assertEqual(found["racecheck gpu.bad_test"], "passed")
        self.assertEqual(found["memcheck gpu.blind_test"], "not run")
        self.assertEqual(found["memcheck gpu.slow_test"], "left out")
        # What did not fit into the time is said, and fails nothing.
        done, _ = self.run_tool("--program-seconds", "1", "--filter", "slow", parts=["sanitizer"],
                                environment=path)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("4 left out", done.stdout)

    def test_figures(self):
        self.bench("gpu_x_bench", FIGURES)
        done, results = self.run_tool(parts=["bench"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)  # no figure fails a run
        figures = results["parts"]["bench"]["figures"]
        self.assertEqual([f["name"] for f in figures], [f["name"] for f in FIGURES])
        self.assertIn("2 of 3 reached", done.stdout)
        lines = {line.strip().split("  ")[0]: line for line in self.table().splitlines()}
        self.assertIn("0.857 of SM host read", lines["256 B"])
        self.assertIn("predicted: 137 M rows/s", lines["256 B"])
        self.assertIn("ratio >= 0.85, aim 0.95: reached", lines["256 B"])
        self.assertIn("us <= 6, aim 3.5: MISSED", lines["one token"])
        self.assertIn("not measured", lines["fork and join"])
        self.assertIn("not under emulation", lines["fork and join"])
        self.assertIn("+0.40 %", lines["prefetch against skip"])
        self.assertIn("percent <= 1, aim 0.3: reached", lines["prefetch against skip"])

    def test_a_failing_bench_keeps_its_figures(self):
        self.bench("gpu_x_bench", FIGURES[:1], code=3)
        done, results = self.run_tool(parts=["bench"])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.outcomes(results, "bench"), {"gpu_x_bench": "failed"})
        self.assertEqual(len(results["parts"]["bench"]["figures"]), 1)
        self.bench("gpu_x_bench", [])
        done, results = self.run_tool(parts=["bench"])
        self.assertEqual(self.outcomes(results, "bench"), {"gpu_x_bench": "not run"})

    def test_parts_may_have_commands_of_their_own(self):
        self.program("gpu_grid_test", "pass")
        self.program("gpu.a_test", "fail")
        self.assertEqual(self.run_tool(parts=["ops"])[0].returncode, 1)
        done, results = self.run_tool(parts=["grid"])
        self.assertEqual(set(results["parts"]), {"ops", "grid"})
        self.assertEqual(done.returncode, 1)  # of all that is in the file
        self.program("gpu.a_test", "pass")
        self.assertEqual(self.run_tool(parts=["ops"])[0].returncode, 0)

    def test_merge(self):
        self.program("gpu_grid_test", "pass")
        self.program("gpu.a_test", "pass")
        files = []
        for part in ("grid", "ops"):
            self.out = os.path.join(self.folder.name, part)
            self.run_tool(parts=[part])
            files += [os.path.join(self.out, n) for n in os.listdir(self.out) if n.endswith(".json")]
        self.out = os.path.join(self.folder.name, "both")
        done = subprocess.run([TOOL, "merge", *files, "-o", self.out], text=True, stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(set(self.results()["parts"]), {"grid", "ops"})
        with open(files[0], encoding="utf-8") as file:
            other = json.load(file)
        other["commit"] = "another"
        with open(files[0], "w", encoding="utf-8") as file:
            json.dump(other, file)
        done = subprocess.run([TOOL, "merge", *files, "-o", self.out], stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("commit", done.stderr)

    def test_without_a_gpu_nothing_is_claimed(self):
        self.program("gpu_grid_test", "pass")
        path = os.environ.get("PATH")
        done, results = self.run_tool(assume=False)
        if done.returncode == 0:
            self.skipTest("there is a GPU here")
        self.assertEqual(done.returncode, 3, path)
        self.assertIn("no GPU here", done.stderr)
        self.assertIsNone(results)

    def test_an_archive_of_an_unbuilt_tree_is_refused(self):
        done = subprocess.run([TOOL, "pack", self.build, "-o", os.path.join(self.folder.name, "a.tar.gz")],
                              text=True, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2)
        self.assertIn("gpu.golden_test", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
