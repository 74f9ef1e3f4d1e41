// Rings of GPUs against one shard in float64. Over copy engines, shards may share a device, so that
// much runs on one GPU; NCCL wants one each.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <csignal>
#include <cstdlib>

#ifdef RINGTIDE_NCCL
#include "kernels/cuda/nccl_ring.h"
#endif
#include "kernels/cuda/peer_ring.h"
#include "kernels/cuda/ring_decode.h"
#include "kernels/cuda/ring_prefill.h"
#include "kernels/ring/plan.h"
#include "tests/kernels/cuda/ring_sequence.h"

namespace ringtide::kernels::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int64_t kPartFloats = 3 * 32 * 129;  // of three rows of the largest shape

// Makes a shard's end, in that shard's thread.
using MakeLink = std::function<RingLink*(int shard)>;

struct CudaRing : DeviceTest {
  static int devices() {
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
  }
  // Devices of P shards: in turn.
  static std::vector<int> deal(int shards) {
    std::vector<int> d(shards);
    for (int s = 0; s < shards; ++s) d[s] = s % devices();
    return d;
  }
  // Shards on the device that has most of them.
  static int64_t most_on_a_device(const std::vector<int>& on) {
    int64_t most = 0;
    for (const int device : on)
      most = std::max<int64_t>(most, std::count(on.begin(), on.end(), device));
    return most;
  }

  // Tokens appended in two parts; the second attends to all. Its results against float64.
  void expect_prefill(const Heads& shape, int unit, int64_t past, int64_t fresh,
                      const std::vector<int>& on, const MakeLink& link) {
    const RingSequence s(random, shape, unit, past + fresh);
    const int shards = static_cast<int>(on.size());
    ring::Placement placement(shards, unit);
    placement.append(past);
    placement.append(fresh);
    const ring::Tokens range{past, past + fresh};
    std::vector<std::vector<bf16>> o(shards);
    std::vector<std::vector<float>> lse(shards);
    const auto thrown = on_devices(on, [&](int shard) {
      RingLink& end = *link(shard);
      const ring::Plan plan = make_plan(placement, range, ring::Mode::PassKv, shard);
      const std::vector<bf16> local = s.planes(placement.blocks_of(shard));
      const auto local_rows = static_cast<int64_t>(local.size()) / shape.head_dim;
      const int64_t rows = local_rows + ring_prefill_rows(plan, shape);
      ArenaMemory arena(rows * shape.head_dim);
      check(cudaMemcpy(arena.data(), local.data(), local.size() * 2, cudaMemcpyDefault), "copy");
      Device<bf16> q(s.queries(placement.runs(shard, range))), out(plan.queries * s.width());
      Device<float> out_lse(plan.queries * shape.heads);
      Device<float> scratch(ring_prefill_scratch(plan, shape));
      RingPrefillOptions options;
      options.shape = shape;
      options.scale = s.scale;
      options.arena = {arena.data(), rows};
      options.receive_row = local_rows;
      options.scratch = scratch;
      RingPrefill prefill(plan, options);
      RingLayer layer;
      layer.q = q;
      layer.q_stride = s.width();
      layer.o = out;
      layer.lse = out_lse;
      uint64_t number = 0;
      // Twice: buffers and events are used again.
      for (int i = 0; i < 2; ++i) number = prefill.run(layer, number, end, own_stream());
      end.finish(own_stream());
      o[shard] = out.host();
      lse[shard] = out_lse.host();
    });
    for (const auto& what : thrown) ASSERT_EQ(what, "");
    for (int shard = 0; shard < shards; ++shard) {
      std::vector<int64_t> positions;
      for (const ring::Tokens& run : placement.runs(shard, range))
        for (int64_t t = run.begin; t < run.end; ++t) positions.push_back(t);
      for (int i = 0; i < 16 && !positions.empty(); ++i) {
        const int64_t row = i == 0   ? 0
                            : i == 1 ? static_cast<int64_t>(positions.size()) - 1
                                     : between(random, 0, positions.size() - 1);
        const int head = static_cast<int>(between(random, 0, shape.heads - 1));
        expect_row(s, positions[row], head, o[shard].data() + row * s.width(),
                   lse[shard].data() + row * shape.heads);
        if (HasFailure()) FAIL() << "shard " << shard << " of " << shards;
      }
    }
  }

