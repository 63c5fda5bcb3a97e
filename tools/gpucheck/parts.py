"""What each part runs, and where the programs and their data lie."""
import glob
import json
import os
import re
import shutil
import sys
import tempfile
import time

from gpucheck import machine, pack, programs

NAMES = ["grid", "ops", "goldens", "invariants", "sanitizer", "bench", "explore"]
# The first pattern that fits a program of tests says its part.
PART_OF_TEST = [(r"^gpu_grid_test$", "grid"), (r"golden", "goldens"), (r"invariant", "invariants"),
                (r"_test$", "ops")]
# A bench writes what it measured to --json, a line of JSON per figure: tests/bench/gpu/figures.h.
PART_OF_BENCH = [(r"explore", "explore"), (r"_bench$", "bench")]
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
SANITIZER_ERROR = 86


class Place:
    """An unpacked archive, or a checkout with a build directory."""

    def __init__(self, root, binaries, commit, expected, data):
        self.root, self.binaries, self.commit = root, binaries, commit
        self.expected = expected  # names of programs that must be there; None: what is there
        self.data = data  # for the tests' ENGRAM_TEST_DATA; None: where they were built

    def names(self):
        if self.expected is not None:
            return self.expected
        paths = [p for pattern in pack.TEST_PROGRAMS
                 for p in glob.glob(os.path.join(self.binaries, pattern))]
        return sorted(os.path.basename(p) for p in paths
                      if os.path.isfile(p) and os.access(p, os.X_OK))

    def path(self, name):
        return os.path.join(self.binaries, name)


def newest_build(source):
    found = glob.glob(os.path.join(source, "build*", "gpu.*_test")) + glob.glob(
        os.path.join(source, "build*", "*", "gpu.*_test"))
    if not found:
        raise OSError(f"no build directory with programs gpu.*_test below {source}; name one with "
                      "--build, or unpack an archive of `gpu_check pack`")
    return os.path.dirname(max(found, key=os.path.getmtime))


def find_place(here, build):
    manifest = os.path.join(here, "manifest.json")
    if build is None and os.path.exists(manifest):
        with open(manifest, encoding="utf-8") as file:
            about = json.load(file)
        content = pack.unpack(here)
        return Place(content, os.path.join(content, "bin"), about["commit"], about["programs"], content)
    source = os.path.dirname(here)
    build = os.path.abspath(build or newest_build(source))
    if not os.path.isdir(build):
        raise OSError(f"{build} is no directory")
    return Place(source, build, pack.commit_of(source), None, None)


def part_of(name, table):
    return next((part for pattern, part in table if re.search(pattern, name)), None)


class Run:
    """One part on its way: the time it has, and where its outcomes go."""

    def __init__(self, place, about, record, arguments):
        self.place, self.about, self.record = place, about, record
        self.options = arguments
        self.end = time.monotonic() + arguments.seconds
        self.environment = dict(os.environ)
        if place.data:
            self.environment["ENGRAM_TEST_DATA"] = place.data
        # Only the folders that are needed, behind what the user set: programs of the archive have
        # an RPATH, which comes first in any case.
        folders = machine.search_path() + about["library_folders"]
        if folders:
            self.environment["LD_LIBRARY_PATH"] = ":".join(folders)

    def left(self):
        return self.end - time.monotonic()

    def wanted(self, part, table):
        return [n for n in self.place.names()
                if part_of(n, table) == part and self.options.filter in n]

    def add(self, part, outcomes):
        self.record.add_tests(part, outcomes)
        for o in outcomes:
            if o["outcome"] != "passed":
                first = (o["detail"] or "").strip().split("\n")[0]
                print(f"   {o['outcome']}: {o['name']}: {first}", flush=True)


def run_tests(part, run):
    names = run.wanted(part, PART_OF_TEST)
    if not names:
        run.add(part, [programs.outcome(part, "not run", 0, "there is no program of this part")])
    for name in names:
        path = run.place.path(name)
        if run.left() < 1:
            run.add(part, [programs.outcome(name, "not run", 0, "the part's time was over")])
            continue
        if not os.access(path, os.X_OK):
            run.add(part, [programs.outcome(name, "not run", 0, f"{path} is not there")])
            continue
        begin = time.monotonic()
        limit = min(run.left(), run.options.program_seconds)
        outcomes = programs.run_catch(path, limit, run.environment, run.place.root)
        good = sum(o["outcome"] == "passed" for o in outcomes)
        print(f"   {name}: {good} of {len(outcomes)} passed, {time.monotonic() - begin:.1f} s",
              flush=True)
        run.add(part, outcomes)


