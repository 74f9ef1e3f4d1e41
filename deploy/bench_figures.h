// What a benchmark measures: medians beside what the machine could do at best.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ringtide::deploy {

struct Figure {
  std::string what, unit;
  double median = 0, low = 0, high = 0;
  double ceiling = 0;   // in the same unit; 0: none
  std::string against;  // what the ceiling is made of
  bool less_is_better = false;
  int runs = 0;
  int64_t tokens = 0, batch = 0;  // of a context, and contexts, where it is about such

  // How near it is to its ceiling, 1 at best; 0 where it has none.
  double share() const {
    if (ceiling <= 0 || median <= 0) return 0;
    return less_is_better ? ceiling / median : median / ceiling;
  }
};

// Of values of one kind, at least one.
Figure summarise(std::string what, std::string unit, std::vector<double> values);

class Figures {
 public:
  // `told` of each as it comes.
  explicit Figures(std::function<void(const Figure&)> told) : told_(std::move(told)) {}
  const Figure& add(Figure figure);
  // The median of one measured before.
  double operator[](const std::string& what) const;
  bool has(const std::string& what) const;

 private:
  std::function<void(const Figure&)> told_;
  std::vector<Figure> all_;
};

}  // namespace ringtide::deploy
