"""What the evaluations share: running ringtide, several questions side by side, and tables.

Each question is a session. By default it has a process and a store of its own; with --serve all are
sessions of one daemon, which is what a GPU wants, and with --connect of a daemon that runs already.
Needs Python 3 and the ringtide binary, nothing else: copy this folder and the binary to any machine.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid


def arguments(description):
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ringtide", default=os.environ.get("RINGTIDE_BINARY", "build/ringtide"),
                        help="the binary (default build/ringtide)")
    parser.add_argument("--model", help="GGUF file (default: the cached one)")
    parser.add_argument("--jobs", type=int, default=1, help="sessions at once (default 1)")
    parser.add_argument("--threads", type=int, default=0,
                        help="threads of each process (default: the cores, shared by the processes)")
    parser.add_argument("--ram-budget", help="of each process, as 4G")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--gpu-memory", help="of each process, as 20G")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--serve", action="store_true", help="one daemon for all sessions")
    where.add_argument("--connect", metavar="ADDR",
                       help="sessions of this daemon, removed when they have answered")
    parser.add_argument("--work", help="folder for the stores (default: the temporary folder)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true",
                        help="one result a line; the table goes to standard error")
    parser.add_argument("--flags", default="", help="more flags of ringtide ask, as '--window 2048'")
    return parser


class Several(argparse.Action):
    """Values with commas or blanks between, as --tokens 32768,65536."""

    def __init__(self, option_strings, dest, type=str, **rest):
        self.of_one = type
        super().__init__(option_strings, dest, nargs="+", **rest)

    def __call__(self, parser, options, values, flag=None):
        try:
            found = [self.of_one(v) for value in values for v in value.split(",") if v]
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(options, self.dest, found)


def engine_flags(options, processes):
    threads = options.threads or max(1, (os.cpu_count() or 1) // processes)
    flags = ["--threads", str(threads)]
    for name in ("model", "ram_budget", "device", "gpu_memory"):
        value = getattr(options, name)
        if value:
            flags += ["--" + name.replace("_", "-"), value]
    return flags


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("RINGTIDE_")}


def run(options, *arguments, text=""):
    """Standard output, as bytes. Throws RuntimeError with what the program says."""
    command = [options.ringtide, *arguments]
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=environment())
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout


@contextlib.contextmanager
def daemon(options, flags=()):
    """A daemon with a store of its own: its process, and what it says when it is ready."""
    with tempfile.TemporaryDirectory(prefix="ringtide-eval-", dir=options.work) as folder:
        command = [options.ringtide, "serve", "--json", "--listen",
                   "unix:" + os.path.join(folder, "socket"), "--store",
                   os.path.join(folder, "store"), *engine_flags(options, 1), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
        try:
            line = process.stdout.readline()
            if not line:
                sys.exit(f"the daemon ended with {process.wait()}")
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def ask(options, text, policy, max_tokens, extra=()):
    """A new session that reads `text` and answers: the answer, and the last of its events."""
    name = "eval-" + uuid.uuid4().hex
    arguments = ["ask", "--json", "--session", name, "--policy", policy, "--append", "-",
                 "--generate", "--temperature", "0", "--max-tokens", str(max_tokens),
                 "--template", "raw", *options.flags.split(), *extra]
    if options.connect:
        there = ["--connect", options.connect]
        try:
            output = run(options, *arguments, *there, text=text)
        finally:
            with contextlib.suppress(RuntimeError):
                run(options, "sessions", "rm", name, *there)
    else:
        with tempfile.TemporaryDirectory(prefix="ringtide-eval-", dir=options.work) as folder:
            output = run(options, *arguments, "--store", os.path.join(folder, "store"),
                         *engine_flags(options, options.jobs), text=text)
    events = [json.loads(line) for line in output.splitlines()]
    answer = "".join(e["text"] for e in events if e["event"] == "text")
    return answer, events[-1]


def token_count(options, text):
    model = ["--model", options.model] if options.model else []
    return run(options, "tokenize", "--json", "-", *model, text=text).count(b"\n")


def run_all(options, work, items):
    """work(item) -> a dictionary, for each item, --jobs at once. Results as they come, then all.

    One that fails is told and left out; a table counts what is there.
    """
    if options.serve:
        with daemon(options) as (_, ready):
            options.serve, options.connect = False, ready["address"]
            return run_all(options, work, items)
    results, failed = [], 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(work, i) for i in items]):
            try:
                results.append(future.result())
            except RuntimeError as error:
                failed += 1
                print(f"\r{error}", file=sys.stderr)
                continue
            if options.json:
                print(json.dumps(results[-1]), flush=True)
            else:
                print(f"\r{len(results)} of {len(items)}", end="", file=sys.stderr, flush=True)
    if not options.json:
        print("\r\033[K", end="", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(items)} failed and are not in the table", file=sys.stderr)
    if not results:
        sys.exit(1)
    return results


def table(options, rows):
    out = sys.stderr if options.json else sys.stdout
    widths = [max(len(str(row[c])) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        cells = [str(v).ljust(w) if c == 0 else str(v).rjust(w)
                 for c, (v, w) in enumerate(zip(row, widths))]
        print("  ".join(cells), file=out)
