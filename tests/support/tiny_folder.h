// The model of a tiny GGUF file as a Hugging Face folder, part by part, so that a test may change
// one.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/tiny_gguf.h"

namespace ringtide::testing {

struct FolderTensor {
  std::string dtype = "F32";
  std::vector<uint64_t> shape;  // the slowest dimension first
  std::vector<std::byte> bytes;
};

// A safetensors file: sound if the tensors are.
std::vector<std::byte> safetensors(const std::map<std::string, FolderTensor>& tensors);
// The same around any header.
std::vector<std::byte> safetensors(const std::string& header, const std::vector<std::byte>& data);

struct TinyFolder {
  std::map<std::string, nlohmann::json> json;   // by file name
  std::map<std::string, FolderTensor> tensors;  // by name
  int shards = 1;                               // above 1: with an index

  void write(const std::string& folder) const;
};

// REQUIRES: m.type and m.embedding_type are F32. `dtype`: F32, F16 or BF16.
TinyFolder tiny_folder(const TinyModel& m, const std::string& dtype = "F32");

}  // namespace ringtide::testing
