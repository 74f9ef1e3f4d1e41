"""Bad input: each ends in a documented exit code and a message that says what to do."""

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import unittest

from harness import (BINARY, CLOSED_PIPE, FAILED, MODEL, NOT_FOUND, OK, REFUSED, STORE, TIMEOUT,
                     UNREACHABLE, USAGE, Case, environment, run, spawn)


class Usage(Case):
    def test_help_and_version_need_nothing(self):
        for args in (["--help"], ["ask", "--help"], ["sessions", "show", "--help"], ["--version"]):
            result = run(*args)
            self.assertEqual(result.code, OK, args)
            self.assertTrue(result.out)

    def test_wrong_flags_and_values(self):
        for args, word in ((["serve", "--sotre", "x"], "--sotre"),
                           (["ask", "--prompt", "x"], "--session"),
                           (["ask", "--session", "s", "--policy", "best"], "--policy"),
                           (["ask", "--session", "s", "--max-tokens", "-1"], "--max-tokens"),
                           (["serve", "--ram-budget", "lots"], "--ram-budget"),
                           (["serve", "--ram-budget", "-5"], "--ram-budget"),
                           (["serve", "--ram-budget", "5Q"], "--ram-budget"),
                           (["serve", "--ram-budget", "99999999999G"], "--ram-budget"),
                           (["ask", "--session", "s", "--seed", str(1 << 64)], "--seed"),
                           (["ask", "--session", "s", "--seed", "-1"], "--seed"),
                           (["ask", "--session", "s", "--prompt", "a", "--prompt", "b"], "once"),
                           (["ask", "--session", "s", "--new", "--existing"], "--existing"),
                           (["dance"], "dance"),
                           ([], "--help")):
            with self.subTest(args=args):
                self.assert_fails(run(*args), USAGE, word)

    def test_configuration_file(self):
        good = self.path("good.ini", b"[tokenize]\nmodel = \"%s\"\n" % self.model.encode())
        result = run("--config", good, "tokenize", "ab")
        self.assertEqual(result.code, OK, result.err)
        bad = self.path("bad.ini", b"[tokenize]\nmodle = \"x\"\n")
        self.assert_fails(run("--config", bad, "tokenize", "ab"), USAGE,
                          bad + ': [tokenize] has no setting "modle"')
        worse = self.path("worse.ini", b"[tokenise]\nmodel = \"x\"\n")
        self.assert_fails(run("--config", worse, "tokenize", "ab"), USAGE, worse, "[tokenise]")
        self.assert_fails(run("--config", self.path("none.ini"), "doctor"), USAGE, "none.ini")
        self.assert_fails(run("doctor", RINGTIDE_CONFIG=self.path("none.ini")), USAGE, "none.ini",
                          "RINGTIDE_CONFIG")

    def test_environment(self):
        """Of every flag of the command, and of no other command's."""
        result = run("ask", RINGTIDE_SESSION="s", RINGTIDE_PROMPT="hi", RINGTIDE_MAX_TOKENS="2",
                     RINGTIDE_MODEL=self.model, RINGTIDE_STORE=self.store, RINGTIDE_JSON="true")
        self.assertEqual(result.code, OK, result.err)
        self.assertLessEqual(result.event("done")["generation"]["tokens"], 2)
        wrong = run("sessions", "ls", "--store", self.store, RINGTIDE_THREADS="many")
        self.assertEqual(wrong.code, OK, wrong.err)
        wrong = run("ask", "--session", "s", RINGTIDE_THREADS="many", RINGTIDE_JSON="1")
        self.assert_fails(wrong, USAGE, "RINGTIDE_THREADS", "many")
        self.assertEqual(wrong.events[-1]["code"], USAGE)

    def test_help_tells_each_commands_defaults(self):
        self.assertIn("(default 256)", run("ask", "--help").out)
        self.assertIn("(default 1024)", run("chat", "--help").out)
        self.assertIn("Name of the session (required)", run("ask", "--help").out)

    def test_text_that_cannot_be_read(self):
        missing = self.path("missing.txt")
        self.assert_fails(run("ask", "--session", "s", "--append", missing, *self.embedded()), USAGE,
                          "missing.txt")
        self.assert_fails(run("ask", "--session", "s", "--append", self.folder, *self.embedded()),
                          USAGE, self.folder)
        self.assertFalse(os.path.exists(self.store), "nothing was made before the input was checked")


    def test_what_would_be_refused_makes_no_session(self):
        empty = self.path("empty.txt", b"")
        for args, code in ((["--prompt", "x", "--stop", ""], USAGE),
                           (["--prompt", "x", "--temperature", "nan"], USAGE),
                           (["--prompt", "x", "--top-p", "0"], USAGE),
                           (["--prompt", "x", "--repetition-penalty", "nan"], USAGE),
                           (["--new"], USAGE),
                           ([], NOT_FOUND),
                           (["--prompt", ""], NOT_FOUND),
                           (["--append", empty, "--generate"], NOT_FOUND)):
            with self.subTest(args=args):
                self.assert_fails(run("ask", "--session", "s", *args, *self.embedded()), code)
        if os.path.exists(self.store):
            self.assertEqual(run("sessions", "ls", "--json", "--store", self.store).events, [])

    def test_failures_are_objects_too(self):
        for args, code in ((["sessions", "ls", "--store", self.path("nowhere")], STORE),
                           (["ask", "--session", "s", "--max-tokens", "-1"], USAGE)):
            result = run(*args, "--json")
            self.assertEqual(result.code, code)
            error = result.events[-1]
            self.assertEqual((list(error), error["event"], error["code"]),
                             (["event", "code", "message"], "error", code))
            self.assertIn(error["message"], result.err)


