#include "storage/records.h"

#include <type_traits>

#include "storage/bytes.h"
#include "storage/checksum.h"

// Versions of record types: `Opened` has a second one, with `probe`; the others have the first.
//
// Bytes: version (u8), type (u8, the variant's index), fields, checksum of all before it. Version
// and checksum keep their places in every version, so that a later one is told from damage.
namespace ringtide::storage {
namespace {

constexpr uint8_t kOpenedVersion = 2, kRecordVersion = 1;
// Keeps a record's checksum apart from those of rows, which begin with a key.
constexpr std::string_view kRecordDomain = "record";

void write(ByteWriter& out, const std::vector<std::string>& texts) {
  out.number<uint64_t>(texts.size());
  for (const std::string& text : texts) out.text(text);
}

std::vector<std::string> read_texts(ByteReader& in) {
  std::vector<std::string> texts;
  const auto count = in.number<uint64_t>();
  if (!in.fits(count, sizeof(uint64_t)))
    in.fail();
  else
    for (uint64_t i = 0; i < count; ++i) texts.push_back(in.text());
  return texts;
}

template <class Record>
constexpr uint8_t version_of() {
  return std::is_same_v<Record, Opened> ? kOpenedVersion : kRecordVersion;
}

// One list of fields a type serves both directions: `io(field)` writes or reads it.
template <class Record, class Io>
void fields(Record& r, uint8_t version, Io&& io) {
  using T = std::remove_const_t<Record>;
  if constexpr (std::is_same_v<T, Opened>) {
    auto& p = r.policy;
    io(p.kind), io(p.vote), io(p.true_positions);
    io(p.window), io(p.sinks), io(p.unit), io(p.block), io(p.select), io(p.representatives);
    if (version >= 2) io(p.probe);
    io(r.model), io(r.template_family), io(r.system);
  } else if constexpr (std::is_same_v<T, Appended>) {
    io(r.text), io(r.consumed), io(r.tokens), io(r.opens_turn);
  } else if constexpr (std::is_same_v<T, Began>) {
    io(r.tokens), io(r.temperature), io(r.top_p), io(r.min_p), io(r.repetition_penalty);
    io(r.top_k), io(r.penalty_window), io(r.seed), io(r.max_tokens), io(r.stop);
  } else if constexpr (std::is_same_v<T, Generated>) {
    io(r.tokens);
  } else {
    static_assert(std::is_same_v<T, Ended>);
    io(r.reason), io(r.tokens);
  }
}

struct Write {
  ByteWriter& out;
  template <class T>
  void operator()(const T& field) {
    if constexpr (std::is_arithmetic_v<T>)
      out.number(field);
    else if constexpr (std::is_same_v<T, std::string>)
      out.text(field);
    else if constexpr (std::is_same_v<T, std::vector<int32_t>>)
      out.tokens(field);
    else
      write(out, field);
  }
};

struct Read {
  ByteReader& in;
  template <class T>
  void operator()(T& field) {
    if constexpr (std::is_arithmetic_v<T>)
      field = in.number<T>();
    else if constexpr (std::is_same_v<T, std::string>)
      field = in.text();
    else if constexpr (std::is_same_v<T, std::vector<int32_t>>)
      field = in.tokens();
    else
      field = read_texts(in);
  }
};

// The alternative with index `type`, default made; nothing if there is none.
template <size_t I = 0>
std::optional<LogRecord> make(uint8_t type) {
  if constexpr (I < std::variant_size_v<LogRecord>) {
    if (type == I) return LogRecord(std::in_place_index<I>);
    return make<I + 1>(type);
  } else {
    return std::nullopt;
  }
}

Status corrupt(const std::string& what) { return {Code::Corrupt, "log record " + what}; }

}  // namespace

std::string encode(const LogRecord& record) {
  std::string bytes;
  ByteWriter out(bytes);
  std::visit(
      [&]<class T>(const T& r) {
        out.number(version_of<T>());
        out.number(static_cast<uint8_t>(record.index()));
        fields(r, version_of<T>(), Write{out});
      },
      record);
  return seal(kRecordDomain, std::move(bytes));
}

Result<LogRecord> decode(std::span<const std::byte> bytes) {
  const auto body = unseal(kRecordDomain, as_text(bytes));
  if (!body) return corrupt("does not match its checksum");
  ByteReader in(*body);
  const auto version = in.number<uint8_t>();
  const auto type = in.number<uint8_t>();
  std::optional<LogRecord> record = make(type);
  const uint8_t known = record
                            ? std::visit([]<class T>(const T&) { return version_of<T>(); }, *record)
                            : kRecordVersion;
  if (version > known)
    return Status(Code::Newer, "log record has version " + std::to_string(version) +
                                   ", this build reads up to " + std::to_string(known) +
                                   "; use a later build");
  if (version == 0 || !record)
    return corrupt("has no known form: version " + std::to_string(version) + ", type " +
                   std::to_string(type));
  std::visit([&](auto& r) { fields(r, version, Read{in}); }, *record);
  if (!in.complete()) return corrupt("does not end where its fields do");
  return std::move(*record);
}

}  // namespace ringtide::storage
