// One layer's attention of one block: near part, far part, and what the index learns from it.
//
// Every key of the prefix is seen by a query exactly once or not at all:
//   near: pages not sealed, distance < window;
//   far:  distance >= window, of sinks, of pages not sealed ("overflow"), of selected units.
// Under policies of true distance, far and near share one rotation and overflow counts as near.
//
// In a layer that slides a window of its own, a query sees the keys in that window at their true
// distance and no others, whatever the policy: no sinks, no lookup. A window longer than the
// policy's reaches into sealed units, and these are read like selected ones.
//
// On a ring each shard attends with the keys of its own pages, and the partial results are merged
// (shard_ring.h). What is missing on one shard is made again by all.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "model/context.h"
#include "model/group_reader.h"
#include "model/key_rotations.h"
#include "model/shard_ring.h"

namespace ringtide::model {

// Rows of one context: an execution block, already begun. Those of one context in a pass are next
// to each other, in order.
struct Segment {
  Context* context = nullptr;
  std::span<const TokenId> tokens;
  int64_t position = 0;  // of its first token
};

class ContextAttention {
 public:
  // `cache` reads the units of this shard; `store` gives those of all. Null `ring`: all is here.
  ContextAttention(UnitCache& cache, UnitStore& store, kernels::ThreadPool& threads,
                   const Recover& recover, ShardRing* ring = nullptr)
      : cache_(cache),
        threads_(threads),
        recover_(recover),
        ring_(ring),
        groups_(cache, store, recover) {}

  // How a block whose rows are split is attended with: keys and values come to all shards, which
  // attend for their own rows ("pass-KV"), or queries do, of all rows, and partial results go back
  // ("pass-Q"): what moves fewer bytes.
  bool keys_travel(const Segment& block, int layer) const;
  // q (rows, heads, head_dim) of the segments' blocks, before RoPE, of all rows, or of those in
  // `own` where keys travel; the layer's keys and values are put already. Writes o (rows, heads,
  // head_dim), of the rows in `own` where rows are split, else of all. q is left rotated.
  void run(std::span<const Segment> segments, int layer, RowRange own, bool keys_travel, float* q,
           float* o);

 private:
  // A segment in the course of run().
  struct Part {
    Context* context;
    int64_t position, tokens;      // of the block
    int64_t row;                   // its first
    int64_t begin, count;          // of its rows, those that are computed here
    std::vector<int64_t> units;    // attended to besides pages
    std::vector<int64_t> missing;  // of them
    std::vector<int64_t> missing_groups;
    std::set<int64_t> recovered;
  };
  void turn(Part& part, int layer, float* q, float* mean);
  void learn(const Part& part, int layer, const float* q);
  // (o, lse_) of the part's rows over what lies here.
  void attend(Part& part, int layer, const float* q, const float* mean, float* o, bool first);
  void attend_to(const Part& part, const float* q, std::span<const kernels::KvBlock> blocks,
                 kernels::Band band, float* o, float* lse);
  // The first page that is near the block, where far and near are rotated differently.
  static int64_t first_near(const Context& context, int64_t position);
  void near(const Part& part, int layer, int64_t first, std::vector<kernels::KvBlock>& blocks);
  void far_pages(const Part& part, int layer, std::vector<kernels::KvBlock>& blocks);
  // Has the keys of page or unit `number` turned by their places, as layers that slide or do not.
  void turn_keys(const Context& context, int64_t number, bool sliding, kernels::KvBlock& block);
  void units(Part& part, int layer, std::span<const int64_t> units, bool first,
             std::vector<kernels::KvBlock>& blocks);
  void slide(Part& part, int layer, const float* q, float* o, bool first);
  void merge_far(Part& part, int layer, const float* q, kernels::Band band, float* o, bool first);
  void select(Part& part, int layer, const float* mean);
  // Keys and values of a page, that is here or visits; null: neither.
  const std::byte* keys_of(Context& context, int layer, int64_t page) const;
  // Makes pages from `first` on visit, and page 0 if its sinks are wanted.
  void collect_pages(const Part& part, int layer, int64_t first, bool sinks);
  // keys[i]: of page or unit numbers[i], in: of this shard's, out: of all.
  void collect(const Context& context, std::span<const int64_t> numbers,
               std::vector<const std::byte*>& keys);
  // Merges the shards' results. False: something is missing somewhere; parts say what.
  bool complete(int layer, RowRange own, int64_t rows, float* o);
  void recover(Part& part, int layer);

  UnitCache& cache_;
  kernels::ThreadPool& threads_;
  Recover recover_;
  ShardRing* ring_;
  GroupReader groups_;
  std::vector<Part> parts_;
  std::vector<kernels::KvBlock> blocks_;
  KeyRotations rotations_[2];  // of layers that do not slide, that do
  std::vector<UnitCache::Want> wants_;
  std::vector<int64_t> here_;  // units whose payload is attended to on this shard
  std::vector<const std::byte*> keys_;
  bool keys_travel_ = false;                      // in this run
  std::map<int64_t, const std::byte*> visiting_;  // pages of other shards, and where they are
  std::vector<std::byte> visiting_bytes_;
  std::vector<float> far_q_, o2_, lse_, lse2_, means_, scratch_;
};

}  // namespace ringtide::model
