#pragma once

#include <chrono>
#include <thread>

namespace millrace::test {

// Looks every 10 ms until `predicate` holds; false when `limit` has passed first. The one place
// where a test waits.
template <typename Predicate>
bool eventually(std::chrono::milliseconds limit, Predicate predicate) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!predicate()) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

}  // namespace millrace::test
