// Reading a failure log: times are hours, or UTC instants as ISO 8601 writes them.
#include <fmt/format.h>

#include "core/calibration/delimited.h"
#include "core/fault/fit.h"

namespace faultline::fault {
namespace {

/// Days from 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant's days_from_civil).
std::int64_t days_from_civil(std::int64_t y, std::int64_t m, std::int64_t d) {
  y -= m <= 2 ? 1 : 0;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
  const std::int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + doe - 719468;
}

}  // namespace

std::optional<double> hours_of(std::string_view text) {
  if (const auto number = calibration::parse_number(text)) return number;
  const auto digits = [&](std::size_t at, std::size_t n) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    for (std::size_t k = at; k < at + n; ++k) {
      if (k >= text.size() || text[k] < '0' || text[k] > '9') return std::nullopt;
      value = value * 10 + (text[k] - '0');
    }
    return value;
  };
  const auto y = digits(0, 4), mo = digits(5, 2), d = digits(8, 2), h = digits(11, 2), mi = digits(14, 2);
  if (!y || !mo || !d || !h || !mi || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != ' ') ||
      text[13] != ':')
    return std::nullopt;
  if (*mo < 1 || *mo > 12 || *d < 1 || *d > 31 || *h > 23 || *mi > 59) return std::nullopt;
  std::int64_t s = 0;
  std::size_t end = 16;
  if (text.size() > 16 && text[16] == ':') {
    const auto seconds = digits(17, 2);
    if (!seconds || *seconds > 60) return std::nullopt;
    s = *seconds;
    end = 19;
  }
  if (text.substr(end) != "" && text.substr(end) != "Z") return std::nullopt;
  return static_cast<double>(days_from_civil(*y, *mo, *d)) * 24 + static_cast<double>(*h) +
         static_cast<double>(*mi * 60 + s) / 3600;
}

std::vector<Outage> read_failure_log(std::istream& in, const std::string& file, config::Diagnostics& diagnostics) {
  workload::RowErrors errors(file, diagnostics);
  calibration::Delimited rows(in, errors);
  std::vector<Outage> out;
  if (!rows.require({"unit", "start", "end", "cause"})) return out;
  while (rows.next()) {
    Outage o;
    o.unit = std::string(calibration::trimmed(rows.text("unit")));
    o.cause = std::string(calibration::trimmed(rows.text("cause")));
    const auto time = [&](std::string_view column) {
      const auto value = hours_of(calibration::trimmed(rows.text(column)));
      if (!value) {
        rows.error(column, fmt::format("expected hours or an instant such as 2025-03-01T04:00:00Z, got {}",
                                       workload::shown(rows.text(column))));
      }
      return value;
    };
    if (o.unit.empty()) rows.error("unit", "expected the name of the unit that failed");
    if (o.cause.empty()) rows.error("cause", "expected what failed");
    const auto start = time("start");
    if (!calibration::trimmed(rows.text("end")).empty()) o.end_h = time("end");
    if (start && o.end_h && *o.end_h < *start) rows.error("end", "the outage ends before it starts");
    if (!start) continue;
    o.start_h = *start;
    out.push_back(std::move(o));
  }
  return out;
}

}  // namespace faultline::fault
