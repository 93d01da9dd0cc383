#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>

namespace millrace {

// The process's metrics. Thread-safe, as the library is; looking a counter up takes a lock, so
// loops keep references to what they touch per batch. Names begin with `millrace_`.
class Metrics {
  public:
    using Labels = std::map<std::string, std::string>;

    Metrics() : registry_(std::make_shared<prometheus::Registry>()) {}

    prometheus::Counter& counter(const std::string& name, const std::string& help,
                                 const Labels& labels = {});
    prometheus::Gauge& gauge(const std::string& name, const std::string& help,
                             const Labels& labels = {});
    // Of this reason, in any component.
    prometheus::Counter& failures(const std::string& reason);
    // Takes one out that says nothing any more, such as the lag of a partition that is another's.
    void remove(prometheus::Gauge& gauge, const std::string& name, const std::string& help);
    // Buckets from 0.5 ms to 32 s, doubling.
    prometheus::Histogram& seconds(const std::string& name, const std::string& help,
                                   const Labels& labels = {});
    // Buckets from 1 to 16,384, doubling.
    prometheus::Histogram& counts(const std::string& name, const std::string& help,
                                  const Labels& labels = {});
    // A label value that no longer holds (a reason that was mended) is set to zero by its owner;
    // this is the text a scrape gets.
    std::string text() const;

  private:
    std::shared_ptr<prometheus::Registry> registry_;
};

}  // namespace millrace
