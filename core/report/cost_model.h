// Which cost model priced a run's steps, and what of it was extrapolated: the same block in every summary and report.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "core/record/run_record.h"

namespace faultline::report {

/// {"name", "hardware", "hash", "software_date", "extrapolated": [{"op", "share_of_time", "why"}]}; the hash and the
/// date are null for the roofline.
nlohmann::ordered_json cost_model_json(const record::CostModelUse& use);

/// "calibration 'mi300x' (MI300X, rows to 2026-01-05): 41 % of the step time extrapolated: mla_decode 31 %, …".
/// `cost_model`: as above, or anything else (of an older or foreign summary), which gives "".
std::string cost_model_text(const nlohmann::ordered_json& cost_model);

/// The sum of the extrapolated shares; 0 for anything else than a cost model.
double extrapolated_share(const nlohmann::ordered_json& cost_model);

}  // namespace faultline::report
