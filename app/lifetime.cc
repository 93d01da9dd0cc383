#include "app/lifetime.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "core/check.h"
#include "core/log.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

sigset_t stop_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    return signals;
}

// 0 when none came in time.
int next_signal(std::chrono::milliseconds limit) {
    const sigset_t signals = stop_signals();
    const auto deadline = Clock::now() + limit;
    for (;;) {
        const auto left = std::max(Clock::duration(0), deadline - Clock::now());
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        const timespec wait{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
        const int number = sigtimedwait(&signals, nullptr, &wait);
        if (number > 0) return number;
        if (errno != EINTR) return 0;
    }
}

[[noreturn]] void end_at_once(std::string_view why) {
    log(LogLevel::kError, "app", "ends without handing over; others take over what it held",
        {{"reason", why}});
    std::_Exit(kExitFailed);
}

}  // namespace

void block_stop_signals() {
    const sigset_t signals = stop_signals();
    MILLRACE_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0, "signals can be blocked");
}

int Lifetime::run(const std::function<void(std::stop_token)>& body,
                  std::chrono::milliseconds limit) {
    std::jthread thread([this, &body](std::stop_token stop) {
        try {
            body(std::move(stop));
        } catch (const Failure& failure) {
            fail(failure);
        }
        is_over_ = true;
        kill(getpid(), SIGTERM);
    });
    const int number = next_signal(std::chrono::hours(24 * 365 * 100));
    const bool has_failed = is_stopping_.exchange(true);
    thread.request_stop();
    if (!is_over_) {
        if (!has_failed) {
            log(LogLevel::kInfo, "app", "stopping",
                {{"signal", number == SIGINT ? "INT" : "TERM"}});
        }
        await_end(limit);
    }
    thread.join();
    const std::lock_guard lock(mutex_);
    if (!failure_) return 0;
    return failure_->exit_code();
}

void Lifetime::fail(const Failure& failure) {
    {
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        failure_ = failure;
    }
    log(LogLevel::kError, "app", "can't go on",
        {{"reason", failure.reason()}, {"detail", failure.detail()}});
    // While a stop is under way this would count as the second signal.
    if (!is_stopping_.exchange(true)) kill(getpid(), SIGTERM);
}

void Lifetime::await_end(std::chrono::milliseconds limit) {
    // The body's own end raises a signal, too.
    const int number = next_signal(limit);
    if (!is_over_) end_at_once(number != 0 ? "second signal" : "shutdown_timeout");
}

int run_command(const std::function<int(std::stop_token)>& body, std::chrono::milliseconds limit) {
    int exit_code = kExitFailed;
    std::optional<Failure> failure;
    Lifetime().run(
        [&](std::stop_token stop) {
            try {
                exit_code = body(std::move(stop));
            } catch (const Failure& caught) {
                failure = caught;
            }
        },
        limit);
    if (failure) throw *failure;
    return exit_code;
}

}  // namespace millrace
