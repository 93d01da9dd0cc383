#include "core/pg/session.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "core/failure.h"
#include "relay/outbox.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/failures.h"
#include "tests/support/forwarder.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using pg::Params;
using pg::Pipeline;
using pg::PipelineOutcome;
using pg::Session;
using pg::SessionOptions;
using pg::Transaction;

class SessionTest : public testing::Test {
  protected:
    SessionOptions options() const {
        return {.url = database_.url(),
                .password = "",
                .application_name = "millrace test",
                .settings = pg::common_settings()};
    }

    void end(const Session& session) {
        control_.execute("SELECT pg_terminate_backend($1)",
                         Params().int4(session.backend_pid()));
        ASSERT_TRUE(eventually(10s, [&] {
            return control_
                       .execute("SELECT FROM pg_stat_activity WHERE pid = $1",
                                Params().int4(session.backend_pid()))
                       .row_count() == 0;
        }));
    }

    Database database_ = Database::bare();
    Session control_ = database_.connect();
    Session session_{options()};
};

// PROTOCOL 3.6: a failed transaction answers COMMIT with ROLLBACK and no error.
TEST_F(SessionTest, CommitOfAFailedTransactionIsUnknown) {
    session_.execute("BEGIN");
    failure_of([&] { session_.execute("SELECT 1 / 0"); });

    const Failure failure = failure_of([&] { session_.commit(); });

    EXPECT_EQ(failure.kind(), FailureKind::kUnknown);
    EXPECT_EQ(failure.reason(), "pg_commit_in_doubt");
}

// PROTOCOL 3.6.
TEST_F(SessionTest, CommitOverABrokenConnectionIsUnknown) {
    session_.execute("BEGIN");
    end(session_);

    const Failure failure = failure_of([&] { session_.commit(); });

    EXPECT_EQ(failure.kind(), FailureKind::kUnknown);
    EXPECT_EQ(failure.reason(), "pg_commit_in_doubt");
}

TEST_F(SessionTest, StatementOverABrokenConnectionIsTransient) {
    end(session_);

    const Failure failure = failure_of([&] { session_.execute("SELECT 1"); });

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.reason(), "pg_connection_lost");
}

TEST_F(SessionTest, StatementWithoutAnAnswerInTimeIsUnknown) {
    SessionOptions impatient = options();
    impatient.call_timeout = 200ms;
    Session session(impatient);

    const Failure failure = failure_of([&] { session.execute("SELECT pg_sleep(5)"); });

    EXPECT_EQ(failure.kind(), FailureKind::kUnknown);
    EXPECT_EQ(failure.reason(), "pg_timeout");
    EXPECT_TRUE(session.is_broken());
    EXPECT_EQ(failure_of([&] { session.rollback(); }).reason(), "pg_connection_lost");
}

TEST_F(SessionTest, UnknownDatabaseIsRefusedForGood) {
    SessionOptions wrong = options();
    wrong.url += " dbname=millrace_no_such_database";

    const Failure failure = failure_of([&] { Session session(wrong); });

    EXPECT_EQ(failure.kind(), FailureKind::kFatal);
    EXPECT_EQ(failure.reason(), "pg_refused");
    EXPECT_EQ(failure.exit_code(), kExitConfiguration);
}

TEST_F(SessionTest, ServerThatIsNotThereIsWaitedFor) {
    SessionOptions nowhere = options();
    nowhere.url += " port=1";

    const Failure failure = failure_of([&] { Session session(nowhere); });

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.reason(), "pg_unreachable");
}

// PROTOCOL 2.5: whatever the database's default.
TEST_F(SessionTest, CommitsSynchronouslyWhateverTheDatabaseSays) {
    control_.execute("ALTER DATABASE " + database_.name() + " SET synchronous_commit = off");

    Session session(options());
    SessionOptions relay = options();
    relay.settings = Outbox::session_settings();
    Session publisher(relay);

    EXPECT_EQ(session.execute("SHOW synchronous_commit").text(0, 0), "on");
    EXPECT_EQ(publisher.execute("SHOW synchronous_commit").text(0, 0), "on");
}

