#include "core/config/document.h"

#include <fmt/format.h>

#include <charconv>
#include <map>

#include "core/config/overlay.h"

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
/// Nodes that stand in another file than the document's: "!at LINE:COLUMN:FILE".
constexpr std::string_view kPlaceTag = "!at ";

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

void tag_key(const YAML::Node& map, const std::string& key, const std::string& tag) {
  for (auto entry : map) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key) YAML::Node(entry.first).SetTag(tag);
  }
}

std::string place_tag(const Mark& mark) {
  if (mark.file.starts_with("--set ")) return "!" + mark.file;
  return fmt::format("{}{}:{}:{}", kPlaceTag, mark.line, mark.column, mark.file);
}

Mark place_of(std::string_view tag) {
  Mark mark;
  const char* const end = tag.data() + tag.size();
  const char* at = std::from_chars(tag.data() + kPlaceTag.size(), end, mark.line).ptr;
  at = std::from_chars(at + 1, end, mark.column).ptr;
  mark.file.assign(at + 1, end);
  return mark;
}

void keep_place(const Document& document, YAML::Node node) {
  node.SetTag(place_tag(document.mark(node)));
  if (node.IsSequence()) {
    for (auto element : node) keep_place(document, element);
  } else if (node.IsMap()) {
    for (auto entry : node) {
      keep_place(document, entry.first);
      keep_place(document, entry.second);
    }
  }
}

void lay_over(YAML::Node base, const Document& changes, const YAML::Node& map, bool is_root) {
  for (const auto& entry : map) {
    if (!entry.first.IsScalar()) continue;
    const std::string& key = entry.first.Scalar();
    if (is_root && key == "from") continue;
    YAML::Node value = entry.second;
    const YAML::Node before = static_cast<const YAML::Node&>(base)[key];
    if (before.IsDefined() && before.IsMap() && value.IsMap()) {
      lay_over(before, changes, value, false);
      continue;
    }
    keep_place(changes, value);
    base[key] = value;
    if (!before.IsDefined()) tag_key(base, key, place_tag(changes.mark(entry.first)));
  }
}

/// Whether a value is the name of a file that --set may reach into.
bool names_a_file(const YAML::Node& node) {
  return node.IsScalar() && (node.Scalar().ends_with(".yaml") || node.Scalar().ends_with(".yml"));
}

}  // namespace

void overlay(const Document& base, const Document& changes, const YAML::Node& map) {
  lay_over(base.root(), changes, map, true);
}

Mark Document::mark(const YAML::Node& node) const {
  if (node.IsDefined() && node.Tag().starts_with(kSetTag)) return {node.Tag().substr(1), 0, 0};
  if (node.IsDefined() && node.Tag().starts_with(kPlaceTag)) return place_of(node.Tag());
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
    const bool last = i + 1 == path.size();
    if (i > 0 && chain[i - 1].IsMap() && names_a_file(chain.back())) {  // from here on it is that file with a change
      YAML::Node changed(YAML::NodeType::Map);
      changed["from"] = chain.back();
      chain[i - 1][path[i - 1]] = changed;
      chain.back().reset(changed);
    }
    YAML::Node at = chain.back();
    if (at.IsSequence()) {
      std::size_t index = 0;
      const char* const end = path[i].data() + path[i].size();
      if (const auto [stop, error] = std::from_chars(path[i].data(), end, index);
          error == std::errc::invalid_argument || stop != end) {
        diagnostics.error(mark, fmt::format("'{}' is a list: its elements are named by number, from 0", path[i - 1]));
        return;
      } else if (error == std::errc::result_out_of_range) {
        index = at.size();
      }
      if (index >= at.size()) {
        diagnostics.error(mark, fmt::format("the list has {} element{}, numbered from 0: '{}' is not one of them",
                                            at.size(), at.size() == 1 ? "" : "s", path[i]));
        return;
      }
      if (last) at[index] = value;
      else chain.push_back(at[index]);
    } else if (at.IsMap() || !at.IsDefined() || at.IsNull()) {
      const bool fresh = !static_cast<const YAML::Node&>(at)[path[i]].IsDefined();
      if (last) at[path[i]] = value;
      else if (fresh) {
        YAML::Node map(YAML::NodeType::Map);
        map.SetTag(tag);
        at[path[i]] = map;
      }
      if (fresh) tag_key(at, path[i], tag);
      if (!last) chain.push_back(at[path[i]]);
    } else {
      diagnostics.error(mark,
                        fmt::format("'{}' is a single value and has no field '{}'", i ? path[i - 1] : "", path[i]));
      return;
    }
  }
}

}  // namespace faultline::config
