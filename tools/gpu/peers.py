#!/usr/bin/env python3
"""What others need for the same work on the same GPU: rows in the form of `tiller bench --json`.

transformers decodes with random bf16 weights and a static cache, eager and compiled, plain and with the published method's hooks (arXiv:2604.19018: a
dense K a layer, u = K e from the block's input added to its output); PyTorch forms Jacobians of a block by torch.autograd.functional.jacobian and solves the
dense Riccati recursion in float32, as the published code does. Nothing is downloaded.

    peers.py --shape llama-3.2-1b [--context 128] [--what eager,compiled,hooks,jacobian,riccati] [--seconds 3] > rows.json

A measurement that fails gives a row with an error instead of figures, and the others go on.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import transformers

# L, D, FF, H, KV, E, V, tied: config.json of the models of these names.
SHAPES = {
    "llama-3.2-1b": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, True),
    "gemma-2-2b": ("gemma2", 26, 2304, 9216, 8, 4, 256, 256000, True),
    "qwen2.5-3b": ("qwen2", 36, 2048, 11008, 16, 2, 128, 151936, True),
    "llama-3-8b": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, False),
    "qwen2.5-14b": ("qwen2", 48, 5120, 13824, 40, 8, 128, 152064, False),
    "tiny": ("llama", 2, 64, 96, 4, 2, 16, 256, True),
}


def config_of(name, max_positions, layers=None):
    """The configuration of a shape, of all its layers or of fewer."""
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
    """Random weights, drawn on the device by the model's own initialisation."""
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
    """The value below which a share q of the samples lies, interpolated."""
    ordered = sorted(samples)
    at = q * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


class TokenClock(transformers.StoppingCriteria):
    """Takes the time after every generated token, once the device is done with it."""

    def __init__(self, wait):
        self.wait = wait
        self.at = []

    def __call__(self, input_ids, scores, **kwargs):
        self.wait()
        self.at.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def samples(self, skipped):
        """Seconds from token to token, without the first ones: prefill, warm-up."""
        return [after - before for before, after in zip(self.at[skipped:], self.at[skipped + 1:])]


def hooks(model, weak=0.01):
    """The published law on every block: alpha = beta - v.x, e = alpha v, u = K e on the last token. K dense, in the model's type."""
    handles = []
    for layer in model.model.layers:
        weight = next(layer.parameters())
        width = model.config.hidden_size
        gain = weak * torch.randn(width, width, device=weight.device, dtype=weight.dtype) / width ** 0.5
        v = torch.randn(width, device=weight.device, dtype=weight.dtype)
        v = v / v.norm()

        def steer(module, args, kwargs, output, gain=gain, v=v):
            x = (args[0] if args else kwargs["hidden_states"])[:, -1, :]
            e = (0.5 - x @ v).unsqueeze(-1) * v
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[:, -1, :] = hidden[:, -1, :] + e @ gain.T
            return output

        handles.append(layer.register_forward_hook(steer, with_kwargs=True))
    return handles


class Peers:
    """Measures, and keeps the rows."""

    def __init__(self, arguments):
        self.a = arguments
        self.device = torch.device(arguments.device)
        self.name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        self.rows = []

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def add(self, name, samples, scale=1000.0, unit="ms", per_second="tok/s"):
        ordered = [scale * s for s in samples]
        median = statistics.median(ordered)
        self.rows.append({
            "name": name, "device": self.name, "median": median, "p10": quantile(ordered, 0.1), "p90": quantile(ordered, 0.9), "unit": unit,
            "samples": len(ordered), "rate": scale / median, "rateUnit": per_second, "shape": self.a.shape,
        })

    def measure(self, name, run):
        """A row, or what went wrong."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            with torch.no_grad():
                run(name)
        except Exception as e:  # a peer that fails must not take the others with it
            print(f"  {type(e).__name__}: {e}", file=sys.stderr, flush=True)
            self.rows.append({"name": name, "device": self.name, "shape": self.a.shape, "error": f"{type(e).__name__}: {e}"[:400]})

    def decode(self, model, compiled):
        """Tokens of one sequence after a prompt of --context tokens."""
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
        """Times of a run: one to warm up, then for --seconds, at least three."""
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
        """The Jacobian of one block's last output token by the whole prompt, of which the last token's part is kept; float32."""
        tokens = 16
        model = model_of(self.a.shape, self.device, torch.float32, 64, layers=1, attention="eager")
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
        """One backward step: K = (S + R)^-1 S A and S = Q + A'SA - F'(S + R)^-1 F, two solves, S kept by the host; float32."""
        width = SHAPES[self.a.shape][2]
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="tokens that are generated, of which all but the first eight are timed")
    parser.add_argument("--what", default="eager,hooks,compiled,jacobian,riccati")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--device", default="cuda")
    peers = Peers(parser.parse_args())
    a, what = peers.a, peers.a.what.split(",")
    at = f"context {a.context}, static cache"
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    torch.manual_seed(0)
    if {"eager", "compiled", "hooks"} & set(what):
        model = model_of(a.shape, peers.device, torch.bfloat16, a.context + a.tokens + 1)
        if "eager" in what:
            peers.measure(f"decode plain, {at}, eager, {versions}", peers.decode(model, compiled=False))
        if "hooks" in what:
            handles = hooks(model)
            peers.measure(f"decode steered by hooks with dense K, {at}, eager, {versions}", peers.decode(model, compiled=False))
            for handle in handles:
                handle.remove()
        if "compiled" in what:
            peers.measure(f"decode plain, {at}, compiled, {versions}", peers.decode(model, compiled=True))
        if "compiled" in what and "hooks" in what:
            torch.compiler.reset()
            model = None
            model = model_of(a.shape, peers.device, torch.bfloat16, a.context + a.tokens + 1)
            hooks(model)
            peers.measure(f"decode steered by hooks with dense K, {at}, compiled, {versions}", peers.decode(model, compiled=True))
        model = None
    if peers.device.type == "cuda":
        torch.cuda.empty_cache()
    if "jacobian" in what:
        peers.measure(f"jacobian of one layer, float32, torch.autograd.functional.jacobian, prompt of 16, {versions}", peers.jacobian)
    if "riccati" in what:
        peers.measure(f"riccati dense, one layer, D {SHAPES[a.shape][2]}, float32, torch.linalg.solve, {versions}", peers.riccati)
    json.dump(peers.rows, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
