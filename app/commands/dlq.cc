#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "app/command.h"
#include "app/letter_text.h"
#include "app/options.h"
#include "app/redriver.h"
#include "app/table.h"
#include "core/pg/session.h"
#include "relay/operator.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPage = 500;
constexpr int64_t kListed = 100;
constexpr std::chrono::seconds kProgressEvery{2};
constexpr size_t kErrorWidth = 60;

std::string cut(std::string text, size_t width) {
    if (text.size() <= width) return text;
    // Not inside of a character.
    while (width > 0 && (static_cast<unsigned char>(text[width]) & 0xC0) == 0x80) --width;
    return text.substr(0, width) + "...";
}

int64_t limit_of(const Arguments& arguments, int64_t otherwise) {
    return arguments.letter_count_max > 0 ? arguments.letter_count_max : otherwise;
}

int list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    Table table({"id", "projection", "record", "type", "key", "cause", "since", "redrives",
                 "parked", "error"});
    for (const LetterLine& letter :
         store.list(arguments.letters, 0, limit_of(arguments, kListed))) {
        const std::string cause =
            cause_text(letter) + (letter.is_quarantined ? " (quarantined)" : "");
        const std::string error =
            arguments.as_json() ? letter.error : cut(letter.error, kErrorWidth);
        table.add({letter.id, letter.projection.name, letter.origin(), letter.event_type,
                   shown_bytes(letter.key), cause, letter.since, letter.redrive_count,
                   letter.parked_count, error});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
        return 0;
    }
    table.print(std::cout);
    const int64_t count = store.count(arguments.letters);
    const auto shown = static_cast<int64_t>(table.row_count());
    if (count > shown) {
        std::cout << "\n" << with_commas(shown) << " of " << with_commas(count)
                  << " are shown; --limit shows more, 'millrace dlq summary' groups them\n";
    }
    return 0;
}

int summary(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    Table table({"projection", "reason", "sqlstate", "constraint", "type", "letters",
                 "quarantined", "oldest", "example"});
    for (const LetterGroup& group : store.summary(arguments.letters)) {
        table.add({group.projection, group.reason, cell_of(group.sqlstate),
                   cell_of(group.constraint), group.event_type, group.letter_count,
                   group.quarantined_count, group.oldest, group.example_id});
    }
    Table open({"projection", "letters", "parked_keys", "parked_events", "oldest_s"});
    for (const OpenLetters& projection : store.open()) {
        if (projection.letter_count == 0 && projection.parked_event_count == 0) continue;
        open.add({projection.projection, projection.letter_count, projection.parked_key_count,
                  projection.parked_event_count,
                  static_cast<int64_t>(projection.oldest_seconds)});
    }
    if (arguments.as_json()) {
        print_json(std::cout, {{"groups", table.as_json()}, {"open", open.as_json()}});
        return 0;
    }
    if (table.row_count() == 0) {
        std::cout << "no dead letters\n";
    } else {
        table.print(std::cout);
        std::cout << "\nan example in full: millrace dlq show ID\n";
    }
    if (open.row_count() > 0) {
        std::cout << "\nall that is open:\n";
        open.print(std::cout);
    }
    return 0;
}

void print_letter(const LetterLine& letter, const StoredRecord& record) {
    const auto line = [](const std::string& name, const std::string& value) {
        std::string padded = name;
        padded.resize(12, ' ');
        std::cout << padded << value << "\n";
    };
    line("letter", std::to_string(letter.id) + (letter.is_quarantined ? ", quarantined" : ""));
    line("projection",
         letter.projection.name + " version " + std::to_string(letter.projection.version));
    line("record", letter.origin());
    line("type", letter.event_type);
    line("key", shown_bytes(record.key));
    line("cause", cause_text(letter) + ", class " + letter.failure_class);
    line("error", letter.error);
    line("statement", letter.statement.value_or("none was run"));
    line("attempts", std::to_string(letter.attempt_count) + ", of them re-drives " +
                         std::to_string(letter.redrive_count));
    line("since", letter.since);
    line("behind it", with_commas(letter.parked_count) + " events of its key wait");
    std::cout << "\nheaders\n";
    for (const RawHeader& header : record.headers) {
        std::cout << "  " << shown_bytes(header.name) << ": " << shown_bytes(header.value) << "\n";
    }
    std::cout << "\nvalue\n  " << shown_bytes(record.value) << "\n\nwhat to do\n  "
              << advice_for(letter) << "\n";
}

