// Text of a YAML scalar or a command-line value <-> a typed value. Units are part of the text and are required where a
// type has them: `400 Gb/s`, `1.3 us`, `192 GiB`. A bare number with a unit missing is an error that says what to
// write.
#pragma once

#include <fmt/format.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/quantity.h"

namespace faultline::config {

/// A parsed value or a sentence about what was expected ("a duration such as '50 ms'").
template <class T>
struct Parsed {
  std::optional<T> value;
  std::string expected;
};

Parsed<bool> parse_scalar(std::string_view text, const bool*);
Parsed<std::int64_t> parse_scalar(std::string_view text, const std::int64_t*);
Parsed<double> parse_scalar(std::string_view text, const double*);
Parsed<std::string> parse_scalar(std::string_view text, const std::string*);
Parsed<Duration> parse_scalar(std::string_view text, const Duration*);  // ns us ms s min h d; 0 needs no unit
Parsed<Instant> parse_scalar(std::string_view text, const Instant*);    // as Duration
Parsed<Bytes> parse_scalar(std::string_view text, const Bytes*);        // B kB MB GB TB KiB MiB GiB TiB
Parsed<BytesPerSecond> parse_scalar(std::string_view text, const BytesPerSecond*);  // B/s … TB/s, GiB/s, Gb/s (bits)
Parsed<FlopsPerSecond> parse_scalar(std::string_view text, const FlopsPerSecond*);  // GFLOP/s TFLOP/s PFLOP/s
Parsed<Tokens> parse_scalar(std::string_view text, const Tokens*);  // a whole number, optionally "tokens", k

/// The shortest text that parses back to the same value.
std::string print_scalar(bool);
std::string print_scalar(std::int64_t);
std::string print_scalar(double);
std::string print_scalar(const std::string&);
std::string print_scalar(Duration);
std::string print_scalar(Instant);
std::string print_scalar(Bytes);
std::string print_scalar(BytesPerSecond);
std::string print_scalar(FlopsPerSecond);
std::string print_scalar(Tokens);

/// An enum takes part by an ADL function returning its names in the order of its values, starting at 0:
///   constexpr std::array<std::string_view, 2> enum_names(const RestartUnit*) { return {"rank", "instance"}; }
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires {
  enum_names(static_cast<const E*>(nullptr));
};

}  // namespace faultline::config
