#include "relay/producer_pair.h"

#include <exception>
#include <future>

namespace millrace {

namespace {

constexpr std::chrono::seconds kWarmUpLimit{5};
constexpr std::chrono::seconds kReplaceLimit{10};

}  // namespace

void ProducerPair::init(int publisher, const std::vector<std::string>& topics,
                        std::chrono::milliseconds limit) {
    drop();
    publisher_ = publisher;
    topics_ = topics;
    for (size_t i = 0; i < producers_.size(); ++i) producers_[i] = make(i);

    const auto init_one = [&](kafka::Producer& producer) {
        producer.warm_up(topics_, kWarmUpLimit);
        producer.init(limit);
    };
    std::future<void> other = std::async(std::launch::async, init_one, std::ref(*producers_[1]));
    std::exception_ptr failed;
    try {
        init_one(*producers_[0]);
    } catch (const Failure&) {
        failed = std::current_exception();
    }
    // Both have ended before either is dropped.
    try {
        other.get();
    } catch (const Failure&) {
        if (!failed) failed = std::current_exception();
    }
    if (failed) {
        drop();
        std::rethrow_exception(failed);
    }
    turn_ = 0;
}

ProducerPair::Turn ProducerPair::next() {
    turn_ = 1 - turn_;
    const bool is_tainted = producers_[turn_]->is_tainted();
    if (is_tainted) {
        producers_[turn_] = make(turn_);
        producers_[turn_]->warm_up(topics_, kWarmUpLimit);
        producers_[turn_]->init(kReplaceLimit);
    }
    return {*producers_[turn_], is_tainted};
}

void ProducerPair::drop() {
    for (auto& producer : producers_) producer.reset();
}

std::unique_ptr<kafka::Producer> ProducerPair::make(size_t index) const {
    const char which = index == 0 ? 'a' : 'b';
    return std::make_unique<kafka::Producer>(
        options_, installation_.transactional_id(publisher_, which), reaper_);
}

}  // namespace millrace