int show(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    LetterFilter filter;
    filter.ids = {arguments.letter_id};
    const std::vector<LetterLine> found = store.list(filter, 0, 1);
    const std::optional<StoredRecord> record = store.record(arguments.letter_id);
    if (found.empty() || !record) {
        throw fatal("no_such_letter", "there is no dead letter " +
                                          std::to_string(arguments.letter_id) +
                                          ": it was applied, discarded or never there")
            .with_exit_code(kExitUsage);
    }
    if (arguments.as_json()) {
        nlohmann::ordered_json all = letter_json(found.front(), *record);
        all["advice"] = advice_for(found.front());
        print_json(std::cout, all);
    } else {
        print_letter(found.front(), *record);
    }
    return 0;
}

// One line of JSON a letter, to be kept elsewhere.
int export_letters(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    int64_t after = 0;
    for (int64_t left = limit_of(arguments, INT64_MAX); left > 0;) {
        const std::vector<LetterLine> page =
            store.list(arguments.letters, after, std::min(left, kPage));
        if (page.empty()) break;
        for (const LetterLine& letter : page) {
            const std::optional<StoredRecord> record = store.record(letter.id);
            if (record) print_json_line(std::cout, letter_json(letter, *record));
        }
        after = page.back().id;
        left -= static_cast<int64_t>(page.size());
    }
    return 0;
}

// What `redrive` tells while it works, and at its end.
class Report {
  public:
    Report(const Arguments& arguments, int64_t total)
        : is_json_(arguments.as_json()), is_dry_run_(arguments.is_dry_run), total_(total) {}

    void add(const std::vector<LetterLine>& page, const std::vector<Redriven>& done) {
        for (const Redriven& redriven : done) {
            const auto letter =
                std::find_if(page.begin(), page.end(),
                             [&](const LetterLine& line) { return line.id == redriven.id; });
            if (letter != page.end()) add(*letter, redriven);
        }
        tell_progress();
    }
    void add_key(const ParkedKey& key, int64_t count) {
        parked_ += count;
        if (is_json_) {
            print_json_line(std::cout, {{"projection", key.projection.name},
                                        {"key", shown_bytes(key.key)},
                                        {"outcome", "finished"},
                                        {"parked_applied", count}});
        } else {
            std::cout << "key " << shown_bytes(key.key) << " of " << key.projection.name << ": "
                      << with_commas(count) << " events that waited are applied\n";
        }
    }
    std::string text() const {
        std::string text = with_commas(counts_.count("applied") ? counts_.at("applied") : 0) +
                           " applied, " +
                           with_commas(counts_.count("failed") ? counts_.at("failed") : 0) +
                           " failed again, " +
                           with_commas(counts_.count("skipped") ? counts_.at("skipped") : 0) +
                           " skipped; " + with_commas(parked_) + " events behind them applied";
        return is_dry_run_ ? text + " (dry run: all of it is rolled back)" : text;
    }
    void print_end() const {
        if (is_json_) {
            nlohmann::ordered_json causes;
            for (const auto& [cause, count] : causes_) causes[cause] = count;
            print_json_line(std::cout, {{"outcome", "end"},
                                        {"dry_run", is_dry_run_},
                                        {"counts", counts_},
                                        {"parked_applied", parked_},
                                        {"causes", causes}});
            return;
        }
        std::cout << "\n" << text() << "\n";
        for (const auto& [cause, count] : causes_) {
            std::cout << "  " << with_commas(count) << "  " << cause << "\n";
        }
    }
    bool has_failures() const { return counts_.contains("failed"); }

