#include "deploy/bench_figures.h"

#include <algorithm>
#include <stdexcept>

namespace ringtide::deploy {

Figure summarise(std::string what, std::string unit, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  Figure f;
  f.what = std::move(what);
  f.unit = std::move(unit);
  f.median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  f.low = values.front();
  f.high = values.back();
  f.runs = static_cast<int>(n);
  return f;
}

const Figure& Figures::add(Figure figure) {
  all_.push_back(std::move(figure));
  told_(all_.back());
  return all_.back();
}

bool Figures::has(const std::string& what) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Figure& f) { return f.what == what; });
}

double Figures::operator[](const std::string& what) const {
  for (const Figure& f : all_)
    if (f.what == what) return f.median;
  throw std::logic_error("not measured: " + what);
}

}  // namespace ringtide::deploy
