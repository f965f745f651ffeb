"""Steps of a run on a machine with a GPU. A step is a process with a time limit, and its rows are on disk as soon as it prints them.

Everything is recorded in rows.jsonl, one JSON object per line, flushed line by line. There are two copies: one in the folder of results, and one in
the work folder, which collects the lines of several calls:

    {"kind": "machine", "call", "gpu", "lines"}              the machine that runs the steps
    {"kind": "row", "phase", "step", ...}                    a row that a step printed, with the fields of `tiller bench --jsonl`
    {"kind": "kernel", "phase", "step", "kernel", ...}       a kernel that Nsight Compute measured
    {"kind": "step", "phase", "step", "outcome", "seconds", "says"}

If a step crashes, hangs or is killed in the middle of a line, only that line is lost.
"""
import collections
import concurrent.futures
import json
import os
import re
import select
import signal
import subprocess
import threading
import time

PASSED = "passed"
OUT_OF_TIME = "out of time"
GRACE = 3  # seconds after SIGTERM before SIGKILL; a step's rows still count in this time
MOST_LOG = 256 << 10  # maximum size of a step's log in bytes

Step = collections.namedtuple("Step", "name command env rows limit says", defaults=(None, False, None, None))


class Steps:
    """Runs steps, one after another or several at once, until the call's time is up."""

    def __init__(self, out, work, call, seconds, step_seconds, limits):
        self.out, self.work, self.call = out, work, call
        self.step_seconds, self.limits = step_seconds, limits  # time limit of a step; other limits, by the beginnings of step names
        self.ends = time.monotonic() + seconds
        self.gate = threading.Lock()
        self.failed = False
        self.live = set()  # running processes; each leads its process group
        os.makedirs(out, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        self.files = [open(os.path.join(folder, "rows.jsonl"), "a", encoding="utf-8") for folder in {out: 0, work: 0}]

    def left(self):
        """Remaining seconds of the call."""
        return max(0.0, self.ends - time.monotonic())

    def record(self, kind, **fields):
        """Writes a line to rows.jsonl."""
        line = json.dumps({"kind": kind, **fields}) + "\n"
        with self.gate:
            for file in self.files:
                file.write(line)
                file.flush()

    def kill(self):
        """Kills all running steps."""
        for process in list(self.live):
            self.signal(process, signal.SIGKILL)

    def skip(self, phase, name, why):
        self.tell(f"{phase}: {name}: skipped, {why}")
        self.record("step", phase=phase, step=name, outcome=f"skipped: {why}", seconds=0, says="")

    def together(self, phase, steps, width):
        """Runs steps, at most `width` at once."""
        with concurrent.futures.ThreadPoolExecutor(width) as pool:
            return list(pool.map(lambda step: self.run(phase, step), steps))

    def run(self, phase, step):
        """Runs a step and returns its outcome."""
        own = [limit for name, limit in self.limits.items() if step.name.startswith(name)]
        limit = min(self.left(), own[0] if own else step.limit or self.step_seconds)
        if limit < 1:
            self.skip(phase, step.name, "no time left")
            return "skipped"
        began = time.monotonic()
        path = os.path.join(self.out, f"running-{threading.get_ident()}.log")
        with open(path, "wb") as log:
            try:
                outcome = self.execute(phase, step, limit, log)
            except OSError as e:
                outcome = f"did not start: {e}"
        text = self.keep(path, f"{phase}: {step.name}")
        says = (step.says or (lambda _: ""))(text)
        seconds = time.monotonic() - began
        self.failed |= outcome != PASSED
        self.tell(f"{phase}: {step.name}: {outcome}, {seconds:.1f} s{f': {says}' if says else ''}")
        self.record("step", phase=phase, step=step.name, outcome=outcome, seconds=round(seconds, 2), says=says)
        return outcome

    def tell(self, text):
        with self.gate:
            print(f"== {text} ({self.left():.0f} s left)", flush=True)

    def execute(self, phase, step, limit, log):
        env = {**os.environ, **(step.env or {})}
        process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True)
        self.live.add(process)
        late, rest = False, b""
        ends = time.monotonic() + limit
        signals = collections.deque([signal.SIGTERM, signal.SIGKILL])
        eof = False
        while True:
            if not eof and select.select([process.stdout], [], [], 0.05)[0]:
                part = os.read(process.stdout.fileno(), 1 << 16)
                eof = not part
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    self.take(phase, step, line, log)
                if part:
                    continue  # read all available output first
            elif eof:
                time.sleep(0.02)
            if process.poll() is not None and eof:
                break
            if time.monotonic() < ends:
                if process.poll() is not None:
                    ends = min(ends, time.monotonic() + GRACE)  # a child of the process still holds the pipe
                continue
            if process.poll() is not None or not signals:
                break  # a process that SIGKILL does not end is blocked in the driver; do not wait for it
            late = True
            self.signal(process, signals.popleft())
            ends = time.monotonic() + GRACE
        self.signal(process, signal.SIGKILL)  # kills the processes that it has left running
        self.live.discard(process)
        process.stdout.close()
        if rest:
            self.take(phase, step, rest, log)
        if late:
            return OUT_OF_TIME
        code = process.returncode
        return PASSED if code == 0 else f"signal {-code}" if code < 0 else f"exit {code}"

    @staticmethod
    def signal(process, number):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def take(self, phase, step, line, log):
        """Records a line as a row, or, if it is not JSON, writes it to the log."""
        row = None
        if step.rows:
            try:
                row = json.loads(line)
            except ValueError:
                pass
        if isinstance(row, dict):
            self.record("row", phase=phase, step=step.name, **row)
        else:
            log.write(line + b"\n")
            log.flush()

    def keep(self, path, title):
        """Moves a step's log to the end of log.txt, and returns its text."""
        with open(path, "rb") as f:
            content = f.read()
        os.remove(path)
        if len(content) > MOST_LOG:
            content = content[:MOST_LOG // 4] + b"\n[...]\n" + content[-3 * MOST_LOG // 4:]
        with self.gate, open(os.path.join(self.out, "log.txt"), "ab") as log:
            log.write(f"\n== {title}\n".encode() + content)
        return content.decode("utf-8", "replace")


def answer(command, seconds, env):
    """The output of a program; or the reason if the program is missing, prints nothing or takes too long. Its children are killed with it."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **env},
                                   start_new_session=True, text=True)
    except OSError:
        return f"{os.path.basename(command[0])}: not here"
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        Steps.signal(process, signal.SIGKILL)
        return f"{os.path.basename(command[0])}: no answer"
    return output.strip() or f"{os.path.basename(command[0])}: exit {process.returncode}"


def last_line(text):
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def sanitizer(text):
    """compute-sanitizer's own summary, and its first finding."""
    found = re.findall(r"^========= ((?:Invalid|Error|Uninitialized|Race|Barrier|Program hit|Warning|Potential)[^\n]*)", text, re.M)
    summary = re.findall(r"^========= ((?:ERROR|RACECHECK) SUMMARY[^\n]*)", text, re.M)
    return "; ".join([*summary[-1:], *found[:1]])[:200] or "no report"


def tests(text):
    """The counts that the test program prints, and the first failed tests."""
    counts = {name: int(n) for name, n in re.findall(r"\b(total|failed|succeeded|skipped): *(\d+)", text)}
    failed = re.findall(r"^\s*failed ([^\n]+?)(?: \([\d.]+ ?m?s[^\n]*)?$", text, re.M)
    said = ", ".join(f"{counts[name]} {name}" for name in ("succeeded", "failed", "skipped") if name in counts)
    return "; ".join([part for part in (said, ", ".join(failed[:6])) if part])[:500]
