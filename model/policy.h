// A context-memory policy: where a unit ends (segment), its index entry (represent), which units a
// query attends to (select), what stays in memory (reside), where it stands (position).
//
// Pure, one object for all sessions that share a configuration, any thread. It is asked about layers
// that see the whole context; those that slide a window of their own see that window and nothing
// else, whatever the policy (context_attention.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "model/policy_config.h"
#include "model/unit_index.h"

namespace ringtide::model {

// Where the far part of the context (sinks, retrieved units, tokens between window and unit)
// stands.
struct Placement {
  // Keys keep their true rotation, or none.
  bool rotate_keys = true;
  // The query stands at min(its position, query_limit) for that part.
  int64_t query_limit = 0;
  // Near and far share one rotation of the query: every key at its true distance.
  bool true_distance = false;
};

// Which far tokens a query sees besides selected units.
struct Always {
  bool sinks = true;
  bool overflow = true;  // tokens that have left the window but are not in a sealed unit yet
};

struct Lookup {
  const UnitIndex& index;
  int layer;
  const float* query;  // (heads, head_dim)
  int64_t sealed;      // units there are
  float scale;         // a logit is scale * q.k
  // rows[i]: representatives of full group groups[i] in this layer, (kUnits, heads, head_dim),
  // until the next call; at most kGroupsAtOnce of them.
  const std::function<void(std::span<const int64_t> groups, std::vector<const std::byte*>& rows)>&
      fetch;
  kernels::ThreadPool& threads;
  std::vector<float>& scratch;
};

// Groups that must fit in memory together.
constexpr int64_t kGroupsAtOnce = 8;

enum class Residency : uint8_t {
  Keep,    // a copy stays in memory while there is room
  Demote,  // straight to the store
};

class MemoryPolicy {
 public:
  explicit MemoryPolicy(const PolicyConfig& config) : config_(config) {}
  virtual ~MemoryPolicy() = default;
  const PolicyConfig& config() const { return config_; }

  // segment: units are `unit` tokens long under every policy. Pages, stored parts and positions of
  // units all rest on that, so it is a number of the configuration and nothing to be asked.

  // represent: whether units have index entries, and the entry of one layer's unit. keys (kv_heads,
  // unit, head_dim) before RoPE, scores (heads, unit), tokens from `begin` on; out (heads,
  // head_dim).
  virtual bool represents() const { return false; }
  virtual void represent(const kernels::HeadShape&, const float* /*keys*/, const float* /*scores*/,
                         int32_t /*begin*/, float* /*out*/) const {}
  // select: units, ascending, that this block of queries attends to in this layer. query (heads,
  // head_dim) is the mean of the block's, rotated to the far end of the window.
  virtual void select(const Lookup& lookup, std::vector<int64_t>& units) const = 0;
  // reside: what becomes of a unit's payload when it is sealed.
  virtual Residency reside(int64_t unit) const = 0;
  // position: where the far part stands, and what of it is always seen.
  virtual Placement position() const = 0;
  virtual Always always() const { return {}; }

 private:
  PolicyConfig config_;
};

// Throws ModelError where the configuration does not fit together.
std::shared_ptr<const MemoryPolicy> make_policy(const PolicyConfig& config);

}  // namespace ringtide::model
