// One description of a settings struct serves for reading it from YAML, for printing it resolved with every default,
// and for listing its keys in errors. A struct takes part by a function found by argument-dependent lookup:
//
//   void describe(config::Fields& f, RouterSpec& s) {
//     f.field("policy", s.policy);                                  // optional: keeps the default of the struct
//     f.field("replicas", s.replicas, {.min = 1, .max = 1024});
//     f.required("name", s.name);
//     f.object("retry", s.retry);                                   // nested mapping
//     f.list("classes", s.classes);                                 // list of scalars or mappings
//     if (f.reading() && s.replicas > 8 && !s.shared) f.error("replicas", "more than 8 replicas need 'shared: true'");
//   }
//
// Errors go to the Diagnostics with file:line:column; reading goes on, so that all are reported at once.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/config/document.h"
#include "core/config/scalar.h"

namespace faultline::config {

/// Inclusive bounds of a number, in the base unit of its type (ns, bytes, bytes/s, count).
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
inline constexpr Range kPositive{.min = std::numeric_limits<double>::min()};
inline constexpr Range kNotNegative{.min = 0};
inline constexpr Range kRatio{.min = 0, .max = 1};

class Fields;
template <class T>
concept Described = requires(Fields& f, T& t) {
  describe(f, t);
};

class Fields {
 public:
  /// Reads from `node`; `what` names the mapping in errors ("fleet", "faults[2]").
  Fields(const Document& document, YAML::Node node, std::string what, Diagnostics& diagnostics);
  /// Writes every field to `emitter` (which must be at the place of a value).
  explicit Fields(YAML::Emitter& emitter);

  bool reading() const { return emitter_ == nullptr; }
  /// True while reading if the key is there. While writing always true.
  bool has(std::string_view key) const;

  template <class T>
  void field(std::string_view key, T& value, Range range = {}) {
    visit(key, value, range, false);
  }
  template <class T>
  void required(std::string_view key, T& value, Range range = {}) {
    visit(key, value, range, true);
  }
  template <class T>
  requires Described<T>
  void object(std::string_view key, T& value, bool is_required = false);
  template <class T>
  void list(std::string_view key, std::vector<T>& values, bool is_required = false);
  /// A key whose value the caller interprets (a file name or an inline mapping). Marks the key as known. Undefined
  /// node where absent or writing.
  YAML::Node raw(std::string_view key);
  /// For the writing side of raw(): a described object or a scalar.
  template <class T>
  requires Described<T>
  void write_object(std::string_view key, T& value);
  void write_scalar(std::string_view key, const std::string& text);

  /// Reports an error at the value of `key`, or at the mapping when the key is absent.
  void error(std::string_view key, std::string message, std::string note = {});
  /// Place of the value of `key`, or of the mapping.
  Mark mark(std::string_view key = {}) const;
  Diagnostics& diagnostics() { return *diagnostics_; }
  const Document& document() const { return *document_; }
  const YAML::Node& node() const { return node_; }
  const std::string& what() const { return what_; }

  /// Reports unknown keys with a suggestion (reading) or closes the mapping (writing). Called by read() and print().
  void finish();

 private:
  YAML::Node take(std::string_view key, bool is_required);
  template <class T>
  void visit(std::string_view key, T& value, Range range, bool is_required);
  template <class T>
  void read_value(const YAML::Node& node, std::string_view key, T& value, Range range);
  template <class T>
  static std::string print_value(const T& value);
  void bad_value(const YAML::Node& node, std::string_view key, const std::string& expected, std::string note = {});
  bool in_range(const YAML::Node& node, std::string_view key, double value, Range range, const std::string& low,
                const std::string& high);

