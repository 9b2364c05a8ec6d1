#include "core/calibration/rules.h"

#include <algorithm>

namespace faultline::calibration {
namespace {

// '*' and '?' with backtracking to the last star only: linear in practice, no recursion.
bool glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

struct RuleFile {
  std::vector<KernelRule> rules;
};
void describe(config::Fields& f, RuleFile& file) { f.list("rules", file.rules, true); }

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  std::string whole;
  if (pattern.starts_with('^')) pattern.remove_prefix(1);
  else whole = "*";
  const bool anchored = pattern.ends_with('$');
  if (anchored) pattern.remove_suffix(1);
  whole += pattern;
  if (!anchored) whole += '*';
  return glob(whole, text);
}

const std::vector<std::string>& operation_names() {
  static const std::vector<std::string> names{"gemm",      "moe",         "attention", "norm",       "rope",
                                              "kv_write",  "activation",  "quantize",  "router",     "sample",
                                              "embedding", "dispatch",    "combine",   "collective", "kv_push",
                                              "copy",      "elementwise", "optimizer", "other"};
  return names;
}

void describe(config::Fields& f, KernelRule& rule) {
  f.required("operation", rule.operation);
  f.required("pattern", rule.pattern);
  f.field("note", rule.note);
  if (!f.reading()) return;
  if (f.has("pattern") && rule.pattern.empty()) f.error("pattern", "an empty pattern matches every kernel");
  const auto& names = operation_names();
  if (f.has("operation") && std::find(names.begin(), names.end(), rule.operation) == names.end())
    f.error("operation", "unknown operation '" + rule.operation + "'",
            "known: " + config::name_list(names, 40) + " " + config::did_you_mean(rule.operation, names));
}

void KernelRules::add(std::string_view yaml, const std::string& file, config::Diagnostics& diagnostics) {
  const config::Document document(yaml, file, diagnostics);
  if (!document.root() || !document.root().IsMap()) {
    if (diagnostics.ok()) diagnostics.error({file, 1, 1}, "expected a mapping with 'rules'");
    return;
  }
  RuleFile read;
  config::read(document, document.root(), "", read, diagnostics);
  rules_.insert(rules_.begin(), read.rules.begin(), read.rules.end());
}

std::string_view KernelRules::operation_of(std::string_view kernel) const {
  for (const KernelRule& rule : rules_)
    if (matches(rule.pattern, kernel)) return rule.operation;
  const auto& names = operation_names();  // an op log may name the operation itself
  const auto own = std::find(names.begin(), names.end(), kernel);
  return own == names.end() ? std::string_view() : std::string_view(*own);
}

}  // namespace faultline::calibration
