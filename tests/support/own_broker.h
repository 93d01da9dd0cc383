#pragma once

#include <string>

#include "tests/support/folder.h"

namespace millrace::test {

// A broker of one test's own, which all clients of its process are led to while it lives, for what
// can't be done to the one that other tests use: it holds all their topics, and takes a minute to
// recover them when it was killed.
class OwnBroker {
  public:
    // `properties` of the broker beside those that all of ours have, a line each.
    explicit OwnBroker(const std::string& properties = "");
    ~OwnBroker();
    OwnBroker(const OwnBroker&) = delete;
    OwnBroker& operator=(const OwnBroker&) = delete;

    // start, kill, pause or continue, as `deploy/dev server kafka` does them.
    void act(const std::string& action) const;

  private:
    Folder folder_;
    std::string shared_;  // Where the variable led before.
};

// start, kill, pause or continue, for the PostgreSQL that all tests share: who does it runs alone.
void act_on_postgres(const std::string& action);

// Runs a command of the shell, which must succeed.
void run_command(const std::string& command);

}  // namespace millrace::test
