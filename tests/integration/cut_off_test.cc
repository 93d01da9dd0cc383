// A relay that Kafka does not answer any more, while it answers another (PROTOCOL 2.7).

#include <gtest/gtest.h>

#include "tests/support/eventually.h"
#include "tests/support/forwarder.h"
#include "tests/support/installed.h"
#include "tests/support/own_broker.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// A listener of the broker's that clients are told to reach by the forwarder.
std::string proxied(int port, const Forwarder& forwarder) {
    return "listeners=PLAINTEXT://127.0.0.1:@broker@,CONTROLLER://127.0.0.1:@controller@,"
           "PROXIED://127.0.0.1:" + std::to_string(port) + "\n"
           "advertised.listeners=PLAINTEXT://127.0.0.1:@broker@,PROXIED://" +
           forwarder.address() + "\n"
           "listener.security.protocol.map="
           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n";
}

class CutOff : public testing::Test {
  protected:
    RelayOptions options(const std::string& brokers = "") const {
        RelayOptions options = installed_.relay_options();
        if (!brokers.empty()) options.publisher.kafka.brokers = brokers;
        // Longer than others count as answered.
        options.cut_off_after = 8s;
        return options;
    }
    // Lanes of publishers whose owner says that Kafka answers it.
    int64_t answered_lane_count() const {
        return installed_.number(
            "SELECT count(*) FROM millrace.relay_lanes l "
            "JOIN millrace.relay_publishers p ON p.number = l.publisher AND p.running "
            "JOIN millrace.relay_members m ON m.instance = p.owner "
            "WHERE m.kafka_ok_at > clock_timestamp() - interval '2 seconds'");
    }
    std::string owners() const {
        return installed_.text("SELECT string_agg(number || ':' || owner, ',' ORDER BY number) "
                               "FROM millrace.relay_publishers WHERE owner IS NOT NULL");
    }
    bool is_empty() const {
        return eventually(60s, [&] { return installed_.pending_count() == 0; });
    }

    const int port_ = free_port();
    Forwarder forwarder_{"127.0.0.1:" + std::to_string(port_)};
    OwnBroker broker_{proxied(port_, forwarder_)};
    Installed installed_;
};

TEST_F(CutOff, ARelayHandsItsLanesToOneThatIsNot) {
    forwarder_.open();
    const RunningRelay cut(installed_, options(forwarder_.address()));
    const RunningRelay other(installed_, options());
    ASSERT_TRUE(eventually(30s, [&] { return answered_lane_count() == 12; }));
    ASSERT_TRUE(eventually(30s, [&] { return cut.metric("millrace_relay_lanes_owned") == 6; }));
    installed_.insert(1000, 50);
    ASSERT_TRUE(is_empty());

    forwarder_.close();
    installed_.insert(1000, 50);

    EXPECT_TRUE(is_empty());
    EXPECT_TRUE(eventually(30s, [&] { return other.metric("millrace_relay_lanes_owned") == 12; }));
    installed_.insert(1000, 50);
    EXPECT_TRUE(is_empty());
    // Let in again, it takes its share.
    forwarder_.open();
    EXPECT_TRUE(eventually(60s, [&] { return cut.metric("millrace_relay_lanes_owned") == 6; }));
    installed_.insert(1000, 50);
    EXPECT_TRUE(is_empty());
    EXPECT_TRUE(installed_.verdict().is_clean()) << installed_.verdict().text();
}

// If Kafka answers nobody, nobody could do better.
TEST_F(CutOff, NobodyGivesUpWhileTheBrokerIsGone) {
    const RunningRelay first(installed_, options());
    const RunningRelay second(installed_, options());
    ASSERT_TRUE(eventually(30s, [&] { return answered_lane_count() == 12; }));
    ASSERT_TRUE(eventually(30s, [&] {
        return first.metric("millrace_relay_lanes_owned") == 6 &&
               second.metric("millrace_relay_lanes_owned") == 6;
    }));
    const std::string before = owners();

    broker_.act("kill");
    installed_.insert(1000, 50);
    // Longer than a relay that is cut off alone would wait, and than others count as answered.
    EXPECT_FALSE(eventually(16s, [&] { return owners() != before; })) << owners();
    broker_.act("start");

    EXPECT_TRUE(is_empty());
    EXPECT_TRUE(installed_.verdict().is_clean()) << installed_.verdict().text();
}

}  // namespace
}  // namespace millrace::test
