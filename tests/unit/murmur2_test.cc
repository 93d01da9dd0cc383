// The partition of a key is the one that Java's clients give it, or a move from them to millrace
// would tear keys apart.

#include <gtest/gtest.h>

#include <charconv>
#include <fstream>
#include <string>
#include <vector>

#include "core/kafka/admin.h"

namespace millrace::kafka {
namespace {

struct Line {
    std::string key_hex;
    std::string key;
    int64_t positive_hash = 0;
};

std::string unhex(const std::string& hex) {
    std::string bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
        int value = 0;
        std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
        bytes.push_back(static_cast<char>(value));
    }
    return bytes;
}

// Printed by the Java client's own class; see tests/data/Murmur2Table.java.
std::vector<Line> read_table() {
    std::ifstream file(MILLRACE_SOURCE_FOLDER "/tests/data/murmur2.tsv");
    std::vector<Line> lines;
    std::string key_hex;
    std::string hash;
    std::string positive;
    while (std::getline(file, key_hex, '\t') && std::getline(file, hash, '\t') &&
           std::getline(file, positive)) {
        lines.push_back({key_hex, unhex(key_hex), std::stoll(positive)});
    }
    return lines;
}

TEST(Murmur2, PartitionIsTheJavaClientsForEachKeyOfItsTable) {
    const std::vector<Line> table = read_table();
    ASSERT_GT(table.size(), 100U);

    for (const Line& line : table) {
        for (const int32_t partition_count : {1, 2, 3, 7, 12, 32, 1000}) {
            EXPECT_EQ(partition_of(line.key, partition_count), line.positive_hash % partition_count)
                << "key " << line.key_hex << " over " << partition_count << " partitions";
        }
    }
}

TEST(Murmur2, TableHoldsKeysOfAllLengthsUpToForty) {
    std::vector<bool> seen(41);

    for (const Line& line : read_table()) {
        if (line.key.size() < seen.size()) seen[line.key.size()] = true;
    }

    EXPECT_EQ(seen, std::vector<bool>(41, true));
}

}  // namespace
}  // namespace millrace::kafka
