#include "core/control/router.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/core/control/support.h"

namespace faultline::control {
namespace {

using namespace testing;

RouterSetup setup_of(std::size_t instances, RoutePolicy policy = RoutePolicy::least_tokens) {
  RouterSetup s;
  s.spec.policy = policy;
  s.seed = 7;
  s.accepting.assign(instances, true);
  return s;
}

/// The instance that the router sent request `id` to, or kUnknownRank where it sent nothing.
std::uint32_t placed(const Commands& commands, std::uint32_t id) {
  for (const auto& [to, m] : sent<SubmitRequest>(commands)) {
    if (m.request.v == id) return to.index;
  }
  return kUnknownRank;
}
RequestArrived request(std::uint32_t id, std::int32_t prompt = 100, std::int32_t output = 10,
                       std::uint64_t prefix = 0) {
  return {RequestId{id}, prompt, output, 0, prefix};
}
AttemptEnded ended(std::uint32_t id, std::uint32_t attempt, Cause cause = Cause::none, std::int32_t produced = 10,
                   bool accepting = true) {
  return {RequestId{id}, attempt, cause, produced, accepting};
}

TEST(Router, WatchesEveryInstanceFromItsStart) {
  Router r(setup_of(3));
  const auto watched = all<Watch>(feed(r, at(0_s), Started{}));
  ASSERT_EQ(watched.size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(watched[i].peer, leader_at(i));
}

TEST(Router, SendsARequestWithItsShapeAndTellsTheClientHowItEnded) {
  Router r(setup_of(1));
  const Commands c = feed(r, at(0_s), request(0, 123, 45, 99));
  const auto submitted = sent<SubmitRequest>(c);
  ASSERT_EQ(submitted.size(), 1U);
  EXPECT_EQ(submitted[0].first, leader_at(0));
  EXPECT_EQ(submitted[0].second.prompt, 123);
  EXPECT_EQ(submitted[0].second.output, 45);
  EXPECT_EQ(submitted[0].second.prefix_key, 99U);
  EXPECT_EQ(submitted[0].second.attempt, 0U);
  const auto done = all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(0, 0, Cause::none, 45)));
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].cause, Cause::none);
  EXPECT_FALSE(done[0].rejected);
  EXPECT_EQ(done[0].delivered, 45);
  EXPECT_EQ(r.in_flight(), 0U);
}

TEST(Router, RoundRobinGoesRoundAndSkipsWhatDoesNotAccept) {
  Router r(setup_of(3, RoutePolicy::round_robin));
  EXPECT_EQ(placed(feed(r, at(0_s), request(0)), 0), 0U);
  EXPECT_EQ(placed(feed(r, at(0_s), request(1)), 1), 1U);
  feed(r, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{2}, false});
  EXPECT_EQ(placed(feed(r, at(0_s), request(2)), 2), 0U);
  EXPECT_EQ(placed(feed(r, at(0_s), request(3)), 3), 1U);
  feed(r, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{2}, true});
  EXPECT_EQ(placed(feed(r, at(0_s), request(4)), 4), 2U);
}

TEST(Router, LeastTokensCountsWhatItSentAndHasNotSeenEnd) {
  Router r(setup_of(2));
  EXPECT_EQ(placed(feed(r, at(0_s), request(0, 1000, 10)), 0), 0U);
  EXPECT_EQ(placed(feed(r, at(0_s), request(1, 100, 10)), 1), 1U);
  EXPECT_EQ(placed(feed(r, at(0_s), request(2, 100, 10)), 2), 1U);  // 110 against 1010
  feed(r, at(1_s), leader_at(0), ended(0, 0));
  EXPECT_EQ(placed(feed(r, at(1_s), request(3, 100, 10)), 3), 0U);  // 0 against 220
}

