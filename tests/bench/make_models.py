"""Makes the models that compare_llama_cpp.py measures, in every type asked for.

  make_models.py BASE.gguf FOLDER [--random HIDDEN LAYERS HEADS KV_HEADS FFN] [--types Q4_0,Q4_K_M,...]

BASE gives the weights, or with --random only the vocabulary: then the weights are random, in shapes
that are told. Needs numpy, gguf and llama-cpp-python, whose quantiser writes the types.
"""

import argparse
import ctypes
import os

import gguf
import llama_cpp as L
import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
         "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
         "BF16": 32}


def copy_fields(reader, writer, changed):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.name in changed:
            writer.add_key_value(field.name, changed[field.name], field.types[0])
            continue
        kind, sub = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)


def random_model(base, path, hidden, layers, heads, kv_heads, ffn):
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, "llama")
    changed = {"llama.embedding_length": hidden, "llama.block_count": layers,
               "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv_heads,
               "llama.feed_forward_length": ffn, "llama.rope.dimension_count": hidden // heads,
               "general.name": f"random {hidden} x {layers}"}
    copy_fields(reader, writer, changed)
    vocabulary = next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]
    rng = np.random.default_rng(1)

    def matrix(name, n, k):
        values = rng.standard_normal((n, k), dtype=np.float32) / np.float32(k**0.5)
        writer.add_tensor(name, values.astype(np.float16))

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, np.float32))

    kv = hidden // heads * kv_heads
    matrix("token_embd.weight", int(vocabulary), hidden)
    for i in range(layers):
        block = f"blk.{i}."
        norm(block + "attn_norm.weight")
        norm(block + "ffn_norm.weight")
        for name, n, k in [("attn_q", hidden, hidden), ("attn_k", kv, hidden),
                           ("attn_v", kv, hidden), ("attn_output", hidden, hidden),
                           ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden),
                           ("ffn_down", hidden, ffn)]:
            matrix(f"{block}{name}.weight", n, k)
    norm("output_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("folder")
    parser.add_argument("--random", type=int, nargs=5,
                        metavar=("HIDDEN", "LAYERS", "HEADS", "KV_HEADS", "FFN"))
    parser.add_argument("--types", default="Q4_0,Q4_1,Q8_0,Q4_K_M,BF16,F32")
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    base, name = args.base, os.path.basename(args.base).split(".")[0]
    if args.random:
        name = "random-%dx%d" % tuple(args.random[:2])
        base = os.path.join(args.folder, f"{name}.F16.gguf")
        random_model(args.base, base, *args.random)
    for t in args.types.split(","):
        params = L.llama_model_quantize_default_params()
        params.ftype = TYPES[t]
        params.allow_requantize = True
        path = os.path.join(args.folder, f"{name}.{t}.gguf")
        if L.llama_model_quantize(base.encode(), path.encode(), ctypes.byref(params)) != 0:
            raise SystemExit(f"llama.cpp cannot write {path}")
        print(path)


main()
