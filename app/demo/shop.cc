#include "app/demo/shop.h"

#include <algorithm>
#include <thread>

#include "core/stop.h"

namespace millrace {

namespace {

constexpr int kCustomerCount = 200;

constexpr const char* kTables = R"(
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (
        order_id     text PRIMARY KEY,
        customer_id  text NOT NULL,
        amount_cents bigint NOT NULL,
        status       text NOT NULL,
        changes      bigint NOT NULL,
        placed_at    timestamptz NOT NULL DEFAULT clock_timestamp()
    ))";

constexpr std::string_view kPlaceOrder = R"(
    INSERT INTO shop.orders (order_id, customer_id, amount_cents, status, changes)
    VALUES ($1, $2, $3, 'placed', 1))";
// A writer that waits here for another one's lock looks again at what that one left.
constexpr std::string_view kPayOrder = R"(
    UPDATE shop.orders SET status = 'paid', changes = changes + 1
    WHERE order_id = $1 AND status = 'placed')";
constexpr std::string_view kCancelOrder = R"(
    UPDATE shop.orders SET status = 'cancelled', changes = changes + 1
    WHERE order_id = $1 AND status IN ('placed', 'paid'))";
// What the samples in projections/samples expect: Placed and Cancelled carry the customer.
constexpr std::string_view kTellWhole = R"(
    INSERT INTO millrace.pending_tasks (topic, key, task_type, payload)
    SELECT 'shop.orders', order_id, $2,
           json_build_object('order', json_build_object('id', order_id),
                             'customer', json_build_object('id', customer_id),
                             'amount_cents', amount_cents,
                             'placed_at', placed_at)
    FROM shop.orders
    WHERE order_id = $1)";
constexpr std::string_view kTellPaid = R"(
    INSERT INTO millrace.pending_tasks (topic, key, task_type, payload)
    VALUES ('shop.orders', $1, $2,
            json_build_object('order', json_build_object('id', $1))))";

int pick(std::minstd_rand& random, int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
}

}  // namespace

Shop::Shop(ShopOptions options, std::function<void(const std::string& order_id)> on_placed)
    : options_(std::move(options)), on_placed_(std::move(on_placed)) {}

void Shop::create_tables(pg::Session& session) { session.run_script(kTables); }

std::string Shop::place_one(pg::Session& session) {
    const std::string order_id = "o-" + std::to_string(++order_count_);
    place(session, order_id);
    return order_id;
}

void Shop::run(std::stop_token stop) {
    next_order_at_ = Clock::now();
    {
        std::stop_source all;
        const std::stop_callback forward(stop, [&all] { all.request_stop(); });
        std::vector<std::jthread> writers;
        for (int i = 0; i < options_.writer_count; ++i) {
            writers.emplace_back([this, &all] {
                try {
                    write(all.get_token());
                } catch (const Failure& failure) {
                    const std::lock_guard lock(mutex_);
                    if (!failure_) failure_ = failure;
                    all.request_stop();
                }
            });
        }
    }
    if (failure_) throw *failure_;
}

void Shop::write(std::stop_token stop) {
    pg::Session session(options_.session);
    while (const std::optional<Step> step = await_step(stop)) {
        if (step->act == Act::kPlace) {
            place(session, step->order_id);
            on_placed_(step->order_id);
            plan_future(step->order_id);
        } else {
            change(session, *step);
        }
    }
}

void Shop::place(pg::Session& session, const std::string& order_id) {
    std::string customer;
    int64_t amount_cents = 0;
    {
        const std::lock_guard lock(mutex_);
        // Some customers buy more than others, so that batches of several partitions meet in a row.
        customer = "c-" + std::to_string(std::min(pick(random_, 1, kCustomerCount),
                                                  pick(random_, 1, kCustomerCount)));
        amount_cents = pick(random_, 100, 50'000);
    }
    pg::Transaction transaction(session);
    transaction.execute(kPlaceOrder,
                        pg::Params().text(order_id).text(customer).int8(amount_cents));
    transaction.execute(kTellWhole, pg::Params().text(order_id).text("OrderPlaced"));
    transaction.commit();
}

void Shop::change(pg::Session& session, const Step& step) {
    const bool is_payment = step.act == Act::kPay;
    pg::Transaction transaction(session);
    // The UPDATE takes the order's lock; only then may the event be written, or two events of one
    // order could stand in another order than their transactions.
    const pg::Result changed = transaction.execute(is_payment ? kPayOrder : kCancelOrder,
                                                   pg::Params().text(step.order_id));
    if (changed.affected_count() == 0) return;
    transaction.execute(is_payment ? kTellPaid : kTellWhole,
                        pg::Params()
                            .text(step.order_id)
                            .text(is_payment ? "OrderPaid" : "OrderCancelled"));
    transaction.commit();
}

// Most orders are paid, some cancelled, some both at the same moment by two writers.
void Shop::plan_future(const std::string& order_id) {
    const std::lock_guard lock(mutex_);
    const int fate = pick(random_, 1, 100);
    const Clock::time_point due =
        Clock::now() + std::chrono::milliseconds(pick(random_, 50, 1500));
    if (fate <= 90) planned_.push({due, Act::kPay, order_id});
    if (fate > 80 && fate <= 97) planned_.push({due, Act::kCancel, order_id});
}

std::optional<Shop::Step> Shop::await_step(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        const Clock::time_point now = Clock::now();
        Clock::time_point next_due;
        if (std::optional<Step> step = take_due_step(now, next_due)) return step;
        wait_for(stop, next_due - now);
    }
    return std::nullopt;
}

std::optional<Shop::Step> Shop::take_due_step(Clock::time_point now, Clock::time_point& next_due) {
    const std::lock_guard lock(mutex_);
    if (!planned_.empty() && planned_.top().due <= std::min(now, next_order_at_)) {
        Step step = planned_.top();
        planned_.pop();
        return step;
    }
    if (next_order_at_ <= now) {
        next_order_at_ += std::chrono::nanoseconds(std::chrono::seconds(1)) /
                          options_.orders_per_second;
        return Step{now, Act::kPlace, "o-" + std::to_string(++order_count_)};
    }
    next_due = planned_.empty() ? next_order_at_ : std::min(next_order_at_, planned_.top().due);
    return std::nullopt;
}

}  // namespace millrace
