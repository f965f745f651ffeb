"""Runs on the machine with the GPU, for run.sh. A call consists of phases, a phase of steps (steps.py); a report follows each phase (report.py)."""
import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback

import report
import steps
from steps import Step

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
HERE = os.path.join(ROOT, "tools", "gpu")
TESTS = "Tiller.Tests."

# The time limit of each call in seconds, and its phases in order. The other calls use what the first call has built.
CALLS = {
    "first": (320, ["build", "ceilings", "decode", "verify", "tests", "memcheck", "ncu"]),
    "second": (230, ["kernels", "prefill", "jacobian", "riccati", "batch", "long", "variants"]),
    "third": (130, ["peers"]),
}

# Phases that belong to no call. They run if they are named.
LATER = ["shapes", "fit", "load", "sanitize"]
LATER_SECONDS = 300

# Nsight Compute's filters for the kernels of a plain and a steered step, and of a step with tangents.
STEP_KERNELS = r"regex:^tiller(Rotate|Embed|Decode\w+x1$|Attend|LinearFew\w+x1$|Head|Sample|Softmax|Tally|Advance)"
TANGENT_KERNELS = r"regex:^tiller(Decode\w+x8$|LinearFew\w+x8$|Push|Steer)"


class Sizes:
    """The sizes of the measurements: published models, or a tiny model of two layers for a rehearsal."""

    def __init__(self, rehearse):
        tiny = "2,64,96,4,2,16,1024"
        self.rehearse = rehearse
        self.main = [tiny] if rehearse else ["llama-3.2-1b", "llama-3-8b"]
        self.more = [] if rehearse else ["qwen2.5-3b", "gemma-2-2b", "qwen2.5-14b"]
        self.profiled = [tiny] if rehearse else ["2,2048,8192,32,8,64,128256", "2,4096,14336,32,8,128,128256"]
        self.short, self.long, self.prompt, self.jacobian = (8, 80, 8, 8) if rehearse else (128, 4096, 512, 32)
        self.tangents, self.batch, self.rows = ("9", "1,9", "1,9") if rehearse else ("31", "1,8,32,64", "1,32,256")
        self.goldens = [name for name in sorted(os.listdir(f"{ROOT}/tests/goldens")) if "." not in name]
        self.greedy = ["qwen2-bf16"] if rehearse else ["llama3-bf16", "gemma2-bf16"]
        self.ids = "3" if rehearse else "48"
        self.peers = ["tiny:eager,hooks"] if rehearse else [
            "llama-3.2-1b:eager,hooks", "llama-3-8b:eager,hooks", "llama-3.2-1b:compiled", "llama-3.2-1b:compiled-hooks"]

    def seconds(self, usual):
        return "0.001" if self.rehearse else str(usual)


