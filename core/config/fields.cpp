#include "core/config/fields.h"

#include <fmt/format.h>

#include <algorithm>

namespace faultline::config {

Fields::Fields(const Document& document, YAML::Node node, std::string what, Diagnostics& diagnostics)
    : document_(&document), diagnostics_(&diagnostics), node_(node), what_(std::move(what)) {
  if (!node_ || !node_.IsMap()) {
    diagnostics.error(document.mark(node_), fmt::format("{}: expected a mapping of keys to values",
                                                        what_.empty() ? "the file" : "'" + what_ + "'"));
  }
}

Fields::Fields(YAML::Emitter& emitter) : emitter_(&emitter) { emitter << YAML::BeginMap; }

bool Fields::has(std::string_view key) const {
  return !reading() || (node_.IsMap() && node_[std::string(key)].IsDefined());
}

YAML::Node Fields::take(std::string_view key, bool is_required) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  if (!node_.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
  YAML::Node node = static_cast<const YAML::Node&>(node_)[std::string(key)];
  if (!node.IsDefined() && is_required) {
    diagnostics_->error(document_->mark(node_),
                        fmt::format("{}missing key '{}'", what_.empty() ? "" : fmt::format("'{}': ", what_), key));
  }
  return node;
}

YAML::Node Fields::raw(std::string_view key) {
  if (!reading()) return YAML::Node(YAML::NodeType::Undefined);
  return take(key, false);
}

void Fields::write_scalar(std::string_view key, const std::string& text) {
  *emitter_ << YAML::Key << std::string(key) << YAML::Value << text;
}

Mark Fields::mark(std::string_view key) const {
  if (!document_) return {};
  if (!key.empty() && node_.IsMap()) {
    const YAML::Node node = static_cast<const YAML::Node&>(node_)[std::string(key)];
    if (node.IsDefined()) return document_->mark(node);
  }
  return document_->mark(node_);
}

void Fields::error(std::string_view key, std::string message, std::string note) {
  diagnostics_->error(mark(key), std::move(message), std::move(note));
}

void Fields::bad_value(const YAML::Node& node, std::string_view key, const std::string& expected, std::string note) {
  const std::string got = node.IsScalar()     ? fmt::format("'{}'", node.Scalar())
                          : node.IsMap()      ? "a mapping"
                          : node.IsSequence() ? "a list"
                                              : "nothing";
  diagnostics_->error(document_->mark(node),
                      fmt::format("{}: expected {}, got {}", key, expected.empty() ? "a text" : expected, got),
                      std::move(note));
}

bool Fields::in_range(const YAML::Node& node, std::string_view key, double value, Range range, const std::string& low,
                      const std::string& high) {
  if (value >= range.min && value <= range.max) return true;
  const bool positive_only = range.min == kPositive.min && value < range.min;
  const std::string limit = positive_only       ? "greater than 0"
                            : value < range.min ? fmt::format("at least {}", low)
                                                : fmt::format("at most {}", high);
  diagnostics_->error(document_->mark(node), fmt::format("{}: must be {}, got '{}'", key, limit, node.Scalar()));
  return false;
}

void Fields::finish() {
  if (!reading()) {
    *emitter_ << YAML::EndMap;
    return;
  }
  if (!node_.IsMap()) return;
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) continue;
    const std::string& key = entry.first.Scalar();
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const std::string suggestion = did_you_mean(key, known_);
    diagnostics_->error(
        document_->mark(entry.first),
        fmt::format("unknown key '{}'{}", key, what_.empty() ? "" : fmt::format(" in '{}'", what_)),
        fmt::format("known keys: {}{}{}", name_list(known_, 24), suggestion.empty() ? "" : " ", suggestion));
  }
}

}  // namespace faultline::config
