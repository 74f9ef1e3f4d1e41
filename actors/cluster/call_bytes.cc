// Calls as bytes: numbers one after another, lists after their length.
#include <cstring>
#include <string>
#include <type_traits>

#include "actors/cluster/call.h"

namespace ringtide::actors::cluster {
namespace {

// One order of fields for both ways: `bytes(x)` writes or reads x.
template <class Bytes, class C>
void fields(Bytes& bytes, C& call) {
  bytes(call.op), bytes(call.number), bytes(call.before);
  bytes(call.contexts), bytes(call.positions);
  auto& p = call.policy;
  bytes(p.kind), bytes(p.window), bytes(p.sinks), bytes(p.unit), bytes(p.block), bytes(p.select);
  bytes(p.representatives), bytes(p.vote), bytes(p.probe), bytes(p.true_positions);
  bytes(call.tokens), bytes(call.lengths), bytes(call.sampling);
}

template <class T>
constexpr bool kPlain = std::is_arithmetic_v<T> || std::is_enum_v<T>;

template <class Bytes, class P>
void fields_of_sampling(Bytes& bytes, P& p) {
  bytes(p.temperature), bytes(p.top_k), bytes(p.top_p), bytes(p.min_p);
  bytes(p.repetition_penalty), bytes(p.penalty_window), bytes(p.seed);
}

struct Writer {
  std::vector<char> out;
  template <class T>
  void operator()(const T& value) {
    static_assert(kPlain<T>);
    const char* from = reinterpret_cast<const char*>(&value);
    out.insert(out.end(), from, from + sizeof(T));
  }
  template <class T>
  void operator()(const std::vector<T>& list) {
    (*this)(uint64_t{list.size()});
    if constexpr (kPlain<T>) {
      const char* from = reinterpret_cast<const char*>(list.data());
      out.insert(out.end(), from, from + list.size() * sizeof(T));
    } else {
      for (const auto& each : list) fields_of_sampling(*this, each);
    }
  }
};

struct Reader {
  std::span<const char> left;
  const char* next(size_t n) {
    if (n > left.size()) throw std::runtime_error("a call that is cut short");
    const char* at = left.data();
    left = left.subspan(n);
    return at;
  }
  template <class T>
  void operator()(T& value) {
    static_assert(kPlain<T>);
    const char* from = next(sizeof(T));
    if constexpr (std::is_same_v<T, bool>) {
      value = *from != 0;
    } else {
      std::memcpy(&value, from, sizeof(T));
    }
  }
  template <class T>
  void operator()(std::vector<T>& list) {
    uint64_t count = 0;
    (*this)(count);
    if (count > left.size()) throw std::runtime_error("a call that is cut short");
    if constexpr (kPlain<T>) {
      const char* from = next(count * sizeof(T));
      list.resize(count);
      if (count > 0) std::memcpy(list.data(), from, count * sizeof(T));
    } else {
      list.resize(count);
      for (auto& each : list) fields_of_sampling(*this, each);
    }
  }
};

}  // namespace

std::vector<char> encode(const Call& call) {
  Writer writer;
  fields(writer, call);
  return std::move(writer.out);
}

Call decode(std::span<const char> bytes) {
  Call call;
  Reader reader{bytes};
  fields(reader, call);
  if (!reader.left.empty()) throw std::runtime_error("a call with something after its end");
  return call;
}

}  // namespace ringtide::actors::cluster
