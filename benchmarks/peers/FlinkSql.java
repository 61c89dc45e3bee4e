import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs the statements of a SQL file (separated by lines of "---") in an embedded Flink with one
 * slot, and prints for each INSERT the processor and clock seconds of the whole process from its
 * submission to its end, as a line of JSON.
 */
public final class FlinkSql {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("taskmanager.numberOfTaskSlots", "1");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("rest.bind-address", "127.0.0.1");
        configuration.setString("rest.address", "127.0.0.1");
        configuration.setString("rest.bind-port", "0");
        TableEnvironment tables =
                TableEnvironment.create(
                        EnvironmentSettings.newInstance()
                                .inStreamingMode()
                                .withConfiguration(configuration)
                                .build());
        for (String statement : Files.readString(Path.of(arguments[0])).split("(?m)^---$")) {
            long cpu = cpuNanoseconds();
            long clock = System.nanoTime();
            var result = tables.executeSql(statement.strip());
            if (!statement.strip().toUpperCase(Locale.ROOT).startsWith("INSERT")) {
                continue;
            }
            result.await();
            System.out.printf(
                    Locale.ROOT,
                    "{\"cpu_s\": %.6f, \"wall_s\": %.6f}%n",
                    (cpuNanoseconds() - cpu) / 1e9,
                    (System.nanoTime() - clock) / 1e9);
        }
        System.exit(0);
    }

    private static long cpuNanoseconds() {
        var system = ManagementFactory.getOperatingSystemMXBean();
        return ((com.sun.management.OperatingSystemMXBean) system).getProcessCpuTime();
    }
}
