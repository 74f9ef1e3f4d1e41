"""How long a client waits when something has died: a server that is started again, a shard of a ring.

A session reads a text; then it is asked something: of the server as it is, of one that was started again
after SIGKILL, and, with --shards of 2 and more, while a shard is killed in the middle of the answer. Seconds.
That answers stay the same is tested elsewhere: tests/e2e.

    pauses.py --model FILE [--binary FILE] [--tokens 4608] [--policy infllm] [--shards 1,3] [--flags '...']
"""

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
import time

TEXTS = ["/usr/share/common-licenses/" + name for name in ("GPL-3", "GFDL-1.3", "MPL-2.0", "LGPL-2.1")]


class Server:
    def __init__(self, options, folder, shards):
        self.log = open(os.path.join(folder, "log"), "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [options.binary, "serve", "--model", options.model, "--store", os.path.join(folder, "store"),
             "--listen", "127.0.0.1:0", "--json", "--log-level", "info", "--policy", options.policy,
             "--threads", str(max(1, options.threads // shards)),
             *(["--shards", str(shards)] if shards > 1 else []), *options.flags.split()],
            stdout=subprocess.PIPE, stderr=self.log)
        self.address = json.loads(self.process.stdout.readline())["address"]
        self.seconds_to_listen = time.monotonic() - began

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def shards(self):
        """Process ids of the shards it has started."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == self.process.pid:
                        found.append(int(entry))
            except (OSError, IndexError):
                pass
        return sorted(found)


def ask(options, server, *flags, text=None, at_token=None):
    """Generated tokens, times at which they came, the last event. at_token: (count, what to do then)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [options.binary, "ask", "--json", "--connect", server.address, "--session", "s", "--template",
         "raw", "--temperature", "0", *flags], stdin=subprocess.PIPE if text else subprocess.DEVNULL,
        stdout=subprocess.PIPE)
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
    return tokens, times, last


def show(options, server):
    out = subprocess.run([options.binary, "sessions", "show", "s", "--json", "--connect", server.address],
                         stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)


def text_of(options):
    """A text of about so many tokens: licences, as often as it takes."""
    text = b"".join(open(name, "rb").read() for name in TEXTS if os.path.exists(name))
    size = int(options.tokens * options.bytes_per_token)
    return (text * (size // len(text) + 1))[:size]


def measure(options, shards):
    with tempfile.TemporaryDirectory(prefix="ringtide-pauses-") as folder:
        server = Server(options, folder, shards)
        _, _, done = ask(options, server, "--append", "-", text=text_of(options))
        result = {"shards": shards, "policy": options.policy, "tokens": done["session"]["tokens"],
                  "store_bytes": done["session"]["bytes"]["store"],
                  "ingest_seconds": done["ingest"]["seconds"]}
        question = ["--append", "-", "--generate", "--max-tokens", str(options.answer)]
        _, times, _ = ask(options, server, *question, text=b"\nIn short, this says that")
        result["first_token"] = times[0]
        result["longest_gap"] = max(b - a for a, b in zip(times, times[1:]))

        server.kill()
        began = time.monotonic()
        server = Server(options, folder, shards)
        _, times, _ = ask(options, server, *question, text=b"\nIn short, this says that")
        result["after_restart"] = {"listen": server.seconds_to_listen, "first_token": times[0],
                                   "run_again": show(options, server).get("run_again")}
        result["after_restart"]["pause"] = server.seconds_to_listen + times[0]

        if shards > 1:
            size = os.path.getsize(server.log.name)
            struck = []

            def strike():
                os.kill(server.shards()[-1], signal.SIGKILL)
                struck.append(time.monotonic())

            _, times, _ = ask(options, server, *question, text=b"\nIn short, this says that",
                              at_token=(options.answer // 2, strike))
            gaps = sorted(b - a for a, b in zip(times, times[1:]))
            with open(server.log.name) as log:
                log.seek(size)
                said = log.read()
            result["shard_killed"] = {
                "pause": gaps[-1], "next_gap": gaps[-2],
                "formed_ms": [int(ms) for ms in re.findall(r"formed again.* in (\d+) ms", said)],
                "run_again": show(options, server).get("run_again")}
            result["log"] = [line for line in said.splitlines()] if options.log else None
        server.stop()
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--binary", default="build/ringtide")
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