TEST(Router, TiesOfLeastTokensGoRoundByRequest) {
  for (std::uint32_t id = 0; id < 8; ++id) {
    Router r(setup_of(4));
    EXPECT_EQ(placed(feed(r, at(0_s), request(id)), id), id % 4);
  }
}

TEST(Router, WithSeveralRoutersAReportAddsWhatTheOthersPlaced) {
  RouterSetup s = setup_of(2);
  s.spec.replicas = 2;
  Router r(s);
  feed(r, at(0_s), leader_at(0), LoadReport{5'000});
  EXPECT_EQ(placed(feed(r, at(0_s), request(0)), 0), 1U);
  // One router's own count is exact: a report changes nothing.
  Router alone(setup_of(2));
  feed(alone, at(0_s), leader_at(0), LoadReport{5'000});
  EXPECT_EQ(placed(feed(alone, at(0_s), request(0)), 0), 0U);
}

TEST(Router, PowerOfTwoTakesTheLighterOfTwoAndNeverOneThatDoesNotAccept) {
  RouterSetup s = setup_of(8, RoutePolicy::power_of_two);
  s.accepting[3] = false;
  Router r(s);
  std::map<std::uint32_t, int> count;
  for (std::uint32_t id = 0; id < 700; ++id) ++count[placed(feed(r, at(0_s), request(id)), id)];
  EXPECT_EQ(count.count(3), 0U);
  EXPECT_EQ(count.size(), 7U);
  // Two choices keep the fullest within a few of the mean of 100 (log log n); one random choice would spread by
  // about 30.
  for (const auto& [instance, n] : count) EXPECT_NEAR(n, 100, 10) << "instance " << instance;
}

TEST(Router, PowerOfTwoStillFindsTheOnlyInstanceThatAccepts) {
  RouterSetup s = setup_of(64, RoutePolicy::power_of_two);
  s.accepting.assign(64, false);
  s.accepting[41] = true;
  Router r(s);
  for (std::uint32_t id = 0; id < 50; ++id) EXPECT_EQ(placed(feed(r, at(0_s), request(id)), id), 41U);
}

TEST(Router, AChoiceDependsOnTheRequestAndNotOnTheOnesBefore) {
  Router a(setup_of(8, RoutePolicy::power_of_two)), b(setup_of(8, RoutePolicy::power_of_two));
  feed(b, at(0_s), request(1000, 1, 1));
  feed(b, at(0_s), leader_at(placed(feed(b, at(0_s), request(1001, 1, 1)), 1001)), ended(1001, 0));
  int same = 0;
  for (std::uint32_t id = 0; id < 20; ++id) {
    const std::uint32_t x = placed(feed(a, at(0_s), request(id, 1000, 10)), id),
                        y = placed(feed(b, at(0_s), request(id, 1000, 10)), id);
    same += x == y;
    feed(a, at(0_s), leader_at(x), ended(id, 0));
    feed(b, at(0_s), leader_at(y), ended(id, 0));
  }
  // One two-token request more in one of them may turn a tie between two idle instances, not the draws.
  EXPECT_GE(same, 12);
}

TEST(Router, PrefixAffinityKeepsAPrefixTogetherAndMovesOnlyTheLostInstancesPrefixes) {
  Router r(setup_of(6, RoutePolicy::prefix_affinity));
  std::map<std::uint64_t, std::uint32_t> home;
  std::uint32_t id = 0;
  const auto place_prefix = [&](std::uint64_t prefix) {
    const std::uint32_t i = placed(feed(r, at(0_s), request(id, 100, 10, prefix)), id);
    feed(r, at(0_s), leader_at(i), ended(id++, 0));
    return i;
  };
  std::set<std::uint32_t> used;
  for (std::uint64_t p = 1; p <= 60; ++p) used.insert(home[p] = place_prefix(p));
  EXPECT_EQ(used.size(), 6U);
  for (std::uint64_t p = 1; p <= 60; ++p) EXPECT_EQ(place_prefix(p), home[p]);
  feed(r, at(0_s), lost(leader_at(2)));
  for (std::uint64_t p = 1; p <= 60; ++p) {
    const std::uint32_t now = place_prefix(p);
    if (home[p] == 2) EXPECT_NE(now, 2U);
    else EXPECT_EQ(now, home[p]);
  }
}

TEST(Router, AffinityYieldsWhereItsInstanceIsOverloaded) {
  Router r(setup_of(2, RoutePolicy::prefix_affinity));
  std::set<std::uint32_t> used;
  for (std::uint32_t id = 0; id < 12; ++id) used.insert(placed(feed(r, at(0_s), request(id, 100, 10, 5)), id));
  EXPECT_EQ(used.size(), 2U);
}

/// Prefix blocks of 100 tokens; `blocks` are their ids.
RequestArrived with_chain(std::uint32_t id, std::vector<std::uint32_t> blocks) {
  const auto tokens = static_cast<std::int32_t>(100 * blocks.size());
  RequestArrived r = request(id, tokens, 10, blocks.front());
  r.prefix = {100, tokens, std::move(blocks)};
  return r;
}

TEST(Router, CacheAwareFollowsTheLongestBeginningNotTheFirstBlock) {
  Router r(setup_of(3, RoutePolicy::cache_aware));
  std::uint32_t id = 0;
  const auto place = [&](const std::vector<std::uint32_t>& blocks) {
    const std::uint32_t i = placed(feed(r, at(0_s), with_chain(id, blocks)), id);
    feed(r, at(0_s), leader_at(i), ended(id++, 0));
    EXPECT_EQ(r.digest(), r.full_digest());
    return i;
  };
  // All begin with block 1. While the first two are served, each is alone where it is.
  const std::uint32_t a = placed(feed(r, at(0_s), with_chain(100, {1, 10, 11, 12})), 100),
                      b = placed(feed(r, at(0_s), with_chain(101, {1, 20, 21, 22})), 101);
  ASSERT_NE(a, b);
  feed(r, at(0_s), leader_at(a), ended(100, 0));
  feed(r, at(0_s), leader_at(b), ended(101, 0));
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(place({1, 10, 11, 12, 13}), a);
    EXPECT_EQ(place({1, 20, 21, 29}), b);
  }
  feed(r, at(1_s), lost(leader_at(a)));
  EXPECT_NE(place({1, 10, 11, 12, 13}), a);
  feed(r, at(2_s), back(leader_at(a)));
  EXPECT_NE(place({1, 10, 11, 12, 13}), a) << "its cache died with it";
}

TEST(Router, CacheAwareWeighsWhatIsThereAgainstWhatIsInFront) {
  Router r(setup_of(2, RoutePolicy::cache_aware));
  const std::uint32_t home = placed(feed(r, at(0_s), with_chain(0, {1, 2, 3, 4})), 0);
  // 410 tokens are in front there: more than the 400 that it spares, less than the 500 once somebody has made them.
  EXPECT_NE(placed(feed(r, at(0_s), with_chain(1, {1, 2, 3, 4})), 1), home);
  feed(r, at(0_s), leader_at(1 - home), ended(1, 0));
  feed(r, at(0_s), leader_at(home), ended(0, 0));
  EXPECT_EQ(placed(feed(r, at(0_s), with_chain(2 + home, {30, 31, 32, 33, 34})), 2 + home), home);
  feed(r, at(0_s), leader_at(home), ended(2 + home, 0));
  EXPECT_EQ(placed(feed(r, at(0_s), with_chain(4, {1, 2, 3})), 4), home);  // 310 in front from here on, both had it
  EXPECT_EQ(placed(feed(r, at(0_s), with_chain(5, {30, 31, 32, 33, 34})), 5), home);
}

TEST(Router, CacheAwareRemembersSoManyTokensOfEachInstance) {
  RouterSetup s = setup_of(2, RoutePolicy::cache_aware);
  s.spec.index_tokens = 1'000;
  Router r(s);
  const auto visit = [&](std::uint32_t id, std::vector<std::uint32_t> blocks) {
    const std::uint32_t i = placed(feed(r, at(0_s), with_chain(id, std::move(blocks))), id);
    feed(r, at(0_s), leader_at(i), ended(id, 0));
    return i;
  };
  const std::uint32_t home = visit(0, {1, 2, 3});
  EXPECT_EQ(visit(1, {1, 2, 3}), home);
  // Ids that lead to the same instance when nothing is known push the three blocks out of its index.
  for (std::uint32_t k = 0; k < 4; ++k)
    EXPECT_EQ(visit(2 * (k + 10) + home, {50 + 3 * k, 51 + 3 * k, 52 + 3 * k}), home);
  EXPECT_EQ(visit(101 - home, {1, 2, 3}), 1 - home);
  EXPECT_EQ(r.digest(), r.full_digest());
}

TEST(Router, HoldsWhileNobodyAcceptsAndReleasesInOrderOfArrival) {
  RouterSetup s = setup_of(1);
  s.accepting[0] = false;
  Router r(s);
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_TRUE(sent<SubmitRequest>(feed(r, at(1_s * id), request(id))).empty());
  const auto released = sent<SubmitRequest>(feed(r, at(5_s), kFleetAddress, InstanceUpdate{InstanceId{0}, true}));
  ASSERT_EQ(released.size(), 3U);
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_EQ(released[id].second.request.v, id);
}

TEST(Router, RejectsAtTheQueueBoundAndAtTheQueueTimeOut) {
  RouterSetup s = setup_of(1);
  s.accepting[0] = false;
  s.spec.queue_max = 2;
  s.spec.queue_timeout = 10_s;
  Router r(s);
  EXPECT_EQ(armed(feed(r, at(0_s), request(0)), 1), at(10_s));
  feed(r, at(1_s), request(1));
  auto rejected = all<NoteRequestEnded>(feed(r, at(2_s), request(2)));
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_TRUE(rejected[0].rejected);
  EXPECT_EQ(rejected[0].cause, Cause::no_capacity);
  const Commands c = feed(r, at(10_s), TimerFired{1});
  rejected = all<NoteRequestEnded>(c);
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_EQ(rejected[0].request.v, 0U);
  EXPECT_TRUE(rejected[0].rejected);
  EXPECT_EQ(armed(c, 1), at(11_s));
  // The place of the request that timed out is free again.
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(10_s), request(3))).empty());
}

