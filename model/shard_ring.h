// What the passes of a ring's engines exchange. Every shard's engine makes the same calls in the
// same order, so each of these is made by all shards at the same place, with the same sizes.
//
// A block of many rows is computed by all shards together, each its part of the rows; of few rows
// each shard computes all, or, where weights are large, its part of every row's outputs. Each
// attends with the keys that lie here, for all rows, and partial results are merged: on the shard
// whose row it is, or on every shard in the order of the shards, so that all have the same bits. Or,
// while the past is short, keys come to the rows. All of this follows from lengths and shapes alone.
//
// Everything throws RingError, after which the ring is over. The engine's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/threads.h"
#include "model/shard_transport.h"

namespace ringtide::model {

struct RowRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

class ShardRing {
 public:
  // `transport` is at its step 0. exchange_bytes, unit_copies: engine.h.
  ShardRing(ShardTransport& transport, int64_t exchange_bytes, int unit_copies)
      : transport_(transport), exchange_bytes_(exchange_bytes), unit_copies_(unit_copies) {}

  int shard() const { return transport_.shard(); }
  int shards() const { return transport_.shards(); }
  int unit_copies() const { return unit_copies_; }

  // Whether the rows of a block of this length are split.
  bool splits(int64_t rows) const { return shards() > 1 && rows >= least_split(); }
  int64_t least_split() const { return kLeastRows * shards(); }
  RowRange rows_of(int shard, int64_t rows) const {
    return {rows * shard / shards(), rows * (shard + 1) / shards()};
  }

  // Gives everybody's `mine`, one after another; equally many bytes of each shard. Holds until the
  // next call of anything here.
  std::span<const std::byte> gather(std::span<const std::byte> mine);
  // The numbers of all shards, in the order of the shards; any count of each.
  std::vector<int64_t> gather_numbers(std::span<const int64_t> mine);

  // -- split rows ----
  struct Columns {
    float* data;  // (rows, width)
    int64_t width;
  };
  // Every shard's rows of each of these, of which it has its own, to all.
  void share(std::span<const Columns> columns, int64_t rows);
  // Chunks of `bytes` bytes, of which each shard has its own: chunks[i] is owners[i]'s. In: those
  // of this shard, null where it misses one; out: all, as gather() gives them, zeros for a missing
  // one.
  void share_chunks(std::span<const int> owners, int64_t bytes,
                    std::vector<const std::byte*>& chunks);
  // The last of the rows (rows, width), which the last shard has, to all.
  void share_last(float* rows, int64_t width, int64_t count);
  // (o, lse) of all rows as this shard's keys give them become those of all keys, of its own rows;
  // the others are void.
  void merge_to_owners(const kernels::HeadShape& shape, int64_t rows, float* o, float* lse,
                       kernels::ThreadPool& threads);

  // -- rows that all have ----
  // Whether so many exchanges are worth it where they spare each shard the reading of the others'
  // parts of `bytes` bytes of weights.
  bool splits_outputs(int64_t bytes, int exchanges) const {
    return bytes / shards() * (shards() - 1) >= exchanges * exchange_bytes_;
  }
  // Outputs of which each shard has computed a part (kernels::outputs_of), to all.
  struct Part {
    const float* own;  // (rows, outputs of this shard)
    float* all;        // (rows, width)
    int64_t width;
  };
  void share_outputs(std::span<const Part> parts, int64_t rows);
  // What a shard tells with its part of a layer.
  struct Note {
    uint32_t missing = 0;  // units and groups that it did not find
    uint32_t choice = 0;   // a hash of what it attended to: the same on all if none misses any
  };
  // Whether somebody misses something. Throws where choices differ.
  bool exchange(const Note& note);
  // The same with the partial results, which are merged unless something is missing.
  bool merge_everywhere(const Note& note, const kernels::HeadShape& shape, int64_t rows, float* o,
                        float* lse, kernels::ThreadPool& threads);

  // Throws what ended the ring, if anything has.
  void check_alive() const;
  // Runs `check`. An OutOfBudget or ModelError that it throws on some shards is thrown on all.
  void agree(const std::function<void()>& check);
  // Runs `body`. What it throws, but RingError, ends the ring: the others would wait for this
  // shard.
  void guard(const std::function<void()>& body);

 private:
  // Fewer rows a shard are not worth two exchanges a layer.
  static constexpr int64_t kLeastRows = 4;
  bool anything_missing(std::span<const Note> notes);

  ShardTransport& transport_;
  const int64_t exchange_bytes_;
  const int unit_copies_;
  uint64_t step_ = 0;
  std::string over_;  // why the ring has ended; empty: it has not
  std::vector<std::byte> mine_, all_;
  std::vector<float> sent_, came_;
};

}  // namespace ringtide::model
