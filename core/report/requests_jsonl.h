// requests.jsonl: one line a request, in arrival order. docs/metrics.md describes the fields. Written for speed: a run
// of a million requests spends well under a second here.
#pragma once

#include <string>
#include <vector>

#include "core/record/run_record.h"

namespace faultline::report {

class RequestLines {
 public:
  /// Names of classes and faults are escaped once, here. `run` must outlive this.
  explicit RequestLines(const record::RunRecord& run);
  /// Appends the line of request `id` with its newline. Times are seconds with nine digits: exact nanoseconds.
  void append(std::string& out, std::size_t id) const;

 private:
  const record::RunRecord& run_;
  std::vector<std::string> classes_, faults_;  // quoted and escaped
};

/// All lines.
std::string requests_jsonl(const record::RunRecord& run);

}  // namespace faultline::report
