#include <algorithm>
#include <exception>
#include <iostream>

#include "app/command.h"
#include "app/letter_mask.h"
#include "app/letter_text.h"
#include "app/options.h"
#include "app/redrive_report.h"
#include "app/redriver.h"
#include "app/table.h"
#include "core/nearest_name.h"
#include "core/pg/session.h"
#include "projections/calendar.h"
#include "projections/catalog.h"
#include "relay/operator.h"

namespace millrace {

namespace {

constexpr int64_t kListed = 100;
constexpr size_t kErrorWidth = 60;
constexpr size_t kKeyWidth = 30;

Failure no_such_letter(int64_t id) {
    return fatal("no_such_letter", "there is no dead letter " + std::to_string(id) +
                                       ": it was applied, discarded or never there")
        .with_exit_code(kExitUsage);
}

std::string cut(std::string text, size_t width) {
    if (text.size() <= width) return text;
    // Not inside of a character.
    while (width > 0 && (static_cast<unsigned char>(text[width]) & 0xC0) == 0x80) --width;
    return text.substr(0, width) + "...";
}

int64_t limit_of(const Arguments& arguments, int64_t otherwise) {
    return arguments.redrive.letter_count_max > 0 ? arguments.redrive.letter_count_max : otherwise;
}

// A name that is mistyped must not look as if there were nothing to do.
void check_names(pg::Session& session, const LetterFilter& filter) {
    if (filter.projection) {
        bool is_known = false;
        std::vector<std::string_view> names;
        const std::vector<CatalogEntry> entries = list_projections(session);
        for (const CatalogEntry& entry : entries) {
            is_known = is_known || entry.name == *filter.projection;
            names.push_back(entry.name);
        }
        if (!is_known) {
            throw fatal("no_such_projection",
                        "there is no projection '" + *filter.projection + "'" +
                            suggestion_for(*filter.projection, names))
                .with_exit_code(kExitUsage);
        }
    }
    for (const int64_t id : filter.ids) {
        if (!LetterStore(session).record(id)) throw no_such_letter(id);
    }
}

// Behind "no dead letter".
std::string none_of(LetterStore& store, const Arguments& arguments) {
    const int64_t open = store.count({}).letter_count;
    if (open == 0 || arguments.redrive.filter.text().empty()) return " is open";
    return " matches; " + with_commas(open) + (open == 1 ? " is open" : " are open");
}

int list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    check_names(connection.session, arguments.redrive.filter);
    LetterStore store(connection.session);
    Table table({"id", "projection", "record", "type", "key", "cause", "since", "redrives",
                 "parked", "error"});
    const LetterMask mask(connection.session, /*is_raw=*/false);
    for (LetterLine& letter :
         store.list(arguments.redrive.filter, 0, limit_of(arguments, kListed))) {
        mask.apply(letter);
        const std::string cause =
            cause_text(letter) + (letter.is_quarantined ? " (quarantined)" : "");
        const std::string error =
            arguments.as_json() ? letter.error : cut(shown_text(letter.error), kErrorWidth);
        const Table::Cell key = arguments.as_json() ? Table::Cell(bytes_json(letter.key))
                                                    : Table::Cell(cut(shown_bytes(letter.key),
                                                                      kKeyWidth));
        table.add({letter.id, letter.projection.name, letter.origin(), letter.event_type, key,
                   cause, letter.since, letter.redrive_count, letter.parked_count, error});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
        return 0;
    }
    if (table.row_count() == 0) {
        std::cout << "no dead letter" << none_of(store, arguments) << "\n";
        return 0;
    }
    table.print(std::cout);
    const int64_t count = store.count(arguments.redrive.filter).letter_count;
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
    check_names(connection.session, arguments.redrive.filter);
    LetterStore store(connection.session);
    Table table({"projection", "reason", "sqlstate", "constraint", "type", "letters",
                 "quarantined", "oldest", "example"});
    for (const LetterGroup& group : store.summary(arguments.redrive.filter)) {
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
        std::cout << "no dead letter" << none_of(store, arguments) << "\n";
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
    line("error", shown_text(letter.error));
    line("statement", letter.statement.value_or("none was run"));
    line("attempts", std::to_string(letter.attempt_count) + ", " +
                         std::to_string(letter.redrive_count) + " of them re-drives");
    line("since", letter.since);
    line("behind it", with_commas(letter.parked_count) + " events of its key wait");
    std::cout << "\nheaders\n";
    for (const RawHeader& header : record.headers) {
        std::cout << "  " << shown_bytes(header.name) << ": " << shown_bytes(header.value) << "\n";
    }
    std::cout << "\nvalue\n  " << shown_bytes(record.value) << "\n\nwhat to do\n  "
              << advice_for(letter) << "\n";
}

std::string filter_text(const Arguments& arguments) {
    const std::string text = arguments.redrive.filter.text();
    return text.empty() ? "all letters" : text;
}

// Who sees what is masked is on record.
LetterMask mask_of(pg::Session& session, const Arguments& arguments, const std::string& verb,
                   const std::string& object) {
    if (arguments.shows_masked) Operator(session).record_act(verb, object, arguments.reason);
    return {session, arguments.shows_masked};
}

int show(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    LetterStore store(connection.session);
    LetterFilter filter;
    filter.ids = {arguments.letter_id};
    std::vector<LetterLine> found = store.list(filter, 0, 1);
    std::optional<StoredRecord> record = store.record(arguments.letter_id);
    if (found.empty() || !record) {
        throw no_such_letter(arguments.letter_id);
    }
    const LetterMask mask = mask_of(connection.session, arguments, "dlq show --raw",
                                    "letter " + std::to_string(arguments.letter_id));
    mask.apply(found.front());
    mask.apply(found.front().projection, *record);
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
    check_names(connection.session, arguments.redrive.filter);
    LetterStore store(connection.session);
    const LetterMask mask =
        mask_of(connection.session, arguments, "dlq export --raw", filter_text(arguments));
    const auto print = [&](const std::vector<LetterLine>& page) {
        for (LetterLine letter : page) {
            std::optional<StoredRecord> record = store.record(letter.id);
            if (!record) continue;
            mask.apply(letter);
            mask.apply(letter.projection, *record);
            print_json_line(std::cout, letter_json(letter, *record));
        }
    };
    store.for_each_page(arguments.redrive.filter, limit_of(arguments, INT64_MAX), print);
    return 0;
}

int redrive(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    check_names(connection.session, arguments.redrive.filter);
    int64_t total = LetterStore(connection.session).count(arguments.redrive.filter).letter_count;
    total = std::min(total, limit_of(arguments, total));
    const LetterMask mask =
        mask_of(connection.session, arguments, "dlq redrive --raw", filter_text(arguments));
    RedriveReport report({.is_json = arguments.as_json(),
                          .is_dry_run = arguments.redrive.is_dry_run,
                          .total = total,
                          .mask = mask});
    Redriver redriver(config, connection.installation, arguments.redrive);
    // First: should it be killed, it is known who ran it.
    if (!arguments.redrive.is_dry_run) {
        Operator(connection.session)
            .record_act("dlq redrive", filter_text(arguments), arguments.reason);
    }
    std::exception_ptr ended_by;
    try {
        redriver.run([&](const auto& page, const auto& done) { report.add(page, done); },
                     [&](const ParkedKey& key, const Redriven& done) { report.add(key, done); });
    } catch (const Failure&) {
        // What is done stays done, and is told.
        ended_by = std::current_exception();
    }
    report.print_end();
    if (!arguments.redrive.is_dry_run) {
        // On a session of its own: the first one may have been lost in an outage meanwhile.
        pg::Session session(session_options(config));
        Operator(session).record_act("dlq redrive ended",
                                     filter_text(arguments) + ": " + report.text(),
                                     arguments.reason);
    }
    if (ended_by) std::rethrow_exception(ended_by);
    return report.has_failures() ? kExitFailed : 0;
}

// One letter, whoever holds its partition; false if it is gone.
bool discard_one(pg::Session& session, const LetterLine& letter, const std::string& reason) {
    LetterStore store(session);
    pg::Transaction transaction(session);
    lock_position(session, letter.projection, letter.where);
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
    if (arguments.redrive.filter.text().empty()) {
        throw fatal("no_filter", "say which letters: --id, --projection or another filter")
            .with_exit_code(kExitUsage);
    }
    Connection connection(config);
    check_names(connection.session, arguments.redrive.filter);
    LetterStore store(connection.session);
    int64_t count = 0;
    const auto discard_page = [&](const std::vector<LetterLine>& page) {
        for (const LetterLine& letter : page) {
            const bool is_done = discard_one(connection.session, letter, arguments.reason);
            if (is_done) ++count;
            std::cout << "letter " << letter.id << " " << letter.projection.name << " "
                      << letter.origin() << ": " << (is_done ? "discarded" : "gone already")
                      << "\n";
        }
    };
    store.for_each_page(arguments.redrive.filter, limit_of(arguments, INT64_MAX), discard_page);
    std::cout << "\n" << with_commas(count) << " discarded\n";
    // What waited behind them goes on.
    RedriveReport report({.mask = LetterMask(connection.session, /*is_raw=*/false)});
    Redriver(config, connection.installation, arguments.redrive)
        .finish_keys([&](const ParkedKey& key, const Redriven& done) { report.add(key, done); });
    return report.has_failures() ? kExitFailed : 0;
}

void add_filter(CLI::App& verb, Choice& choice) {
    LetterFilter& filter = choice.arguments.redrive.filter;
    CLI::Option_group* which = verb.add_option_group("Which letters");
    which->add_option("--projection", filter.projection, "of this projection");
    which->add_option("--id", filter.ids, "these, by number");
    which->add_option("--class", filter.failure_class, "of the error")
        ->check(CLI::IsMember({"record", "overload"}));
    which->add_option("--cause", filter.reason, "such as unparsable_event or pg_record");
    which->add_option("--sqlstate", filter.sqlstate, "such as 23514");
    which->add_option("--constraint", filter.constraint, "of this constraint");
    which->add_option("--key", filter.key, "of this key");
    which->add_option("--type", filter.type, "of this event type");
    const CLI::Validator is_time(
        [](const std::string& text) {
            return parse_rfc3339(text)
                       ? ""
                       : "'" + text + "' is no time; write it as 2026-03-01T12:00:00Z";
        },
        "TIME");
    which->add_option("--since", filter.since, "set aside at this time or later")->check(is_time);
    which->add_option("--until", filter.until, "set aside before this time")->check(is_time);
}

void add_limit(CLI::App& verb, Choice& choice, const std::string& help) {
    verb.add_option("--limit", choice.arguments.redrive.letter_count_max, help)
        ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000}));
}

