// PostgreSQL and Kafka gone in the middle of everything, and back.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/key_totals.h"
#include "tests/support/own_broker.h"
#include "tests/support/process.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

enum class Server { kPostgres, kKafka };

struct Outage {
    const char* name;
    Server server;
    const char* begin;
    const char* end;
    std::chrono::milliseconds length;
};

void PrintTo(const Outage& outage, std::ostream* out) { *out << outage.name; }

class ServerCrash : public testing::TestWithParam<Outage> {
  protected:
    Process run(const std::string& name, const std::string& config) const {
        return Process({.arguments = {"run", "--config", write_file(name + ".yaml", config)},
                        .environment = {},
                        .log_name = name});
    }
    void act(const char* action) const {
        if (GetParam().server == Server::kKafka) {
            broker_.act(action);
        } else {
            act_on_postgres(action);
        }
    }
    // Waits until this many more were committed by their writers, published and applied.
    bool goes_on(Writers& writers) {
        const int64_t before = writers.committed_count();
        return eventually(60s, [&] { return writers.committed_count() > before + 200; }) &&
               eventually(60s, [&] { return key_totals_.missing_count() < 200; });
    }

    OwnBroker broker_;
    Installed installed_{12, 4};
    KeyTotals key_totals_{installed_};
};

// PROTOCOL 3.7, 4.2, 7.3: what was in flight is in doubt on both sides, and settled.
TEST_P(ServerCrash, LosesDoublesAndReordersNothing) {
    const Process relay = run("relay", installed_.config());
    const Process worker = run("worker", key_totals_.config());
    Writers writers(installed_, {.thread_count = 2, .tasks_per_second = 500});
    ASSERT_TRUE(goes_on(writers));

    for (int i = 0; i < 2; ++i) {
        act(GetParam().begin);
        std::this_thread::sleep_for(GetParam().length);
        act(GetParam().end);
        ASSERT_TRUE(goes_on(writers)) << relay.log() << worker.log();
    }
    writers.stop();
    ASSERT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; })) << relay.log();
    ASSERT_TRUE(eventually(60s, [&] { return key_totals_.missing_count() <= 0; }))
        << worker.log();

    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_GT(verdict.task_count, 0);
    EXPECT_EQ(key_totals_.wrong_count(), 0) << "keys whose read model is wrong";
}

// Connections that this machine has begun, of all processes.
int64_t connection_count() {
    std::ifstream file("/proc/net/snmp");
    std::string line;
    std::vector<std::string> values;
    while (std::getline(file, line)) {
        if (!line.starts_with("Tcp: ")) continue;
        std::istringstream words(line);
        values.assign(std::istream_iterator<std::string>(words), {});
    }
    return std::stoll(values.at(5));
}

class KafkaGone : public ServerCrash {};

// librdkafka connects without any back-off for an order that waits for a broker: a worker opened
// thousands of connections a second, at the cost of a processor, for as long as Kafka was gone.
TEST_P(KafkaGone, IsWaitedForWithoutAStormOfConnections) {
    const Process relay = run("relay", installed_.config());
    const Process worker = run("worker", key_totals_.config());
    Writers writers(installed_, {.thread_count = 1, .tasks_per_second = 100});
    ASSERT_TRUE(goes_on(writers));
    writers.stop();
    act("kill");
    // Orders are given every few seconds, and each used to add to the storm.
    std::this_thread::sleep_for(8s);

    const int64_t before = connection_count();
    std::this_thread::sleep_for(4s);
    EXPECT_LT(connection_count() - before, 4 * 400);
    act("start");
}

INSTANTIATE_TEST_SUITE_P(Servers, KafkaGone,
                         testing::Values(Outage{"Kafka", Server::kKafka, "kill", "start", 0ms}),
                         [](const auto& outage) { return outage.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Servers, ServerCrash,
    testing::Values(Outage{"PostgresKilled", Server::kPostgres, "kill", "start", 500ms},
                    Outage{"KafkaKilled", Server::kKafka, "kill", "start", 500ms},
                    Outage{"KafkaPaused", Server::kKafka, "pause", "continue", 4s}),
    [](const auto& outage) { return outage.param.name; });

}  // namespace
}  // namespace millrace::test
