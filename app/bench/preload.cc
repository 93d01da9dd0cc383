#include "app/bench/preload.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>

#include "app/bench/task_text.h"
#include "app/scratch/part.h"
#include "core/failure.h"

namespace millrace {

namespace {

constexpr int kSessionCount = 4;
constexpr int64_t kTransactionTasks = 20'000;
constexpr std::string_view kNoRight = "42501";

}  // namespace

void preload(const PreloadOptions& options, const std::stop_token& stop) {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
    std::mutex telling;
    const auto fill = [&](const std::stop_token& given_up) {
        pg::Session session(options.session);
        while (!stop.stop_requested() && !given_up.stop_requested()) {
            const int64_t first = next.fetch_add(kTransactionTasks);
            if (first >= options.task_count) return;
            const int64_t end = std::min(first + kTransactionTasks, options.task_count);
            session.execute(options.insert,
                            pg::Params().int8(options.key_count).int8(first).int8(end - 1));
            const std::lock_guard lock(telling);
            options.on_progress(done += end - first);
        }
    };
    {
        std::deque<Part> parts;
        for (int i = 0; i < kSessionCount; ++i) parts.emplace_back(fill);
        for (Part& part : parts) part.join();
    }
    pg::Session session(options.session);
    session.execute("VACUUM (ANALYZE) " + options.table);
    try {
        session.execute("CHECKPOINT");
    } catch (const Failure& refused) {
        if (refused.sqlstate() != kNoRight) throw;
    }
}

std::string outbox_insert(const std::string& topic) {
    return "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) SELECT '" + topic +
           "', " + std::string(kBenchKeySql) + ", '" + std::string(kBenchTaskType) + "', (" +
           std::string(kBenchPayloadSql) + ")::json FROM generate_series($2, $3) AS n";
}

}  // namespace millrace
