// Which kernel is which operation of the step plan: an ordered list of patterns that a user can extend. The first rule
// that matches wins; files read later come before the built-in one.
//
//   rules:
//     - {operation: attention, pattern: "paged_attention*"}
//     - {operation: gemm, pattern: "Cijk_*"}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/config/fields.h"

namespace faultline::calibration {

struct KernelRule {
  std::string operation;
  std::string pattern;  // '*' any run of characters, '?' one; matches anywhere unless anchored by '^' or '$'
  std::string note;     // what the kernel is, or where its name was read
};
void describe(config::Fields& f, KernelRule& rule);

class KernelRules {
 public:
  /// Rules of a YAML text, before the rules already there. Unknown keys, empty patterns and unknown operations are
  /// errors.
  void add(std::string_view yaml, const std::string& file, config::Diagnostics& diagnostics);
  /// The operation of a kernel, or "" when no rule matches.
  std::string_view operation_of(std::string_view kernel) const;
  std::size_t size() const { return rules_.size(); }

 private:
  std::vector<KernelRule> rules_;
};

/// Names an operation may have: those of the step plan, and `other` for work that belongs to no layer.
const std::vector<std::string>& operation_names();
bool matches(std::string_view pattern, std::string_view text);

/// The rules that come with faultline, as YAML (`faultline calibrate import --rules-builtin` prints them) and read.
const std::string& builtin_rules_yaml();
KernelRules builtin_rules();

}  // namespace faultline::calibration
