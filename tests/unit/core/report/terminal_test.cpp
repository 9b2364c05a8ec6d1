#include "core/report/terminal.h"

#include <gtest/gtest.h>

#include <sstream>

#include "core/report/text.h"
#include "tests/unit/core/metrics/record_builder.h"
#include "tests/unit/core/report/golden.h"

namespace faultline::report {
namespace {

using metrics::testing::failstop_run;
using metrics::testing::RunRecord;
using metrics::testing::steady_run;
using namespace literals;

void expect_width(const std::string& text, std::size_t columns) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(width_of(line), columns) << line;
}

TEST(TerminalReport, OfAFailStopIsAsReviewed) {
  const RunRecord run = failstop_run(), without = steady_run();
  const std::string text = terminal_text(make_report(run, &without, &without, {.gpu_price_per_hour = 2.5}));
  expect_width(text, 80);
  testing::expect_golden("failstop.txt", text);
}

TEST(TerminalReport, OfTwoFaultsWithoutAPairIsAsReviewed) {
  RunRecord run = failstop_run();
  record::FaultRecord late = run.faults[0];
  late.id = "late";
  late.kind = "link.flap";
  late.applied = false;
  late.at = kNever;
  late.not_applied_reason = "the run ended before its 1000th decode_step";
  run.faults.push_back(late);
  record::FaultRecord near = run.faults[0];
  near.id = "leaf";
  near.kind = "switch.down";
  near.target = "leaf-0";
  near.at = near.at + 5_s;
  near.reverted = near.at + 2_s;
  run.faults.push_back(near);
  run.warnings = {"prices extrapolated beyond 512 tokens a rank"};
  run.throughput[100].output_tokens -= 1;
  const std::string text = terminal_text(make_report(run, nullptr, nullptr));
  expect_width(text, 80);
  testing::expect_golden("two_faults.txt", text);
}

TEST(TerminalReport, FitsNarrowAndWideTerminals) {
  const RunRecord run = failstop_run(), without = steady_run();
  for (const int columns : {60, 72, 100, 160}) {
    expect_width(terminal_text(make_report(run, &without, &without), {.columns = columns}),
                 static_cast<std::size_t>(columns));
  }
}

TEST(TerminalReport, ALiveRunSaysWhatWasObservedAndNothingOfASimulator) {
  RunRecord run = failstop_run();
  run.stats = {};
  run.stats.fidelity = "live";
  run.stats.wall_s = 61.5;
  run.stats.cpu_s = 12;
  run.stats.events = 4'711;
  const std::string text = terminal_text(make_report(run, nullptr, nullptr));
  expect_width(text, 80);
  EXPECT_EQ(text.find("simulator"), std::string::npos) << text;
  EXPECT_NE(text.find("observed "), std::string::npos) << text;
  EXPECT_NE(text.find("4,711"), std::string::npos) << text;
}

TEST(TerminalReport, ColourOnlyWhereAsked) {
  const RunRecord run = failstop_run();
  const Report report = make_report(run, nullptr, nullptr);
  EXPECT_EQ(terminal_text(report).find('\033'), std::string::npos);
  const std::string coloured = terminal_text(report, {.colour = true});
  EXPECT_NE(coloured.find("\033[1m"), std::string::npos);
  std::string stripped;  // without the colours the text is the same
  for (std::size_t i = 0; i < coloured.size(); ++i) {
    if (coloured[i] == '\033') i = coloured.find('m', i);
    else stripped += coloured[i];
  }
  EXPECT_EQ(stripped, terminal_text(report));
}

TEST(TerminalReport, AHostileNameCannotControlTheTerminal) {
  RunRecord run = failstop_run();
  run.experiment = "\033]0;owned\x07";
  run.faults[0].target = "x\033[2Jy" + std::string(200, 'z');
  run.faults[0].recovery = "\r\n\x08";
  run.warnings = {"\033[31m"};
  const std::string text = terminal_text(make_report(run, nullptr, nullptr));
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
  expect_width(text, 80);
}

TEST(TerminalReport, AnEmptyRunIsPrinted) {
  const RunRecord run;
  EXPECT_NE(terminal_text(make_report(run, nullptr, nullptr)).find("0 arrived"), std::string::npos);
}

}  // namespace
}  // namespace faultline::report