  void expect_decode(const Heads& shape, int unit, int64_t tokens, const std::vector<int>& on,
                     const MakeLink& link) {
    const RingSequence s(random, shape, unit, tokens);
    const int shards = static_cast<int>(on.size());
    ring::Placement placement(shards, unit);
    placement.append(tokens);
    const std::vector<int64_t> positions = {tokens - 1, tokens / 2, 0};
    std::vector<bf16> q;
    for (int64_t p : positions)
      q.insert(q.end(), s.q.begin() + p * s.width(), s.q.begin() + (p + 1) * s.width());
    const auto rows = static_cast<int32_t>(positions.size());
    // Memory is not taken while another shard's exchange may run on the same device.
    std::barrier ready(shards);
    std::vector<std::vector<bf16>> o(shards);
    std::vector<std::vector<float>> lse(shards);
    const auto thrown = on_devices(on, [&](int shard) {
      RingLink& end = *link(shard);
      const auto& blocks = placement.blocks_of(shard);
      const std::vector<bf16> local = s.planes(blocks);
      ArenaMemory arena(static_cast<int64_t>(local.size()));
      check(cudaMemcpy(arena.data(), local.data(), local.size() * 2, cudaMemcpyDefault), "copy");
      Device<KvRef> refs(s.refs(blocks));
      const auto n = static_cast<int32_t>(blocks.size());
      Device<int32_t> count(std::vector{n});
      Lists lists;
      lists.near = {refs, count, n, 0};
      Device<Lists> all_lists(std::vector<Lists>(rows, lists));
      Device<Band> bands{std::vector<Band>(rows)};
      Device<int64_t> at(positions);
      Device<bf16> device_q(q), out(rows * s.width());
      Device<float> out_lse(rows * shape.heads), part(ring_part_floats(shape, rows));
      Device<float> scratch(decode_attention_scratch(shape, rows, n));
      RingDecode a;
      a.local.shape = shape;
      a.local.unit = unit;
      a.local.arena = {arena.data(), static_cast<int64_t>(local.size()) / shape.head_dim};
      a.local.rows = rows;
      a.local.q_near = a.local.q_far = device_q;
      a.local.position = at;
      a.local.lists = all_lists;
      a.local.max_near = n;
      a.local.near_band = a.local.far_band = bands;
      a.local.scale = s.scale;
      a.local.scratch = scratch;
      a.part = part;
      a.o = out;
      a.lse = out_lse;
      check(cudaDeviceSynchronize(), "inputs");
      ready.arrive_and_wait();
      for (int i = 0; i < 3; ++i) ring_decode(a, end, own_stream());
      end.finish(own_stream());
      o[shard] = out.host();
      lse[shard] = out_lse.host();
    });
    for (int shard = 0; shard < shards; ++shard) {
      ASSERT_EQ(thrown[shard], "");
      ASSERT_TRUE(same_bits(o[shard], o[0]) && same_bits(lse[shard], lse[0])) << "shards differ";
    }
    for (int i = 0; i < rows; ++i)
      for (int h = 0; h < shape.heads; ++h)
        expect_row(s, positions[i], h, o[0].data() + i * s.width(),
                   lse[0].data() + i * shape.heads);
  }

  void expect_row(const RingSequence& s, int64_t position, int head, const bf16* o,
                  const float* lse) {
    std::vector<double> want;
    double want_lse = 0;
    s.slow(position, head, want, want_lse);
    const int dim = s.shape.head_dim;
    EXPECT_NEAR(lse[head], want_lse, 1e-4) << "query " << position << " head " << head;
    EXPECT_LT(error(std::vector<bf16>(o + head * dim, o + (head + 1) * dim), want), 6e-3)
        << "query " << position << " head " << head;
  }

