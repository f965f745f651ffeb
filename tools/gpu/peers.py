#!/usr/bin/env python3
"""Measures other programs at the same work on the same GPU. Prints rows in the form of `tiller bench --jsonl`, each as soon as it is measured.

transformers decodes with random bf16 weights and a static cache: eager and compiled, plain and with hooks for the published method
(arXiv:2604.19018: a dense K for each layer; u = K e, from the block's input, is added to the block's output). PyTorch computes Jacobians of a block
by torch.autograd.functional.jacobian, and solves the dense Riccati recursion in float32, as the published code does. Nothing is downloaded.

    peers.py --runs "llama-3.2-1b:eager,hooks llama-3.2-1b:compiled" [--limit 40] [--total 120] [--context 128] [--seconds 3] > rows.jsonl

A run names a shape and its measurements: any of eager, hooks, compiled, compiled-hooks, jacobian and riccati. PyTorch and transformers are imported
once. Each run is a child of this process, and is ended after --limit seconds. A measurement that fails gives a row with an error instead of
numbers, and so does a run that crashes or is ended; the other runs continue. A run that was out of time runs again at the end, because what it has
compiled is on disk.
"""
import argparse
import json
import os
import signal
import statistics
import sys
import time

BEGAN = time.monotonic()

import torch
import transformers

# L, D, FF, H, KV, E, V, tied: the numbers of config.json of the named models.
SHAPES = {
    "llama-3.2-1b": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, True),
    "gemma-2-2b": ("gemma2", 26, 2304, 9216, 8, 4, 256, 256000, True),
    "qwen2.5-3b": ("qwen2", 36, 2048, 11008, 16, 2, 128, 151936, True),
    "llama-3-8b": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, False),
    "qwen2.5-14b": ("qwen2", 48, 5120, 13824, 40, 8, 128, 152064, False),
    "tiny": ("llama", 2, 64, 96, 4, 2, 16, 256, True),
}


def config_of(name, max_positions, layers=None):
    """The configuration of a shape, with all of its layers or fewer."""
    family, depth, width, inner, heads, groups, head, vocabulary, tied = SHAPES[name]
    sizes = {
        "num_hidden_layers": layers or depth, "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads,
        "num_key_value_heads": groups, "vocab_size": vocabulary, "tie_word_embeddings": tied, "max_position_embeddings": max_positions,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
    }
    if family == "qwen2":
        return transformers.Qwen2Config(**sizes)
    sizes["head_dim"] = head
    return transformers.Gemma2Config(**sizes) if family == "gemma2" else transformers.LlamaConfig(**sizes)


def model_of(name, device, dtype, max_positions, layers=None, attention="sdpa"):
    """A model with random weights, made on the device by the model's own initialisation."""
    config = config_of(name, max_positions, layers)
    config._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().to(device=device, dtype=dtype)


def quantile(samples, q):
    """The quantile q of the samples, interpolated."""
    ordered = sorted(samples)
    at = q * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


class TokenClock(transformers.StoppingCriteria):
    """Records the time after every generated token, when the device has finished it."""

    def __init__(self, wait):
        self.wait = wait
        self.at = []

    def __call__(self, input_ids, scores, **kwargs):
        self.wait()
        self.at.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def samples(self, skipped):
        """Seconds from token to token, without the first tokens, which are prefill and warm-up."""
        return [after - before for before, after in zip(self.at[skipped:], self.at[skipped + 1:])]


def hooks(model, weak=0.01):
    """
    Adds the published law to every block: alpha = beta - v.x, e = alpha v, u = K e on the last token, with a dense K in the model's type. K and v are
    buffers of the block, because the graph of a compiled model reads buffers in place, but copies the content of a closure, a gigabyte per step.
    """
    handles = []
    for layer in model.model.layers:
        weight = next(layer.parameters())
        width = model.config.hidden_size
        v = torch.randn(width, device=weight.device, dtype=weight.dtype)
        layer.register_buffer("gain", weak * torch.randn(width, width, device=weight.device, dtype=weight.dtype) / width ** 0.5)
        layer.register_buffer("direction", v / v.norm())
        handles.append(layer.register_forward_hook(steer, with_kwargs=True))
    return handles


def steer(module, args, kwargs, output):
    x = (args[0] if args else kwargs["hidden_states"])[:, -1, :]
    e = (0.5 - x @ module.direction).unsqueeze(-1) * module.direction
    hidden = output[0] if isinstance(output, tuple) else output
    hidden[:, -1, :] = hidden[:, -1, :] + e @ module.gain.T
    return output


