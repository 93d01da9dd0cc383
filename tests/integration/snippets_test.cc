// What the README says to type, taken from its text and run as it stands there: by psql, and by the
// languages' own clients, as the role of an application.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>

#include "core/failure.h"
#include "relay/operator.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kWriting = "Writing to the outbox";

// The fenced blocks of one language below a heading of the second level.
std::vector<std::string> blocks(const std::string& heading, const std::string& fence) {
    std::ifstream file(fs::path(MILLRACE_SOURCE_FOLDER) / "README.md");
    std::string line;
    while (std::getline(file, line) && line != "## " + heading) continue;
    std::vector<std::string> found;
    while (std::getline(file, line) && !line.starts_with("## ")) {
        if (line != "```" + fence) continue;
        found.emplace_back();
        while (std::getline(file, line) && line != "```") found.back() += line + "\n";
    }
    return found;
}

// The variables by which every client finds the database.
std::map<std::string, std::string> environment_of(const Database& database) {
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
        PQconninfoParse(database.url().c_str(), nullptr), &PQconninfoFree);
    std::map<std::string, std::string> environment;
    for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
        if (option->val != nullptr && option->envvar != nullptr) {
            environment[option->envvar] = option->val;
        }
    }
    return environment;
}

Finished run_sql(const Database& database, const std::string& text) {
    return run_process({.program = "psql",
                        .arguments = {"--no-psqlrc", "--set=ON_ERROR_STOP=1",
                                      "--file=" + write_file("snippet.sql", text)},
                        .environment = environment_of(database),
                        .log_name = "psql"});
}

// Where `deploy/dev snippets` puts the clients of languages that CI does not run; empty without.
std::string clients_folder() {
    const char* folder = std::getenv("MILLRACE_SNIPPETS");
    return folder != nullptr ? folder : "";
}

struct Needed {
    fs::path path;
    std::string package;
};

// How a snippet of a language becomes a program. `failing` is put before `last`, which is where the
// snippet commits, or at the end if that is empty.
struct Language {
    std::string fence;
    std::string file;
    std::string before;
    std::string after;
    std::string last;
    std::string failing;
    std::vector<std::string> command;
    std::vector<Needed> needed;
};

void PrintTo(const Language& language, std::ostream* out) {
    *out << language.fence;
}

Language sql() {
    return {.fence = "sql",
            .file = "snippet.sql",
            .before = "",
            .after = "",
            .last = "COMMIT;",
            .failing = "DO $$BEGIN RAISE 'before the commit'; END$$;\n",
            .command = {"psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file=snippet.sql"},
            .needed = {{"/usr/bin/psql", "postgresql-client"}}};
}

Language python() {
    return {.fence = "python",
            .file = "snippet.py",
            .before =
                "import json\n"
                "import psycopg\n"
                "url = ''\n"
                "order_id = 'o-4711'\n",
            .after = "",
            .last = "",
            .failing = "    raise RuntimeError('before the commit')\n",
            .command = {"/usr/bin/python3", "snippet.py"},
            .needed = {{"/usr/bin/python3", "python3"},
                       {"/usr/lib/python3/dist-packages/psycopg", "python3-psycopg"}}};
}