  private:
    void add(const LetterLine& letter, const Redriven& redriven) {
        const std::string outcome(name_of(redriven.outcome));
        ++counts_[outcome];
        ++done_;
        parked_ += redriven.parked_count;
        if (!redriven.why.empty()) ++causes_[redriven.why.substr(0, redriven.why.find(':'))];
        if (is_json_) {
            print_json_line(std::cout, {{"id", letter.id},
                                        {"projection", letter.projection.name},
                                        {"record", letter.origin()},
                                        {"outcome", outcome},
                                        {"why", redriven.why},
                                        {"parked_applied", redriven.parked_count}});
            return;
        }
        std::cout << "letter " << letter.id << " " << letter.projection.name << " "
                  << letter.origin() << ": " << outcome;
        if (!redriven.why.empty()) std::cout << ": " << redriven.why;
        if (redriven.parked_count > 0) {
            std::cout << ", and " << with_commas(redriven.parked_count) << " behind it";
        }
        std::cout << "\n";
    }
    void tell_progress() {
        const auto now = Clock::now();
        if (now - told_at_ < kProgressEvery) return;
        told_at_ = now;
        const double seconds = std::chrono::duration<double>(now - begin_).count();
        const double rate = static_cast<double>(done_) / seconds;
        std::cerr << with_commas(done_) << " of " << with_commas(total_) << " letters, "
                  << with_commas(static_cast<int64_t>(rate)) << "/s";
        if (rate > 0 && total_ > done_) {
            std::cerr << ", about "
                      << with_commas(static_cast<int64_t>(static_cast<double>(total_ - done_) /
                                                          rate) +
                                     1)
                      << " s left";
        }
        std::cerr << std::endl;
    }

    const bool is_json_;
    const bool is_dry_run_;
    const int64_t total_;
    const Clock::time_point begin_ = Clock::now();
    Clock::time_point told_at_ = begin_;
    std::map<std::string, int64_t> counts_;  // By outcome.
    std::map<std::string, int64_t> causes_;
    int64_t parked_ = 0;
    int64_t done_ = 0;
};

RedriverOptions redriver_options(const Arguments& arguments) {
    return {.filter = arguments.letters,
            .letter_count_max = arguments.letter_count_max,
            .letters_per_second = arguments.letters_per_second,
            .is_dry_run = arguments.is_dry_run,
            .is_out_of_order = arguments.is_out_of_order,
            .redrive_count_max = arguments.redrive_count_max};
}

std::string filter_text(const LetterFilter& filter) {
    std::string text;
    const auto add = [&text](const std::string& name, const std::optional<std::string>& value) {
        if (value) text += (text.empty() ? "" : " ") + name + "=" + *value;
    };
    add("projection", filter.projection);
    for (const int64_t id : filter.ids) add("id", std::to_string(id));
    add("class", filter.failure_class);
    add("reason", filter.reason);
    add("sqlstate", filter.sqlstate);
    add("constraint", filter.constraint);
    add("key", filter.key);
    add("type", filter.type);
    add("since", filter.since);
    add("until", filter.until);
    return text.empty() ? "all letters" : text;
}

int redrive(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    int64_t total = store.count(arguments.letters);
    if (arguments.letter_count_max > 0) total = std::min(total, arguments.letter_count_max);
    Report report(arguments, total);
    Redriver redriver(config, connection.installation, redriver_options(arguments));
    redriver.run([&](const auto& page, const auto& done) { report.add(page, done); },
                 [&](const ParkedKey& key, int64_t count) { report.add_key(key, count); });
    report.print_end();
    if (!arguments.is_dry_run) {
        // On a session of its own: the first one may have been lost in an outage meanwhile.
        pg::Session session(session_options(config));
        Operator(session).record_act("dlq redrive",
                                     filter_text(arguments.letters) + ": " + report.text(),
                                     arguments.reason);
    }
    return report.has_failures() ? kExitFailed : 0;
}

// One letter, whoever holds its partition; false if it is gone.
bool discard_one(pg::Session& session, const LetterLine& letter, const std::string& reason) {
    LetterStore store(session);
    pg::Transaction transaction(session);
    store.lock_position(letter.projection, letter.where);
    const std::optional<StoredRecord> record = store.record(letter.id);
    if (!record) return false;
    store.remove(letter.projection, letter.where, {*record});
    if (letter.parks) store.free_keys(letter.projection, letter.where, {*letter.key});
    Operator(session).record_act(
        "dlq discard",
        "letter " + std::to_string(letter.id) + " of " + letter.projection.name + " version " +
            std::to_string(letter.projection.version) + ": " + letter.origin() + " " +
            letter.event_type + " key " + shown_bytes(letter.key) + ", " + cause_text(letter),
        reason);
    transaction.commit();
    return true;
}

