#include "tests/support/own_broker.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>

namespace millrace::test {

namespace {

constexpr const char* kVariable = "MILLRACE_TEST_KAFKA";
constexpr const char* kProperties = "MILLRACE_TEST_BROKER_PROPERTIES";

}  // namespace

OwnBroker::OwnBroker(const std::string& properties) {
    if (const char* shared = std::getenv(kVariable)) shared_ = shared;
    setenv(kProperties, properties.c_str(), /*overwrite=*/1);
    act("start");
    unsetenv(kProperties);
    std::string port;
    std::ifstream(folder_.path() / "kafka" / "port") >> port;
    setenv(kVariable, ("127.0.0.1:" + port).c_str(), /*overwrite=*/1);
}

OwnBroker::~OwnBroker() {
    setenv(kVariable, shared_.c_str(), /*overwrite=*/1);
    try {
        act("kill");
    } catch (const std::exception& failed) {
        std::cerr << "a broker may be left running: " << failed.what() << "\n";
    }
}

void OwnBroker::act(const std::string& action) const {
    run_command(MILLRACE_SOURCE_FOLDER "/deploy/dev server kafka " + folder_.path().string() +
                " " + action);
}

void act_on_postgres(const std::string& action) {
    const char* command = std::getenv("MILLRACE_TEST_PG_CTL");
    if (command == nullptr) throw std::runtime_error("MILLRACE_TEST_PG_CTL is not set");
    run_command(command + (" " + action));
}

void run_command(const std::string& command) {
    if (std::system((command + " >/dev/null 2>&1").c_str()) == 0) return;
    throw std::runtime_error(command + " failed");
}

}  // namespace millrace::test
