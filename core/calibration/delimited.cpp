#include "core/calibration/delimited.h"

#include <fmt/format.h>

#include <fmt/format.h>
#include <algorithm>
#include <charconv>

#include <cmath>

namespace faultline::calibration {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  text = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

Delimited::Delimited(std::istream& in, workload::RowErrors& errors) : in_(in), errors_(errors) {
  if (!read_record()) return;
  header_ = values_;
  if (!header_.empty() && header_[0].starts_with("\xef\xbb\xbf")) header_[0].erase(0, 3);
  for (auto& name : header_) name = std::string(trimmed(name));
  for (std::size_t i = 0; i < header_.size(); ++i) {
    if (!header_[i].empty() &&
        std::count(header_.begin(), header_.begin() + static_cast<std::ptrdiff_t>(i), header_[i]) > 0)
      errors_.at(1, starts_[i], "column '" + header_[i] + "' stands twice in the header");
  }
}

// One record, which may run over several lines where a quoted value holds a line end (RFC 4180).
bool Delimited::read_record() {
  std::string text, more;
  if (!std::getline(in_, text)) return false;
  line_ = ++lines_read_;
  values_.clear();
  starts_.clear();
  std::string value;
  bool quoted = false, was_quoted = false;
  int start = 1;
  std::size_t i = 0;
  const auto end_value = [&] {
    values_.push_back(was_quoted ? value : std::string(trimmed(value)));
    starts_.push_back(start);
    value.clear();
    was_quoted = false;
    start = static_cast<int>(i) + 2;
  };
  for (;; ++i) {
    if (i >= text.size()) {
      if (!quoted) break;
      if (!std::getline(in_, more)) {
        errors_.at(line_, start, "the quoted value is never closed");
        break;
      }
      ++lines_read_;
      value += '\n';
      text = more;
      i = static_cast<std::size_t>(-1);
      continue;
    }
    const char c = text[i];
    if (quoted) {
      if (c != '"') value += c;
      else if (i + 1 < text.size() && text[i + 1] == '"') value += text[++i];
      else quoted = false;
    } else if (c == '"' && trimmed(value).empty()) {
      quoted = was_quoted = true;
      value.clear();
    } else if (c == ',') {
      end_value();
    } else if (!(was_quoted && (c == '\r' || c == ' '))) {
      value += c;
    }
  }
  end_value();
  return true;
}

int Delimited::index(std::string_view column) const {
  const auto at = std::find(header_.begin(), header_.end(), column);
  return at == header_.end() ? -1 : static_cast<int>(at - header_.begin());
}

bool Delimited::require(const std::vector<std::string_view>& columns) {
  bool all = true;
  for (const auto column : columns) {
    if (has(column)) continue;
    errors_.at(1, 1, "the column '" + std::string(column) + "' is missing",
               "columns: " + config::name_list(header_, 40));
    all = false;
  }
  return all;
}

bool Delimited::next() {
  while (read_record()) {
    if (values_.size() == 1 && values_[0].empty()) continue;
    if (values_.size() == header_.size()) return true;
    errors_.at(line_, 1, fmt::format("expected {} values, got {}", header_.size(), values_.size()),
               in_.eof() ? "the file may be cut off" : "");
  }
  return false;
}

std::string_view Delimited::text(std::string_view column) const {
  const int i = index(column);
  return i < 0 ? std::string_view{} : std::string_view(values_[static_cast<std::size_t>(i)]);
}

void Delimited::error(std::string_view column, std::string message, std::string note) {
  const int i = index(column);
  errors_.at(line_, i < 0 ? 1 : starts_[static_cast<std::size_t>(i)], fmt::format("column {}: {}", column, message),
             std::move(note));
}

std::optional<double> Delimited::number(std::string_view column, double min, double max) {
  const auto value = parse_number(text(column));
  if (!value) {
    error(column, "expected a finite number, got " + workload::shown(text(column)));
    return std::nullopt;
  }
  if (*value < min || *value > max) {
    error(column, fmt::format("expected {:g} to {:g}, got {}", min, max, workload::shown(text(column))));
    return std::nullopt;
  }
  return value;
}

std::optional<double> Delimited::number_or(std::string_view column, double otherwise, double min, double max) {
  if (trimmed(text(column)).empty()) return otherwise;
  return number(column, min, max);
}

}  // namespace faultline::calibration
