// Results of a sweep in SQLite: one row a replica, keyed by the hash of its resolved experiment. Safe against a kill at
// any moment: a row is there completely or not at all.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

struct sqlite3;

namespace faultline::cli {

struct SweepRow {
  std::string key;    // of (resolved experiment, seed)
  std::string point;  // name
  std::int64_t seed = 0;
  std::string summary;  // JSON
};

class SweepStore {
 public:
  /// Opens or makes the file. Throws std::runtime_error with SQLite's reason (not a database, read-only, full disk).
  explicit SweepStore(const std::string& path);
  ~SweepStore();
  SweepStore(const SweepStore&) = delete;
  SweepStore& operator=(const SweepStore&) = delete;

  bool has(const std::string& key);
  void put(const SweepRow& row);
  std::optional<std::string> summary(const std::string& key);
  /// Summaries of the keys that are there, by key.
  std::map<std::string, std::string> summaries(const std::vector<std::string>& keys);

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path_;
  sqlite3* db_ = nullptr;
};

}  // namespace faultline::cli
