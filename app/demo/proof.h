#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/pg/session.h"

namespace millrace {

// What came of comparing the read models with the shop's own tables.
struct Proof {
    int64_t order_count = 0;
    int64_t event_count = 0;  // Changes of orders that the shop committed.
    int64_t customer_count = 0;
    int64_t difference_count = 0;
    std::vector<std::string> differences;  // The first ones, in words.

    bool holds() const { return difference_count == 0; }
    // The verdict in a sentence, then a line for each difference.
    std::string text() const;
    // 0, or 3 when something was found wrong.
    int exit_code() const;
};

// Compares by SQL alone, in one snapshot: per order the last status, the number of applied events
// and the order's facts; per customer count and sum of the orders that were not cancelled. A lost
// or doubled event changes a number, one out of order a last status.
Proof prove(pg::Session& session);

}  // namespace millrace
