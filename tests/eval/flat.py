"""Memory and time of one session as it grows: both must be flat once the window is full.

A daemon of its own; text is appended to one session, and at each length its resident memory, the time
of the latest tokens and the bytes in each tier are taken.

    flat.py --tokens 4096,16384,65536,131072 --ram-budget 256M
"""

import json
import random
import sys
import time

import bench


def text_of(rng, words):
    """Varied, dull, reproducible prose."""
    vocabulary = ("tide harbour lantern keeper rope water evening letter stone window market bread salt "
                  "north river boat morning captain light paper wooden old quiet early under between "
                  "carried found wrote watched turned opened followed the a of and in to with from").split()
    out = []
    while words > 0:
        n = min(words, rng.randint(6, 16))
        out.append(" ".join(rng.choices(vocabulary, k=n)).capitalize() + ".")
        words -= n
    return " ".join(out) + "\n"


def resident(pid):
    """Bytes in memory: all, and those that are nobody's file."""
    fields = {}
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            name, _, rest = line.partition(":")
            fields[name] = rest.split()
    return int(fields["VmRSS"][0]) << 10, int(fields["RssAnon"][0]) << 10


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--tokens", type=int, action=bench.Several, default=[4096, 16384, 65536, 131072])
    parser.add_argument("--policy", default="infllm")
    parser.add_argument("--step", type=int, default=2048, help="tokens whose time is taken at a length")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    results = []
    if options.connect or options.serve:
        parser.error("it starts a daemon of its own, whose memory it reads")
    with bench.daemon(options, options.flags.split()) as (daemon, ready):

        def ask(text, *flags):
            output = bench.run(options, "ask", "--json", "--connect", ready["address"], "--session",
                               "flat", "--policy", options.policy, "--append", "-", "--template",
                               "raw", *flags, text=text)
            return json.loads(output.splitlines()[-1])

        at, per_word = 0, 1.2
        for target in options.tokens:
            # The way there in large pieces, then one measured step.
            while at < target - options.step:
                words = int((target - options.step - at) / per_word) + 1
                done = ask(text_of(rng, min(words, 20000)))
                grown = done["session"]["tokens"] - at
                per_word = grown / min(words, 20000)
                at += grown
            done = ask(text_of(rng, int(options.step / per_word)))
            at = done["session"]["tokens"]
            began = time.monotonic()
            answer = ask("\nAnd then", "--generate", "--max-tokens", "16")
            rss, anonymous = resident(daemon.pid)
            at = answer["session"]["tokens"]
            ingest, generation = done["ingest"], answer["generation"]
            results.append({"task": "flat", "policy": options.policy, "target": target,
                            "tokens": at, "rss": rss, "rss_anonymous": anonymous,
                            "ms_per_token": 1000 * ingest["seconds"] / max(ingest["tokens"], 1),
                            "generate_tokens_per_second": generation["tokens_per_second"],
                            "answer_seconds": time.monotonic() - began,
                            "bytes": answer["session"]["bytes"],
                            "units": answer["session"]["units"],
                            "retrieved": generation["retrieved"]})
            if options.json:
                print(json.dumps(results[-1]), flush=True)
            else:
                print(f"\r{at} tokens", end="", file=sys.stderr, flush=True)
    if not options.json:
        print("\r\033[K", end="", file=sys.stderr)
    rows = [["tokens", "RSS MiB", "anonymous MiB", "ms/token", "answer tokens/s", "KV RAM MiB",
             "store MiB", "units"]]
    for r in results:
        rows.append([r["tokens"], r["rss"] >> 20, r["rss_anonymous"] >> 20, f"{r['ms_per_token']:.2f}",
                     f"{r['generate_tokens_per_second']:.1f}", r["bytes"]["ram"] >> 20,
                     r["bytes"]["store"] >> 20, r["units"]])
    bench.table(options, rows)


if __name__ == "__main__":
    main()
