#!/usr/bin/env python3
"""Reports the results of a run on a machine with a GPU (steps.py), and compares token ids.

    report.py write OUT rows.jsonl... [--before rows.jsonl]
        writes OUT/gpu-<device>.md. Several runs are combined; of rows with the same name, the last one counts. With --before, a column shows the
        medians of an earlier run.
    report.py show rows.jsonl...
        prints the short table with which a call ends
    report.py same TILLER CHECKPOINT COUNT
        checks whether `tiller generate` draws the same ids on the CPU and on CUDA
"""
import collections
import csv
import json
import os
import re
import statistics
import subprocess
import sys

# Sections of Nsight Compute: speed of light, occupancy, warp states, memory, and launch statistics, which have the registers.
SECTIONS = ["SpeedOfLight", "Occupancy", "WarpStateStats", "MemoryWorkloadAnalysis", "LaunchStats"]

# The reported metrics of a kernel: a title, and the metric's names in different versions of Nsight Compute.
METRICS = {
    "us": ["gpu__time_duration.sum"],
    "SM %": ["sm__throughput.avg.pct_of_peak_sustained_elapsed"],
    "DRAM %": ["gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed", "dram__throughput.avg.pct_of_peak_sustained_elapsed"],
    "memory %": ["gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed"],
    "GB/s": ["dram__bytes.sum.per_second", "dram__bytes_read.sum.per_second"],
    "L2 hit %": ["lts__t_sector_hit_rate.pct"],
    "warps %": ["sm__warps_active.avg.pct_of_peak_sustained_active"],
    "warps % at most": ["sm__maximum_warps_per_active_cycle_pct"],
    "registers": ["launch__registers_per_thread"],
}
SCALES = {"us": 1e-3, "GB/s": 1e-9}  # factors for values in base units
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)(?<!_not_issued)_per_issue_active\.ratio$")

Run = collections.namedtuple("Run", "machines steps rows kernels")


# Reading ------------------------------------------------------------------------------------------------------------------------------------------

def read(paths):
    """Reads some rows.jsonl. Of items with the same name, the last one counts. Incomplete lines are skipped."""
    machines, steps, rows, kernels = [], {}, {}, {}
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                try:
                    item = json.loads(line)
                except ValueError:
                    continue
                kind = item.pop("kind", None)
                if kind == "machine":
                    machines.append(item)
                elif kind == "step":
                    newest(steps, (item["phase"], item["step"]), item)
                elif kind == "row":
                    newest(rows, (item["step"], item["name"]), item)
                elif kind == "kernel":
                    newest(kernels, (item["step"], item["kernel"], item["grid"]), item)
    return Run(machines, list(steps.values()), list(rows.values()), list(kernels.values()))


def newest(items, key, item):
    """Sets the item of a key, and moves it to the end."""
    items.pop(key, None)
    items[key] = item


def device_of(run):
    """The GPU's name in the rows, or, if there are none, its name from the driver."""
    named = [m["gpu"] for m in run.machines if m.get("gpu")]
    own = [re.sub(r"^cuda:\d+ \((.*)\)$", r"\1", r["device"]) for r in run.rows if r.get("device", "").startswith("cuda:")]
    return own[0] if own else named[0] if named else "unknown"


