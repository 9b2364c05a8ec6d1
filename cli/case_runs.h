// Runs of lists of experiments in processes of their own, several at a time; a run that dies takes nothing with it.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/experiment/spec.h"

namespace faultline::cli {

/// How one run ended.
struct CaseResult {
  std::string summary;  // JSON as a replica's (cli/replica_work.h); empty where the run did not end well
  std::string error;    // why not: the signal, or what it threw
};

/// Runs specs[k] for every k in `which`, `jobs` at a time, each with its paired run unless `unpaired`. `done` is called
/// as they end, in any order; `turn` about twice a second. SIGINT (`interrupted`) starts no more.
void run_cases(const std::vector<experiment::ExperimentSpec>& specs, const std::vector<std::size_t>& which,
               std::size_t jobs, bool unpaired, const std::function<void(std::size_t, const CaseResult&)>& done,
               const std::function<void()>& turn = {});

/// One of them, waited for.
CaseResult run_case(const experiment::ExperimentSpec& spec, bool unpaired);

}  // namespace faultline::cli
