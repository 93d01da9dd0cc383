#include "tests/support/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace millrace::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Two keys of two tasks each, and one task without a key.
Truth some_truth() {
    return {.run = "run",
            .tasks = {{"a1", "a", 1},
                      {"a2", "a", 2},
                      {"b1", "b", 1},
                      {"b2", "b", 2},
                      {"n", "", 0}}};
}

std::vector<SeenTask> seen(const std::vector<std::string>& ids) {
    std::vector<SeenTask> tasks;
    for (const std::string& id : ids) tasks.push_back({.run = "run", .id = id});
    return tasks;
}

struct Counts {
    int64_t lost, doubled, reordered, phantom;
    bool operator==(const Counts&) const = default;
};

Counts counts(const Verdict& verdict) {
    return {verdict.lost_count, verdict.doubled_count, verdict.reordered_count,
            verdict.phantom_count};
}

TEST(Checker, FindsNothingWhereKeysMixButKeepTheirOrder) {
    const Verdict verdict = check(some_truth(), seen({"b1", "n", "a1", "b2", "a2"}));

    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(verdict.task_count, 5);
}

TEST(Checker, FindsAPlantedLoss) {
    const Verdict verdict = check(some_truth(), seen({"a1", "a2", "b1", "n"}));

    EXPECT_EQ(counts(verdict), (Counts{1, 0, 0, 0}));
    EXPECT_THAT(verdict.examples, ElementsAre("lost: b2 (key b, sequence 2)"));
}

TEST(Checker, FindsAPlantedDouble) {
    const Verdict verdict = check(some_truth(), seen({"a1", "a2", "b1", "n", "b2", "a2"}));

    EXPECT_EQ(counts(verdict), (Counts{0, 1, 0, 0}));
    EXPECT_THAT(verdict.examples, ElementsAre("doubled: a2 (key a, sequence 2)"));
}

TEST(Checker, FindsAPlantedSwap) {
    const Verdict verdict = check(some_truth(), seen({"a2", "b1", "a1", "n", "b2"}));

    EXPECT_EQ(counts(verdict), (Counts{0, 0, 1, 0}));
    EXPECT_THAT(verdict.examples,
                ElementsAre("reordered: a1 (key a, sequence 1) after a2 (key a, sequence 2)"));
}

TEST(Checker, FindsAPlantedPhantom) {
    const Verdict verdict = check(some_truth(), seen({"a1", "a2", "x", "b1", "n", "b2"}));

    EXPECT_EQ(counts(verdict), (Counts{0, 0, 0, 1}));
    EXPECT_THAT(verdict.examples, ElementsAre("phantom: x"));
}

TEST(Checker, CountsEachFaultOfSeveralByItself) {
    const Verdict verdict = check(some_truth(), seen({"a2", "a1", "x", "x", "b1", "b1"}));

    EXPECT_EQ(counts(verdict), (Counts{2, 1, 1, 2}));
    EXPECT_THAT(verdict.text(), HasSubstr("5 tasks: 2 lost, 1 doubled, 1 reordered, 2 phantom"));
}

// A second sighting is a double, whatever was seen in between.
TEST(Checker, DoesNotTakeADoubleForAReorder) {
    const Verdict verdict = check(some_truth(), seen({"a1", "a2", "a1", "b1", "b2", "n"}));

    EXPECT_EQ(counts(verdict), (Counts{0, 1, 0, 0}));
}

TEST(Checker, CountsEveryTaskThatCameTooLate) {
    const Truth truth{.run = "run", .tasks = {{"1", "k", 1}, {"2", "k", 2}, {"3", "k", 3}}};

    EXPECT_EQ(check(truth, seen({"3", "1", "2"})).reordered_count, 2);
}

TEST(Checker, AsksForNoOrderWithoutAKey) {
    const Truth truth{.run = "run", .tasks = {{"1", "", 1}, {"2", "", 2}}};

    EXPECT_TRUE(check(truth, seen({"2", "1"})).is_clean());
}

TEST(Checker, ShowsAFewExamplesOfEachFault) {
    Truth truth{.run = "run", .tasks = {}};
    for (int i = 0; i < 100; ++i) truth.tasks.push_back({std::to_string(i), "", 0});

    const Verdict verdict = check(truth, seen({"x"}));

    EXPECT_EQ(verdict.lost_count, 100);
    EXPECT_LT(verdict.examples.size(), 10U);
    EXPECT_THAT(verdict.examples, testing::Contains("phantom: x"));
}

TEST(Checker, RefusesATruthOfAnotherRun) {
    Truth truth = some_truth();
    truth.run = "yesterday";

    EXPECT_THROW(check(truth, seen({"a1"})), std::invalid_argument);
}

TEST(Checker, RefusesASingleRecordOfAnotherRun) {
    std::vector<SeenTask> records = seen({"a1", "a2", "b1", "b2", "n"});
    records.push_back({.run = "yesterday", .id = "n"});

    EXPECT_THROW(check(some_truth(), records), std::invalid_argument);
}

TEST(Checker, RefusesDataThatNameNoRun) {
    EXPECT_THROW(check({.run = "", .tasks = {}}, {}), std::invalid_argument);
}

TEST(Checker, RefusesATruthThatHoldsATaskTwice) {
    Truth truth = some_truth();
    truth.tasks.push_back({"a1", "a", 3});

    EXPECT_THROW(check(truth, seen({"a1"})), std::invalid_argument);
}

TEST(Checker, RefusesATruthWithTwoTasksAtOnePlaceOfAKey) {
    Truth truth = some_truth();
    truth.tasks.push_back({"a3", "a", 2});

    EXPECT_THROW(check(truth, seen({"a1"})), std::invalid_argument);
}

}  // namespace
}  // namespace millrace::test
