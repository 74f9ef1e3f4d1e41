#include "model/policy_config.h"

#include "model/types.h"

namespace ringtide::model {
namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw ModelError("policy: " + what);
}

std::string number(int32_t n) { return std::to_string(n); }

}  // namespace

PolicyKind parse_policy(const std::string& name) {
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm})
    if (name == to_string(kind)) return kind;
  throw ModelError("policy \"" + name + "\" is not known; choose exact, streaming or infllm");
}

std::string to_string(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::Exact:
      return "exact";
    case PolicyKind::Streaming:
      return "streaming";
    case PolicyKind::InfLlm:
      break;
  }
  return "infllm";
}

void validate(const PolicyConfig& c) {
  require(c.unit >= 1 && c.unit <= 4096,
          "unit is " + number(c.unit) + ", must be 1 to 4096 tokens");
  require(c.block >= 1 && c.block <= 8192,
          "block is " + number(c.block) + ", must be 1 to 8192 tokens");
  require(c.block % c.unit == 0,
          "block (" + number(c.block) + ") must be a multiple of unit (" + number(c.unit) + ")");
  require(c.window % c.unit == 0 && c.window >= c.block && c.window <= (1 << 24),
          "window (" + number(c.window) + ") must be a multiple of unit (" + number(c.unit) +
              ") and at least block (" + number(c.block) + ")");
  require(c.sinks >= 0 && c.sinks <= c.unit,
          "sinks (" + number(c.sinks) + ") must be 0 to unit (" + number(c.unit) + ")");
  require(c.select >= 0 && c.select <= (1 << 20),
          "select is " + number(c.select) + ", must be 0 to 1048576 units");
  require(c.probe >= 1 && c.probe <= kMostProbe,
          "probe is " + number(c.probe) + ", must be 1 to " + number(kMostProbe) + " groups");
  require(c.representatives >= 1 && c.representatives <= c.unit,
          "representatives (" + number(c.representatives) + ") must be 1 to unit (" +
              number(c.unit) + ")");
}

}  // namespace ringtide::model
