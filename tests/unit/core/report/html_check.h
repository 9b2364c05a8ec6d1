// A strict reader of our own HTML: every tag is closed in order, attributes are quoted, nothing is fetched, nothing
// runs.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace faultline::report::testing {

/// "" if the page is well formed and harmless, else what is wrong.
inline std::string html_problem(const std::string& html) {
  static const std::vector<std::string> kVoid{"meta", "line", "path", "rect", "circle"};
  static const std::vector<std::string> kAllowed{
      "html",       "head", "meta", "title",   "style", "body",   "header", "h1",      "h2",      "p",   "b",
      "div",        "span", "i",    "section", "table", "tr",     "th",     "td",      "ul",      "li",  "figure",
      "figcaption", "svg",  "line", "path",    "rect",  "circle", "text",   "details", "summary", "pre", "footer"};
  const std::string start = "<!DOCTYPE html>";
  if (html.rfind(start, 0) != 0) return "no doctype";
  std::vector<std::string> open;
  std::size_t i = start.size();
  while ((i = html.find('<', i)) != std::string::npos) {
    const bool closing = html[i + 1] == '/';
    std::size_t j = i + 1 + closing;
    std::string name;
    while (j < html.size() && std::isalnum(static_cast<unsigned char>(html[j]))) name += html[j++];
    if (std::find(kAllowed.begin(), kAllowed.end(), name) == kAllowed.end())
      return "unexpected tag <" + name + "> at " + html.substr(i, 60);
    // Attributes: name="value" only.
    bool self_closed = false;
    while (html[j] != '>') {
      if (html[j] == ' ') {
        ++j;
      } else if (html[j] == '/' && html[j + 1] == '>') {
        self_closed = true;
        ++j;
      } else {
        std::string attribute;
        while (std::isalnum(static_cast<unsigned char>(html[j])) || html[j] == '-') attribute += html[j++];
        if (attribute.empty() || html.compare(j, 2, "=\"") != 0) return "bad attribute at " + html.substr(i, 80);
        if (attribute == "href" || attribute == "src" || attribute.rfind("on", 0) == 0 || attribute == "style")
          return "attribute " + attribute;
        j = html.find('"', j + 2);
        if (j == std::string::npos) return "unclosed attribute";
        ++j;
      }
    }
    const bool is_void = std::find(kVoid.begin(), kVoid.end(), name) != kVoid.end();
    if (closing) {
      if (open.empty() || open.back() != name)
        return "</" + name + "> closes " + (open.empty() ? "nothing" : "<" + open.back() + ">");
      open.pop_back();
    } else if (name == "line" && !self_closed) {
      open.push_back(name);  // a marker line holds its tooltip
    } else if (!is_void && !self_closed) {
      open.push_back(name);
    }
    i = j + 1;
    if (name == "style" && !closing) i = html.find("</style>", i);
  }
  if (!open.empty()) return "<" + open.back() + "> is never closed";
  for (const char* external : {"http:", "https:", "//", "url(", "@import", "javascript:", "data:"}) {
    if (html.find(external) != std::string::npos) return std::string("contains ") + external;
  }
  // Entities: every & begins one of those that the escape writes.
  for (std::size_t a = html.find('&'); a != std::string::npos; a = html.find('&', a + 1)) {
    bool known = false;
    for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
      known = known || html.compare(a, std::string(entity).size(), entity) == 0;
    if (!known) return "bare & at " + html.substr(a, 30);
  }
  return {};
}

}  // namespace faultline::report::testing