class Scripts(unittest.TestCase):
    def test_help_and_wrong_arguments_do_nothing_else(self):
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        for name in ("deploy/quickstart", "deploy/install-deps", "deploy/fetch-model", "tests/run"):
            with self.subTest(script=name):
                def script(argument):
                    return subprocess.run([os.path.join(root, name), argument], cwd="/", text=True,
                                          capture_output=True, timeout=TIMEOUT)
                told, refused = script("--help"), script("--nope")
                self.assertEqual((told.returncode, told.stderr), (OK, ""))
                self.assertIn("nstall" if "fetch" not in name else "model", told.stdout)
                self.assertNotIn("usage()", told.stdout)
                self.assertEqual((refused.returncode, refused.stdout), (USAGE, ""))
                self.assertIn(told.stdout, refused.stderr)


class Output(Case):
    LONG = ["--prompt", "go", "--max-tokens", "1000000"]

    def test_full_disk(self):
        for flags in ([], ["--json"]):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([BINARY, "ask", "--session", "s", *flags, *self.LONG,
                                         *self.embedded()], env=environment(), stdout=full,
                                        stderr=subprocess.PIPE, timeout=TIMEOUT)
            self.assertEqual(result.returncode, FAILED, result.stderr)
            self.assertIn(b"No space left", result.stderr)

    def test_reader_that_leaves(self):
        for flags in ([], ["--json"]):
            process = spawn("ask", "--session", "s", *flags, *self.LONG, *self.embedded(),
                            stdin=subprocess.DEVNULL)
            self.assertTrue(process.stdout.read(1))
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            self.assertEqual(process.wait(TIMEOUT), CLOSED_PIPE)
            process.stderr.close()

    def test_resume_line_is_for_a_shell(self):
        store = self.path("a store's")
        made = run("ask", "--session", "it's \"mine\"", "--prompt", "x", "--max-tokens", "1",
                   "--model", self.model, "--store", os.path.relpath(store), "--threads", "1")
        self.assertEqual(made.code, OK, made.err)
        line = made.err.splitlines()[-1].split(None, 1)[1]
        program, *arguments = shlex.split(line)
        self.assertEqual(program, os.path.realpath(BINARY))
        self.assertEqual(arguments,
                         ["ask", "--session", "it's \"mine\"", "--store",
                          os.path.realpath(store), "--model", os.path.realpath(self.model),
                          "--prompt", "TEXT"])
        again = run(*arguments[:-1], "y", RINGTIDE_MAX_TOKENS="1",
                    PATH=os.path.dirname(os.path.realpath(BINARY)))
        self.assertEqual(again.code, OK, again.err)
        self.assertIn("resume     ringtide ask ", again.err)

    def test_lost_connection_is_on_a_line_of_its_own_and_tells_how_to_go_on(self):
        daemon = self.daemon()
        for command in (["ask", "--prompt", "go"], ["chat"]):
            process = spawn(*command, "--session", "s", "--template", "raw", "--max-tokens",
                            "1000000", *daemon.connect, stdin=subprocess.PIPE)
            if command == ["chat"]:
                process.stdin.write(b"go\n")
                process.stdin.flush()
            self.assertTrue(process.stdout.read(1))
            daemon.stop(signal.SIGKILL)
            out, err = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, UNREACHABLE, err)
            self.assertTrue(out.endswith(b"\n"), out[-20:])
            resume = f"ringtide {command[0]} --session s --connect {daemon.address}"
            self.assertIn(resume, err.decode())
            daemon = self.daemon()

    def test_settings_that_a_session_keeps(self):
        def ask(*flags):
            result = run("ask", "--session", "s", "--prompt", "x", "--max-tokens", "1", *flags,
                         *self.embedded())
            self.assertEqual(result.code, OK, result.err)
            return result.err
        small = ["--window", "64", "--sinks", "16", "--unit", "16", "--block", "32"]
        self.assertNotIn("keeps", ask("--policy", "streaming", *small))
        self.assertNotIn("keeps", ask("--policy", "streaming"))
        told = ask("--policy", "exact", "--window", "32", "--system", "x", "--template", "raw")
        for word in ("keeps", "streaming", "--policy", "--window", "--system"):
            self.assertIn(word, told)

    def test_flags_without_use(self):
        daemon = self.daemon()
        result = run("sessions", "ls", "--store", self.path("other"), *daemon.connect)
        self.assertEqual(result.code, OK)
        self.assertIn("--store is not used", result.err)

    def test_chat_takes_every_character(self):
        daemon = self.daemon()
        for language in ("C", "C.UTF-8"):
            with self.subTest(language=language):
                name = "chat-" + language
                pid, terminal = pty.fork()
                if pid == 0:
                    os.environ.update(LC_ALL=language, TERM="xterm")
                    os.execve(BINARY, [BINARY, "chat", "--session", name, "--template", "raw",
                                       "--max-tokens", "1", *daemon.connect],
                              {k: v for k, v in os.environ.items()
                               if not k.startswith("RINGTIDE_")})
                said = "grün 猫🙂"
                seen = b""
                while b"> " not in seen:
                    seen += os.read(terminal, 4096)
                os.write(terminal, said.encode() + b"\n/quit\n")
                try:
                    while os.read(terminal, 4096):
                        pass
                except OSError:
                    pass  # how a terminal says that its other end is gone
                os.close(terminal)
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), OK)
                shown = run("sessions", "show", name, "--json", *daemon.connect)
                self.assertEqual(shown.events[0]["appended_bytes"], len(said.encode()))