int discard(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    if (filter_text(arguments.letters) == "all letters") {
        throw fatal("usage", "say which letters: --id, --projection or another filter")
            .with_exit_code(kExitUsage);
    }
    Connection connection(config);
    LetterStore store(connection.session);
    std::set<std::string> projections;
    int64_t after = 0;
    int64_t count = 0;
    for (int64_t left = limit_of(arguments, INT64_MAX); left > 0;) {
        const std::vector<LetterLine> page =
            store.list(arguments.letters, after, std::min(left, kPage));
        if (page.empty()) break;
        for (const LetterLine& letter : page) {
            const bool is_done = discard_one(connection.session, letter, arguments.reason);
            if (is_done) ++count;
            projections.insert(letter.projection.name);
            std::cout << "letter " << letter.id << " " << letter.projection.name << " "
                      << letter.origin() << ": " << (is_done ? "discarded" : "gone already")
                      << "\n";
        }
        after = page.back().id;
        left -= static_cast<int64_t>(page.size());
    }
    std::cout << "\n" << with_commas(count) << " discarded\n";
    // What waited behind them goes on.
    Report report(arguments, 0);
    Redriver(config, connection.installation, redriver_options(arguments))
        .finish_keys({projections.begin(), projections.end()},
                     [&](const ParkedKey& key, int64_t done) { report.add_key(key, done); });
    return 0;
}

void add_filter(CLI::App& verb, Choice& choice) {
    LetterFilter& filter = choice.arguments.letters;
    CLI::Option_group* which = verb.add_option_group("Which letters");
    which->add_option("--projection", filter.projection, "of this projection");
    which->add_option("--id", filter.ids, "these, by number");
    which->add_option("--class", filter.failure_class, "record or overload");
    which->add_option("--reason-is", filter.reason, "such as unparsable_event or pg_record");
    which->add_option("--sqlstate", filter.sqlstate, "such as 23514");
    which->add_option("--constraint", filter.constraint, "of this constraint");
    which->add_option("--key", filter.key, "of this key");
    which->add_option("--type", filter.type, "of this event type");
    which->add_option("--since", filter.since, "set aside at this time or later");
    which->add_option("--until", filter.until, "set aside before this time");
    verb.add_option("--limit", choice.arguments.letter_count_max, "so many at most")
        ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000}));
}

CLI::App* add_listing(CLI::App& noun, Choice& choice, const VerbText& text, Verb verb) {
    CLI::App* added = add_verb(noun, text, choice, std::move(verb));
    add_filter(*added, choice);
    return added;
}

void add_redrive(CLI::App& noun, Choice& choice) {
    CLI::App* verb = add_listing(
        noun, choice,
        {.name = "redrive",
         .summary = "run letters through their projection again, each key in order",
         .example = "millrace dlq redrive --projection orders --sqlstate 23503 --dry-run"},
        redrive);
    add_output(*verb, choice);
    Arguments& arguments = choice.arguments;
    verb->add_flag("--dry-run", arguments.is_dry_run, "execute, tell what would come of it, undo");
    verb->add_option("--rate", arguments.letters_per_second, "letters a second, at most")
        ->check(CLI::PositiveNumber);
    verb->add_option("--max-redrives", arguments.redrive_count_max,
                     "a letter that fails so often is quarantined: run only when named by --id")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    verb->add_flag("--out-of-order", arguments.is_out_of_order,
                   "also letters whose key's later events were applied");
    add_reason(*verb, choice);
}

}  // namespace

void add_dlq(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Operate", "dlq", "dead letters: look, run again, discard");
    add_output(*add_listing(*noun, choice,
                            {.name = "list",
                             .summary = "each letter, its cause and what waits behind it",
                             .example = "millrace dlq list --projection orders --limit 20"},
                            list),
               choice);
    add_output(*add_listing(*noun, choice,
                            {.name = "summary",
                             .summary = "letters by cause and event type",
                             .example = "millrace dlq summary"},
                            summary),
               choice);
    CLI::App* shown = add_verb(*noun,
                               {.name = "show",
                                .summary = "one letter in full, and what to do about it",
                                .example = "millrace dlq show 17"},
                               choice, show);
    shown->add_option("ID", choice.arguments.letter_id, "its number")->required();
    add_output(*shown, choice);
    add_redrive(*noun, choice);
    CLI::App* discarded = add_listing(
        *noun, choice,
        {.name = "discard",
         .summary = "give letters up; what waits behind them goes on",
         .example = "millrace dlq discard --id 17 --reason 'test order of 3 March'"},
        discard);
    add_reason(*discarded, choice)->required();
    add_listing(*noun, choice,
                {.name = "export",
                 .summary = "letters as lines of JSON, with key, value and headers",
                 .example = "millrace dlq export --projection orders > letters.jsonl"},
                export_letters);
}

}  // namespace millrace
