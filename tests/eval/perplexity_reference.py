"""The perplexity that build/perplexity computes, by the independent forward pass of
tests/fixtures/make_reference.py in float32.

    pip install numpy gguf tokenizers
    perplexity_reference.py MODEL.gguf TEXT [--tokens N] [--chunk N]
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "fixtures"))

import numpy as np

from make_reference import Model, make_tokenizers


def negative_log_likelihoods(logits, tokens):
    top = logits.max(axis=-1)
    sums = np.exp(logits - top[:, None]).sum(axis=-1, dtype=np.float64)
    return top + np.log(sums) - logits[np.arange(len(tokens)), tokens]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--chunk", type=int, default=512)
    arguments = parser.parse_args()
    model = Model(arguments.model, np.float32)
    tokenizer, _ = make_tokenizers(model)
    text = Path(arguments.text).read_text(encoding="utf-8")
    tokens = tokenizer.encode(text).ids[:arguments.tokens]
    bos = ([model.field("tokenizer.ggml.bos_token_id")]
           if model.field("tokenizer.ggml.add_bos_token") else [])
    total, counted, start = 0.0, 0, time.monotonic()
    for at in range(0, len(tokens), arguments.chunk):
        ids = tokens[at:at + arguments.chunk]
        if len(ids) < 2:
            continue
        logits = model.forward(bos + ids, model.new_cache(), every=True)[len(bos):-1]
        total += negative_log_likelihoods(logits, np.array(ids[1:])).sum(dtype=np.float64)
        counted += len(ids) - 1
        print(f"\r{counted} of {len(tokens)} tokens, perplexity {np.exp(total / counted):.4f}",
              end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(json.dumps({"tokens": len(tokens), "counted": counted,
                      "perplexity": round(float(np.exp(total / counted)), 6),
                      "seconds": round(time.monotonic() - start, 1)}))


if __name__ == "__main__":
    main()
