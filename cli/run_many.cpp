#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "cli/run.h"
#include "core/config/diagnostics.h"
#include "core/experiment/deployment.h"
#include "core/report/html.h"
#include "core/report/text.h"
#include "core/report/variants.h"

namespace faultline::cli {
namespace {

struct Entry {
  std::string file, name, question, answer, out;
  bool fluid = false;  // its figures are other ones: it has a report, and no row of the table
  int status = -1;     // of its process; -1: never started
};

std::string last_part(const std::string& name) {
  const auto slash = name.rfind('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

/// The folder that all names share: "ep_width" of ep_width/ep8 and ep_width/ep16, else "".
std::string common_folder(const std::vector<Entry>& entries) {
  std::string folder;
  for (const Entry& e : entries) {
    const auto slash = e.name.rfind('/');
    const std::string own = slash == std::string::npos ? "" : e.name.substr(0, slash);
    if (&e == &entries.front()) folder = own;
    else if (own != folder) return "";
  }
  return folder;
}

/// Everything wrong with any of the experiments, before the first one runs.
std::vector<Entry> check_all(const RunOptions& options, const std::vector<std::string>& files,
                             const std::string& root) {
  std::vector<Entry> entries;
  std::map<std::string, std::string> by_name;
  std::string errors;
  for (const std::string& file : files) {
    ExperimentOptions one = options.experiment;
    one.file = file;
    try {
      const LoadedExperiment loaded = load_experiment(one);
      experiment::deploy(loaded.spec);
      const std::string& name = loaded.spec.name;
      if (const auto [at, fresh] = by_name.emplace(name, file); !fresh) {
        errors += fmt::format("{}: error: the name '{}' is taken by {}\n  outputs go to a folder of that name\n", file,
                              name, at->second);
      }
      entries.push_back({file, name, loaded.spec.question, loaded.spec.answer, root + "/" + name,
                         loaded.spec.fidelity == experiment::Fidelity::fluid});
    } catch (const config::ConfigError& e) {
      errors += e.what();
    }
  }
  if (!errors.empty()) throw config::ConfigError(errors);
  return entries;
}

int run_in_child(const RunOptions& options, const Entry& entry) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (pid == 0) {
    RunOptions one = options;
    one.experiment.file = entry.file;
    one.out = entry.out;
    one.json = one.report = false;
    int status = 1;
    try {
      status = run_one(one);
    } catch (const config::ConfigError& e) {
      std::fputs(e.what(), stderr);
      status = 2;
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}: error: {}\n", entry.file, e.what());
    }
    std::fflush(nullptr);
    _exit(status);  // not exit(): buffers and handlers are the parent's
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  fmt::print(stderr, "{}: error: the run was ended by signal {}\n", entry.file, WTERMSIG(status));
  return 1;
}

/// What each row asks and where its own report lies.
std::string questions_html(const std::vector<Entry>& entries, const std::string& folder,
                           const std::map<std::string, std::string>& rows) {
  std::string out =
      "<section>\n<h2>Questions and expected answers</h2>\n<div class=\"scroll\"><table>\n"
      "<tr><th>variant</th><th>question</th><th>expected answer</th></tr>\n";
  for (const Entry& e : entries) {
    if (!rows.contains(e.name)) continue;
    const std::string report = (std::filesystem::path(e.out).lexically_relative(folder) / "report.html").string();
    out += fmt::format("<tr><td><a href=\"{}\">{}</a></td><td class=\"wrap\">{}</td><td class=\"wrap\">{}</td></tr>\n",
                       report::html_escape(report), report::html_escape(rows.at(e.name)),
                       report::html_escape(e.question), report::html_escape(e.answer));
  }
  return out + "</table></div>\n</section>\n";
}

}  // namespace

int run_many(const RunOptions& options, const std::vector<std::string>& files) {
  const std::string root = options.out.empty() ? "out" : options.out;
  std::vector<Entry> entries = check_all(options, files, root);
  const std::string group = common_folder(entries);
  const std::string folder = group.empty() ? root : root + "/" + group;
  make_folder(folder);
  catch_interrupts();

  std::size_t done = 0;
  for (Entry& e : entries) {
    if (interrupted) break;
    ++done;
    if (!options.quiet) fmt::print(stderr, "[{}/{}] {}\n", done, entries.size(), e.name);
    e.status = run_in_child(options, e);
  }

  // Rows are called by the last part of their name where that tells them apart.
  std::map<std::string, int> uses;
  for (const Entry& e : entries) ++uses[last_part(e.name)];
  std::map<std::string, std::string> row_of;
  std::vector<report::Variant> variants;
  config::Diagnostics diagnostics;
  for (const Entry& e : entries) {
    if (e.fluid || (e.status != 0 && e.status != 130)) continue;
    const std::string path = e.out + "/summary.json";
    const std::string row =
        (uses[last_part(e.name)] == 1 ? last_part(e.name) : e.name) + (e.status == 130 ? " (part)" : "");
    if (auto summary = report::read_summary(must_read_file(path), path, diagnostics)) {
      variants.push_back({row, *std::move(summary)});
      row_of[e.name] = row;
    }
  }
  diagnostics.throw_if_any();

  const std::string title =
      fmt::format("{}: {} of {} experiments", group.empty() ? "comparison" : group, variants.size(), entries.size());
  report::Json json = report::variants_json(title, variants);
  std::size_t k = 0;
  for (const Entry& e : entries) {
    if (!row_of.contains(e.name)) continue;
    report::Json& row = json["rows"][k++];
    row["experiment"] = e.name;
    row["question"] = e.question;
    row["answer"] = e.answer;
    row["out"] = e.out;
  }
  write_file(folder + "/comparison.json", json.dump(2) + "\n");
  if (!options.no_html) {
    write_file(folder + "/comparison.html", report::html_page(title, report::variants_html(title, variants) +
                                                                         questions_html(entries, folder, row_of)));
  }
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
  } else if (!options.quiet && !variants.empty()) {
    fmt::print("\n{}\nwritten: {}/comparison.{{{}json}}, and each run's outputs in {}/<name>\n",
               report::variants_text(title, variants), folder, options.no_html ? "" : "html,", folder);
  }
  int status = 0;
  for (const Entry& e : entries) {
    if (e.fluid && e.status == 0 && !options.quiet)
      fmt::print(stderr, "not in the table: {} is fluid; its report is in {}\n", e.name, e.out);
    if (e.status == 0) continue;
    if (e.status > 0 && e.status != 130)
      fmt::print(stderr, "faultline: error: {} failed with status {}\n", e.file, e.status);
    if (e.status < 0) fmt::print(stderr, "not run: {}\n", e.file);
    if (e.status > 0 && e.status != 130) status = 1;
  }
  return interrupted ? 130 : status;
}

}  // namespace faultline::cli
