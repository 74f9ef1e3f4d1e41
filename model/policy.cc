#include "model/policy.h"

#include "model/infllm_policy.h"
#include "model/simple_policies.h"

namespace ringtide::model {

std::shared_ptr<const MemoryPolicy> make_policy(const PolicyConfig& config) {
  validate(config);
  switch (config.kind) {
    case PolicyKind::Exact:
      return std::make_shared<ExactPolicy>(config);
    case PolicyKind::Streaming:
      return std::make_shared<StreamingPolicy>(config);
    case PolicyKind::InfLlm:
      break;
  }
  return std::make_shared<InfLlmPolicy>(config);
}

}  // namespace ringtide::model
