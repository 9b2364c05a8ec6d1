// Rows of a results file, whoever else has it open.
#pragma once

#include <sqlite3.h>

#include <map>
#include <string>

namespace faultline::test {

/// Every row by its key; none where the file is not there yet.
inline std::map<std::string, std::string> rows(const std::string& path) {
  std::map<std::string, std::string> rows;
  sqlite3* db = nullptr;
  if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY, nullptr) == SQLITE_OK) {
    sqlite3_exec(
        db, "SELECT key, point || '|' || seed || '|' || summary FROM replicas",
        [](void* to, int, char** column, char**) {
          (*static_cast<std::map<std::string, std::string>*>(to))[column[0]] = column[1];
          return 0;
        },
        &rows, nullptr);
  }
  sqlite3_close(db);
  return rows;
}

}  // namespace faultline::test
