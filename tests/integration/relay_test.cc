#include "relay/relay.h"

#include <gtest/gtest.h>

#include "core/kafka/admin.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

TEST(Relay, PublishesEachTaskOnceInTheOrderOfItsKey) {
    Installed installed;
    installed.insert(5000, 50);
    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(60s, [&] { return installed.pending_count() == 0; }));
    installed.insert(100);
    ASSERT_TRUE(eventually(10s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();

    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(verdict.task_count, 5100);
    EXPECT_EQ(relay.metric("millrace_relay_floor_violations_total"), 0);
}

}  // namespace
}  // namespace millrace::test
