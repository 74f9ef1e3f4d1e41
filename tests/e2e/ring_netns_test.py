"""A ring over a network that can fail: shards in network namespaces of their own, behind one switch,
with mutual TLS. Links are cut, slowed down and made to lose packets, shards are killed and stopped;
the answers are those of one process.

    ring_netns_test.py [--seed S] [--faults N] [TESTS]

Needs root and `ip netns`; says so where it skips.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
import unittest

from harness import BINARY, Case, Daemon, environment, wait_until
import ring_test
from ring_test import KV, Script, certificates, log

SEED = random.SystemRandom().randrange(1 << 32)
FAULTS = 6


class Network:
    """Hosts 10.77.0.1 and up, each a namespace, on a switch in one more. Nothing of it is seen from
    outside, and it is gone after close()."""

    def __init__(self, hosts):
        self.tag = f"rt{os.getpid()}"
        self.hosts = hosts
        self.switch = f"{self.tag}s"
        self.names = []
        try:
            self.add(self.switch)
            self.ip("-n", self.switch, "link", "add", "name", "bridge", "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or str(error)
            self.close()
            raise unittest.SkipTest(f"no network namespaces here: {why.strip()}") from None
        self.ip("-n", self.switch, "link", "set", "bridge", "up")

    def add(self, name):
        self.ip("netns", "add", name)
        self.names.append(name)
        self.ip("-n", name, "link", "set", "lo", "up")

    def start(self):
        for i in range(self.hosts):
            host = self.namespace(i)
            self.add(host)
            self.ip("-n", self.switch, "link", "add", "name", f"p{i}", "type", "veth", "peer", "name", "net",
                    "netns", host)
            self.ip("-n", self.switch, "link", "set", f"p{i}", "master", "bridge", "up")
            self.ip("-n", host, "addr", "add", f"{self.address(i)}/24", "dev", "net")
            self.ip("-n", host, "link", "set", "net", "up")

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    def namespace(self, host):
        return f"{self.tag}h{host}"

    def address(self, host):
        return f"10.77.0.{host + 1}"

    def within(self, host):
        return ["ip", "netns", "exec", self.namespace(host)]

    def cut(self, host):
        self.ip("-n", self.switch, "link", "set", f"p{host}", "down")

    def mend(self, host):
        self.ip("-n", self.switch, "link", "set", f"p{host}", "up")

    def part(self, host, other):
        """Nothing of `host` comes to `other` any more; what `other` sends still arrives."""
        self.ip("-n", self.namespace(host), "route", "add", "blackhole", f"{self.address(other)}/32")

    def join(self, host, other):
        self.ip("-n", self.namespace(host), "route", "del", "blackhole", f"{self.address(other)}/32")

    def spoil(self, host):
        """What leaves the host is delayed, and some of it lost: by netem, or, where the kernel has none,
        by a narrow link with a short queue. Says which."""
        ways = (["netem", "delay", "3ms", "1ms", "loss", "1%"],
                ["tbf", "rate", "20mbit", "burst", "8kb", "limit", "24kb"])
        for way in ways:
            done = subprocess.run(["tc", "-n", self.namespace(host), "qdisc", "add", "dev", "net",
                                   "root", *way], capture_output=True, text=True)
            if done.returncode == 0:
                return way[0]
        raise unittest.SkipTest(f"the kernel can spoil no link: {done.stderr.strip()}")

    def lost(self, host):
        """Packets that spoil() has dropped."""
        told = subprocess.run(["tc", "-n", self.namespace(host), "-s", "qdisc", "show", "dev", "net"],
                              capture_output=True, text=True, check=True).stdout
        return int(re.search(r"dropped (\d+)", told).group(1))

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Shards(Case):
    """A leader on host 0, and shards that join it from the others."""

    COUNT = 3

    def setUp(self):
        super().setUp()
        self.network = Network(self.COUNT)
        self.addCleanup(self.network.close)
        self.network.start()
        self.tls = certificates(self.path("tls"))
        self.processes = {}

    def start(self):
        folder = self.path("leader")
        os.mkdir(folder)
        self.daemon = Daemon(
            folder, self.model, *KV, "--shard-listen", f"{self.network.address(0)}:7000",
            "--shard-timeout", 5, "--log-level", "info", *self.tls,
            listen=f"unix:{self.path('door')}", within=self.network.within(0))
        self.addCleanup(self.daemon.stop)
        for host in range(1, self.COUNT):
            self.start_shard(host)
        self.wait_for_all()

    def start_shard(self, host):
        process = subprocess.Popen(
            [*self.network.within(host), BINARY, "join", f"{self.network.address(0)}:7000", "--name",
             f"host{host}", "--model", self.model, "--store", self.path(f"shard{host}"),
             "--shard-listen", self.network.address(host), "--threads", "1", *KV, *self.tls],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes[host] = process
        self.addCleanup(lambda: (process.kill(), process.wait()))

    def wait_for_all(self):
        """A ring of all shards: what calls make of those who have joined."""

        def stands():
            ring_test.ask(self.daemon, "probe", "--prompt", "a", "--max-tokens", 1)
            formed = re.findall(r"a(?:gain, of| ring of) (\d+) shards", self.daemon.errors())
            return formed and int(formed[-1]) == self.COUNT

        wait_until(stands, f"a ring of {self.COUNT}: {self.daemon.errors()[-3000:]}")

    def expected(self, script):
        folder = self.path("one")
        os.mkdir(folder)
        with Daemon(folder, self.model, *KV) as daemon:
            return script.run(daemon)[0]

    def assert_same(self, answers, expected):
        self.assertEqual(len(answers), len(expected))
        for i, (answer, one) in enumerate(zip(answers, expected)):
            self.assertTrue(answer.same(one), f"seed {SEED}, round {i}: {answer.tokens} "
                            f"{answer.events[-1]}, not {one.tokens} {one.events[-1]}")

    # What strikes, and what is done about it before the next round.
    def strike(self, kind, host):
        process = self.processes[host]
        if kind == "kill":
            process.kill()
            process.wait()
            self.start_shard(host)
        elif kind == "stop":
            process.send_signal(signal.SIGSTOP)
        elif kind == "cut":
            self.network.cut(host)
        elif kind == "part":
            self.network.part(host, self.COUNT - host)

    def mend(self, kind, host):
        if kind == "stop":
            self.processes[host].send_signal(signal.SIGCONT)
        elif kind == "cut":
            self.network.mend(host)
        elif kind == "part":
            self.network.join(host, self.COUNT - host)

    def run_with(self, kinds):
        rng = random.Random(SEED * 31 + len(kinds))
        script = Script(rng, 2 * len(kinds))
        expected = self.expected(script)
        struck, pauses = [], []

        def fault(i):
            if i % 2 == 1:  # a round in peace, with all shards again
                self.mend(*struck[-1])
                self.wait_for_all()
                return None
            struck.append((kinds[i // 2], rng.randrange(1, self.COUNT)))
            delay = rng.random() * 0.4
            return lambda: (time.sleep(delay), self.strike(*struck[-1]))

        self.start()
        answers, pauses = script.run(self.daemon, fault=fault)
        self.assert_same(answers, expected)
        told = ", ".join(f"{kind} {pause:.2f} s" for (kind, _), pause in zip(struck, pauses[::2]))
        log(f"{self.COUNT} shards over TLS: no token lost or wrong, longest pauses of the client: {told}")


class Faults(Shards):
    def test_links_are_cut_and_shards_fail(self):
        kinds = ["cut", "kill", "stop", "part"]
        rng = random.Random(SEED)
        self.run_with(kinds[:FAULTS] + [rng.choice(kinds) for _ in range(FAULTS - len(kinds))])

    def test_slow_links_that_lose_packets(self):
        ways = {self.network.spoil(host) for host in range(self.COUNT)}
        self.run_with(["cut", "kill"])
        lost = [self.network.lost(host) for host in range(self.COUNT)]
        log(f"links by {ways.pop()}, packets lost {lost}")
        self.assertGreater(sum(lost), 0)


def main():
    global SEED, FAULTS
    arguments = sys.argv[1:]
    while arguments and arguments[0] in ("--seed", "--faults"):
        if arguments[0] == "--seed":
            SEED = int(arguments[1])
        else:
            FAULTS = int(arguments[1])
        arguments = arguments[2:]
    log(f"ring over networks: seed {SEED}")
    unittest.main(argv=[sys.argv[0], *arguments])


if __name__ == "__main__":
    main()