// Debian's JRE has the compiler that runs a source file.
Language java() {
    return {
        .fence = "java",
        .file = "Snippet.java",
        .before = R"(
import java.sql.*;
class Snippet {
    public static void main(String[] arguments) throws Exception {
        var dataSource = new org.postgresql.ds.PGSimpleDataSource();
        dataSource.setServerNames(new String[] {System.getenv("PGHOST")});
        dataSource.setPortNumbers(new int[] {Integer.parseInt(System.getenv("PGPORT"))});
        dataSource.setDatabaseName(System.getenv("PGDATABASE"));
        dataSource.setUser(System.getenv("PGUSER"));
        dataSource.setPassword(System.getenv("PGPASSWORD"));
        String orderId = "o-4711";
        String payload = "{\"order\": {\"id\": \"o-4711\"}}";
)",
        .after = "}}\n",
        .last = "connection.commit();",
        .failing = "if (true) throw new RuntimeException(\"before the commit\");\n",
        .command = {"/usr/bin/java", "--class-path=/usr/share/java/postgresql.jar", "Snippet.java"},
        .needed = {{"/usr/bin/java", "default-jre-headless"},
                   {"/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java"}}};
}

Language javascript() {
    return {.fence = "javascript",
            .file = "snippet.mjs",
            .before =
                "import pg from 'pg';\n"
                "const pool = new pg.Pool();\n"
                "const orderId = 'o-4711';\n",
            .after = "await pool.end();\n",
            .last = "await client.query(\"COMMIT\");",
            .failing = "throw new Error('before the commit');\n",
            .command = {"node", "snippet.mjs"},
            .needed = {{clients_folder() + "/node_modules/pg", "deploy/dev snippets"}}};
}

Language go() {
    return {.fence = "go",
            .file = "snippet.go",
            .before = R"(package main
import ("context"; "fmt"; "os"; "github.com/jackc/pgx/v5"; "github.com/jackc/pgx/v5/pgxpool")
func main() {
    ctx := context.Background()
    pool, err := pgxpool.New(ctx, "")
    if err == nil { err = pay(ctx, pool, "o-4711", `{"order": {"id": "o-4711"}}`) }
    if err != nil { fmt.Println(err); os.Exit(1) }
}
func pay(ctx context.Context, pool *pgxpool.Pool, orderID, payload string) error {
)",
            .after = "return err\n}\n",
            .last = "    return err\n})",
            .failing = "    if err == nil { err = fmt.Errorf(\"before the commit\") }\n",
            .command = {"go", "run", "snippet.go"},
            .needed = {{clients_folder() + "/go.sum", "deploy/dev snippets"}}};
}

std::vector<Language> languages() {
    if (clients_folder().empty()) return {sql(), python(), java()};
    return {sql(), python(), java(), javascript(), go()};
}

// The program around the language's last snippet; for SQL the one before that grants the role.
std::string program_of(const Language& language) {
    return language.before + blocks(kWriting, language.fence).back() + language.after;
}

std::string failing_program_of(const Language& language) {
    std::string snippet = blocks(kWriting, language.fence).back();
    const size_t commit = language.last.empty() ? snippet.size() : snippet.rfind(language.last);
    if (commit == std::string::npos) throw std::runtime_error("no line " + language.last);
    return language.before + snippet.insert(commit, language.failing) + language.after;
}

// A role of the server that lives as long as this.
class Role {
  public:
    explicit Role(const std::string& url) : url_(url), name_(fresh_name("shop")) {
        session().execute("CREATE ROLE \"" + name_ + "\" LOGIN PASSWORD 'secret'");
    }
    ~Role() {
        try {
            session().execute("DROP ROLE \"" + name_ + "\"");
        } catch (const Failure& failure) {
            std::cerr << "role " << name_ << " stays: " << failure.what() << '\n';
        }
    }
    Role(const Role&) = delete;
    Role& operator=(const Role&) = delete;

    const std::string& name() const { return name_; }

  private:
    pg::Session session() const { return pg::Session({.url = url_}); }

    std::string url_;
    std::string name_;
};

class Snippets : public testing::TestWithParam<Language> {
  protected:
    void SetUp() override {
        for (const Needed& needed : GetParam().needed) {
            ASSERT_TRUE(fs::exists(needed.path))
                << needed.path << " is missing; needs: " << needed.package;
        }
        session_.run_script(
            "CREATE SCHEMA shop;"
            "CREATE TABLE shop.orders (order_id text PRIMARY KEY, status text NOT NULL);"
            "INSERT INTO shop.orders VALUES ('o-4710', 'placed'), ('o-4711', 'placed');"
            "GRANT USAGE ON SCHEMA shop TO \"" +
            role_.name() +
            "\";"
            "GRANT SELECT, UPDATE ON shop.orders TO \"" +
            role_.name() + "\"");
    }

    // The README's own statement; its role is called otherwise, since roles belong to the server.
    void grant() {
        std::string statement = blocks(kWriting, "sql").front();
        const std::string role = "TO shop;";
        ASSERT_THAT(statement, HasSubstr(role));
        statement.replace(statement.find(role), role.size(), "TO \"" + role_.name() + "\";");
        session_.run_script(statement);
    }

    Finished run(const std::string& program) {
        const Language& language = GetParam();
        const Folder folder(clients_folder().empty() ? fs::temp_directory_path()
                                                     : fs::path(clients_folder()));
        folder.write(language.file, program);
        std::map<std::string, std::string> environment = environment_of(database_);
        environment["PGUSER"] = role_.name();
        environment["PGPASSWORD"] = "secret";
        std::vector<std::string> arguments{"--chdir=" + folder.path().string()};
        arguments.insert(arguments.end(), language.command.begin(), language.command.end());
        return run_process({.program = "env",
                            .arguments = arguments,
                            .environment = environment,
                            .log_name = language.fence});
    }

    std::string text(const std::string& sql) { return database_.connect().execute(sql).text(0, 0); }

    std::string orders() {
        return text(
            "SELECT string_agg(order_id || ' ' || status, ', ' ORDER BY order_id) "
            "FROM shop.orders");
    }

    std::string tasks() {
        return text(
            "SELECT coalesce(string_agg(concat_ws(' ', topic, key, task_type, "
            "payload::jsonb), ', '), '') FROM millrace.pending_tasks");
    }

    // Destroyed after the database, in which the role has rights.
    Role role_{std::getenv("MILLRACE_TEST_PG")};
    Database database_;
    pg::Session session_ = database_.connect();
};

TEST_P(Snippets, CommitTheOrderAndItsTask) {
    grant();

    const Finished finished = run(program_of(GetParam()));

    ASSERT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_EQ(orders(), "o-4710 placed, o-4711 paid");
    EXPECT_EQ(tasks(), R"(shop.orders o-4711 OrderPaid {"order": {"id": "o-4711"}})");
}

TEST_P(Snippets, CommitNeitherAfterAFailureBeforeTheCommit) {
    grant();

    const Finished finished = run(failing_program_of(GetParam()));

    EXPECT_NE(finished.exit_code, 0);
    EXPECT_THAT(finished.output, HasSubstr("before the commit"));
    EXPECT_EQ(orders(), "o-4710 placed, o-4711 placed");
    EXPECT_EQ(tasks(), "");
}

TEST_P(Snippets, CommitNeitherWithoutTheGrant) {
    const Finished finished = run(program_of(GetParam()));

    EXPECT_NE(finished.exit_code, 0);
    EXPECT_THAT(finished.output, HasSubstr("permission denied for schema millrace"));
    EXPECT_EQ(orders(), "o-4710 placed, o-4711 placed");
    EXPECT_EQ(tasks(), "");
}

INSTANTIATE_TEST_SUITE_P(Readme, Snippets, testing::ValuesIn(languages()),
                         [](const auto& language) { return language.param.fence; });

// The block that frees a halted lane of its task. Lane 9 and task 4711 are the README's.
class DeletedTask : public testing::Test {
  protected:
    void SetUp() override {
        session_.execute("ALTER SEQUENCE millrace.pending_tasks_id_seq RESTART WITH 4711");
        key_ = installed_.text(
            "SELECT 'o-' || n FROM generate_series(1, 1000) AS n "
            "WHERE millrace.lane_of('o-' || n, gen_random_uuid()) = 9 LIMIT 1");
    }

    void insert(const std::string& type, const std::string& age) {
        session_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, created_at) "
            "VALUES ($1, $2, $3, now() - $4::interval)",
            pg::Params().text(installed_.topic).text(key_).text(type).text(age));
    }

    std::string lanes(const std::vector<std::string>& verb) {
        std::vector<std::string> arguments{"lanes"};
        arguments.insert(arguments.end(), verb.begin(), verb.end());
        arguments.insert(arguments.end(), {"--config", config_});
        const Finished finished = run_program(arguments);
        EXPECT_EQ(finished.exit_code, 0) << finished.output;
        return finished.output;
    }

    Finished run_block() {
        return run_sql(installed_.database, blocks("When something is wrong", "sql").at(0));
    }

    Installed installed_;
    std::string config_ = write_file("millrace.yaml", installed_.config());
    pg::Session session_ = installed_.database.connect();
    std::string key_;
};

