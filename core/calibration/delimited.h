// Comma-separated tables of measurements, read by column name, a row at a time from a stream. Unlike the reader of
// request traces it knows quoted values and ignores columns it was not asked for: tools add columns with each release.
#pragma once

#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/workload/table.h"

namespace faultline::calibration {

class Delimited {
 public:
  Delimited(std::istream& in, workload::RowErrors& errors);

  const std::vector<std::string>& header() const { return header_; }
  bool has(std::string_view column) const { return index(column) >= 0; }
  /// Reports every column of the list that is missing; true when none is.
  bool require(const std::vector<std::string_view>& columns);
  /// The next row with as many values as the header; rows of another length are reported and passed over. Blank lines
  /// end nothing and count nothing.
  bool next();
  int line() const { return line_; }

  /// The value of a column, "" where the file has no such column.
  std::string_view text(std::string_view column) const;
  /// A finite number in [min, max]; nullopt after reporting what was expected, with the place of the value.
  std::optional<double> number(std::string_view column, double min, double max = 1e18);
  /// As number(), but `otherwise` where the column is absent or the value is blank.
  std::optional<double> number_or(std::string_view column, double otherwise, double min, double max = 1e18);
  void error(std::string_view column, std::string message, std::string note = {});

 private:
  int index(std::string_view column) const;
  bool read_record();

  std::istream& in_;
  workload::RowErrors& errors_;
  std::vector<std::string> header_, values_;
  std::vector<int> starts_;  // column in the line, from 1
  int line_ = 0, lines_read_ = 0;
};

/// A finite number that takes the whole text; nullopt otherwise ("nan", "inf", "1.5ms", "").
std::optional<double> parse_number(std::string_view text);
std::string_view trimmed(std::string_view text);

}  // namespace faultline::calibration
