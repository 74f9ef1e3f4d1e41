"""Speed of Ringtide's CPU engine beside llama.cpp's, on the same files, in turn.

  compare_llama_cpp.py MODEL.gguf... [--ringtide build/ringtide] [--threads N] [--activations int16]

Run with a Python that has llama-cpp-python, best built from its source distribution on the machine
that is measured, so that it uses all of the processor's instructions:
  pip install --no-binary llama-cpp-python llama-cpp-python

Each figure is the median of the repetitions; rounds alternate between the two programs, so that a
busy moment hits both. `--clock processor` takes processor time instead of wall time, with one thread: for
a machine that others use as well. Where generation comes after more than one block, the last block of what
was read before is measured too; llama.cpp's keys and values before it are copies of one block's.
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

BLOCK = 512  # tokens of a prompt that are run at once, by both


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
        self.flash = args.flash[0]
        self.clock = time.process_time if args.clock == "processor" else time.perf_counter
        self.random = random.Random(1)

    def context(self, tokens, sequences):
        """Room for so many tokens of all sequences together."""
        params = L.llama_context_default_params()
        params.n_ctx = (tokens + 255) // 256 * 256
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.args.threads
        params.kv_unified = sequences > 1
        params.flash_attn_type = self.flash
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

    def filled(self, tokens, room, sequences):
        """A context whose sequences have so many tokens; tokens a second of the last block, if there are
        several. The others' keys and values are those of the first one, copied."""
        copies = max(0, tokens - 1) // BLOCK
        state = None
        if copies:
            block = self.context(BLOCK, 1)
            self.read(block, BLOCK)
            state = (ctypes.c_uint8 * L.llama_state_seq_get_size(block, 0))()
            L.llama_state_seq_get_data(block, state, len(state), 0)
            L.llama_free(block)
        # Copies arrive in a sequence of their own.
        context = self.context(room * sequences, sequences + (copies > 0))
        memory, speed = L.llama_get_memory(context), 0
        for sequence in range(sequences):
            for _ in range(copies):
                if not L.llama_state_seq_set_data(context, state, len(state), sequences):
                    raise SystemExit("llama.cpp does not take its own state")
                L.llama_memory_seq_cp(memory, sequences, sequence, -1, -1)
                L.llama_memory_seq_rm(memory, sequences, -1, -1)
            rest = tokens - copies * BLOCK
            position = L.llama_memory_seq_pos_max(memory, sequence) + 1
            speed = rest / self.read(context, rest, sequence, position)
        return context, speed if copies else 0

    def token(self):
        return self.random.randrange(self.vocabulary)

    def read(self, context, tokens, sequence=0, position=0):
        seconds = 0
        for at in range(0, tokens, BLOCK):
            n = min(BLOCK, tokens - at)
            rows = [(self.token(), position + at + i, sequence) for i in range(n)]
            seconds += self.decode(context, rows)
        return seconds

    def prompt(self, tokens):
        context = self.context(tokens + 8, 1)
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
        context, last_block = self.filled(depth, depth + 10 + self.args.repeats * steps, batch)
        position = L.llama_memory_seq_pos_max(L.llama_get_memory(context), 0) + 1
        speeds = []
        for repeat in range(self.args.repeats + 1):
            n = 2 if repeat == 0 else steps
            seconds = 0
            for _ in range(n):
                seconds += self.decode(context, [(self.token(), position, s) for s in range(batch)])
                position += 1
            if repeat > 0:
                speeds.append(n * batch / seconds)
        L.llama_free(context)
        return speeds, last_block

    def close(self):
        L.llama_model_free(self.model)


def ours(path, args, what, tokens, batch):
    """The bench's figures in tokens a second, by the first words of their names."""
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
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    return {row["what"].split(",")[0]: row
            for row in rows if row["event"] == "figure" and row["unit"] == "tokens/s"}


def tell(what, tokens, batch, mine, theirs):
    a = statistics.median(m["median"] for m in mine)
    line = (f"  {what:10} {tokens:6} batch {batch}: ringtide {a:8.1f} "
            f"({min(m['low'] for m in mine):.1f} - {max(m['high'] for m in mine):.1f})")
    if theirs:
        b = statistics.median(theirs)
        line += f"  llama.cpp {b:8.1f} ({min(theirs):.1f} - {max(theirs):.1f})  ratio {a / b:.2f}"
    print(line, flush=True)


def compare(peer, path, args, what, tokens, batch):
    """One figure, and of long contexts those that came with it; beside each of llama.cpp's ways."""
    name = "prefill" if what == "prompt" else "decode"
    theirs, mine, last_blocks = {}, [], {}
    for _ in range(args.rounds):
        for flash in args.flash:
            peer.flash = flash
            if what == "prompt":
                speeds, last_block = peer.prompt(tokens), 0
            else:
                speeds, last_block = peer.generation(tokens, batch)
            theirs.setdefault(flash, []).extend(speeds)
            if last_block:
                last_blocks.setdefault(flash, []).append(last_block)
        mine.append(ours(path, args, what, tokens, batch))
    for flash in args.flash:
        if len(args.flash) > 1:
            print(f"  llama.cpp's flash attention {flash}")
        tell(what, tokens, batch, [m[name] for m in mine], theirs[flash])
        if last_blocks:
            last = [m["prefill of its last block"] for m in mine]
            tell("last block", tokens, 1, last, last_blocks[flash])
    if last_blocks:
        tell("all before", tokens, 1, [m["prefill before it"] for m in mine], None)


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
    parser.add_argument("--flash", default="-1", help="llama.cpp's flash attention: -1 auto, 0 off, 1 on, or "
                        "several, as 0,1")
    args = parser.parse_args()
    if args.clock == "processor" and args.threads != 1:
        parser.error("--clock processor measures one thread: add --threads 1")
    L.llama_log_set(silent, ctypes.c_void_p(0))
    L.llama_backend_init()
    numbers = lambda text: [int(n) for n in text.split(",") if n]
    args.flash = numbers(args.flash)
    tasks = [("prompt", n, 1) for n in numbers(args.prompt)]
    tasks += [("generation", n, b) for n in numbers(args.context) for b in numbers(args.batch)]
    print(L.llama_print_system_info().decode())
    print(f"threads {args.threads}, activations {args.activations}, {args.clock} time, tokens/s: "
          "median (least - greatest)")
    for path in args.models:
        print(os.path.basename(path))
        peer = Peer(path, args)
        for task in tasks:
            compare(peer, path, args, *task)
        peer.close()


main()
