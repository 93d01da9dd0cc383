#include <iostream>

#include "app/command.h"
#include "app/options.h"
#include "app/table.h"
#include "relay/ledger_check.h"
#include "relay/ledger_resume.h"
#include "relay/ledger_topic.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kReadLimit{15};

constexpr std::string_view kAdvice =
    "\nDatabase and ledger contradict each other: one of them was restored or lost. Say which to "
    "believe:\n"
    "  millrace ledger resume --trust-database --reason TEXT\n"
    "      what the database holds is published, also if it was published before; read models\n"
    "      apply it twice then\n"
    "  millrace ledger resume --trust-ledger --reason TEXT\n"
    "      tasks that the ledger names as published are deleted first\n"
    "  millrace ledger resume --scan --reason TEXT\n"
    "      tasks whose events stand in their topics are deleted first: for when the ledger no\n"
    "      longer knows all that is missing; reads the topics from the oldest waiting task on\n";

// What ends a halt of publishers.
std::string way_out(const std::string& halted) {
    if (halted == "ledger_format") return "run the newer millrace that wrote the record";
    if (halted == "ledger_corrupt") return "give the ledger up: ledger_corrupt in the README";
    return "millrace ledger resume --trust-database|--trust-ledger|--scan --reason TEXT";
}

int ledger_status(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    kafka::Reaper reaper;
    Connection connection(config);
    const Installation& installation = connection.installation;
    const kafka::ClientOptions options = kafka_options(config);
    check_ledger_topic(options, installation, reaper);
    LedgerReader ledger(options, installation.ledger_topic(), installation.id, reaper);
    Operator db(connection.session);

    Table table({"publisher", "epoch", "database_seq", "ledger_seq", "finding", "halted", "owner",
                 "then"});
    bool is_wrong = false;
    bool needs_resume = false;
    std::string unread;
    int unanswered_count = 0;
    const std::string topic_id = ledger_topic_id(ledger.raw(), installation);
    for (const LedgerComparison& found : compare_ledger(db, ledger, topic_id, kReadLimit)) {
        const PublisherReport& publisher = found.publisher;
        if (found.unread) {
            unread += "\npublisher " + std::to_string(publisher.number) + ": " +
                      found.unread->what() + "\n";
            if (found.unread->kind() == FailureKind::kTransient) ++unanswered_count;
        }
        const bool is_contradicting = is_contradiction(found.finding);
        needs_resume = needs_resume || is_contradicting ||
                       (publisher.halted && !is_unreadable(*publisher.halted));
        is_wrong = is_wrong || publisher.halted || is_contradicting ||
                   (found.unread && found.unread->kind() != FailureKind::kTransient);
        // A halt is the whole fleet's: publishers that never did anything would only fill the
        // screen.
        if (!found.is_used()) continue;
        Table::Cell then;
        if (publisher.halted) then = way_out(*publisher.halted);
        table.add({publisher.number, publisher.epoch, publisher.seq, cell_of(found.ledger_seq),
                   std::string(name_of(found.finding)), cell_of(publisher.halted),
                   cell_of(publisher.owner), then});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
    } else {
        table.print(std::cout);
        std::cout << unread;
        if (needs_resume) std::cout << kAdvice;
    }
    if (!is_wrong && unanswered_count > 0) {
        throw transient("ledger_unread", std::to_string(unanswered_count) +
                                             " partitions of the ledger could not be read in time");
    }
    return is_wrong ? kExitFoundWrong : 0;
}

int ledger_resume(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    kafka::Reaper reaper;
    Connection connection(config);
    const kafka::ClientOptions options = kafka_options(config);
    check_ledger_topic(options, connection.installation, reaper);
    LedgerResume resume(connection.session, options, connection.installation, reaper);
    const auto tell = [](const std::string& line) { std::cerr << line << std::endl; };
    for (const std::string& line : resume.run(*arguments.trust, arguments.reason, tell)) {
        std::cout << line << "\n";
    }
    return 0;
}

void add_resume(CLI::App& noun, Choice& choice) {
    CLI::App* verb = add_verb(
        noun,
        {.name = "resume",
         .summary = "end a halt of all publishers by saying which side to believe",
         .example = "millrace ledger resume --trust-ledger --reason 'restored to 09:00'"},
        choice, ledger_resume);
    CLI::Option_group* which = verb->add_option_group("Which side to believe");
    which->add_flag_callback(
        "--trust-database", [&choice] { choice.arguments.trust = Trust::kDatabase; },
        "publish what the database holds, also if it was published before");
    which->add_flag_callback(
        "--trust-ledger", [&choice] { choice.arguments.trust = Trust::kLedger; },
        "delete what the ledger names as published, then go on");
    which->add_flag_callback(
        "--scan", [&choice] { choice.arguments.trust = Trust::kTopics; },
        "delete what a scan of the topics finds published, then go on");
    which->require_option(1);
    add_reason(*verb, choice)->required();
}

}  // namespace

void add_ledger(CLI::App& root, Choice& choice) {
    CLI::App* noun = add_noun(root, "Operate", "ledger",
                              "does the ledger agree with the database; resume after a restore");
    add_output(*add_verb(*noun,
                         {.name = "status",
                          .summary = "each publisher's newest record against its row; exit code 3 "
                                     "if they contradict",
                          .example = "millrace ledger status"},
                         choice, ledger_status),
               choice);
    add_resume(*noun, choice);
}

}  // namespace millrace
