#include <algorithm>
#include <iostream>
#include <set>

#include "app/command.h"
#include "app/table.h"
#include "relay/dead_tasks.h"
#include "relay/operator.h"

namespace millrace {

namespace {

struct Halted {
    int16_t lane;
    std::string reason;
    std::string then;
};

std::vector<Halted> halted_lanes(Operator& db) {
    std::vector<Halted> halted;
    for (const LaneReport& lane : db.lanes(/*task_count_max=*/0)) {
        if (!lane.halted) continue;
        halted.push_back(
            {lane.lane, *lane.halted, "millrace lanes resume " + std::to_string(lane.lane)});
    }
    return halted;
}

// Why publishers are halted: all of them for one reason, or some whose record nobody could read.
std::set<std::string> halted_publishers(Operator& db) {
    std::set<std::string> reasons;
    for (const PublisherReport& publisher : db.publishers()) {
        if (publisher.halted) reasons.insert(*publisher.halted);
    }
    return reasons;
}

void print_halted(const std::set<std::string>& publishers, const std::vector<Halted>& lanes) {
    for (const std::string& reason : publishers) {
        std::cout << "\npublishers are halted: " << reason << "\n  see: millrace ledger status\n";
    }
    for (const Halted& lane : lanes) {
        std::cout << "\nlane " << lane.lane << " is halted: " << lane.reason
                  << "\n  mend the cause, then: " << lane.then << "\n";
    }
}

void print_dead(const std::map<std::string, int>& dead) {
    if (dead.empty()) return;
    std::cout << "\nset aside:";
    for (const auto& [reason, count] : dead) std::cout << " " << count << " " << reason;
    std::cout << "\n  see: millrace outbox list\n";
}

void print_text(int64_t task_count, bool is_cut, int64_t oldest_seconds, const Table& shares) {
    std::cout << (is_cut ? "at least " : "") << task_count << " tasks wait";
    if (task_count > 0) std::cout << ", the oldest for " << oldest_seconds << " s";
    std::cout << "\n";
    if (shares.row_count() > 0) {
        std::cout << "\n";
        shares.print(std::cout);
    }
}

int outbox_status(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    Operator db(connection.session);
    Table shares({"lane", "topic", "tasks", "oldest_s"});
    int64_t task_count = 0;
    int64_t oldest_seconds = 0;
    for (const BacklogShare& share : db.backlog(arguments.task_count_max)) {
        shares.add({share.lane, share.topic, share.task_count, share.oldest_age_seconds});
        task_count += share.task_count;
        oldest_seconds = std::max(oldest_seconds, share.oldest_age_seconds);
    }
    const bool is_cut = task_count >= arguments.task_count_max;
    const std::vector<Halted> halted = halted_lanes(db);
    const std::set<std::string> publishers = halted_publishers(db);
    const std::map<std::string, int> dead = DeadTasks(connection.session).counts();
    if (!arguments.as_json()) {
        print_text(task_count, is_cut, oldest_seconds, shares);
        print_dead(dead);
        print_halted(publishers, halted);
        return 0;
    }
    Table lanes({"lane", "reason", "then"});
    for (const Halted& lane : halted) lanes.add({lane.lane, lane.reason, lane.then});
    print_json(std::cout, {{"tasks", task_count},
                           {"is_cut", is_cut},
                           {"oldest_s", oldest_seconds},
                           {"shares", shares.as_json()},
                           {"dead", dead},
                           {"halted_publishers", publishers},
                           {"halted_lanes", lanes.as_json()}});
    return 0;
}

}  // namespace

void add_outbox(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Operate", "outbox", "what waits, what could not be published");
    CLI::App* status =
        add_verb(*noun,
                 {.name = "status",
                  .summary = "the backlog by lane and topic, what is set aside or halted",
                  .example = "millrace outbox status --limit 10000"},
                 choice, outbox_status);
    add_output(*status, choice);
    status->add_option("--limit", choice.arguments.task_count_max, "tasks to look at")
        ->check(CLI::Range(1, 10'000'000))
        ->capture_default_str();
    add_dead_tasks(*noun, choice);
}

}  // namespace millrace
