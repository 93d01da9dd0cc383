#include "app/demo/children.h"

#include <utility>

namespace millrace {

void Children::add(Child::Options options) { children_.emplace_back(std::move(options)); }

void Children::check() {
    for (Child& child : children_) child.check();
}

const std::string& Children::kill_next() {
    Child& victim = children_[next_victim_++ % children_.size()];
    victim.kill_and_restart();
    return victim.name();
}

void Children::stop(std::chrono::milliseconds limit) {
    for (const Child& child : children_) child.request_stop();
    const Child::Clock::time_point deadline = Child::Clock::now() + limit;
    for (Child& child : children_) child.await_end(deadline);
    children_.clear();
}

}  // namespace millrace
