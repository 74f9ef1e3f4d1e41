#include "kernels/instruction_set.h"

#include <hwy/targets.h>

namespace ringtide::kernels {

namespace {

// Those of the processor: asked before any of them is left out.
const std::vector<int64_t>& targets() {
  static const std::vector<int64_t> all = hwy::SupportedAndGeneratedTargets();
  return all;
}

void use(int64_t only) {
  hwy::SetSupportedTargetsForTest(only);  // 0: none is left out
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const int64_t target : targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string instruction_set() {
  targets();
  return hwy::TargetName(hwy::SupportedAndGeneratedTargets().front());
}

bool use_instruction_set(const std::string& name) {
  if (name.empty()) {
    targets();
    return use(0), true;
  }
  for (const int64_t target : targets()) {
    if (name == hwy::TargetName(target)) return use(target), true;
  }
  return false;
}

}  // namespace ringtide::kernels