// PROTOCOL 2.6, lock_lane.
TEST_F(DeletedTask, LetsTheLaneGoOnWithTheTasksBehindIt) {
    // The broker refuses a record of the day after tomorrow.
    insert("Refused", "-2 days");
    insert("Behind", "0");
    RelayOptions options = installed_.relay_options();
    options.publisher.unpublishable.policy = OnUnpublishable::kHaltLane;
    RunningRelay relay(installed_, options);
    ASSERT_TRUE(eventually(60s, [&] { return !Operator(session_).halted().empty(); }));
    EXPECT_THAT(lanes({"list"}), HasSubstr("task_refused"));

    const Finished block = run_block();

    ASSERT_EQ(block.exit_code, 0) << block.output;
    EXPECT_THAT(block.output, HasSubstr("DELETE 1"));
    lanes({"resume", "9"});
    ASSERT_TRUE(eventually(20s, [&] { return installed_.pending_count() == 0; }));
    const std::vector<SeenRecord> records = read_topic(installed_.topic);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].headers.at("type"), "Behind");
    EXPECT_EQ(installed_.text("SELECT verb || '/' || object || '/' || reason "
                              "FROM millrace.operator_acts ORDER BY at LIMIT 1"),
              "delete task/task 4711/why");
}

// The projection of five minutes, on a topic of the test's.
class ReadmeProjection : public testing::Test {
  protected:
    ReadmeProjection() {
        const std::string off = "projections: {enabled: false}\n";
        std::string text = installed_.config();
        config_ = folder_.write("millrace.yaml", text.erase(text.find(off), off.size()));
    }

