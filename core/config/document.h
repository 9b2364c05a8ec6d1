// A YAML file in memory, with the place of every node, and the command line's overrides on top of it.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/diagnostics.h"

namespace faultline::config {

/// How `core` gets the text of a file that another file names. Returns nullopt where the file cannot be read.
/// The cli passes a reader of the disk; tests pass a map.
using FileReader = std::function<std::optional<std::string>(const std::string& path)>;

class Document {
 public:
  /// Parses `text`; syntax errors, duplicate keys, several documents and nesting deeper than 64 go to `diagnostics`.
  /// `file` is used in messages only.
  Document(std::string_view text, std::string file, Diagnostics& diagnostics);

  const YAML::Node& root() const { return root_; }
  const std::string& file() const { return file_; }
  Mark mark(const YAML::Node& node) const;

  /// Sets one field from "a.b.0.c=value" (list elements by number; value is YAML). A path through a scalar, a list
  /// index out of range or a missing '=' is an error. Unknown keys are found later, by the reader of the mapping.
  void set(std::string_view assignment, Diagnostics& diagnostics);

 private:
  YAML::Node root_;
  std::string file_;
};

}  // namespace faultline::config
