#include "projections/sql_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/failure.h"
#include "projections/version_schema.h"
#include "tests/support/failures.h"
#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::event_at;
using test::failure_of;
using test::file_text;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

// A projection whose tables exist, and a session that applies its batches.
class Applied {
  public:
    explicit Applied(const ProjectionFile& file) : session_(database_.connect()), handler_(file) {
        {
            pg::Transaction transaction(session_);
            make_version_schema(session_, file, file.schema());
            transaction.commit();
        }
        handler_.open(session_);
    }
    explicit Applied(const std::string& text) : Applied(parse_projection("things.sql", text)) {}

    SqlHandler& handler() { return handler_; }
    pg::Session& session() { return session_; }

    // Takes an event that must neither be refused nor start a batch of its own.
    void collect(std::string_view type, std::string_view key, std::optional<std::string> payload) {
        const Event event = event_at(next_offset_++, type, key, payload);
        ASSERT_TRUE(handler_.wants(event));
        ASSERT_TRUE(handler_.collect(event));
    }

    pg::PipelineOutcome send() {
        pg::Pipeline pipeline(session_);
        handler_.queue(pipeline);
        return pipeline.finish();
    }

    void apply() {
        const pg::PipelineOutcome outcome = send();
        ASSERT_FALSE(outcome.error) << outcome.error->text();
        handler_.clear();
    }

    // Each row of the query's single text column.
    std::vector<std::string> rows(const std::string& sql) {
        const pg::Result result = session_.execute(sql);
        std::vector<std::string> rows;
        for (int row = 0; row < result.row_count(); ++row) rows.push_back(result.text(row, 0));
        return rows;
    }

  private:
    test::Database database_;
    pg::Session session_;
    SqlHandler handler_;
    int64_t next_offset_ = 100;
};

// A file whose table keeps what its relation shows, in the order it shows it.
std::string keeping(const std::string& relation, const std::string& columns) {
    return "/* millrace projection\nversion: 1\ntopics: [things]\ncolumns:\n"
           "  id: {type: text, path: $.id}\n  n: {type: bigint, path: $.n}\n"
           "  s: {type: text, path: $.s}\n*/\n"
           "-- table\nCREATE TABLE seen (at bigint GENERATED ALWAYS AS IDENTITY, row text);\n"
           "-- apply\nINSERT INTO seen (row) SELECT ROW(" + columns + ")::text FROM " + relation +
           ";\n";
}

constexpr const char* kSeen = "SELECT row FROM things_v1.seen ORDER BY at";

TEST(SqlHandler, ShowsTheBatchInOffsetOrder) {
    Applied things(keeping("batch", "_ord, _offset, id, n"));
    things.collect("Added", "b", R"({"id": "b", "n": 1})");
    things.collect("Added", "a", R"({"id": "a"})");
    things.collect("Added", "b", R"({"id": "b", "n": 3})");

    things.apply();

    EXPECT_THAT(things.rows(kSeen), ElementsAre("(1,100,b,1)", "(2,101,a,)", "(3,102,b,3)"));
}

TEST(SqlHandler, ReducesBatchLastToTheLastEventOfEachKeyInKeyOrder) {
    Applied things(keeping("batch_last", "_key, _offset, n, s, _count"));
    things.collect("Added", "b", R"({"n": 1, "s": "x"})");
    things.collect("Added", "a", R"({"n": 2})");
    things.collect("Added", "b", R"({"n": 3})");

    things.apply();

    EXPECT_THAT(things.rows(kSeen), ElementsAre("(a,101,2,,1)", "(b,102,3,,2)"));
}

TEST(SqlHandler, MergesTheLastValueOfEachColumnWithTheMetasOfTheLastEvent) {
    Applied things(keeping("batch_merged", "_key, _type, _offset, n, s, _count"));
    things.collect("Added", "b", R"({"n": 1, "s": "x"})");
    things.collect("Changed", "b", R"({"n": 3})");
    things.collect("Gone", "b", R"({})");

    things.apply();

    EXPECT_THAT(things.rows(kSeen), ElementsAre("(b,Gone,102,3,x,3)"));
}

