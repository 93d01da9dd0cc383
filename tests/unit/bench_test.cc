#include <gtest/gtest.h>

#include <numeric>

#include "app/bench/count_watch.h"
#include "app/bench/percentiles.h"
#include "app/bench/report.h"
#include "app/bench/task_text.h"
#include "tests/support/failures.h"

namespace millrace {
namespace {

using namespace std::chrono_literals;

TEST(Percentiles, AreSamplesThatWereSeen) {
    std::vector<double> samples(1000);
    std::iota(samples.rbegin(), samples.rend(), 1);

    const Percentiles all = percentiles(samples);

    EXPECT_EQ(all.p50, 500);
    EXPECT_EQ(all.p99, 990);
    EXPECT_EQ(all.p999, 999);
    EXPECT_EQ(all.max, 1000);
}

TEST(Percentiles, OfFewSamplesAreTheLargest) {
    const Percentiles all = percentiles({3, 1, 2});

    EXPECT_EQ(all.p50, 2);
    EXPECT_EQ(all.p99, 3);
    EXPECT_EQ(all.p999, 3);
}

TEST(Percentiles, SpreadIsInPerCentOfTheMedian) {
    EXPECT_EQ(median({1, 4, 2, 3}), 2.5);
    EXPECT_EQ(spread_percent({90, 100, 120}), 30);
}

TEST(BenchTask, HasThreeHundredBytesAndTellsItsNumber) {
    for (const int64_t n : {int64_t{0}, int64_t{7}, int64_t{123'456'789}}) {
        const std::string payload = bench_payload(n, 100'000);

        EXPECT_EQ(payload.size(), kBenchPayloadBytes) << payload;
        EXPECT_EQ(bench_number(payload), n);
        EXPECT_NE(payload.find(bench_key(n, 100'000)), std::string::npos);
    }
    EXPECT_EQ(bench_number("{}"), -1);
}

TEST(CountWatch, MeasuresFromTheFirstMoveToTheLast) {
    CountWatch watch(60s, [] { return "nothing came"; });
    const auto begin = CountWatch::Clock::now();

    EXPECT_FALSE(watch.note(0, begin + 1s));
    EXPECT_TRUE(watch.note(5, begin + 2s));
    EXPECT_TRUE(watch.note(8, begin + 4s));
    // A process that does not answer counts nothing.
    EXPECT_FALSE(watch.note(0, begin + 5s));
    EXPECT_TRUE(watch.note(9, begin + 6s));
    EXPECT_FALSE(watch.note(9, begin + 7s));

    EXPECT_EQ(watch.count(), 9);
    EXPECT_EQ(watch.moved_at(), begin + 6s);
    EXPECT_EQ(watch.seconds(), 4);
}

TEST(CountWatch, MakesNoFigureOfWhatCameBetweenTwoLooks) {
    CountWatch watch(60s, [] { return "nothing came"; });
    EXPECT_EQ(test::failure_of([&] { watch.seconds(); }).reason(), "bench_unsound");

    watch.note(1000);

    EXPECT_EQ(test::failure_of([&] { watch.seconds(); }).reason(), "bench_unsound");
}

TEST(CountWatch, LosesItsPatienceWhenNothingMoves) {
    CountWatch watch(60s, [] { return "nothing came"; });
    const auto begin = CountWatch::Clock::now();
    watch.note(1, begin + 50s);

    EXPECT_FALSE(watch.note(1, begin + 110s));
    const Failure failure = test::failure_of([&] { watch.note(1, begin + 111s); });

    EXPECT_EQ(failure.reason(), "bench_unsound");
    EXPECT_EQ(failure.detail(), "nothing came");
}

TEST(BenchReport, RowsOfTheSameFiguresStandBelowOneHead) {
    EXPECT_EQ(markdown_of({{"a", {{"x", 1234567}}}, {"b", {{"x", 1.5}}}, {"c", {{"y", nullptr}}}}),
              "| measure | x |\n|---|---|\n| a | 1,234,567 |\n| b | 1.5 |\n"
              "\n| measure | y |\n|---|---|\n| c | - |\n");
}

}  // namespace
}  // namespace millrace
