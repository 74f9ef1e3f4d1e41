"""Drives the real program over real sockets: daemons, commands, tiny models."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

BINARY = os.environ.get("RINGTIDE_BINARY", "build/ringtide")
TINY_GGUF = os.environ.get("RINGTIDE_TINY_GGUF", "build/tiny_gguf")
TIMEOUT = float(os.environ.get("RINGTIDE_TEST_TIMEOUT", "120"))  # of one command, for the hung case

OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, STORE, MODEL, REFUSED = range(8)
INTERRUPTED, CLOSED_PIPE = 130, 141

# A memory small enough that a few hundred tokens reach every part of it.
SMALL_POLICY = ["--policy", "infllm", "--window", "64", "--sinks", "16", "--unit", "16",
                "--block", "32", "--select", "2", "--representatives", "2"]


def environment():
    """Without settings of the caller's shell; with the GPUs that FAKE_GPU names, for tests of them."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("RINGTIDE_")}
    if "FAKE_GPU" in own:
        own["RINGTIDE_CUDA_PLUGIN"] = own["FAKE_GPU"]
    return own


def spawn(*args, variables={}, **kwargs):
    return subprocess.Popen([BINARY, *map(str, args)], env={**environment(), **variables},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


class Result:
    def __init__(self, code, out, err):
        self.code, self.raw = code, out
        self.out = out.decode("utf-8", "replace")
        self.err = err.decode("utf-8", "replace")

    @property
    def events(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def event(self, name):
        found = [e for e in self.events if e.get("event") == name]
        assert found, f"no event {name} in {self.out!r}; stderr: {self.err}"
        return found[-1]

    @property
    def tokens(self):
        return [t for e in self.events if e["event"] == "text" for t in e["tokens"]]

    @property
    def text(self):
        return "".join(e["text"] for e in self.events if e["event"] == "text")


def run(*args, text=b"", **variables):
    process = spawn(*args, stdin=subprocess.PIPE, variables=variables)
    try:
        out, err = process.communicate(text, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{args} did not end; stdout {out!r} stderr {err!r}") from None
    return Result(process.returncode, out, err)


def make_model(path, **shape):
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in shape.items()]
    subprocess.run([TINY_GGUF, path, *flags], check=True)
    return path


class Daemon:
    """A running `ringtide serve`; its store outlives it."""

    def __init__(self, folder, model, *flags, listen="127.0.0.1:0", within=(),
                 policy=SMALL_POLICY, threads=1):
        """`within`: a command that becomes the daemon, as `ip netns exec NAME`."""
        self.log = open(os.path.join(folder, "daemon.log"), "ab")
        address_file = os.path.join(folder, "address")
        if os.path.exists(address_file):
            os.remove(address_file)
        self.process = subprocess.Popen(
            [*within, BINARY, "serve", "--model", model, "--store", os.path.join(folder, "store"),
             "--listen", listen, "--address-file", address_file, "--threads", str(threads), "--json",
             *policy, *map(str, flags)],
            env=environment(), stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise AssertionError(f"daemon ended with {code}: {self.errors()}")
        self.ready = json.loads(line)
        self.address = self.ready["address"]
        self.connect = ["--connect", self.address]

    def errors(self):
        with open(self.log.name, "rb") as log:
            return log.read().decode("utf-8", "replace")

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=TIMEOUT)
        self.process.stdout.close()
        self.log.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()


def shards_of(daemon):
    """Names and process ids of the shards that a daemon has started."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                words = f.read().decode().split("\0")
        except (OSError, IndexError):
            continue
        if parent == daemon.process.pid and "--name" in words:
            found[words[words.index("--name") + 1]] = int(entry)
    return found


class Case(unittest.TestCase):
    """A folder and a tiny model for each class of tests."""

    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="ringtide-e2e-")
        cls.model = make_model(os.path.join(cls._folder.name, "tiny.gguf"))

    @classmethod
    def tearDownClass(cls):
        cls._folder.cleanup()

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=self._folder.name)
        self.store = os.path.join(self.folder, "store")

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as f:
                f.write(content)
        return path

    def embedded(self):
        """Flags of a command that serves itself over this test's store."""
        return ["--model", self.model, "--store", self.store, "--threads", "1"]

    def daemon(self, *flags, **options):
        daemon = Daemon(self.folder, self.model, *flags, **options)
        self.addCleanup(daemon.stop)
        return daemon

    def assert_fails(self, result, code, *words):
        self.assertEqual(result.code, code, f"stdout: {result.out} stderr: {result.err}")
        for word in words:
            self.assertIn(word, result.err)
        self.assertLess(result.err.count("\n"), 6, f"an error is a few lines: {result.err}")


def wait_until(condition, what):
    """For states that only the outside of a process shows; never to order events."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)
