#include "app/bench/preload.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "app/bench/task_text.h"
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
    std::mutex mutex;
    std::optional<Failure> failure;
    const auto fill = [&] {
        try {
            pg::Session session(options.session);
            while (!stop.stop_requested()) {
                const int64_t first = next.fetch_add(kTransactionTasks);
                if (first >= options.task_count) return;
                const int64_t end = std::min(first + kTransactionTasks, options.task_count);
                session.execute(options.insert,
                                pg::Params().int8(options.key_count).int8(first).int8(end - 1));
                const std::lock_guard lock(mutex);
                options.on_progress(done += end - first);
            }
        } catch (const Failure& caught) {
            const std::lock_guard lock(mutex);
            failure = caught;
        }
    };
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < kSessionCount; ++i) threads.emplace_back(fill);
    }
    if (failure) throw *failure;
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
