#!/usr/bin/env python3
"""Writes what the phases of run.sh left as one results file, and compares token ids.

    report.py write WORK OUT [OTHER-ROWS.json]   WORK: environment.txt, steps.tsv, rows/*.json; OUT gets gpu-<device>.md and rows.json. With the rows of an
                                                 earlier run, medians are compared with those of the same name and shape.
    report.py same A.json B.json                 whether two outputs of `tiller generate --json` hold the same ids
"""
import json
import os
import re
import sys


def ids_of(value):
    """The first list named ids in a value."""
    if isinstance(value, dict):
        if "ids" in value:
            return value["ids"]
        for part in value.values():
            found = ids_of(part)
            if found is not None:
                return found
    return None


def same(paths):
    first, second = (ids_of(json.load(open(path, encoding="utf-8"))) for path in paths)
    print(f"{len(first)} ids, the same" if first == second else f"the ids differ: {first} and {second}")
    return 0 if first and first == second else 1


def rows_of(work):
    """Every row there is, with the file it came from, in the order they were measured."""
    folder = os.path.join(work, "rows")
    rows = []
    for name in sorted((n for n in os.listdir(folder) if n.endswith(".json")), key=lambda n: os.stat(os.path.join(folder, n)).st_mtime_ns):
        for row in json.load(open(os.path.join(folder, name), encoding="utf-8")):
            rows.append({"file": name[:-len(".json")], **row})
    return rows


def figure(value):
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) >= 1 else f"{value:.5f}"


def table(rows, earlier):
    lines = ["| row | median | p10 | p90 | rate | of ceiling | ceiling | ratio |" + (" before |" if earlier else ""),
             "|---|---|---|---|---|---|---|---|" + ("---|" if earlier else "")]
    for r in rows:
        if "error" in r:
            error = r["error"].replace("|", "/").replace("\n", " ")
            lines.append(f"| {r['name']} | failed: {error} | | | | | | |" + (" |" if earlier else ""))
            continue
        ceiling = f"{r['percentOfCeiling']:.1f} % | {figure(r['ceiling'])} {r['ceilingUnit']}, {r['ceilingName']}" if "ceiling" in r else " | "
        ratio = f"{r['ratio']:.3f} ({r['ratioOf']})" if r.get("ratio") else ""
        before = earlier.get((r["file"], r["name"]))
        lines.append(f"| {r['name']} | {figure(r['median'])} {r['unit']} | {figure(r['p10'])} | {figure(r['p90'])} | {figure(r['rate'])} {r['rateUnit']} "
                     f"| {ceiling} | {ratio} |" + ("" if not earlier else f" {figure(before)} |" if before else " |"))
    return lines


def write(work, out, earlier_path=None):
    environment = open(os.path.join(work, "environment.txt"), encoding="utf-8").read().strip().split("\n")
    steps = [line.rstrip("\n").split("\t") for line in open(os.path.join(work, "steps.tsv"), encoding="utf-8")]
    rows = rows_of(work)
    earlier = {}
    if earlier_path:
        earlier = {(r["file"], r["name"]): r["median"] for r in json.load(open(earlier_path, encoding="utf-8"))["rows"] if "median" in r}
    own = [r["device"] for r in rows if r["device"].startswith("cuda:")]
    device = re.sub(r"^cuda:\d+ \((.*)\)$", r"\1", own[0]) if own else "unknown"
    lines = [f"# {device}", ""]
    if "not a GPU" in device:
        lines += ["A rehearsal on the host CUDA of the tests: no figure here says anything about a GPU.", ""]
    lines += ["```", *environment, "```", "", "Wall time to the end of all work of a step, median and percentiles of its runs; `kernels` by the device's clock. "
              "Percentages are of ceilings measured in the same run. Rows of other programs: tools/gpu/peers.py.", "", "| phase | step | outcome | seconds |",
              "|---|---|---|---|"]
    for phase, name, outcome, milliseconds in steps:
        told = {"0": "passed", "124": "out of time", "137": "out of time"}.get(outcome, outcome if outcome.startswith("skipped") else f"failed, exit {outcome}")
        lines.append(f"| {phase} | {name} | {told} | {int(milliseconds) / 1000:.1f} |")
    for file in dict.fromkeys(r["file"] for r in rows):
        lines += ["", f"## {file}", "", *table([r for r in rows if r["file"] == file], earlier)]
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    with open(os.path.join(out, f"gpu-{name}.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    with open(os.path.join(out, "rows.json"), "w", encoding="utf-8") as f:
        json.dump({"environment": environment, "steps": steps, "rows": rows}, f, indent=1)
    print(f"gpu-{name}.md: {len(rows)} rows")
    return 0


def main(arguments):
    if len(arguments) == 3 and arguments[0] == "same":
        return same(arguments[1:])
    if len(arguments) in (3, 4) and arguments[0] == "write":
        return write(*arguments[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
