"""Random identifiers in one long JSON object: is the value of one key found? The key is named at the
end only, so that nothing can be kept in mind while reading.

The task is InfiniteBench's, with fewer pairs.

    kv_retrieval.py --pairs 50,500 --samples 20 --policies infllm --vote both --jobs 16
"""

import json
import random
import re
import uuid

import bench

TASK = "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n"
QUESTION = '\n\nKey: "{key}"\nThe value associated with the specified key is: "'


def new_id(rng):
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def prompt(pairs, key):
    return TASK + json.dumps(dict(pairs)) + QUESTION.format(key=key)


def words(answer):
    return re.sub(r"[\n:\"'.,?!{}]", " ", answer).split()


def main():
    parser = bench.arguments(__doc__)
    parser.add_argument("--pairs", type=int, action=bench.Several, default=[50, 500])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--policies", action=bench.Several, default=["infllm", "streaming"])
    parser.add_argument("--vote", choices=["softmax", "sum", "both"], default="softmax",
                        help="of infllm")
    parser.add_argument("--answer-tokens", type=int, default=50)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    votes = ["softmax", "sum"] if options.vote == "both" else [options.vote]
    variants = [(p, v) for p in options.policies for v in (votes if p == "infllm" else [""])]
    items = []
    for count in options.pairs:
        for sample in range(options.samples):
            pairs = [(new_id(rng), new_id(rng)) for _ in range(count)]
            place = sample * count // options.samples
            items += [(variant, count, pairs, place) for variant in variants]

    def work(item):
        (policy, vote), count, pairs, place = item
        key, value = pairs[place]
        answer, done = bench.ask(options, prompt(pairs, key), policy, options.answer_tokens,
                                 ["--vote", vote] if vote else [])
        said = words(answer)
        # Partial credit tells chance from a retrieval that then loses its way.
        shared = max((sum(a == b for a, b in zip(w, value)) for w in said), default=0)
        return {"task": "kv_retrieval", "policy": policy, "vote": vote, "pairs": count,
                "place": place, "found": value in said, "leading": _leading(said, value),
                "shared": shared, "value": value, "answer": answer,
                "session_tokens": done["session"]["tokens"], "ingest": done["ingest"],
                "generation": done["generation"], "bytes": done["session"]["bytes"]}

    results = bench.run_all(options, work, items)
    rows = [["policy, pairs", "found", "first 8 digits", "tokens", "tokens/s"]]
    for count in options.pairs:
        for policy, vote in variants:
            mine = [r for r in results
                    if (r["policy"], r["vote"], r["pairs"]) == (policy, vote, count)]
            if not mine:
                continue
            rows.append([f"{policy}{' ' + vote if vote else ''}, {count}",
                         f"{sum(r['found'] for r in mine)}/{len(mine)}",
                         f"{sum(r['leading'] >= 8 for r in mine)}/{len(mine)}",
                         f"{sum(r['session_tokens'] for r in mine) // len(mine)}",
                         f"{sum(r['ingest']['tokens_per_second'] for r in mine) / len(mine):.0f}"])
    bench.table(options, rows)


def _leading(said, value):
    """Characters that the best word shares with the start of the value."""
    best = 0
    for word in said:
        n = 0
        while n < min(len(word), len(value)) and word[n] == value[n]:
            n += 1
        best = max(best, n)
    return best


if __name__ == "__main__":
    main()