class Bench(Case):
    """What it measures is the machine's business; what it says is ours."""

    def bench(self, *args):
        return run("bench", "--device", "cpu", "--model", self.model, "--repeats", "1",
                   "--steps", "2", "--prompt", "8", "--context", "4", "--batch", "3", *args)

    def test_figures_of_one_instruction_set(self):
        best = self.bench("--json", "--only", "decode").event("machine")["instruction_set"]
        result = self.bench("--json", "--only", "decode", "--instruction-set", best)
        self.assertEqual(result.code, OK, result.err)
        self.assertEqual(result.event("machine")["instruction_set"], best)
        speeds = [f for f in result.events if f["event"] == "figure" and f["unit"] == "tokens/s"]
        self.assertEqual([(f["tokens"], f["batch"]) for f in speeds], [(4, 3)])
        self.assertGreater(speeds[0]["median"], 0)

    def test_a_long_context_tells_how_it_was_read(self):
        result = self.bench("--json", "--only", "decode", "--context", "600")
        self.assertEqual(result.code, OK, result.err)
        figures = {f["what"]: f for f in result.events if f["event"] == "figure" and f["tokens"] == 600}
        self.assertEqual(list(figures), ["prefill before it, 600 tokens", "prefill of its last block, 600 tokens",
                                         "decode, batch 3, 600 tokens each"])
        for figure in figures.values():
            self.assertGreater(figure["median"], 0)

    def test_instruction_set_that_is_not_there(self):
        self.assert_fails(self.bench("--instruction-set", "ABACUS"), USAGE, "ABACUS",
                          "this processor has")


