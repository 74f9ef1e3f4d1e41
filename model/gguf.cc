#include "model/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace ringtide::model {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they lie");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kLongestName = 65535;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLargestAlignment = 1 << 20;
// The least bytes of one entry: key length, a key of one byte, kind, a value of one byte.
constexpr uint64_t kLeastEntry = 8 + 1 + 4 + 1;
// Name length, a name of one byte, number of dimensions, one dimension, type, offset.
constexpr uint64_t kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;

struct TypeLayout {
  uint32_t type;
  std::string_view name;
  uint32_t block_elements;
  uint32_t block_bytes;
};

// Every type that has a number today, so that the extent of a tensor is known even where it is not
// served.
constexpr TypeLayout kTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

const TypeLayout* layout_of(uint32_t type) {
  const auto* found = std::ranges::find(kTypes, type, &TypeLayout::type);
  return found == std::end(kTypes) ? nullptr : found;
}

// Bytes of one element; 0: a string or an array, whose elements differ.
uint64_t fixed_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::Uint8:
    case GgufKind::Int8:
    case GgufKind::Bool:
      return 1;
    case GgufKind::Uint16:
    case GgufKind::Int16:
      return 2;
    case GgufKind::Uint32:
    case GgufKind::Int32:
    case GgufKind::Float32:
      return 4;
    case GgufKind::Uint64:
    case GgufKind::Int64:
    case GgufKind::Float64:
      return 8;
    case GgufKind::String:
    case GgufKind::Array:
      return 0;
  }
  return 0;
}

std::string_view kind_name(GgufKind kind) {
  constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return kNames[static_cast<size_t>(kind)];
}

