#include "cli/sweep_store.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <stdexcept>

namespace faultline::cli {
namespace {

/// A prepared statement; bindings are copied.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { ok_ = sqlite3_prepare_v2(db, sql, -1, &s_, nullptr) == SQLITE_OK; }
  ~Statement() { sqlite3_finalize(s_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  bool ok() const { return ok_; }
  void bind(int i, const std::string& v) {
    sqlite3_bind_text(s_, i, v.data(), static_cast<int>(v.size()), SQLITE_TRANSIENT);
  }
  void bind(int i, std::int64_t v) { sqlite3_bind_int64(s_, i, v); }
  int step() { return sqlite3_step(s_); }
  std::string text(int column) {
    const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s_, column));
    return p ? std::string(p, static_cast<std::size_t>(sqlite3_column_bytes(s_, column))) : std::string();
  }

 private:
  sqlite3_stmt* s_ = nullptr;
  bool ok_ = false;
};

}  // namespace

SweepStore::SweepStore(const std::string& path) : path_(path) {
  if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) fail("cannot open");
  sqlite3_busy_timeout(db_, 10'000);
  const char* schema =
      "PRAGMA journal_mode=WAL;"
      "CREATE TABLE IF NOT EXISTS replicas(key TEXT PRIMARY KEY, point TEXT NOT NULL, seed INTEGER NOT NULL, summary "
      "TEXT NOT NULL);";
  if (sqlite3_exec(db_, schema, nullptr, nullptr, nullptr) != SQLITE_OK) fail("cannot use");
}

SweepStore::~SweepStore() { sqlite3_close(db_); }

void SweepStore::fail(const char* what) const {
  throw std::runtime_error(fmt::format("{} {}: {}", what, path_, sqlite3_errmsg(db_)));
}

bool SweepStore::has(const std::string& key) {
  Statement s(db_, "SELECT 1 FROM replicas WHERE key=?");
  if (!s.ok()) fail("cannot read");
  s.bind(1, key);
  return s.step() == SQLITE_ROW;
}

std::optional<std::string> SweepStore::summary(const std::string& key) {
  Statement s(db_, "SELECT summary FROM replicas WHERE key=?");
  if (!s.ok()) fail("cannot read");
  s.bind(1, key);
  if (s.step() != SQLITE_ROW) return std::nullopt;
  return s.text(0);
}

void SweepStore::put(const SweepRow& row) {
  Statement s(db_, "INSERT OR IGNORE INTO replicas(key, point, seed, summary) VALUES(?,?,?,?)");
  if (!s.ok()) fail("cannot write");
  s.bind(1, row.key);
  s.bind(2, row.point);
  s.bind(3, row.seed);
  s.bind(4, row.summary);
  if (s.step() != SQLITE_DONE) fail("cannot write");
}

std::map<std::string, std::string> SweepStore::summaries(const std::vector<std::string>& keys) {
  std::map<std::string, std::string> found;
  Statement s(db_, "SELECT key, summary FROM replicas");
  if (!s.ok()) fail("cannot read");
  std::map<std::string, bool> wanted;
  for (const auto& k : keys) wanted[k] = true;
  while (s.step() == SQLITE_ROW) {
    std::string key = s.text(0);
    if (wanted.count(key)) found.emplace(std::move(key), s.text(1));
  }
  return found;
}

}  // namespace faultline::cli