  // Every shape and uneven lengths, with and without a past.
  void expect_all(const std::vector<int>& on, const std::function<MakeLink()>& ring) {
    for (const Heads& shape :
         {Heads{32, 8, 128}, Heads{9, 3, 64}, Heads{8, 8, 64}, Heads{4, 1, 256}}) {
      for (int64_t past : {int64_t{0}, between(random, 1, 800)}) {
        const int unit = past % 2 ? 64 : 128;
        const int64_t fresh = between(random, 1, 1300);
        SCOPED_TRACE(std::to_string(on.size()) + " shards, " + std::to_string(shape.heads) + "/" +
                     std::to_string(shape.kv_heads) + ", " + std::to_string(fresh) + " after " +
                     std::to_string(past) + ", unit " + std::to_string(unit));
        expect_prefill(shape, unit, past, fresh, on, ring());
        if (HasFailure()) return;
        // Kernels of decoding wait for each other: those of two shards of a GPU run at once, those of
        // more need not, and of four were seen not to now and then.
        if (most_on_a_device(on) <= 2) expect_decode(shape, unit, past + fresh, on, ring());
        if (HasFailure()) return;
      }
    }
  }
};

TEST_F(CudaRing, OverCopyEnginesEqualsOneShard) {
  for (int shards = 1; shards <= 5; ++shards) {
    const std::vector<int> on = deal(shards);
    std::unique_ptr<PeerRing> ring;
    expect_all(on, [&] {
      ring = std::make_unique<PeerRing>(on, milliseconds(20000), kPartFloats);
      return [&](int s) { return &ring->at(s); };
    });
    if (HasFailure()) return;
  }
}

// Exchanges of few rows and of many, one after the other, with queries of which one shard or both
// have seen nothing: the bits of parts that are merged where they are.
TEST_F(CudaRing, ExchangesOfAnySizeAreMergesOfTheirParts) {
  const std::vector<int> on = deal(2);
  for (const Heads& shape : {Heads{32, 8, 128}, Heads{9, 3, 64}, Heads{4, 1, 256}}) {
    PeerRing ring(on, milliseconds(20000), ring_part_floats(shape, 512));
    for (const int rows : {1, 3, 64, 511, 512}) {
      const int64_t queries = int64_t{rows} * shape.heads, values = queries * shape.head_dim;
      const int64_t part = ring_part_floats(shape, rows);
      std::vector<float> parts = normals(random, 2 * part);
      for (int64_t q = 0; q < queries; ++q) {
        if (q % 5 < 2) parts[values + q] = -INFINITY;
        if (q % 7 < 2) parts[part + values + q] = -INFINITY;
      }
      std::barrier ready(2);
      const auto thrown = on_devices(on, [&](int s) {
        Device<float> all(parts), lse(queries), want_lse(queries);
        Device<bf16> merged(values), want(values);
        RingMerge a{.shape = shape,
                    .rows = rows,
                    .o = all + s * part,
                    .lse = all + (s * part + values),
                    .merged = want,
                    .merged_lse = want_lse};
        merge_parts(all, 2, a, own_stream());
        a.merged = merged;
        a.merged_lse = lse;
        check(cudaDeviceSynchronize(), "inputs");
        ready.arrive_and_wait();
        for (int i = 0; i < 3; ++i) ring.at(s).merge(a, own_stream());
        ring.at(s).finish(own_stream());
        EXPECT_TRUE(same_bits(merged.host(), want.host()) && same_bits(lse.host(), want_lse.host()))
            << rows << " rows of " << shape.heads;
        ready.arrive_and_wait();
      });
      for (const std::string& why : thrown) ASSERT_EQ(why, "");
    }
  }
}

TEST_F(CudaRing, PassQIsRefused) {
  ring::Placement placement(2, 128);
  placement.append(300);
  EXPECT_THROW(RingPrefill(make_plan(placement, {0, 300}, ring::Mode::PassQ, 0), {}),
               std::invalid_argument);
}

TEST_F(CudaRing, ASilentPeerEndsInAnErrorOverCopyEngines) {
  const std::vector<int> on = deal(2);
  PeerRing ring(on, milliseconds(200));
  const auto began = Clock::now();
  const auto thrown = on_devices(on, [&](int s) {
    if (s == 1) return;
    Device<float> x(64), y(64);
    ring.at(s).step({0, x.data(), 256, y.data(), 256}, own_stream());
  });
  EXPECT_LT(Clock::now() - began, milliseconds(5000));
  EXPECT_EQ(thrown[0], "shard 0 got nothing from shard 1 at step 0 within 200 ms");
}

