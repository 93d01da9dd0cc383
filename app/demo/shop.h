#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <queue>
#include <random>
#include <stop_token>
#include <string>
#include <vector>

#include "core/pg/session.h"

namespace millrace {

struct ShopOptions {
    pg::SessionOptions session;
    int orders_per_second = 100;
    int writer_count = 4;
};

// An application that knows nothing of millrace but one INSERT: its business tables stand in schema
// `shop`, and each change of an order writes its event in the same transaction. Several writers act
// on the same orders, some at the same moment; the order's row lock decides who is first.
class Shop {
  public:
    // `on_placed` is told each order right after its COMMIT, from any writer's thread.
    Shop(ShopOptions options, std::function<void(const std::string& order_id)> on_placed);

    // Makes the schema and its table. Once for a database.
    static void create_tables(pg::Session& session);
    // One order, before any writer runs; returns its id.
    std::string place_one(pg::Session& session);
    // Runs the writers; returns when stop was requested and all have ended. Throws the Failure that
    // ended one of them.
    void run(std::stop_token stop);

  private:
    using Clock = std::chrono::steady_clock;
    enum class Act { kPlace, kPay, kCancel };
    struct Step {
        Clock::time_point due;
        Act act = Act::kPlace;
        std::string order_id;  // Empty for kPlace.
        bool operator>(const Step& other) const { return due > other.due; }
    };

    void write(std::stop_token stop);
    // The next step, once it is due. Nothing on stop.
    std::optional<Step> await_step(const std::stop_token& stop);
    std::optional<Step> take_due_step(Clock::time_point now, Clock::time_point& next_due);
    void place(pg::Session& session, const std::string& order_id);
    void change(pg::Session& session, const Step& step);
    void plan_future(const std::string& order_id);

    const ShopOptions options_;
    const std::function<void(const std::string& order_id)> on_placed_;
    std::mutex mutex_;  // Guards all below.
    std::priority_queue<Step, std::vector<Step>, std::greater<>> planned_;
    Clock::time_point next_order_at_{};
    int64_t order_count_ = 0;
    std::minstd_rand random_{std::random_device{}()};
    std::optional<Failure> failure_;
};

}  // namespace millrace