def tell(row):
    """Prints a row and flushes it."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


class Peers:
    """Measures one shape, in a process that uses the device."""

    def __init__(self, arguments, shape):
        self.a = arguments
        self.shape = shape
        self.device = torch.device(arguments.device)
        self.name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def add(self, name, samples, scale=1000.0, unit="ms", per_second="tok/s"):
        ordered = [scale * s for s in samples]
        median = statistics.median(ordered)
        tell({
            "name": name, "device": self.name, "median": median, "p10": quantile(ordered, 0.1), "p90": quantile(ordered, 0.9), "unit": unit,
            "samples": len(ordered), "rate": scale / median, "rateUnit": per_second, "shape": self.shape,
        })

    def measure(self, name, run):
        """Measures a row, or prints a row with the error."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            with torch.no_grad():
                run(name)
        except Exception as e:  # the other measurements must continue
            print(f"  {type(e).__name__}: {e}", file=sys.stderr, flush=True)
            tell({"name": name, "device": self.name, "shape": self.shape, "error": f"{type(e).__name__}: {e}"[:400]})

    def decode(self, model, compiled):
        """A measurement of the tokens of one sequence after a prompt of --context tokens."""
        def run(name):
            tokens, skipped = self.a.tokens, 8
            prompt = torch.randint(2, model.config.vocab_size, (1, self.a.context), device=self.device)
            for measured in (False, True):
                clock = TokenClock(self.wait)
                model.generate(
                    prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
                    cache_implementation="static", disable_compile=not compiled, stopping_criteria=transformers.StoppingCriteriaList([clock]))
                if measured:
                    self.add(name, clock.samples(skipped))
        return run

    def repeat(self, run):
        """Seconds of each run: after one run to warm up, as many as fit in --seconds, and at least three."""
        run()
        self.wait()
        samples, begin = [], time.perf_counter()
        while len(samples) < 3 or time.perf_counter() - begin < self.a.seconds:
            at = time.perf_counter()
            run()
            self.wait()
            samples.append(time.perf_counter() - at)
        return samples

    def jacobian(self, name):
        """The float32 Jacobian of a block's output at the last token. It is computed for the whole prompt, and only the last token's part is kept."""
        tokens = 16
        model = model_of(self.shape, self.device, torch.float32, 64, layers=1, attention="eager")
        layer = model.model.layers[0]
        x = torch.randn(1, tokens, model.config.hidden_size, device=self.device)
        positions = torch.arange(tokens, device=self.device).unsqueeze(0)
        embeddings = model.model.rotary_emb(x, positions)

        def last(state):
            out = layer(state, attention_mask=None, position_ids=positions, position_embeddings=embeddings)
            return (out[0] if isinstance(out, tuple) else out)[0, -1, :]

        def run():
            with torch.enable_grad():
                return torch.autograd.functional.jacobian(last, x, vectorize=True)[..., -1, :]

        self.add(name, self.repeat(run), per_second="layers/s")

    def riccati(self, name):
        """A backward step in float32: K = (S + R)^-1 S A, S = Q + A'SA - F'(S + R)^-1 F with F = S A; two solves, and S is kept on the host."""
        width = SHAPES[self.shape][2]
        a = torch.eye(width, device=self.device) + 0.1 * torch.randn(width, width, device=self.device) / width ** 0.5
        q, r = 0.1 * torch.eye(width, device=self.device), torch.eye(width, device=self.device)
        state = [torch.eye(width)]

        def run():
            s = state[0].to(self.device)
            f = s @ a
            p = s + r
            gain = torch.linalg.solve(p, f)
            state[0] = (q + a.T @ s @ a - f.T @ torch.linalg.solve(p, f)).cpu()
            return gain

        self.add(name, self.repeat(run), per_second="layers/s")


    def run(self, what):
        """Runs the named measurements one after another."""
        at = f"{self.shape}, context {self.a.context}, static cache"
        versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        torch.manual_seed(0)
        model = None
        if {"eager", "hooks", "compiled", "compiled-hooks"} & set(what):
            model = model_of(self.shape, self.device, torch.bfloat16, self.a.context + self.a.tokens + 1)
        if "eager" in what:
            self.measure(f"decode plain, {at}, eager, {versions}", self.decode(model, compiled=False))
        if "compiled" in what:
            self.measure(f"decode plain, {at}, compiled, {versions}", self.decode(model, compiled=True))
        if {"hooks", "compiled-hooks"} & set(what):
            hooks(model)
        if "hooks" in what:
            self.measure(f"decode steered by hooks with dense K, {at}, eager, {versions}", self.decode(model, compiled=False))
        if "compiled-hooks" in what:
            torch.compiler.reset()
            self.measure(f"decode steered by hooks with dense K, {at}, compiled, {versions}", self.decode(model, compiled=True))
        model = None
        if "jacobian" in what:
            self.measure(f"jacobian of one layer, {self.shape}, float32, torch.autograd.functional.jacobian, prompt of 16, {versions}", self.jacobian)
        if "riccati" in what:
            self.measure(f"riccati dense, one layer, D {SHAPES[self.shape][2]}, float32, torch.linalg.solve, {versions}", self.riccati)


def child(arguments, shape, what, limit):
    """Measures in a child process, because only that may use the device. Returns its exit code, or None if it had to be killed."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            Peers(arguments, shape).run(what)
            code = 0
        except BaseException as e:
            print(f"  {type(e).__name__}: {e}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", required=True, help="SHAPE:WHAT,WHAT ...")
    parser.add_argument("--limit", type=float, default=40, help="time limit of a run in seconds")
    parser.add_argument("--total", type=float, default=3600, help="time limit of all runs in seconds")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="number of generated tokens, of which all except the first eight are timed")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    ends = BEGAN + arguments.total
    print(f"imported in {time.monotonic() - BEGAN:.1f} s", file=sys.stderr, flush=True)
    runs = [(run, True) for run in arguments.runs.split()]
    while runs:
        run, first = runs.pop(0)
        shape, _, what = run.partition(":")
        left = min(arguments.limit, ends - time.monotonic())
        code = child(arguments, shape, what.split(","), left) if left >= 1 else None
        if code is None and first and left >= arguments.limit:
            runs.append((run, False))
        if code != 0:
            why = f"exit {code}" if code else f"out of time after {max(0, left):.0f} s"
            tell({"name": run, "device": arguments.device, "shape": shape, "error": why})


if __name__ == "__main__":
    main()
