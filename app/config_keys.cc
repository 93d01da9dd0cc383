#include "app/config_keys.h"

#include <cctype>

namespace millrace {

namespace {

constexpr int64_t kSecond = 1000;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;

using enum KeyType;

// Name, type, default, help; then the least and the most that is allowed.
constexpr ConfigKey kKeys[] = {
    {"postgres.url", kText, "",
     "libpq's connection string; PG* variables fill what it leaves out"},
    {.name = "postgres.password",
     .type = kText,
     .fallback = "",
     .help = "kept apart from the URL; usually ${file:/path}",
     .is_secret = true},
    {"kafka.brokers", kText, "", "host:port, divided by commas"},
    {"kafka.prefix", kText, "",
     "of ledger, groups and transactional ids; empty: millrace.<installation name>"},
    {"kafka.replication", kCount, "3", "of topics that millrace creates", 1, 32},
    {"kafka.properties.*", kText, "",
     "librdkafka's own; the ones the protocol rests on are refused"},
    {"relay.enabled", kBoolean, "true", "publish the outbox in this process"},
    {"relay.batch.tasks", kCount, "2000", "most tasks of a transaction", 1, 100'000},
    {"relay.batch.bytes", kSize, "4MiB", "bytes of a transaction, about", kKiB, 256 * kMiB},
    {"relay.publishers", kCount, "1",
     "of this process; 2 or 3 for throughput (latency was measured with 1 only)", 1, 32},
    {"relay.linger", kDuration, "0ms",
     "least time between the starts of two transactions of a publisher", 0, 10 * kSecond},
    {"relay.poll.min", kDuration, "1ms", "wait after a look that found nothing, at first", 1,
     10 * kSecond},
    {"relay.poll.max", kDuration, "20ms", "the same, once nothing came for a while", 1,
     10 * kSecond},
    {"relay.lease", kDuration, "3s",
     "a silent process loses its publishers after this; 2 s later if it holds their rows", 200,
     kMinute},
    {.name = "relay.message_format",
     .type = kChoice,
     .fallback = "payload",
     .help = "the bare payload with facts in headers, or an envelope with everything",
     .choices = "payload|envelope"},
    {.name = "relay.on_unpublishable",
     .type = kChoice,
     .fallback = "park_key",
     .help = "a task that can't be published: set it aside and let its key wait, set it aside "
             "alone, or halt its lane",
     .choices = "park_key|dead_letter|halt_lane"},
    {.name = "relay.topics.*.on_unpublishable",
     .type = kChoice,
     .fallback = "",
     .help = "of that topic; left out: relay.on_unpublishable",
     .choices = "park_key|dead_letter|halt_lane"},
    {"relay.topic_grace", kDuration, "30s",
     "a topic that does not exist is waited for so long, while others go on", 0, kHour},
    {"projections.enabled", kBoolean, "true", "apply projections in this process"},
    {"projections.folder", kText, "projections",
     "projection files; relative to the configuration file"},
    {"projections.only", kNames, "[]", "names of those to apply; empty: all"},
    {"projections.view_schema", kText, "read_models", "schema of the views; made by migrate up"},
    {"projections.threads", kCount, "2", "of each projection in this process", 1, 64},
    {"projections.batch.events", kCount, "2000", "most events of a transaction", 1, 100'000},
    {"projections.batch.bytes", kSize, "4MiB", "bytes of a transaction, about", kKiB, 256 * kMiB},
    {"projections.batch.linger", kDuration, "2ms", "longest wait for more events of a batch", 0,
     10 * kSecond},
    {"projections.session_timeout", kDuration, "6s",
     "a silent member loses its partitions after this", 500, 5 * kMinute},
    {"projections.retry.count", kCount, "5", "tries after a conflict, before a smaller batch", 0,
     100},
    {"projections.retry.backoff", kDuration, "100ms", "wait before the first of them", 1, kMinute},
    {"projections.statement_timeout", kDuration, "30s", "longest run of an apply statement", 100,
     kHour},
    {.name = "projections.on_gap",
     .type = kChoice,
     .fallback = "halt",
     .help = "what a jump of millrace-seq does",
     .choices = "halt|count"},
    {.name = "projections.on_poison",
     .type = kChoice,
     .fallback = "park_key",
     .help = "a poisoned event: its key waits behind it, or goes on, or the projection halts",
     .choices = "park_key|skip|halt"},
    {"projections.dlq_topics", kBoolean, "true",
     "a copy of each dead letter to <topic>.<projection>.dlq"},
    {"projections.caps.letters", kCount, "10000",
     "most open dead letters of a projection; one more halts it", 1, 100'000'000},
    {"projections.caps.parked", kCount, "100000",
     "most parked events of a projection; one more halts it", 1, 1'000'000'000},
    {"projections.storm.share", kShare, "0.05",
     "a larger share of poisoned events among a thread's last projections.storm.window halts the "
     "projection"},
    {"projections.storm.window", kCount, "1000",
     "how many events that share is of, also while fewer were seen", 1, 1'000'000},
    {"projections.storm.in_a_row", kCount, "50",
     "so many poisoned events of a thread in a row halt it, too", 1, 1'000'000},
    {"projections.overrides.*.threads", kCount, "",
     "of that projection; left out: projections.threads", 1, 64},
    {.name = "projections.overrides.*.on_poison",
     .type = kChoice,
     .fallback = "",
     .help = "of that projection; left out: projections.on_poison",
     .choices = "park_key|skip|halt"},
    {.name = "projections.overrides.*.sqlstates.*",
     .type = kChoice,
     .fallback = "",
     .help = "another class for an SQLSTATE, or for all that begin so",
     .choices = "conflict|overload|environment|bug|record"},
    {"admin.listen", kText, "127.0.0.1:8480", "host:port of the admin server; port 0 picks one"},
    {.name = "log.level",
     .type = kChoice,
     .fallback = "info",
     .help = "least level of a line",
     .choices = "debug|info|warn|error"},
    {.name = "log.format",
     .type = kChoice,
     .fallback = "auto",
     .help = "auto: text on a terminal, else json",
     .choices = "auto|text|json"},
    {"log.slow_after", kDuration, "1s", "lines about a longer duration are marked slow", 1, kHour},
    {"shutdown_timeout", kDuration, "20s", "longest stop; below the pod's grace period", kSecond,
     kHour},
};

}  // namespace

std::string ConfigKey::variable() const {
    std::string variable = "MILLRACE_";
    for (const char c : name) {
        variable += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return variable;
}

std::span<const ConfigKey> config_keys() { return kKeys; }

}  // namespace millrace
