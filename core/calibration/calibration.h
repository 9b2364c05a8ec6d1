// A calibration: parameters of the models with their intervals, the residual table that corrects the mechanism where
// data are dense, and how well both did on data they had not seen. Read from and written to
// experiments/calibration/*.yaml. Immutable once read; predictions are pure.
#pragma once

#include <string>
#include <vector>

#include "core/calibration/cases.h"
#include "core/config/fields.h"

namespace faultline::calibration {

struct FittedParameter {
  std::string name;
  double value = 1;
  double low = 1, high = 1;  // 95% interval
  std::string unit;
  std::string source;  // fitted, prior (with its citation), scaled
};

/// Median log(measured / mechanism) of the rows of one cell: a family, half an octave of its size.
struct ResidualRow {
  std::string group, family;
  double y = 0, z = 0;  // at[1], at[2] of its cases
  /// "x:ratio:count" a cell, x the logarithm to base 2 of the size, e.g. "4:+0.013:3 4.5:-0.02:1".
  std::string cells;
};

/// Score of one kind of check on one part of the data.
struct ScoreRow {
  std::string check;   // fitted (in sample), points (withheld sizes), families (withheld families)
  std::string family;  // or "all"
  std::string bucket;  // or "all"
  std::int64_t count = 0;
  double median = 0, p90 = 0, bias = 0;  // of log(predicted / measured): median and 90th percentile of |.|; median
};

struct FittedModel {
  std::string name;
  std::int64_t rows = 0;
  std::string range;                  // what the data cover, for people
  double size_min = 0, size_max = 0;  // of exp2(at[0])
  std::vector<FittedParameter> parameters;
  std::vector<ResidualRow> residuals;
  std::vector<ScoreRow> scores;
};

struct Calibration {
  std::string name;
  std::string hardware;
  std::string software_date;      // of the newest row
  std::vector<std::string> data;  // what it was fitted on
  std::string note;
  std::vector<FittedModel> models;
};

void describe(config::Fields& f, FittedParameter& p);
void describe(config::Fields& f, ResidualRow& r);
void describe(config::Fields& f, ScoreRow& s);
void describe(config::Fields& f, FittedModel& m);
void describe(config::Fields& f, Calibration& c);

Calibration read_calibration(std::string_view text, const std::string& file, config::Diagnostics& diagnostics);
std::string print_calibration(Calibration& calibration);
/// Of everything in it but the comments of its file, as 16 hexadecimal digits: the same inline in an experiment.
std::string content_hash(const Calibration& calibration);

/// One model of a calibration, ready to predict.
class Predictor {
 public:
  /// Precondition: the parameters are those of the model, in its order (read_calibration checks it).
  explicit Predictor(const FittedModel& fitted);
  Predictor(const Model& model, std::vector<double> parameters) : model_(&model), parameters_(std::move(parameters)) {}

  double mechanism_us(const Shape& shape) const { return model_->us(parameters_, shape); }
  struct Prediction {
    double us = 0;
    bool extrapolated = false;  // no data near: the mechanism alone
  };
  Prediction predict(const std::string& group, const Coordinates& at, const Shape& shape) const;
  Prediction predict(const Case& c) const { return predict(c.group, c.at, c.shape); }

  /// Adds the cell medians of `cases` (log(measured / mechanism)) as the residual table.
  void learn(const std::vector<const Case*>& cases);
  std::vector<ResidualRow> residual_rows() const;
  const std::vector<double>& parameters() const { return parameters_; }
  std::vector<double>& parameters() { return parameters_; }

 private:
  struct Cell {
    Coordinates at{};
    int group = 0;
    float ratio = 0, count = 0;
    int family = 0;
  };
  int group_index(const std::string& group) const;

  const Model* model_;
  std::vector<double> parameters_;
  std::vector<std::string> groups_, families_;
  std::vector<Cell> cells_;
};

}  // namespace faultline::calibration
