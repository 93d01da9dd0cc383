# The bench, as part of millrace_app: what it measures, and the ground that it measures on.
target_sources(millrace_app PRIVATE
    bench/bench.cc
    bench/count_watch.cc
    bench/drain.cc
    bench/ground.cc
    bench/latency.cc
    bench/log_end.cc
    bench/measured_worker.cc
    bench/percentiles.cc
    bench/preload.cc
    bench/process_times.cc
    bench/projection.cc
    bench/report.cc
    bench/task_text.cc
    bench/task_writers.cc
    bench/topic_reader.cc
    bench/workspace.cc)
