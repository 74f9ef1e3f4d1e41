#include "model/shard_ring.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "kernels/matmul.h"
#include "model/engine.h"
#include "model/types.h"

namespace ringtide::model {
namespace {

std::string name(int shard) { return "shard " + std::to_string(shard); }

// The first n elements; what grows stays, so that it is not cleared again and again.
template <class T>
std::span<T> room(std::vector<T>& buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n);
  return {buffer.data(), n};
}

// How a shard's check ended, as it travels.
struct Verdict {
  enum class Kind : uint32_t { Fine, OutOfBudget, ModelError } kind = Kind::Fine;
  std::array<char, 508> why = {};
};

}  // namespace

std::span<const std::byte> ShardRing::gather(std::span<const std::byte> mine) {
  const std::span<std::byte> all = room(all_, mine.size() * shards());
  transport_.gather(step_++, mine, all);
  return all;
}

std::vector<int64_t> ShardRing::gather_numbers(std::span<const int64_t> mine) {
  const int64_t count = static_cast<int64_t>(mine.size());
  std::vector<int64_t> counts(shards()), padded(mine.begin(), mine.end());
  std::memcpy(counts.data(), gather(std::as_bytes(std::span(&count, 1))).data(),
              counts.size() * sizeof(int64_t));
  padded.resize(*std::max_element(counts.begin(), counts.end()));
  if (padded.empty()) return {};
  const std::span<const std::byte> all = gather(std::as_bytes(std::span(padded)));
  std::vector<int64_t> numbers;
  for (int s = 0; s < shards(); ++s) {
    const size_t at = numbers.size();
    numbers.resize(at + counts[s]);
    if (counts[s] > 0)
      std::memcpy(numbers.data() + at, all.data() + s * padded.size() * sizeof(int64_t),
                  counts[s] * sizeof(int64_t));
  }
  return numbers;
}

void ShardRing::share(std::span<const Columns> columns, int64_t rows) {
  int64_t width = 0, most = 0;
  for (const Columns& c : columns) width += c.width;
  for (int s = 0; s < shards(); ++s) most = std::max(most, rows_of(s, rows).size());
  const std::span<float> mine = room(sent_, most * width);
  const RowRange own = rows_of(shard(), rows);
  float* to = mine.data();
  for (const Columns& c : columns)
    to = std::copy_n(c.data + own.begin * c.width, own.size() * c.width, to);
  const auto all = gather(std::as_bytes(mine));
  for (int s = 0; s < shards(); ++s) {
    if (s == shard()) continue;
    const RowRange of = rows_of(s, rows);
    const std::byte* from = all.data() + s * mine.size_bytes();
    for (const Columns& c : columns) {
      const size_t bytes = of.size() * c.width * sizeof(float);
      std::memcpy(c.data + of.begin * c.width, from, bytes);
      from += bytes;
    }
  }
}

void ShardRing::share_chunks(std::span<const int> owners, int64_t bytes,
                             std::vector<const std::byte*>& chunks) {
  std::vector<int64_t> given(shards());
  mine_.clear();
  for (size_t i = 0; i < owners.size(); ++i) {
    ++given[owners[i]];
    if (owners[i] != shard()) continue;
    if (chunks[i])
      mine_.insert(mine_.end(), chunks[i], chunks[i] + bytes);
    else
      mine_.resize(mine_.size() + bytes);
  }
  mine_.resize(*std::max_element(given.begin(), given.end()) * bytes);
  const std::byte* const all = gather(mine_).data();
  std::fill(given.begin(), given.end(), 0);
  for (size_t i = 0; i < owners.size(); ++i)
    chunks[i] = all + owners[i] * mine_.size() + given[owners[i]]++ * bytes;
}

void ShardRing::share_last(float* rows, int64_t width, int64_t count) {
  const size_t bytes = width * sizeof(float);
  const RowRange own = rows_of(shard(), count);
  const auto all = gather(std::as_bytes(std::span(rows + (own.end - 1) * width, width)));
  std::memcpy(rows + (count - 1) * width, all.data() + (shards() - 1) * bytes, bytes);
}

void ShardRing::share_outputs(std::span<const Part> parts, int64_t rows) {
  const auto columns = [&](const Part& p, int s) {
    return kernels::outputs_of(p.width, s, shards());
  };
  int64_t most = 0;
  for (int s = 0; s < shards(); ++s) {
    int64_t width = 0;
    for (const Part& p : parts) width += columns(p, s).size();
    most = std::max(most, width);
  }
  const std::span<float> mine = room(sent_, most * rows);
  float* to = mine.data();
  for (const Part& p : parts) to = std::copy_n(p.own, columns(p, shard()).size() * rows, to);
  const auto all = gather(std::as_bytes(mine));
  for (int s = 0; s < shards(); ++s) {
    const std::byte* from = all.data() + s * mine.size_bytes();
    for (const Part& p : parts) {
      const kernels::Outputs of = columns(p, s);
      const size_t bytes = of.size() * sizeof(float);
      for (int64_t r = 0; r < rows; ++r, from += bytes)
        std::memcpy(p.all + r * p.width + of.begin, from, bytes);
    }
  }
}