    std::string block(size_t number) const {
        std::string text = blocks("A projection in five minutes", "sql").at(number);
        const std::string topic = "shop.orders";
        if (const size_t at = text.find(topic); at != std::string::npos) {
            text.replace(at, topic.size(), installed_.topic);
        }
        return text;
    }

    std::string millrace(std::vector<std::string> arguments) const {
        arguments.insert(arguments.end(), {"--config", config_});
        const Finished finished = run_program(arguments);
        EXPECT_EQ(finished.exit_code, 0) << finished.output;
        return finished.output;
    }

    void run_sql_block(size_t number) const {
        const Finished finished = run_sql(installed_.database, block(number));
        ASSERT_EQ(finished.exit_code, 0) << finished.output;
    }

    bool is_filled() const {
        return eventually(40s, [&] {
            return installed_.text("SELECT coalesce(string_agg(customer_id || ' ' || cents, ', '), "
                                   "'') FROM read_models.revenue") == "c-1 700";
        });
    }

    Installed installed_;
    Folder folder_;
    std::string config_;
};

TEST_F(ReadmeProjection, FillsAndIsRemoved) {
    const std::string file = folder_.write("projections/revenue.sql", block(0));
    EXPECT_THAT(millrace({"validate"}), Not(HasSubstr("warning")));
    millrace({"migrate", "up"});
    {
        Process worker({.arguments = {"run", "--config", config_}, .environment = {}});
        run_sql_block(1);
        EXPECT_TRUE(is_filled()) << worker.log();
        worker.signal(SIGTERM);
        EXPECT_EQ(worker.wait(20s), 0) << worker.log();
    }

    fs::remove(file);
    EXPECT_THAT(millrace({"projection", "list"}), HasSubstr("orphan"));
    run_sql_block(2);
    EXPECT_THAT(millrace({"projection", "list"}), Not(HasSubstr("revenue")));

    folder_.write("projections/revenue.sql", block(0));
    EXPECT_THAT(millrace({"migrate", "up"}), HasSubstr("projection revenue version 1 made"));
}

TEST_F(ReadmeProjection, IsChangedByACopyWhoseTableHasAnotherNameToo) {
    folder_.write("projections/revenue.sql", block(0));
    millrace({"migrate", "up"});
    const std::string copy = folder_.write("projections/revenue_2.sql", block(0));
    const Finished refused = run_program({"migrate", "up", "--config", config_});
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_THAT(refused.output, HasSubstr("name_taken"));

    std::ofstream(copy) << std::regex_replace(block(0), std::regex(" revenue "), " revenue_2 ");
    millrace({"migrate", "up"});
    const Process worker({.arguments = {"run", "--config", config_}, .environment = {}});
    run_sql_block(1);

    EXPECT_TRUE(is_filled()) << worker.log();
    EXPECT_TRUE(eventually(40s, [&] {
        return installed_.number("SELECT coalesce(sum(cents), 0)::bigint "
                                 "FROM read_models.revenue_2") == 700;
    })) << worker.log();
}

TEST_F(ReadmeProjection, BeginsAnewWhenItsPositionIsGone) {
    folder_.write("projections/revenue.sql", block(0));
    millrace({"migrate", "up"});
    {
        Process worker({.arguments = {"run", "--config", config_}, .environment = {}});
        run_sql_block(1);
        ASSERT_TRUE(is_filled()) << worker.log();
    }
    installed_.execute("DELETE FROM millrace.positions");
    Process worker({.arguments = {"run", "--config", config_}, .environment = {}});
    ASSERT_TRUE(eventually(40s, [&] {
        return installed_.text("SELECT halted_reason FROM millrace.projections")
            .starts_with("position_missing");
    })) << worker.log();

    const Finished anew =
        run_sql(installed_.database, blocks("When something is wrong", "sql").at(1));
    ASSERT_EQ(anew.exit_code, 0) << anew.output;
    EXPECT_EQ(installed_.number("SELECT count(*) FROM read_models.revenue"), 0);
    millrace({"projection", "resume", "revenue"});
    EXPECT_TRUE(is_filled()) << worker.log();
}

}  // namespace
}  // namespace millrace::test
