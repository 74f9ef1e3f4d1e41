// The safetensors container: a JSON header that names tensors, and their bytes, one after another.
//
// As strict as the reader of GGUF files: a file that opens has a header that fits it, distinct
// names, known element types, shapes that take exactly the bytes given, and tensors that cover the
// data without a gap or an overlap. Nothing is allocated that the bytes present do not justify.
//
// Names and tensor bytes live as long as the file object or its mapping. Immutable; any thread.
//
// Format: https://github.com/huggingface/safetensors
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/file_tensor.h"
#include "model/mapped_file.h"

namespace ringtide::model {

class SafetensorsFile {
 public:
  // Maps the file. Throws ModelError: it cannot be read, or is not a sound file.
  static SafetensorsFile open(const std::string& path);
  // Reads bytes that the caller keeps alive; `name` stands for the path in messages.
  static SafetensorsFile from_memory(std::span<const std::byte> bytes, std::string name);

  SafetensorsFile(SafetensorsFile&&) = default;

  // By place in the file. Shapes have the fastest dimension first, other than in the file.
  const std::vector<FileTensor>& tensors() const { return tensors_; }
  const std::string& name() const { return name_; }
  // Keeps the bytes; null where they are the caller's.
  const std::shared_ptr<const MappedFile>& mapping() const { return mapping_; }

 private:
  SafetensorsFile(std::shared_ptr<const MappedFile> mapping, std::span<const std::byte> bytes,
                  std::string name);
  [[noreturn]] void fail(const std::string& what) const;

  std::shared_ptr<const MappedFile> mapping_;
  std::string name_;
  std::vector<std::unique_ptr<const std::string>> names_;
  std::vector<FileTensor> tensors_;
};

}  // namespace ringtide::model
