// Random contents for any message, event, command or record: every member through its fields().
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/base/random.h"
#include "core/control/messages.h"

namespace faultline::record::testing {

class RandomFill {
 public:
  explicit RandomFill(Random& random) : random_(random) {}
  template <class... T>
  void operator()(T&... values) {
    (value(values), ...);
  }

  template <class T>
  void value(T& v) {
    if constexpr (std::is_same_v<T, bool>) v = random_.chance(0.5);
    else if constexpr (std::is_enum_v<T>) v = static_cast<T>(random_.below(3));
    else if constexpr (std::is_integral_v<T>) v = static_cast<T>(number());
    else if constexpr (requires { v.kInvalid; }) v.v = static_cast<decltype(v.v)>(number());
    else if constexpr (requires { v.ns; }) v.ns = static_cast<std::int64_t>(number());
    else if constexpr (requires { v.fields(*this); }) v.fields(*this);
    else if constexpr (std::is_same_v<T, Address>) {
      v.role = static_cast<Role>(random_.below(5));
      v.index = static_cast<std::uint32_t>(number());
    } else if constexpr (std::is_same_v<T, model::RankLoad>) (*this)(v.sequences, v.context_tokens);
    else if constexpr (std::is_same_v<T, model::PrefillItem>) (*this)(v.rank, v.chunk_tokens, v.context_before);
    else v.v = static_cast<std::int64_t>(number());
  }
  template <class T>
  void value(std::vector<T>& v) {
    v.resize(random_.below(5));
    for (T& x : v) value(x);
  }
  void value(control::Message& v) { any(v, random_.below(std::variant_size_v<control::Message>)); }
  /// Makes `v` hold alternative `index` with random contents.
  template <class... T>
  void any(std::variant<T...>& v, std::uint64_t index) {
    alternative<0>(v, index);
  }

 private:
  template <std::size_t I, class... T>
  void alternative(std::variant<T...>& v, std::uint64_t index) {
    if constexpr (I < sizeof...(T)) {
      if (index == I) value(v.template emplace<I>());
      else alternative<I + 1>(v, index);
    }
  }
  /// Small, large and extreme values all occur: every length of a varint, both signs, "unknown".
  std::uint64_t number() {
    switch (random_.below(5)) {
      case 0: return random_.below(3);
      case 1: return ~std::uint64_t{0} - random_.below(3);
      case 2: return std::uint64_t{1} << 63;
      default: return random_.bits() >> random_.below(64);
    }
  }
  Random& random_;
};

}  // namespace faultline::record::testing