TEST(Router, TheQueueTimeOutCountsFromWhenTheRequestWasHeld) {
  RouterSetup s = setup_of(1);
  s.spec.queue_timeout = 10_s;
  s.spec.retry.backoff = 0_s;
  Router r(s);
  feed(r, at(0_s), request(0));
  // It was served for longer than the time-out before its instance went away: it has not waited yet.
  feed(r, at(60_s), lost(leader_at(0)));
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(60_s), TimerFired{1})).empty());
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(65_s), TimerFired{1})).empty());
  EXPECT_EQ(placed(feed(r, at(66_s), back(leader_at(0))), 0), 0U);
}

/// Rejected means never served; this one was, and its client may have tokens already.
TEST(Router, ARequestThatWasServedAndThenWaitsTooLongHasFailedAndIsNotRejected) {
  RouterSetup s = setup_of(1);
  s.spec.queue_timeout = 10_s;
  s.spec.retry.backoff = 0_s;
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(60_s), lost(leader_at(0)));
  feed(r, at(60_s), TimerFired{1});  // held from here on
  feed(r, at(61_s), request(1));     // never served
  const auto first = all<NoteRequestEnded>(feed(r, at(70_s), TimerFired{1}));
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].request.v, 0U);
  EXPECT_FALSE(first[0].rejected);
  EXPECT_EQ(first[0].cause, Cause::no_capacity);
  const auto second = all<NoteRequestEnded>(feed(r, at(71_s), TimerFired{1}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_TRUE(second[0].rejected);
}

TEST(Router, ARetryThatFindsTheQueueFullHasFailedAndIsNotRejected) {
  RouterSetup s = setup_of(1);
  s.spec.queue_max = 0;
  s.spec.retry.backoff = 0_s;
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(1_s), lost(leader_at(0)));
  const auto failed = all<NoteRequestEnded>(feed(r, at(1_s), TimerFired{1}));
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_FALSE(failed[0].rejected);
  const auto rejected = all<NoteRequestEnded>(feed(r, at(2_s), request(1)));
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_TRUE(rejected[0].rejected);
}

