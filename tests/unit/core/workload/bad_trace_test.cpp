// Every malformed trace gives its exact message, with file, line and column; none crashes a reader.
#include <gtest/gtest.h>

#include "core/workload/trace.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

std::string errors_of(const std::string& text, TraceSpec spec = {}) {
  config::Diagnostics diagnostics;
  spec.path = "t";
  const auto trace = parse_trace(text, spec, diagnostics);
  EXPECT_EQ(trace.has_value(), diagnostics.ok());
  return diagnostics.text();
}

const std::string kAzure = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
const std::string kOwn = "arrival_s,input_tokens,output_tokens\n";
const std::string kBurst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
const std::string kFormats =
    "  known: azure (TIMESTAMP,ContextTokens,GeneratedTokens), mooncake (JSON lines), burstgpt "
    "(Timestamp,Model,Request "
    "tokens,…), csv (arrival_s,input_tokens,output_tokens), servegen (a folder)\n";

TEST(BadTrace, EmptyFile) { EXPECT_EQ(errors_of(""), "t: error: the file is empty\n"); }
TEST(BadTrace, OnlyBlankLines) { EXPECT_EQ(errors_of("\n \r\n\t\n"), "t: error: the file is empty\n"); }
TEST(BadTrace, UnknownFormat) {
  EXPECT_EQ(errors_of("hello\n"), "t:1:1: error: not a trace format that is known\n" + kFormats);
}
TEST(BadTrace, BinaryContent) {
  EXPECT_EQ(errors_of(std::string("\x7f"
                                  "ELF\0\1\2",
                                  7)),
            "t:1:1: error: not a trace format that is known\n" + kFormats);
}
TEST(BadTrace, HeaderWithoutRows) { EXPECT_EQ(errors_of(kAzure), "t: error: the trace has no requests\n"); }
TEST(BadTrace, FolderFormatForAFile) {
  EXPECT_EQ(errors_of("x", {.format = TraceFormat::servegen}), "t: error: a ServeGen trace is a folder, not a file\n");
}
TEST(BadTrace, WrongFormatGiven) {
  EXPECT_EQ(
      errors_of(kOwn + "0,1,1\n", {.format = TraceFormat::azure}),
      "t:1:1: error: unknown column 'arrival_s'\n  known columns: TIMESTAMP, ContextTokens, GeneratedTokens\n"
      "t:1:1: error: missing column 'TIMESTAMP'\nt:1:1: error: missing column 'ContextTokens'\n"
      "t:1:1: error: missing column 'GeneratedTokens'\n"
      "t:1:11: error: unknown column 'input_tokens'\n  known columns: TIMESTAMP, ContextTokens, GeneratedTokens\n"
      "t:1:24: error: unknown column 'output_tokens'\n  known columns: TIMESTAMP, ContextTokens, GeneratedTokens\n");
}

TEST(BadTrace, AzureTokensThatAreNoNumber) {
  EXPECT_EQ(errors_of(kAzure + "2023-11-16 18:15:46.6805900,abc,44\r\n"),
            "t:2:29: error: column ContextTokens: expected a whole number of tokens, at most 100000000, got 'abc'\n");
}
TEST(BadTrace, AzureNegativeTokens) {
  EXPECT_EQ(errors_of(kAzure + "2023-11-16 18:15:46.6805900,374,-1\n"),
            "t:2:33: error: column GeneratedTokens: expected a whole number of tokens, at most 100000000, got '-1'\n");
}
TEST(BadTrace, AzureFractionalTokens) {
  EXPECT_EQ(errors_of(kAzure + "2023-11-16 18:15:46.6805900,374,1.5\n"),
            "t:2:33: error: column GeneratedTokens: expected a whole number of tokens, at most 100000000, got '1.5'\n");
}
TEST(BadTrace, AzureTooManyTokens) {
  EXPECT_EQ(
      errors_of(kAzure + "2023-11-16 18:15:46.6805900,99999999999,1\n"),
      "t:2:29: error: column ContextTokens: expected a whole number of tokens, at most 100000000, got '99999999999'\n");
}
TEST(BadTrace, AzureMissingValue) {
  EXPECT_EQ(errors_of(kAzure + "2023-11-16 18:15:46.6805900,374\n"),
            "t:2:1: error: expected 3 values, got 2\n  columns: TIMESTAMP, ContextTokens, GeneratedTokens\n");
}
TEST(BadTrace, AzureExtraValue) {
  EXPECT_EQ(errors_of(kAzure + "2023-11-16 18:15:46.6805900,374,1,\n"),
            "t:2:1: error: expected 3 values, got 4\n  columns: TIMESTAMP, ContextTokens, GeneratedTokens\n");
}
TEST(BadTrace, AzureNoSuchDay) {
  EXPECT_EQ(errors_of(kAzure + "2023-02-30 18:15:46,1,1\n"),
            "t:2:1: error: column TIMESTAMP: expected a time such as '2023-11-16 18:15:46.6805900' or "
            "'2024-05-10 00:00:00.009930+00:00', got '2023-02-30 18:15:46'\n");
}
TEST(BadTrace, AzureEpochInsteadOfATime) {
  EXPECT_EQ(errors_of(kAzure + "1700158546,1,1\n"),
            "t:2:1: error: column TIMESTAMP: expected a time such as '2023-11-16 18:15:46.6805900' or "
            "'2024-05-10 00:00:00.009930+00:00', got '1700158546'\n");
}
TEST(BadTrace, AzureMissingColumn) {
  EXPECT_EQ(errors_of("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,1\n"),
            "t:1:1: error: missing column 'GeneratedTokens'\n");
}
TEST(BadTrace, AzureMisspeltColumn) {
  EXPECT_EQ(errors_of("TIMESTAMP,ContextTokens,GeneratedToken\n"),
            "t:1:1: error: missing column 'GeneratedTokens'\n"
            "t:1:25: error: unknown column 'GeneratedToken'\n"
            "  known columns: TIMESTAMP, ContextTokens, GeneratedTokens (did you mean 'GeneratedTokens'?)\n");
}
TEST(BadTrace, ColumnTwice) {
  EXPECT_EQ(errors_of("arrival_s,input_tokens,output_tokens,input_tokens\n"),
            "t:1:38: error: column 'input_tokens' appears twice\n");
}
TEST(BadTrace, ZeroTokensWhereTheyAreRefused) {
  EXPECT_EQ(errors_of(kOwn + "0,0,4\n1,4,0\n", {.zero_tokens = ZeroTokens::error}),
            "t:2:3: error: column input_tokens: 0 tokens, which zero_tokens refuses\n"
            "t:3:5: error: column output_tokens: 0 tokens, which zero_tokens refuses\n");
}
TEST(BadTrace, NothingLeftAfterSkipping) {
  EXPECT_EQ(errors_of(kOwn + "0,0,4\n", {.zero_tokens = ZeroTokens::skip}), "t: error: the trace has no requests\n");
}