void add_raw(CLI::App& verb, Choice& choice) {
    verb.add_flag("--raw", choice.arguments.shows_masked,
                  "also what the projection masks; it is recorded who saw it");
}

CLI::App* add_filtered(CLI::App& noun, Choice& choice, const VerbText& text, Verb verb) {
    CLI::App* added = add_verb(noun, text, choice, std::move(verb));
    add_filter(*added, choice);
    return added;
}

void add_redrive(CLI::App& noun, Choice& choice) {
    CLI::App* verb = add_filtered(
        noun, choice,
        {.name = "redrive",
         .summary = "run letters, all or those meant, through their projection again",
         .example = "millrace dlq redrive --projection orders --sqlstate 23503 --dry-run"},
        redrive);
    add_output(*verb, choice);
    add_raw(*verb, choice);
    RedriverOptions& options = choice.arguments.redrive;
    add_limit(*verb, choice, "so many letters at most");
    verb->add_flag("--dry-run", options.is_dry_run, "execute, tell what would come of it, undo");
    verb->add_option("--rate", options.letters_per_second, "letters a second, at most")
        ->check(CLI::Range(0.01, 1e6));
    verb->add_option("--max-redrives", options.redrive_count_max,
                     "a letter that failed so often is quarantined: run only when named by --id, "
                     "or under a greater number")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    verb->add_flag("--out-of-order", options.is_out_of_order,
                   "also letters whose key's later events were applied");
    add_reason(*verb, choice);
}

}  // namespace

void add_dlq(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Operate", "dlq", "dead letters: look, run again, discard");
    CLI::App* listed = add_filtered(*noun, choice,
                                    {.name = "list",
                                     .summary = "each letter, its cause and what waits behind it",
                                     .example = "millrace dlq list --projection orders --limit 20"},
                                    list);
    add_limit(*listed, choice, "so many letters at most; 100 if left out");
    add_output(*listed, choice);
    add_output(*add_filtered(*noun, choice,
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
    add_raw(*shown, choice);
    add_redrive(*noun, choice);
    CLI::App* discarded = add_filtered(
        *noun, choice,
        {.name = "discard",
         .summary = "give letters up; what waits behind them goes on",
         .example = "millrace dlq discard --id 17 --reason 'test order of 3 March'"},
        discard);
    add_limit(*discarded, choice, "so many letters at most");
    add_reason(*discarded, choice)->required();
    CLI::App* exported = add_filtered(
        *noun, choice,
        {.name = "export",
         .summary = "letters as lines of JSON, with key, value and headers",
         .example = "millrace dlq export --projection orders > letters.jsonl"},
        export_letters);
    add_limit(*exported, choice, "so many letters at most");
    add_raw(*exported, choice);
}

}  // namespace millrace
