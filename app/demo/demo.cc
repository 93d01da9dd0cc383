#include "app/demo/demo.h"

#include <unistd.h>

#include <iostream>
#include <optional>
#include <thread>

#include "app/demo/children.h"
#include "app/demo/live_block.h"
#include "app/demo/proof.h"
#include "app/demo/shop.h"
#include "app/demo/visibility.h"
#include "app/scratch/part.h"
#include "app/scratch/samples.h"
#include "app/scratch/scratch.h"
#include "core/log.h"
#include "core/stop.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kTopic = "shop.orders";  // Of the samples.
constexpr int kPartitionCount = 4;
constexpr milliseconds kLookEvery{100};
constexpr seconds kShowEvery{1};
constexpr seconds kKillEvery{2};
constexpr seconds kFirstOrderLimit{60};
// Nothing moved for so long: what is missing will not come.
constexpr seconds kDrainPatience{20};
// A doubled event would come right behind the last one.
constexpr seconds kQuiet{1};
constexpr seconds kChildStopLimit{20};

// Everything of one run, in the order in which it can be taken away again.
class Demo {
  public:
    Demo(const Config& config, const DemoOptions& options);

    int run(std::stop_token stop);
    // False when nothing has run that would have written one.
    bool keep_logs();
    const std::filesystem::path& folder() const { return scratch_.folder(); }

  private:
    void prepare();
    void start_children();
    void await_first_order(const std::stop_token& stop);
    void trade(const std::stop_token& stop);
    void drain();
    int conclude();
    void look();
    void show_when_due(const std::string& title);
    Figures figures(const std::string& title);
    void kill_when_due();

    const DemoOptions options_;
    Scratch scratch_;
    pg::Session session_;
    Children children_;
    bool has_started_ = false;
    VisibilityWatch visibility_;
    Shop shop_;
    LiveBlock block_;
    Clock::time_point began_at_{};
    Clock::time_point next_show_{};
    Clock::time_point next_kill_{};
    std::optional<Kills> kills_;
};

Demo::Demo(const Config& config, const DemoOptions& options)
    : options_(options),
      scratch_(config, "demo"),
      session_(scratch_.session_options()),
      visibility_(scratch_.session_options()),
      shop_({.session = scratch_.session_options(),
             .orders_per_second = options.orders_per_second},
            [this](const std::string& order_id) { visibility_.committed(order_id); }),
      block_(std::cout, isatty(STDOUT_FILENO) == 1) {
    if (options.has_chaos) kills_.emplace();
}

int Demo::run(std::stop_token stop) {
    prepare();
    start_children();
    await_first_order(stop);
    if (!stop.stop_requested()) trade(stop);
    drain();
    return conclude();
}

void Demo::prepare() {
    // One broker, on purpose: the warning about it would be the first that anybody reads.
    if (scratch_.replication() == 1) set_up_log({.level = "error", .format = "text"});
    scratch_.create_topic(kTopic, kPartitionCount);
    std::cout << "database " << scratch_.name() << " and topic " << kTopic << " made\n";
    Shop::create_tables(session_);
    for (const Sample& sample : samples()) scratch_.write_projection(sample.file_name, sample.text);
    scratch_.install([](const std::string& line) { std::cout << "migrate up: " << line << "\n"; });
}

void Demo::start_children() {
    has_started_ = true;
    Scratch::Values of_relays{{"projections.enabled", "false"}};
    Scratch::Values of_workers{{"relay.enabled", "false"}};
    if (options_.has_chaos) {
        of_relays.emplace_back("relay.lease", "1s");
        of_workers.emplace_back("projections.session_timeout", "1s");
    }
    const std::string relay_config = scratch_.write_config("relay", of_relays).string();
    const std::string worker_config = scratch_.write_config("worker", of_workers).string();
    const int count = options_.has_chaos ? 2 : 1;
    for (int i = 1; i <= count; ++i) {
        const std::string number = std::to_string(i);
        children_.add(scratch_.process("relay " + number, {"run", "--config", relay_config}));
        children_.add(scratch_.process("worker " + number, {"run", "--config", worker_config}));
    }
    std::cout << children_.size() << " processes started, logs in " << folder().string() << "\n";
}

