"""Kills the daemon with SIGKILL at random moments of append and generate, again and again, and
compares with a daemon that was never killed: every acknowledged byte and token is there, none is
doubled, and the greedy continuation is the same.

    crash_test.py [--kills N] [--seed S] [--device DEVICE [--shards N]]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

from harness import (BINARY, NOT_FOUND, SMALL_POLICY, Daemon, environment, make_model, spawn)

RAW = ["--template", "raw", "--temperature", "0"]
SESSION = "crash"
# A model that a GPU's kernels serve.
SHAPE = {"hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 64, "ffn": 96}


def text_of(rng, size):
    alphabet = "abcdefghij klmnop qrstuvwxyz. éü猫🙂\n"
    return "".join(rng.choices(alphabet, k=size)).encode()


class Script:
    """Rounds of (text, tokens to generate), the same for both daemons."""

    def __init__(self, rng, rounds):
        self.rounds = [(text_of(rng, rng.choice((5, 60, 400, 1500))), rng.choice((1, 7, 25, 60)))
                       for _ in range(rounds)]


def events_of(process, text=None):
    """Events until the command ends, however it ends."""
    if text is not None:
        def feed():
            try:
                process.stdin.write(text)
                process.stdin.close()
            except OSError:
                pass
        threading.Thread(target=feed, daemon=True).start()
    events = []
    for line in process.stdout:
        try:
            events.append(json.loads(line))
        except ValueError:
            break  # a line cut short
    error = process.stderr.read().decode("utf-8", "replace")
    process.wait()
    process.stdout.close()
    process.stderr.close()
    return events, error


def ask(daemon, *flags, text=None):
    stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
    process = spawn("ask", "--json", "--session", SESSION, *RAW, *daemon.connect, *flags, stdin=stdin)
    events, error = events_of(process, text)
    return process.returncode, events, error


def tokens_in(events):
    return [t for e in events if e["event"] == "text" for t in e["tokens"]]


def show(daemon):
    out = subprocess.run([BINARY, "sessions", "show", SESSION, "--json", *daemon.connect],
                         env=environment(), capture_output=True)
    if out.returncode == NOT_FOUND:
        return {"tokens": 0, "appended_bytes": 0}
    if out.returncode != 0:
        raise ConnectionError(out.stderr.decode())
    return json.loads(out.stdout)


def reference(folder, model, script, flags):
    """Per round: tokens before the answer, and the answer."""
    rounds = []
    with Daemon(folder, model, *flags, policy=()) as daemon:
        offset = 0
        for text, count in script.rounds:
            code, events, error = ask(daemon, "--append", "-", "--generate", "--max-tokens", count,
                                      text=text)
            assert code == 0, error
            offset += len(text)
            done = events[-1]
            answer = tokens_in(events)
            assert done["session"]["appended_bytes"] == offset
            rounds.append((done["session"]["tokens"] - done["generation"]["tokens"], answer,
                           done["session"]["tokens"]))
    return rounds


class Killer:
    """Sends SIGKILL to the daemon after a random while, from another thread."""

    def __init__(self, daemon, delay):
        self.daemon = daemon
        self.fired = False
        self.timer = threading.Timer(delay, self.fire)
        self.timer.start()

    def fire(self):
        self.fired = True
        self.daemon.process.kill()

    def finish(self):
        """Whether the daemon was killed; if not, it will not be."""
        self.timer.cancel()
        self.timer.join()
        if self.fired:
            self.daemon.process.wait()
        return self.fired


class CrashRun:
    def __init__(self, folder, model, script, expected, rng, kills, flags):
        self.folder, self.model, self.script, self.expected = folder, model, script, expected
        self.rng, self.kills_left, self.flags = rng, kills, flags
        self.counts = {"kills": 0, "in append": 0, "in generate": 0, "while starting": 0,
                       "restarts": 0, "acknowledged bytes": 0, "acknowledged tokens": 0}
        self.acknowledged_offset = 0
        self.daemon = None
        # How long the phases last, learned as they complete, so that kills fall inside them.
        self.lasts = {"append": 0.05, "generate": 0.1}

    def start(self):
        self.daemon = Daemon(self.folder, self.model, *self.flags, policy=())
        self.counts["restarts"] += 1

    def restart(self):
        self.daemon.stop()
        if self.kills_left > 0 and self.rng.random() < 0.15:
            # Dies while it recovers.
            process = spawn("serve", "--model", self.model, "--store",
                            os.path.join(self.folder, "store"), "--listen", "127.0.0.1:0",
                            *self.flags)
            time.sleep(self.rng.random() * 0.15)
            process.kill()
            process.communicate()
            self.kills_left -= 1
            self.counts["kills"] += 1
            self.counts["while starting"] += 1
        self.start()

    def attempt(self, phase, *flags, text=None):
        """One command under threat. Its events, and whether the daemon lived."""
        killer = None
        if self.kills_left > 0 and self.rng.random() < 0.7:
            killer = Killer(self.daemon, self.rng.random() * self.lasts[phase] * 1.2)
        began = time.monotonic()
        code, events, error = ask(self.daemon, *flags, text=text)
        died = killer is not None and killer.finish()
        if died:
            self.kills_left -= 1
            self.counts["kills"] += 1
            self.counts["in " + phase] += 1
        elif code != 0:
            raise AssertionError(f"{phase} failed without a kill: {code} {error}")
        else:
            self.lasts[phase] = 0.7 * self.lasts[phase] + 0.3 * (time.monotonic() - began)
        return events, not died

    def append(self, end, text):
        """Until the session holds `end` bytes, the last of them `text`."""
        start = end - len(text)
        while True:
            held = show(self.daemon)["appended_bytes"]
            assert self.acknowledged_offset <= held <= end, (
                f"acknowledged {self.acknowledged_offset}, held {held}, sent up to {end}")
            assert held >= start, f"held {held}, below the round's start {start}"
            if held == end:
                return
            events, alive = self.attempt("append", "--append", "-", "--offset", held,
                                         text=text[held - start:])
            for e in events:
                if e["event"] in ("acknowledged", "appended"):
                    self.acknowledged_offset = max(self.acknowledged_offset, e["offset"])
            if not alive:
                self.restart()

    def generate(self, before, answer, after):
        """Until the answer of `after - before` tokens is in the session."""
        seen = 0  # of the answer, acknowledged
        while True:
            held = show(self.daemon)["tokens"]
            have = max(0, held - before)
            assert seen <= have <= after - before, (
                f"acknowledged {seen} tokens, held {have} of {after - before}")
            if have == after - before:
                return
            events, alive = self.attempt("generate", "--max-tokens", after - before - have)
            got = tokens_in(events)
            assert got == answer[have:have + len(got)], (
                f"after {have} tokens: {got} is not the start of {answer[have:]}")
            seen = have + len(got)
            self.counts["acknowledged tokens"] += len(got)
            if not alive:
                self.restart()

    def run(self):
        self.start()
        end = 0
        for (text, _), (before, answer, after) in zip(self.script.rounds, self.expected):
            end += len(text)
            self.append(end, text)
            self.generate(before, answer, after)
        final = show(self.daemon)
        assert final["appended_bytes"] == end and final["tokens"] == self.expected[-1][2], final
        self.counts["acknowledged bytes"] = end
        self.daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--device", help="as of ringtide serve (default: the processor)")
    parser.add_argument("--shards", type=int, default=1, help="GPUs of a ring; sessions are exact")
    options = parser.parse_args()
    shape, flags = {}, ["--policy", "exact"] if options.shards > 1 else SMALL_POLICY
    if options.device:
        shape, flags = SHAPE, [*flags, "--device", options.device, "--gpu-memory", "1G"]
    if options.shards > 1:
        flags = [*flags, "--shards", str(options.shards)]
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    total = {}
    began = time.monotonic()
    sessions = 0
    try:
        # A session lives through 20 kills or so: long enough to matter, short enough to compare.
        while total.get("kills", 0) < options.kills:
            rng = random.Random(seed * 1000 + sessions)
            with tempfile.TemporaryDirectory(prefix="ringtide-crash-") as folder:
                model = make_model(os.path.join(folder, "tiny.gguf"), **shape)
                script = Script(rng, 12)
                calm = os.path.join(folder, "calm")
                wild = os.path.join(folder, "wild")
                os.mkdir(calm)
                os.mkdir(wild)
                expected = reference(calm, model, script, flags)
                run = CrashRun(wild, model, script, expected, rng,
                               options.kills - total.get("kills", 0), flags)
                try:
                    run.run()
                except BaseException:
                    if run.daemon is not None:
                        print(run.daemon.errors(), file=sys.stderr)
                        run.daemon.process.kill()
                    raise
                for key, value in run.counts.items():
                    total[key] = total.get(key, 0) + value
            sessions += 1
    except BaseException:
        print(f"crash test: FAILED with --seed {seed}, session {sessions}", file=sys.stderr)
        raise
    counts = ", ".join(f"{value} {key}" for key, value in total.items())
    print(f"crash test: seed {seed}, {sessions} sessions, {counts}; "
          f"nothing lost, nothing doubled, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
