// Bytes in a message: shared inside a process, copied once on their way out of it and in again.
#pragma once

#include <caf/deserializer.hpp>
#include <caf/meta/type_name.hpp>
#include <caf/serializer.hpp>
#include <memory>
#include <type_traits>
#include <vector>

namespace ringtide::actors::cluster {

struct Buffer {
  std::shared_ptr<const std::vector<char>> bytes;  // null: none
};

template <class I>
typename I::result_type inspect(I& f, Buffer& x) {
  if constexpr (std::is_base_of_v<caf::deserializer, I>) {
    auto read = std::make_shared<std::vector<char>>();
    auto result = f(*read);
    x.bytes = std::move(read);
    return result;
  } else if constexpr (std::is_base_of_v<caf::serializer, I>) {
    std::vector<char> none;
    // Writing takes them by reference to non-const, as reading does, and leaves them as they are.
    return f(x.bytes ? const_cast<std::vector<char>&>(*x.bytes) : none);
  } else {
    uint64_t size = x.bytes ? x.bytes->size() : 0;
    return f(caf::meta::type_name("Buffer"), size);
  }
}

}  // namespace ringtide::actors::cluster
