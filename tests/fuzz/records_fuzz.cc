// Any bytes: decoding ends, and what it accepts is encoded to the same bytes again, or, if it was of
// an earlier version, to bytes that say the same. The input is tried as it is, and as a body whose
// checksum fits.
#include <cstdlib>

#include "storage/checksum.h"
#include "storage/records.h"

using namespace ringtide::storage;

namespace {

void try_decode(const std::string& bytes) {
  const auto record = decode(std::as_bytes(std::span(bytes)));
  if (!record.ok()) return;
  const std::string again = encode(record.value());
  if (again == bytes) return;
  const auto same = decode(std::as_bytes(std::span(again)));
  const bool earlier = bytes.front() < again.front();
  if (!earlier || !same.ok() || same.value() != record.value()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try_decode(bytes);
  try_decode(seal("record", bytes));
  return 0;
}
