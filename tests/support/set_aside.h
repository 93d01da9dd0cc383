#pragma once

#include <string>
#include <vector>

#include "relay/dead_task_verbs.h"
#include "tests/support/installed.h"

namespace millrace::test {

// Tasks that were set aside, as an operator deals with them (PROTOCOL 5).

// A task that a broker refuses for ever: it says that it is of the day after tomorrow.
void insert_refused(const Installed& installed, const std::string& key);

std::vector<DeadTask> dead_tasks(const Installed& installed, const DeadFilter& filter = {});
int64_t dead_count(const Installed& installed);

// Each order for all tasks that the filter means; returns the numbers of those that it was carried
// out for.
std::vector<int64_t> retry(const Installed& installed, DeadFilter filter = {});
std::vector<int64_t> discard(const Installed& installed, const DeadFilter& filter = {});

}  // namespace millrace::test
