#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "app/demo/proof.h"
#include "app/demo/shop.h"
#include "projections/catalog.h"
#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/folder.h"
#include "tests/support/process.h"
#include "tests/support/projections.h"

namespace millrace::test {
namespace {

using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The shop's tables and both read models, filled as a worker would leave them.
class DemoProof : public testing::Test {
  protected:
    DemoProof() : session(database.connect()) {
        Shop::create_tables(session);
        install_projection(session, sample("orders.sql"), "read_models");
        install_projection(session, sample("customer_totals.sql"), "read_models");
        session.run_script(R"(
            INSERT INTO shop.orders (order_id, customer_id, amount_cents, status, changes)
            VALUES ('o-1', 'c-1', 500, 'placed', 1), ('o-2', 'c-1', 700, 'paid', 2),
                   ('o-3', 'c-2', 900, 'cancelled', 3);
            INSERT INTO read_models.orders
            SELECT order_id, customer_id, amount_cents, status, placed_at, changes FROM shop.orders;
            INSERT INTO read_models.customer_totals VALUES ('c-1', 2, 1200), ('c-2', 0, 0))");
    }

    Proof proof_after(const std::string& damage) {
        session.run_script(damage);
        return prove(session);
    }

    Database database;
    pg::Session session;
};

TEST_F(DemoProof, HoldsWhenReadModelsAgreeWithTheShop) {
    const Proof proof = prove(session);

    EXPECT_THAT(proof.differences, IsEmpty());
    EXPECT_EQ(proof.exit_code(), 0);
    EXPECT_EQ(proof.event_count, 6);
    EXPECT_THAT(proof.text(), HasSubstr("6 events of 3 orders by 2 customers,\neach applied"));
}

TEST_F(DemoProof, NamesTheOrderWhoseEventWasAppliedTwice) {
    const Proof proof =
        proof_after("UPDATE read_models.orders SET events = events + 1 WHERE order_id = 'o-2'");

    EXPECT_EQ(proof.exit_code(), 3);
    EXPECT_EQ(proof.difference_count, 1);
    EXPECT_THAT(proof.text(), HasSubstr("order o-2: paid after 2 events"));
    EXPECT_THAT(proof.text(), HasSubstr("paid after 3 events"));
}

TEST_F(DemoProof, NamesTheOrderWhoseEventsCameOutOfOrder) {
    const Proof proof =
        proof_after("UPDATE read_models.orders SET status = 'placed' WHERE order_id = 'o-2'");

    EXPECT_EQ(proof.exit_code(), 3);
    EXPECT_THAT(proof.differences, ElementsAre(HasSubstr("order o-2")));
}

TEST_F(DemoProof, NamesTheOrderThatIsMissing) {
    const Proof proof = proof_after("DELETE FROM read_models.orders WHERE order_id = 'o-1'");

    EXPECT_THAT(proof.differences,
                ElementsAre(testing::AllOf(HasSubstr("order o-1: placed after 1 events"),
                                           HasSubstr("missing in the read model"))));
}

TEST_F(DemoProof, NamesTheOrderThatTheShopDoesNotKnow) {
    const Proof proof = proof_after(
        "INSERT INTO read_models.orders (order_id, status, events) VALUES ('o-9', 'placed', 1)");

    EXPECT_THAT(proof.differences, ElementsAre(HasSubstr("order o-9: missing in the shop")));
}

TEST_F(DemoProof, NamesTheCustomerWhoseSumIsOff) {
    const Proof proof = proof_after(
        "UPDATE read_models.customer_totals SET spent_cents = 501 WHERE customer_id = 'c-1'");

    EXPECT_EQ(proof.exit_code(), 3);
    EXPECT_THAT(proof.differences, ElementsAre(HasSubstr("customer c-1: 2 orders, 1200 cents")));
}

Finished run_demo(const Folder& temporary, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"demo", "--duration", "5s"});
    return run_program(more,
                       {{"MILLRACE_POSTGRES_URL", std::getenv("MILLRACE_TEST_PG")},
                        {"MILLRACE_KAFKA_BROKERS", brokers()},
                        {"TMPDIR", temporary.path().string()}});
}

int64_t demo_database_count() {
    const Database any;
    pg::Session session = any.connect();
    return session.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'millrace_demo_%'")
        .integer(0, 0);
}

// In one test: two demos at a time would meet in the topic.
TEST(Demo, ProvesItsEventsAndLeavesNothingBehind) {
    const Folder temporary;
    const Finished finished = run_demo(temporary);

    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_THAT(finished.output, HasSubstr("Proved: "));
    EXPECT_THAT(finished.output, HasSubstr("applied exactly once and in order"));
    EXPECT_EQ(demo_database_count(), 0);

    const Finished chaos = run_demo(temporary, {"--chaos"});

    EXPECT_EQ(chaos.exit_code, 0) << chaos.output;
    EXPECT_THAT(chaos.output, HasSubstr("Proved: "));
    EXPECT_THAT(chaos.output, ContainsRegex("killed [1-9][0-9]* times, last worker"));
    EXPECT_EQ(demo_database_count(), 0);

    create_topic("shop.orders", 1);
    const Finished refused = run_demo(temporary);

    delete_topic("shop.orders");
    EXPECT_EQ(refused.exit_code, 78) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr("scratch_topic_exists"));
    EXPECT_TRUE(std::filesystem::is_empty(temporary.path()));
}

}  // namespace
}  // namespace millrace::test