/// A refused attempt served nothing; one that was lost before it may have.
TEST(Router, ARetryThatFitsNowhereHasFailedAndIsNotRejected) {
  RouterSetup s = setup_of(2);
  s.spec.retry = {.attempts_max = 3, .backoff = 0_s, .backoff_max = 0_s, .budget = 1, .migrate = true};
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(1_s), leader_at(0), ended(0, 0, Cause::device_lost, 3));
  ASSERT_EQ(placed(feed(r, at(1_s), TimerFired{1}), 0), 1U);
  const auto failed = all<NoteRequestEnded>(feed(r, at(1_s), leader_at(1), ended(0, 1, Cause::too_large, 0)));
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_FALSE(failed[0].rejected);
}

TEST(Router, ALostAttemptIsTriedAgainAfterABackOffThatDoubles) {
  RouterSetup s = setup_of(2);
  s.spec.retry = {.attempts_max = 4, .backoff = 100_ms, .backoff_max = 300_ms, .budget = 1};
  Router r(s);
  feed(r, at(0_s), request(0));
  Instant now = at(0_s);
  std::uint32_t instance = 0;
  const Duration bounds[] = {100_ms, 200_ms, 300_ms};
  for (std::uint32_t attempt = 0; attempt < 3; ++attempt) {
    const Commands c = feed(r, now, leader_at(instance), ended(0, attempt, Cause::device_lost, 3));
    EXPECT_TRUE(sent<SubmitRequest>(c).empty());
    const Duration wait = armed(c, 1) - now;
    EXPECT_GE(wait, bounds[attempt] / 2);
    EXPECT_LE(wait, bounds[attempt]);
    now = now + wait;
    const Commands again = feed(r, now, TimerFired{1});
    const auto submitted = sent<SubmitRequest>(again);
    ASSERT_EQ(submitted.size(), 1U);
    EXPECT_EQ(submitted[0].second.attempt, attempt + 1);
    instance = submitted[0].first.index;
  }
  const auto failed = all<NoteRequestEnded>(feed(r, now, leader_at(instance), ended(0, 3, Cause::device_lost, 3)));
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].cause, Cause::retries_exhausted);
  EXPECT_FALSE(failed[0].rejected);
}

