#include "consumers/failure_policy.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

constexpr int kRetries = 5;

NextStep step_of(FailureClass failure_class, int attempt_count, size_t event_count) {
    return next_step({.failure_class = failure_class,
                      .attempt_count = attempt_count,
                      .event_count = event_count,
                      .sets_aside = true},
                     kRetries);
}

struct Classified {
    const char* sqlstate;
    FailureClass expected;
};

class ClassOfSqlstate : public testing::TestWithParam<Classified> {};

TEST_P(ClassOfSqlstate, IsWhatTheTableSays) {
    EXPECT_EQ(reason_of(class_of(GetParam().sqlstate)), reason_of(GetParam().expected))
        << GetParam().sqlstate;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ClassOfSqlstate,
    testing::Values(
        Classified{"", FailureClass::kConnection}, Classified{"MR001", FailureClass::kLost},
        Classified{"MR004", FailureClass::kCapped},
        Classified{"40001", FailureClass::kConflict}, Classified{"40P01", FailureClass::kConflict},
        Classified{"55P03", FailureClass::kConflict}, Classified{"57014", FailureClass::kOverload},
        Classified{"53200", FailureClass::kOverload},
        Classified{"08006", FailureClass::kConnection},
        Classified{"57P01", FailureClass::kConnection},
        Classified{"57P03", FailureClass::kConnection},
        Classified{"53300", FailureClass::kConnection},
        Classified{"25006", FailureClass::kConnection},
        Classified{"25P03", FailureClass::kConnection},
        Classified{"53100", FailureClass::kEnvironment},
        Classified{"28P01", FailureClass::kEnvironment},
        Classified{"42501", FailureClass::kEnvironment},
        Classified{"42P01", FailureClass::kEnvironment},
        Classified{"42703", FailureClass::kEnvironment},
        Classified{"3F000", FailureClass::kEnvironment},
        Classified{"58030", FailureClass::kEnvironment},
        Classified{"XX000", FailureClass::kEnvironment},
        Classified{"26000", FailureClass::kStalePlan},
        Classified{"0A000", FailureClass::kStalePlan}, Classified{"21000", FailureClass::kBug},
        Classified{"42601", FailureClass::kBug}, Classified{"42883", FailureClass::kBug},
        Classified{"22P02", FailureClass::kRecord}, Classified{"23505", FailureClass::kRecord},
        Classified{"54000", FailureClass::kRecord}, Classified{"P0001", FailureClass::kRecord},
        Classified{"P0002", FailureClass::kUnclassified},
        Classified{"53400", FailureClass::kUnclassified},
        Classified{"40003", FailureClass::kUnclassified},
        Classified{"25P01", FailureClass::kUnclassified},
        Classified{"ZZ999", FailureClass::kUnclassified}));

TEST(NextStepOf, ConflictIsRetriedThenShrunkAndAsOneEventForEver) {
    EXPECT_EQ(step_of(FailureClass::kConflict, 1, 100), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kConflict, 4, 100), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kConflict, 5, 100), NextStep::kShrink);
    EXPECT_EQ(step_of(FailureClass::kConflict, 5, 2), NextStep::kShrink);
    EXPECT_EQ(step_of(FailureClass::kConflict, 5, 1), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kConflict, 5000, 1), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kConflict, 5000, 0), NextStep::kRetry);
}

TEST(NextStepOf, OverloadShrinksAtOnceAndOneEventIsSetAsideAfterItsRetries) {
    EXPECT_EQ(step_of(FailureClass::kOverload, 1, 100), NextStep::kShrink);
    EXPECT_EQ(step_of(FailureClass::kOverload, 1, 1), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kOverload, 4, 1), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kOverload, 5, 1), NextStep::kSetAside);
}

TEST(NextStepOf, AnOutageNeverHalts) {
    for (const int attempt_count : {1, 5, 1000000}) {
        for (const size_t event_count : {size_t{0}, size_t{1}, size_t{2000}}) {
            EXPECT_EQ(step_of(FailureClass::kConnection, attempt_count, event_count),
                      NextStep::kReconnect);
            EXPECT_EQ(step_of(FailureClass::kEnvironment, attempt_count, event_count),
                      NextStep::kWait);
        }
    }
}

TEST(NextStepOf, AStalePlanIsPreparedAgainOnce) {
    EXPECT_EQ(step_of(FailureClass::kStalePlan, 1, 10), NextStep::kReconnect);
    EXPECT_EQ(step_of(FailureClass::kStalePlan, 2, 10), NextStep::kHalt);
}

TEST(NextStepOf, WhatCanNeverSucceedHaltsAtOnce) {
    EXPECT_EQ(step_of(FailureClass::kBug, 1, 100), NextStep::kHalt);
    EXPECT_EQ(step_of(FailureClass::kCapped, 1, 100), NextStep::kHalt);
}

TEST(NextStepOf, ARecordIsSoughtAndSetAside) {
    EXPECT_EQ(step_of(FailureClass::kRecord, 1, 100), NextStep::kBisect);
    EXPECT_EQ(step_of(FailureClass::kRecord, 1, 1), NextStep::kSetAside);
}

TEST(NextStepOf, UnderThePolicyHaltARecordHaltsOnceItStandsAlone) {
    const auto step = [](FailureClass failure_class, int attempt_count, size_t event_count) {
        return next_step({.failure_class = failure_class,
                          .attempt_count = attempt_count,
                          .event_count = event_count,
                          .sets_aside = false},
                         kRetries);
    };
    EXPECT_EQ(step(FailureClass::kRecord, 1, 100), NextStep::kShrink);
    EXPECT_EQ(step(FailureClass::kRecord, 1, 1), NextStep::kHalt);
    EXPECT_EQ(step(FailureClass::kOverload, 5, 1), NextStep::kHalt);
}

TEST(ClassOfSqlstate, IsWhatTheLongestOverrideSays) {
    const ClassOverrides overrides{parse_override("23", "bug"),
                                   parse_override("23503", "environment")};

    EXPECT_EQ(class_of("23503", overrides), FailureClass::kEnvironment);
    EXPECT_EQ(class_of("23505", overrides), FailureClass::kBug);
    EXPECT_EQ(class_of("22003", overrides), FailureClass::kRecord);
    EXPECT_EQ(class_of("", overrides), FailureClass::kConnection);
}

TEST(NextStepOf, TheUnclassifiedHaltsAfterItsRetries) {
    EXPECT_EQ(step_of(FailureClass::kUnclassified, 4, 100), NextStep::kRetry);
    EXPECT_EQ(step_of(FailureClass::kUnclassified, 5, 100), NextStep::kHalt);
}

TEST(NextStepOf, ALostPositionIsReadAnew) {
    EXPECT_EQ(step_of(FailureClass::kLost, 1, 100), NextStep::kResync);
}

}  // namespace
}  // namespace millrace
