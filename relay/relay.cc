#include "relay/relay.h"

#include <algorithm>

#include "core/stop.h"

namespace millrace {

Relay::Relay(RelayOptions options, const Installation& installation, kafka::Reaper& reaper,
             Metrics& metrics, std::function<void(const Failure&)> on_fatal)
    : options_(std::move(options)),
      on_fatal_(std::move(on_fatal)),
      metrics_(metrics),
      ledger_(options_.publisher.kafka, installation.ledger_topic(), installation.id, reaper) {
    const RelayShared shared{installation, ledger_, lease_, reaper, metrics_};
    std::vector<PublisherWatch*> watched;
    for (int i = 0; i <= options_.publisher_count; ++i) {
        watches_.push_back(std::make_unique<PublisherWatch>(metrics_.waiting));
        watched.push_back(watches_.back().get());
    }
    for (int i = 0; i < options_.publisher_count; ++i) {
        publishers_.push_back(std::make_unique<Publisher>(options_.publisher, shared,
                                                          *watches_[static_cast<size_t>(i)]));
    }
    keeper_ = std::make_unique<Keeper>(options_.publisher, shared, *watches_.back());
    LeaseOptions lease{.session = options_.publisher.session,
                       .lease = options_.lease,
                       .cut_off_after = options_.cut_off_after};
    lease.session.settings = pg::common_settings();
    lease.session.application_name += " lease";
    lease_loop_ = std::make_unique<LeaseLoop>(lease, lease_, watched);
}

void Relay::run(std::stop_token stop) {
    std::jthread lease = start([this](std::stop_token token) { lease_loop_->run(token); });
    std::jthread keeper = start([this](std::stop_token token) { keeper_->run(token); });
    std::vector<std::jthread> publishers;
    for (const auto& publisher : publishers_) {
        publishers.push_back(
            start([&publisher](std::stop_token token) { publisher->run(token); }));
    }
    while (wait_for(stop, std::chrono::hours(24))) {
    }
    // Publishers hand over while the lease still stands; then the keeper, the lease last.
    for (std::jthread& publisher : publishers) publisher.request_stop();
    publishers.clear();
    keeper.request_stop();
    keeper.join();
    lease.request_stop();
}

RelayStatus Relay::status() const {
    RelayStatus status;
    for (const auto& watch : watches_) {
        const std::string why = watch->loop.waiting();
        if (!why.empty()) status.waiting.push_back(why);
        status.longest_silence = std::max(status.longest_silence, watch->loop.silence());
    }
    return status;
}

std::jthread Relay::start(std::function<void(std::stop_token)> loop) {
    return std::jthread([this, loop = std::move(loop)](std::stop_token token) {
        try {
            loop(std::move(token));
        } catch (const Failure& failure) {
            on_fatal_(failure);
        }
    });
}

}  // namespace millrace
