// Tasks written by the SQL functions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/failures.h"
#include "tests/support/installed.h"

namespace millrace::test {
namespace {

class Publish : public testing::Test {
  protected:
    Installed installed_;
    pg::Session session_ = installed_.database.connect();
};

TEST_F(Publish, WritesATaskAndReturnsItsEvent) {
    const pg::Result id = session_.execute(
        "SELECT millrace.publish('shop.orders', 'o-1', 'OrderPlaced', '{\"n\": 1}', "
        "headers => '{\"a\": \"b\"}', tenant_id => 't', actor_id => 'me')");

    const pg::Result task = session_.execute(
        "SELECT event_id, topic, key, task_type, payload::text, headers::text, tenant_id, actor_id "
        "FROM millrace.pending_tasks");
    ASSERT_EQ(task.row_count(), 1);
    EXPECT_EQ(task.uuid(0, 0), id.uuid(0, 0));
    EXPECT_EQ(task.text(0, 1), "shop.orders");
    EXPECT_EQ(task.text(0, 2), "o-1");
    EXPECT_EQ(task.text(0, 3), "OrderPlaced");
    EXPECT_EQ(task.text(0, 4), "{\"n\": 1}");
    EXPECT_EQ(task.text(0, 5), "{\"a\": \"b\"}");
    EXPECT_EQ(task.text(0, 6), "t");
    EXPECT_EQ(task.text(0, 7), "me");
}

TEST_F(Publish, TakesBytesAndAnEventOfTheCallers) {
    session_.execute("SELECT millrace.publish('t', NULL, 'x', NULL, payload_bytes => '\\x00ff', "
                     "event_id => '11111111-2222-4333-8444-555555555555')");

    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.pending_tasks "
                                "WHERE payload_bytes = '\\x00ff' AND key IS NULL AND "
                                "event_id = '11111111-2222-4333-8444-555555555555'"),
              1);
}

TEST_F(Publish, ManyKeepTheirOrderAndMayLeaveArraysOut) {
    const pg::Result ids = session_.execute(
        "SELECT millrace.publish_many(array_fill('t'::text, ARRAY[1000]), "
        "array_agg('k' || i ORDER BY i), array_fill('x'::text, ARRAY[1000]), "
        "array_agg(to_json(i) ORDER BY i)) FROM generate_series(1, 1000) AS i");

    ASSERT_EQ(ids.row_count(), 1000);
    const pg::Result tasks =
        session_.execute("SELECT event_id, payload::text FROM millrace.pending_tasks ORDER BY id");
    for (int i = 0; i < 1000; ++i) {
        EXPECT_EQ(tasks.uuid(i, 0), ids.uuid(i, 0));
        EXPECT_EQ(tasks.text(i, 1), std::to_string(i + 1));
    }
}

// PROTOCOL 7.6: what is published must not be undone by a crash of PostgreSQL.
// What lacks a payload would be a tombstone.
TEST_F(Publish, RefusesArraysOfDifferentLengths) {
    EXPECT_THAT(failure_of([this] {
                    session_.execute("SELECT millrace.publish_many("
                                     "ARRAY['t', 't'], ARRAY['a', 'b'], ARRAY['E', 'E'], "
                                     "ARRAY['{}']::json[])");
                }).detail(),
                testing::HasSubstr("2 topics, but 1 payloads"));
    EXPECT_EQ(sqlstate_of([&] {
                  session_.execute("SELECT millrace.publish_many(ARRAY['t'], ARRAY['a', 'b'], "
                                   "ARRAY['x'], NULL)");
              }),
              "22023");
    EXPECT_EQ(installed_.pending_count(), 0);
}

TEST_F(Publish, CommitsSynchronouslyWhateverTheSessionSays) {
    session_.execute("SET synchronous_commit = off");
    for (const char* call : {"SELECT millrace.publish('t', 'k', 'x', NULL)",
                             "SELECT millrace.publish_many(ARRAY['t'], ARRAY['k'], ARRAY['x'], "
                             "NULL)"}) {
        pg::Transaction transaction(session_);
        transaction.execute(call);
        EXPECT_EQ(transaction.execute("SHOW synchronous_commit").text(0, 0), "on");
        transaction.commit();
        EXPECT_EQ(session_.execute("SHOW synchronous_commit").text(0, 0), "off");
    }
    session_.execute("SET synchronous_commit = remote_apply");
    pg::Transaction transaction(session_);
    transaction.execute("SELECT millrace.publish('t', 'k', 'x', NULL)");
    EXPECT_EQ(transaction.execute("SHOW synchronous_commit").text(0, 0), "remote_apply");
}

TEST_F(Publish, IsForRolesThatMayWriteTasks) {
    const std::string role = "publisher_" + std::to_string(session_.backend_pid());
    session_.execute("CREATE ROLE " + role);
    const auto call = [&] {
        session_.execute("SET ROLE " + role);
        const std::string sqlstate = sqlstate_of(
            [&] { session_.execute("SELECT millrace.publish('t', 'k', 'x', NULL)"); });
        session_.execute("RESET ROLE");
        return sqlstate;
    };

    EXPECT_EQ(call(), "42501");
    session_.execute("GRANT millrace_app TO " + role);
    EXPECT_EQ(call(), "none");

    session_.execute("DROP ROLE " + role);
}

}  // namespace
}  // namespace millrace::test
