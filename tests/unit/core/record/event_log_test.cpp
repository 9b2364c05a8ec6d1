#include "core/record/event_log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "core/record/codec.h"
#include "tests/unit/core/record/random_values.h"

namespace faultline::record {
namespace {

using testing::RandomFill;

std::uint64_t seed() {
  const char* given = std::getenv("FAULTLINE_TEST_SEED");
  return given ? std::strtoull(given, nullptr, 10) : 20'261'123;
}

template <class T>
std::string encode(const T& v) {
  std::string out;
  Encoder(out).value(v);
  return out;
}

/// Values compare by their encoding: read(write(v)) must write the same bytes, and the same text for people.
template <class Variant, class Describe>
void expect_round_trips(Describe describe) {
  ::testing::Test::RecordProperty("seed", std::to_string(seed()));
  for (std::size_t index = 0; index < std::variant_size_v<Variant>; ++index) {
    Random random(seed(), "codec/round trip", index);
    for (int k = 0; k < 200; ++k) {
      Variant v;
      RandomFill(random).any(v, index);
      const std::string bytes = encode(v);
      Decoder d(bytes);
      Variant read;
      d.value(read);
      ASSERT_TRUE(d.done()) << "alternative " << index << ", seed " << seed();
      ASSERT_EQ(read.index(), index);
      ASSERT_EQ(encode(read), bytes) << "alternative " << index << ", seed " << seed();
      ASSERT_EQ(describe(read), describe(v)) << "alternative " << index << ", seed " << seed();
    }
  }
}

TEST(Codec, EveryKindOfMessageReadsBack) {
  expect_round_trips<control::Message>([](const control::Message& m) {
    return describe_command(control::Send{{Role::fleet, 0}, m});
  });
}
TEST(Codec, EveryKindOfEventReadsBack) { expect_round_trips<control::Event>(describe_event); }
TEST(Codec, EveryKindOfCommandReadsBack) { expect_round_trips<control::Command>(describe_command); }

TEST(Codec, MembersKeepTheirExtremes) {
  control::SubmitRequest s;  // the text and the bytes above would agree if both lost the same bits
  s.request = RequestId{};
  s.attempt = std::numeric_limits<std::uint32_t>::max();
  s.prompt = std::numeric_limits<std::int32_t>::min();
  s.output = std::numeric_limits<std::int32_t>::max();
  s.prefix_key = std::numeric_limits<std::uint64_t>::max() - 1;
  const std::string bytes = encode(s);
  control::SubmitRequest r;
  Decoder(bytes).value(r);
  EXPECT_FALSE(r.request.valid());
  EXPECT_EQ(r.attempt, s.attempt);
  EXPECT_EQ(r.prompt, s.prompt);
  EXPECT_EQ(r.output, s.output);
  EXPECT_EQ(r.prefix_key, s.prefix_key);
  control::ArmTimer t{.key = std::uint64_t{3} << 56, .deadline = kNever}, u;
  const std::string timer = encode(t);
  Decoder(timer).value(u);
  EXPECT_EQ(u.key, t.key);
  EXPECT_EQ(u.deadline, kNever);
}

TEST(Codec, DamageIsNamed) {
  const auto message = [](const std::string& bytes) {
    control::Event e;
    try {
      Decoder(bytes).value(e);
    } catch (const CodecError& error) {
      return std::string(error.what());
    }
    return std::string("well");
  };
  EXPECT_EQ(message(""), "the data end in the middle of a number");
  EXPECT_EQ(message("\x7f"), "unknown kind of record: the log is of a newer version, or damaged");
  EXPECT_EQ(message(std::string(10, '\xff')), "a number is longer than 64 bits");
  // StartGroup in a Received: instance, group, epoch, then a list of 100 nodes in no bytes.
  EXPECT_EQ(message(std::string("\x00\x00\x00\x0f\x01\x01\x01\x64", 8)), "a list is longer than the data");
}

// ---- the log --------------------------------------------------------------------------------------------------------

struct Sample {
  std::string bytes;
  std::vector<LogRecord> records;
  std::uint64_t hash = 0;
};

Sample sample_log(int records) {
  Sample s;
  EventLogWriter writer("name: a", [&](std::string_view piece) { s.bytes += piece; });
  Random random(seed(), "codec/log");
  Instant now{0};
  for (int k = 0; k < records; ++k) {
    LogRecord r;
    now = now + Duration{static_cast<std::int64_t>(random.below(1'000'000))};
    r.at = now;
    r.who = {static_cast<Role>(1 + random.below(4)), static_cast<std::uint32_t>(random.below(1000))};
    r.incarnation = static_cast<std::uint32_t>(random.below(3));
    RandomFill fill(random);
    fill.any(r.event, random.below(std::variant_size_v<control::Event>));
    r.commands.resize(random.below(4));
    for (auto& c : r.commands) fill.any(c, random.below(std::variant_size_v<control::Command>));
    r.digest = random.bits();
    writer.append(r.at, r.who, r.incarnation, r.event, r.commands, r.digest);
    s.records.push_back(std::move(r));
  }
  writer.finish();
  s.hash = writer.hash();
  return s;
}

TEST(EventLog, ReadsBackWhatWasWritten) {
  const Sample s = sample_log(500);
  EventLogReader reader(s.bytes);
  EXPECT_EQ(reader.experiment(), "name: a");
  LogRecord r;
  for (const LogRecord& expected : s.records) {
    ASSERT_TRUE(reader.next(r));
    EXPECT_EQ(r.at, expected.at);
    EXPECT_EQ(r.who, expected.who);
    EXPECT_EQ(r.incarnation, expected.incarnation);
    EXPECT_EQ(r.digest, expected.digest);
    EXPECT_EQ(encode(r.event), encode(expected.event));
    ASSERT_EQ(r.commands.size(), expected.commands.size());
    for (std::size_t k = 0; k < r.commands.size(); ++k) EXPECT_EQ(encode(r.commands[k]), encode(expected.commands[k]));
  }
  EXPECT_FALSE(reader.next(r));
}

TEST(EventLog, TheHashCoversEveryRecordAndNotTheExperiment) {
  const auto hash = [](std::string_view experiment, Cause cause, std::uint64_t digest) {
    EventLogWriter w(experiment, {});
    w.append(Instant{5}, {Role::router, 0}, 0, control::WriteEnded{OpId{1}, cause}, {}, digest);
    w.finish();
    return w.hash();
  };
  const std::uint64_t h = hash("a", Cause::none, 1);
  EXPECT_EQ(h, hash("b", Cause::none, 1));
  EXPECT_NE(h, hash("a", Cause::timeout, 1));
  EXPECT_NE(h, hash("a", Cause::none, 2));
}

TEST(EventLog, AFileOfAnotherKindIsRefused) {
  EXPECT_THROW(EventLogReader("FAULTLN3xxxx"), CodecError);
  EXPECT_THROW(EventLogReader(""), CodecError);
  EXPECT_THROW(EventLogReader("FAULTLN2"), CodecError);
  EXPECT_THROW(EventLogReader("FAULTLN3\x7f"), CodecError);  // an experiment longer than the file
}

/// Reads to the end. Returns the number of records, or -1 where the reader found damage.
int read_all(std::string_view bytes) {
  try {
    EventLogReader reader(bytes);
    LogRecord r;
    int n = 0;
    while (reader.next(r)) {
      describe_event(r.event);
      for (const auto& c : r.commands) describe_command(c);
      ++n;
    }
    return n;
  } catch (const CodecError&) {
    return -1;
  }
}

TEST(EventLog, CutAtAnyByteItIsShorterOrDamagedAndNeverWrong) {
  const Sample s = sample_log(40);
  ASSERT_EQ(read_all(s.bytes), 40);
  int whole = 0;
  for (std::size_t n = 0; n < s.bytes.size(); ++n) {
    const int got = read_all(std::string_view(s.bytes).substr(0, n));
    if (got >= 0) ++whole;
    EXPECT_LT(got, 40) << "cut at " << n;
  }
  EXPECT_EQ(whole, 40);  // between two records, and nowhere else
}

TEST(EventLog, MutatedItIsReadOrRefusedButNeverOverrun) {
  const Sample s = sample_log(30);
  int damaged = 0;
  constexpr int kTries = 20'000;
  for (int k = 0; k < kTries; ++k) {
    Random random(seed(), "codec/mutate", static_cast<std::uint64_t>(k));
    std::string bytes = s.bytes;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n) {
      const std::size_t at = random.below(bytes.size());
      switch (random.below(4)) {
        case 0: bytes[at] = static_cast<char>(random.bits()); break;
        case 1: bytes.erase(at, 1 + random.below(8)); break;
        case 2: bytes.insert(at, 1 + random.below(8), static_cast<char>(random.bits())); break;
        default: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8))); break;
      }
      if (bytes.empty()) bytes = "F";
    }
    damaged += read_all(bytes) < 0;
  }
  EXPECT_GT(damaged, kTries / 10) << "seed " << seed();  // lengths and kinds make up much more of the bytes than that
}

}  // namespace
}  // namespace faultline::record
