#include "model/restore.h"

#include <algorithm>

namespace ringtide::model {

TakeUp find_take_up(const History& history, int64_t limit, UnitStore& store) {
  const int64_t unit = history.policy().unit;
  const auto& ends = history.block_ends();
  const int64_t known = static_cast<int64_t>(history.keys().size());
  if (known == 0 || !store.contains(history.keys()[0])) return {};
  int64_t ceiling = known;  // pages a take-up may stand on: those below the lowest one found absent
  for (size_t b = ends.size(); b-- > 0;) {
    const int64_t end = ends[b], pages = end / unit;
    if (end > limit || end % unit != 0 || pages > ceiling) continue;
    const int64_t first = history.sealed_at(end);
    int64_t u = pages - 1;
    while (u >= first && store.contains(history.keys()[u])) --u;
    if (u < first) return {end, b + 1};
    ceiling = u;
  }
  return {};
}

std::vector<int64_t> take_up(Context& context, const History& history, const TakeUp& at,
                             const std::string& fingerprint, UnitStore& store) {
  const PageLayout& layout = context.layout();
  const uint32_t representatives = static_cast<uint32_t>(layout.layers);
  History past(history.policy(), fingerprint);
  for (size_t b = 0; b < at.blocks; ++b) past.add(history.block(b));
  const int64_t sealed = past.sealed_at(at.tokens);

  std::vector<PartRead> reads;
  std::vector<int64_t> unit_of;
  auto read = [&](int64_t unit, uint32_t part, std::span<std::byte> into) {
    reads.push_back({history.keys()[unit], part, into});
    unit_of.push_back(unit);
  };
  auto load_page = [&](int64_t unit) {
    std::shared_ptr<Page> page = context.new_page(unit);
    for (uint32_t l = 0; l < representatives; ++l) read(unit, l, page->chunk(static_cast<int>(l)));
    if (layout.representatives) read(unit, representatives, page->representative_bytes());
    page->represented = layout.representatives;
    return page;
  };
  std::shared_ptr<Page> first;
  std::vector<std::shared_ptr<Page>> pages;
  if (sealed > 0) first = load_page(0);
  for (int64_t u = sealed; u < at.tokens / layout.unit; ++u) pages.push_back(load_page(u));

  std::vector<float> index_rows(layout.representative_floats() * sealed);
  if (layout.representatives)
    for (int64_t u = 0; u < sealed; ++u)
      read(u, representatives,
           std::as_writable_bytes(std::span(index_rows)
                                      .subspan(u * layout.representative_floats(),
                                               layout.representative_floats())));
  store.read(reads);

  std::vector<int64_t> lost;
  for (size_t i = 0; i < reads.size(); ++i)
    if (reads[i].outcome != ReadOutcome::Ok) lost.push_back(unit_of[i]);
  std::sort(lost.begin(), lost.end());
  lost.erase(std::unique(lost.begin(), lost.end()), lost.end());
  if (!lost.empty()) return lost;

  UnitIndex index(layout.layers, layout.shape);
  if (layout.representatives)
    for (int64_t u = 0; u < sealed; ++u)
      index.add(index_rows.data() + u * layout.representative_floats());
  context.resume(std::move(past), std::move(pages), std::move(first), std::move(index));
  return {};
}

std::vector<int64_t> absent_units(const History& history, int64_t end, UnitStore& store) {
  std::vector<int64_t> absent;
  for (int64_t u = 0; u < end; ++u)
    if (!store.contains(history.keys()[u])) absent.push_back(u);
  return absent;
}

}  // namespace ringtide::model
