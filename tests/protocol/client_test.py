"""The Python client against the C++ server, in another process.

Run by ctest with RINGTIDE_PROTOCOL_PEER naming that program. Without pycapnp every test is skipped.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

PROTOCOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "protocol")
PEER = os.environ.get("RINGTIDE_PROTOCOL_PEER", "protocol_peer")

try:
    sys.path.insert(0, PROTOCOL)
    import client as ringtide
except ImportError as error:
    ringtide = None
    MISSING = f"pycapnp is not importable ({error}); pip install pycapnp"
else:
    MISSING = ""


class Server:
    def __init__(self, listen="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [PEER, "serve", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@unittest.skipIf(ringtide is None, MISSING)
class ClientTest(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)
        self.client = ringtide.Client(self.server.address)
        self.addCleanup(self.client.close)

    def test_open_append_generate(self):
        session = self.client.open("a", policy={"name": "infllm", "window": 4096})
        self.assertTrue(session.created)
        self.assertEqual(session.opened.policy, "infllm")
        self.assertEqual(session.append(["one ", b"two gr\xc3", b"\xbcn"]), 13)
        answer = session.generate(max_tokens=10)
        self.assertEqual(list(answer), ["one ", "two ", "grün "])
        self.assertEqual(answer.result.reason, "endOfTurn")
        self.assertEqual(answer.result.generated_tokens, 3)
        self.assertEqual(answer.tokens, [3, 3, 5])

    def test_large_append_reports_progress_and_is_exactly_once(self):
        session = self.client.open("a")
        seen = []
        pieces = ("x" * 200_000 for _ in range(10))
        self.assertEqual(session.append(pieces, offset=0, progress=seen.append), 2_000_000)
        self.assertTrue(seen)
        self.assertEqual(seen, sorted(seen))
        with self.assertRaises(ringtide.RingtideError) as caught:
            session.append("again", offset=0)
        self.assertEqual(caught.exception.code, "offsetMismatch")
        self.assertEqual(caught.exception.offset, 2_000_000)
        self.assertEqual(session.info().appended_bytes, 2_000_000)
        self.assertEqual(session.append([]), 2_000_000)

    def test_leaving_a_generation_early_cancels_it(self):
        session = self.client.open("endless")
        with session.generate(max_tokens=1 << 60) as answer:
            self.assertEqual(next(answer), "tide ")
            self.assertEqual(next(answer), "tide ")
        self.assertEqual(answer.result.reason, "cancelled")
        self.assertEqual(len(list(session.generate(max_tokens=5))), 5)

    def test_list_info_remove_tokenize_server(self):
        session = self.client.open("a")
        self.client.open("b").close()
        self.assertEqual([info.name for info in self.client.list()], ["a", "b"])
        self.assertEqual(self.client.info("a").id, session.opened.id)
        with self.assertRaises(ringtide.RingtideError) as caught:
            self.client.remove("a")
        self.assertEqual(caught.exception.code, "busy")
        self.client.remove("b")
        self.assertEqual([info.name for info in self.client.list()], ["a"])
        self.assertEqual(self.client.tokenize("hi"), [(104, b"h"), (105, b"i")])
        self.assertEqual(self.client.server().version, "1.2.3")

    def test_outcomes_are_errors_with_codes(self):
        with self.assertRaises(ringtide.RingtideError) as caught:
            self.client.open("refused")
        self.assertEqual(caught.exception.code, "overloaded")
        self.assertEqual(str(caught.exception), "no room; try later")
        with self.assertRaises(ringtide.RingtideError) as caught:
            self.client.open("none", mode="resume")
        self.assertEqual(caught.exception.code, "notFound")

    def test_a_closed_session_says_so(self):
        session = self.client.open("a")
        session.close()
        with self.assertRaises(ringtide.RingtideError) as caught:
            session.info()
        self.assertEqual(caught.exception.code, "invalid")

    def test_a_server_that_dies_ends_the_generation_with_an_error(self):
        session = self.client.open("endless")
        answer = session.generate(max_tokens=1 << 60)
        next(answer)
        self.server.process.kill()
        with self.assertRaises(ringtide.ConnectionLost):
            for _ in answer:
                pass
        with self.assertRaises(ringtide.ConnectionLost):
            self.client.list()

    def test_no_server_is_an_error_with_the_address(self):
        address = self.server.address
        self.client.close()
        self.server.process.kill()
        self.server.process.wait()
        with self.assertRaises(ringtide.ConnectionLost) as caught:
            ringtide.Client(address)
        self.assertIn(address, str(caught.exception))

    def test_addresses_that_are_none(self):
        for address in ("localhost", "localhost:http", "127.0.0.1:65536", ":7717", "unix:", ""):
            with self.assertRaises(ValueError) as caught:
                ringtide.Client(address)
            self.assertIn(repr(address), str(caught.exception))

    def test_somebody_else_who_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = "127.0.0.1:%d" % silent.getsockname()[1]
            with mock.patch.object(ringtide, "_CONNECT_SECONDS", 0.2):
                with self.assertRaises(ringtide.ConnectionLost) as caught:
                    ringtide.Client(address)
        self.assertIn("no answer", str(caught.exception))
        self.assertIn(address, str(caught.exception))

    def test_what_the_schema_does_not_know_is_named_before_it_is_sent(self):
        session = self.client.open("a")
        for error, word, call in (
            (TypeError, "max_tokens", lambda: session.generate(tokens=5)),
            (ValueError, "max_tokens", lambda: session.generate(max_tokens="many")),
            (ValueError, "stop", lambda: session.generate(stop=[1])),
            (TypeError, "window", lambda: self.client.open("b", policy={"windows": 64})),
            (ValueError, "resume", lambda: self.client.open("b", mode="maybe")),
        ):
            with self.assertRaises(error) as caught:
                call()
            self.assertIn(word, str(caught.exception))
            self.assertNotIn("stack", str(caught.exception))

    def test_a_file_is_sent_whole(self):
        session = self.client.open("a")
        with tempfile.TemporaryFile() as file:
            file.write(b"line\n" * 50_000)
            file.seek(0)
            with mock.patch.object(session, "_write", wraps=session._write) as write:
                self.assertEqual(session.append(file), 250_000)
        self.assertLess(write.call_count, 100)

    def test_a_program_that_closes_nothing_ends_in_order(self):
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); import client\n"
            "session = client.Client(sys.argv[2]).open('endless')\n"
            "answer = session.generate(max_tokens=1 << 60)\n"
            "next(answer); sys.exit(3)\n"
        )
        for _ in range(5):
            command = [sys.executable, "-c", script, PROTOCOL, self.server.address]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual((ended.returncode, ended.stderr), (3, ""))

    def test_clients_on_many_threads(self):
        failures = []

        def work(number):
            try:
                with ringtide.Client(self.server.address) as client:
                    session = client.open(f"s{number}")
                    session.append(f"word{number} " * 5)
                    text = "".join(session.generate())
                    if text != f"word{number} " * 5:
                        failures.append(text)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(f"unix:{folder}/socket")
            self.addCleanup(server.close)
            with ringtide.Client(server.address) as client:
                self.assertEqual(client.server().model, "fake")

    def test_example_streams_a_file_and_goes_on_where_it_was(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("the tide goes out")
            file.flush()
            command = [sys.executable, os.path.join(PROTOCOL, "example.py")]
            command += [self.server.address, "book", file.name]
            first = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(first.stdout, "the tide goes out \n", first.stderr)
            file.write(" and comes back")
            file.flush()
            second = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(second.stdout, "the tide goes out and comes back \n", second.stderr)
            failed = subprocess.run(command[:2] + ["127.0.0.1:1"] + command[3:], capture_output=True, text=True)
            self.assertEqual(failed.returncode, 1)
            self.assertIn("127.0.0.1:1", failed.stderr)
            self.assertNotIn("Traceback", failed.stderr)


if __name__ == "__main__":
    unittest.main()
