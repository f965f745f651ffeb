#!/usr/bin/env python3
"""Writes what the phases of run.sh left as one results file, and compares token ids.

    report.py write OUT SOURCE... [--before rows.json]
        OUT gets gpu-<device>.md and rows.json. A source is run.sh's WORK (environment.txt, steps.tsv, rows/*.json) or a rows.json that came back from it: phases
        that ran at different times are put together, and of two rows of one name the later source's counts. Medians of an earlier run stand beside.
    report.py same A.json B.json
        whether two outputs of `tiller generate --json` hold the same ids
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
    first, second = (ids_of(load(path)) for path in paths)
    print(f"{len(first)} ids, the same" if first == second else f"the ids differ: {first} and {second}")
    return 0 if first and first == second else 1


def load(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip("\n").split("\n")


def source(path):
    """Environment, steps and rows."""
    if not os.path.isdir(path):
        return load(path)
    steps = [line.split("\t") for line in lines_of(os.path.join(path, "steps.tsv"))]
    return {"environment": lines_of(os.path.join(path, "environment.txt")), "steps": steps, "rows": rows_of(path)}


def rows_of(work):
    """Every row there is, with the file it came from, in the order they were measured."""
    folder = os.path.join(work, "rows")
    rows = []
    for name in sorted((n for n in os.listdir(folder) if n.endswith(".json")), key=lambda n: os.stat(os.path.join(folder, n)).st_mtime_ns):
        for row in load(os.path.join(folder, name)):
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


def write(out, paths, before):
    sources = [source(path) for path in paths]
    environment = sources[0]["environment"]
    steps = list({(step[0], step[1]): step for s in sources for step in s["steps"]}.values())
    rows = list({(row["file"], row["name"]): row for s in sources for row in s["rows"]}.values())
    earlier = {(r["file"], r["name"]): r["median"] for r in load(before)["rows"] if "median" in r} if before else {}
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
    before = None
    if "--before" in arguments[:-1]:
        at = arguments.index("--before")
        before, arguments = arguments[at + 1], arguments[:at] + arguments[at + 2:]
    if len(arguments) > 2 and arguments[0] == "write":
        return write(arguments[1], arguments[2:], before)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
