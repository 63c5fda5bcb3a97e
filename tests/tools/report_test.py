"""`engram bench report` and `engram bench compare` over saved results, as a user runs them."""

import csv
import io
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

BUILD = os.path.abspath(sys.argv.pop())
ENGRAM = os.path.join(BUILD, "engram")


def run(*arguments):
    return subprocess.run([ENGRAM, "bench", *arguments], text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def serve_result(rng, label, rate, requests=60, scale=1.0, **more):
    """What a load run saves, with --save-detailed."""
    starts, at = [], 1000.0
    for _ in range(requests):
        at += rng.expovariate(rate) if rate != "inf" else 0
        starts.append(at)
    ttfts = [scale * (0.02 + rng.expovariate(100)) for _ in range(requests)]
    itls = [[scale * rng.uniform(0.008, 0.012) for _ in range(7)] for _ in range(requests)]
    latencies = [t + sum(g) for t, g in zip(ttfts, itls)]
    duration = starts[-1] - starts[0] + latencies[-1]
    result = {
        "x_kind": "serve", "x_schema": 1, "date": "20261122-131500", "backend": "engram",
        "model_id": "demo", "label": label, "num_prompts": requests, "request_rate": rate,
        "burstiness": 1.0, "max_concurrency": None, "duration": duration, "completed": requests,
        "failed": 0, "total_input_tokens": 100 * requests, "total_output_tokens": 8 * requests,
        "request_throughput": requests / duration, "request_goodput": None,
        "output_throughput": 8 * requests / duration,
        "total_token_throughput": 108 * requests / duration,
        "median_ttft_ms": 1e3 * sorted(ttfts)[requests // 2], "p99_ttft_ms": 1e3 * max(ttfts),
        "median_tpot_ms": scale * 10.0, "p99_tpot_ms": scale * 11.5,
        "input_lens": [100] * requests, "output_lens": [8] * requests, "ttfts": ttfts,
        "itls": itls, "latencies": latencies, "start_times": starts, "errors": [""] * requests}
    result.update(more)
    return result


def overhead_result(rng, batches, sizes, quiet=True):
    """What an experiment saves."""
    points = []
    for batch in batches:
        for size in sizes:
            base = [100.0 * batch * rng.uniform(0.95, 1.05) for _ in range(9)]
            arms = {}
            for key, name, cost in (("N", "no Engram", 0.0), ("D", "host, prefetch", 0.02)):
                samples = [b / (1 + cost) * rng.uniform(0.999, 1.001) for b in base]
                arms[key] = {
                    "name": name,
                    "output_throughput": {"median": sorted(samples)[4], "samples": samples},
                    "exposed_wait_us": {"p50": 1.25, "p99": 6.5, "max": 7.75,
                                        "histogram": [[1, 400], [2, 300], [4, 200], [8, 100]]},
                    "rows": 4096 * batch, "gather_gbps": 3.125, "link_share": None,
                    "token_hash": "00"}
            value = rng.uniform(1.9, 2.1)
            points.append({
                "workload": "w3", "metric": "output_throughput", "batch": batch,
                "input_tokens": 512, "output_tokens": 32, "table_parameters": size,
                "table_bytes": size, "contention": False, "arms": arms,
                "comparisons": [{"arm": "D", "baseline": "N", "metric": "output_throughput",
                                 "overhead_percent": {"value": value, "low": value - 0.25,
                                                      "high": value + 0.25},
                                 "text": "+2.00 %"}],
                "split_percent": {"projections_and_gate": 1.75, "launches": None,
                                  "exposed_wait": 0.25, "interference": -0.125},
                "quiet": {"spread_percent": 2.0 if quiet else 30.0, "limit_percent": 10,
                          "quiet": quiet}})
    return {"x_kind": "overhead", "x_schema": 1, "engram_version": "0.1.0", "date": "2026-11-22",
            "command": "engram bench overhead", "label": "experiment",
            "machine": {"cpu": "some", "cores": 2, "link": None}, "model": {"name": "demo"},
            "settings": {"rounds": 9, "seed": 1}, "peaks": {"read_gbps": 11.5, "link_gbps": None},
            "scaled_down": None, "points": points, "interrupted": False}


class Report(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="engram-report-")
        self.rng = random.Random(7)

    def tearDown(self):
        shutil.rmtree(self.root)

    def path(self, name):
        return os.path.join(self.root, name)

    def save(self, name, *results):
        with open(self.path(name), "w") as file:
            file.write("\n".join(json.dumps(r) for r in results))
        return self.path(name)

    def page(self, *files):
        done = run("report", *files, "-o", self.path("r.html"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(self.path("r.html"), encoding="utf-8") as file:
            return file.read()

    def values(self, page):
        """The exact numbers of all tables."""
        root = ElementTree.fromstring(page)
        return {float(cell.get("data-value")) for cell in root.iter("td")
                if cell.get("data-value") is not None}

    def test_page_is_xml_and_asks_for_nothing(self):
        files = [self.save(f"{i}.json", serve_result(self.rng, "a", rate))
                 for i, rate in enumerate((1, 4, 16, "inf"))]
        files.append(self.save("o.json", overhead_result(self.rng, (1, 4), (10**9, 10**11))))
        page = self.page(*files)
        root = ElementTree.fromstring(page)
        titles = [e.text for e in root.iter("h3")]
        for begin in ("Throughput against request rate", "TTFT against", "TPOT against",
                      "Throughput against interactivity", "Latency from end to end",
                      "TTFT, distribution", "Timeline", "Overhead of D over N against batch size",
                      "Cost of D over N against table size", "Split of the cost", "Rounds",
                      "Exposed wait"):
            self.assertTrue(any(t.startswith(begin) for t in titles), begin)
        for figure in root.iter("figure"):
            self.assertEqual(len(list(figure.iter("table"))), 1, "a figure has its numbers")
            self.assertIsNotNone(figure.find(".//{*}svg/{*}title"))
        for part in ("http:", "https:", "src=", "url(", "<script", "<link", "@import"):
            self.assertNotIn(part, page)

    def test_tables_hold_the_numbers_of_the_files(self):
        run_a = serve_result(self.rng, "a", 2)
        run_b = serve_result(self.rng, "a", 8)
        experiment = overhead_result(self.rng, (1, 16), (10**9,))
        page = self.page(self.save("a.json", run_a), self.save("b.json", run_b),
                         self.save("c.json", experiment))
        found = self.values(page)
        for result in (run_a, run_b):
            for key in ("request_throughput", "output_throughput", "median_ttft_ms",
                        "p99_ttft_ms", "median_tpot_ms", "duration"):
                self.assertIn(result[key], found, key)
        for point in experiment["points"]:
            for comparison in point["comparisons"]:
                for value in comparison["overhead_percent"].values():
                    self.assertIn(value, found)
            for arm in point["arms"].values():
                for value in arm["output_throughput"]["samples"]:
                    self.assertIn(value, found)
            self.assertIn(-0.125, found)

    def test_text_of_files_is_escaped(self):
        bad = "</style><script>alert('1')</script> & \u0007"
        page = self.page(self.save("a.json", serve_result(self.rng, bad, 2, x_note=bad)),
                         self.save("b.json", serve_result(self.rng, bad, 4, model_id=bad)))
        self.assertNotIn("<script", page)
        root = ElementTree.fromstring(page)
        self.assertIn("<script>alert('1')</script> & \ufffd", root.find(".//h1").text)

    def test_what_is_not_to_be_trusted_says_so(self):
        page = self.page(
            self.save("a.json", serve_result(self.rng, "a", 2, x_client_bottleneck=True)),
            self.save("o.json", overhead_result(self.rng, (1, 4), (10**9,), quiet=False)))
        root = ElementTree.fromstring(page)
        warnings = [e.text for e in root.iter("p") if e.get("class") == "warning"]
        self.assertTrue(any("client was the bottleneck" in w for w in warnings))
        self.assertTrue(any("Not quiet" in w for w in warnings))

    def test_missing_data_names_its_flag(self):
        plain = {k: v for k, v in serve_result(self.rng, "a", 2).items()
                 if not isinstance(v, list) and not k.startswith("x_")}
        page = self.page(self.save("a.json", plain))
        self.assertIn("--save-detailed", page)
        self.assertIn("--request-rate", page)

    def test_appended_results_are_all_read(self):
        page = self.page(self.save("a.json", *(serve_result(self.rng, "a", r) for r in (1, 2, 4))))
        self.assertIn("Throughput against request rate</h3>", page)

    def test_csv(self):
        experiment = overhead_result(self.rng, (1,), (10**9,))
        serve = serve_result(self.rng, "a, \"b\"", "inf")
        done = run("report", "--csv", "-", self.save("a.json", serve),
                   self.save("b.json", experiment))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        mine = {r["metric"]: r for r in rows if r["kind"] == "serve"}
        self.assertEqual(mine["output_throughput"]["label"], "a, \"b\"")
        self.assertEqual(float(mine["output_throughput"]["value"]), serve["output_throughput"])
        self.assertTrue(math.isinf(float(mine["output_throughput"]["request_rate"])))
        self.assertEqual(mine["request_goodput"]["value"], "")
        samples = experiment["points"][0]["arms"]["D"]["output_throughput"]["samples"]
        found = [float(r["value"]) for r in rows if r["arm"] == "D" and r["round"] and
                 r["metric"] == "output_throughput"]
        self.assertEqual(found, samples)

    def test_compare_tells_slow_from_equal(self):
        a = self.save("a.json", serve_result(self.rng, "a", 4, 300))
        b = self.save("b.json", serve_result(self.rng, "b", 4, 300))
        slow = self.save("s.json", serve_result(self.rng, "s", 4, 300, scale=1.5, burstiness=2.0))
        done = run("compare", a, b, "--json")
        self.assertEqual(done.returncode, 0)
        metrics = {m["metric"]: m for m in json.loads(done.stdout)["metrics"]}
        self.assertEqual(metrics["median_ttft_ms"]["verdict"], "not distinguishable")
        done = run("compare", a, slow, "--json")
        self.assertEqual(done.returncode, 0)
        compared = json.loads(done.stdout)
        metrics = {m["metric"]: m for m in compared["metrics"]}
        self.assertEqual(metrics["median_ttft_ms"]["verdict"], "B worse")
        self.assertLess(metrics["median_ttft_ms"]["low"], 50)
        self.assertGreater(metrics["median_ttft_ms"]["high"], 30)
        self.assertEqual(compared["settings"], [{"name": "burstiness", "a": "1", "b": "2"}])
        text = run("compare", a, slow).stdout
        self.assertLess(text.index("burstiness"), text.index("median_ttft_ms"))

    def test_compare_refuses_other_kinds(self):
        done = run("compare", self.save("a.json", serve_result(self.rng, "a", 4)),
                   self.save("b.json", overhead_result(self.rng, (1,), (10**9,))))
        self.assertEqual(done.returncode, 1)
        self.assertIn("different kinds", done.stderr)

    def test_wrong_files_and_flags(self):
        good = self.save("a.json", serve_result(self.rng, "a", 4))
        wrong = serve_result(self.rng, "a", 4, output_throughput="fast")
        for name, expected in ((self.save("w.json", wrong), "output_throughput: expected a number"),
                               (self.save("l.json", {"a": 1}), "x_kind: expected"),
                               (self.path("none.json"), "No such file")):
            done = run("report", good, name, "-o", self.path("r.html"))
            self.assertEqual(done.returncode, 1, name)
            self.assertIn(name, done.stderr)
            self.assertIn(expected, done.stderr)
            self.assertFalse(os.path.exists(self.path("r.html")))
        self.assertEqual(run("report", good).returncode, 2)
        self.assertEqual(run("report").returncode, 2)
        self.assertEqual(run("compare", good).returncode, 2)
        done = run("report", good, "-o", self.path("no/such/r.html"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("no/such", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
