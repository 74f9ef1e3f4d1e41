#include "deploy/bench_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "deploy/format.h"
#include "model/gpu_buffer.h"

namespace ringtide::deploy {

using kernels::Gpu;
using kernels::cuda::bf16;
using kernels::cuda::Heads;
using kernels::cuda::KvRef;
using model::GpuBuffer;

namespace {

constexpr int kUnit = 128;  // tokens

// Seconds of each run, after one that does not count, until `enough` of those before says so.
template <class Work, class Enough>
std::vector<double> time_until(Gpu& gpu, Enough enough, Work work, Gpu::Queue queue) {
  std::vector<double> seconds;
  const auto from = gpu.make_event(), to = gpu.make_event();
  for (int i = 0; i == 0 || !enough(seconds); ++i) {
    gpu.record(*from, queue);
    work(i);
    gpu.record(*to, queue);
    gpu.synchronize(*to);
    if (i > 0) seconds.push_back(gpu.milliseconds(*from, *to) / 1e3);
  }
  return seconds;
}

template <class Work>
std::vector<double> time(Gpu& gpu, size_t runs, Work work, Gpu::Queue queue = Gpu::Queue::Compute) {
  return time_until(
      gpu, [runs](const auto& seconds) { return seconds.size() == runs; }, work, queue);
}

// Of work that keeps the multiprocessors busy, for as long as a prompt of some thousand tokens
// takes: after some tens of milliseconds a GPU reaches the power that it may draw, and slows down.
template <class Work>
std::vector<double> time_long(Gpu& gpu, Work work) {
  constexpr double kSeconds = 0.3;
  const auto enough = [](const std::vector<double>& seconds) {
    return seconds.size() >= 3 && std::accumulate(seconds.begin(), seconds.end(), 0.0) >= kSeconds;
  };
  return time_until(gpu, enough, work, Gpu::Queue::Compute);
}

// The same of work that runs as a decode step does, in a graph: seconds of one of `calls` calls in
// it.
template <class Work>
std::vector<double> time_in_graph(Gpu& gpu, size_t runs, int calls, Work work) {
  work(0);  // what is loaded for the first time cannot be captured
  gpu.begin_graph();
  for (int i = 0; i < calls; ++i) work(i);
  const auto graph = gpu.end_graph();
  std::vector<double> seconds = time(gpu, runs, [&](int) { gpu.launch(*graph); });
  for (double& s : seconds) s /= calls;
  return seconds;
}

std::vector<double> rates(double work, std::vector<double> seconds) {
  for (double& s : seconds) s = work / s;
  return seconds;
}

void fill(Gpu& gpu, const GpuBuffer& buffer, int64_t elements) {
  gpu.fill_normal(buffer.half(), elements, 1.0f, 7);
}

// Keys and values of a sequence in planes, side by side: its blocks.
struct Sequence {
  Sequence(Gpu& gpu, const Heads& shape, int64_t tokens)
      : planes(gpu, 2 * tokens * shape.kv_heads * shape.head_dim * 2),
        refs(gpu, tokens / kUnit * static_cast<int64_t>(sizeof(KvRef))),
        count(gpu, 4) {
    const int64_t rows = 2 * tokens * shape.kv_heads;
    fill(gpu, planes, rows * shape.head_dim);
    std::vector<KvRef> list;
    const int32_t plane = shape.kv_heads * kUnit;
    for (int32_t u = 0; u < tokens / kUnit; ++u)
      list.push_back({2 * u * plane, (2 * u + 1) * plane, 0, kUnit, int64_t{u} * kUnit});
    const auto n = static_cast<int32_t>(list.size());
    gpu.copy(refs.as<void>(), list.data(), n * static_cast<int64_t>(sizeof(KvRef)));
    gpu.copy(count.as<void>(), &n, 4);
    arena = {planes.half(), rows};
    near = {refs.as<KvRef>(), count.as<int32_t>(), n, 0};
  }
  GpuBuffer planes, refs, count;
  kernels::cuda::Arena arena;
  kernels::cuda::KvList near;
};

float scale_of(const Heads& shape) { return 1 / std::sqrt(static_cast<float>(shape.head_dim)); }

std::string thousands(int64_t tokens) {
  return tokens % 1024 == 0 ? std::to_string(tokens / 1024) + "K" : std::to_string(tokens);
}

}  // namespace

std::string attention_name(int64_t tokens) {
  return "causal attention, one layer, " + thousands(tokens) + " tokens";
}

void measure_ceilings(Gpu& gpu, Figures& figures) {
  constexpr int64_t kBytes = int64_t{1} << 30, kSide = 8192;
  {
    GpuBuffer from(gpu, kBytes), to(gpu, kBytes);
    fill(gpu, from, kBytes / 2);
    figures.add(summarise(kCopy, "TB/s", rates(2e-12 * kBytes, time(gpu, 20, [&](int) {
                                                 gpu.copy(to.as<void>(), from.as<void>(), kBytes);
                                               }))));
    auto* host = gpu.allocate_host(kBytes);
    std::memset(host, 1, kBytes);
    figures.add(summarise(kToDevice, "GB/s", rates(1e-9 * kBytes, time(gpu, 5, [&](int) {
                                                     gpu.copy(to.as<void>(), host, kBytes);
                                                   }))));
    figures.add(summarise(kToHost, "GB/s", rates(1e-9 * kBytes, time(gpu, 5, [&](int) {
                                                   gpu.copy(host, from.as<void>(), kBytes);
                                                 }))));
    gpu.release_host(host);
  }
  GpuBuffer x(gpu, kSide * kSide * 2), w(gpu, kSide * kSide * 2), y(gpu, kSide * kSide * 2);
  fill(gpu, x, kSide * kSide);
  fill(gpu, w, kSide * kSide);
  const kernels::cuda::Product p{
      .x = x.half(), .w = w.half(), .m = kSide, .n = kSide, .k = kSide, .y = y.half()};
  const std::vector<double> all =
      rates(2e-12 * kSide * kSide * kSide, time_long(gpu, [&](int) { gpu.many_rows(p); }));
  constexpr size_t kFirst = 10;
  figures.add(summarise("the same, its first runs", "TFLOP/s",
                        {all.begin(), all.begin() + std::min(kFirst, all.size())}));
  figures.add(summarise(kProduct, "TFLOP/s", all));
}

void measure_prefill_attention(Gpu& gpu, const Heads& shape, int64_t tokens, Figures& figures) {
  const Sequence sequence(gpu, shape, tokens);
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  GpuBuffer q(gpu, tokens * row * 2), o(gpu, tokens * row * 2);
  fill(gpu, q, tokens * row);
  kernels::cuda::PrefillAttention a;
  a.shape = shape;
  a.unit = kUnit;
  a.arena = sequence.arena;
  a.q_near = a.q_far = q.half();
  a.q_stride = row;
  a.m = static_cast<int32_t>(tokens);
  a.lists.near = sequence.near;
  a.scale = scale_of(shape);
  a.o = o.half();
  const double operations =
      2.0 * static_cast<double>(tokens) * static_cast<double>(tokens) * static_cast<double>(row);
  Figure figure =
      summarise(attention_name(tokens), "TFLOP/s",
                rates(1e-12 * operations, time_long(gpu, [&](int) { gpu.prefill_attention(a); })));
  figure.ceiling = figures[kProduct];
  figure.against = "matrix product";
  figures.add(figure);
}

void measure_decode_attention(Gpu& gpu, const Heads& shape, int64_t tokens, Figures& figures) {
  // Several sequences, in turn, so that the cache does not hold the next one.
  constexpr double kCached = 512e6;
  const double bytes = 4.0 * static_cast<double>(tokens) * shape.kv_heads * shape.head_dim;
  const int calls = std::max(1, static_cast<int>(kCached / bytes));
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  struct Inputs {
    int64_t position;
    kernels::cuda::Band band;
    kernels::cuda::Lists lists;
  };
  std::vector<std::unique_ptr<Sequence>> sequences;
  GpuBuffer q(gpu, row * 2), o(gpu, row * 2),
      device(gpu, calls * static_cast<int64_t>(sizeof(Inputs)));
  fill(gpu, q, row);
  kernels::cuda::DecodeAttention a;
  a.shape = shape;
  a.unit = kUnit;
  a.rows = 1;
  a.q_near = a.q_far = q.half();
  a.max_near = static_cast<int32_t>(tokens / kUnit);
  a.scale = scale_of(shape);
  a.o = o.half();
  GpuBuffer scratch(gpu, 4 * gpu.decode_attention_scratch(shape, 1, a.max_near));
  a.scratch = scratch.full();
  std::vector<kernels::cuda::DecodeAttention> work;
  for (int i = 0; i < calls; ++i) {
    sequences.push_back(std::make_unique<Sequence>(gpu, shape, tokens));
    const Inputs in{tokens - 1, {}, {.near = sequences.back()->near, .far = {}, .units = {}}};
    auto* const there = device.as<Inputs>() + i;
    gpu.copy(there, &in, sizeof in);
    a.arena = sequences.back()->arena;
    a.position = &there->position;
    a.lists = &there->lists;
    a.near_band = a.far_band = &there->band;
    work.push_back(a);
  }
  Figure figure = summarise("decode attention, one layer, " + thousands(tokens) + " tokens", "TB/s",
                            rates(1e-12 * bytes, time_in_graph(gpu, 20, calls, [&](int i) {
                                    gpu.decode_attention(work[i]);
                                  })));
  figure.ceiling = figures[kCopy];
  figure.against = "copy";
  figures.add(figure);
}

void measure_fetch(Gpu& gpu, const Heads& shape, Figures& figures) {
  constexpr int32_t kUnits = 2048, kSelect = 16, kSlots = 2 * kSelect, kCalls = 40;
  const int64_t plane = int64_t{shape.kv_heads} * kUnit, chunk = 2 * plane * shape.head_dim * 2;
  auto* const host = static_cast<std::byte*>(gpu.allocate_host(kUnits * chunk));
  std::memset(host, 1, kUnits * chunk);
  std::vector<const std::byte*> payload;
  std::vector<int32_t> chosen;
  for (int32_t u = 0; u < kUnits; ++u) payload.push_back(host + int64_t{u * 911 % kUnits} * chunk);
  for (int32_t i = 0; i < kCalls; ++i)
    for (int32_t s = 0; s < kSelect; ++s) chosen.push_back(i * kSelect + s);

  GpuBuffer arena(gpu, kSlots * chunk), payloads(gpu, kUnits * 8),
      choices(gpu, 4 * kCalls * kSelect), state(gpu, kSlots * 12),
      refs(gpu, kSelect * static_cast<int64_t>(sizeof(KvRef))), missing(gpu, kSelect * 4),
      rest(gpu, 1024);
  gpu.copy(payloads.as<void>(), payload.data(), kUnits * 8);
  gpu.copy(choices.as<void>(), chosen.data(), static_cast<int64_t>(chosen.size()) * 4);
  gpu.fill(state.as<void>(), 0xff, kSlots * 12);
  struct Rest {
    kernels::cuda::Memory memory;
    kernels::cuda::Slots slots;
    int64_t tick = 1;
    int32_t count = 0;
    kernels::cuda::LookupCounts totals;
  } in;
  in.memory.sealed = kUnits;
  in.memory.select = kSelect;
  in.memory.payload = payloads.as<const std::byte*>();
  in.slots = {state.as<int32_t>(kSlots * 8), state.as<int64_t>(), 0, kSlots};
  gpu.copy(rest.as<void>(), &in, sizeof in);
  auto* const there = rest.as<Rest>();

  kernels::cuda::Lookup a;
  a.shape = shape;
  a.unit = kUnit;
  a.layers = 1;
  a.rows = 1;
  a.memory = &there->memory;
  a.slots = &there->slots;
  a.max_sealed = kUnits;
  a.max_select = kSelect;
  a.tick = &there->tick;
  GpuBuffer scratch(gpu, 4 * gpu.lookup_scratch(shape, 1, kUnits, kSelect));
  a.scratch = scratch.full();
  a.refs = refs.as<KvRef>();
  a.counts = &there->count;
  a.missing = missing.as<int32_t>();
  a.totals = &there->totals;
  a.arena = {arena.half(), kSlots * 2 * plane};
  // In each run every call brings other units than the last.
  Figure figure = summarise(
      "fetch of 16 units from host memory", "GB/s",
      rates(1e-9 * kSelect * static_cast<double>(chunk), time_in_graph(gpu, 5, kCalls, [&](int i) {
              a.chosen = choices.as<int32_t>(4 * int64_t{i} * kSelect);
              gpu.assign_slots(a);
              gpu.fetch_units(a);
            })));
  figure.ceiling = figures[kToDevice];
  figure.against = "host to GPU";
  figures.add(figure);
  gpu.release_host(host);
}

}  // namespace ringtide::deploy