// The figures would else begin with the start of the processes.
void Demo::await_first_order(const std::stop_token& stop) {
    const Clock::time_point start = Clock::now();
    std::cout << "waiting for the first order in the read models ..." << std::endl;
    shop_.place_one(session_);
    do {
        children_.check();
        const Progress now = progress(session_);
        if (now.is_complete() && now.customer_row_count > 0) return;
        if (Clock::now() - start > kFirstOrderLimit) {
            throw fatal("demo_no_progress", "the first order did not reach the read models within "
                                            "60 s: the logs say why");
        }
    } while (wait_for(stop, kLookEvery));
}

void Demo::trade(const std::stop_token& stop) {
    Part watch([this](std::stop_token part_stop) { visibility_.run(std::move(part_stop)); });
    Part shop([this](std::stop_token part_stop) { shop_.run(std::move(part_stop)); });
    began_at_ = Clock::now();
    next_kill_ = began_at_ + kKillEvery;
    while (options_.runs_until_stopped || Clock::now() - began_at_ < options_.duration) {
        look();
        watch.check();
        shop.check();
        kill_when_due();
        if (!wait_for(stop, kLookEvery)) break;
    }
    shop.stop();
    watch.stop();
}

void Demo::look() {
    children_.check();
    const auto passed = std::chrono::duration_cast<seconds>(Clock::now() - began_at_).count();
    std::string title = "millrace demo, " + std::to_string(passed) + " s";
    if (!options_.runs_until_stopped) {
        title += " of " +
                 std::to_string(std::chrono::duration_cast<seconds>(options_.duration).count());
    }
    show_when_due(title);
}

void Demo::show_when_due(const std::string& title) {
    const Clock::time_point now = Clock::now();
    if (now < next_show_) return;
    next_show_ = now + kShowEvery;
    block_.show(figures(title));
}

Figures Demo::figures(const std::string& title) {
    return {.title = title,
            .progress = progress(session_),
            .latency = visibility_.latency(),
            .kills = kills_};
}

void Demo::kill_when_due() {
    if (!kills_ || Clock::now() < next_kill_) return;
    next_kill_ += kKillEvery;
    kills_->last = children_.kill_next();
    ++kills_->count;
}

// Until nothing waits in the outbox and the read models stand where the shop does, or until it is
// plain that they never will; then the processes end, so that nothing changes behind the proof.
void Demo::drain() {
    Progress last;
    Clock::time_point moved_at = Clock::now();
    for (;;) {
        children_.check();
        const Progress now = progress(session_);
        if (now.is_complete() && prove(session_).holds()) break;
        if (now.backlog != last.backlog || now.applied != last.applied) moved_at = Clock::now();
        if (Clock::now() - moved_at > kDrainPatience) break;
        show_when_due("millrace demo, waiting for the last events");
        last = now;
        std::this_thread::sleep_for(kLookEvery);
    }
    std::this_thread::sleep_for(kQuiet);
    block_.show(figures("millrace demo, stopping what it started"));
    children_.stop(kChildStopLimit);
}

int Demo::conclude() {
    block_.show_last(figures("millrace demo, the shop is closed"));
    const Proof proof = prove(session_);
    std::cout << "\n" << proof.text();
    if (!proof.holds()) {
        keep_logs();
        std::cout << "logs: " << folder().string() << "\n";
    }
    std::cout.flush();
    return proof.exit_code();
}

bool Demo::keep_logs() {
    if (!has_started_) return false;
    scratch_.keep_folder();
    return true;
}

}  // namespace

int run_demo(const Config& config, const DemoOptions& options, std::stop_token stop) {
    Demo demo(config, options);
    try {
        return demo.run(std::move(stop));
    } catch (const Failure&) {
        if (demo.keep_logs()) {
            std::cerr << "millrace: the logs stay in " << demo.folder().string() << "\n";
        }
        throw;
    }
}

}  // namespace millrace
