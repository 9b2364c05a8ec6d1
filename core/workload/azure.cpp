// Azure LLM inference traces (github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset 2023 and 2024).
// TIMESTAMP is UTC: 2023 "2023-11-16 18:15:46.6805900", 2024 "2024-05-10 00:00:00.009930+00:00". Lines end CRLF or LF.
#include <array>
#include <charconv>

#include "core/workload/readers.h"

namespace faultline::workload {
namespace {

/// `count` digits at the front of `text`, taken off it.
std::optional<int> digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (const char c : text.substr(0, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool literal(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<std::int64_t> days_from_civil(int year, int month, int day) {
  constexpr std::array<int, 12> lengths{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (year < 1970 || year > 2199 || month < 1 || month > 12) return std::nullopt;
  if (day < 1 || day > lengths[static_cast<std::size_t>(month - 1)] + (month == 2 && leap)) return std::nullopt;
  std::int64_t days = 0;
  for (int y = 1970; y < year; ++y) days += 365 + ((y % 4 == 0 && y % 100 != 0) || y % 400 == 0);
  for (int m = 1; m < month; ++m) days += lengths[static_cast<std::size_t>(m - 1)] + (m == 2 && leap);
  return days + day - 1;
}

}  // namespace

std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  const auto year = digits(text, 4);
  if (!year || !literal(text, '-')) return std::nullopt;
  const auto month = digits(text, 2);
  if (!month || !literal(text, '-')) return std::nullopt;
  const auto day = digits(text, 2);
  if (!day || (!literal(text, ' ') && !literal(text, 'T'))) return std::nullopt;
  const auto hour = digits(text, 2);
  if (!hour || !literal(text, ':')) return std::nullopt;
  const auto minute = digits(text, 2);
  if (!minute || !literal(text, ':')) return std::nullopt;
  const auto second = digits(text, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 59) return std::nullopt;
  const auto days = days_from_civil(*year, *month, *day);
  if (!days) return std::nullopt;
  std::int64_t nanos = 0;
  if (literal(text, '.')) {
    std::int64_t place = 100'000'000;
    const std::size_t before = text.size();
    while (!text.empty() && text.front() >= '0' && text.front() <= '9' && place > 0) {
      nanos += (text.front() - '0') * place;
      place /= 10;
      text.remove_prefix(1);
    }
    if (text.size() == before) return std::nullopt;
  }
  std::int64_t zone_minutes = 0;
  if (!literal(text, 'Z') && !text.empty()) {
    const int sign = text.front() == '-' ? -1 : 1;
    if (!literal(text, '+') && !literal(text, '-')) return std::nullopt;
    const auto zone_hour = digits(text, 2);
    if (!zone_hour || !literal(text, ':')) return std::nullopt;
    const auto zone_minute = digits(text, 2);
    if (!zone_minute || *zone_hour > 14 || *zone_minute > 59) return std::nullopt;
    zone_minutes = sign * (*zone_hour * 60 + *zone_minute);
  }
  if (!text.empty()) return std::nullopt;
  return (((*days * 24 + *hour) * 60 + *minute - zone_minutes) * 60 + *second) * 1'000'000'000 + nanos;
}

void read_azure(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace) {
  Table table(text, errors);
  const auto columns = table.columns({{"TIMESTAMP"}, {"ContextTokens"}, {"GeneratedTokens"}});
  if (!columns) return;
  const int at_column = (*columns)[0], prompt_column = (*columns)[1], output_column = (*columns)[2];
  while (table.next_row()) {
    ++trace.counts.rows;
    const auto at = parse_timestamp(table.text(at_column));
    if (!at) {
      table.error(at_column,
                  "expected a time such as '2023-11-16 18:15:46.6805900' or '2024-05-10 00:00:00.009930+00:00', got " +
                      shown(table.text(at_column)));
    }
    const auto prompt = table.tokens(prompt_column, 0);
    const auto output = table.tokens(output_column, 0);
    if (!at || !prompt || !output) continue;
    TraceRow row{.at = Instant{*at}, .prompt = *prompt, .output = *output};
    take_row(spec, row, table, prompt_column, output_column, trace);
  }
}

}  // namespace faultline::workload
