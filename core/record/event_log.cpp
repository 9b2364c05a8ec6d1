#include "core/record/event_log.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "core/base/hash.h"
#include "core/record/codec.h"

namespace faultline::record {
namespace {

constexpr std::string_view kMagic = "FAULTLN3";

std::uint64_t hash_bytes(std::uint64_t h, std::string_view bytes) {
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&word, bytes.data() + i, 8);
    } else {
      for (int k = 7; k >= 0; --k)
        word = (word << 8) | static_cast<unsigned char>(bytes[i + static_cast<std::size_t>(k)]);
    }
    h = (h ^ word) * 0x9fb21c651e98df25ULL;
    h ^= h >> 32;
  }
  std::uint64_t tail = bytes.size() - i;
  for (; i < bytes.size(); ++i) tail = (tail << 8) | static_cast<unsigned char>(bytes[i]);
  return mix64(h ^ tail);
}

/// Prints the members of any message, event or command.
class Printer {
 public:
  explicit Printer(std::string& out) : out_(out) {}
  template <class... T>
  void operator()(const T&... values) {
    (value(values), ...);
  }
  template <class T>
  void value(const T& v) {
    if constexpr (std::is_enum_v<T>) out_ += fmt::format(" {}", static_cast<int>(v));
    else if constexpr (std::is_integral_v<T>) {
      if constexpr (std::is_unsigned_v<T> && !std::is_same_v<T, bool>) {
        if (v == static_cast<T>(~T{0})) {
          out_ += " -";
          return;
        }
      }
      out_ += fmt::format(" {}", v);
    } else if constexpr (requires { v.kInvalid; }) value(v.v);
    else if constexpr (requires { v.ns; }) out_ += fmt::format(" {} ns", v.ns);
    else if constexpr (requires { v.fields(*this); }) {
      out_ += " (";
      v.fields(*this);
      out_ += " )";
    } else if constexpr (requires { v.role; }) out_ += fmt::format(" {}/{}", static_cast<int>(v.role), v.index);
    else if constexpr (std::is_same_v<T, model::RankLoad>) out_ += fmt::format(" {}x{}", v.sequences, v.context_tokens);
    else if constexpr (std::is_same_v<T, model::PrefillItem>)
      out_ += fmt::format(" r{}:{}+{}", v.rank, v.context_before, v.chunk_tokens);
    else out_ += fmt::format(" {}", v.v);
  }
  template <class T>
  void value(const std::vector<T>& v) {
    out_ += " [";
    for (const T& x : v) value(x);
    out_ += " ]";
  }
  template <class... T>
  void value(const std::variant<T...>& v) {
    out_ += fmt::format(" #{}", v.index());
    std::visit([this](const auto& x) { this->value(x); }, v);
  }

 private:
  std::string& out_;
};

}  // namespace

EventLogWriter::EventLogWriter(std::string_view resolved_experiment, std::function<void(std::string_view)> sink)
    : sink_(std::move(sink)) {
  buffer_ = kMagic;
  Encoder(buffer_).varint(resolved_experiment.size());
  buffer_ += resolved_experiment;
}

void EventLogWriter::append(Instant at, Address who, std::uint32_t incarnation, const control::Event& event,
                            std::span<const control::Command> commands, std::uint64_t digest) {
  record_.clear();
  Encoder e(record_);
  e.varint(static_cast<std::uint64_t>((at - last_).v));
  e(who, incarnation, event);
  e.varint(commands.size());
  for (const auto& c : commands) e.value(c);
  char tail[8];
  for (int i = 0; i < 8; ++i) tail[i] = static_cast<char>(digest >> (8 * i));
  record_.append(tail, 8);
  last_ = at;
  hash_ = hash_bytes(hash_, record_);
  ++records_;
  Encoder(buffer_).varint(record_.size());
  buffer_ += record_;
  if (buffer_.size() >= (1U << 20)) {
    bytes_ += buffer_.size();
    if (sink_) sink_(buffer_);
    buffer_.clear();
  }
}

void EventLogWriter::finish() {
  bytes_ += buffer_.size();
  if (sink_ && !buffer_.empty()) sink_(buffer_);
  buffer_.clear();
}

EventLogReader::EventLogReader(std::string_view data) : data_(data) {
  if (data.substr(0, kMagic.size()) != kMagic) throw CodecError("not an event log of this version (FAULTLN3)");
  Decoder d(data.substr(kMagic.size()));
  const std::uint64_t size = d.varint();
  experiment_ = d.bytes(size);
  at_ = kMagic.size() + d.position();
}

bool EventLogReader::next(LogRecord& record) {
  if (at_ == data_.size()) return false;
  Decoder frame(data_.substr(at_));
  const std::string_view body = frame.bytes(frame.varint());
  Decoder d(body);
  record.at = last_ + Duration{static_cast<std::int64_t>(d.varint())};
  d(record.who, record.incarnation, record.event);
  const std::uint64_t count = d.varint();
  if (count > body.size()) throw CodecError("more commands than the record has bytes");
  record.commands.clear();
  for (std::uint64_t i = 0; i < count; ++i) d.value(record.commands.emplace_back());
  const std::string_view tail = d.bytes(8);
  record.digest = 0;
  for (int i = 7; i >= 0; --i)
    record.digest = (record.digest << 8) | static_cast<unsigned char>(tail[static_cast<std::size_t>(i)]);
  if (!d.done()) throw CodecError("a record is longer than its contents");
  last_ = record.at;
  at_ += frame.position();
  return true;
}

std::string describe_event(const control::Event& event) {
  std::string out;
  Printer(out).value(event);
  return out;
}
std::string describe_command(const control::Command& command) {
  std::string out;
  Printer(out).value(command);
  return out;
}

}  // namespace faultline::record