TEST(SqlHandler, KeepsEventsWithoutAKeyApart) {
    Applied things(keeping("batch_last", "_offset, n, _count"));
    for (const char* payload : {R"({"n": 1})", R"({"n": 2})"}) {
        Event event = event_at(5, "Added", "", payload);
        event.key = std::nullopt;
        ASSERT_TRUE(things.handler().collect(event));
    }

    things.apply();

    EXPECT_THAT(things.rows(kSeen), ElementsAre("(5,1,1)", "(5,2,1)"));
}

TEST(SqlHandler, GroupsByTheColumnThatIsTheKey) {
    Applied things(file_text({"INSERT INTO t SELECT id, _count FROM batch_last ORDER BY id"}));
    things.collect("Added", "m1", R"({"id": "b"})");
    things.collect("Added", "m2", R"({"id": "b"})");
    things.collect("Added", "m3", R"({"id": "a"})");

    things.apply();

    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t ORDER BY id"),
                ElementsAre("a1", "b2"));
}

TEST(SqlHandler, SendsTheSameBatchAgainAfterARollback) {
    Applied things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"}));
    things.collect("Added", "a", R"({"id": "a", "n": 7})");
    things.session().execute("BEGIN");
    ASSERT_FALSE(things.send().error);
    things.session().rollback();

    things.apply();

    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t"), ElementsAre("a7"));
}

TEST(SqlHandler, RunsItsStatementsInFileOrderOverTheSameBatch) {
    Applied things(
        file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id",
                   "UPDATE t SET n = t.n + l.n FROM batch_last AS l WHERE l.id = t.id"}));
    things.collect("Added", "a", R"({"id": "a", "n": 7})");

    things.apply();

    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t"), ElementsAre("a14"));
}

TEST(SqlHandler, BringsEachTypeToPostgresAsItsOwnTextWouldBeRead) {
    Applied things(
        "/* millrace projection\nversion: 1\ntopics: [things]\ncolumns:\n"
        "  a: {type: boolean, path: $.a}\n  b: {type: smallint, path: $.b}\n"
        "  c: {type: integer, path: $.c}\n  d: {type: bigint, path: $.d}\n"
        "  e: {type: numeric, path: $.e}\n  f: {type: double precision, path: $.f}\n"
        "  g: {type: date, path: $.g}\n  h: {type: timestamptz, path: $.h}\n"
        "  i: {type: uuid, path: $.i}\n  j: {type: json, path: $.j}\n"
        "  k: {type: jsonb, path: $.k}\n  l: {type: text, path: $.l}\n*/\n"
        "-- table\nCREATE TABLE v (a boolean, b smallint, c integer, d bigint, e numeric,\n"
        "  f double precision, g date, h timestamptz, i uuid, j json, k jsonb, l text);\n"
        "-- apply\nINSERT INTO v SELECT a, b, c, d, e, f, g, h, i, j, k, l FROM batch;\n");
    things.collect("Added", "a",
                   R"({"a": true, "b": -32768, "c": 2147483647, "d": -9223372036854775808,
                      "e": 12345678901234567890.1230, "f": -1.5e-3, "g": "1969-07-20",
                      "h": "1969-07-20T20:17:40.1234567+02:00",
                      "i": "c0ffee00-0000-4000-8000-000000000001", "j": {"x" : [1, 1.0]},
                      "k": {"y": 1.50, "x": null}, "l": "é\n"})");

    things.apply();

    EXPECT_THAT(
        things.rows("SELECT (v = ROW(true, (-32768)::smallint, 2147483647,\n"
                    "    (-9223372036854775808)::bigint, '12345678901234567890.1230'::numeric,\n"
                    "    '-1.5e-3'::float8, '1969-07-20'::date,\n"
                    "    '1969-07-20T20:17:40.1234567+02:00'::timestamptz,\n"
                    "    'c0ffee00-0000-4000-8000-000000000001'::uuid,\n"
                    "    '{\"y\": 1.50, \"x\": null}'::jsonb, E'é\\n'::text))::text\n"
                    "FROM (SELECT a, b, c, d, e, f, g, h, i, k, l FROM things_v1.v) AS v"),
        ElementsAre("true"));
    EXPECT_THAT(things.rows("SELECT e::text || j::text FROM things_v1.v"),
                ElementsAre("12345678901234567890.1230{\"x\" : [1, 1.0]}"));
}

