"""What a run found: one JSON file, which is written anew after every program, and one table."""
import json
import os
import re
import sys
import time

SCHEMA = 1
BAD = ("failed", "crashed", "hung", "not run")


def machine_lines(about):
    host, told = about["host"], about["nvidia_smi"]
    gpu = about["gpu"]
    lines = []
    if gpu is None:
        lines.append(f"GPU         none: {about['no_gpu']}")
    else:
        lines.append(
            f"GPU         {gpu['name']}, sm_{gpu.get('major')}{gpu.get('minor')}, "
            f"{gpu['memory_bytes'] / 2**30:.1f} GiB, {gpu.get('sm_count')} multiprocessors, L2 "
            f"{gpu.get('l2_bytes', 0) / 2**20:.0f} MiB")
    lines.append(f"driver      {about['driver']}, CUDA {about['cuda_driver']}; cuBLASLt "
                 f"{about['cublas_lt'] or about['no_cublas_lt']}; nvcc {about['nvcc']}")
    if told:
        lines.append("clocks      SM {} of {}, memory {} of {}; power limit {}; ECC {}; MIG {}".format(
            *(told.get(k) for k in ("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem",
                                    "power.limit", "ecc.mode.current", "mig.mode.current"))))
        lines.append("link        PCIe generation {} (at most {}), width {} (at most {}){}".format(
            *(told.get(k) for k in ("pcie.link.gen.current", "pcie.link.gen.max",
                                    "pcie.link.width.current", "pcie.link.width.max")),
            f"; kernel: {about['link']}" if about["link"] else ""))
    gib = 2**30
    lines.append(f"host        {host['cpu']}, {host['cores']} cores, {(host['memory_bytes'] or 0) / gib:.0f}"
                 f" GiB ({(host['memory_available_bytes'] or 0) / gib:.0f} available, limit "
                 f"{host['memory_limit']}), kernel {host['kernel']}, Python {host['python']}")
    lines.append(f"NUMA        {len(host['numa_nodes'])} nodes; GPU at node "
                 f"{(gpu or {}).get('host_numa_node', about['link'].get('numa_node'))}; memory lock limit "
                 f"{host['locked_memory_limit']}")
    pools = ", ".join(f"{k}: {v['free']} of {v['total']}" for k, v in host["huge_page_pools"].items())
    lines.append(f"pages       transparent {host['transparent_huge_pages']} (defrag "
                 f"{host['transparent_huge_pages_defrag']}); pools {pools or 'none'}")
    return lines


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "gpu"