def profiled(path):
    """The kernels in a raw page of Nsight Compute, with medians over the launches of the same grid; empty if there is no page."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as f:
            lines = [line for line in f if line.startswith('"')]
    except OSError:
        return []
    if len(lines) < 3:
        return []
    table = list(csv.reader(lines))
    head, launches = table[0], collections.defaultdict(list)
    for values in table[2:]:  # the line after the names has the units
        if len(values) == len(head):
            launch = dict(zip(head, values))
            launches[(launch.get("Kernel Name", "?"), launch.get("Grid Size", "?"), launch.get("Block Size", "?"))].append(launch)
    kernels = []
    for (name, grid, block), all_of_it in launches.items():
        metrics = {title: figures for title, names in METRICS.items() if (figures := numbers(all_of_it, names))}
        stalls = {match[1]: figures for column in head if (match := STALL.search(column)) and (figures := numbers(all_of_it, [column]))}
        kernels.append({
            "kernel": name, "grid": grid, "block": block, "launches": len(all_of_it),
            "metrics": {title: statistics.median(figures) * SCALES.get(title, 1) for title, figures in metrics.items()},
            "stalls": {name: statistics.median(figures) for name, figures in stalls.items()},
        })
    return kernels


def numbers(launches, names):
    """The values of a metric, by the first of its names that has values."""
    for name in names:
        found = []
        for launch in launches:
            try:
                found.append(float(launch[name].replace(",", "")))
            except (KeyError, ValueError):
                pass
        if found:
            return found
    return []


# Writing ------------------------------------------------------------------------------------------------------------------------------------------

def figure(value):
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) >= 1 else f"{value:.5f}"


def cell(text):
    return str(text).replace("|", "/").replace("\n", " ")


def table(rows, earlier):
    lines = ["| row | median | p10 | p90 | rate | of ceiling | ceiling | ratio |" + (" before |" if earlier else ""),
             "|---|---|---|---|---|---|---|---|" + ("---|" if earlier else "")]
    for r in rows:
        if "error" in r:
            lines.append(f"| {cell(r['name'])} | failed: {cell(r['error'])} | | | | | | |" + (" |" if earlier else ""))
            continue
        ceiling = f"{r['percentOfCeiling']:.1f} % | {figure(r['ceiling'])} {r['ceilingUnit']}, {r['ceilingName']}" if "ceiling" in r else " | "
        ratio = f"{r['ratio']:.3f} ({r['ratioOf']})" if r.get("ratio") else ""
        before = earlier.get((r["step"], r["name"]))
        lines.append(f"| {r['name']} | {figure(r['median'])} {r['unit']} | {figure(r['p10'])} | {figure(r['p90'])} "
                     f"| {figure(r['rate'])} {r['rateUnit']} | {ceiling} | {ratio} |"
                     + ("" if not earlier else f" {figure(before)} |" if before else " |"))
    return lines


def kernel_table(kernels):
    lines = [f"| kernel | grid | block | {' | '.join(METRICS)} | most stalled by, warps |", "|---|---|---|" + "---|" * (len(METRICS) + 1)]
    for k in kernels:
        values = [figure(k["metrics"][title]) if title in k["metrics"] else "" for title in METRICS]
        stalls = sorted(((value, name) for name, value in k["stalls"].items() if name != "selected"), reverse=True)[:3]
        stalled = ", ".join(f"{name} {value:.2f}" for value, name in stalls)
        lines.append(f"| {k['kernel']} | {k['grid']} | {k['block']} | {' | '.join(values)} | {stalled} |")
    return lines


def write(out, run, earlier=None):
    """Writes gpu-<device>.md and returns its path."""
    earlier = earlier or {}
    device = device_of(run)
    lines = [f"# {device}", ""]
    if "not a GPU" in device:
        lines += ["A rehearsal on the host CUDA of the tests: its figures say nothing about a GPU.", ""]
    told = dict.fromkeys(line for machine in run.machines for line in machine["lines"])
    lines += ["```", *told, "```", "", "Times are wall times of consecutive steps until all work has ended, as median and percentiles of samples "
              "of several steps; `kernels` is measured by the device's clock. Percentages are of ceilings measured in the same run. "
              "Rows of other programs: tools/gpu/peers.py.", "",
              "| phase | step | outcome | seconds | |", "|---|---|---|---|---|"]
    lines += [f"| {s['phase']} | {cell(s['step'])} | {cell(s['outcome'])} | {s['seconds']:.1f} | {cell(s['says'])} |" for s in run.steps]
    for step in dict.fromkeys(r["step"] for r in run.rows):
        lines += ["", f"## {step}", "", *table([r for r in run.rows if r["step"] == step], earlier)]
    for step in dict.fromkeys(k["step"] for k in run.kernels):
        lines += ["", f"## {step}", "", "Clocks as they come (`--clock-control none`), caches flushed before each launch, launches one by one.", "",
                  *kernel_table([k for k in run.kernels if k["step"] == step])]
    path = os.path.join(out, f"gpu-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.md")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return path


def summary(run, most=9000):
    """A short text with rows and failures, the newest last, because a caller may see only the end of the output."""
    lines = []
    for step in dict.fromkeys(r["step"] for r in run.rows):
        lines.append(f"-- {step}")
        for r in (r for r in run.rows if r["step"] == step):
            if "error" in r:
                lines.append(f"{r['name'][:60]:<60} failed: {r['error'][:100]}")
                continue
            of_ceiling = f"{r['percentOfCeiling']:5.1f} %" if "ceiling" in r and r["ceilingName"] != "itself" else ""
            ratio = f"{r['ratio']:.3f}" if r.get("ratio") else ""
            lines.append(f"{r['name'][:60]:<60} {figure(r['median']):>9} {r['unit']:<8}{of_ceiling:>8} {ratio:>6}".rstrip())
    for kernel in run.kernels:
        m = kernel["metrics"]
        told = " ".join(f"{title} {figure(m[title])}" for title in ("us", "DRAM %", "warps %") if title in m)
        lines.append(f"{kernel['step'][:24]:<24} {kernel['kernel'][:32]:<32} {told}")
    passed, skipped = (sum(s["outcome"].startswith(kind) for s in run.steps) for kind in ("passed", "skipped"))
    lines.append(f"-- steps: {passed} passed, {skipped} skipped, {len(run.steps) - passed - skipped} failed")
    lines += [f"{s['phase']}: {s['step']}: {s['outcome']} {s['says']}"[:200] for s in run.steps if not s["outcome"].startswith(("passed", "skipped"))]
    text = "\n".join(lines)
    return text if len(text) <= most else "[...]\n" + text[-most:].split("\n", 1)[1]


# Comparing ----------------------------------------------------------------------------------------------------------------------------------------

def ids_of(value):
    """The first list named "ids" in a JSON value; None if there is none."""
    if isinstance(value, dict):
        if "ids" in value:
            return value["ids"]
        for part in value.values():
            found = ids_of(part)
            if found is not None:
                return found
    return None


def same(tiller, checkpoint, count):
    command = [tiller, "generate", "--model", checkpoint, "The quick brown fox", "--max-tokens", count, "--json", "--device"]
    outputs = [subprocess.run([*command, device], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout for device in ("cpu", "cuda")]
    first, second = (ids_of(json.loads(output)) for output in outputs)
    print(f"{len(first or [])} ids, the same" if first == second else f"the ids differ: {first} and {second}")
    return 0 if first and first == second else 1


def main(arguments):
    if len(arguments) == 4 and arguments[0] == "same":
        return same(*arguments[1:])
    if len(arguments) > 1 and arguments[0] == "show":
        print(summary(read(arguments[1:])))
        return 0
    earlier = {}
    if "--before" in arguments[:-1]:
        at = arguments.index("--before")
        earlier = {(r["step"], r["name"]): r["median"] for r in read([arguments[at + 1]]).rows if "median" in r}
        arguments = arguments[:at] + arguments[at + 2:]
    if len(arguments) > 2 and arguments[0] == "write":
        print(write(arguments[1], read(arguments[2:]), earlier))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
