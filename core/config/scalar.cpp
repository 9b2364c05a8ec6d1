#include "core/config/scalar.h"

#include <charconv>
#include <cmath>
#include <span>

namespace faultline::config {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 8> kDurationUnits{
    {{"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9}, {"d", 86400e9}}};
constexpr std::array<Unit, 9> kByteUnits{{{"B", 1},
                                          {"kB", 1e3},
                                          {"MB", 1e6},
                                          {"GB", 1e9},
                                          {"TB", 1e12},
                                          {"KiB", 1024.0},
                                          {"MiB", 1048576.0},
                                          {"GiB", 1073741824.0},
                                          {"TiB", 1099511627776.0}}};
constexpr std::array<Unit, 11> kRateUnits{{{"B/s", 1},
                                           {"kB/s", 1e3},
                                           {"MB/s", 1e6},
                                           {"GB/s", 1e9},
                                           {"TB/s", 1e12},
                                           {"MiB/s", 1048576.0},
                                           {"GiB/s", 1073741824.0},
                                           {"TiB/s", 1099511627776.0},
                                           {"Mb/s", 1e6 / 8},
                                           {"Gb/s", 1e9 / 8},
                                           {"Tb/s", 1e12 / 8}}};
constexpr std::array<Unit, 3> kFlopUnits{{{"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}}};

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

/// Splits "1.5 GiB" into a finite number and the rest. Underscores group digits: 1_000_000.
std::optional<double> leading_number(std::string_view& text) {
  text = trimmed(text);
  std::string digits;
  std::size_t used = 0;
  while (used < text.size()) {
    const char c = text[used];
    const bool exponent =
        (c == 'e' || c == 'E') && used > 0 && used + 1 < text.size() &&
        (std::isdigit(static_cast<unsigned char>(text[used + 1])) || text[used + 1] == '-' || text[used + 1] == '+');
    const bool sign = (c == '-' || c == '+') && (used == 0 || text[used - 1] == 'e' || text[used - 1] == 'E');
    if (!std::isdigit(static_cast<unsigned char>(c)) && c != '.' && c != '_' && !exponent && !sign) break;
    if (c != '_' && !(c == '+' && used == 0)) digits += c;
    ++used;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || !std::isfinite(value)) return std::nullopt;
  text = trimmed(text.substr(used));
  return value;
}

std::optional<std::int64_t> with_unit(std::string_view text, std::span<const Unit> units, bool zero_needs_no_unit) {
  const auto number = leading_number(text);
  if (!number) return std::nullopt;
  if (text.empty()) {
    if (zero_needs_no_unit && *number == 0) return 0;
    return std::nullopt;
  }
  for (const Unit& unit : units) {
    if (text != unit.name) continue;
    const double value = *number * unit.factor;
    if (std::abs(value) >= 9.2e18) return std::nullopt;
    return static_cast<std::int64_t>(value + (value < 0 ? -0.5 : 0.5));
  }
  return std::nullopt;
}

template <class T>
Parsed<T> quantity(std::string_view text, std::span<const Unit> units, const char* expected) {
  if (const auto v = with_unit(text, units, true)) return {T{*v}, {}};
  return {std::nullopt, expected};
}

/// The largest unit in which the value is a whole number, else the unit that makes it readable, always exact.
std::string print_with_units(std::int64_t value, std::span<const Unit> units, std::string_view base) {
  if (value == 0) return fmt::format("0 {}", base);
  const Unit* best = nullptr;
  for (const Unit& unit : units) {
    const auto factor = static_cast<std::int64_t>(unit.factor);
    if (unit.name == "µs" || factor < 1 || value % factor != 0) continue;
    if (!best || unit.factor > best->factor) best = &unit;
  }
  if (!best) return fmt::format("{} {}", value, base);
  const std::int64_t count = value / static_cast<std::int64_t>(best->factor);
  if (std::abs(count) < 10'000) return fmt::format("{} {}", count, best->name);
  // A long integer count reads better as a decimal of a larger unit, if that is still exact.
  for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
    if (unit->name == "µs" || std::abs(static_cast<double>(value)) < unit->factor) continue;
    const std::string text = fmt::format("{} {}", static_cast<double>(value) / unit->factor, unit->name);
    if (with_unit(text, units, false) == value && text.size() < fmt::format("{} {}", count, best->name).size())
      return text;
  }
  return fmt::format("{} {}", count, best->name);
}

}  // namespace

Parsed<bool> parse_scalar(std::string_view text, const bool*) {
  if (text == "true" || text == "yes" || text == "on") return {true, {}};
  if (text == "false" || text == "no" || text == "off") return {false, {}};
  return {std::nullopt, "true or false"};
}

Parsed<std::int64_t> parse_scalar(std::string_view text, const std::int64_t*) {
  std::string digits;
  for (const char c : trimmed(text)) {
    if (c != '_') digits += c;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (!digits.empty() && error == std::errc{} && end == digits.data() + digits.size()) return {value, {}};
  return {std::nullopt, "a whole number"};
}

Parsed<double> parse_scalar(std::string_view text, const double*) {
  std::string_view rest = text;
  const auto number = leading_number(rest);
  if (number && rest.empty()) return {*number, {}};
  if (number && rest == "%") return {*number / 100, {}};
  return {std::nullopt, "a number"};
}

Parsed<std::string> parse_scalar(std::string_view text, const std::string*) { return {std::string(text), {}}; }

Parsed<Duration> parse_scalar(std::string_view text, const Duration*) {
  return quantity<Duration>(text, kDurationUnits,
                            "a duration with its unit, such as '50 ms' (ns, us, ms, s, min, h, d)");
}

Parsed<Instant> parse_scalar(std::string_view text, const Instant*) {
  const auto parsed = parse_scalar(text, static_cast<const Duration*>(nullptr));
  if (!parsed.value) return {std::nullopt, "a time since the start with its unit, such as '60 s'"};
  return {Instant{parsed.value->v}, {}};
}

Parsed<Bytes> parse_scalar(std::string_view text, const Bytes*) {
  return quantity<Bytes>(text, kByteUnits,
                         "a size with its unit, such as '192 GiB' (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)");
}

Parsed<BytesPerSecond> parse_scalar(std::string_view text, const BytesPerSecond*) {
  return quantity<BytesPerSecond>(text, kRateUnits,
                                  "a bandwidth with its unit, such as '400 Gb/s' (bits) or '50 GB/s' (bytes)");
}

Parsed<FlopsPerSecond> parse_scalar(std::string_view text, const FlopsPerSecond*) {
  return quantity<FlopsPerSecond>(text, kFlopUnits, "a compute rate with its unit, such as '1307 TFLOP/s'");
}

Parsed<Tokens> parse_scalar(std::string_view text, const Tokens*) {
  constexpr std::array<Unit, 4> units{{{"tokens", 1}, {"k", 1e3}, {"Ki", 1024.0}, {"Mi", 1048576.0}}};
  if (const auto plain = parse_scalar(text, static_cast<const std::int64_t*>(nullptr)); plain.value) {
    return {Tokens{*plain.value}, {}};
  }
  return quantity<Tokens>(text, units, "a number of tokens, such as '2048' or '128 Ki'");
}

std::string print_scalar(bool v) { return v ? "true" : "false"; }
std::string print_scalar(std::int64_t v) { return fmt::format("{}", v); }
std::string print_scalar(double v) { return fmt::format("{}", v); }
std::string print_scalar(const std::string& v) { return v; }
std::string print_scalar(Duration v) { return print_with_units(v.v, kDurationUnits, "s"); }
std::string print_scalar(Instant v) { return print_with_units(v.ns, kDurationUnits, "s"); }
std::string print_scalar(Bytes v) { return print_with_units(v.v, kByteUnits, "B"); }
std::string print_scalar(BytesPerSecond v) { return print_with_units(v.v, kRateUnits, "B/s"); }
std::string print_scalar(FlopsPerSecond v) { return print_with_units(v.v, kFlopUnits, "TFLOP/s"); }
std::string print_scalar(Tokens v) { return fmt::format("{}", v.v); }

}  // namespace faultline::config
