import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.apache.kafka.common.utils.Utils;

// Prints tests/data/murmur2.tsv by the Java client's own class: key in hex, its murmur2, the
// positive number its partition comes from. From the root of a checkout:
//
//   java -cp 'build/kafka/libs/*' tests/data/Murmur2Table.java > tests/data/murmur2.tsv
class Murmur2Table {
    public static void main(String[] arguments) {
        List<byte[]> keys = new ArrayList<>();
        for (int length = 0; length <= 40; length++) {
            keys.add("abcdefghijklmnopqrstuvwxyz0123456789-_.:".substring(0, length)
                .getBytes(StandardCharsets.UTF_8));
        }
        // Bytes above 0x7F are negative in Java: where a port goes wrong first.
        Random random = new Random(4711);
        for (int length = 1; length <= 40; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            keys.add(key);
        }
        for (int length = 1; length <= 8; length++) {
            keys.add(filled(length, (byte) 0x00));
            keys.add(filled(length, (byte) 0x80));
            keys.add(filled(length, (byte) 0xFF));
        }
        String[] texts = {
            "o-4711", "customer/42", "Bäckerei Müller", "naïveté", "Ελληνικά", "Москва", "日本語のキー",
            "한국어", "العربية", "עברית", "हिन्दी", "🦀🚚📦", "e\u0301 and \u00e9", "\u0000", "a\u0000b",
        };
        for (String text : texts) {
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        }
        for (byte[] key : keys) {
            int hash = Utils.murmur2(key);
            System.out.println(
                HexFormat.of().formatHex(key) + "\t" + hash + "\t" + Utils.toPositive(hash));
        }
    }

    private static byte[] filled(int length, byte value) {
        byte[] key = new byte[length];
        Arrays.fill(key, value);
        return key;
    }
}
