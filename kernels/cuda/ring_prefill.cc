#include "kernels/cuda/ring_prefill.h"

#include <cuda_bf16.h>
#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {
namespace {

int64_t block_rows(const ring::Plan& plan, const Heads& shape) {
  return int64_t{2} * shape.kv_heads * plan.unit;
}
int buffers(const ring::Plan& plan) { return std::min(plan.shards - 1, 2); }

// What a run of queries sees at a hop: a part of the uploaded entries.
struct Call {
  size_t index = 0, lane = 0;
  int64_t first = 0, count = 0;
};
// Queries of consecutive tokens.
struct Lane {
  int64_t row = 0, position = 0, count = 0;
  int calls = 0;
};

struct Event {
  Event() { check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event, stream), "an event"); }
  void hold(cudaStream_t stream) { check(cudaStreamWaitEvent(stream, event), "an event"); }
  cudaEvent_t event;
};

struct Stream {
  explicit Stream(int priority) {
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority), "a stream");
  }
  ~Stream() { cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  operator cudaStream_t() const { return stream; }
  cudaStream_t stream;
};

int highest_priority() {
  int lowest = 0, highest = 0;
  check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "priorities of streams");
  return highest;
}

template <class T>
struct Uploaded {
  explicit Uploaded(const std::vector<T>& values) {
    const size_t bytes = std::max<size_t>(values.size(), 1) * sizeof(T);
    check(cudaMalloc(&data, bytes), "cudaMalloc");
    check(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyDefault), "a copy");
  }
  ~Uploaded() { cudaFree(data); }
  Uploaded(const Uploaded&) = delete;
  T* data = nullptr;
};

}  // namespace

int64_t ring_prefill_rows(const ring::Plan& plan, const Heads& shape) {
  return buffers(plan) * plan.visiting_blocks * block_rows(plan, shape);
}
int64_t ring_prefill_scratch(const ring::Plan& plan, const Heads& shape) {
  return plan.shards > 1 ? plan.queries * shape.heads * int64_t{shape.head_dim} : 0;
}

struct RingPrefill::State {
  State(const ring::Plan& plan, const RingPrefillOptions& options)
      : plan(plan), options(options), priority(highest_priority()) {
    std::vector<KvRef> entries;
    std::vector<int32_t> counts;
    for (int h = 0; h < plan.shards; ++h) {
      calls.emplace_back();
      for (const ring::Piece& piece : plan.hops[h].pieces) {
        const size_t lane = lane_of(piece);
        if (calls[h].empty() || calls[h].back().lane != lane) {
          calls[h].push_back({counts.size(), lane, static_cast<int64_t>(entries.size()), 0});
          counts.push_back(0);
          ++lanes[lane].calls;
        }
        add(piece, h == 0 ? 0 : buffer_row(h - 1), entries);
        calls[h].back().count = static_cast<int64_t>(entries.size()) - calls[h].back().first;
        counts.back() = static_cast<int32_t>(calls[h].back().count);
      }
    }
    refs = std::make_unique<Uploaded<KvRef>>(entries);
    sizes = std::make_unique<Uploaded<int32_t>>(counts);
    work = std::make_unique<Uploaded<int32_t>>(std::vector<int32_t>(2 * lanes.size()));
    arrived = std::vector<Event>(plan.shards);
    attended = std::vector<std::array<Event, 2>>(plan.shards);
  }

  size_t lane_of(const ring::Piece& piece) {
    const auto at = std::find_if(lanes.begin(), lanes.end(),
                                 [&](const Lane& l) { return l.row == piece.query_row; });
    if (at != lanes.end()) return at - lanes.begin();
    lanes.push_back({piece.query_row, piece.queries.begin, piece.queries.size()});
    return lanes.size() - 1;
  }
  // Rows of local blocks count from the layer's first; those of visitors from the arena's.
  void add(const ring::Piece& piece, int64_t from_row, std::vector<KvRef>& entries) const {
    const int64_t rows = block_rows(plan, options.shape);
    int64_t block = piece.key_block;
    for (int64_t at = piece.keys.begin; at < piece.keys.end; ++block) {
      KvRef ref;
      ref.k_row = static_cast<int32_t>(from_row + block * rows);
      ref.v_row = static_cast<int32_t>(ref.k_row + rows / 2);
      ref.position = at / plan.unit * plan.unit;
      ref.begin = static_cast<int32_t>(at - ref.position);
      ref.end = static_cast<int32_t>(std::min<int64_t>(piece.keys.end - ref.position, plan.unit));
      at = ref.position + plan.unit;
      entries.push_back(ref);
    }
  }
  // Where what arrives during a hop is put.
  int64_t buffer_row(int hop) const {
    return options.receive_row + hop % 2 * plan.visiting_blocks * block_rows(plan, options.shape);
  }
  bf16* at_row(int64_t row) const { return options.arena.base + row * options.shape.head_dim; }

