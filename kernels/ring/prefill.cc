#include "kernels/ring/prefill.h"

#include <algorithm>
#include <limits>

namespace ringtide::kernels::ring {
namespace {

std::span<const std::byte> bytes_of(const float* x, int64_t n) {
  return std::as_bytes(std::span(x, static_cast<size_t>(n)));
}
std::span<std::byte> bytes_of(float* x, int64_t n) {
  return std::as_writable_bytes(std::span(x, static_cast<size_t>(n)));
}

}  // namespace

Prefill::Prefill(Plan plan, const LayerShape& shape) : plan_(std::move(plan)), shape_(shape) {
  const HeadShape& h = shape_.heads;
  row_ = int64_t{h.heads} * h.head_dim;
  block_bytes_ = int64_t{2} * h.kv_heads * plan_.unit * h.head_dim * kv_bytes(shape_.type);
  const int64_t partials = plan_.visiting_queries * (row_ + h.heads);
  if (plan_.shards > 1) here_.resize(partials);
  if (plan_.mode == Mode::PassKv) {
    for (auto& kv : kv_here_) kv.resize(plan_.visiting_blocks * block_bytes_);
  } else if (plan_.shards > 1) {
    for (auto& q : q_here_) q.resize(plan_.visiting_queries * row_);
    sent_.resize(partials);
    came_.resize(partials);
  }
}

uint64_t Prefill::run(const void* kv, const float* q, float* o, float* lse, uint64_t number,
                      Transport& transport, ThreadPool& threads) {
  if (transport.shard() != plan_.shard || transport.shards() != plan_.shards)
    throw RingError("the plan of shard " + std::to_string(plan_.shard) + " of " +
                    std::to_string(plan_.shards) + " is not for shard " +
                    std::to_string(transport.shard()) + " of " +
                    std::to_string(transport.shards()));
  if (plan_.mode == Mode::PassKv)
    pass_kv(kv, q, o, lse, number, transport, threads);
  else
    pass_q(kv, q, o, lse, number, transport, threads);
  return number + plan_.steps();
}

void Prefill::attend_hop(const Hop& hop, int64_t queries, const std::byte* kv, const float* q,
                         float* o, float* lse, ThreadPool& threads) {
  const HeadShape& heads = shape_.heads;
  const int unit = plan_.unit;
  std::fill_n(o, queries * row_, 0.0f);
  std::fill_n(lse, queries * heads.heads, -std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < hop.pieces.size();) {
    const Piece first = hop.pieces[i];
    blocks_.clear();
    for (; i < hop.pieces.size() && hop.pieces[i].query_row == first.query_row; ++i) {
      const Piece& piece = hop.pieces[i];
      int64_t index = piece.key_block;
      for (int64_t at = piece.keys.begin; at < piece.keys.end; ++index) {
        KvBlock block;
        block.k = kv + index * block_bytes_;
        block.v = kv + index * block_bytes_ + block_bytes_ / 2;
        block.type = shape_.type;
        block.capacity = unit;
        block.position = at / unit * unit;
        block.begin = static_cast<int32_t>(at - block.position);
        block.end = static_cast<int32_t>(std::min<int64_t>(piece.keys.end - block.position, unit));
        at = block.position + unit;
        blocks_.push_back(block);
      }
    }
    attend(heads, q + first.query_row * row_, first.queries.begin, first.queries.size(), blocks_,
           {}, shape_.scale, o + first.query_row * row_, lse + first.query_row * heads.heads,
           threads);
  }
}

void Prefill::pass_kv(const void* kv, const float* q, float* o, float* lse, uint64_t number,
                      Transport& transport, ThreadPool& threads) {
  const HeadShape& heads = shape_.heads;
  const int64_t rows = plan_.queries * heads.heads;
  auto* here = static_cast<const std::byte*>(kv);
  for (int h = 0; h < plan_.shards; ++h) {
    const Hop& hop = plan_.hops[h];
    const bool last = h == plan_.shards - 1;
    std::byte* const next = kv_here_[h % 2].data();
    if (!last) {
      transport.post({number + h,
                      {here, static_cast<size_t>(hop.sends * block_bytes_)},
                      {next, static_cast<size_t>(plan_.hops[h + 1].here * block_bytes_)}});
    }
    if (h == 0) {
      attend_hop(hop, plan_.queries, here, q, o, lse, threads);
    } else if (!hop.pieces.empty()) {
      float* const lse_here = here_.data() + plan_.queries * row_;
      attend_hop(hop, plan_.queries, here, q, here_.data(), lse_here, threads);
      merge(o, lse, here_.data(), lse_here, rows, heads.head_dim, threads);
    }
    if (!last) transport.wait(number + h);
    here = next;
  }
}

void Prefill::pass_q(const void* kv, const float* q, float* o, float* lse, uint64_t number,
                     Transport& transport, ThreadPool& threads) {
  const HeadShape& heads = shape_.heads;
  const auto* keys = static_cast<const std::byte*>(kv);
  const int last = plan_.shards - 1;
  const auto partial = [&](int64_t queries) { return queries * (row_ + heads.heads); };
  const auto merge_into = [&](float* into, float* into_lse, const float* from, int64_t queries) {
    merge(into, into_lse, from, from + queries * row_, queries * heads.heads, heads.head_dim,
          threads);
  };
  // Numbers in this order: queries of hop 0, then of hop h and partial results of hop h, h from 1.
  const auto queries_step = [&](int h) { return number + (h == 0 ? 0 : 2 * h - 1); };
  const auto partials_step = [&](int h) { return number + (h == last ? 2 * h - 1 : 2 * h); };
  const float* here = q;
  for (int h = 0; h <= last; ++h) {
    const Hop& hop = plan_.hops[h];
    const int64_t queries = hop.here;
    if (h < last) {
      transport.post({queries_step(h), bytes_of(here, hop.sends * row_),
                      bytes_of(q_here_[h % 2].data(), plan_.hops[h + 1].here * row_)});
    }
    if (h == 0) {
      attend_hop(hop, queries, keys, here, o, lse, threads);
    } else {
      attend_hop(hop, queries, keys, here, here_.data(), here_.data() + queries * row_, threads);
      if (h > 1) {
        transport.wait(partials_step(h - 1));
        merge_into(here_.data(), here_.data() + queries * row_, came_.data(), queries);
      }
      std::swap(sent_, here_);
      // Of the queries that the previous shard has here: those of the next hop, at last our own.
      const int64_t come = h == last ? plan_.queries : plan_.hops[h + 1].here;
      transport.post({partials_step(h), bytes_of(sent_.data(), partial(queries)),
                      bytes_of(came_.data(), partial(come))});
    }
    if (h < last) transport.wait(queries_step(h));
    here = q_here_[h % 2].data();
  }
  if (last > 0) {
    transport.wait(partials_step(last));
    merge_into(o, lse, came_.data(), plan_.queries);
  }
}

}  // namespace ringtide::kernels::ring
