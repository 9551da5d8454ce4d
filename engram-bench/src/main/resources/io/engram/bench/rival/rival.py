# SPDX-License-Identifier: Apache-2.0
"""The rivals in Python, asked by lines on standard input.

  version MODULE          its version and how it was built
  setup CASE key=value .. makes inputs ready; dir= is where files are
  run N                   computes N times and answers the nanoseconds that took
  result FILE             computes once and writes what came out as raw little-endian values

An answer is one line: "ok ..." or "error ...". Standard output is kept for answers alone.
"""
import os
import sys
import time

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def huge_pages():
    """MiB of this process in memory, and in huge pages."""
    try:
        with open("/proc/self/smaps_rollup") as f:
            found = dict(line.split(":") for line in f.read().splitlines()[1:])
        mib = [int(found[key].split()[0]) // 1024 for key in ("Rss", "AnonHugePages")]
        return "resident_mib=%d huge_pages_mib=%d" % tuple(mib)
    except OSError:
        return "resident_mib=unknown"


def version(module):
    found = __import__(module)
    text = "%s on Python %s" % (found.__version__, sys.version.split()[0])
    if module == "torch":
        text += ", mkl=%s onednn=%s, %s" % (
            found.backends.mkl.is_available(),
            found.backends.mkldnn.is_available(),
            found.backends.cpu.get_cpu_capability(),
        )
    return text


class Case:
    def __init__(self, options):
        self.options = options

    def array(self, name, dtype):
        import numpy as np

        return np.fromfile(os.path.join(self.options["dir"], name), dtype=dtype)

    def number(self, name):
        return int(self.options[name])

    def about(self):
        return huge_pages()

    def result(self):
        """The bytes of what one computation gives."""
        return self.once().tobytes()


class Hash(Case):
    def __init__(self, options):
        super().__init__(options)
        import numpy as np

        self.np = np
        self.ids = self.array("ids", np.int32).astype(np.int64)
        self.orders = [int(o) for o in self.array("orders", np.int32)]
        self.multipliers = self.array("multipliers", np.int64)
        self.moduli = self.array("moduli", np.int64)
        self.offsets = self.array("offsets", np.int64)
        self.heads = self.number("heads")
        self.fill = self.number("fill")

    def back(self, k):
        """The id k positions before each position."""
        if k == 0:
            return self.ids
        padded = self.np.pad(self.ids, (k, 0), mode="constant", constant_values=self.fill)
        return padded[: len(self.ids)]


class HashContiguous(Hash):
    """Every order's hash once, every column written in one piece: [columns, positions]."""

    def __init__(self, options):
        super().__init__(options)
        self.out = self.np.empty((len(self.moduli), len(self.ids)), dtype=self.np.int64)
        self.acc = self.np.empty(len(self.ids), dtype=self.np.int64)
        self.term = self.np.empty(len(self.ids), dtype=self.np.int64)
        self.past = self.np.empty(len(self.ids), dtype=self.np.int64)

    def once(self):
        np, acc, term, past = self.np, self.acc, self.term, self.past
        np.multiply(self.ids, self.multipliers[0], out=acc)
        column = 0
        reach = 1
        for order in self.orders:
            while reach < order:
                past[:reach] = self.fill
                past[reach:] = self.ids[:-reach]
                np.multiply(past, self.multipliers[reach], out=term)
                np.bitwise_xor(acc, term, out=acc)
                reach += 1
            for _ in range(self.heads):
                row = self.out[column]
                np.remainder(acc, self.moduli[column], out=row)
                np.add(row, self.offsets[column], out=row)
                column += 1
        return self.out

    def result(self):
        return self.np.ascontiguousarray(self.once().T).tobytes()


class HashDemo(Hash):
    """As published demonstrations do it: each order from its first token, columns stacked last."""

    def once(self):
        np = self.np
        backs = [self.back(k) for k in range(max(self.orders))]
        columns = []
        for order in self.orders:
            mixed = backs[0] * self.multipliers[0]
            for k in range(1, order):
                mixed = np.bitwise_xor(mixed, backs[k] * self.multipliers[k])
            for _ in range(self.heads):
                modulus = int(self.moduli[len(columns)])
                columns.append((mixed % modulus).astype(np.int64, copy=False))
        return np.stack(columns, axis=-1) + self.offsets


class Compress(Case):
    def __init__(self, options):
        super().__init__(options)
        import numpy as np

        self.np = np
        self.map = self.array("map", np.int32)
        self.ids = self.array("ids", np.int32)
        self.out = np.empty_like(self.ids)

    def once(self):
        return self.np.take(self.map, self.ids, out=self.out, mode="clip")


class Torch(Case):
    def __init__(self, options):
        super().__init__(options)
        import torch

        self.torch = torch
        torch.set_num_threads(self.number("threads"))
        torch.set_grad_enabled(False)

    def tensor(self, name, *shape):
        import numpy as np

        return self.torch.from_numpy(self.array(name, np.float32)).reshape(*shape)

    def about(self):
        return "%s, threads=%d, %s" % (
            version("torch"),
            self.torch.get_num_threads(),
            huge_pages(),
        )

    def result(self):
        return self.once().float().contiguous().numpy().tobytes()


class Embedding(Torch):
    """Rows picked from one matrix of float32, batch after batch of the given ids."""

    def __init__(self, options):
        super().__init__(options)
        import numpy as np

        torch = self.torch
        rows, width = self.number("rows"), self.number("width")
        self.table = torch.empty((rows, width), dtype=torch.float32)
        # Every page is written: rows repeat, as the library's do.
        block = self.tensor("block", -1, width)
        for start in range(0, rows, len(block)):
            part = self.table[start : start + len(block)]
            part.copy_(block[: len(part)])
        ids = torch.from_numpy(self.array("ids", np.int64))
        self.batches = ids.split(self.number("batch"))
        self.next = 0

    def once(self):
        batch = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        return self.torch.nn.functional.embedding(batch, self.table)

    def result(self):
        self.next = 0
        return super().result()


class SparseAdam(Torch):
    """torch.optim.SparseAdam on a table of float32, batch after batch of the given ids."""

    def __init__(self, options):
        super().__init__(options)
        import numpy as np

        torch = self.torch
        rows, width = self.number("rows"), self.number("width")
        self.table = torch.nn.Parameter(torch.empty((rows, width), dtype=torch.float32).zero_())
        self.optimizer = torch.optim.SparseAdam([self.table], lr=float(options["rate"]))
        ids = torch.from_numpy(self.array("ids", np.int64))
        self.batches = ids.split(self.number("batch"))
        self.values = self.tensor("values", -1, width)
        self.next = 0

    def step(self, batch, values):
        self.table.grad = self.torch.sparse_coo_tensor(
            batch.unsqueeze(0), values, self.table.shape, check_invariants=False
        )
        self.optimizer.step()

    def once(self):
        batch = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.step(batch, self.values)

    def result(self):
        """The rows of the first batch after two steps."""
        self.step(self.batches[0], self.values)
        self.step(self.batches[0], self.values * -0.5)
        return self.table.detach()[self.batches[0]].numpy().tobytes()


class Layer(Torch):
    """The gate and the convolution of docs/variants.md, section 4, with weights in dtype."""

    def __init__(self, options):
        super().__init__(options)
        torch = self.torch
        dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[options["dtype"]]
        s, w, e = self.number("streams"), self.number("width"), self.number("row_width")
        taps, dilation = self.number("taps"), self.number("dilation")
        tokens = self.number("tokens")
        matrix = self.tensor("projection", (s + 1) * w, e)
        bias = self.tensor("bias", (s + 1) * w)
        functional, fused = torch.nn.functional, options["projection"] == "fused"
        if fused:
            matrices, biases = [matrix.to(dtype)], [bias.to(dtype)]
        else:
            matrices = [m.contiguous().to(dtype) for m in matrix.split(w)]
            biases = [b.contiguous().to(dtype) for b in bias.split(w)]
        key_norm = self.tensor("key_norm", s, w).to(dtype)
        query_norm = self.tensor("query_norm", s, w).to(dtype)
        conv_norm = self.tensor("conv_norm", s, w).to(dtype)
        kernel = self.tensor("conv", s * w, 1, taps).to(dtype)
        eps, conv_eps = float(options["eps"]), float(options["conv_eps"])
        past = (taps - 1) * dilation

        def project(rows):
            if fused:
                all_outputs = functional.linear(rows, matrices[0], biases[0])
                return all_outputs.split(w, dim=-1)
            return [functional.linear(rows, m, b) for m, b in zip(matrices, biases)]

        def forward(rows, hidden):
            outputs = project(rows)
            gates = []
            for i in range(s):
                key = functional.rms_norm(outputs[i], (w,), key_norm[i], eps)
                query = functional.rms_norm(hidden[:, :, i], (w,), query_norm[i], eps)
                dot = (key * query).sum(-1) / w**0.5
                root = dot.abs().clamp_min(1e-6).sqrt() * dot.sign()
                gates.append(root.sigmoid())
            gated = torch.stack(gates, 2).unsqueeze(-1) * outputs[s].unsqueeze(2)
            normed = torch.cat(
                [
                    functional.rms_norm(gated[:, :, i], (w,), conv_norm[i], conv_eps)
                    for i in range(s)
                ],
                -1,
            )
            mixed = functional.conv1d(
                normed.transpose(1, 2), kernel, padding=past, dilation=dilation, groups=s * w
            )
            mixed = functional.silu(mixed[..., : rows.shape[1]])
            return gated + mixed.transpose(1, 2).reshape(gated.shape)

        self.weights = [*matrices, *biases, key_norm, query_norm, conv_norm, kernel]
        self.matrices = len(matrices)
        self.rows = self.tensor("rows", 1, tokens, e).to(dtype)
        self.hidden = self.tensor("streams", 1, tokens, s, w).to(dtype)
        compiled = options["mode"] == "compiled"
        self.forward = torch.compile(forward, dynamic=False) if compiled else forward

    def once(self):
        with self.torch.inference_mode():
            return self.forward(self.rows, self.hidden)


class LayerStep(Layer):
    """Forward and backward of the layer: gradients of its weights, rows and streams."""

    def __init__(self, options):
        super().__init__(options)
        self.leaves = [leaf.requires_grad_(True) for leaf in (*self.weights, self.rows, self.hidden)]
        self.out_gradient = self.tensor("out_gradient", *self.hidden.shape)

    def once(self):
        # What optimisers do by default: gradients are written, not added to.
        for leaf in self.leaves:
            leaf.grad = None
        with self.torch.enable_grad():
            out = self.forward(self.rows, self.hidden)
            self.torch.autograd.backward(out, self.out_gradient)
        return self.hidden.grad

    def result(self):
        self.once()
        gradients = [self.hidden, self.rows, *self.weights[: self.matrices]]
        return b"".join(g.grad.contiguous().numpy().tobytes() for g in gradients)


CASES = {
    "hash-contiguous": HashContiguous,
    "hash-demo": HashDemo,
    "compress": Compress,
    "embedding": Embedding,
    "layer": Layer,
    "layer-step": LayerStep,
    "sparse-adam": SparseAdam,
}


def main():
    case = None
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "version":
                answer = version(words[1])
            elif words[0] == "setup":
                case = CASES[words[1]](dict(word.split("=", 1) for word in words[2:]))
                answer = case.about()
            elif words[0] == "run":
                start = time.perf_counter_ns()
                for _ in range(int(words[1])):
                    case.once()
                answer = "%d" % (time.perf_counter_ns() - start)
            elif words[0] == "result":
                with open(words[1], "wb") as out:
                    out.write(case.result())
                answer = words[1]
            else:
                raise ValueError("unknown: " + words[0])
            answers.write("ok " + answer + "\n")
        except Exception as e:
            text = "%s: %s" % (type(e).__name__, e)
            answers.write("error " + " ".join(text.split()) + "\n")


main()