def sanitize(run, tool, name):
    """One program under one tool of compute-sanitizer."""
    limit = min(run.left(), run.options.program_seconds)
    command = [run.about["sanitizer"], "--tool", tool, "--error-exitcode", str(SANITIZER_ERROR),
               "--print-limit", "20", run.place.path(name)]
    ended = programs.run(command, limit, run.environment, run.place.root)
    label, output = f"{tool} {name}", ended.output.strip()
    if ended.hung:
        found = re.search(r"^=+ (Error|Invalid|Race|Barrier|Uninitialized).*", output, re.M)
        if found:
            return programs.outcome(label, "failed", ended.seconds, output)
        return programs.outcome(label, "left out", ended.seconds, "not finished in its time; no error so far")
    skipped = programs.says_skipped(output)
    if skipped:
        return programs.outcome(label, "not run", ended.seconds, skipped)
    if ended.code != 0:
        return programs.outcome(label, "failed", ended.seconds, f"{ended.how()}\n{output}")
    # Without its summary the tool did not watch anything.
    if not re.search(r"(ERROR SUMMARY|RACECHECK SUMMARY)", output):
        return programs.outcome(label, "not run", ended.seconds, "no summary\n" + output)
    return programs.outcome(label, "passed", ended.seconds)


def run_sanitizer(part, run):
    if run.about["sanitizer"] is None:
        run.add(part, [programs.outcome("compute-sanitizer", "not run", 0, "it is not installed")])
        return
    # A program at a time under every tool, the quick ones first, so that time that is short leaves
    # out whole programs.
    known = run.record.seconds_of_programs()
    names = run.wanted("grid", PART_OF_TEST) + run.wanted("ops", PART_OF_TEST)
    for name in sorted(names, key=lambda n: known.get(n, 1e9)):
        for tool in SANITIZER_TOOLS:
            if run.left() < 5:
                outcome = programs.outcome(f"{tool} {name}", "left out", 0, "the part's time was over")
            else:
                outcome = sanitize(run, tool, name)
            print(f"   {tool} {name}: {outcome['outcome']}, {outcome['seconds']:.1f} s", flush=True)
            run.add(part, [outcome])


def read_figures(path):
    """The lines that were written whole."""
    figures = []
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    figures.append(json.loads(line))
                except ValueError:
                    break
    return figures


def run_bench(part, run):
    names = run.wanted(part, PART_OF_BENCH)
    if not names:
        run.add(part, [programs.outcome(part, "not run", 0, "there is no program of this part")])
    run.record.add_clocks(part, "before", machine.smi())
    for name in names:
        if run.left() < 1:
            run.add(part, [programs.outcome(name, "not run", 0, "the part's time was over")])
            continue
        folder = tempfile.mkdtemp(prefix="gpu-check-")
        lines = os.path.join(folder, "figures")
        seconds = max(run.left() - 5, 1)
        command = [run.place.path(name), "--json", lines, "--seconds", f"{seconds * 0.9:.0f}"]
        command += ["--smoke"] if run.options.smoke else []
        command += ["--table-gib", f"{run.options.table_gib:g}"] if run.options.table_gib else []
        ended = programs.run(command, seconds, run.environment, run.place.root)
        figures = read_figures(lines)
        shutil.rmtree(folder)
        run.record.add_figures(part, name, figures)
        print(f"   {name}: {len(figures)} figures, {ended.seconds:.1f} s, {ended.how()}", flush=True)
        skipped = programs.says_skipped(ended.output)
        detail = skipped or f"{ended.how()}; output ends:\n{ended.output.strip()}"
        if skipped or (ended.code == 0 and not figures):
            kind = "not run"
        elif ended.hung:
            kind = "hung"
        else:
            kind = "passed" if ended.code == 0 else "crashed" if ended.code < 0 else "failed"
        run.add(part, [programs.outcome(name, kind, ended.seconds, "" if kind == "passed" else detail)])
    run.record.add_clocks(part, "after", machine.smi())


RUNNERS = {"grid": run_tests, "ops": run_tests, "goldens": run_tests, "invariants": run_tests,
           "sanitizer": run_sanitizer, "bench": run_bench, "explore": run_bench}


def run_part(name, place, about, record, arguments):
    print(f"== {name}", flush=True)
    begin = time.monotonic()
    record.begin_part(name)
    try:
        RUNNERS[name](name, Run(place, about, record, arguments))
    finally:
        record.end_part(name, time.monotonic() - begin)
    print(f"-- {name}: {time.monotonic() - begin:.0f} s", flush=True, file=sys.stdout)
