// Numbers and names as people read them, and the escapes that keep a hostile name harmless.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"

namespace faultline::report {

/// 1234567 -> "1,234,567".
std::string with_commas(std::int64_t n);
/// At least three significant digits, thousands grouped from 1,000 on: "0.0123", "1.23", "12.3", "123", "12,345".
std::string number(double x);
/// "850 ns", "1.30 ms", "12.3 s", "4 min 05 s", "2 h 03 min"; "–" where empty.
std::string time_text(std::optional<Duration> d);
/// "1.00 GiB".
std::string bytes_text(std::int64_t bytes);
std::string percent(double share);  // 0.123 -> "12.3 %"

/// Number of terminal columns of UTF-8 text whose characters are one column wide each.
std::size_t width_of(std::string_view text);
/// Cut to `columns` with an ellipsis if needed, else padded with blanks on the right (or on the left).
std::string fit(std::string_view text, std::size_t columns, bool right_aligned = false);
/// Safe to print: control characters (also C1 ones and invalid UTF-8) become '?', so that a name cannot move the
/// cursor.
std::string printable(std::string_view text);
/// Breaks `text` at blanks into lines of at most `columns`.
std::vector<std::string> wrapped(std::string_view text, std::size_t columns);

/// For element content and attribute values in quotes: & < > " '. Invalid UTF-8 and control characters become U+FFFD.
std::string html_escape(std::string_view text);

/// Bars of `rows` text rows, eighths of a cell high. Cells between value and `reference` are shaded. Values are scaled
/// to `top`. Rows come from the top down.
std::vector<std::string> bar_chart(const std::vector<double>& values, const std::vector<double>& reference, double top,
                                   int rows);
/// A horizontal bar of up to `columns` cells for value/top, in eighths; at least one eighth for a positive value.
std::string bar(double share, std::size_t columns);

}  // namespace faultline::report
