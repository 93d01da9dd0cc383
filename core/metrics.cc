#include "core/metrics.h"

#include <prometheus/text_serializer.h>

namespace millrace {

namespace {

const prometheus::Histogram::BucketBoundaries kSecondsBuckets{
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128,
    0.256,  0.512, 1.024, 2.048, 4.096, 8.192, 16.384, 32.768};

const prometheus::Histogram::BucketBoundaries kCountBuckets{
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

}  // namespace

prometheus::Counter& Metrics::counter(const std::string& name, const std::string& help,
                                      const Labels& labels) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_).Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const std::string& help,
                                  const Labels& labels) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_).Add(labels);
}

prometheus::Counter& Metrics::failures(const std::string& reason) {
    return counter("millrace_failures_total", "Failures, by reason.", {{"reason", reason}});
}

void Metrics::remove(prometheus::Gauge& gauge, const std::string& name, const std::string& help) {
    prometheus::BuildGauge().Name(name).Help(help).Register(*registry_).Remove(&gauge);
}

prometheus::Histogram& Metrics::seconds(const std::string& name, const std::string& help,
                                        const Labels& labels) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_).Add(
        labels, kSecondsBuckets);
}

prometheus::Histogram& Metrics::counts(const std::string& name, const std::string& help,
                                       const Labels& labels) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_).Add(
        labels, kCountBuckets);
}

std::string Metrics::text() const {
    return prometheus::TextSerializer().Serialize(registry_->Collect());
}

}  // namespace millrace