// Partial results of a shard's rows start at the shard after it and go around, each adding its own.
void ShardRing::merge_to_owners(const kernels::HeadShape& shape, int64_t rows, float* o, float* lse,
                                kernels::ThreadPool& threads) {
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  const int n = shards();
  const auto owner = [&](int behind) { return (shard() - behind + 2 * n) % n; };
  for (int hop = 0; hop < n - 1; ++hop) {
    const RowRange give = rows_of(owner(hop + 1), rows), take = rows_of(owner(hop + 2), rows);
    const auto sent = room(sent_, give.size() * (row + shape.heads));
    const auto came = room(came_, take.size() * (row + shape.heads));
    std::copy_n(lse + give.begin * shape.heads, give.size() * shape.heads,
                std::copy_n(o + give.begin * row, give.size() * row, sent.data()));
    transport_.post({step_, std::as_bytes(sent), std::as_writable_bytes(came)});
    transport_.wait(step_++);
    kernels::merge(o + take.begin * row, lse + take.begin * shape.heads, came.data(),
                   came.data() + take.size() * row, take.size() * shape.heads, shape.head_dim,
                   threads);
  }
}

bool ShardRing::anything_missing(std::span<const Note> notes) {
  if (std::ranges::any_of(notes, [](const Note& note) { return note.missing > 0; })) return true;
  for (int s = 0; s < shards(); ++s) {
    if (notes[s].choice == notes[0].choice) continue;
    const std::string why = name(s) + " and " + name(0) +
                            " do not attend to the same units of a context: shards must be of one "
                            "build, and of processors with the same vector instructions";
    transport_.abort(why);
    throw RingError(why);
  }
  return false;
}

bool ShardRing::exchange(const Note& note) {
  std::vector<Note> notes(shards());
  std::memcpy(notes.data(), gather(std::as_bytes(std::span(&note, 1))).data(),
              notes.size() * sizeof(Note));
  return anything_missing(notes);
}

bool ShardRing::merge_everywhere(const Note& note, const kernels::HeadShape& shape, int64_t rows,
                                 float* o, float* lse, kernels::ThreadPool& threads) {
  const int64_t row = int64_t{shape.heads} * shape.head_dim;
  const size_t o_bytes = rows * row * sizeof(float), lse_bytes = rows * shape.heads * sizeof(float);
  const std::span<std::byte> mine = room(mine_, o_bytes + lse_bytes + sizeof(Note));
  std::memcpy(mine.data(), o, o_bytes);
  std::memcpy(mine.data() + o_bytes, lse, lse_bytes);
  std::memcpy(mine.data() + o_bytes + lse_bytes, &note, sizeof(Note));
  const std::span<const std::byte> all = gather(mine);
  std::vector<Note> notes(shards());
  for (int s = 0; s < shards(); ++s)
    std::memcpy(&notes[s], all.data() + (s + 1) * mine.size() - sizeof(Note), sizeof(Note));
  if (anything_missing(notes)) return true;
  std::memcpy(o, all.data(), o_bytes);
  std::memcpy(lse, all.data() + o_bytes, lse_bytes);
  for (int s = 1; s < shards(); ++s) {
    // Sizes of float: what is gathered is aligned for them.
    const auto* from = reinterpret_cast<const float*>(all.data() + s * mine.size());
    kernels::merge(o, lse, from, from + rows * row, rows * shape.heads, shape.head_dim, threads);
  }
  return false;
}

void ShardRing::agree(const std::function<void()>& check) {
  std::vector<Verdict> all(shards());
  guard([&] {
    Verdict mine;
    const auto fail = [&](Verdict::Kind kind, const std::string& why) {
      mine.kind = kind;
      why.copy(mine.why.data(), mine.why.size() - 1);
    };
    try {
      check();
    } catch (const OutOfBudget& why) {
      fail(Verdict::Kind::OutOfBudget, why.what());
    } catch (const ModelError& why) {
      fail(Verdict::Kind::ModelError, why.what());
    }
    std::memcpy(all.data(), gather(std::as_bytes(std::span(&mine, 1))).data(),
                all.size() * sizeof(Verdict));
  });
  for (int s = 0; s < shards(); ++s) {
    if (all[s].kind == Verdict::Kind::Fine) continue;
    const std::string why = name(s) + ": " + all[s].why.data();
    if (all[s].kind == Verdict::Kind::OutOfBudget) throw OutOfBudget(why);
    throw ModelError(why);
  }
}

void ShardRing::guard(const std::function<void()>& body) {
  check_alive();
  try {
    body();
  } catch (const RingError& why) {
    over_ = why.what();
    throw;
  } catch (const std::exception& why) {
    over_ = why.what();
    transport_.abort(over_);
    throw;
  }
}

void ShardRing::check_alive() const {
  if (!over_.empty()) throw RingError("the ring is over: " + over_);
}

}  // namespace ringtide::model
