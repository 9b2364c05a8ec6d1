// Fixed-size records as bytes and back, the one way in which everything on the wire and every opaque blob is written:
// field after field, little-endian, without padding. Pure.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "core/base/assert.h"

namespace faultline::transport {
static_assert(std::endian::native == std::endian::little, "the wire format is little-endian and copied as it is");

class WireWriter {
 public:
  explicit WireWriter(std::span<std::byte> out) : rest_(out) {}
  template <class... T>
  requires(std::is_trivially_copyable_v<T>&&...) void put(const T&... values) { (put_one(values), ...); }
  std::size_t room() const { return rest_.size(); }

 private:
  template <class T>
  void put_one(const T& value) {
    FAULTLINE_ASSERT(rest_.size() >= sizeof value, "{} bytes left", rest_.size());
    std::memcpy(rest_.data(), &value, sizeof value);
    rest_ = rest_.subspan(sizeof value);
  }
  std::span<std::byte> rest_;
};

/// Reading past the end gives zeros and makes ok() false: callers check once, at the end.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> in) : rest_(in) {}
  template <class... T>
  requires(std::is_trivially_copyable_v<T>&&...) void get(T&... values) { (get_one(values), ...); }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }
  std::span<const std::byte> rest() const { return rest_; }

 private:
  template <class T>
  void get_one(T& value) {
    ok_ = ok_ && rest_.size() >= sizeof value;
    if (!ok_) {
      value = T{};
      return;
    }
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
  }
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

/// A blob: its magic number, then its fields.
template <class... T>
std::vector<std::byte> to_blob(std::uint64_t magic, const T&... fields) {
  std::vector<std::byte> bytes(sizeof magic + (sizeof fields + ... + 0));
  WireWriter out(bytes);
  out.put(magic, fields...);
  return bytes;
}
/// False if these are not exactly such a blob's bytes.
template <class... T>
bool from_blob(std::span<const std::byte> bytes, std::uint64_t magic, T&... fields) {
  WireReader in(bytes);
  std::uint64_t found = 0;
  in.get(found, fields...);
  return in.at_end() && found == magic;
}

}  // namespace faultline::transport