TEST(Router, AnUnboundedBudgetNeverEndsARequestThatHasAttemptsLeft) {
  RouterSetup s = setup_of(1);
  s.spec.retry = {.attempts_max = 5, .backoff = 0_s, .backoff_max = 0_s, .budget = 1};
  Router r(s);
  // Every request in flight is a retry at the same time, again and again.
  for (std::uint32_t id = 0; id < 4; ++id) feed(r, at(0_s), request(id));
  for (std::uint32_t attempt = 0; attempt < 4; ++attempt) {
    for (std::uint32_t id = 0; id < 4; ++id) {
      EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(id, attempt, Cause::device_lost))).empty())
          << "request " << id << " attempt " << attempt;
    }
    EXPECT_EQ(sent<SubmitRequest>(feed(r, at(1_s), TimerFired{1})).size(), 4U);
  }
}

TEST(Router, TheRetryBudgetBoundsTheShareOfRetriesInFlight) {
  RouterSetup s = setup_of(1);
  s.spec.retry.budget = 0.2;
  Router r(s);
  for (std::uint32_t id = 0; id < 10; ++id) feed(r, at(0_s), request(id));
  int failed = 0;
  for (std::uint32_t id = 0; id < 10; ++id) {
    failed += static_cast<int>(
        all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(id, 0, Cause::device_lost))).size());
  }
  EXPECT_EQ(failed, 8);  // two of ten may be retries; the share of two among fewer left is above it
  EXPECT_EQ(r.in_flight(), 2U);
}