class Record:
    def __init__(self, about, commit, folder):
        os.makedirs(folder, exist_ok=True)
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        name = (about["gpu"] or {}).get("name", "no GPU")
        self.base = os.path.join(folder, f"results-{date[:10]}-{slug(name)}")
        self.content = {"schema": SCHEMA, "date": date, "commit": commit, "machine": about, "parts": {}}
        # Parts of earlier runs of this day, GPU and commit are kept, so that each may have a
        # command of its own.
        earlier = read_json(self.base + ".json")
        if earlier and earlier["commit"] == commit and earlier["schema"] == SCHEMA:
            self.content["parts"] = earlier["parts"]

    def begin_part(self, name):
        self.content["parts"][name] = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "complete": False,
            "seconds": None, "tests": [], "figures": [], "clocks": {}}
        self.write()

    def add_tests(self, part, outcomes):
        self.content["parts"][part]["tests"] += outcomes
        self.write()

    def add_figures(self, part, program, figures):
        self.content["parts"][part]["figures"] += [{"program": program, **f} for f in figures]
        self.write()

    def add_clocks(self, part, when, told):
        self.content["parts"][part]["clocks"][when] = {k: v for k, v in told.items() if k.startswith(("clocks", "pcie", "temp"))}

    def end_part(self, name, seconds):
        self.content["parts"][name].update(complete=sys.exc_info()[0] is None, seconds=round(seconds, 1))
        self.write()

    def finish(self):
        self.write()

    def seconds_of_programs(self):
        """Of tests that ran, so that the quick ones can go first."""
        seconds = {}
        for part in self.content["parts"].values():
            for test in part["tests"]:
                program = test["name"].split(":")[0]
                seconds[program] = seconds.get(program, 0) + test["seconds"]
        return seconds

    def tests(self):
        return [(part, t) for part, p in self.content["parts"].items() for t in p["tests"]]

    def figures(self):
        return [(part, f) for part, p in self.content["parts"].items() for f in p["figures"]]

    def passed(self):
        parts = self.content["parts"]
        whole = bool(parts) and all(p["complete"] and p["tests"] for p in parts.values())
        return whole and not any(t["outcome"] in BAD for _, t in self.tests())

    def first_failure(self):
        return next(((part, t) for part, t in self.tests() if t["outcome"] in BAD), None)

    def write(self):
        for suffix, text in ((".json", json.dumps(self.content, indent=1) + "\n"), (".txt", self.table())):
            with open(self.base + suffix + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(self.base + suffix + ".new", self.base + suffix)

    def summary(self):
        lines = []
        for name, part in self.content["parts"].items():
            counts = {}
            for test in part["tests"]:
                counts[test["outcome"]] = counts.get(test["outcome"], 0) + 1
            said = ", ".join(f"{n} {o}" for o, n in sorted(counts.items())) or "nothing ran"
            figures = f", {len(part['figures'])} figures" if part["figures"] else ""
            broken = "" if part["complete"] else ", NOT COMPLETE"
            lines.append(f"{name:<11} {said}{figures}{broken}")
        bars = [f for _, f in self.figures() if reaches_bar(f) is not None]
        if bars:
            lines.append(f"bars        {sum(map(reaches_bar, bars))} of {len(bars)} reached (a bar that is "
                         "missed is a finding, not a failed test)")
        first = self.first_failure()
        if first:
            lines += ["", f"first of the failures: {first[1]['outcome']}: {first[0]}: {first[1]['name']}",
                      first[1]["detail"]]
        lines.append(f"{'PASSED' if self.passed() else 'FAILED'}; {self.base}.json, {self.base}.txt")
        return lines

    def table(self):
        lines = [f"engramd on a GPU, {self.content['date']}", ""]
        lines += ["commit      " + self.content["commit"], *machine_lines(self.content["machine"]), ""]
        if any(f.get("smoke") for _, f in self.figures()):
            lines += ["SMOKE SIZE: the figures below mean nothing", ""]
        lines += self.summary()[:-1] + [""]
        for part, content in self.content["parts"].items():
            others = [t for t in content["tests"] if t["outcome"] != "passed"]
            lines += [f"{part}: {t['outcome']}: {t['name']}" for t in others]
        lines += [""] if lines[-1] else []
        lines += figure_lines([f for _, f in self.figures()])
        return "\n".join(lines) + "\n"


def reaches_bar(figure):
    """None for a figure without a bar or without the value the bar is about."""
    bar = figure.get("bar")
    value = figure.get(bar["of"]) if bar else None
    if value is None:
        return None
    return value >= bar["least"] if "least" in bar else value <= bar["most"]


def bar_text(figure):
    bar = figure.get("bar")
    if not bar:
        return ""
    sign, key = (">=", "least") if "least" in bar else ("<=", "most")
    reached = reaches_bar(figure)
    verdict = "" if reached is None else " reached" if reached else " MISSED"
    aim = f", aim {bar['aim']:g}" if "aim" in bar else ""
    return f"{bar['of']} {sign} {bar[key]:g}{aim}:{verdict or ' no value'}"


def rates_text(figure):
    units = (("gbps", "GB/s"), ("tflops", "TFLOP/s"), ("mrows", "M rows/s"), ("tokens_per_second", "tokens/s"))
    return ", ".join(f"{figure[k]:.4g} {u}" for k, u in units if figure.get(k) is not None)


def share_text(figure):
    shares = [f"{figure['ratio']:.3f} of {figure['limit']}"] if figure.get("ratio") is not None else []
    if figure.get("datasheet_share") is not None:
        shares.append(f"{figure['datasheet_share']:.3f} of the datasheet")
    return ", ".join(shares)


def figure_lines(figures):
    """A line per figure: what, time and spread, rates, share of the limit, prediction, bar."""
    lines, group = [], None
    for f in figures:
        if f.get("group") != group:
            group = f.get("group")
            lines += ["", f"{group}"]
        if f.get("us") is not None:
            text = f"  {f['name']:<58} {f['us']:>11.2f} us +-{f.get('spread_percent', 0):3.0f} %"
        elif f.get("percent") is not None:
            text = f"  {f['name']:<58} {f['percent']:>+11.2f} %"
        else:
            text = f"  {f['name']:<58} not measured"
        text = f"{text}  {rates_text(f):<28} {share_text(f):<34}".rstrip()
        if f.get("prediction"):
            text += f"  predicted: {f['prediction']}"
        if f.get("bar"):
            text += f"  [{bar_text(f)}]"
        lines.append(text + (f"  ({f['note']})" if f.get("note") else ""))
    return lines


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def merge(files, folder):
    """Parts of several runs of one commit on one kind of GPU; of equal parts the later one."""
    contents = [json.load(open(f, encoding="utf-8")) for f in files]
    first = contents[0]
    for path, content in zip(files, contents):
        for what, get in (("commit", lambda c: c["commit"]),
                          ("GPU", lambda c: (c["machine"]["gpu"] or {}).get("name"))):
            if get(content) != get(first):
                raise ValueError(f"{path}: {what} {get(content)}, expected {get(first)} as in {files[0]}")
    record = Record(first["machine"], first["commit"], folder)
    record.content.update(date=first["date"], parts={})
    date, name = first["date"][:10], (first["machine"]["gpu"] or {}).get("name", "no GPU")
    record.base = os.path.join(folder, f"results-{date}-{slug(name)}")
    for content in contents:
        record.content["parts"].update(content["parts"])
    record.write()
    return record
