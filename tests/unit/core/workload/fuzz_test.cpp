// Arbitrary bytes never crash a reader or hang it: seeded mutations of good inputs, of each format. A mutant is either
// read (and then plays in order, with lengths of at least 1) or refused with a message; what is not tolerated is
// anything else.
#include <gtest/gtest.h>

#include "core/base/random.h"
#include "core/workload/servegen.h"
#include "core/workload/trace.h"
#include "tests/unit/core/workload/support.h"

namespace faultline::workload {
namespace {

constexpr std::uint64_t kSeed = 90'210;
constexpr int kMutants = 2000;  // of each input

/// One to eight edits: a byte changed, removed or doubled, a piece repeated or cut out, a telling token put in.
std::string mutated(std::string text, Random r) {
  static constexpr std::array<std::string_view, 24> tokens{"-1",
                                                           "0",
                                                           "1e999",
                                                           "nan",
                                                           "99999999999999999999",
                                                           "\n",
                                                           "\r",
                                                           ",",
                                                           ",,,",
                                                           "\"",
                                                           "{",
                                                           "}",
                                                           "[",
                                                           "]",
                                                           ":",
                                                           "\0",
                                                           "\xff\xfe",
                                                           "\xEF\xBB\xBF",
                                                           "2023-02-30",
                                                           "Gamma",
                                                           "Weibull",
                                                           "null",
                                                           "{{{{{{{{{{{{{{{{",
                                                           "\x1f\x8b\x08"};
  const std::uint64_t edits = 1 + r.below(8);
  for (std::uint64_t e = 0; e < edits; ++e) {
    const std::size_t at = r.below(text.size() + 1);
    const std::size_t length = std::min<std::size_t>(r.below(20), text.size() - at);
    switch (r.below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(r.below(256));
        break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, text.substr(at, length)); break;
      case 3: text.insert(at, tokens[r.below(tokens.size())]); break;
      case 4: text.resize(at); break;
      case 5: text.insert(at, 1, static_cast<char>(r.below(256))); break;
    }
  }
  return text;
}

void expect_sound(ArrivalSource& source) {
  Arrival a;
  Instant before{};
  for (int i = 0; i < 2000 && source.next(a); ++i) {
    ASSERT_GE(a.at, before);
    ASSERT_GE(a.prompt.v, 1);
    ASSERT_GE(a.output.v, 1);
    before = a.at;
  }
}

void fuzz_text(const std::string& text, TraceFormat format) {
  std::printf("seed=%llu\n", static_cast<unsigned long long>(kSeed));
  int read = 0;
  for (int i = 0; i < kMutants; ++i) {
    SCOPED_TRACE(i);
    WorkloadSpec spec;
    spec.trace = TraceSpec{.path = "m", .format = format};
    spec.rate_scale = i % 3 == 0 ? 1.7 : 1;
    config::Diagnostics diagnostics;
    const std::string mutant = mutated(text, Random(kSeed, "fuzz", static_cast<std::uint64_t>(i)));
    const auto source = make_source(spec, 1, files({{"m", mutant}}), diagnostics);
    ASSERT_EQ(source == nullptr, !diagnostics.ok());
    if (!source) continue;
    ++read;
    expect_sound(*source);
  }
  // Both ends of the range would mean that the mutations test nothing.
  EXPECT_GT(read, 0);
  EXPECT_LT(read, kMutants);
}

const std::string kAzure =
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 "
    "18:15:50.9951690,396,109\r\n";
const std::string kOwn =
    "arrival_s,input_tokens,output_tokens,slo_class,session\n0,12,3,default,a\n1.5,40,0,default,\n2.25e0,1,1,default,"
    "b\n";
const std::string kBurst =
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation "
    "log\n45,GPT-4,1087,0,1087,API log\n";
const std::string kMooncake =
    "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}\n{\"timestamp\": 3000, "
    "\"input_length\": 500, \"output_length\": 0, \"hash_ids\": [0]}\n";

TEST(Fuzz, AzureByItsHeader) { fuzz_text(kAzure, TraceFormat::detect); }
TEST(Fuzz, Azure) { fuzz_text(kAzure, TraceFormat::azure); }
TEST(Fuzz, Own) { fuzz_text(kOwn, TraceFormat::csv); }
TEST(Fuzz, BurstGPT) { fuzz_text(kBurst, TraceFormat::burstgpt); }
TEST(Fuzz, Mooncake) { fuzz_text(kMooncake, TraceFormat::mooncake); }
TEST(Fuzz, Gzip) { fuzz_text(gzipped(kAzure), TraceFormat::detect); }

TEST(Fuzz, ServeGenFolders) {
  std::printf("seed=%llu\n", static_cast<unsigned long long>(kSeed));
  const std::string windows = "0,0.5,1,Gamma,1,2\n600,0,0,,0,0\n1200,0.25,6.7,Weibull,0.5,4\n";
  const std::string lengths =
      R"({"0": {"input_tokens": "{100: 0.25, 200: 0.75}", "output_tokens": "{7: 1.0, 0: 0}", "reason_ratio": "{}"}})";
  int read = 0;
  for (int i = 0; i < kMutants; ++i) {
    SCOPED_TRACE(i);
    const Random r(kSeed, "fuzz/servegen", static_cast<std::uint64_t>(i));
    WorkloadSpec spec;
    spec.trace = TraceSpec{.path = "f", .format = TraceFormat::servegen};
    spec.requests = 500;
    config::Diagnostics diagnostics;
    const auto source = make_source(spec, 1,
                                    files({{"f/chunk-0-trace.csv", i % 2 ? mutated(windows, r) : windows},
                                           {"f/chunk-0-dataset.json", i % 2 ? lengths : mutated(lengths, r)}}),
                                    diagnostics);
    ASSERT_EQ(source == nullptr, !diagnostics.ok());
    if (!source) continue;
    ++read;
    expect_sound(*source);
  }
  EXPECT_GT(read, 0);
  EXPECT_LT(read, kMutants);
}

TEST(Fuzz, DeeplyNestedJsonIsRefused) {
  std::string deep = "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 5, \"hash_ids\": ";
  deep.append(200'000, '[');
  config::Diagnostics diagnostics;
  EXPECT_FALSE(parse_trace(deep, {.path = "m"}, diagnostics));
  deep.append(200'000, ']').append("}");
  config::Diagnostics closed;
  EXPECT_FALSE(parse_trace(deep, {.path = "m"}, closed));
}

}  // namespace
}  // namespace faultline::workload