  const Document* document_ = nullptr;
  Diagnostics* diagnostics_ = nullptr;
  YAML::Emitter* emitter_ = nullptr;
  YAML::Node node_;
  std::string what_;
  std::vector<std::string> known_;
};

/// Reads a described struct from a mapping, unknown keys included in the check.
template <Described T>
void read(const Document& document, const YAML::Node& node, const std::string& what, T& value,
          Diagnostics& diagnostics) {
  Fields f(document, node, what, diagnostics);
  if (node && node.IsMap()) {
    describe(f, value);
    f.finish();
  }
}

/// The struct as YAML with every default filled in; reads back to an equal struct.
template <Described T>
void print(YAML::Emitter& emitter, T& value) {
  Fields f(emitter);
  describe(f, value);
  f.finish();
}

// ---- implementation -------------------------------------------------------------------------------------------------

namespace detail {
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
double number_of(const T& v) {
  if constexpr (std::is_arithmetic_v<T>) return static_cast<double>(v);
  else if constexpr (requires { v.v; }) return static_cast<double>(v.v);
  else if constexpr (requires { v.ns; }) return static_cast<double>(v.ns);
  else return 0;
}
template <class T>
std::string bound_text(double bound) {
  if (!std::is_floating_point_v<T> && !(bound > -9.2e18 && bound < 9.2e18)) return {};  // no bound of an integer type
  if constexpr (std::is_floating_point_v<T>) return print_scalar(bound);
  else if constexpr (std::is_integral_v<T>) return print_scalar(static_cast<std::int64_t>(bound));
  else if constexpr (requires { T{std::int64_t{}}; }) return print_scalar(T{static_cast<std::int64_t>(bound)});
  else return {};
}
}  // namespace detail

template <class T>
std::string Fields::print_value(const T& value) {
  if constexpr (NamedEnum<T>)
    return std::string(enum_names(static_cast<const T*>(nullptr))[static_cast<std::size_t>(value)]);
  else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
    return print_scalar(static_cast<std::int64_t>(value));
  else return print_scalar(value);
}

template <class T>
void Fields::read_value(const YAML::Node& node, std::string_view key, T& value, Range range) {
  if constexpr (detail::IsOptional<T>::value) {
    if (node.IsNull() || (node.IsScalar() && node.Scalar() == "none")) {
      value.reset();
      return;
    }
    typename T::value_type inner{};
    read_value(node, key, inner, range);
    value = inner;
  } else if constexpr (NamedEnum<T>) {
    const auto names = enum_names(static_cast<const T*>(nullptr));
    const std::string text = node.IsScalar() ? node.Scalar() : "";
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (text == names[i]) {
        value = static_cast<T>(i);
        return;
      }
    }
    const std::vector<std::string> all(names.begin(), names.end());
    std::string note = did_you_mean(text, all);
    bad_value(node, key, "one of " + name_list(all, 40), note);
  } else {
    using Wide = std::conditional_t<std::is_integral_v<T> && !std::is_same_v<T, bool>, std::int64_t,
                                    std::conditional_t<std::is_floating_point_v<T>, double, T>>;
    if (!node.IsScalar()) {
      bad_value(node, key, parse_scalar(std::string_view("\x01"), static_cast<const Wide*>(nullptr)).expected);
      return;
    }
    const auto parsed = parse_scalar(std::string_view(node.Scalar()), static_cast<const Wide*>(nullptr));
    if (!parsed.value) {
      bad_value(node, key, parsed.expected);
      return;
    }
    if constexpr (!std::is_same_v<T, std::string> && !std::is_same_v<T, bool>) {
      if constexpr (std::is_integral_v<T>) {
        range.min = std::max(range.min, static_cast<double>(std::numeric_limits<T>::min()));
        range.max = std::min(range.max, static_cast<double>(std::numeric_limits<T>::max()));
      }
      if (!in_range(node, key, detail::number_of(*parsed.value), range, detail::bound_text<T>(range.min),
                    detail::bound_text<T>(range.max))) {
        return;
      }
    }
    value = static_cast<T>(*parsed.value);
  }
}

template <class T>
void Fields::visit(std::string_view key, T& value, Range range, bool is_required) {
  if (!reading()) {
    if constexpr (detail::IsOptional<T>::value) write_scalar(key, value ? print_value(*value) : "none");
    else write_scalar(key, print_value(value));
    return;
  }
  const YAML::Node node = take(key, is_required);
  if (node.IsDefined()) read_value(node, key, value, range);
}

template <class T>
requires Described<T>
void Fields::write_object(std::string_view key, T& value) {
  *emitter_ << YAML::Key << std::string(key) << YAML::Value;
  config::print(*emitter_, value);
}

template <class T>
requires Described<T>
void Fields::object(std::string_view key, T& value, bool is_required) {
  if (!reading()) {
    write_object(key, value);
    return;
  }
  const YAML::Node node = take(key, is_required);
  if (node.IsDefined())
    config::read(*document_, node, what_.empty() ? std::string(key) : what_ + "." + std::string(key), value,
                 *diagnostics_);
}

template <class T>
void Fields::list(std::string_view key, std::vector<T>& values, bool is_required) {
  if (!reading()) {
    *emitter_ << YAML::Key << std::string(key) << YAML::Value << YAML::BeginSeq;
    for (auto& value : values) {
      if constexpr (Described<T>) config::print(*emitter_, value);
      else *emitter_ << print_value(value);
    }
    *emitter_ << YAML::EndSeq;
    return;
  }
  const YAML::Node node = take(key, is_required);
  if (!node.IsDefined()) return;
  if (!node.IsSequence()) {
    bad_value(node, key, "a list");
    return;
  }
  values.clear();
  for (std::size_t i = 0; i < node.size(); ++i) {
    T value{};
    if constexpr (Described<T>) config::read(*document_, node[i], fmt::format("{}[{}]", key, i), value, *diagnostics_);
    else read_value(node[i], fmt::format("{}[{}]", key, i), value, {});
    values.push_back(std::move(value));
  }
}

}  // namespace faultline::config
