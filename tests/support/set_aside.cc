#include "tests/support/set_aside.h"

namespace millrace::test {

namespace {

std::vector<int64_t> order(const Installed& installed, const DeadFilter& filter, bool is_discard) {
    pg::Session session = installed.database.connect();
    DeadTaskVerbs verbs(session);
    std::vector<int64_t> done;
    for (const DeadTask& task : verbs.list(filter)) {
        const std::vector<DeadOutcome> outcome =
            is_discard ? verbs.discard(task.id.lane, {task}, "a test")
                       : verbs.release(task.id.lane, {task}, "a test");
        if (outcome.at(0) == DeadOutcome::kDone) done.push_back(task.id.id);
    }
    return done;
}

}  // namespace

void insert_refused(const Installed& installed, const std::string& key) {
    installed.database.connect().execute(
        "INSERT INTO millrace.pending_tasks (topic, key, task_type, created_at) "
        "VALUES ($1, $2, 'Refused', now() + interval '2 days')",
        pg::Params().text(installed.topic).text(key));
}

std::vector<DeadTask> dead_tasks(const Installed& installed, const DeadFilter& filter) {
    pg::Session session = installed.database.connect();
    return DeadTaskVerbs(session).list(filter);
}

int64_t dead_count(const Installed& installed) {
    return installed.number("SELECT count(*) FROM millrace.dead_tasks");
}

std::vector<int64_t> retry(const Installed& installed, DeadFilter filter) {
    filter.heads_only = true;
    return order(installed, filter, /*is_discard=*/false);
}

std::vector<int64_t> discard(const Installed& installed, const DeadFilter& filter) {
    return order(installed, filter, /*is_discard=*/true);
}

}  // namespace millrace::test