class Models(Case):
    def ask(self, model):
        return run("ask", "--session", "s", "--prompt", "x", "--store", self.store, "--model", model)

    def test_missing(self):
        self.assert_fails(self.ask(self.path("none.gguf")), MODEL, "none.gguf", "--model")

    def test_garbage_and_truncated(self):
        self.assert_fails(self.ask(self.path("garbage.gguf", b"not a model at all" * 100)), MODEL,
                          "garbage.gguf")
        self.assert_fails(self.ask(self.path("empty.gguf", b"")), MODEL, "empty.gguf")
        with open(self.model, "rb") as f:
            whole = f.read()
        for size in (4, 24, 1000, len(whole) // 2, len(whole) - 1):
            with self.subTest(size=size):
                self.assert_fails(self.ask(self.path("cut.gguf", whole[:size])), MODEL, "cut.gguf")

    def test_tokenize_needs_only_the_tokenizer(self):
        result = run("tokenize", "--model", self.model, "--json", "héllo\n")
        self.assertEqual(result.code, OK, result.err)
        self.assertEqual(sum(e["bytes"] for e in result.events), len("héllo\n".encode()))
        for event in result.events:
            self.assertEqual(list(event), ["id", "text", "bytes"])
        piped = run("tokenize", "--model", self.model, "--json", text="héllo\n".encode())
        self.assertEqual(piped.raw, result.raw)
        odd = run("tokenize", "--model", self.model, text=b"\xff\x80")
        self.assertEqual(odd.code, OK)
        self.assertIn('"\\xff"', odd.out)


class Sessions(Case):
    def test_unknown(self):
        run("ask", "--session", "known", "--prompt", "x", "--max-tokens", "1", *self.embedded())
        for command in ("show", "rm"):
            self.assert_fails(run("sessions", command, "nobody", "--store", self.store), NOT_FOUND,
                              "nobody", "sessions ls")
            self.assert_fails(run("sessions", command, "", "--store", self.store), USAGE, "name")
        self.assert_fails(run("ask", "--session", "nobody", "--existing", *self.embedded()),
                          NOT_FOUND, "nobody")
        daemon = self.daemon()
        for command in ("show", "rm"):
            self.assert_fails(run("sessions", command, "nobody", *daemon.connect), NOT_FOUND, "nobody")

    def test_names_and_doubles(self):
        first = run("ask", "--session", "s", "--new", "--prompt", "x", "--max-tokens", "1",
                    *self.embedded())
        self.assertEqual(first.code, OK, first.err)
        self.assert_fails(run("ask", "--session", "s", "--new", "--prompt", "x", *self.embedded()),
                          REFUSED, "s")
        self.assert_fails(run("ask", "--session", "", "--prompt", "x", *self.embedded()), USAGE)
        self.assert_fails(run("ask", "--session", "x" * 201, "--prompt", "x", *self.embedded()), USAGE)

    def test_offset_that_the_session_does_not_hold(self):
        text = self.path("text", b"abcdef")
        common = ["ask", "--session", "s", "--append", text, *self.embedded()]
        self.assertEqual(run(*common, "--offset", "0").code, OK)
        self.assert_fails(run(*common, "--offset", "0"), REFUSED, "6")
        self.assertEqual(run(*common, "--offset", "6").code, OK)

    def test_another_models_session(self):
        made = run("ask", "--session", "s", "--prompt", "x", "--max-tokens", "1", *self.embedded())
        self.assertEqual(made.code, OK, made.err)
        from harness import make_model
        other = make_model(self.path("other.gguf"), seed=2)
        self.assert_fails(run("ask", "--session", "s", "--prompt", "y", "--store", self.store,
                              "--model", other), REFUSED, "model")
        self.assertEqual(json.loads(run("sessions", "show", "s", "--json", "--store",
                                        self.store).out)["appended_bytes"], 1)


class Places(Case):
    def test_nobody_listens(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            free = "127.0.0.1:%d" % s.getsockname()[1]
        self.assert_fails(run("sessions", "ls", "--connect", free), UNREACHABLE, free)
        self.assert_fails(run("ask", "--session", "s", "--prompt", "x", "--connect",
                              "unix:" + self.path("none.sock")), UNREACHABLE, "none.sock")
        self.assertNotEqual(run("sessions", "ls", "--connect", "no port").code, OK)

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            taken = "127.0.0.1:%d" % s.getsockname()[1]
            self.assert_fails(run("serve", *self.embedded(), "--listen", taken), UNREACHABLE, taken,
                              "--listen")
        for address in ("127.0.0.1:99999", "localhost", "::1:7717", "unix:/nowhere/socket"):
            # Before the model is looked at.
            self.assert_fails(run("serve", "--model", self.path("none.gguf"), "--listen", address),
                              UNREACHABLE, address)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            taken = "127.0.0.1:%d" % s.getsockname()[1]
            doctor = run("doctor", "--listen", taken, "--model", self.model, "--store", self.store)
            self.assertEqual(doctor.code, FAILED)
            self.assertIn(taken, doctor.out)

    def test_daemon_at_a_terminal_says_when_it_listens_and_when_it_stops(self):
        process = spawn("serve", "--listen", "127.0.0.1:0", *self.embedded(),
                        stdin=subprocess.DEVNULL)
        while not process.stdout.readline().startswith(b"listening"):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, err), (OK, b""))
        self.assertTrue(out.startswith(b"stopping"), out)

    def test_store_in_use(self):
        daemon = self.daemon()
        held = run("ask", "--session", "s", "--prompt", "x", *self.embedded())
        self.assert_fails(held, STORE, "--connect")
        self.assertNotIn("IO error", held.err)
        self.assertEqual(run("sessions", "ls", *daemon.connect).code, OK)

    def test_store_that_is_none(self):
        self.assert_fails(run("sessions", "ls", "--store", self.path("nowhere")), STORE, "nowhere")
        self.assert_fails(run("ask", "--session", "s", "--prompt", "x", "--model", self.model,
                              "--store", self.path("file", b"x")), STORE, "file")

    def test_doctor(self):
        result = run("doctor", "--json", "--listen", "127.0.0.1:0", "--model", self.model,
                     "--store", self.store)
        self.assertEqual(result.code, OK, result.err)
        self.assertEqual([e["check"] for e in result.events],
                         ["processor", "memory", "GPU", "ring", "store", "model", "address"])
        ring = {e["check"]: e for e in result.events}["ring"]["details"]
        self.assertEqual((ring["shards"], ring["unit_copies"], ring["tls"]), (1, 2, False))
        exposed = run("doctor", "--json", "--listen", "127.0.0.1:0", "--model", self.model, "--store",
                      self.store, "--shards", "4", "--shard-listen", "10.0.0.1")
        self.assertEqual(exposed.code, FAILED)
        ring = {e["check"]: e for e in exposed.events if "check" in e}["ring"]
        self.assertFalse(ring["ok"])
        self.assertIn("certificates", ring["found"])
        bad = run("doctor", "--listen", "127.0.0.1:0", "--store", self.store, "--model",
                  self.path("none.gguf"))
        self.assertEqual(bad.code, FAILED)
        self.assertIn("none.gguf", bad.out)

    def test_doctor_says_what_no_server_would_load(self):
        with open(self.model, "rb") as f:
            other = f.read().replace(b"llama", b"mamba", 1)
        bad = run("doctor", "--listen", "127.0.0.1:0", "--store", self.store, "--model",
                  self.path("mamba.gguf", other))
        self.assertEqual(bad.code, FAILED)
        self.assertIn("mamba", bad.out)

    def test_socket_file_of_a_killed_daemon_is_no_hindrance(self):
        address = "unix:" + self.path("socket")
        self.daemon(listen=address).stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.path("socket")))
        self.assertEqual(run("sessions", "ls", *self.daemon(listen=address).connect).code, OK)


if __name__ == "__main__":
    unittest.main()
