#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "tests/support/fake_operations.h"
#include "tests/support/fake_values.h"

namespace ringtide::testing {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

void fake_choose(const Lookup& a, int32_t r) {
  const Memory& m = a.memory[r];
  const int dim = a.shape.head_dim;
  const int64_t row = int64_t{a.shape.heads} * dim;
  if (m.sealed > a.max_sealed || m.select > a.max_select)
    throw std::logic_error("choose_units: more than its bound");
  std::vector<int32_t> units(std::max(0, m.sealed - m.first));
  std::iota(units.begin(), units.end(), m.first);
  if (static_cast<int32_t>(units.size()) > m.select) {
    std::vector<float> relevance(m.sealed), votes(m.sealed);
    for (int h = 0; h < a.shape.heads; ++h) {
      float top = -std::numeric_limits<float>::infinity();
      for (int32_t u : units) {
        votes[u] =
            dot(at(a.q, r * row + int64_t{h} * dim),
                at(m.groups[u / kIndexGroup],
                   (int64_t{a.layer} * kIndexGroup + u % kIndexGroup) * row + int64_t{h} * dim),
                dim);
        top = std::max(top, votes[u]);
      }
      float total = 0;
      const float scale = 1 / std::sqrt(static_cast<float>(dim));
      if (a.vote == Vote::Softmax) {
        for (int32_t u : units) total += votes[u] = std::exp((votes[u] - top) * scale);
        for (int32_t u : units) votes[u] /= total;
      }
      for (int32_t u : units) relevance[u] += votes[u];
    }
    std::stable_sort(units.begin(), units.end(),
                     [&](int32_t x, int32_t y) { return relevance[x] > relevance[y]; });
    units.resize(m.select);
    std::sort(units.begin(), units.end());
  }
  for (int32_t i = 0; i < a.max_select; ++i)
    a.chosen[r * a.max_select + i] = i < static_cast<int32_t>(units.size()) ? units[i] : -1;
}

void fake_assign(const Lookup& a, int32_t r, std::vector<FakeCopy>& copies) {
  const Memory& m = a.memory[r];
  const Slots& slots = a.slots[r];
  if (a.guess) {
    *slots.begun = 0;
  } else if (slots.begun) {
    for (int32_t s = 0; s < slots.slots; ++s) {
      if (slots.copy[s] >= static_cast<int32_t>(*slots.begun & ~kNoMore))
        slots.unit[s] = slots.used[s] = -1;
      slots.copy[s] = -1;
    }
    *slots.begun |= kNoMore;
  }
  const int64_t plane = int64_t{a.shape.kv_heads} * a.unit;
  const int64_t chunk = 2 * plane * a.shape.head_dim * static_cast<int64_t>(sizeof(Half));
  const int32_t* chosen = a.chosen + r * a.max_select;
  const int64_t now = *a.tick;
  std::vector<int32_t> slot_of(a.max_select, -1);
  std::vector<bool> used(slots.slots);
  for (int32_t i = 0; i < a.max_select && chosen[i] >= 0; ++i)
    for (int32_t s = 0; s < slots.slots; ++s)
      if (slots.unit[s] == chosen[i]) {
        slot_of[i] = s;
        used[s] = true;
      }
  int32_t count = 0, missing = 0, copied = 0;
  for (int32_t i = 0; i < a.max_select; ++i) a.missing[r * a.max_select + i] = -1;
  for (int32_t i = 0; i < a.max_select && chosen[i] >= 0; ++i) {
    const int32_t u = chosen[i];
    if (u % m.shards != m.shard) continue;
    const bool fetched = slot_of[i] < 0;
    if (!fetched) {
      ++a.totals[r].hits;
    } else if (!m.payload[u]) {
      ++a.totals[r].missing;
      a.missing[r * a.max_select + missing++] = u;
      continue;
    } else {
      int32_t best = -1;
      for (int32_t s = 0; s < slots.slots; ++s)
        if (!used[s] && (best < 0 || slots.used[s] < slots.used[best])) best = s;
      slot_of[i] = best;
      used[best] = true;
      slots.unit[best] = u;
      copies.push_back({at(a.arena.base, (slots.first_row + best * 2 * plane) * a.shape.head_dim),
                        m.payload[u] + a.layer * chunk, static_cast<size_t>(chunk),
                        a.guess ? slots.begun : nullptr});
      if (a.guess) slots.copy[best] = copied++;
      ++a.totals[r].fetched;
    }
    slots.used[slot_of[i]] = fetched ? now : std::max(slots.used[slot_of[i]], now);
    const int32_t k = slots.first_row + static_cast<int32_t>(slot_of[i] * 2 * plane);
    a.refs[r * a.max_select + count++] = {k, static_cast<int32_t>(k + plane), u == 0 ? m.sinks : 0,
                                          a.unit, int64_t{u} * a.unit};
  }
  a.counts[r] = count;
}

void fake_fetch(const std::vector<FakeCopy>& copies, double begins) {
  const double most = begins * static_cast<double>(copies.size());
  double made = 0;
  for (const FakeCopy& c : copies) {
    if (c.begun && made++ >= most) return;
    if (c.begun && (*c.begun)++ >= kNoMore)
      throw std::logic_error("fetch_units: a copy after its guess was over");
    std::memcpy(c.to, c.from, c.bytes);
  }
}

}  // namespace ringtide::testing
