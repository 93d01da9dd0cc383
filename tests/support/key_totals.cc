#include "tests/support/key_totals.h"

#include "projections/catalog.h"
#include "projections/projection_file.h"
#include "tests/support/broker.h"

namespace millrace::test {

namespace {

constexpr std::string_view kProjection = R"(/* millrace projection
version: 1
topics: [%TOPIC%]
columns:
  n: {type: bigint, path: $.n, required: true}
*/
-- table
CREATE TABLE key_totals (key text PRIMARY KEY, events bigint NOT NULL, total bigint NOT NULL,
    first_n bigint NOT NULL, last_n bigint NOT NULL, backwards bigint NOT NULL);
-- apply
INSERT INTO key_totals AS t
SELECT _key, count(*), sum(n), (array_agg(n ORDER BY _ord))[1],
       (array_agg(n ORDER BY _ord DESC))[1], count(*) FILTER (WHERE n <= before)
FROM (SELECT *, lag(n) OVER (PARTITION BY _key ORDER BY _ord) AS before FROM batch) b
GROUP BY _key ORDER BY _key
ON CONFLICT (key) DO UPDATE SET
    events    = t.events + excluded.events,
    total     = t.total + excluded.total,
    last_n    = excluded.last_n,
    backwards = t.backwards + excluded.backwards + (excluded.first_n <= t.last_n)::int;
)";

// By SQL that shares nothing with ours.
constexpr std::string_view kWrongKeys = R"(
    SELECT count(*)
    FROM (SELECT key, count(*) AS events, sum(n) AS total, max(n) AS last_n
          FROM public.truth GROUP BY key) AS truth
    FULL JOIN read_models.key_totals AS model USING (key)
    WHERE (truth.events, truth.total, truth.last_n, 0)
          IS DISTINCT FROM (model.events, model.total, model.last_n, model.backwards))";
constexpr std::string_view kMissingCount = R"(
    SELECT (SELECT count(*) FROM public.truth)
           - (SELECT coalesce(sum(events), 0)::bigint FROM read_models.key_totals))";

}  // namespace

KeyTotals::KeyTotals(const Installed& installed) : installed_(installed) {
    std::string text(kProjection);
    const std::string place = "%TOPIC%";
    text.replace(text.find(place), place.size(), installed.topic);
    const std::string path = folder_.write("key_totals.sql", text);
    pg::Session session = installed.database.connect();
    session.execute("CREATE SCHEMA read_models");
    install_projection(session, read_projection_file(path), "read_models");
}

std::string KeyTotals::config() const {
    return "postgres: {url: \"" + installed_.database.url() + "\"}\n" +  //
           "kafka: {brokers: \"" + brokers() + "\"}\n" +                 //
           "relay: {enabled: false}\n"
           "projections: {folder: \"" + folder_.path().string() +
           "\", threads: 1, session_timeout: 1s}\n"
           "admin: {listen: \"127.0.0.1:0\"}\n"
           "log: {format: text}\n";
}

int64_t KeyTotals::missing_count() const { return installed_.number(kMissingCount); }

int64_t KeyTotals::wrong_count() const { return installed_.number(kWrongKeys); }

}  // namespace millrace::test