// An event that follows a tombstone of its key starts a new batch.
TEST(SqlHandler, LetsAnEventAfterATombstoneOfItsKeyStartANewBatch) {
    Applied things(
        file_text({"INSERT INTO t SELECT _key, n FROM batch_last WHERE NOT _deleted "
                   "ORDER BY _key ON CONFLICT (id) DO UPDATE SET n = excluded.n",
                   "DELETE FROM t USING batch_last AS l WHERE l._deleted AND t.id = l._key"},
                  "[Added]", ""));
    things.collect("Added", "a", R"({"n": 1})");
    things.collect("", "a", std::nullopt);
    things.collect("Added", "b", R"({"n": 2})");

    EXPECT_FALSE(things.handler().collect(event_at(200, "Added", "a", R"({"n": 3})")));

    EXPECT_EQ(things.handler().event_count(), 3u);
    things.apply();
    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t ORDER BY id"), ElementsAre("b2"));
    things.collect("Added", "a", R"({"n": 3})");
    things.apply();
    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t ORDER BY id"),
                ElementsAre("a3", "b2"));
}

TEST(SqlHandler, SkipsTombstonesUnlessTheFileMentionsThem) {
    const SqlHandler blind(parse_projection("things.sql", file_text({"DELETE FROM t"})));
    const SqlHandler sees(parse_projection(
        "things.sql",
        file_text({"DELETE FROM t USING batch WHERE _deleted"}, "[Added]", "")));

    EXPECT_FALSE(blind.wants(event_at(1, "Added", "a", std::nullopt)));
    EXPECT_TRUE(sees.wants(event_at(1, "Other", "a", std::nullopt)));
}

TEST(SqlHandler, WantsOnlyTheTypesOfItsFile) {
    const SqlHandler handler(parse_projection("things.sql", file_text({"DELETE FROM t"})));

    EXPECT_TRUE(handler.wants(event_at(1, "Removed", "a", "{}")));
    EXPECT_FALSE(handler.wants(event_at(1, "Other", "a", "{}")));
    EXPECT_FALSE(handler.wants(event_at(1, "", "a", "{}")));
}

TEST(SqlHandler, NamesFileAndLineOfAStatementThatFails) {
    Applied things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id",
                              "UPDATE t\nSET n = 1 / (n - 7)"}));
    things.collect("Added", "a", R"({"id": "a", "n": 7})");

    const pg::PipelineOutcome outcome = things.send();

    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->sqlstate, "22012");
    EXPECT_EQ(outcome.failed_index, 1u);
    EXPECT_EQ(things.handler().describe_statement(1, *outcome.error), "things.sql:15");
}

TEST(SqlHandler, LeavesTheBatchAsItWasWhenAnEventIsRefused) {
    Applied things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"}));
    things.collect("Added", "a", R"({"id": "a", "n": 7})");

    const Failure failure = failure_of(
        [&] { things.handler().collect(event_at(101, "Added", "b", R"({"id": "b\u0000"})")); });

    EXPECT_EQ(failure.kind(), FailureKind::kPoison);
    EXPECT_THAT(failure.detail(), HasSubstr("things-0@101: $.id: holds U+0000"));
    things.apply();
    EXPECT_THAT(things.rows("SELECT id || n FROM things_v1.t"), ElementsAre("a7"));
}

