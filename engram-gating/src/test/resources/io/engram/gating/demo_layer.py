# SPDX-License-Identifier: Apache-2.0
"""The demo's layer, from a checkpoint directory: raw token ids and hidden states to row ids and outputs.

Arguments: the directory, a layer, a file of int32 token ids, a file of float32 hidden states
[tokens, streams, width], and the files that take int64 row ids and float32 outputs. Nothing is used
but numpy, torch and the description of the formulas.
"""
import json
import os
import struct
import sys

import numpy as np
import torch


def tensors(directory):
    """All tensors of a directory, from one safetensors file or from those that the index names."""
    index = os.path.join(directory, "model.safetensors.index.json")
    names = {"model.safetensors"}
    if os.path.exists(index):
        with open(index) as file:
            names = set(json.load(file)["weight_map"].values())
    found = {}
    for name in sorted(names):
        with open(os.path.join(directory, name), "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            payload = file.read()
        for key, entry in header.items():
            if key == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            raw = bytearray(payload[start:end])
            dtype = {"F32": torch.float32, "BF16": torch.bfloat16, "I64": torch.int64}[entry["dtype"]]
            found[key] = torch.frombuffer(raw, dtype=dtype).reshape(entry["shape"])
    return found


def is_prime(number):
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


def moduli(config):
    """For each layer the primes of its heads: each order starts anew, no prime is taken twice."""
    taken, of_layer = set(), {}
    for layer in config["layer_ids"]:
        primes = []
        for slots in config["engram_vocab_size"]:
            candidate = slots - 1
            for _ in range(config["n_head_per_ngram"]):
                candidate += 1
                while candidate in taken or not is_prime(candidate):
                    candidate += 1
                taken.add(candidate)
                primes.append(candidate)
        of_layer[layer] = primes
    return of_layer


def row_ids(config, directory, layer, raw):
    lookup = np.fromfile(os.path.join(directory, config["token_map"]), "<i4").astype(np.int64)
    ids, pad = lookup[raw], int(lookup[config["pad_id"]])
    orders = config["max_ngram_size"]
    bound = max(1, (2**63 - 1) // config["compressed_vocab_size"] // 2)
    draws = np.random.default_rng(config["seed"] + 10007 * layer).integers(
        0, bound, size=orders, dtype=np.int64
    )
    multipliers = 2 * draws + 1
    primes = moduli(config)[layer]
    heads = config["n_head_per_ngram"]
    out = np.zeros((len(ids), len(primes)), np.int64)
    for t in range(len(ids)):
        mixed = int(ids[t]) * int(multipliers[0])
        for k in range(1, orders):
            token = int(ids[t - k]) if t >= k else pad
            mixed ^= token * int(multipliers[k])
            for h in range(heads):
                column = (k - 1) * heads + h
                out[t, column] = mixed % primes[column] + sum(primes[:column])
    return out


def rms(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def layer_output(config, weights, rows, streams):
    def named(name):
        return weights[name].double()

    e = named("multi_head_embedding.embedding.weight")[torch.from_numpy(rows)].flatten(1)
    value = e @ named("value_proj.weight").T + named("value_proj.bias")
    gated, normed = [], []
    for i in range(config["hc_mult"]):
        key = e @ named(f"key_projs.{i}.weight").T + named(f"key_projs.{i}.bias")
        key = rms(key, named(f"norm1.{i}.weight"), config["gate_norm_eps"])
        query = rms(streams[:, i], named(f"norm2.{i}.weight"), config["gate_norm_eps"])
        s = (key * query).sum(-1) / config["hidden_size"] ** 0.5
        gate = torch.sigmoid(torch.sign(s) * torch.sqrt(s.abs().clamp_min(1e-6)))
        gated.append(gate[:, None] * value)
        normed.append(rms(gated[i], named(f"short_conv.norms.{i}.weight"), config["conv_norm_eps"]))
    taps = named("short_conv.conv.weight")
    channels = torch.cat(normed, -1).T[None]
    dilation = config["max_ngram_size"]
    history = (config["kernel_size"] - 1) * dilation
    mixed = torch.nn.functional.conv1d(
        torch.nn.functional.pad(channels, (history, 0)), taps, dilation=dilation, groups=taps.shape[0]
    )
    mixed = torch.nn.functional.silu(mixed[0].T).reshape(len(rows), config["hc_mult"], -1)
    return torch.stack(gated, 1) + mixed


def main(directory, layer, ids, streams, rows_out, outputs_out):
    with open(os.path.join(directory, "config.json")) as file:
        config = json.load(file)
    prefix = f"layers.{layer}.engram."
    weights = {
        name[len(prefix):]: tensor
        for name, tensor in tensors(directory).items()
        if name.startswith(prefix)
    }
    rows = row_ids(config, directory, int(layer), np.fromfile(ids, "<i4"))
    hidden = torch.from_numpy(np.fromfile(streams, "<f4")).double()
    hidden = hidden.reshape(len(rows), config["hc_mult"], config["hidden_size"])
    rows.tofile(rows_out)
    layer_output(config, weights, rows, hidden).float().numpy().tofile(outputs_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