class Device:
    """Runs the requested calls."""

    def __init__(self, arguments):
        self.a = arguments
        self.sizes = Sizes(arguments.rehearse)
        self.work = os.path.abspath(arguments.work)
        self.tiller = f"{self.work}/tiller/tiller"
        self.steps = None
        self.path = None  # path of the report

    # A call ----------------------------------------------------------------------------------------------------------------------------------------

    def run(self):
        names = self.a.what
        known = [*CALLS, *(phase for _, phases in CALLS.values() for phase in phases), *LATER]
        for name in names:
            if name not in known:
                sys.exit(f"run.sh: a call is one of {', '.join(CALLS)}, or phases of {', '.join(n for n in known if n not in CALLS)}; got '{name}'")
        seconds = self.a.seconds or sum(CALLS[name][0] if name in CALLS else 0 for name in names) or LATER_SECONDS
        phases = [phase for name in names for phase in (CALLS[name][1] if name in CALLS else [name])]
        self.unpack()
        limits = {name: float(limit) for name, _, limit in (text.rpartition("=") for text in self.a.limit)}
        self.steps = steps.Steps(os.path.abspath(self.a.out), self.work, "+".join(names), seconds, self.a.step_seconds, limits)
        signal.signal(signal.SIGTERM, self.stop)
        self.machine()
        if not os.path.exists(f"{self.work}/built.json") and "build" not in phases:
            left = self.steps.left()
            self.phase("build")  # on a new machine the time of the build does not count
            self.steps.ends += left - self.steps.left()
        for phase in phases:
            self.phase(phase)
        return 1 if self.steps.failed else 0

    def stop(self, *_):
        """Handles a signal to end: kills all steps, and prints and writes the report so far."""
        self.steps.kill()
        self.report()
        sys.stdout.flush()
        os._exit(143)

    def phase(self, name):
        try:
            getattr(self, f"phase_{name}")(name)
        except Exception as e:  # an error in a phase must not end the following phases
            traceback.print_exc()
            self.steps.failed = True
            self.steps.record("step", phase=name, step=name, outcome=f"{type(e).__name__}: {e}", seconds=0, says="")
        self.report()

    def report(self):
        try:
            run = report.read([f"{self.work}/rows.jsonl"])
            path = report.write(self.a.out, run)
            if self.path not in (None, path):
                os.remove(self.path)
            self.path = path
            print(report.summary(run), flush=True)
        except Exception:  # an error in the report is not fatal, because the rows are on disk
            traceback.print_exc()

    def unpack(self):
        archive = os.path.abspath(self.a.archive)
        if not os.path.isfile(archive):
            sys.exit(f"run.sh: no {archive}: run 'tools/gpu/run.sh pack' on a machine with .NET, and copy the file")
        with open(archive, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        mark = f"{self.work}/archive.sum"
        if os.path.exists(mark) and open(mark, encoding="utf-8").read() == digest:
            return
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        with tarfile.open(archive) as tar:
            tar.extractall(self.work, filter="tar")
        os.makedirs(f"{self.work}/tiller/models", exist_ok=True)
        os.symlink(f"{ROOT}/models/demo", f"{self.work}/tiller/models/demo")
        with open(mark, "w", encoding="utf-8") as f:
            f.write(digest)

    def machine(self):
        """Records the GPU, driver and commit. No failure here ends the run."""
        self.env()  # exits if a rehearsal has no host CUDA
        asked = "name,driver_version,memory.total,compute_cap,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem"
        smi = self.ask("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader")
        cpu = [line for line in self.ask("lscpu").splitlines() if line.startswith(("Model name", "CPU(s):"))]
        commit = open(f"{self.work}/commit.txt", encoding="utf-8").read().splitlines()
        nvcc = self.ask("nvcc", "--version").splitlines()[-2:]
        self.gpu = smi.split(",")[0].strip() if "," in smi else ""
        self.architecture = next((found[1] for line in self.devices() if (found := re.search(r"\bsm_(\d+)", line))), "")
        lines = [self.ask("date", "-u", "+%Y-%m-%d %H:%M UTC"), *commit, f"{asked}: {smi}", *nvcc, *cpu]
        self.steps.record("machine", call=self.steps.call, gpu=self.gpu, lines=lines)

    def devices(self):
        """The output of `tiller devices`, without the paths of this machine's folders. It starts the device, so it has the time of a step."""
        return steps.answer([self.tiller, "devices"], self.a.step_seconds, self.env()).replace(f"{self.work}/", "").replace(f"{ROOT}/", "").splitlines()

    def ask(self, *command):
        """The output of a program, or a line with the reason if it does not answer within a few seconds."""
        return steps.answer(command, min(10, self.a.step_seconds), self.env())

    # Environment and commands of steps -------------------------------------------------------------------------------------------------------------

    def env(self, **more):
        built = json.load(open(f"{self.work}/built.json", encoding="utf-8")) if os.path.exists(f"{self.work}/built.json") else {"images": "off"}
        env = {
            "VIRTUAL_ENV": sys.prefix,  # if PyTorch has installed CUDA libraries, the resolver finds them below this folder
            "TILLER_KERNEL_IMAGES": built["images"],
            "TILLER_KERNEL_CACHE": f"{self.work}/cache",
            "TILLER_REPOSITORY": ROOT,
            **more,
        }
        if self.a.rehearse:
            libraries = os.environ.get("TILLER_CUDA_LIBRARIES") or f"{ROOT}/artifacts/hostcuda/lib"
            if not os.path.exists(f"{libraries}/libcuda.so.1"):
                sys.exit(f"run.sh: no host CUDA in {libraries}: cmake -B artifacts/hostcuda -DTILLER_KERNEL_IMAGES=OFF && "
                         "cmake --build artifacts/hostcuda")
            env["TILLER_CUDA_LIBRARIES"] = libraries
        return env

    def step(self, phase, name, command, **more):
        return self.steps.run(phase, Step(name, command, self.env(), **more))

    def bench(self, phase, what, shape=None, seconds=0.4, **options):
        """Runs a step of `tiller bench` with the given options."""
        command = [self.tiller, "bench", what, "--device", "cuda", "--jsonl", "--seconds", self.sizes.seconds(seconds)]
        command += ["--shape", shape] if shape else []
        command += [part for name, value in options.items() for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]
        context = f", context {options['context']}" if "context" in options else ""
        context += ", variants" if "variants" in options else ""
        return self.step(phase, f"{what}{f' {shape}' if shape else ''}{context}", command, rows=True)

    # Phases of the first call ----------------------------------------------------------------------------------------------------------------------

    def phase_build(self, phase):
        """Compiles the kernels for the GPU with nvcc. If that fails, or the kernels do not run, compiles them with NVRTC, once for all processes."""
        for stale in (f"{self.work}/built.json", f"{self.work}/build"):
            shutil.rmtree(stale, ignore_errors=True) if os.path.isdir(stale) else os.path.exists(stale) and os.remove(stale)
        images = f"{self.work}/build/kernels"
        architecture = self.architecture + ("a" if self.architecture == "90" else "")
        if not (shutil.which("nvcc") and shutil.which("cmake") and architecture):
            self.steps.skip(phase, "nvcc", "no nvcc, no cmake or no GPU")
        else:
            generator = ["-G", "Ninja"] if shutil.which("ninja") else []
            configure = ["cmake", "-S", ROOT, "-B", f"{self.work}/build", "-DTILLER_HOST_CUDA=OFF", "-DTILLER_KERNEL_PTX=OFF",
                         f"-DTILLER_KERNEL_ARCHITECTURES={architecture}"]
            build = ["cmake", "--build", f"{self.work}/build", "-j", str(os.cpu_count())]
            if self.step(phase, f"configure for sm_{architecture}", configure + generator) == steps.PASSED:
                # If the step runs out of time, a second one continues with what has been compiled.
                if self.step(phase, "nvcc", build) == steps.OUT_OF_TIME:
                    self.step(phase, "nvcc, the rest", build)
        if os.path.isfile(f"{images}/kernels.manifest") and self.first_tokens(phase, images, "nvcc"):
            return
        if architecture:
            self.step(phase, "NVRTC", [self.tiller, "kernels", "--compile", f"sm_{architecture}"])
        self.first_tokens(phase, "off", "NVRTC")

    def first_tokens(self, phase, images, by):
        with open(f"{self.work}/built.json", "w", encoding="utf-8") as f:
            json.dump({"images": images, "by": by}, f)
        model = f"{ROOT}/tests/goldens/{self.sizes.greedy[0]}/checkpoint"
        generate = [self.tiller, "generate", "--model", model, "The quick brown fox", "--max-tokens", "3", "--device", "cuda"]
        passed = self.step(phase, f"first tokens, kernels by {by}", generate) == steps.PASSED
        if passed:
            self.steps.record("machine", call=self.steps.call, gpu=self.gpu, lines=self.devices())
        return passed

    def phase_ceilings(self, phase):
        self.bench(phase, "ceilings", seconds=0.3)

    def phase_decode(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "decode", shape, context=self.sizes.short, terms=1, tangents=self.sizes.tangents)

    def phase_verify(self, phase):
        goldens = f"{ROOT}/tests/goldens"
        if self.sizes.rehearse:
            self.steps.skip(phase, "verify", "a golden takes minutes on the host CUDA")
        else:
            verify = [self.tiller, "verify", "--device", "cuda"]
            each = [Step(f"verify {name}", [*verify, f"{goldens}/{name}"], self.env(), says=steps.last_line) for name in self.sizes.goldens]
            self.steps.together(phase, each, width=4)
        for name in self.sizes.greedy:
            same = [sys.executable, f"{HERE}/report.py", "same", self.tiller, f"{goldens}/{name}/checkpoint", self.sizes.ids]
            self.step(phase, f"greedy ids, {name}", same, says=steps.last_line)

    def phase_tests(self, phase):
        """Runs groups of CUDA tests, four at a time. Then runs the tests that fill the device or end it, one process at a time."""
        groups = [line.split() for line in open(f"{HERE}/groups.txt", encoding="utf-8") if line.strip() and not line.startswith("#")]
        if self.sizes.rehearse:
            groups = [["Interop.CudaMemory", "Interop.CudaGraph"], ["Kernels.Embed"], ["Kernels.Ceiling"]]
        apart = ["TakesAllMemory", "EndsTheDevice"]
        together = "".join(f"&TestCategory!={category}" for category in apart)
        self.steps.together(phase, [self.tests(" ".join(group), f"TestCategory=CUDA{together}&({self.any_of(group)})") for group in groups], width=4)
        for category in apart:
            self.steps.run(phase, self.tests(category, f"TestCategory={category}"))

    @staticmethod
    def any_of(fixtures):
        return "|".join(f"FullyQualifiedName~{TESTS}{fixture}" for fixture in fixtures)

    def tests(self, name, filter_, before=(), says=steps.tests):
        results = tempfile.mkdtemp(dir=self.work, prefix="results-")
        command = [*before, f"{self.work}/tests/Tiller.Tests", "--filter", filter_, "--progress", "off", "--no-ansi", "--show-stdout", "None",
                   "--show-test-results", "failed", "--results-directory", results]
        return Step(name, command, self.env(TILLER_DEVICE="cuda"), says=says)

    def sanitized(self, phase, tool, groups):
        if not shutil.which("compute-sanitizer"):
            self.steps.skip(phase, tool, "no compute-sanitizer here")
            return
        before = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "99", "--print-limit", "20", "--target-processes", "all"]
        tests = [self.tests(f"{tool} {group}", f"TestCategory=CUDA&{self.any_of([group])}", before, steps.sanitizer) for group in groups]
        self.steps.together(phase, tests, width=4)

    def phase_memcheck(self, phase):
        self.sanitized(phase, "memcheck", ["Kernels.DecodeKernels", "Kernels.Attention", "Kernels.Linear"])

    def phase_ncu(self, phase):
        """Profiles a plain step, a steered step and a step with tangents with Nsight Compute, on two layers of a model's width."""
        if not shutil.which("ncu"):
            self.steps.skip(phase, "ncu", "no ncu here")
            return
        sections = [part for section in report.SECTIONS for part in ("--section", section)]
        for shape in self.sizes.profiled:
            for what, kernels, launches in (("steps", STEP_KERNELS, 64), ("tangents", TANGENT_KERNELS, 24)):
                page, name = f"{self.work}/ncu.csv", f"ncu {shape}, {what}"
                if os.path.exists(page):
                    os.remove(page)
                self.step(phase, name, [
                    "ncu", "--clock-control", "none", *sections, "--kernel-name-base", "function", "--kernel-name", kernels,
                    "--launch-count", str(launches), "--csv", "--page", "raw", "--print-units", "base", "--log-file", page,
                    self.tiller, "bench", "decode", "--device", "cuda", "--shape", shape, "--context", str(self.sizes.short), "--terms", "1",
                    "--tangents", "7", "--seconds", "0.001"])
                for kernel in report.profiled(page):
                    self.steps.record("kernel", phase=phase, step=name, **kernel)

    # Phases of the second call ---------------------------------------------------------------------------------------------------------------------

    def phase_kernels(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "kernels", shape, seconds=0.2, context=self.sizes.short, rows=self.sizes.rows)

    def phase_prefill(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "prefill", shape, context=self.sizes.prompt)

    def phase_jacobian(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "jacobian", shape, context=self.sizes.jacobian)

    def phase_riccati(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "riccati", shape)

    def phase_batch(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "batch", shape, context=self.sizes.short, batch=self.sizes.batch)

    def phase_long(self, phase):
        for shape in self.sizes.main:
            self.bench(phase, "decode", shape, context=self.sizes.long, terms=1, tangents=self.sizes.tangents)

    def phase_variants(self, phase):
        """Measures the step with the default kernels, and with each change of them in turn."""
        for shape in self.sizes.main:
            self.bench(phase, "decode", shape, 0.2, context=self.sizes.short, tangents=self.sizes.tangents, variants=True)
            self.bench(phase, "prefill", shape, 0.2, context=2 * self.sizes.prompt, variants=True)
            self.bench(phase, "jacobian", shape, 0.2, context=self.sizes.jacobian, variants=True)

    # Phases of the third call ----------------------------------------------------------------------------------------------------------------------

    def phase_peers(self, phase):
        """Measures other programs. One process imports PyTorch, and each run is a child of it with the time limit of a step."""
        if not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
            self.steps.skip(phase, "peers", "no PyTorch and transformers in this python3")
            return
        device = ["--device", "cpu"] if self.sizes.rehearse else []
        command = [sys.executable, f"{HERE}/peers.py", "--runs", self.a.peers or " ".join(self.sizes.peers), "--limit", str(self.a.step_seconds),
                   "--total", str(int(self.steps.left()) - 5), *device]
        env = self.env(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TORCHINDUCTOR_CACHE_DIR=f"{self.work}/inductor")
        self.steps.run(phase, Step("peers", command, env, rows=True, limit=self.steps.left()))

    # Phases that belong to no call -----------------------------------------------------------------------------------------------------------------

    def phase_shapes(self, phase):
        for shape in self.sizes.more:
            self.bench(phase, "decode", shape, context=self.sizes.short, terms="1,16", tangents=self.sizes.tangents)

    def phase_fit(self, phase):
        prompts, fits = (1, "reduced") if self.sizes.rehearse else (25, "factored,reduced")
        self.bench(phase, "fit", self.sizes.main[-1], prompts=prompts, fits=fits)

    def phase_load(self, phase):
        self.bench(phase, "load", self.sizes.main[-1])

    def phase_sanitize(self, phase):
        kernels = ["DecodeKernels", "Attention", "Linear", "Norm", "Head", "Sample", "Steer", "Algebra"]
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            self.sanitized(phase, tool, [f"Kernels.{name}" for name in kernels])