TEST(SqlHandler, RunsWithTheVersionsSchemaAloneAndNoPlannerSwitch) {
    Applied things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"}));

    EXPECT_THAT(
        things.rows("SELECT setting FROM pg_settings\n"
                    "WHERE name IN ('search_path', 'jit', 'plan_cache_mode') ORDER BY name"),
        ElementsAre("off", "force_generic_plan", "\"things_v1\""));
    EXPECT_THAT(things.rows("SELECT name FROM pg_settings\n"
                            "WHERE name LIKE 'enable%' AND setting <> reset_val"),
                IsEmpty());
}

TEST(SqlHandler, RefreshesTheStatisticsOfItsTables) {
    Applied things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"}));
    things.collect("Added", "a", R"({"id": "a", "n": 7})");
    things.apply();

    things.handler().analyze(things.session());

    EXPECT_THAT(
        things.rows("SELECT reltuples::text FROM pg_class WHERE oid = 'things_v1.t'::regclass"),
        ElementsAre("1"));
}

// One event of the shop, as its own statement would leave the business row.
struct ShopEvent {
    std::string type;
    std::string order;
    std::string customer;
    int cents;
};

std::string payload_of(const ShopEvent& event) {
    if (event.type == "OrderPaid") return R"({"order": {"id": ")" + event.order + R"("}})";
    return R"({"order": {"id": ")" + event.order + R"("}, "customer": {"id": ")" + event.customer +
           R"("}, "amount_cents": )" + std::to_string(event.cents) +
           R"(, "placed_at": "2024-05-01T12:00:00Z"})";
}

// Keys that come three times and more in a batch, as one batch and cut in every place.
const std::vector<ShopEvent> kShop{
    {"OrderPlaced", "o1", "c1", 100}, {"OrderPlaced", "o2", "c2", 200},
    {"OrderPaid", "o1", "", 0},       {"OrderPlaced", "o3", "c1", 50},
    {"OrderCancelled", "o1", "c1", 100}, {"OrderPaid", "o2", "", 0},
    {"OrderCancelled", "o3", "c1", 50}, {"OrderPlaced", "o4", "c2", 7}};

std::vector<std::string> shop_rows(const std::string& name, size_t cut, const std::string& sql) {
    Applied shop(test::sample(name));
    for (size_t i = 0; i < kShop.size(); ++i) {
        if (i == cut) shop.apply();
        const std::string payload = payload_of(kShop[i]);
        const Event event =
            event_at(static_cast<int64_t>(i), kShop[i].type, kShop[i].order, payload);
        const bool is_taken = !shop.handler().wants(event) || shop.handler().collect(event);
        EXPECT_TRUE(is_taken);
    }
    shop.apply();
    return shop.rows(sql);
}

TEST(Samples, OrdersKeepStatusFieldsAndCountHoweverBatchesAreCut) {
    for (const size_t cut : {0u, 1u, 3u, 5u, 7u}) {
        EXPECT_THAT(
            shop_rows("orders.sql", cut,
                      "SELECT ROW(order_id, customer_id, amount_cents, status, events)::text\n"
                      "FROM orders_v1.orders ORDER BY order_id"),
            ElementsAre("(o1,c1,100,cancelled,3)", "(o2,c2,200,paid,2)", "(o3,c1,50,cancelled,2)",
                        "(o4,c2,7,placed,1)"))
            << "cut at " << cut;
    }
}

TEST(Samples, CustomerTotalsAddUpHoweverBatchesAreCut) {
    for (const size_t cut : {0u, 1u, 4u, 7u}) {
        EXPECT_THAT(shop_rows("customer_totals.sql", cut,
                              "SELECT ROW(customer_id, orders, spent_cents)::text\n"
                              "FROM customer_totals_v1.customer_totals ORDER BY customer_id"),
                    ElementsAre("(c1,0,0)", "(c2,2,207)"))
            << "cut at " << cut;
    }
}