TEST(Router, ABudgetOfZeroMeansNoRetry) {
  RouterSetup s = setup_of(1);
  s.spec.retry.budget = 0;
  Router r(s);
  feed(r, at(0_s), request(0));
  const auto failed = all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(0, 0, Cause::device_lost)));
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].cause, Cause::retries_exhausted);
}

TEST(Router, AGatewayThatDoesNotReplayFailsTheRequestWithItsCause) {
  RouterSetup s = setup_of(1);
  s.replays = false;
  Router r(s);
  feed(r, at(0_s), request(0));
  const auto failed = all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(0, 0, Cause::device_lost)));
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].cause, Cause::device_lost);
  EXPECT_FALSE(failed[0].rejected);
}

TEST(Router, ARequestThatCanNeverFitIsRejectedAtOnce) {
  Router r(setup_of(2));
  feed(r, at(0_s), request(0));
  const auto rejected = all<NoteRequestEnded>(feed(r, at(0_s), leader_at(0), ended(0, 0, Cause::too_large, 0)));
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_TRUE(rejected[0].rejected);
  EXPECT_EQ(rejected[0].cause, Cause::too_large);
}

TEST(Router, ARefusalCoolsTheInstanceDownAndDoesNotCountAsAnAttempt) {
  RouterSetup s = setup_of(2);
  s.spec.cooldown = 1_s;
  s.spec.retry.attempts_max = 1;
  Router r(s);
  ASSERT_EQ(placed(feed(r, at(0_s), request(0)), 0), 0U);
  Commands c = feed(r, at(0_s), leader_at(0), ended(0, 0, Cause::overload, 0, false));
  auto again = sent<SubmitRequest>(c);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].first, leader_at(1));
  EXPECT_EQ(again[0].second.attempt, 0U);
  // Instance 0 gets nothing during its cool-down, however light, and is used again after it.
  EXPECT_EQ(placed(feed(r, at(500_ms), request(2)), 2), 1U);
  EXPECT_EQ(placed(feed(r, at(1_s), request(4)), 4), 0U);
}

TEST(Router, RequestsHeldForACoolDownGoOutWhenItEnds) {
  RouterSetup s = setup_of(1);
  s.spec.cooldown = 1_s;
  Router r(s);
  feed(r, at(0_s), request(0));
  const Commands c = feed(r, at(100_ms), leader_at(0), ended(0, 0, Cause::overload, 0, false));
  EXPECT_TRUE(sent<SubmitRequest>(c).empty());
  EXPECT_EQ(armed(c, 1), at(1100_ms));
  EXPECT_EQ(placed(feed(r, at(1100_ms), TimerFired{1}), 0), 0U);
}

TEST(Router, ACoolDownThatIsExtendedMeanwhileStillReleasesWhatIsHeld) {
  RouterSetup s = setup_of(1);
  s.spec.cooldown = 1_s;
  s.spec.retry.attempts_max = 1;
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(0_s), request(1));
  feed(r, at(0_s), leader_at(0), ended(0, 0, Cause::overload, 0, false));  // held until 1 s
  // Request 1 ends for good and extends the cool-down: no event of its own will come.
  feed(r, at(500_ms), leader_at(0), ended(1, 0, Cause::device_lost, 0, false));
  const Commands c = feed(r, at(1_s), TimerFired{1});
  EXPECT_TRUE(sent<SubmitRequest>(c).empty());
  ASSERT_EQ(armed(c, 1), at(1500_ms));
  EXPECT_EQ(placed(feed(r, at(1500_ms), TimerFired{1}), 0), 0U);
}

