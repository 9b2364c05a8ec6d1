// What is wrong with the user's input, all of it at once, each with its place and, where possible, a suggestion:
//
//   experiments/recovery/leaf_down.yaml:41:13: error: unknown component 'leaf-3' in fault target
//     known switches: leaf-0, leaf-1, spine-0 (did you mean 'leaf-0'?)
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace faultline::config {

/// A place in a file. Lines and columns count from 1; line 0 means the whole file or a command-line option.
struct Mark {
  std::string file;
  int line = 0;
  int column = 0;
  std::string text() const;
};

struct Diagnostic {
  Mark mark;
  std::string message;
  std::string note;  // second line, may be empty
};

class Diagnostics {
 public:
  void error(Mark mark, std::string message, std::string note = {});
  bool ok() const { return list_.empty(); }
  const std::vector<Diagnostic>& list() const { return list_; }
  /// All errors, one or two lines each, in the order of their place in the file.
  std::string text() const;
  /// Throws ConfigError with text() unless ok().
  void throw_if_any() const;

 private:
  std::vector<Diagnostic> list_;
};

/// Thrown by readers of user input, caught once in cli (exit status 2).
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The candidate nearest to `word` by edit distance (Damerau), or "" when none is near enough to suggest.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);
/// "(did you mean 'x'?)" or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);
/// "a, b, c … (12 more)": a list of names for a note, cut after `most`.
std::string name_list(const std::vector<std::string>& names, std::size_t most = 8);

}  // namespace faultline::config
