#include "model/gpu_ring_units.h"

namespace ringtide::model {

void GpuRingUnits::read(std::span<PartRead> reads) {
  store_.read(reads);
  std::vector<bool> failed;
  for (const PartRead& read : reads) failed.push_back(read.outcome != ReadOutcome::Ok);
  ring_.any(failed);
  for (size_t i = 0; i < reads.size(); ++i)
    if (failed[i] && reads[i].outcome == ReadOutcome::Ok) reads[i].outcome = ReadOutcome::Absent;
}

std::vector<bool> GpuRingUnits::contains(std::span<const UnitKey> keys) {
  std::vector<bool> has = store_.contains(keys);
  ring_.any(has);
  return has;
}

}  // namespace ringtide::model
