#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

// What a broker says of a topic.
struct TopicAnswer {
    int32_t partition_count = 0;  // 0: there is none.
    bool is_refused = false;      // It is not ours to write to.
};

enum class TopicState {
    kThere,
    kAwaited,  // Not there, or refused, but not for long enough to be believed.
    kMissing,
    kRefused,
    kInvalid,  // Nobody can make a topic of that name.
};

// Which topics there are, as a publisher asks brokers for them. A topic that was made a moment ago
// is unknown to brokers that have not heard of it, so it counts as missing only once it was asked
// for during a grace time. Not thread-safe; `ask` may block and throw, which changes nothing.
class KnownTopics {
  public:
    using Clock = std::chrono::steady_clock;
    using Ask = std::function<TopicAnswer(const std::string& topic)>;

    KnownTopics(std::chrono::milliseconds grace, Ask ask) : grace_(grace), ask_(std::move(ask)) {}

    // Asks for a topic that is not known to be there, at most five times a second.
    TopicState look(std::string_view topic, Clock::time_point now);
    // Our writing to it was refused, though it is there: that is believed for some seconds.
    void note_refused(const std::string& topic, Clock::time_point now);
    // Of a topic that is there.
    int32_t partition_count(std::string_view topic) const;
    // An operator has changed something: refusals may have ended, and what was missing a moment ago
    // is asked for at once.
    void ask_anew(Clock::time_point now);
    // Looks at those that are awaited, the ones that were longest not asked for first, for about
    // 20 ms; the names of those that still are.
    std::vector<std::string> awaited(Clock::time_point now);

    // Every topic must be asked for again; how long one was missed is kept.
    void forget_known() { known_.clear(); }
    // A topic that was missed for long may have been made by now: it gets its grace anew. Not one
    // that was missed a moment ago, or lanes that change hands would wait for it in turn.
    void forget_old_misses(Clock::time_point now);

  private:
    struct Miss {
        Clock::time_point since;
        Clock::time_point asked_at;
        bool is_refused = false;
    };

    TopicState state_of(const Miss& miss, Clock::time_point now) const;

    std::chrono::milliseconds grace_;
    Ask ask_;
    std::map<std::string, int32_t, std::less<>> known_;
    std::map<std::string, Miss, std::less<>> misses_;
    std::map<std::string, Clock::time_point, std::less<>> refused_until_;
};

}  // namespace millrace
