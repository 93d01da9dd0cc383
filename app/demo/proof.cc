#include "app/demo/proof.h"

#include "app/table.h"
#include "core/failure.h"

namespace millrace {

namespace {

constexpr int kShownMax = 10;

constexpr std::string_view kCounts = R"(
    SELECT count(*), coalesce(sum(changes), 0)::bigint, count(DISTINCT customer_id)
    FROM shop.orders)";

// Shares no code with the projections: they fold events, this looks at what the shop itself keeps.
constexpr std::string_view kDifferences = R"(
    WITH customers AS (
        SELECT customer_id,
               count(*) FILTER (WHERE status <> 'cancelled') AS orders,
               coalesce(sum(amount_cents) FILTER (WHERE status <> 'cancelled'), 0)::bigint
                   AS spent_cents
        FROM shop.orders
        GROUP BY customer_id
    ), differences AS (
        SELECT 1 AS kind, order_id AS name,
               format('order %s: %s in the shop, %s in the read model', order_id,
                      CASE WHEN s.status IS NULL THEN 'missing'
                           ELSE format('%s after %s events (%s, %s cents, %s)', s.status, s.changes,
                                       s.customer_id, s.amount_cents, s.placed_at) END,
                      CASE WHEN r.status IS NULL THEN 'missing'
                           ELSE format('%s after %s events (%s, %s cents, %s)', r.status, r.events,
                                       r.customer_id, r.amount_cents, r.placed_at) END) AS said
        FROM shop.orders s
        FULL JOIN read_models.orders r USING (order_id)
        WHERE (s.status, s.changes, s.customer_id, s.amount_cents, s.placed_at)
              IS DISTINCT FROM (r.status, r.events, r.customer_id, r.amount_cents, r.placed_at)
        UNION ALL
        SELECT 2, customer_id,
               format('customer %s: %s in the shop, %s in the read model', customer_id,
                      CASE WHEN s.orders IS NULL THEN 'missing'
                           ELSE format('%s orders, %s cents', s.orders, s.spent_cents) END,
                      CASE WHEN r.orders IS NULL THEN 'missing'
                           ELSE format('%s orders, %s cents', r.orders, r.spent_cents) END)
        FROM customers s
        FULL JOIN read_models.customer_totals r USING (customer_id)
        WHERE (s.orders, s.spent_cents) IS DISTINCT FROM (r.orders, r.spent_cents)
    )
    SELECT said, count(*) OVER ()
    FROM differences
    ORDER BY kind, name
    LIMIT $1)";

}  // namespace

Proof prove(pg::Session& session) {
    Proof proof;
    pg::Transaction transaction(session);
    transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const pg::Result counts = transaction.execute(kCounts);
    proof.order_count = counts.integer(0, 0);
    proof.event_count = counts.integer(0, 1);
    proof.customer_count = counts.integer(0, 2);
    const pg::Result rows = transaction.execute(kDifferences, pg::Params().int4(kShownMax));
    for (int i = 0; i < rows.row_count(); ++i) {
        proof.differences.push_back(rows.text(i, 0));
        proof.difference_count = rows.integer(i, 1);
    }
    transaction.commit();
    return proof;
}

std::string Proof::text() const {
    const std::string subject = with_commas(event_count) + " events of " +
                                with_commas(order_count) + " orders by " +
                                with_commas(customer_count) + " customers";
    if (holds()) {
        return "Proved: " + subject +
               ",\n"
               "each applied exactly once and in order. The read models agree with the shop's\n"
               "own tables, order by order and customer by customer.\n";
    }
    std::string text = "Found wrong: after " + subject + " the read models differ from the shop's "
                       "own tables in " + std::to_string(difference_count) + " rows:\n";
    for (const std::string& difference : differences) text += "  " + difference + "\n";
    if (difference_count > kShownMax) text += "  ...\n";
    return text;
}

int Proof::exit_code() const { return holds() ? 0 : kExitFoundWrong; }

}  // namespace millrace
