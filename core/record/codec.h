// Binary form of the control plane's vocabulary: every member through its fields(), integers as LEB128 varints (signed
// ones zigzag), lists with their length, alternatives with their index. Reading checks every length and every index: a
// damaged or hostile log is an error, never an overrun.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/quantity.h"
#include "core/model/load.h"
#include "core/ports/messenger.h"

namespace faultline::record {

class CodecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Encoder {
 public:
  explicit Encoder(std::string& out) : out_(out) {}

  void varint(std::uint64_t v) {
    if (v < 0x80) {  // most are
      out_.push_back(static_cast<char>(v));
      return;
    }
    char buffer[10];
    int n = 0;
    while (v >= 0x80) {
      buffer[n++] = static_cast<char>(v | 0x80);
      v >>= 7;
    }
    buffer[n++] = static_cast<char>(v);
    out_.append(buffer, static_cast<std::size_t>(n));
  }
  void text(std::string_view s) {
    varint(s.size());
    out_.append(s);
  }
  template <class... T>
  void operator()(const T&... values) {
    (value(values), ...);
  }

  template <class T>
  void value(const T& v) {
    if constexpr (std::is_same_v<T, bool>) varint(v ? 1 : 0);
    else if constexpr (std::is_enum_v<T>) varint(static_cast<std::uint64_t>(v));
    else if constexpr (std::is_unsigned_v<T>)
      varint(static_cast<std::uint64_t>(v + T{1}));  // "unknown" (all ones) is 0
    else if constexpr (std::is_signed_v<T>) zigzag(v);
    else if constexpr (requires { v.kInvalid; }) value(v.v);
    else if constexpr (requires { v.ns; }) zigzag(v.ns);
    else if constexpr (requires { v.fields(*this); }) v.fields(*this);
    else if constexpr (requires { v.role; }) {
      value(v.role);
      value(v.index);
    } else if constexpr (std::is_same_v<T, model::RankLoad>) {
      zigzag(v.sequences);
      zigzag(v.context_tokens);
    } else if constexpr (std::is_same_v<T, model::PrefillItem>) {
      zigzag(v.rank);
      zigzag(v.chunk_tokens);
      zigzag(v.context_before);
    } else zigzag(v.v);  // a Quantity
  }
  template <class T>
  void value(const std::vector<T>& v) {
    varint(v.size());
    for (const T& x : v) value(x);
  }
  template <class... T>
  void value(const std::variant<T...>& v) {
    varint(v.index());
    std::visit([this](const auto& x) { this->value(x); }, v);
  }

 private:
  void zigzag(std::int64_t v) { varint((static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63)); }
  std::string& out_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view in) : in_(in) {}
  bool done() const { return at_ == in_.size(); }
  std::size_t position() const { return at_; }

  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == in_.size()) throw CodecError("the data end in the middle of a number");
      const auto byte = static_cast<unsigned char>(in_[at_++]);
      v |= std::uint64_t{byte & 0x7fU} << shift;
      if (!(byte & 0x80)) return v;
    }
    throw CodecError("a number is longer than 64 bits");
  }
  std::string_view bytes(std::size_t n) {
    if (n > in_.size() - at_) throw CodecError("a length exceeds the data");
    at_ += n;
    return in_.substr(at_ - n, n);
  }
  template <class... T>
  void operator()(T&... values) {
    (value(values), ...);
  }

  template <class T>
  void value(T& v) {
    if constexpr (std::is_same_v<T, bool>) v = varint() != 0;
    else if constexpr (std::is_enum_v<T>) v = static_cast<T>(varint() & 0xff);
    else if constexpr (std::is_unsigned_v<T>) v = static_cast<T>(static_cast<T>(varint()) - T{1});
    else if constexpr (std::is_signed_v<T>) v = static_cast<T>(zigzag());
    else if constexpr (requires { v.kInvalid; }) value(v.v);
    else if constexpr (requires { v.ns; }) v.ns = zigzag();
    else if constexpr (requires { v.fields(*this); }) v.fields(*this);
    else if constexpr (requires { v.role; }) {
      value(v.role);
      value(v.index);
    } else if constexpr (std::is_same_v<T, model::RankLoad>) {
      v.sequences = static_cast<std::int32_t>(zigzag());
      v.context_tokens = zigzag();
    } else if constexpr (std::is_same_v<T, model::PrefillItem>) {
      v.rank = static_cast<std::int32_t>(zigzag());
      v.chunk_tokens = zigzag();
      v.context_before = zigzag();
    } else v.v = zigzag();
  }
  template <class T>
  void value(std::vector<T>& v) {
    const std::uint64_t n = varint();
    if (n > in_.size() - at_) throw CodecError("a list is longer than the data");
    v.clear();
    v.reserve(n);
    for (std::uint64_t i = 0; i < n; ++i) value(v.emplace_back());
  }
  template <class... T>
  void value(std::variant<T...>& v) {
    const std::uint64_t index = varint();
    if (index >= sizeof...(T)) throw CodecError("unknown kind of record: the log is of a newer version, or damaged");
    alternative<0>(v, index);
  }

 private:
  std::int64_t zigzag() {
    const std::uint64_t v = varint();
    return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
  }
  template <std::size_t I, class... T>
  void alternative(std::variant<T...>& v, std::uint64_t index) {
    if constexpr (I < sizeof...(T)) {
      if (index == I) value(v.template emplace<I>());
      else alternative<I + 1>(v, index);
    }
  }
  std::string_view in_;
  std::size_t at_ = 0;
};

}  // namespace faultline::record
