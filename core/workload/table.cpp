#include "core/workload/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace faultline::workload {
namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

RowErrors::~RowErrors() {
  if (count_ > kErrorsMax) {
    diagnostics_.error({file_, 0, 0}, fmt::format("{} more errors in this file are not shown", count_ - kErrorsMax));
  }
}

void RowErrors::at(int line, int column, std::string message, std::string note) {
  if (++count_ <= kErrorsMax) diagnostics_.error({file_, line, column}, std::move(message), std::move(note));
}

std::string shown(std::string_view text) {
  constexpr std::size_t most = 40;
  std::string out = "'";
  for (const char c : text.substr(0, most)) out += c >= 32 && c < 127 ? c : '?';
  return out + (text.size() > most ? "…'" : "'");
}

std::optional<Duration> parse_seconds(std::string_view text) {
  constexpr std::int64_t whole_max = 4'000'000'000;  // 126 years; in ns it fits an int64
  std::int64_t whole = 0, nanos = 0;
  const char* const last = text.data() + text.size();
  if (text.empty() || text.front() == '-' || text.front() == '+') return std::nullopt;
  auto [end, error] = std::from_chars(text.data(), last, whole);
  if (error == std::errc{} && whole <= whole_max) {
    if (end == last) return Duration{whole * 1'000'000'000};
    if (*end == '.') {
      std::int64_t place = 100'000'000;
      const char* c = end + 1;
      for (; c != last && *c >= '0' && *c <= '9'; ++c, place /= 10) nanos += (*c - '0') * place;
      if (c == last) return Duration{whole * 1'000'000'000 + nanos};
    }
  }
  const auto value = parse_number(text);  // "1e-05", ".5"
  if (!value || *value < 0 || *value > static_cast<double>(whole_max)) return std::nullopt;
  return duration_from_seconds(*value);
}

std::optional<std::uint32_t> parse_tokens(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > kTokensMax) return std::nullopt;
  return value;
}

Lines::Lines(std::string_view text) : rest_(text) {
  if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
}

bool Lines::next(std::string_view& line) {
  if (rest_.empty()) return false;
  const auto end = rest_.find('\n');
  line = rest_.substr(0, end);
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  ++number_;
  return true;
}

bool Lines::rest_is_blank() const { return rest_.find_first_not_of(" \t\r\n") == std::string_view::npos; }

Table::Table(std::string_view text, RowErrors& errors, std::vector<std::string> names)
    : lines_(text), errors_(errors), names_(std::move(names)) {}

std::optional<std::vector<int>> Table::columns(const std::vector<Column>& wanted) {
  std::vector<std::string> known;
  for (const Column& c : wanted) known.emplace_back(c.name);
  if (!lines_.next(line_)) {
    errors_.whole_file("the file is empty", "expected the header " + config::name_list(known, 40));
    return std::nullopt;
  }
  split();
  const auto before = errors_.count();
  std::vector<int> places(wanted.size(), -1);
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    names_.emplace_back(fields_[i]);
    const auto column = static_cast<int>(fields_[i].data() - line_.data()) + 1;
    const auto found = std::find(known.begin(), known.end(), fields_[i]);
    if (found == known.end()) {
      const std::string suggestion = config::did_you_mean(fields_[i], known);
      errors_.at(lines_.number(), column, fmt::format("unknown column {}", shown(fields_[i])),
                 fmt::format("known columns: {}{}{}", config::name_list(known, 40), suggestion.empty() ? "" : " ",
                             suggestion));
      continue;
    }
    int& place = places[static_cast<std::size_t>(found - known.begin())];
    if (place >= 0) errors_.at(lines_.number(), column, fmt::format("column '{}' appears twice", *found));
    place = static_cast<int>(i);
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (places[i] < 0 && !wanted[i].optional) {
      errors_.at(lines_.number(), 1, fmt::format("missing column '{}'", wanted[i].name));
    }
  }
  if (errors_.count() > before) return std::nullopt;
  return places;
}

bool Table::split() {
  fields_.clear();
  std::string_view rest = line_;
  for (;;) {
    const auto comma = rest.find(',');
    fields_.push_back(trimmed(rest.substr(0, comma)));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return fields_.size() == names_.size();
}

bool Table::next_row() {
  while (!lines_.rest_is_blank() && lines_.next(line_)) {
    if (split()) return true;
    errors_.at(lines_.number(), 1,
               line_.empty() ? "an empty line between rows"
                             : fmt::format("expected {} values, got {}", names_.size(), fields_.size()),
               "columns: " + config::name_list(names_, 40));
  }
  return false;
}

void Table::error(int column, const std::string& message, std::string note) {
  errors_.at(lines_.number(), column_of(column),
             fmt::format("column {}: {}", names_[static_cast<std::size_t>(column)], message), std::move(note));
}

std::optional<std::uint32_t> Table::tokens(int column, std::uint32_t min) {
  const auto value = parse_tokens(text(column));
  if (!value) {
    error(column,
          fmt::format("expected a whole number of tokens, at most {}, got {}", kTokensMax, shown(text(column))));
  } else if (*value < min) {
    error(column, fmt::format("expected at least {}, got {}", min, *value));
    return std::nullopt;
  }
  return value;
}

std::optional<double> Table::number(int column, double min, double max) {
  const auto value = parse_number(text(column));
  if (value && *value >= min && *value <= max) return value;
  error(column, fmt::format("expected a number from {} to {}, got {}", min, max, shown(text(column))));
  return std::nullopt;
}

std::optional<Duration> Table::seconds(int column) {
  const auto value = parse_seconds(text(column));
  if (!value) error(column, fmt::format("expected a time in seconds, 0 or more, got {}", shown(text(column))));
  return value;
}

}  // namespace faultline::workload