  // `before` calls of the lane came before this one.
  void attend(const RingLayer& layer, const Call& call, bool local, int before,
              cudaStream_t stream) const {
    const Lane& lane = lanes[call.lane];
    const int64_t width = int64_t{options.shape.heads} * options.shape.head_dim;
    float* const partial = options.scratch + lane.row * width;
    PrefillAttention a;
    a.shape = options.shape;
    a.unit = plan.unit;
    a.arena = options.arena;
    a.q_near = a.q_far = layer.q + lane.row * layer.q_stride;
    a.q_stride = layer.q_stride;
    a.position = lane.position;
    a.m = static_cast<int32_t>(lane.count);
    a.lists.near = {refs->data + call.first, sizes->data + call.index,
                    static_cast<int32_t>(call.count),
                    static_cast<int32_t>(local ? layer.kv_row : 0)};
    a.scale = options.scale;
    a.lse = layer.lse + lane.row * options.shape.heads;
    if (before > 0) {
      a.o_before = partial;
      a.lse_before = a.lse;
    }
    if (before < lane.calls - 1)
      a.o32 = partial;
    else
      a.o = layer.o + lane.row * width;
    a.work = work->data + 2 * call.lane;
    prefill_attention(a, stream);
  }

  ring::Plan plan;
  RingPrefillOptions options;
  std::vector<Lane> lanes;
  std::vector<std::vector<Call>> calls;  // by hop
  std::unique_ptr<Uploaded<KvRef>> refs;
  std::unique_ptr<Uploaded<int32_t>> sizes;  // by call
  std::unique_ptr<Uploaded<int32_t>> work;   // by lane
  int priority;                              // the highest
  Stream travel{priority};
  // Of the earliest lane, which gives way, and of the others.
  std::array<Stream, 2> compute{Stream(0), Stream(std::min(priority + 1, 0))};
  Event begun, last_hop;
  std::vector<Event> arrived;                  // by hop
  std::vector<std::array<Event, 2>> attended;  // by hop
};

RingPrefill::RingPrefill(const ring::Plan& plan, const RingPrefillOptions& options) {
  if (plan.mode != ring::Mode::PassKv)
    throw std::invalid_argument("RingPrefill: the plan must be one of pass-KV");
  state_ = std::make_unique<State>(plan, options);
}
RingPrefill::~RingPrefill() = default;

uint64_t RingPrefill::run(const RingLayer& layer, uint64_t number, RingLink& link,
                          cudaStream_t stream) {
  State& s = *state_;
  const int64_t rows = block_rows(s.plan, s.options.shape);
  const auto bytes = [&](int64_t blocks) {
    return static_cast<size_t>(blocks * rows * s.options.shape.head_dim) * sizeof(bf16);
  };
  s.begun.record(stream);
  s.begun.hold(s.travel);
  for (Stream& c : s.compute) s.begun.hold(c);
  int64_t here = layer.kv_row;
  // The other lanes have enough to do meanwhile to hide the first transfer.
  const bool hold = s.plan.shards > 1 && s.lanes.size() > 1;
  const Call* held = nullptr;
  std::vector<int> done(s.lanes.size());
  const auto attend = [&](const Call& call, bool local) {
    s.attend(layer, call, local, done[call.lane]++, s.compute[call.lane > 0]);
  };
  for (int h = 0; h < s.plan.shards; ++h) {
    const bool last = h == s.plan.shards - 1;
    if (!last) {
      // The buffer that fills now was attended to at the hop before.
      if (h >= 2) {
        for (Event& done : s.attended[h - 1]) done.hold(s.travel);
      }
      const int64_t next = s.buffer_row(h);
      link.step({number + h, s.at_row(here), bytes(s.plan.hops[h].sends), s.at_row(next),
                 bytes(s.plan.hops[h + 1].here)},
                s.travel);
      s.arrived[h].record(s.travel);
      here = next;
    }
    if (h > 0) {
      for (Stream& c : s.compute) s.arrived[h - 1].hold(c);
    }
    if (last) s.last_hop.record(s.compute[1]);
    for (const Call& call : s.calls[h]) {
      if (h == 0 && call.lane == 0 && hold)
        held = &call;
      else
        attend(call, h == 0);
    }
    if (last && held) {
      s.last_hop.hold(s.compute[0]);
      attend(*held, true);
    }
    for (int i = 0; i < 2; ++i) s.attended[h][i].record(s.compute[i]);
  }
  for (Event& done : s.attended[s.plan.shards - 1]) done.hold(stream);
  if (s.plan.shards > 1) s.arrived[s.plan.shards - 2].hold(stream);
  return number + s.plan.steps();
}

}  // namespace ringtide::kernels::cuda