TEST(Router, ABackOffIsNotCutShortByAnOlderWakeUp) {
  RouterSetup s = setup_of(1);
  s.spec.cooldown = 1_s;
  s.spec.retry = {.attempts_max = 3, .backoff = 10_s, .backoff_max = 10_s, .budget = 1};
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(0_s), leader_at(0), ended(0, 0, Cause::overload, 0, false));  // held, to wake at 1 s
  ASSERT_EQ(placed(feed(r, at(100_ms), kFleetAddress, InstanceUpdate{InstanceId{0}, true}), 0), 0U);
  feed(r, at(200_ms), leader_at(0), ended(0, 0, Cause::device_lost, 1, true));  // backs off for at least 5 s
  EXPECT_TRUE(sent<SubmitRequest>(feed(r, at(1_s), TimerFired{1})).empty());
}

TEST(Router, ALostInstanceGivesItsRequestsBackInOrderAndGetsNoneUntilItIsBack) {
  RouterSetup s = setup_of(2);
  s.spec.retry.backoff = 0_s;
  Router r(s);
  for (std::uint32_t id = 0; id < 6; ++id) feed(r, at(0_s), request(id));
  const Commands c = feed(r, at(1_s), lost(leader_at(0)));
  const auto phases = all<NotePhase>(c);
  ASSERT_EQ(phases.size(), 1U);
  EXPECT_EQ(phases[0].phase, Phase::reroute);
  const auto again = sent<SubmitRequest>(feed(r, at(1_s), TimerFired{1}));
  ASSERT_EQ(again.size(), 3U);
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(again[k].first, leader_at(1));
    EXPECT_EQ(again[k].second.request.v, 2 * k);
  }
  EXPECT_EQ(placed(feed(r, at(2_s), request(10)), 10), 1U);
  feed(r, at(3_s), back(leader_at(0)));
  EXPECT_EQ(placed(feed(r, at(3_s), request(12)), 12), 0U);
}

TEST(Router, AnAnswerOfAnOlderAttemptOrOfAnotherInstanceIsIgnored) {
  RouterSetup s = setup_of(2);
  s.spec.retry.backoff = 0_s;
  Router r(s);
  feed(r, at(0_s), request(0));
  feed(r, at(1_s), lost(leader_at(0)));
  ASSERT_EQ(placed(feed(r, at(1_s), TimerFired{1}), 0), 1U);
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(2_s), leader_at(0), ended(0, 0))).empty());
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(2_s), leader_at(1), ended(0, 0))).empty());
  EXPECT_TRUE(all<NoteRequestEnded>(feed(r, at(2_s), leader_at(0), ended(0, 1))).empty());
  EXPECT_EQ(all<NoteRequestEnded>(feed(r, at(2_s), leader_at(1), ended(0, 1))).size(), 1U);
  EXPECT_TRUE(feed(r, at(3_s), leader_at(1), ended(0, 1)).empty());  // told twice
}

TEST(Router, ADrainingInstanceGetsNoNewRequestAndKeepsItsOwn) {
  Router r(setup_of(2));
  ASSERT_EQ(placed(feed(r, at(0_s), request(0)), 0), 0U);
  feed(r, at(0_s), kFleetAddress, InstanceUpdate{InstanceId{0}, false});
  for (std::uint32_t id = 2; id < 6; ++id) EXPECT_EQ(placed(feed(r, at(0_s), request(id)), id), 1U);
  EXPECT_EQ(all<NoteRequestEnded>(feed(r, at(1_s), leader_at(0), ended(0, 0))).size(), 1U);
}

}  // namespace
}  // namespace faultline::control
