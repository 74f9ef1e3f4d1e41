"""Causal attention of cuDNN through PyTorch at the shapes of cuda_attention_bench: TFLOP/s, medians."""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def bench(m, heads=32, kv_heads=8, head_dim=128, runs=9):
    calls = max(1, (16384 // m) ** 2)
    q, k, v = (torch.randn(1, h, m, head_dim, device="cuda", dtype=torch.bfloat16)
               for h in (heads, kv_heads, kv_heads))
    times = []
    for i in range(runs + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True,
                                                             enable_gqa=True)
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(end) * 1e-3 / calls)
    seconds = statistics.median(times)
    print(f"cuDNN, {heads}/{kv_heads} heads of {head_dim}, {m} queries: {seconds * 1e3:.3f} ms, "
          f"{2 * head_dim * heads * m * m / seconds * 1e-12:.1f} TFLOP/s", flush=True)


with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
    for tokens in (8192, 32768, 131072):
        bench(tokens)
