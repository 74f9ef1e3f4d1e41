"""Append, answer, resume: through the daemon and in-process, with the same result."""

import json
import os
import random
import select
import signal
import socket
import subprocess
import unittest

from harness import (INTERRUPTED, NOT_FOUND, OK, SMALL_POLICY, TIMEOUT, Case, make_model, run, spawn,
                     wait_until)

RAW = ["--template", "raw"]


def words(count, seed=7):
    rng = random.Random(seed)
    syllables = ["ba", "ké", "mi", "to", "ru", "猫", "na", "si", "🙂", "lo"]
    return " ".join("".join(rng.choices(syllables, k=rng.randint(1, 4)))
                    for _ in range(count)).encode()


class Daemon(Case):
    def ask(self, daemon, *args, text=b""):
        result = run("ask", "--json", *RAW, *daemon.connect, *args, text=text)
        self.assertEqual(result.code, OK, result.err)
        return result

    def show(self, *where):
        result = run("sessions", "show", "s", "--json", *where)
        self.assertEqual(result.code, OK, result.err)
        return json.loads(result.out)

    def test_events_and_fields(self):
        daemon = self.daemon()
        text = words(200)
        result = self.ask(daemon, "--session", "s", "--append", "-", "--generate", "--max-tokens", "5",
                          text=text)
        opened, appended, done = (result.event(e) for e in ("opened", "appended", "done"))
        self.assertTrue(opened["created"])
        self.assertEqual(appended["offset"], len(text))
        self.assertEqual(done["generation"]["tokens"], len(result.tokens))
        session = done["session"]
        self.assertEqual(list(session), ["name", "id", "created_ms", "state", "policy", "template",
                                         "tokens", "processed", "appended_bytes", "units", "bytes",
                                         "retrieved", "run_again", "shards"])
        self.assertEqual((session["name"], session["policy"], session["template"]),
                         ("s", "infllm", "raw"))
        self.assertEqual(session["appended_bytes"], len(text))
        self.assertEqual(list(session["bytes"]), ["gpu", "ram", "store"])
        self.assertGreater(session["units"], 2)
        self.assertGreater(done["generation"]["retrieved"]["units"], 0)
        shown = self.show(*daemon.connect)
        self.assertEqual({k: shown[k] for k in ("name", "id", "tokens", "appended_bytes", "policy")},
                         {k: session[k] for k in ("name", "id", "tokens", "appended_bytes", "policy")})

    def test_chunks_do_not_matter(self):
        """The same bytes at once, or cut inside words and characters, give the same answer."""
        daemon = self.daemon()
        text = words(60)
        rng = random.Random(3)
        at = 0
        while at < len(text):
            size = rng.choice((1, 2, 5, 17, 100))
            self.ask(daemon, "--session", "cut", "--append", "-", "--offset", at,
                     text=text[at:at + size])
            at += min(size, len(text) - at)
        cut = self.ask(daemon, "--session", "cut", "--max-tokens", "12")
        whole = self.ask(daemon, "--session", "whole", "--append", "-", "--generate",
                         "--max-tokens", "12", text=text)
        self.assertEqual(cut.tokens, whole.tokens)
        self.assertEqual(cut.event("done")["session"]["tokens"],
                         whole.event("done")["session"]["tokens"])

    def begin(self, daemon, text):
        """Tokens that follow the text, and session `s`, which has only begun to generate them."""
        straight = self.ask(daemon, "--session", "straight", "--append", "-", "--generate",
                            "--max-tokens", "20", text=text).tokens
        return straight, self.ask(daemon, "--session", "s", "--append", "-", "--generate",
                                  "--max-tokens", "8", text=text)

    def finish(self, daemon, straight, first):
        second = self.ask(daemon, "--session", "s", "--existing", "--max-tokens",
                          len(straight) - len(first.tokens))
        self.assertFalse(second.event("opened")["created"])
        self.assertEqual(first.tokens + second.tokens, straight)

    def test_restart_goes_on_where_it_was(self):
        text = words(150)
        daemon = self.daemon()
        straight, first = self.begin(daemon, text)
        before = self.show(*daemon.connect)
        self.assertEqual(daemon.stop(), OK)
        stored = self.show("--store", self.store)
        self.assertEqual(stored["state"], "stored")
        for field in ("id", "tokens", "appended_bytes", "policy", "template"):
            self.assertEqual(stored[field], before[field], field)
        again = self.daemon()
        self.finish(again, straight, first)

    def test_a_killed_daemon_runs_no_more_than_a_block_again(self):
        text = words(600)
        daemon = self.daemon()
        straight, first = self.begin(daemon, text)
        # Written behind: full pages of 16 tokens, and an entry for each that has left the window.
        wait_until(lambda: self.show(*daemon.connect)["units"] >=
                   first.event("done")["session"]["processed"] // 16, "its pages are stored")
        daemon.process.kill()
        daemon.process.wait()
        again = self.daemon()
        self.finish(again, straight, first)
        shown = self.show(*again.connect)
        self.assertTrue(0 < shown["run_again"] <= 32, shown)
        self.assertEqual(shown["retrieved"]["recomputed"], 0)

    def test_in_process_equals_daemon(self):
        text = self.path("text", words(100))
        daemon = self.daemon()
        remote = self.ask(daemon, "--session", "s", "--append", text, "--generate", "--max-tokens",
                          "10").tokens
        daemon.stop()
        local = run("ask", "--json", *RAW, *SMALL_POLICY, "--session", "other", "--append", text,
                    "--generate", "--max-tokens", "10", *self.embedded())
        self.assertEqual(local.code, OK, local.err)
        self.assertEqual(local.tokens, remote)
        names = [json.loads(line)["name"] for line in
                 run("sessions", "ls", "--json", "--store", self.store).out.splitlines()]
        self.assertEqual(sorted(names), ["other", "s"])

    def test_remove(self):
        daemon = self.daemon()
        self.ask(daemon, "--session", "s", "--append", "-", text=b"some text")
        wait_until(lambda: run("sessions", "rm", "s", *daemon.connect).code == OK, "session released")
        self.assertEqual(run("sessions", "show", "s", *daemon.connect).code, NOT_FOUND)
        self.ask(daemon, "--session", "s", "--new", "--append", "-", text=b"new")
        self.assertEqual(self.show(*daemon.connect)["appended_bytes"], 3)

    def test_seed_decides(self):
        daemon = self.daemon()
        def draw(name, seed):
            return self.ask(daemon, "--session", name, "--prompt", "abc", "--max-tokens", "16",
                            "--temperature", "1", "--seed", seed).tokens
        self.assertEqual(draw("a", 1), draw("b", 1))
        self.assertNotEqual(draw("c", 1), draw("d", 2))

    def test_chat_over_a_pipe(self):
        daemon = self.daemon()
        result = run("chat", *daemon.connect, "--max-tokens", "4", text=b"hello\n/info\n/none\n/quit\n")
        self.assertEqual(result.code, OK, result.err)
        self.assertIn("no command /none", result.out)
        self.assertIn("chat (id", result.out)

    def test_interrupt_cancels_the_answer_and_keeps_the_session(self):
        daemon = self.daemon()
        process = spawn("ask", "--json", *RAW, *daemon.connect, "--session", "s", "--prompt", "go",
                        "--max-tokens", "1000000", stdin=subprocess.DEVNULL)
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if sum(e["event"] == "text" for e in lines) == 3:
                process.send_signal(signal.SIGINT)
                break
        rest, _ = process.communicate()
        lines += [json.loads(line) for line in rest.splitlines()]
        reasons = {e["generation"]["reason"] for e in lines if e["event"] == "done"}
        self.assertTrue(reasons <= {"cancelled", "end_of_turn"}, reasons)
        self.assertEqual(process.returncode, INTERRUPTED if "cancelled" in reasons else OK)
        sent = sum(len(e["tokens"]) for e in lines if e["event"] == "text")
        self.assertGreaterEqual(self.show(*daemon.connect)["tokens"], sent)

    def test_interrupt_before_the_first_text(self):
        """A session whose past is run again: cancelled long before that has ended."""
        model = make_model(self.path("larger.gguf"), layers=6, hidden=128, ffn=256)
        common = ["--session", "s", "--model", model, "--store", self.store, "--threads", "1"]
        made = run("ask", *RAW, "--policy", "exact", "--append", "-", *common, text=words(1500))
        self.assertEqual(made.code, OK, made.err)
        process = spawn("ask", "--max-tokens", "1000000", "--progress", *common,
                        stdin=subprocess.DEVNULL)
        err = b""
        while b"restoring" not in err:
            if process.stdout in select.select([process.stdout, process.stderr], [], [])[0]:
                process.kill()
                process.communicate()
                self.skipTest("a machine so fast that nothing is seen of it")
            piece = os.read(process.stderr.fileno(), 4096)
            self.assertTrue(piece, err)
            err += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, out), (INTERRUPTED, b""), err)
        self.assertIn(b"interrupted", err)
        again = run("ask", "--existing", "--max-tokens", "2", *common)
        self.assertEqual(again.code, OK, again.err)

    def test_garbage_on_the_port(self):
        daemon = self.daemon()
        host, port = daemon.address.rsplit(":", 1)
        rng = random.Random(5)
        for _ in range(20):
            with socket.create_connection((host, int(port))) as s:
                try:
                    s.sendall(rng.randbytes(4000))
                except OSError:
                    pass  # the server may have hung up first
        self.ask(daemon, "--session", "s", "--prompt", "still there", "--max-tokens", "2")

    def test_unix_socket_and_clean_stop(self):
        path = self.path("socket")
        daemon = self.daemon(listen="unix:" + path)
        self.ask(daemon, "--session", "s", "--prompt", "x", "--max-tokens", "2")
        self.assertEqual(daemon.stop(signal.SIGINT), OK)


if __name__ == "__main__":
    unittest.main()