TEST(BadTrace, OwnNegativeTime) {
  EXPECT_EQ(errors_of(kOwn + "-1,1,1\n"),
            "t:2:1: error: column arrival_s: expected a time in seconds, 0 or more, got '-1'\n");
}
TEST(BadTrace, OwnTimeThatIsNotANumber) {
  EXPECT_EQ(errors_of(kOwn + "nan,1,1\n"),
            "t:2:1: error: column arrival_s: expected a time in seconds, 0 or more, got 'nan'\n");
}
TEST(BadTrace, OwnTimeBeyondTheAxis) {
  EXPECT_EQ(errors_of(kOwn + "1e300,1,1\n"),
            "t:2:1: error: column arrival_s: expected a time in seconds, 0 or more, got '1e300'\n");
}
TEST(BadTrace, OwnTimeWithAUnit) {
  EXPECT_EQ(errors_of(kOwn + "1.5 s,1,1\n"),
            "t:2:1: error: column arrival_s: expected a time in seconds, 0 or more, got '1.5 s'\n");
}
TEST(BadTrace, OwnEmptyLineBetweenRows) {
  EXPECT_EQ(errors_of(kOwn + "0,1,1\n\n1,1,1\n"),
            "t:3:1: error: an empty line between rows\n  columns: arrival_s, input_tokens, output_tokens\n");
}
TEST(BadTrace, OwnEmptyClass) {
  EXPECT_EQ(errors_of("arrival_s,input_tokens,output_tokens,slo_class\n0,1,1,\n"),
            "t:2:7: error: column slo_class: expected the name of a class, got nothing\n");
}
TEST(BadTrace, OwnUnknownColumn) {
  EXPECT_EQ(errors_of("arrival_s,input_tokens,output_tokens,sesion\n0,1,1,a\n"),
            "t:1:38: error: unknown column 'sesion'\n"
            "  known columns: arrival_s, input_tokens, output_tokens, slo_class, session (did you mean 'session'?)\n");
}
TEST(BadTrace, OwnUnprintableBytesAreMasked) {
  EXPECT_EQ(errors_of(kOwn + "0,\x1b[31m\xff,1\n"),
            "t:2:3: error: column input_tokens: expected a whole number of tokens, at most 100000000, got '?[31m?'\n");
}
TEST(BadTrace, EveryBadRowIsReportedUpToABound) {
  std::string text = kOwn;
  for (int i = 0; i < 60; ++i) text += "x,1,1\n";
  const std::string errors = errors_of(text);
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 51);
  EXPECT_NE(errors.find("t: error: 10 more errors in this file are not shown\n"), std::string::npos) << errors;
}

