// Rows of a comma-separated file with a header, with the place of each value for messages. Knows no trace format.
// Accepts LF and CRLF, a byte-order mark and blank lines at the end; no quoting (no trace we read uses it).
//
//   trace.csv:17:28: error: column GeneratedTokens: expected a whole number of tokens, got 'abc'
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/quantity.h"
#include "core/config/diagnostics.h"

namespace faultline::workload {

/// Errors of one file, cut after kErrorsMax so that a file of the wrong kind does not fill the terminal; the number cut
/// is reported when the object ends.
class RowErrors {
 public:
  static constexpr std::int64_t kErrorsMax = 50;
  RowErrors(std::string file, config::Diagnostics& diagnostics) : file_(std::move(file)), diagnostics_(diagnostics) {}
  ~RowErrors();
  RowErrors(const RowErrors&) = delete;
  RowErrors& operator=(const RowErrors&) = delete;

  void at(int line, int column, std::string message, std::string note = {});
  void whole_file(std::string message, std::string note = {}) { at(0, 0, std::move(message), std::move(note)); }
  std::int64_t count() const { return count_; }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  config::Diagnostics& diagnostics_;
  std::int64_t count_ = 0;
};

/// A value as it appears in a message: quoted, at most 40 bytes, anything but printable ASCII replaced by '?'.
std::string shown(std::string_view text);

/// "12.345678901" seconds, also "1.5e-3": nanoseconds, exact to 9 decimals (further ones are cut). At most 4e9 s.
std::optional<Duration> parse_seconds(std::string_view text);
/// Digits only, at most kTokensMax.
std::optional<std::uint32_t> parse_tokens(std::string_view text);
inline constexpr std::uint32_t kTokensMax = 100'000'000;

/// The lines of a text, without their ends.
class Lines {
 public:
  explicit Lines(std::string_view text);
  bool next(std::string_view& line);
  int number() const { return number_; }  // of the line last returned, from 1
  bool rest_is_blank() const;

 private:
  std::string_view rest_;
  int number_ = 0;
};

class Table {
 public:
  struct Column {
    std::string_view name;
    bool optional = false;
  };

  Table(std::string_view text, RowErrors& errors) : lines_(text), errors_(errors) {}
  /// Without a header: `names` are the columns, in this order.
  Table(std::string_view text, RowErrors& errors, std::vector<std::string> names);

  /// Reads the header; the columns may stand in any order. Returns the place of each wanted column (-1 where an
  /// optional one is absent), or nullopt after reporting missing, unknown and repeated columns.
  std::optional<std::vector<int>> columns(const std::vector<Column>& wanted);

  /// The next row that has the right number of fields; rows that have not are reported and passed over.
  bool next_row();
  int line() const { return lines_.number(); }
  /// Place of a value in its line, from 1.
  int column_of(int column) const {
    return static_cast<int>(fields_[static_cast<std::size_t>(column)].data() - line_.data()) + 1;
  }
  std::string_view text(int column) const { return fields_[static_cast<std::size_t>(column)]; }

  /// The value of a column of this row, or nullopt after reporting what was expected.
  std::optional<std::uint32_t> tokens(int column, std::uint32_t min);
  std::optional<double> number(int column, double min, double max);
  std::optional<Duration> seconds(int column);
  void error(int column, const std::string& message, std::string note = {});

 private:
  bool split();

  Lines lines_;
  RowErrors& errors_;
  std::vector<std::string> names_;
  std::string_view line_;
  std::vector<std::string_view> fields_;
};

}  // namespace faultline::workload
