#include "core/config/document.h"

#include <fmt/format.h>

#include <map>

namespace faultline::config {
namespace {

constexpr int kDepthMax = 64;

/// Checks before yaml-cpp's node builder sees the text: duplicate keys, depth, number of documents.
void check_structure(const YAML::Node& node, const std::string& file, int depth, Diagnostics& diagnostics) {
  const auto mark_of = [&](const YAML::Node& n) { return Mark{file, n.Mark().line + 1, n.Mark().column + 1}; };
  if (depth > kDepthMax) {
    diagnostics.error(mark_of(node), fmt::format("nested deeper than {} levels", kDepthMax));
    return;
  }
  if (node.IsMap()) {
    std::map<std::string, Mark> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        diagnostics.error(mark_of(entry.first), "a key must be a plain word");
        continue;
      }
      const auto [first, fresh] = seen.emplace(entry.first.Scalar(), mark_of(entry.first));
      if (!fresh) {
        diagnostics.error(mark_of(entry.first), fmt::format("key '{}' appears twice", entry.first.Scalar()),
                          fmt::format("first at {}", first->second.text()));
      }
      check_structure(entry.second, file, depth + 1, diagnostics);
    }
  } else if (node.IsSequence()) {
    for (const auto& element : node) check_structure(element, file, depth + 1, diagnostics);
  }
}

/// yaml-cpp recurses while it parses; a bracket count bounds that before it starts.
bool too_deep(std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') {
      if (++depth > 4 * kDepthMax) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  std::size_t dashes = 0;  // "- - - - …" and "? ? ?" nest by one a pair
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '\n') dashes = 0;
    if ((text[i] == '-' || text[i] == '?' || text[i] == ':') && text[i + 1] == ' ' && ++dashes > 4 * kDepthMax)
      return true;
  }
  return false;
}

}  // namespace

Document::Document(std::string_view text, std::string file, Diagnostics& diagnostics) : file_(std::move(file)) {
  if (text.find('\0') != std::string_view::npos) {
    diagnostics.error({file_, 0, 0}, "not a text file: it contains a zero byte");
    return;
  }
  if (too_deep(text)) {
    diagnostics.error({file_, 0, 0}, fmt::format("nested deeper than {} levels", kDepthMax));
    return;
  }
  try {
    const auto documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) {
      diagnostics.error(mark(documents[1]), "a second YAML document in one file ('---')");
      return;
    }
    if (!documents.empty()) root_ = documents[0];
  } catch (const YAML::Exception& e) {
    diagnostics.error({file_, e.mark.line + 1, e.mark.column + 1}, fmt::format("not valid YAML: {}", e.msg));
    return;
  }
  if (!root_ || root_.IsNull()) {
    diagnostics.error({file_, 0, 0}, "the file is empty");
    return;
  }
  check_structure(root_, file_, 0, diagnostics);
}

namespace {

/// Nodes that the command line set carry the whole assignment as their tag: an error names it instead of a place in the
/// file.
constexpr std::string_view kSetTag = "!--set ";

void mark_as_set(YAML::Node node, const std::string& tag) {
  node.SetTag(tag);
  if (node.IsSequence()) {
    for (auto element : node) mark_as_set(element, tag);
  } else if (node.IsMap()) {
    for (auto entry : node) {
      mark_as_set(entry.first, tag);
      mark_as_set(entry.second, tag);
    }
  }
}

void mark_key_as_set(const YAML::Node& map, const std::string& key, const std::string& tag) {
  for (auto entry : map) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key) YAML::Node(entry.first).SetTag(tag);
  }
}

}  // namespace

Mark Document::mark(const YAML::Node& node) const {
  if (node.IsDefined() && node.Tag().starts_with(kSetTag)) return {node.Tag().substr(1), 0, 0};
  const auto m = node.Mark();
  if (m.line < 0) return {file_, 0, 0};
  return {file_, m.line + 1, m.column + 1};
}

void Document::set(std::string_view assignment, Diagnostics& diagnostics) {
  const Mark mark{fmt::format("--set {}", assignment), 0, 0};
  const auto equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    diagnostics.error(mark, "expected a field and a value, such as 'fleet.instances=8'");
    return;
  }
  const std::string tag = std::string(kSetTag) + std::string(assignment);
  YAML::Node value;
  try {
    value = YAML::Load(std::string(assignment.substr(equals + 1)));
    mark_as_set(value, tag);
  } catch (const YAML::Exception& e) {
    diagnostics.error(mark, fmt::format("the value is not valid YAML: {}", e.msg));
    return;
  }
  std::vector<std::string> path;
  std::string_view rest = assignment.substr(0, equals);
  while (true) {
    const auto dot = rest.find('.');
    path.emplace_back(rest.substr(0, dot));
    if (path.back().empty()) {
      diagnostics.error(mark, "the field has an empty part");
      return;
    }
    if (dot == std::string_view::npos) break;
    rest = rest.substr(dot + 1);
  }
  std::vector<YAML::Node> chain{root_};
  for (std::size_t i = 0; i < path.size(); ++i) {
    YAML::Node at = chain.back();
    const bool last = i + 1 == path.size();
    if (at.IsSequence()) {
      std::size_t index = 0;
      try {
        index = std::stoul(path[i]);
      } catch (const std::exception&) {
        diagnostics.error(mark, fmt::format("'{}' is a list: its elements are named by number, from 0", path[i - 1]));
        return;
      }
      if (index >= at.size()) {
        diagnostics.error(mark, fmt::format("the list has {} elements, '{}' is not one of them", at.size(), path[i]));
        return;
      }
      if (last) at[index] = value;
      else chain.push_back(at[index]);
    } else if (at.IsMap() || !at.IsDefined() || at.IsNull()) {
      const bool fresh = !static_cast<const YAML::Node&>(at)[path[i]].IsDefined();
      if (last) at[path[i]] = value;
      else if (fresh) at[path[i]] = YAML::Node(YAML::NodeType::Map);
      if (fresh) mark_key_as_set(at, path[i], tag);
      if (!last) chain.push_back(at[path[i]]);
    } else {
      diagnostics.error(mark,
                        fmt::format("'{}' is a single value and has no field '{}'", i ? path[i - 1] : "", path[i]));
      return;
    }
  }
}

}  // namespace faultline::config
