#!/usr/bin/env python3
"""Streams a file into a session, asks about it, and streams the answer out.

    protocol/example.py 127.0.0.1:7717 notes book.txt "What is the book about?"

Run it again with the same session: the file goes on where an interrupted run stopped, and a file that
is already there is not sent twice.
"""

import argparse
import os
import sys

from client import Client, RingtideError


def read_from(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        while piece := file.read(1 << 16):
            yield piece


def main():
    parser = argparse.ArgumentParser(description="Stream a file in and an answer out.")
    parser.add_argument("address", help="host:port or unix:/path of the server")
    parser.add_argument("session", help="name of the session; made if it does not exist")
    parser.add_argument("file", help="text to append")
    parser.add_argument("question", nargs="?", help="appended after the file")
    parser.add_argument("--max-tokens", type=int, default=128)
    args = parser.parse_args()

    size = os.path.getsize(args.file)
    with Client(args.address) as client:
        session = client.open(args.session)
        held = session.opened.appended_bytes
        if held < size:

            def show(durable):
                print(f"\r{held + durable} of {size} bytes", end="", file=sys.stderr, flush=True)

            session.append(read_from(args.file, held), offset=held, progress=show)
            print(f"\r{size} of {size} bytes", file=sys.stderr)
        if args.question:
            session.append(f"\n\n{args.question}\n")
        answer = session.generate(max_tokens=args.max_tokens)
        for text in answer:
            print(text, end="", flush=True)
        print()
        print(f"{answer.result.generated_tokens} tokens, {answer.result.reason}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (RingtideError, OSError) as error:
        sys.exit(f"example.py: {error}")
