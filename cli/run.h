// faultline run: one experiment (run.cpp), or several with one table of all (run_many.cpp).
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "cli/experiment_files.h"

namespace faultline::cli {

struct RunOptions {
  ExperimentOptions experiment;    // `file` is that of one run
  std::vector<std::string> files;  // as given: files and folders
  std::string out;                 // empty: out/<name of the experiment>
  bool json = false, unpaired = false, quiet = false, no_html = false;
  // Fidelity fluid only.
  std::string prices, state;    // files
  bool check_fidelity = false;  // also run it at step fidelity and print the difference
  bool report = true;           // false: progress and errors only, for one run of many
};

/// Set by SIGINT and SIGTERM once catch_interrupts() was called; a run then ends early and still writes its outputs.
extern std::atomic<bool> interrupted;
void catch_interrupts();

/// Makes a folder for outputs. Throws std::runtime_error with the system's reason.
void make_folder(const std::string& path);

/// Simulates, writes the output folder, prints the report. The exit status.
int run_one(const RunOptions& options);

/// Checks all experiments first, runs each in a process of its own, one after the other (SimGrid allows one simulation
/// per process), then prints one table and writes comparison.html and comparison.json beside the runs' folders. An
/// experiment that fails does not stop the others. The exit status.
int run_many(const RunOptions& options, const std::vector<std::string>& files);

}  // namespace faultline::cli
