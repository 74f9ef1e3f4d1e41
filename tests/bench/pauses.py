"""How long a client waits when something has died: a server that is started again, a shard of a ring.

A session reads a text; then it is asked something: of the server as it is, of one that was started again
after SIGKILL, and, with --shards of 2 and more, while a shard is killed in the middle of the answer. Seconds.
That answers stay the same is tested elsewhere: tests/e2e.

    RINGTIDE_BINARY=build/ringtide pauses.py --model FILE [--tokens 4608] [--policy infllm] [--shards 1,3]
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "e2e"))
from harness import BINARY, Daemon, environment, run, shards_of  # noqa: E402

TEXTS = ["/usr/share/common-licenses/" + name for name in ("GPL-3", "GFDL-1.3", "MPL-2.0", "LGPL-2.1")]


def serve(options, folder, shards):
    """The daemon, and the seconds until it listened."""
    began = time.monotonic()
    flags = ["--log-level", "info", *(["--shards", shards] if shards > 1 else []), *options.flags.split()]
    daemon = Daemon(folder, options.model, *flags, policy=["--policy", options.policy],
                    threads=max(1, options.threads // shards))
    return daemon, time.monotonic() - began


def ask(server, *flags, text=None, at_token=None):
    """Generated tokens, times at which they came, the last event. at_token: (count, what to do then)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [BINARY, "ask", "--json", *server.connect, "--session", "s", "--template", "raw",
         "--temperature", "0", *flags], env=environment(),
        stdin=subprocess.PIPE if text else subprocess.DEVNULL, stdout=subprocess.PIPE)
    if text:
        process.stdin.write(text)
        process.stdin.close()
    tokens, times, last = [], [], None
    for line in process.stdout:
        last = json.loads(line)
        if last["event"] != "text":
            continue
        tokens += last["tokens"]
        times.append(time.monotonic() - began)
        if at_token and len(tokens) >= at_token[0]:
            at_token[1]()
            at_token = None
    if process.wait() != 0:
        raise SystemExit(f"ask failed: {last}")
    if "--generate" in flags and len(times) < 3:
        raise SystemExit(f"the model ended its answer after {len(tokens)} tokens: there is no pause to see")
    return tokens, times, last


def run_again(server):
    return json.loads(run("sessions", "show", "s", "--json", *server.connect).out)["run_again"]


def text_of(options):
    """A text of about so many tokens: licences, as often as it takes."""
    text = b"".join(open(name, "rb").read() for name in TEXTS if os.path.exists(name))
    size = int(options.tokens * options.bytes_per_token)
    return (text * (size // len(text) + 1))[:size]


def measure(options, shards):
    with tempfile.TemporaryDirectory(prefix="ringtide-pauses-") as folder:
        server, _ = serve(options, folder, shards)
        _, _, done = ask(server, "--append", "-", text=text_of(options))
        result = {"shards": shards, "policy": options.policy, "tokens": done["session"]["tokens"],
                  "store_bytes": done["session"]["bytes"]["store"],
                  "ingest_seconds": done["ingest"]["seconds"]}
        question = ["--append", "-", "--generate", "--max-tokens", str(options.answer)]
        _, times, _ = ask(server, *question, text=b"\nIn short, this says that")
        result["first_token"] = times[0]
        result["longest_gap"] = max(b - a for a, b in zip(times, times[1:]))

        server.stop(signal.SIGKILL)
        server, seconds = serve(options, folder, shards)
        _, times, _ = ask(server, *question, text=b"\nIn short, this says that")
        result["after_restart"] = {"listen": seconds, "first_token": times[0],
                                   "run_again": run_again(server)}
        result["after_restart"]["pause"] = seconds + times[0]

        if shards > 1:
            size = len(server.errors())
            struck = []

            def strike():
                os.kill(max(shards_of(server).values()), signal.SIGKILL)
                struck.append(time.monotonic())

            _, times, _ = ask(server, *question, text=b"\nIn short, this says that",
                              at_token=(options.answer // 2, strike))
            gaps = sorted(b - a for a, b in zip(times, times[1:]))
            said = server.errors()[size:]
            result["shard_killed"] = {
                "pause": gaps[-1], "next_gap": gaps[-2],
                "formed_ms": [int(ms) for ms in re.findall(r"formed again.* in (\d+) ms", said)],
                "run_again": run_again(server)}
            if options.log:
                result["log"] = said.splitlines()
        server.stop()
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=4608)
    parser.add_argument("--bytes-per-token", type=float, default=4.4)
    parser.add_argument("--answer", type=int, default=40, help="tokens of an answer")
    parser.add_argument("--policy", default="infllm")
    parser.add_argument("--shards", default="1,3")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of all shards together")
    parser.add_argument("--flags", default="", help="more, of serve")
    parser.add_argument("--log", action="store_true", help="what the server said when the shard was killed")
    options = parser.parse_args()
    for shards in map(int, options.shards.split(",")):
        print(json.dumps(measure(options, shards), indent=1), flush=True)


if __name__ == "__main__":
    main()