TEST(BadTrace, BurstTotalThatDoesNotAddUp) {
  EXPECT_EQ(errors_of(kBurst + "5,ChatGPT,472,18,491,Conversation log\n"),
            "t:2:18: error: column Total tokens: expected 472 + 18 = 490, got 491\n");
}
TEST(BadTrace, BurstMissingColumn) {
  EXPECT_EQ(errors_of("Timestamp,Model,Request tokens,Response tokens,Log Type\n"),
            "t:1:1: error: missing column 'Total tokens'\n");
}

TEST(BadTrace, MooncakeBrokenJson) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_length\"\n"),
            "t:1:32: error: expected one JSON object a line, got '{\"timestamp\": 0, \"input_length\"'\n");
}
TEST(BadTrace, MooncakeNotAnObject) {
  EXPECT_EQ(errors_of("{\"timestamp\":0,\"input_length\":1,\"output_length\":1}\n[1]\n"),
            "t:2:1: error: expected one JSON object a line, got '[1]'\n");
}
TEST(BadTrace, MooncakeMissingKey) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_length\": 5}\n"), "t:1:1: error: missing key 'output_length'\n");
}
TEST(BadTrace, MooncakeUnknownKey) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_len\": 5}\n"),
            "t:1:1: error: unknown key 'input_len'\n  known keys: timestamp, input_length, output_length, hash_ids\n");
}
TEST(BadTrace, MooncakeNegativeTime) {
  EXPECT_EQ(errors_of("{\"timestamp\": -3, \"input_length\": 5, \"output_length\": 5}\n"),
            "t:1:1: error: timestamp: expected a whole number from 0 to 4000000000000, got '-3'\n");
}
TEST(BadTrace, MooncakeTextForANumber) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_length\": \"5\", \"output_length\": [5]}\n"),
            "t:1:1: error: input_length: expected a whole number from 0 to 100000000, got '\"5\"'\n"
            "t:1:1: error: output_length: expected a whole number from 0 to 100000000, got 'array'\n");
}
TEST(BadTrace, MooncakeMoreBlocksThanThePromptHas) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_length\": 512, \"output_length\": 5, \"hash_ids\": [1, 2]}\n"),
            "t:1:1: error: hash_ids: 512 tokens have at most 1 blocks of 512, got 2 ids\n");
}
TEST(BadTrace, MooncakeBlockIdTooLarge) {
  EXPECT_EQ(
      errors_of("{\"timestamp\": 0, \"input_length\": 513, \"output_length\": 5, \"hash_ids\": [1, 4294967296]}\n"),
      "t:1:1: error: hash_ids[1]: expected a whole number from 0 to 4294967295, got '4294967296'\n");
}
TEST(BadTrace, MooncakeBlocksThatAreNoList) {
  EXPECT_EQ(errors_of("{\"timestamp\": 0, \"input_length\": 513, \"output_length\": 5, \"hash_ids\": 7}\n"),
            "t:1:1: error: hash_ids: expected a list of block ids, got number\n");
}

TEST(BadTrace, MissingFile) {
  config::Diagnostics diagnostics;
  EXPECT_FALSE(read_trace({.path = "nowhere.csv"}, files({}), diagnostics));
  EXPECT_EQ(diagnostics.text(), "nowhere.csv: error: cannot read the file\n");
}
TEST(BadTrace, ClassThatTheExperimentDoesNotHave) {
  WorkloadSpec spec;
  ASSERT_EQ(read_spec("trace: {path: t.csv}\nslo: [{name: chat}, {name: batch}]\n", spec), "");
  config::Diagnostics diagnostics;
  EXPECT_EQ(make_source(spec, 1,
                        files({{"t.csv", "arrival_s,input_tokens,output_tokens,slo_class\n0,1,1,chat\n1,1,1,bach\n"}}),
                        diagnostics),
            nullptr);
  EXPECT_EQ(diagnostics.text(),
            "t.csv:3:7: error: column slo_class: unknown class 'bach'\n"
            "  classes of the experiment: chat, batch (did you mean 'batch'?)\n");
}

std::string histogram_errors(const std::string& text) {
  WorkloadSpec spec;
  EXPECT_EQ(read_spec("requests: 1\nlengths: {prompt: {kind: empirical, file: h}, output: {kind: fixed}}\n", spec), "");
  config::Diagnostics diagnostics;
  EXPECT_EQ(make_source(spec, 1, files({{"h", text}}), diagnostics), nullptr);
  return diagnostics.text();
}
TEST(BadTrace, HistogramOfZeroTokens) {
  EXPECT_EQ(histogram_errors("tokens,weight\n0,1\n"), "h:2:1: error: column tokens: expected at least 1, got 0\n");
}
TEST(BadTrace, HistogramWithANegativeWeight) {
  EXPECT_EQ(histogram_errors("tokens,weight\n5,-1\n"),
            "h:2:3: error: column weight: expected a number from 0 to 1e+18, got '-1'\n");
}
TEST(BadTrace, HistogramWithoutWeight) {
  EXPECT_EQ(histogram_errors("tokens,weight\n5,0\n"), "h: error: no row with a weight above 0\n");
}

}  // namespace
}  // namespace faultline::workload