#ifdef RINGTIDE_NCCL
struct CudaRingNccl : CudaRing {
  void SetUp() override {
    CudaRing::SetUp();
    if (!IsSkipped() && devices() < 2) GTEST_SKIP() << "needs 2 GPUs";
  }
};

TEST_F(CudaRingNccl, EqualsOneShard) {
  const std::vector<int> on = deal(devices());
  std::vector<std::unique_ptr<RingLink>> ends(on.size());
  expect_all(on, [&] {
    for (auto& end : ends) end.reset();
    const NcclId id = make_nccl_id();
    return [&, id](int s) {
      ends[s] = make_nccl_ring(id, s, static_cast<int>(on.size()), {milliseconds(20000), 8, kPartFloats});
      return ends[s].get();
    };
  });
}

TEST_F(CudaRingNccl, APeerThatDoesNotJoinEndsInAnError) {
  const NcclId id = make_nccl_id();
  const auto began = Clock::now();
  const auto thrown = on_devices({0, 1}, [&](int s) {
    if (s == 0) make_nccl_ring(id, 0, 2, {milliseconds(1500), 0});
  });
  EXPECT_LT(Clock::now() - began, milliseconds(10000));
  EXPECT_NE(thrown[0].find("joining the ring did not end within 1500 ms"), std::string::npos)
      << thrown[0];
}

constexpr const char* kPeer = "RINGTIDE_TEST_PEER";

