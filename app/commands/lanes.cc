#include <chrono>
#include <iostream>
#include <set>
#include <thread>

#include "app/command.h"
#include "app/table.h"
#include "relay/operator.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCountedMax = 100'000;
// A transaction of Kafka may keep the owner that long.
constexpr std::chrono::seconds kLetGoLimit{20};
constexpr std::chrono::milliseconds kLookEvery{50};

std::string state_of(const LaneReport& lane) {
    if (lane.halted) return "halted";
    if (lane.is_paused) return "paused";
    if (!lane.publisher) return "free";
    return lane.is_owner_live ? "owned" : "waits for a settle";
}

int lanes_list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    Table table({"lane", "state", "publisher", "owner", "tasks", "oldest_s", "reason", "then"});
    for (const LaneReport& lane : Operator(connection.session).lanes(kCountedMax)) {
        const std::string number = std::to_string(lane.lane);
        Table::Cell then;
        if (lane.halted) {
            then = "millrace lanes resume " + number;
        } else if (lane.is_paused) {
            then = "millrace lanes unpause " + number;
        }
        table.add({lane.lane, state_of(lane), cell_of(lane.publisher), cell_of(lane.owner),
                   lane.task_count, lane.oldest_age_seconds, cell_of(lane.halted), then});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
    } else {
        table.print(std::cout);
    }
    return 0;
}

std::vector<int16_t> chosen_lanes(const Arguments& arguments, const Installation& installation) {
    std::vector<int16_t> lanes = arguments.lanes;
    for (int lane = 0; arguments.all_lanes && lane < installation.lane_count; ++lane) {
        lanes.push_back(static_cast<int16_t>(lane));
    }
    for (const int16_t lane : lanes) {
        if (lane >= 0 && lane < installation.lane_count) continue;
        throw fatal("no_such_lane", "lane " + std::to_string(lane) +
                                        " does not exist: lanes are 0 to " +
                                        std::to_string(installation.lane_count - 1))
            .with_exit_code(kExitUsage);
    }
    return lanes;
}

struct Wording {
    LaneVerb verb;
    std::string_view changed;
    std::string_view unchanged;
};

// Returns the lanes that it changed.
std::set<int16_t> change(Operator& db, const Wording& wording, const std::vector<int16_t>& lanes,
                         const Arguments& arguments) {
    std::set<int16_t> changed;
    for (const int16_t lane : lanes) {
        if (db.change_lane(wording.verb, lane, arguments.reason)) {
            std::cout << "lane " << lane << ": " << wording.changed << "\n";
            changed.insert(lane);
        } else if (!arguments.all_lanes) {
            std::cout << "lane " << lane << ": " << wording.unchanged << "\n";
        }
    }
    return changed;
}

// Its owner lets a paused lane go between two transactions; a dead one's goes when it is settled.
int await_release(Operator& db, const std::set<int16_t>& lanes) {
    const auto deadline = Clock::now() + kLetGoLimit;
    bool has_said = false;
    for (;;) {
        std::string held;
        for (const LaneReport& lane : db.lanes(/*task_count_max=*/0)) {
            if (lanes.contains(lane.lane) && lane.publisher && lane.is_owner_live) {
                held += " " + std::to_string(lane.lane);
            }
        }
        if (held.empty()) return 0;
        if (Clock::now() >= deadline) {
            std::cout << "still held by their owner, which lets them go when its transaction ends:"
                      << held << "\n";
            return kExitFailed;
        }
        if (!has_said) std::cout << "waits until the owner has let them go ..." << std::endl;
        has_said = true;
        std::this_thread::sleep_for(kLookEvery);
    }
}

Verb verb_of(Wording wording) {
    return [wording](const Arguments& arguments, const Config& config) {
        prepare_verb(config);
        Connection connection(config);
        Operator db(connection.session);
        const std::set<int16_t> changed =
            change(db, wording, chosen_lanes(arguments, connection.installation), arguments);
        if (arguments.all_lanes && changed.empty()) std::cout << "nothing to change\n";
        if (wording.verb != LaneVerb::kPause) return 0;
        return await_release(db, changed);
    };
}

void add_change(CLI::App& noun, Choice& choice, const VerbText& text, const Wording& wording) {
    CLI::App* verb = add_verb(noun, text, choice, verb_of(wording));
    CLI::Option_group* which = verb->add_option_group("Which");
    which->add_option("LANE", choice.arguments.lanes, "numbers of lanes");
    which->add_flag("--all", choice.arguments.all_lanes, "every lane");
    which->require_option(1);
    add_reason(*verb, choice);
}

}  // namespace

void add_lanes(CLI::App& root, Choice& choice) {
    CLI::App* noun = add_noun(root, "Operate", "lanes",
                              "who owns what, how far behind; pause, resume a halted one");
    add_output(*add_verb(*noun,
                         {.name = "list",
                          .summary = "every lane, its owner, its backlog",
                          .example = "millrace lanes list --output json"},
                         choice, lanes_list),
               choice);
    add_change(*noun, choice,
               {.name = "pause",
                .summary = "publish nothing of these lanes until they are unpaused",
                .example = "millrace lanes pause 3 4 --reason 'consumer is being repaired'"},
               {LaneVerb::kPause, "paused", "was paused already"});
    add_change(*noun, choice,
               {.name = "unpause",
                .summary = "publish paused lanes again",
                .example = "millrace lanes unpause --all"},
               {LaneVerb::kUnpause, "goes on", "was not paused"});
    add_change(*noun, choice,
               {.name = "resume",
                .summary = "try halted lanes again, once the cause is mended",
                .example = "millrace lanes resume 9 --reason 'topic made'"},
               {LaneVerb::kResume, "resumed; the first relay with a free share takes it",
                "was not halted"});
}

}  // namespace millrace
