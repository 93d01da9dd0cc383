#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "app/scratch/child.h"

namespace millrace {

// All processes of the demo.
class Children {
  public:
    void add(Child::Options options);
    // Throws kFatal `scratch_child_ended` if one ended by itself.
    void check();
    // Kills the next one in turn, starts it again, returns its name.
    const std::string& kill_next();
    // SIGTERM to all, then up to `limit` for each to hand over; the rest is killed.
    void stop(std::chrono::milliseconds limit);

    size_t size() const { return children_.size(); }

  private:
    std::vector<Child> children_;
    size_t next_victim_ = 0;
};

}  // namespace millrace
