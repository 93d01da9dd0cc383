#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "core/pg/session.h"

namespace millrace {

// Fills a table with tasks by several sessions, then VACUUM, ANALYZE and, where the role may, a
// CHECKPOINT, so that none of these falls into a measurement by chance.
struct PreloadOptions {
    pg::SessionOptions session;
    std::string table = "millrace.pending_tasks";
    // `INSERT INTO ... SELECT ... FROM generate_series($2, $3) AS n`; $1 is the number of keys.
    std::string insert;
    int64_t task_count = 1'000'000;
    int64_t key_count = 100'000;
    // Told now and then how many there are.
    std::function<void(int64_t)> on_progress = [](int64_t) {};
};
void preload(const PreloadOptions& options, const std::stop_token& stop);

// The INSERT of an outbox's tasks for `topic`.
std::string outbox_insert(const std::string& topic);

}  // namespace millrace
