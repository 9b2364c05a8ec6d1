// The fitted operation models as the cost model of the step plan: what the simulator's steps and `faultline estimate`
// are priced with when a calibration is named.
//
// Made for one model, plan and device, because an operation of the plan does not name the group's width. Prices are
// deterministic and monotone in tokens: GEMM times are the running maximum over a grid of quarter octaves, linear
// between. The grids are filled on first use, so an object belongs to one thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/calibration/calibration.h"
#include "core/model/cost.h"

namespace faultline::calibration {

/// An operation of the plan as a case of a fitted model: time = us(parameters, shape) * share.
struct PricedShape {
  std::size_t model = 0;  // index in the calibration
  Shape shape;
  double share = 1;
};

class FittedCost final : public model::CostModel {
 public:
  /// Precondition: the calibration has every model (read_calibration's files do; asserted), the plan has no problems.
  FittedCost(std::shared_ptr<const Calibration> calibration, model::ModelShape shape, model::ParallelPlan plan,
             model::DeviceSpec device);

  model::Price price(const model::Op& op) const override;
  model::ContextPrice context_price(const model::ModelShape& s, const model::ParallelPlan& p,
                                    std::int64_t sequences) const override;
  model::ExchangePrice exchange_price(const model::Op& op) const override;
  model::FixedTime host_step(model::Launch launch) const override;
  model::FixedTime host_launch(model::Launch launch, std::int64_t layers) const override;

  /// The fitted case of an operation; nullopt where it takes no time of its own (fused or overlapped).
  std::optional<PricedShape> shape_of(const model::Op& op) const;
  /// Microseconds of a case of any model of the calibration (transfers and weight loads are no operations of a step).
  Predictor::Prediction predict(std::string_view model, const std::string& group, const Coordinates& at,
                                const Shape& shape) const;
  /// Microseconds of a case at other parameters than the calibration's, without the residual table.
  double mechanism_us(const PricedShape& priced, const std::vector<double>& parameters) const;
  const Calibration& calibration() const { return *calibration_; }
  std::vector<double> parameters(std::size_t model) const { return predictors_[model].parameters(); }

 private:
  struct Grid {
    std::vector<double> us;
    std::vector<bool> extrapolated;
  };
  const Grid& gemm_grid(const GemmShape& shape, const std::string& group) const;
  std::size_t index_of(std::string_view model) const;
  ExchangeShape exchange_shape(const model::Op& op, bool low_latency) const;

  std::shared_ptr<const Calibration> calibration_;
  model::ModelShape shape_;
  model::ParallelPlan plan_;
  model::DeviceSpec device_;
  Gpu gpu_;
  int variant_ = 0;
  std::vector<Predictor> predictors_;
  mutable std::map<std::string, Grid> grids_;
};

}  // namespace faultline::calibration
