#include "tests/support/writers.h"

#include <chrono>

#include "core/failure.h"

namespace millrace::test {

namespace {

constexpr unsigned kKeyCount = 200;

constexpr std::string_view kSetUp = R"(
    CREATE TABLE IF NOT EXISTS public.aggregates (key text PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS public.truth (event_id uuid PRIMARY KEY, key text, n bigint))";

// What each shape inserts: the rows that take the key's numbers from $3 + 1 on.
constexpr std::string_view kRows = R"(
    SELECT gen_random_uuid() AS event_id, $2 AS key, $3::bigint + i AS n
    FROM generate_series(1, $4::int) i)";

constexpr std::string_view kColumns = "(event_id, topic, key, task_type, payload)";

std::string truth_too(const std::string& insert_rows) {
    return "WITH rows AS MATERIALIZED (" + std::string(kRows) + "), " +
           "known AS (INSERT INTO public.truth SELECT event_id, key, n FROM rows) " + insert_rows;
}

std::string select_rows() {
    return "SELECT event_id, $1::text, key, 'Counted', json_build_object('run', $5::text, 'n', n) "
           "FROM rows ORDER BY n";
}

std::string in_quotes(const std::string& text) { return "'" + text + "'"; }

}  // namespace

Writers::Writers(const Installed& installed, Load load)
    : url_(installed.database.url()),
      topic_(installed.topic),
      run_(installed.installation.name),
      load_(load) {
    pg::Session session({.url = url_, .settings = pg::common_settings()});
    session.run_script(std::string(kSetUp));
    session.execute("INSERT INTO public.aggregates SELECT 'k' || i, 0 FROM generate_series(0, " +
                    std::to_string(kKeyCount - 1) + ") i ON CONFLICT DO NOTHING");
    for (int i = 0; i < load_.thread_count; ++i) {
        threads_.emplace_back([this, i](std::stop_token stop) { write(std::move(stop), i); });
    }
}

Writers::~Writers() { stop(); }

void Writers::stop() {
    for (std::jthread& thread : threads_) thread.request_stop();
    threads_.clear();
}

Truth Writers::truth() const {
    pg::Session session({.url = url_, .settings = pg::common_settings()});
    const pg::Result rows = session.execute("SELECT event_id, key, n FROM public.truth");
    Truth truth{.run = run_, .tasks = {}};
    for (int i = 0; i < rows.row_count(); ++i) {
        truth.tasks.push_back({rows.uuid(i, 0).text(), rows.text(i, 1), rows.integer(i, 2)});
    }
    return truth;
}

void Writers::write(std::stop_token stop, int thread) {
    std::minstd_rand random(static_cast<unsigned>(thread) + 1);
    const std::chrono::duration<double> per_task(static_cast<double>(load_.thread_count) /
                                                 load_.tasks_per_second);
    auto due = std::chrono::steady_clock::now();
    std::optional<pg::Session> session;
    while (!stop.stop_requested()) {
        try {
            if (!session) {
                session.emplace(pg::SessionOptions{.url = url_, .settings = pg::common_settings()});
            }
            const int count = write_one(*session, random);
            committed_count_ += count;
            due += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                per_task * std::max(1, count));
        } catch (const Failure&) {
            session.reset();  // A COMMIT in doubt is in the truth if and only if its tasks are.
        }
        std::this_thread::sleep_until(due);
    }
}

int Writers::write_one(pg::Session& session, std::minstd_rand& random) {
    const int shape = static_cast<int>(random() % 7);
    const int count = random() % 2 == 0 ? 1 : 10;
    const std::string key = "k" + std::to_string(random() % kKeyCount);
    pg::Transaction transaction(session);
    const pg::Result locked =
        session.execute("UPDATE public.aggregates SET n = n + $2 WHERE key = $1 RETURNING n - $2",
                        pg::Params().text(key).int8(count));
    insert(session, shape, key, locked.integer(0, 0), count);
    if (random() % 20 == 0) return 0;  // An abort.
    transaction.commit();
    return count;
}

void Writers::insert(pg::Session& session, int shape, const std::string& key, int64_t last,
                     int count) {
    const auto params = [&](int64_t from, int rows) {
        pg::Params all;
        all.text(topic_).text(key).int8(from).int4(rows).text(run_);
        return all;
    };
    const std::string insert_select =
        truth_too("INSERT INTO millrace.pending_tasks " + std::string(kColumns) + " " +
                  select_rows());
    switch (shape) {
        case 0:  // Single rows.
            for (int i = 0; i < count; ++i) insert_values(session, key, last + i, 1);
            return;
        case 1:  // Multi-row VALUES.
            insert_values(session, key, last, count);
            return;
        case 2:  // A savepoint that is rolled back, then one that is not.
            session.execute("SAVEPOINT one");
            session.execute(insert_select, params(last, count));
            session.execute("ROLLBACK TO SAVEPOINT one");
            session.execute("SAVEPOINT two");
            session.execute(insert_select, params(last, count));
            session.execute("RELEASE SAVEPOINT two");
            return;
        case 3: {  // COPY, as the server's own program, in the order of its rows.
            std::string lines;
            std::string known;
            for (int i = 1; i <= count; ++i) {
                const std::string id = Uuid::random().text();
                lines += id + "\\t" + topic_ + "\\t" + key + "\\tCounted\\t{\"run\": \"" + run_ +
                         "\", \"n\": " + std::to_string(last + i) + "}\\n";
                known += (i > 1 ? ", ('" : "('") + id + "', " + in_quotes(key) + ", " +
                         std::to_string(last + i) + ")";
            }
            session.execute("COPY millrace.pending_tasks " + std::string(kColumns) +
                            " FROM PROGRAM $p$printf '" + lines + "'$p$");
            session.execute("INSERT INTO public.truth VALUES " + known);
            return;
        }
        case 4:  // In a writable CTE.
            session.execute("WITH rows AS MATERIALIZED (" + std::string(kRows) +
                                "), sent AS (INSERT INTO millrace.pending_tasks " +
                                std::string(kColumns) + " " + select_rows() +
                                ") INSERT INTO public.truth SELECT event_id, key, n FROM rows",
                            params(last, count));
            return;
        default:  // INSERT..SELECT.
            session.execute(insert_select, params(last, count));
            return;
    }
}

void Writers::insert_values(pg::Session& session, const std::string& key, int64_t last,
                            int count) {
    std::string values;
    std::string known;
    for (int i = 1; i <= count; ++i) {
        const std::string id = in_quotes(Uuid::random().text());
        const std::string n = std::to_string(last + i);
        values += (i > 1 ? ", (" : "(") + id + ", " + in_quotes(topic_) + ", " + in_quotes(key) +
                  ", 'Counted', '{\"run\": \"" + run_ + "\", \"n\": " + n + "}')";
        known += (i > 1 ? ", (" : "(") + id + ", " + in_quotes(key) + ", " + n + ")";
    }
    session.execute("INSERT INTO millrace.pending_tasks " + std::string(kColumns) + " VALUES " +
                    values);
    session.execute("INSERT INTO public.truth VALUES " + known);
}

}  // namespace millrace::test