// Batches of which each key comes three times at least and some very often, as the shop's do: key
// number k with a weight of 1/k.
std::vector<std::vector<ShopEvent>> zipf_batches(std::mt19937& random) {
    constexpr int kOrderCount = 60;
    std::vector<double> weights;
    for (int k = 1; k <= kOrderCount; ++k) weights.push_back(1.0 / k);
    std::discrete_distribution<int> zipf(weights.begin(), weights.end());
    const std::vector<std::string> types{"OrderPlaced", "OrderPaid", "OrderCancelled"};
    std::vector<std::vector<ShopEvent>> batches(8);
    for (std::vector<ShopEvent>& batch : batches) {
        std::vector<int> orders;
        for (int k = 0; k < 3 * kOrderCount; ++k) orders.push_back(k % kOrderCount);
        while (orders.size() < 600) orders.push_back(zipf(random));
        std::shuffle(orders.begin(), orders.end(), random);
        for (const int order : orders) {
            batch.push_back({types[random() % types.size()], "o" + std::to_string(order),
                             "c" + std::to_string(random() % 7),
                             static_cast<int>(random() % 1000)});
        }
    }
    return batches;
}

std::vector<std::string> applied_rows(const std::string& name, const std::string& sql,
                                      const std::vector<std::vector<ShopEvent>>& batches) {
    Applied shop(test::sample(name));
    int64_t offset = 0;
    for (const std::vector<ShopEvent>& batch : batches) {
        for (const ShopEvent& event : batch) {
            const std::string payload = payload_of(event);
            const Event message = event_at(offset++, event.type, event.order, payload);
            const bool is_taken = !shop.handler().wants(message) || shop.handler().collect(message);
            EXPECT_TRUE(is_taken);
        }
        shop.apply();
    }
    return shop.rows(sql);
}

TEST(Samples, OrdersAgreeWithAFoldOverKeysThatRepeatInABatch) {
    struct Order {
        std::string customer;
        std::string cents;
        std::string status;
        int64_t events = 0;
    };
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto batches = zipf_batches(random);
    std::map<std::string, Order> orders;
    for (const std::vector<ShopEvent>& batch : batches) {
        for (const ShopEvent& event : batch) {
            Order& order = orders[event.order];
            ++order.events;
            if (event.type == "OrderPaid") {
                order.status = "paid";
                continue;
            }
            order.status = event.type == "OrderPlaced" ? "placed" : "cancelled";
            order.customer = event.customer;
            order.cents = std::to_string(event.cents);
        }
    }
    std::vector<std::string> expected;
    for (const auto& [id, order] : orders) {
        expected.push_back("(" + id + "," + order.customer + "," + order.cents + "," +
                           order.status + "," + std::to_string(order.events) + ")");
    }

    EXPECT_THAT(applied_rows("orders.sql",
                             "SELECT ROW(order_id, customer_id, amount_cents, status, "
                             "events)::text FROM orders_v1.orders ORDER BY order_id COLLATE \"C\"",
                             batches),
                ElementsAreArray(expected));
}

TEST(Samples, CustomerTotalsAgreeWithAFoldOverKeysThatRepeatInABatch) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto batches = zipf_batches(random);
    std::map<std::string, std::pair<int64_t, int64_t>> totals;
    for (const std::vector<ShopEvent>& batch : batches) {
        for (const ShopEvent& event : batch) {
            if (event.type == "OrderPaid") continue;
            const int sign = event.type == "OrderPlaced" ? 1 : -1;
            totals[event.customer].first += sign;
            totals[event.customer].second += sign * event.cents;
        }
    }
    std::vector<std::string> expected;
    for (const auto& [customer, total] : totals) {
        expected.push_back("(" + customer + "," + std::to_string(total.first) + "," +
                           std::to_string(total.second) + ")");
    }

    EXPECT_THAT(applied_rows("customer_totals.sql",
                             "SELECT ROW(customer_id, orders, spent_cents)::text "
                             "FROM customer_totals_v1.customer_totals "
                             "ORDER BY customer_id COLLATE \"C\"",
                             batches),
                ElementsAreArray(expected));
}

