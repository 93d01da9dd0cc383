#pragma once

#include <string>

#include "tests/support/folder.h"
#include "tests/support/installed.h"

namespace millrace::test {

// A read model over the topic of an installation whose tasks `Writers` wrote: of each key how often
// an event of it was applied, what they add up to, the last one, and how often it went backwards.
// So an event that is lost, applied twice or out of order changes a number.
class KeyTotals {
  public:
    // Writes the projection's file into a folder of its own and makes its tables.
    explicit KeyTotals(const Installed& installed);

    // The configuration file of a process that runs this projection only, with a session time-out
    // of a second.
    std::string config() const;
    // Events committed by their writers and not in the read model, by number.
    int64_t missing_count() const;
    // Keys whose read model is not what their writers committed.
    int64_t wrong_count() const;

  private:
    const Installed& installed_;
    Folder folder_;
};

}  // namespace millrace::test
