#include "core/experiment/sweep.h"

#include <fmt/format.h>

#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "core/stats/sample.h"

namespace faultline::experiment {
namespace {

using config::Fields;

struct Axis {
  std::string field;
  std::vector<std::string> values;
};
struct Case {
  std::string name;
  std::vector<std::string> set;
};

std::string text_of(const YAML::Node& node) {
  if (node.IsScalar()) return node.Scalar();
  YAML::Emitter e;
  e << YAML::Flow << node;
  return e.c_str();
}

std::string last_part(const std::string& field) {
  const auto dot = field.rfind('.');
  return dot == std::string::npos ? field : field.substr(dot + 1);
}

struct Reading {
  SweepSpec& spec;
  std::vector<Axis> axes;
  std::vector<Case> cases;
};

void describe(Fields& f, Reading& r) {
  f.required("name", r.spec.name);
  f.required("experiment", r.spec.experiment);
  f.field("seeds", r.spec.seeds, {.min = 1, .max = 1e7});
  f.field("first_seed", r.spec.first_seed, {.min = 0, .max = 9e15});
  if (const YAML::Node grid = f.raw("grid"); grid.IsDefined()) {
    if (!grid.IsMap()) {
      f.error("grid", "grid: expected fields with lists of values");
    } else {
      for (const auto& axis : grid) {
        if (!axis.second.IsSequence() || axis.second.size() == 0) {
          f.diagnostics().error(f.document().mark(axis.second),
                                fmt::format("grid.{}: expected a list of values", axis.first.Scalar()));
          continue;
        }
        Axis a{axis.first.Scalar(), {}};
        for (const auto& value : axis.second) a.values.push_back(text_of(value));
        r.axes.push_back(std::move(a));
      }
    }
  }
  if (const YAML::Node cases = f.raw("cases"); cases.IsDefined()) {
    if (!cases.IsMap()) {
      f.error("cases", "cases: expected names with fields and values");
    } else {
      for (const auto& entry : cases) {
        Case c{entry.first.Scalar(), {}};
        if (!entry.second.IsMap()) {
          f.diagnostics().error(f.document().mark(entry.second),
                                fmt::format("cases.{}: expected fields and values", c.name));
          continue;
        }
        for (const auto& field : entry.second)
          c.set.push_back(fmt::format("{}={}", field.first.Scalar(), text_of(field.second)));
        r.cases.push_back(std::move(c));
      }
    }
  }
}

void expand(Reading& r) {
  std::vector<SweepPoint> points;
  if (r.cases.empty()) points.push_back({});
  for (const Case& c : r.cases) points.push_back({c.name, c.set});
  for (const Axis& axis : r.axes) {
    std::vector<SweepPoint> next;
    for (const SweepPoint& p : points) {
      for (const std::string& value : axis.values) {
        SweepPoint q = p;
        q.name += fmt::format("{}{}={}", q.name.empty() ? "" : ", ", last_part(axis.field), value);
        q.set.push_back(fmt::format("{}={}", axis.field, value));
        next.push_back(std::move(q));
      }
    }
    points = std::move(next);
  }
  for (SweepPoint& p : points) {
    if (p.name.empty()) p.name = r.spec.name;
  }
  r.spec.points = std::move(points);
}

}  // namespace

SweepSpec load_sweep(const std::string& text, const std::string& file, const std::vector<std::string>& over,
                     const config::FileReader&) {
  config::Diagnostics diagnostics;
  config::Document document(text, file, diagnostics);
  diagnostics.throw_if_any();
  SweepSpec spec;
  Reading reading{spec, {}, {}};
  const YAML::Node& root = document.root();
  if (root.IsMap() && static_cast<const YAML::Node&>(root)["topology"].IsDefined()) {
    spec.experiment = file;
    spec.name = static_cast<const YAML::Node&>(root)["name"].IsScalar() ? root["name"].Scalar() : file;
  } else {
    config::read(document, root, "", reading, diagnostics);
    const auto slash = file.rfind('/');
    if (!spec.experiment.starts_with('/') && slash != std::string::npos)
      spec.experiment = file.substr(0, slash + 1) + spec.experiment;
  }
  for (const std::string& axis : over) {
    const config::Mark mark{fmt::format("--over {}", axis), 0, 0};
    const auto equals = axis.find('=');
    if (equals == std::string::npos || equals == 0) {
      diagnostics.error(mark, "expected a field and a list, such as 'fleet.instances=[2, 4, 8]'");
      continue;
    }
    YAML::Node values;
    try {
      values = YAML::Load(axis.substr(equals + 1));
    } catch (const YAML::Exception& e) {
      diagnostics.error(mark, fmt::format("not valid YAML: {}", e.msg));
      continue;
    }
    if (!values.IsSequence() || values.size() == 0) {
      diagnostics.error(mark, "expected a list of values in brackets");
      continue;
    }
    Axis a{axis.substr(0, equals), {}};
    for (const auto& value : values) a.values.push_back(text_of(value));
    reading.axes.push_back(std::move(a));
  }
  diagnostics.throw_if_any();
  expand(reading);
  return spec;
}

Estimate estimate(const std::vector<double>& values) {
  stats::Moments m;
  for (const double v : values) m.add(v);
  Estimate e{.count = m.count(), .mean = m.mean(), .half_width = std::numeric_limits<double>::infinity()};
  if (m.count() > 1) {
    const boost::math::students_t t(static_cast<double>(m.count() - 1));
    e.half_width = m.half_width(boost::math::quantile(t, 0.975));
  }
  return e;
}

}  // namespace faultline::experiment