// Random events, cut at random into batches, against SQL over the same events as plain rows.
TEST(SqlHandler, AgreesWithPlainSqlOverAllEventsHoweverBatchesAreCut) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](unsigned limit) { return random() % limit; };
    Applied things(
        "/* millrace projection\nversion: 1\ntopics: [things]\nkey: id\ncolumns:\n"
        "  id: {type: text, path: $.id}\n  n: {type: bigint, path: $.n}\n"
        "  s: {type: text, path: $.s}\n*/\n"
        "-- table\nCREATE TABLE merged (id text PRIMARY KEY, n bigint, s text, type text,\n"
        "    last bigint, events bigint);\n"
        "-- table\nCREATE TABLE totals (n bigint PRIMARY KEY, events bigint);\n"
        "-- apply\nINSERT INTO merged AS t\n"
        "SELECT id, n, s, _type, _offset, _count FROM batch_merged ORDER BY id\n"
        "ON CONFLICT (id) DO UPDATE SET n = coalesce(excluded.n, t.n),\n"
        "    s = coalesce(excluded.s, t.s), type = excluded.type, last = excluded.last,\n"
        "    events = t.events + excluded.events;\n"
        "-- apply\nINSERT INTO totals AS t\n"
        "SELECT coalesce(n, -1), count(*) FROM batch GROUP BY 1 ORDER BY 1\n"
        "ON CONFLICT (n) DO UPDATE SET events = t.events + excluded.events;\n");
    things.session().execute("CREATE TABLE public.events (no bigint, type text, doc jsonb)");

    for (int i = 0; i < 600; ++i) {
        std::string payload = "{\"id\": \"k" + std::to_string(below(9)) + "\"";
        if (below(2) == 0) payload += ", \"n\": " + std::to_string(below(5));
        if (below(2) == 0) payload += ", \"s\": \"s" + std::to_string(below(100)) + "\"";
        payload += "}";
        const std::string type = "Type" + std::to_string(below(3));
        things.collect(type, "m", payload);
        things.session().execute("INSERT INTO public.events VALUES ($1, $2, $3::text::jsonb)",
                                 pg::Params()
                                     .int8(100 + i)
                                     .text(std::string_view(type))
                                     .text(std::string_view(payload)));
        if (below(20) == 0) things.apply();
    }
    things.apply();

    EXPECT_THAT(
        things.rows(
            "SELECT id FROM things_v1.merged AS m WHERE (n, s, type, last, events) IS DISTINCT "
            "FROM (\n"
            "    (SELECT (doc->>'n')::bigint FROM public.events WHERE doc->>'id' = m.id AND doc ? "
            "'n'\n"
            "     ORDER BY no DESC LIMIT 1),\n"
            "    (SELECT doc->>'s' FROM public.events WHERE doc->>'id' = m.id AND doc ? 's'\n"
            "     ORDER BY no DESC LIMIT 1),\n"
            "    (SELECT type FROM public.events WHERE doc->>'id' = m.id ORDER BY no DESC LIMIT "
            "1),\n"
            "    (SELECT max(no) FROM public.events WHERE doc->>'id' = m.id),\n"
            "    (SELECT count(*) FROM public.events WHERE doc->>'id' = m.id))"),
        IsEmpty());
    EXPECT_THAT(
        things.rows("SELECT (SELECT count(DISTINCT doc->>'id') FROM public.events) ||' '||\n"
                    "       (SELECT count(*) FROM things_v1.merged)"),
        ElementsAre("9 9"));
    EXPECT_THAT(things.rows("(SELECT ROW(coalesce((doc->>'n')::bigint, -1), count(*))::text\n"
                            " FROM public.events GROUP BY doc->>'n')\n"
                            "EXCEPT SELECT ROW(n, events)::text FROM things_v1.totals"),
                IsEmpty());
}

}  // namespace
}  // namespace millrace
