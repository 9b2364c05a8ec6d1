// Measured rows as cases of a model: shape, measured time, and where the row stands (family, size bucket, coordinates
// in the residual table). The same cases are fitted, cross-validated and scored.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/base/math.h"
#include "core/calibration/measurements.h"
#include "core/calibration/models.h"

namespace faultline::calibration {

/// Place in the residual table: base-2 logarithms. at[0] is the size that varies inside a family; at[1], at[2] tell
/// families apart (0 where names alone do).
using Coordinates = std::array<double, 3>;
/// Sizes enter the coordinates as logarithms to base 2.
inline double log2(double x) { return stable::log(x) / 0.6931471805599453; }
/// `batch` transfers of `bytes` each.
Coordinates transfer_at(double bytes, double batch);

struct Case {
  std::string model;   // one of models()
  std::string group;   // rows of one group share a residual surface: precision and hardware
  std::string family;  // rows that differ in size only
  std::string bucket;  // size class for reports
  Coordinates at{};
  Shape shape;
  double us = 0;
  double weight = 1;  // below 1: older or stale rows that only steady the fit
  Origin origin;
};

/// Cases of every usable row, in the order of the data. Rows without a model (other precisions and collectives,
/// serving) are counted in `skipped` by reason.
struct CaseList {
  std::vector<Case> cases;
  std::vector<std::pair<std::string, std::int64_t>> skipped;
};
CaseList cases_of(const Dataset& data);

/// Name and coordinates of a GEMM, as the cases have them; `hardware` as in Origin.
Case gemm_case(const GemmSample& sample);
Case moe_case(const MoeSample& sample);
Case exchange_case(const ExchangeSample& sample);

/// Whether a row of hardware `row` speaks for a calibration of hardware `tag`. MI300X and MI325X share compute dies and
/// tables seldom say which, so either's rows serve both; a row without hardware serves every tag.
bool same_part(std::string_view row, std::string_view tag);

/// "1-16", "17-64", …: by powers of four above 16.
std::string size_bucket(double size);

}  // namespace faultline::calibration
