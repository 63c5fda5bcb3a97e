#!/usr/bin/env python3
"""House rules that a machine can check. Prints every violation; exits 1 if there is one.

Sizes are reported, not enforced.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
# Who may include whom; tests may include anything, nobody includes server or tools.
LAYERS = {
    "memory": {"memory"},
    "engine": {"memory", "engine"},
    "server": {"memory", "engine", "server", "engram"},
    "tools": {"memory", "engine", "server", "tools", "engram"},
}
BANNED = [
    (r"\bthrow\b", "no exceptions are thrown here; return a Status"),
    (r"\b(dynamic_cast|typeid)\b", "no RTTI"),
    (r"\busing namespace\b", "no using namespace"),
    (r"\b_mm(256|512)?_\w+", "SIMD goes through Highway"),
    (r"\bstd::(rand|srand)\b", "use a seeded generator"),
    (r"\b(strcpy|strcat|sprintf|gets|alloca)\s*\(", "unbounded C function"),
    (r"\bcudaDeviceSynchronize\b", "no device-wide synchronisation"),
    (r"<<<", "kernels start through launch()"),
]
MARKER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))")


def tracked(*suffixes):
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / f for f in out.decode().split("\0") if f]
    return [f for f in files if f.exists() and (not suffixes or f.suffix in suffixes)]


def strip_comments_and_strings(text):
    """Code only, same line numbers."""
    pattern = r'R"([^( ]*)\((?:.|\n)*?\)\1"|//[^\n]*|/\*(?:.|\n)*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text)


class Report:
    def __init__(self):
        self.violations, self.notes = [], []

    def error(self, path, line, what):
        self.violations.append(f"{path.relative_to(ROOT)}:{line}: {what}")

    def note(self, path, what):
        self.notes.append(f"{path.relative_to(ROOT)}: {what}")


def check_code(report, path, text):
    code = strip_comments_and_strings(text)
    for number, line in enumerate(code.split("\n"), 1):
        for pattern, why in BANNED:
            if re.search(pattern, line):
                report.error(path, number, f"{why}: {line.strip()}")
    lines = text.count("\n")
    if lines > 600:
        report.note(path, f"{lines} lines")


def check_includes(report, path, text):
    top = path.relative_to(ROOT).parts[0]
    allowed = LAYERS.get(top)
    if allowed is None:
        return
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'#include\s+["<]([^">]+)[">]', line)
        if not match:
            continue
        first = match.group(1).split("/")[0]
        if first in ("memory", "engine", "server", "tools", "tests") and first not in allowed:
            report.error(path, number, f"{top} may not include {match.group(1)}")
        if first in ("grpc", "grpcpp", "grpc++") and top not in ("server", "tools"):
            report.error(path, number, "gRPC only under server and tools")
        if first in ("cuda.h", "cuda_runtime.h") and path.suffix not in (".cu", ".cuh") and "cuda" not in path.name:
            report.error(path, number, "CUDA headers only in .cu and .cuh files and their handles")


def check_listed(report, sources):
    """Every source is in the build: named in CMakeLists.txt, or a header that some source includes."""
    cmake = (ROOT / "CMakeLists.txt").read_text()
    everything = "\n".join(p.read_text(encoding="utf-8") for p in sources)
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in (".h", ".cuh"):
            # The emulation's own headers are found by the names of those they stand for.
            names = {name, name.removeprefix("tests/support/cuda_emulation/")}
            included = any(f'"{n}"' in everything or f"<{n}>" in everything for n in names)
            if not included and name not in cmake:
                report.error(path, 1, "included by nothing")
        else:
            stem = name.rsplit(".", 1)[0]
            # engram_test(), engram_bench() and engram_fuzzer() leave out the folder they imply.
            short = [stem.removeprefix(p) for p in ("tests/", "tests/bench/", "tests/fuzz/")]
            if name not in cmake and not any(re.search(rf"\({s}[\s)]", cmake) for s in short):
                report.error(path, 1, "not in CMakeLists.txt")


def check_tested(report, sources):
    """Headers with behaviour (a .cc or .cu beside them) have a test that includes them."""
    tests = "\n".join(p.read_text(encoding="utf-8") for p in sources
                      if p.relative_to(ROOT).parts[0] == "tests")
    for path in sources:
        top = path.relative_to(ROOT).parts[0]
        if path.suffix != ".h" or top not in ("memory", "engine", "server"):
            continue
        if not any(path.with_suffix(s).exists() for s in (".cc", ".cu")):
            continue
        if f'"{path.relative_to(ROOT).as_posix()}"' not in tests:
            report.note(path, "no test includes this header")


def check_format(report, sources):
    names = [str(p.relative_to(ROOT)) for p in sources]
    for tool in ("clang-format-14", "clang-format"):
        try:
            run = subprocess.run([tool, "--dry-run", *names], cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError:
            continue
        bad = sorted({line.split(":")[0] for line in run.stderr.split("\n") if "clang-format-violations" in line})
        for name in bad:
            report.error(ROOT / name, 1, "not formatted (clang-format-14 -i)")
        return
    report.error(ROOT / ".clang-format", 1, "clang-format-14 is not installed")


def main():
    report = Report()
    sources = tracked(*SOURCE_SUFFIXES)
    for path in sources:
        text = path.read_text(encoding="utf-8")
        check_code(report, path, text)
        check_includes(report, path, text)
        # Highway includes an -inl.h once per vector target, with a guard of its own.
        if path.suffix in (".h", ".cuh") and "#pragma once" not in text and "-inl.h" not in path.name:
            report.error(path, 1, "no #pragma once")
    with_cuda = [p for p in sources if re.search(r"\bWITH_CUDA\b", strip_comments_and_strings(p.read_text()))]
    if len(with_cuda) > 3:
        report.error(with_cuda[3], 1, "WITH_CUDA is tested in more than three files")
    for path in tracked(*SOURCE_SUFFIXES, ".py", ".sh", ".proto", ".txt", ".md"):
        if path.name == "tidy.py" or "golden" in path.parts or "corpus" in path.parts:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if MARKER.search(line):
                report.error(path, number, f"marker without an issue number: {line.strip()}")
    check_listed(report, sources)
    check_tested(report, sources)
    check_format(report, sources)
    for line in report.notes:
        print(f"note: {line}")
    for line in report.violations:
        print(line)
    print(f"tidy: {len(sources)} sources, {len(report.violations)} violations, {len(report.notes)} notes")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
