#include "relay/ledger_topic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "relay/ledger_reader.h"
#include "schema/ledger_record.h"
#include "tests/support/broker.h"
#include "tests/support/failures.h"

namespace millrace::test {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

Installation some_installation(const std::string& prefix) {
    return {.id = Uuid::random(),
            .name = "test",
            .prefix = prefix,
            .kafka_cluster_id = std::nullopt,
            .system_identifier = 1,
            .database_oid = 2,
            .lane_count = 12};
}

class LedgerTopic : public testing::Test {
  protected:
    void ensure(const Installation& installation) {
        ensure_ledger_topic(kafka_options(), installation, /*replication=*/1, reaper_);
    }
    void check(const Installation& installation) {
        check_ledger_topic(kafka_options(), installation, reaper_);
    }
    std::string topic_id() {
        LedgerReader fresh(kafka_options(), mine_.ledger_topic(), mine_.id, reaper_);
        return ledger_topic_id(fresh.raw(), mine_);
    }

    // Both what makes it and what only looks at it must refuse.
    void expect_refused(const std::string& reason, const std::string& words) {
        for (const Failure& failure :
             {failure_of([&] { ensure(mine_); }), failure_of([&] { check(mine_); })}) {
            EXPECT_EQ(failure.kind(), FailureKind::kFatal);
            EXPECT_EQ(failure.exit_code(), kExitConfiguration);
            EXPECT_THAT(failure.what(), testing::AllOf(HasSubstr(reason), HasSubstr(words)));
        }
    }

    size_t claim_count() {
        const std::vector<SeenRecord> records = read_topic(mine_.ledger_topic());
        return static_cast<size_t>(
            std::count_if(records.begin(), records.end(), [](const SeenRecord& record) {
                return record.partition == 0 && record.key == kClaimKey;
            }));
    }

    kafka::Reaper reaper_;
    const std::string prefix_ = fresh_name("millrace.test");
    const Installation mine_ = some_installation(prefix_);
};

// PROTOCOL 1, 4.1.
TEST_F(LedgerTopic, IsMadeOnceWithOneClaim) {
    ensure(mine_);
    const std::string id = topic_id();
    ensure(mine_);

    EXPECT_EQ(topic_id(), id);
    EXPECT_EQ(claim_count(), 1U);
}

// PROTOCOL 1: who holds a prefix is what its claim says.
TEST_F(LedgerTopic, ClaimNamesTheInstallation) {
    ensure(mine_);

    const std::vector<SeenRecord> records = read_topic(mine_.ledger_topic());

    ASSERT_EQ(records.size(), 1U);
    const ClaimRecord claim = decode_claim_record(records[0].value.value());
    EXPECT_EQ(claim.installation, mine_.id);
    EXPECT_EQ(claim.system_identifier, mine_.system_identifier);
    EXPECT_EQ(claim.database_oid, mine_.database_oid);
}

TEST_F(LedgerTopic, ThatIsMissingIsRefusedAtStart) {
    const Failure failure = failure_of([&] { check(mine_); });

    EXPECT_EQ(failure.reason(), "ledger_topic");
    EXPECT_THAT(failure.detail(), HasSubstr("migrate up"));
}

// PROTOCOL 4.1.
TEST_F(LedgerTopic, WithTooFewPartitionsIsRefused) {
    create_topic(mine_.ledger_topic(), 31, {{"cleanup.policy", "compact"}});

    expect_refused("ledger_topic", "31 partitions");
}

// PROTOCOL 4.1: an idle publisher's record would vanish, and it would halt.
TEST_F(LedgerTopic, ThatDeletesIsRefused) {
    create_topic(mine_.ledger_topic(), 32, {{"cleanup.policy", "delete"}});

    expect_refused("ledger_topic", "cleanup.policy=delete");
}

// PROTOCOL 4.1.
TEST_F(LedgerTopic, ThatCompactsAndDeletesIsRefused) {
    create_topic(mine_.ledger_topic(), 32, {{"cleanup.policy", "compact,delete"}});

    expect_refused("ledger_topic", "must be exactly compact");
}

// PROTOCOL 1.
TEST_F(LedgerTopic, OfAnotherInstallationIsRefused) {
    ensure(some_installation(prefix_));

    expect_refused("prefix_taken", "belongs to installation");
}

// PROTOCOL 1.
TEST_F(LedgerTopic, OfTwoInstallationsAtOnceBelongsToOne) {
    const Installation other = some_installation(prefix_);
    std::string mine_end;
    std::string other_end;
    const auto race = [&](const Installation& installation, std::string& end) {
        end = failure_of([&] { ensure(installation); }).reason();
    };

    {
        const std::jthread first([&] { race(mine_, mine_end); });
        const std::jthread second([&] { race(other, other_end); });
    }

    EXPECT_THAT((std::vector<std::string>{mine_end, other_end}),
                UnorderedElementsAre("nothing_thrown", "prefix_taken"));
    EXPECT_EQ(claim_count(), 1U);
}

// PROTOCOL 1.
TEST_F(LedgerTopic, OfTwoMigratorsAtOnceHasOneClaim) {
    {
        const std::jthread first([&] { ensure(mine_); });
        const std::jthread second([&] { ensure(mine_); });
    }

    EXPECT_EQ(claim_count(), 1U);
}

// PROTOCOL 4.3: by its id a settle knows that the topic was made again.
TEST_F(LedgerTopic, ThatWasMadeAgainHasAnotherId) {
    ensure(mine_);
    const std::string before = topic_id();
    delete_topic(mine_.ledger_topic());

    ensure(mine_);

    EXPECT_NE(topic_id(), before);
}

}  // namespace
}  // namespace millrace::test
