#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "app/command.h"
#include "app/table.h"
#include "core/failure.h"
#include "relay/dead_task_verbs.h"
#include "relay/parked_keys.h"

namespace millrace {

namespace {

// Rows of one order: its transaction keeps the lane's owner waiting.
constexpr size_t kOrderedMax = 200;
constexpr int kPageSize = 1000;
// Between two orders for one lane.
constexpr std::chrono::milliseconds kLeastPause{250};

std::string state_of(const DeadTask& task) {
    if (task.waits_for) {
        return (task.is_released ? "retried behind " : "waits behind ") +
               std::to_string(*task.waits_for);
    }
    return task.is_released ? "retried" : "dead";
}

std::string then_of(const DeadTask& task) {
    const std::string id = std::to_string(task.waits_for.value_or(task.id.id));
    if (task.is_released) return "";
    if (task.reason == "topic_invalid") {
        return "no topic can have that name: millrace outbox discard " + id + " --reason TEXT";
    }
    const std::string retry = "millrace outbox retry " + id;
    if (task.reason == "task_too_large") {
        return "raise the limit (README, task_too_large), then: " + retry +
               "; or: millrace outbox discard " + id + " --reason TEXT";
    }
    return "mend the cause, then: " + retry;
}

int outbox_list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    DeadFilter filter = arguments.dead;
    // One more than is shown tells that there are more.
    ++filter.limit;
    std::vector<DeadTask> tasks = DeadTaskVerbs(connection.session).list(filter);
    const bool is_cut = static_cast<int>(tasks.size()) == filter.limit;
    if (is_cut) tasks.pop_back();
    Table table({"task", "lane", "topic", "key", "type", "since", "state", "reason", "detail"});
    for (const DeadTask& task : tasks) {
        table.add({task.id.id, task.id.lane, task.topic, cell_of(task.key), task.task_type,
                   task.since, state_of(task), task.reason, task.detail});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
        return 0;
    }
    if (tasks.empty()) {
        std::cout << "nothing is set aside" << (filter.ids.empty() ? "" : " of that number")
                  << "\n";
        return 0;
    }
    table.print(std::cout);
    if (is_cut) std::cout << "and more: --limit\n";
    const auto culprit = std::find_if(tasks.begin(), tasks.end(), [](const DeadTask& task) {
        return !task.waits_for && !task.is_released;
    });
    if (culprit != tasks.end()) {
        std::cout << "\n" << then_of(*culprit) << "\nall of that cause: --cause "
                  << culprit->reason << "\n";
    }
    return 0;
}

void print_content(const DeadTask& task, const DeadTaskContent& content) {
    const auto line = [](const std::string& name, const std::optional<std::string>& value) {
        if (value) std::cout << name << std::string(12 - name.size(), ' ') << *value << "\n";
    };
    line("task", std::to_string(task.id.id));
    line("event_id", task.id.event_id.text());
    line("lane", std::to_string(task.id.lane));
    line("topic", task.topic);
    line("key", task.key);
    line("type", task.task_type);
    line("tenant", content.tenant_id);
    line("actor", content.actor_id);
    line("created_at", content.created_at);
    line("state", state_of(task));
    line("reason", task.reason);
    if (!task.detail.empty()) line("detail", task.detail);
    line("since", task.since);
    line("behind it", std::to_string(content.waiting_count) + " tasks of its key wait");
    line("headers", content.headers);
    line(content.payload_is_bytes ? "base64" : "payload", content.payload.value_or("-"));
    if (const std::string then = then_of(task); !then.empty()) {
        std::cout << "\n" << then << "\n";
    }
}

nlohmann::ordered_json as_json(const DeadTask& task, const DeadTaskContent& content) {
    return {{"task", task.id.id},
            {"event_id", task.id.event_id.text()},
            {"lane", task.id.lane},
            {"topic", task.topic},
            {"key", cell_of(task.key)},
            {"type", task.task_type},
            {"tenant", cell_of(content.tenant_id)},
            {"actor", cell_of(content.actor_id)},
            {"created_at", content.created_at},
            {"state", state_of(task)},
            {"reason", task.reason},
            {"detail", task.detail},
            {"since", task.since},
            {"waiting", content.waiting_count},
            {"headers", cell_of(content.headers)},
            {content.payload_is_bytes ? "payload_base64" : "payload", cell_of(content.payload)}};
}

[[noreturn]] void throw_missing(const std::string& which) {
    throw fatal("no_such_task",
                which + " was not set aside: see 'millrace outbox list'; it may have been "
                        "published or discarded meanwhile");
}

int outbox_show(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    DeadTaskVerbs db(connection.session);
    nlohmann::ordered_json array = nlohmann::ordered_json::array();
    for (const DeadTask& task : db.list(arguments.dead)) {
        const std::optional<DeadTaskContent> content = db.content(task.id);
        if (!content) continue;
        if (!arguments.as_json()) {
            if (!array.empty()) std::cout << "\n";
            print_content(task, *content);
        }
        array.push_back(as_json(task, *content));
    }
    if (array.empty()) throw_missing("task " + std::to_string(arguments.dead.ids.front()));
    if (arguments.as_json()) print_json(std::cout, array);
    return 0;
}

struct Order {
    std::string done;
    bool is_discard = false;
};

std::string result_of(const Order& order, DeadOutcome outcome, const DeadTask& task) {
    switch (outcome) {
        case DeadOutcome::kDone:
            if (!task.begins_queue) return order.done;
            return order.done + (order.is_discard ? "; what waited behind it is retried"
                                                  : ", with what waits behind it");
        case DeadOutcome::kReleasedAlready: return "is being retried already";
        case DeadOutcome::kWaitsBehind:
            return "nothing is wrong with it: it waits behind another task of its key; see "
                   "'millrace outbox show " + std::to_string(task.id.id) + "'";
        case DeadOutcome::kInFlight:
            return "left alone: it is being retried and may be published; look again in a moment";
        case DeadOutcome::kGone: return "left alone: it was published or discarded meanwhile";
    }
    return {};
}

// All that are meant, in pages.
std::vector<DeadTask> chosen_tasks(DeadTaskVerbs& db, const Order& order, DeadFilter filter) {
    filter.limit = kPageSize;
    // Who names tasks gets a result for each; who names a cause means the tasks that have it.
    filter.heads_only = filter.ids.empty() && !order.is_discard;
    std::vector<DeadTask> tasks;
    for (;;) {
        const std::vector<DeadTask> page = db.list(filter);
        if (page.empty()) break;
        tasks.insert(tasks.end(), page.begin(), page.end());
        filter.after = page.back().id;
    }
    // What waits behind another goes first, or it would be released by the end of the other.
    if (order.is_discard) std::reverse(tasks.begin(), tasks.end());
    return tasks;
}

// The next tasks of one lane: an order is for one, since with several, publishers and lanes would
// be locked out of their order.
std::vector<DeadTask> next_of_lane(const std::vector<DeadTask>& tasks, size_t begin) {
    std::vector<DeadTask> next;
    for (size_t i = begin; i < tasks.size() && next.size() < kOrderedMax; ++i) {
        if (tasks[i].id.lane != tasks[begin].id.lane) break;
        next.push_back(tasks[i]);
    }
    return next;
}

int run_order(const Order& order, const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    DeadTaskVerbs db(connection.session);
    const std::vector<DeadTask> tasks = chosen_tasks(db, order, arguments.dead);
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    bool all_done = true;
    for (size_t begin = 0; begin < tasks.size();) {
        const std::vector<DeadTask> some = next_of_lane(tasks, begin);
        const int16_t lane = some.front().id.lane;
        const size_t end = begin + some.size();
        const bool is_last = end == tasks.size() || tasks[end].id.lane != lane;
        const auto started = std::chrono::steady_clock::now();
        const std::vector<DeadOutcome> outcomes =
            order.is_discard ? db.discard(lane, some, arguments.reason)
                             : db.release(lane, some, arguments.reason, /*wakes=*/is_last);
        // The lane's owner has its turn, and reads its parked keys anew.
        if (order.is_discard && !is_last) {
            std::this_thread::sleep_for(std::max<std::chrono::steady_clock::duration>(
                kLeastPause, 3 * (std::chrono::steady_clock::now() - started)));
        }
        for (size_t i = 0; i < some.size(); ++i) {
            const DeadTask& task = some[i];
            const std::string result = result_of(order, outcomes[i], task);
            const bool is_done = outcomes[i] == DeadOutcome::kDone;
            all_done = all_done && is_done;
            results.push_back({{"task", task.id.id},
                               {"topic", task.topic},
                               {"key", cell_of(task.key)},
                               {"done", is_done},
                               {"result", result}});
            if (arguments.as_json()) continue;
            std::cout << "task " << task.id.id << " (" << task.topic
                      << (task.key ? ", " + *task.key : "") << "): " << result << "\n";
        }
        begin = end;
    }
    if (arguments.as_json()) print_json(std::cout, results);
    for (const int64_t id : arguments.dead.ids) {
        const bool is_there = std::any_of(tasks.begin(), tasks.end(), [id](const DeadTask& task) {
            return task.id.id == id;
        });
        if (!is_there) throw_missing("task " + std::to_string(id));
    }
    if (tasks.empty() && !arguments.as_json()) std::cout << "nothing to change\n";
    return all_done ? 0 : kExitFailed;
}

CLI::Option* add_ids(CLI::App& verb, Choice& choice) {
    return verb.add_option("TASK", choice.arguments.dead.ids, "numbers of tasks");
}

void add_filter(CLI::App& verb, Choice& choice) {
    verb.add_option("--topic", choice.arguments.dead.topic, "of this topic");
    verb.add_option("--key", choice.arguments.dead.key, "of this key");
    verb.add_option("--cause", choice.arguments.dead.reason,
                    "set aside for this reason, such as topic_missing");
}

void add_order(CLI::App& outbox, Choice& choice, const VerbText& text, const Order& order) {
    CLI::App* verb =
        add_verb(outbox, text, choice,
                 [order](const Arguments& arguments, const Config& config) {
                     return run_order(order, arguments, config);
                 });
    CLI::Option_group* which = verb->add_option_group("Which");
    add_ids(*which, choice);
    add_filter(*which, choice);
    which->add_flag("--all", choice.arguments.all_dead, "every one");
    which->require_option(1, 0);
    CLI::Option* reason = add_reason(*verb, choice);
    if (order.is_discard) reason->required();
    add_output(*verb, choice);
}

}  // namespace

void add_dead_tasks(CLI::App& outbox, Choice& choice) {
    CLI::App* list = add_verb(outbox,
                              {.name = "list",
                               .summary = "tasks that were set aside, and what waits behind them",
                               .example = "millrace outbox list --topic shop.orders"},
                              choice, outbox_list);
    add_ids(*list, choice);
    add_filter(*list, choice);
    list->add_option("--limit", choice.arguments.dead.limit, "tasks to show")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    add_output(*list, choice);
    CLI::App* show = add_verb(outbox,
                              {.name = "show",
                               .summary = "one of them, with its payload and what to type",
                               .example = "millrace outbox show 4711"},
                              choice, outbox_show);
    add_ids(*show, choice)->required();
    add_output(*show, choice);
    add_order(outbox, choice,
              {.name = "retry",
               .summary = "publish them again, each key in its order, once the cause is mended",
               .example = "millrace outbox retry --cause topic_missing --reason 'topic made'"},
              {.done = "will be published next", .is_discard = false});
    add_order(outbox, choice,
              {.name = "discard",
               .summary = "give them up; they are never published",
               .example = "millrace outbox discard 4711 --reason 'a test of ours'"},
              {.done = "discarded", .is_discard = true});
}

}  // namespace millrace