def main():
    parser = argparse.ArgumentParser(prog="run.sh device", description=__doc__)
    parser.add_argument("what", nargs="+", metavar="CALL", help=f"{', '.join(CALLS)}, or phases by name: {', '.join(LATER)} and those of the calls")
    parser.add_argument("--out", default=f"{ROOT}/artifacts/gpu/results", help="the folder of results: rows.jsonl, log.txt, gpu-<device>.md")
    parser.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "tiller-gpu"), help="the folder that calls share")
    parser.add_argument("--archive", default=f"{ROOT}/artifacts/gpu/tiller-gpu.tar.xz", help="the archive that run.sh pack made")
    parser.add_argument("--seconds", type=float, help="time limit of the whole call")
    parser.add_argument("--step-seconds", type=float, default=40, help="time limit of a step (default 40)")
    parser.add_argument("--limit", action="append", default=[], metavar="STEP=SECONDS", help="another limit for steps whose names begin with STEP")
    parser.add_argument("--peers", metavar="RUNS", help="the runs of peers.py, instead of those of the third call: 'SHAPE:WHAT,WHAT ...'")
    parser.add_argument("--rehearse", action="store_true", help="run on the host CUDA at tiny sizes, to test the script itself")
    sys.exit(Device(parser.parse_args()).run())


if __name__ == "__main__":
    main()
