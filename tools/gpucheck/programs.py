"""Runs one program within a time limit, and reads what a Catch2 program says of its tests."""
import os
import re
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as xml

NO_DEVICE = re.compile(r"SKIPPED|no CUDA device")
TAIL_BYTES = 6000
KILL_SECONDS = 10


class Ended:
    """How a program ended: `code` as subprocess has it, None for one that was killed for time."""

    def __init__(self, code, seconds, output):
        self.code, self.seconds, self.output = code, seconds, output

    @property
    def hung(self):
        return self.code is None

    def how(self):
        if self.code is None:
            return f"killed after {self.seconds:.0f} s"
        if self.code < 0:
            try:
                return "ended by " + signal.Signals(-self.code).name
            except ValueError:
                return f"ended by signal {-self.code}"
        return f"exit status {self.code}"


def tail(text, size=TAIL_BYTES):
    return text if len(text) <= size else "[...]\n" + text[-size:]


def run(command, seconds, environment, directory):
    """Output beyond the last TAIL_BYTES is dropped."""
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=environment, cwd=directory, start_new_session=True)
        except OSError as error:
            return Ended(127, 0.0, str(error))
        try:
            code = process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            code = None
        except BaseException:
            kill(process)
            raise
        taken = time.monotonic() - begin
        if code is None:
            kill(process)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - TAIL_BYTES))
        return Ended(code, taken, output.read().decode("utf-8", "replace"))


def kill(process):
    """The program and what it started. A process that a driver holds may stay: it is left alone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(KILL_SECONDS)
    except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
        pass


def outcome(name, result, seconds, detail=""):
    """result: passed, failed, crashed, hung, not run, left out (the sanitizer's time was over)."""
    return {"name": name, "outcome": result, "seconds": round(seconds, 3), "detail": detail}


def says_skipped(output):
    """The line that says so, or None."""
    return next((l.strip() for l in output.splitlines() if NO_DEVICE.search(l)), None)


def failures_of(case):
    """What a <TestCase> says went wrong, as text."""
    lines, notes = [], []
    for element in case.iter():
        place = f"{element.get('filename')}:{element.get('line')}"
        text = (element.text or "").strip()
        if element.tag == "Expression" and element.get("success") == "false":
            sides = [(element.findtext(t) or "").strip() for t in ("Original", "Expanded")]
            lines.append(f"{place}: {element.get('type')}( {sides[0]} )\n    {tail(sides[1], 1000)}")
            thrown = element.findtext("Exception")
            lines.extend(["    threw: " + thrown.strip()] if thrown else [])
        elif element.tag in ("Failure", "FatalErrorCondition"):
            lines.append(f"{place if element.get('line') else element.tag}: {text}")
        elif element.tag == "Exception" and element.get("line"):
            lines.append(f"{place}: threw {text}")
        elif element.tag == "Info" and text:
            notes.append("    with " + tail(text, 500))
    return "\n".join(lines + list(dict.fromkeys(notes))[:8])


def cases_of(text):
    """The <TestCase> elements that began, finished or not, of XML that may end anywhere."""
    parser = xml.XMLPullParser(("start", "end"))
    cases, finished = [], set()

    def read():
        for event, element in parser.read_events():
            if element.tag != "TestCase":
                continue
            if event == "start":
                cases.append(element)
            else:
                finished.add(len(cases) - 1)

    try:
        for at in range(0, len(text), 4096):
            parser.feed(text[at:at + 4096])
            read()
    except xml.ParseError:
        pass
    return [(case, i in finished) for i, case in enumerate(cases)]


def run_catch(path, seconds, environment, directory):
    """One outcome per test case that began, and one for the program if it did not end well."""
    with tempfile.TemporaryDirectory() as temporary:
        report = os.path.join(temporary, "report.xml")
        ended = run([path, "--reporter", "xml", "--durations", "yes", "--out", report], seconds,
                    environment, directory)
        text = ""
        if os.path.exists(report):
            with open(report, encoding="utf-8", errors="replace") as file:
                text = file.read()
    program = os.path.basename(path)
    skipped = says_skipped(ended.output) or says_skipped(text)
    if skipped:
        return [outcome(program, "not run", ended.seconds, skipped)]
    tests = []
    for case, finished in cases_of(text):
        result = case.find("OverallResult")
        name = f"{program}: {(case.get('name') or '').strip()}"
        if finished and result is not None:
            good = result.get("success") == "true"
            time_taken = float(result.get("durationInSeconds") or 0)
            fatal = case.find(".//FatalErrorCondition") is not None
            kind = "passed" if good else "crashed" if fatal else "failed"
            tests.append(outcome(name, kind, time_taken, "" if good else failures_of(case)))
        else:
            kind = "hung" if ended.hung else "crashed"
            what = f"{failures_of(case)}\n{ended.how()}; output ends:\n{tail(ended.output.strip())}"
            tests.append(outcome(name, kind, 0.0, what.strip()))
    bad = any(t["outcome"] != "passed" for t in tests)
    if not bad and (ended.code != 0 or not text.rstrip().endswith("</Catch>")):
        kind = "hung" if ended.hung else "crashed" if (ended.code or 0) < 0 else "failed"
        tests.append(outcome(program, kind, ended.seconds,
                             f"{ended.how()}; output ends:\n{tail(ended.output.strip())}"))
    if not tests:
        tests.append(outcome(program, "not run", ended.seconds, "the program has no tests"))
    return tests