TEST_F(SessionTest, TransactionThatIsNotCommittedIsRolledBack) {
    control_.execute("CREATE TABLE t (a int)");
    {
        Transaction transaction(session_);
        transaction.execute("INSERT INTO t VALUES (1)");
    }

    EXPECT_TRUE(session_.is_idle());
    EXPECT_EQ(control_.execute("SELECT count(*) FROM t").integer(0, 0), 0);
}

TEST_F(SessionTest, TransactionAfterARollbackThatFoundTheServerGoneIsATransientFailure) {
    {
        const Transaction lost(session_);
        end(session_);
    }

    const Failure failure = failure_of([&] { const Transaction next(session_); });

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.reason(), "pg_connection_lost");
}

// The connection is well and still in the transaction: nobody may go on in it.
TEST_F(SessionTest, TransactionAfterARollbackThatWasRefusedIsATransientFailure) {
    Forwarder postgres(database_.server_address());
    postgres.open();
    SessionOptions through = options();
    through.url = database_.url_by(postgres.port());
    Session session(through);
    {
        const Transaction refused(session);
        postgres.misspell_next_rollback();
    }

    const Failure failure = failure_of([&] { const Transaction next(session); });

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.reason(), "pg_connection_lost");
}

TEST_F(SessionTest, ValuesComeBackAsTheyWereGiven) {
    const Uuid uuid = Uuid::random();
    pg::ArrayBuilder texts(pg::Type::kText);
    texts.add_bytes("a");
    texts.add_null();
    texts.add_bytes("");

    const pg::Result row = session_.execute(
        "SELECT $1::int2, $2::int4, $3::int8, $4::bool, $5::text, $6::bytea, $7::uuid, $8::text, "
        "array_to_string($9::text[], ',', 'null')",
        Params()
            .int2(-7)
            .int4(-70000)
            .int8(-7'000'000'000)
            .boolean(true)
            .text("ä\n")
            .bytea(std::string_view("\0\xFF", 2))
            .uuid(uuid)
            .null(pg::Type::kText)
            .array(texts));

    EXPECT_EQ(row.integer(0, 0), -7);
    EXPECT_EQ(row.integer(0, 1), -70000);
    EXPECT_EQ(row.integer(0, 2), -7'000'000'000);
    EXPECT_TRUE(row.boolean(0, 3));
    EXPECT_EQ(row.text(0, 4), "ä\n");
    EXPECT_EQ(row.bytes(0, 5), std::string_view("\0\xFF", 2));
    EXPECT_EQ(row.uuid(0, 6), uuid);
    EXPECT_TRUE(row.is_null(0, 7));
    EXPECT_EQ(row.text(0, 8), "a,null,");
}

TEST_F(SessionTest, PipelineRunsNothingBehindItsFirstError) {
    control_.execute("CREATE TABLE t (a int)");
    Pipeline pipeline(session_);
    pipeline.queue("BEGIN");
    pipeline.queue("SELECT 1 / 0");
    pipeline.queue("INSERT INTO t VALUES (1)");
    pipeline.queue("COMMIT");

    const PipelineOutcome outcome = pipeline.finish();

    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->sqlstate, "22012");
    EXPECT_EQ(outcome.failed_index, 1U);
    session_.rollback();
    EXPECT_EQ(control_.execute("SELECT count(*) FROM t").integer(0, 0), 0);
}

TEST_F(SessionTest, PipelineThatIsLeftBreaksItsSession) {
    {
        Pipeline pipeline(session_);
        pipeline.queue("SELECT 1");
    }

    EXPECT_TRUE(session_.is_broken());
}

// Both sides would wait for each other with full buffers.
TEST_F(SessionTest, LargeStatementsAndLargeAnswersPassEachOther) {
    const std::string large(4 << 20, 'x');
    Pipeline pipeline(session_);
    for (int i = 0; i < 8; ++i) pipeline.queue("SELECT $1::text", Params().text(large));

    const PipelineOutcome outcome = pipeline.finish();

    ASSERT_FALSE(outcome.error);
    ASSERT_EQ(outcome.results.size(), 8U);
    EXPECT_EQ(outcome.results[7].bytes(0, 0).size(), large.size());
}

}  // namespace
}  // namespace millrace::test
