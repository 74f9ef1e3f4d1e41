"""Sessions on GPUs, one or a ring of them: on the fake GPUs of tests/support/fake_gpu.h."""

import json
import os
import signal
import tempfile
import unittest

from harness import FAILED, OK, SMALL_POLICY, USAGE, Case, make_model, run, wait_until

# A model that a GPU's kernels serve.
SHAPE = {"hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 64, "ffn": 96}
EXACT = ["--policy", "exact"]
UNITS_OF_12 = ["--policy", "infllm", "--window", 96, "--unit", 12, "--block", 48, "--sinks", 4]
# Without repetitions: among units that say the same, rounding decides which one is looked up.
TEXT = " ".join(str(n * n * 7919) for n in range(1, 160)).encode()


class Gpu(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_model(cls.model, **SHAPE)

    def ask(self, daemon, *flags, session="s", text=b""):
        return run("ask", "--json", "--template", "raw", *daemon.connect, "--session", session,
                   *flags, text=text)

    def answer(self, daemon, *flags, count=24, text=b""):
        if text:
            flags += ("--append", "-", "--generate")
        result = self.ask(daemon, "--max-tokens", count, *flags, text=text)
        self.assertEqual(result.code, OK, result.err)
        self.assertEqual(len(result.tokens), count)
        return result.tokens

    def answers(self, *flags, kill=False, policy=EXACT):
        """Of two rounds; between them the daemon may be killed."""
        daemon = self.daemon(*flags, policy=policy)
        first = self.answer(daemon, text=TEXT)
        if kill:
            daemon.stop(signal.SIGKILL)
            daemon = self.daemon(*flags, policy=policy)
        second = self.answer(daemon, text=b"and then?")
        daemon.stop()
        os.rename(self.store, os.path.join(tempfile.mkdtemp(dir=self.folder), "store"))
        return first, second

    def test_one_gpu_serves_by_itself(self):
        daemon = self.daemon()
        self.assertEqual(daemon.ready["device"], "fake")
        self.assertEqual(daemon.ready["shards"], 1)
        self.assertGreater(daemon.ready["budget"]["gpu"], 0)
        result = self.ask(daemon, "--append", "-", "--generate", "--max-tokens", 5, text=TEXT)
        session = result.event("done")["session"]
        self.assertEqual(session["policy"], "infllm")
        self.assertGreater(session["units"], 2)
        self.assertGreater(session["bytes"]["gpu"], 0)

    def test_a_killed_daemon_runs_no_more_than_a_block_again(self):
        daemon = self.daemon()
        layers = daemon.ready["model"]["layers"]
        self.answer(daemon, text=TEXT)

        def show():
            return json.loads(run("sessions", "show", "s", "--json", *daemon.connect).out)

        # Though nothing is asked any more: pages of 16 tokens, entries of those that left the window.
        processed = show()["processed"]
        row = SHAPE["heads"] * SHAPE["head_dim"] * 4
        page = 2 * SHAPE["kv_heads"] * SHAPE["head_dim"] * 16 * 2 + row + SHAPE["heads"] * 16 * 4
        stored = layers * (processed // 16 * page + (processed - 64 + 1) // 16 * row)
        wait_until(lambda: show()["bytes"]["store"] >= stored, "its pages are stored")
        daemon.stop(signal.SIGKILL)
        daemon = self.daemon()
        self.answer(daemon, text=b"and then?")
        shown = show()
        self.assertTrue(0 < shown["run_again"] <= 32, shown)
        self.assertEqual(shown["retrieved"]["recomputed"], 0)

    def test_a_ring_answers_as_one_gpu_and_after_a_crash(self):
        for policy in (EXACT, SMALL_POLICY):
            alone = self.answers("--device", "cuda", policy=policy)
            for device in ("cuda", "cuda:1,0", "cuda:1,1"):
                flags = ("--device", device, "--shards", 2)
                self.assertEqual(self.answers(*flags, policy=policy), alone, device)
            self.assertEqual(self.answers(*flags, kill=True, policy=policy), alone)

    def test_a_gpu_of_a_ring_fails_under_exact(self):
        self.a_gpu_fails(EXACT)

    def test_a_gpu_of_a_ring_fails_under_infllm(self):
        self.a_gpu_fails(SMALL_POLICY)

    def a_gpu_fails(self, policy):
        alone = self.answers("--device", "cuda", policy=policy)
        fault = os.environ["FAKE_GPU_FAULT"] = self.path("fault")
        self.addCleanup(os.environ.pop, "FAKE_GPU_FAULT")
        daemon = self.daemon("--device", "cuda", "--shards", 2, policy=policy)
        self.assertEqual(self.answer(daemon, text=TEXT), alone[0])
        self.path("fault", b"")
        self.assertEqual(self.answer(daemon, text=b"and then?"), alone[1])
        self.assertFalse(os.path.exists(fault), "a GPU has failed")
        self.assertIn("the fake GPU has failed", daemon.errors())

    def test_a_ring_says_what_it_is(self):
        daemon = self.daemon("--shards", 2, policy=EXACT)
        self.assertEqual(daemon.ready["device"], "2 x fake")
        self.assertEqual(daemon.ready["shards"], 2)
        self.assertIsNone(daemon.ready["shard_address"])
        self.folder = tempfile.mkdtemp(dir=self.folder)  # a daemon has its own
        shared = self.daemon("--shards", 2, "--device", "cuda:0,0", policy=EXACT)
        self.assertEqual(shared.ready["device"], "fake")
        # Half of one GPU each, where the others have one each.
        self.assertLess(shared.ready["budget"]["gpu"], 0.7 * daemon.ready["budget"]["gpu"])

    def test_a_ring_serves_all_policies_and_refuses_what_a_gpu_does(self):
        daemon = self.daemon("--device", "cuda", "--shards", 2, policy=EXACT)
        self.answer(daemon, text=TEXT)
        other = self.ask(daemon, *SMALL_POLICY, "--append", "-", "--generate", "--max-tokens", 5,
                         session="other", text=TEXT)
        session = other.event("done")["session"]
        self.assertEqual(session["policy"], "infllm")
        self.assertGreater(session["units"], 2)
        refused = self.ask(daemon, *UNITS_OF_12, "--append", "-", session="third", text=TEXT)
        self.assert_fails(refused, USAGE, "unit (12)")
        self.answer(daemon, text=b"go on", count=5)

    def test_what_cannot_be_had(self):
        serve = ("serve", *self.embedded(), "--listen", "127.0.0.1:0")

        def refused(code, *flags):
            words = flags[flags.index("says") + 1:]
            self.assert_fails(run(*serve, *flags[:flags.index("says")]), code, *words)

        exact = ("--policy", "exact", "--shards")
        refused(FAILED, *exact, 3, "--device", "cuda", "says", "each of 3 shards", "no GPU 2")
        refused(USAGE, *exact, 3, "--device", "cuda:0,1", "says", "names 2 GPUs", "3 shards")
        refused(USAGE, *exact, 3, "--device", "cuda:1,1,1", "says", "at most two shards")
        refused(USAGE, "--device", "cuda:0,1", "says", "--shards")
        for wrong in ("cuda:", "cuda:0,", "cuda:,1", "cuda:-1", "cuda:x", "cuda:100"):
            refused(USAGE, "--device", wrong, "says", wrong, "cuda:N,N")
        refused(FAILED, *UNITS_OF_12, "--shards", 2, "--device", "cuda", "says", "unit (12)")
        refused(USAGE, *exact, 2, "--device", "cuda", "--shard-listen", "127.0.0.1", "says",
                "processors")

    def test_processors_take_over_what_gpus_cannot_serve(self):
        daemon = self.daemon("--shards", 2, policy=map(str, UNITS_OF_12))
        self.assertEqual(daemon.ready["device"], "cpu")
        self.assertEqual(daemon.ready["shards"], 2)
        self.assertIn("unit (12)", daemon.errors())


if __name__ == "__main__":
    unittest.main()