std::string describe(const GgufEntry& e) {
  std::string kind(kind_name(e.kind));
  return e.is_array ? "an array of " + std::to_string(e.count) + " " + kind : "a " + kind;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Takes fields off the front of the bytes; every step is checked against what is left.
class Reader {
 public:
  Reader(const GgufFile& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(uint64_t n, const std::string& field) {
    if (n > left()) {
      file_.fail(field + " needs " + std::to_string(n) + " bytes at offset " +
                 std::to_string(position_) + ", but the file ends " + std::to_string(left()) +
                 " bytes later; it is cut short or damaged: fetch it again");
    }
    const auto part = bytes_.subspan(position_, n);
    position_ += n;
    return part;
  }

  template <class T>
  T number(const std::string& field) {
    return load<T>(take(sizeof(T), field).data());
  }

  std::string_view string(const std::string& field) {
    const uint64_t length = number<uint64_t>("the length of " + field);
    const auto part = take(length, field);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  // A count of items that take at least `least` bytes each.
  uint64_t count(uint64_t n, uint64_t least, const std::string& field) const {
    if (n > left() / least) {
      file_.fail(field + " is " + std::to_string(n) + ", but the " + std::to_string(left()) +
                 " bytes that follow cannot hold so many; the file is damaged: fetch it again");
    }
    return n;
  }

 private:
  const GgufFile& file_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

std::string_view read_name(Reader& in, const GgufFile& file, const std::string& field) {
  const std::string_view name = in.string(field);
  if (name.empty() || name.size() > kLongestName) {
    file.fail(field + " has " + std::to_string(name.size()) + " bytes, not 1 to " +
              std::to_string(kLongestName));
  }
  return name;
}

GgufKind read_kind(Reader& in, const GgufFile& file, const std::string& field) {
  const uint32_t kind = in.number<uint32_t>(field);
  if (kind > static_cast<uint32_t>(GgufKind::Float64)) {
    file.fail(field + " is " + std::to_string(kind) + ", which is no kind of value (0 to 12)");
  }
  return static_cast<GgufKind>(kind);
}

GgufEntry read_entry(Reader& in, const GgufFile& file, uint64_t index) {
  GgufEntry e;
  e.key = read_name(in, file, "metadata key " + std::to_string(index));
  const std::string field = "metadata " + quoted(e.key);
  e.kind = read_kind(in, file, "the kind of " + field);
  if (e.kind == GgufKind::Array) {
    e.is_array = true;
    e.kind = read_kind(in, file, "the element kind of " + field);
    if (e.kind == GgufKind::Array) file.fail(field + " is an array of arrays; none is supported");
    const uint64_t least = std::max<uint64_t>(fixed_bytes(e.kind), 1);
    const uint64_t count = in.number<uint64_t>("the element count of " + field);
    // A string takes at least its length.
    e.count =
        in.count(count, e.kind == GgufKind::String ? 8 : least, "the element count of " + field);
  }
  if (e.kind == GgufKind::String) {
    Reader ahead = in;
    for (uint64_t i = 0; i < e.count; ++i) ahead.string(field);
    e.data = in.take(ahead.position() - in.position(), field);
  } else {
    e.data = in.take(e.count * fixed_bytes(e.kind), field);
  }
  if (e.kind == GgufKind::Bool) {
    for (const std::byte b : e.data) {
      if (std::to_integer<int>(b) > 1) file.fail(field + " has a bool that is neither 0 nor 1");
    }
  }
  return e;
}

// The tensor but for `bytes`; `offset` still counts from the data section.
FileTensor read_tensor(Reader& in, const GgufFile& file, uint64_t index) {
  FileTensor t;
  t.name = read_name(in, file, "the name of tensor " + std::to_string(index));
  const std::string field = "tensor " + quoted(t.name);
  const uint32_t rank = in.number<uint32_t>("the number of dimensions of " + field);
  if (rank < 1 || rank > 4) {
    file.fail(field + " has " + std::to_string(rank) + " dimensions, not 1 to 4");
  }
  uint64_t elements = 1;
  for (uint32_t d = 0; d < rank; ++d) {
    const uint64_t extent = in.number<uint64_t>("dimension " + std::to_string(d) + " of " + field);
    if (extent == 0 || extent > std::numeric_limits<int64_t>::max() / elements) {
      file.fail("dimension " + std::to_string(d) + " of " + field + " is " +
                std::to_string(extent) + "; the elements must be 1 to 2^63 - 1");
    }
    elements *= extent;
    t.shape.push_back(static_cast<int64_t>(extent));
  }
  t.type = in.number<uint32_t>("the type of " + field);
  t.offset = in.number<uint64_t>("the offset of " + field);
  if (const TypeLayout* layout = layout_of(t.type)) {
    t.type_name = layout->name;
    if (t.shape[0] % layout->block_elements != 0) {
      file.fail(field + " has rows of " + std::to_string(t.shape[0]) + " elements, not whole " +
                std::string(layout->name) + " blocks of " + std::to_string(layout->block_elements));
    }
  }
  return t;
}

// Gives each tensor its bytes in the data section, which starts at `start`.
void place_tensors(const GgufFile& file, std::span<const std::byte> bytes, uint64_t start,
                   uint64_t alignment, std::vector<FileTensor>& tensors) {
  const uint64_t room = start < bytes.size() ? bytes.size() - start : 0;
  for (FileTensor& t : tensors) {
    const std::string field = "tensor " + quoted(t.name);
    if (t.offset % alignment != 0) {
      file.fail("the offset of " + field + " is " + std::to_string(t.offset) +
                ", not a multiple of the alignment " + std::to_string(alignment));
    }
    if (t.offset > room) {
      file.fail("the offset of " + field + " is " + std::to_string(t.offset) + ", past the " +
                std::to_string(room) +
                " bytes of tensor data; the file is cut short or damaged: " + "fetch it again");
    }
    if (const TypeLayout* layout = layout_of(t.type)) {
      uint64_t blocks = static_cast<uint64_t>(t.shape[0]) / layout->block_elements;
      for (size_t d = 1; d < t.shape.size(); ++d) blocks *= static_cast<uint64_t>(t.shape[d]);
      if (blocks > (room - t.offset) / layout->block_bytes) {
        file.fail("the data of " + field + " (" + std::string(layout->name) + ") starts at " +
                  std::to_string(t.offset) + " and does not fit the " + std::to_string(room) +
                  " bytes of tensor data; the file is cut short or damaged: fetch it again");
      }
      t.bytes = bytes.subspan(start + t.offset, blocks * layout->block_bytes);
    }
    t.offset += start;
  }
}

void check_overlaps(const GgufFile& file, const std::vector<FileTensor>& tensors) {
  std::vector<const FileTensor*> order;
  order.reserve(tensors.size());
  for (const FileTensor& t : tensors) order.push_back(&t);
  std::ranges::sort(order, {}, &FileTensor::offset);
  for (size_t i = 1; i < order.size(); ++i) {
    const FileTensor& before = *order[i - 1];
    const uint64_t end = before.offset + std::max<uint64_t>(before.bytes.size(), 1);
    if (end > order[i]->offset) {
      file.fail("the data of tensors " + quoted(before.name) + " and " + quoted(order[i]->name) +
                " overlap at offset " + std::to_string(order[i]->offset));
    }
  }
}

[[noreturn]] void wrong_kind(const GgufFile& file, const GgufEntry& e, const std::string& wanted) {
  file.fail("metadata " + quoted(e.key) + " is " + describe(e) + ", not " + wanted);
}

// Calls use(value) with element i in its own arithmetic type; false: it is no number.
template <class F>
bool with_number(const GgufEntry& e, uint64_t i, F&& use) {
  const std::byte* at = e.data.data() + i * fixed_bytes(e.kind);
  switch (e.kind) {
    case GgufKind::Uint8:
      return use(load<uint8_t>(at)), true;
    case GgufKind::Int8:
      return use(load<int8_t>(at)), true;
    case GgufKind::Uint16:
      return use(load<uint16_t>(at)), true;
    case GgufKind::Int16:
      return use(load<int16_t>(at)), true;
    case GgufKind::Uint32:
      return use(load<uint32_t>(at)), true;
    case GgufKind::Int32:
      return use(load<int32_t>(at)), true;
    case GgufKind::Uint64:
      return use(load<uint64_t>(at)), true;
    case GgufKind::Int64:
      return use(load<int64_t>(at)), true;
    case GgufKind::Float32:
      return use(load<float>(at)), true;
    case GgufKind::Float64:
      return use(load<double>(at)), true;
    case GgufKind::Bool:
    case GgufKind::String:
    case GgufKind::Array:
      break;
  }
  return false;
}

template <class T>
constexpr const char* kWanted = std::is_floating_point_v<T> ? "a float" : "an integer";

template <class T>
T number_at(const GgufFile& file, const GgufEntry& e, uint64_t i) {
  T result{};
  bool right_kind = true;
  const bool number = with_number(e, i, [&](auto value) {
    using V = decltype(value);
    if constexpr (std::is_floating_point_v<V> != std::is_floating_point_v<T>) {
      right_kind = false;
    } else if constexpr (std::is_integral_v<T>) {
      if (!std::in_range<T>(value)) {
        file.fail("metadata " + quoted(e.key) + " is " + std::to_string(value) +
                  ", which is out of range (" + std::to_string(std::numeric_limits<T>::min()) +
                  " to " + std::to_string(std::numeric_limits<T>::max()) + ")");
      }
      result = static_cast<T>(value);
    } else {
      result = static_cast<T>(value);
    }
  });
  if (!number || !right_kind) wrong_kind(file, e, kWanted<T>);
  return result;
}

template <class T>
T scalar(const GgufFile& file, const GgufEntry& e) {
  if (e.is_array) wrong_kind(file, e, kWanted<T>);
  return number_at<T>(file, e, 0);
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  auto mapping = std::make_shared<const MappedFile>(path, "a GGUF model file");
  const auto bytes = mapping->bytes();
  return GgufFile(std::move(mapping), bytes, path);
}

GgufFile GgufFile::from_memory(std::span<const std::byte> bytes, std::string name) {
  return GgufFile(nullptr, bytes, std::move(name));
}

GgufFile::GgufFile(std::shared_ptr<const MappedFile> mapping, std::span<const std::byte> bytes,
                   std::string name)
    : mapping_(std::move(mapping)), bytes_(bytes), name_(std::move(name)) {
  Reader in(*this, bytes);
  if (in.number<uint32_t>("the magic number") != kMagic) {
    fail("does not begin with \"GGUF\"; name a GGUF model file");
  }
  version_ = in.number<uint32_t>("the version");
  if (version_ != 2 && version_ != 3) {
    const bool swapped = version_ == 0x02000000 || version_ == 0x03000000;
    fail(swapped ? "the version is written big endian; convert the model as little endian"
                 : "the version is " + std::to_string(version_) +
                       "; versions 2 and 3 are supported: convert the model again");
  }
  const auto tensor_count = in.number<uint64_t>("the tensor count");
  const auto entry_count = in.number<uint64_t>("the metadata count");
  in.count(entry_count, kLeastEntry, "the metadata count");
  in.count(tensor_count, kLeastTensor, "the tensor count");

  for (uint64_t i = 0; i < entry_count; ++i) {
    metadata_.push_back(read_entry(in, *this, i));
    if (!entry_index_.emplace(metadata_.back().key, i).second) {
      fail("metadata key " + quoted(metadata_.back().key) + " is there twice");
    }
  }
  const uint64_t alignment = find<uint32_t>("general.alignment").value_or(kDefaultAlignment);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kLargestAlignment) {
    fail("metadata \"general.alignment\" is " + std::to_string(alignment) +
         ", not a power of two from 8 to " + std::to_string(kLargestAlignment));
  }

  in.count(tensor_count, kLeastTensor, "the tensor count");
  for (uint64_t i = 0; i < tensor_count; ++i) {
    tensors_.push_back(read_tensor(in, *this, i));
    if (!tensor_index_.emplace(tensors_.back().name, i).second) {
      fail("tensor name " + quoted(tensors_.back().name) + " is there twice");
    }
  }
  const uint64_t start = (in.position() + alignment - 1) / alignment * alignment;
  place_tensors(*this, bytes, start, alignment, tensors_);
  check_overlaps(*this, tensors_);
}

const GgufEntry* GgufFile::entry(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &metadata_[found->second];
}

const FileTensor* GgufFile::tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

void GgufFile::fail(const std::string& what) const { throw ModelError(name_ + ": " + what); }

void GgufFile::missing(std::string_view key) const {
  fail("metadata " + quoted(key) + " is missing; convert the model again with a current converter");
}

void GgufFile::read(const GgufEntry& e, bool& value) const {
  if (e.is_array || e.kind != GgufKind::Bool) wrong_kind(*this, e, "a bool");
  value = e.data[0] != std::byte{0};
}

void GgufFile::read(const GgufEntry& e, int32_t& value) const { value = scalar<int32_t>(*this, e); }
void GgufFile::read(const GgufEntry& e, uint32_t& value) const {
  value = scalar<uint32_t>(*this, e);
}
void GgufFile::read(const GgufEntry& e, int64_t& value) const { value = scalar<int64_t>(*this, e); }
void GgufFile::read(const GgufEntry& e, uint64_t& value) const {
  value = scalar<uint64_t>(*this, e);
}
void GgufFile::read(const GgufEntry& e, float& value) const { value = scalar<float>(*this, e); }
void GgufFile::read(const GgufEntry& e, double& value) const { value = scalar<double>(*this, e); }

void GgufFile::read(const GgufEntry& e, std::string_view& value) const {
  if (e.is_array || e.kind != GgufKind::String) wrong_kind(*this, e, "a string");
  value = {reinterpret_cast<const char*>(e.data.data()) + 8, e.data.size() - 8};
}

template <class T>
void GgufFile::read(const GgufEntry& e, std::vector<T>& values) const {
  constexpr bool kStrings = std::is_same_v<T, std::string_view>;
  const std::string wanted =
      std::string("an array of ") + (kStrings                      ? "strings"
                                     : std::is_floating_point_v<T> ? "floats"
                                                                   : "integers");
  if (!e.is_array || (kStrings && e.kind != GgufKind::String)) wrong_kind(*this, e, wanted);
  if (e.count == 0) return;
  if constexpr (kStrings) {
    values.reserve(e.count);
    const std::byte* at = e.data.data();
    for (uint64_t i = 0; i < e.count; ++i) {
      const auto length = load<uint64_t>(at);
      values.emplace_back(reinterpret_cast<const char*>(at) + 8, length);
      at += 8 + length;
    }
  } else {
    values.resize(e.count);
    for (uint64_t i = 0; i < e.count; ++i) values[i] = number_at<T>(*this, e, i);
  }
}

template void GgufFile::read(const GgufEntry&, std::vector<int32_t>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<uint32_t>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<int64_t>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<uint64_t>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<float>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<double>&) const;
template void GgufFile::read(const GgufEntry&, std::vector<std::string_view>&) const;

}  // namespace ringtide::model
