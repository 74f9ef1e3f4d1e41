"""A five-digit key hidden at several depths of a long, dull text: which policies find it?

The task is the one of InfiniteBench and InfLLM (noise line, needle and question as published there).

    passkey.py --tokens 32768,65536 --policies infllm,streaming --depths 10 --jobs 16
    passkey.py --tokens 1048576 --device cuda --serve --jobs 4 --json
"""

import random
import re

import bench

NOISE = ("The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n")
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key.\n"
TASK = ("There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
        "I will quiz you about the important information there.\n\n")
# The form for base models: a session without turns, the answer begun.
QUESTION = "\nWhat is the pass key? The pass key is"


def prompt(lines, depth, key):
    """`depth` in [0, 1]: the part of the noise that comes before the needle."""
    before = round(lines * depth)
    return TASK + NOISE * before + NEEDLE.format(key=key) + NOISE * (lines - before) + QUESTION


def found(answer, key):
    numbers = re.findall(r"\d+", answer)
    return bool(numbers) and numbers[0] == key


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--tokens", type=int, action=bench.Several, default=[32768])
    parser.add_argument("--depths", type=int, default=10)
    parser.add_argument("--policies", action=bench.Several, default=["infllm", "streaming"])
    parser.add_argument("--answer-tokens", type=int, default=24)
    options = parser.parse_args()
    # Tokens a line, measured over many so that the ends do not matter.
    per_line = bench.token_count(options, NOISE * 200) / 200
    rng = random.Random(options.seed)
    items = []
    for tokens in options.tokens:
        for d in range(options.depths):
            key = "%05d" % rng.randrange(100000)
            depth = d / max(options.depths - 1, 1)
            items += [(policy, tokens, depth, key) for policy in options.policies]

    def work(item):
        policy, tokens, depth, key = item
        text = prompt(int((tokens - 100) / per_line), depth, key)
        answer, done = bench.ask(options, text, policy, options.answer_tokens)
        return {"task": "passkey", "policy": policy, "tokens": tokens, "depth": round(depth, 3),
                "key": key, "found": found(answer, key), "answer": answer,
                "session_tokens": done["session"]["tokens"], "ingest": done["ingest"],
                "generation": done["generation"], "bytes": done["session"]["bytes"]}

    results = bench.run_all(options, work, items)
    depths = sorted({r["depth"] for r in results})
    rows = [["policy, tokens", "found", *(f"{d:.0%}" for d in depths), "tokens/s"]]
    for tokens in options.tokens:
        for policy in options.policies:
            mine = {r["depth"]: r for r in results
                    if r["policy"] == policy and r["tokens"] == tokens}
            if not mine:
                continue
            right = sum(r["found"] for r in mine.values())
            rate = sum(r["ingest"]["tokens_per_second"] for r in mine.values()) / len(mine)
            rows.append([f"{policy}, {tokens}", f"{right}/{len(mine)}",
                         *(("yes" if mine[d]["found"] else "-") if d in mine else "?"
                           for d in depths), f"{rate:.0f}"])
    bench.table(options, rows)


if __name__ == "__main__":
    main()
