"""Speed of Ringtide's CPU engine beside llama.cpp's, on the same files, in turn.

  compare_llama_cpp.py MODEL.gguf... [--ringtide build/ringtide] [--threads N] [--activations int16]

Run with a Python that has llama-cpp-python, best built from its source distribution on the machine
that is measured, so that it uses all of the processor's instructions:
  pip install --no-binary llama-cpp-python llama-cpp-python

Each figure is the median of the repetitions; rounds alternate between the two programs, so that a
busy moment hits both. `--clock processor` takes processor time instead of wall time, with one thread: for
a machine that others use as well.
"""

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import time

import llama_cpp as L


@L.llama_log_callback
def silent(level, text, data):
    pass


class Peer:
    """llama.cpp on one model: half-precision keys and values, as ours."""

    def __init__(self, path, args):
        params = L.llama_model_default_params()
        self.model = L.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        self.args = args
        self.clock = time.process_time if args.clock == "processor" else time.perf_counter
        self.random = random.Random(1)

    def context(self, tokens, sequences):
        params = L.llama_context_default_params()
        room = (tokens + 8) if sequences == 1 else sequences * (tokens + 8)
        params.n_ctx = (room + 255) // 256 * 256
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.args.threads
        params.kv_unified = sequences > 1
        params.flash_attn_type = self.args.flash
        return L.llama_init_from_model(self.model, params)

    def decode(self, context, rows):
        """rows: (token, position, sequence); logits of the last of each sequence."""
        batch = L.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = i + 1 == len(rows) or rows[i + 1][2] != sequence
        start = self.clock()
        if L.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")
        L.llama_get_logits_ith(context, len(rows) - 1)
        seconds = self.clock() - start
        L.llama_batch_free(batch)
        return seconds

    def token(self):
        return self.random.randrange(self.vocabulary)

    def read(self, context, tokens, sequence=0):
        seconds = 0
        for at in range(0, tokens, 512):
            n = min(512, tokens - at)
            seconds += self.decode(context, [(self.token(), at + i, sequence) for i in range(n)])
        return seconds

    def prompt(self, tokens):
        context = self.context(tokens, 1)
        self.read(context, min(tokens, 64))
        speeds = []
        for _ in range(self.args.repeats):
            L.llama_memory_clear(L.llama_get_memory(context), True)
            speeds.append(tokens / self.read(context, tokens))
        L.llama_free(context)
        return speeds

    def generation(self, depth, batch):
        depth = max(depth, 1)
        steps = self.args.steps
        context = self.context(depth + 2 + self.args.repeats * steps, batch)
        for sequence in range(batch):
            self.read(context, depth, sequence)
        speeds, position = [], depth
        for repeat in range(self.args.repeats + 1):
            n = 2 if repeat == 0 else steps
            seconds = 0
            for _ in range(n):
                seconds += self.decode(context, [(self.token(), position, s) for s in range(batch)])
                position += 1
            if repeat > 0:
                speeds.append(n * batch / seconds)
        L.llama_free(context)
        return speeds

    def close(self):
        L.llama_model_free(self.model)


def ours(path, args, what, tokens, batch):
    command = [args.ringtide, "bench", "--device", "cpu", "--model", path, "--json",
               "--threads", args.threads, "--clock", args.clock, "--repeats", args.repeats,
               "--steps", args.steps, "--activations", args.activations]
    if args.instruction_set:
        command += ["--instruction-set", args.instruction_set]
    if what == "prompt":
        command += ["--only", "prefill", "--prompt", tokens]
    else:
        command += ["--only", "decode", "--context", tokens, "--batch", batch]
    out = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    for line in out.stdout.splitlines():
        row = json.loads(line)
        if row["event"] == "figure" and row["unit"] == "tokens/s":
            return row
    raise SystemExit(f"{args.ringtide} printed no figure")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--ringtide", default="build/ringtide")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--activations", default="int16", choices=["f32", "int16", "int8"])
    parser.add_argument("--prompt", default="128,512,2048")
    parser.add_argument("--context", default="0,2048,8192")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--clock", default="wall", choices=["wall", "processor"])
    parser.add_argument("--instruction-set", help="ours: only this instruction set (AVX2, for instance); "
                        "build llama.cpp with GGML_NATIVE=OFF and GGML_AVX512=OFF beside it")
    parser.add_argument("--flash", type=int, default=-1, help="llama.cpp's: -1 auto, 0 off, 1 on")
    args = parser.parse_args()
    if args.clock == "processor" and args.threads != 1:
        parser.error("--clock processor measures one thread: add --threads 1")
    L.llama_log_set(silent, ctypes.c_void_p(0))
    L.llama_backend_init()
    numbers = lambda text: [int(n) for n in text.split(",") if n]
    tasks = [("prompt", n, 1) for n in numbers(args.prompt)]
    tasks += [("generation", n, b) for n in numbers(args.context) for b in numbers(args.batch)]
    print(L.llama_print_system_info().decode())
    print(f"threads {args.threads}, activations {args.activations}, {args.clock} time, tokens/s: "
          "median (least - greatest)")
    for path in args.models:
        print(os.path.basename(path))
        peer = Peer(path, args)
        for what, tokens, batch in tasks:
            theirs, mine = [], []
            for _ in range(args.rounds):
                theirs += peer.prompt(tokens) if what == "prompt" else peer.generation(tokens, batch)
                mine.append(ours(path, args, what, tokens, batch))
            a = statistics.median(m["median"] for m in mine)
            b = statistics.median(theirs)
            print(f"  {what:10} {tokens:6} batch {batch}: ringtide {a:8.1f} "
                  f"({min(m['low'] for m in mine):.1f} - {max(m['high'] for m in mine):.1f})  "
                  f"llama.cpp {b:8.1f} ({min(theirs):.1f} - {max(theirs):.1f})  ratio {a / b:.2f}",
                  flush=True)
        peer.close()


main()