// Shard 1 in a process of its own: so many steps, then silence, until it is killed.
class PeerProcess {
 public:
  PeerProcess(const NcclId& id, int steps) {
    std::string role = std::string(kPeer) + "=" + std::to_string(steps) + ":";
    for (const char c : id) {
      constexpr const char* kDigits = "0123456789abcdef";
      role += kDigits[static_cast<unsigned char>(c) >> 4];
      role += kDigits[static_cast<unsigned char>(c) & 15];
    }
    std::vector<char*> with;
    for (char** e = environ; *e; ++e) with.push_back(*e);
    with.push_back(role.data());
    with.push_back(nullptr);
    char self[] = "/proc/self/exe", filter[] = "--gtest_filter=CudaRingNcclPeer.Runs";
    char* const arguments[] = {self, filter, nullptr};
    EXPECT_EQ(posix_spawn(&pid_, self, nullptr, nullptr, arguments, with.data()), 0);
  }
  ~PeerProcess() { end(); }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

// What a transfer may still touch is not freed: it stays where a step fails.
void take_steps(RingLink& link, int n) {
  const size_t bytes = 4 << 20;
  void *x = nullptr, *y = nullptr;
  check(cudaMalloc(&x, bytes), "cudaMalloc");
  check(cudaMalloc(&y, bytes), "cudaMalloc");
  for (int i = 0; i < n; ++i)
    link.step({static_cast<uint64_t>(i), x, bytes, y, bytes}, own_stream());
  link.finish(own_stream());
  cudaFree(x);
  cudaFree(y);
}

TEST(CudaRingNcclPeer, Runs) {
  const char* role = std::getenv(kPeer);
  if (!role) GTEST_SKIP() << "the other process of other tests";
  NcclId id;
  char* hex = nullptr;
  const int steps = static_cast<int>(std::strtol(role, &hex, 10));
  for (size_t i = 0; i < id.size(); ++i)
    id[i] = static_cast<char>(std::stoi(std::string(hex + 1 + 2 * i, 2), nullptr, 16));
  check(cudaSetDevice(1), "cudaSetDevice");
  const auto link = make_nccl_ring(id, 1, 2, {milliseconds(20000), 4});
  take_steps(*link, steps);
  pause();
}

// The peer takes part in some steps, then never again, or dies: what runs is ended, and a new ring
// works.
TEST_F(CudaRingNccl, APeerThatFallsSilentEndsInAnErrorAndANewRingWorks) {
  for (const int good : {0, 2}) {
    for (const bool dies : {false, true}) {
      const NcclId id = make_nccl_id();
      PeerProcess peer(id, good);
      const auto thrown = on_devices({0}, [&](int) {
        const auto link = make_nccl_ring(id, 0, 2, {milliseconds(2500), 4});
        take_steps(*link, 0);
        std::thread killer([&] {
          if (!dies) return;
          std::this_thread::sleep_for(milliseconds(500));
          peer.end();
        });
        const auto began = Clock::now();
        std::string first;
        try {
          take_steps(*link, good + 1);
        } catch (const ring::RingError& e) {
          first = e.what();
        }
        EXPECT_LT(Clock::now() - began, milliseconds(4000));
        killer.join();
        EXPECT_NE(first, "") << "after " << good;
        try {
          link->finish(own_stream());
          ADD_FAILURE() << "the ring was over";
        } catch (const ring::RingError& e) {
          EXPECT_EQ(e.what(), first) << "what is over stays over, for the same reason";
        }
        std::printf("%d good steps, the peer %s: %s\n", good, dies ? "dies" : "is silent",
                    first.c_str());
        std::fflush(stdout);
      });
      EXPECT_EQ(thrown[0], "");
    }
  }
  const NcclId id = make_nccl_id();
  std::vector<std::unique_ptr<RingLink>> ends(2);
  expect_prefill({8, 2, 64}, 128, 0, 700, {0, 1}, [&](int s) {
    ends[s] = make_nccl_ring(id, s, 2, {milliseconds(20000), 0});
    return ends[s].get();
  });
}

// Threads of one process.
TEST_F(CudaRingNccl, AThreadThatFallsSilentEndsInAnError) {
  const NcclId id = make_nccl_id();
  std::vector<std::unique_ptr<RingLink>> ends(2);
  const auto began = Clock::now();
  const auto thrown = on_devices({0, 1}, [&](int s) {
    ends[s] = make_nccl_ring(id, s, 2, {milliseconds(3000), 4});
    take_steps(*ends[s], s == 1 ? 1 : 2);
  });
  EXPECT_LT(Clock::now() - began, milliseconds(20000));
  EXPECT_NE(thrown[0].find("did not end within 3000 ms"), std::string::npos) << thrown[0];
  EXPECT_EQ(thrown[1], "");
  ends[1]->abort("the ring is over");
}

TEST_F(CudaRingNccl, AnAbortEndsAWait) {
  const NcclId id = make_nccl_id();
  std::vector<std::unique_ptr<RingLink>> ends(2);
  const auto began = Clock::now();
  const auto thrown = on_devices({0, 1}, [&](int s) {
    ends[s] = make_nccl_ring(id, s, 2, {milliseconds(60000), 4});
    Device<float> x(64), y(64);
    for (int i = 0; i < 1 + (s == 0); ++i)
      ends[s]->step({static_cast<uint64_t>(i), x.data(), 256, y.data(), 256}, own_stream());
    if (s == 1) {
      ends[1]->finish(own_stream());
      std::this_thread::sleep_for(milliseconds(100));
      ends[0]->abort("shard 1 is lost");
      return;
    }
    ends[0]->finish(own_stream());
  });
  EXPECT_LT(Clock::now() - began, milliseconds(20000));
  EXPECT_NE(thrown[0].find("shard 1 is lost"), std::string::npos) << thrown[0];
}

TEST_F(CudaRingNccl, AStreamOfEachThreadIsRefused) {
  const NcclId id = make_nccl_id();
  const auto thrown = on_devices({0, 1}, [&](int s) {
    const auto end = make_nccl_ring(id, s, 2, {milliseconds(3000), 0});
    end->step({0, nullptr, 0, nullptr, 0}, cudaStreamPerThread);
  });
  for (const auto& what : thrown)
    EXPECT_NE(what.find("the same in all threads"), std::string::npos) << what;
}

TEST_F(CudaRingNccl, AStepOutOfTurnIsAnError) {
  const NcclId id = make_nccl_id();
  const auto thrown = on_devices({0, 1}, [&](int s) {
    const auto end = make_nccl_ring(id, s, 2, {milliseconds(3000), 0});
    end->step({1, nullptr, 0, nullptr, 0}, own_stream());
  });
  for (const auto& what : thrown)
    EXPECT_NE(what.find("step 1 begins out of turn"), std::string::npos) << what;
}
#endif

}  // namespace
}  // namespace ringtide::kernels::cuda
