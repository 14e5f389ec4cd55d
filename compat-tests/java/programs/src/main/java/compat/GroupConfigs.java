package compat;

import static compat.Records.require;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.common.config.ConfigResource;

/** GroupConfigs BOOTSTRAP: prints what the Admin client is told of a group's own settings, and changes them. */
final class GroupConfigs {
    private static final ConfigResource GROUP = new ConfigResource(ConfigResource.Type.GROUP, "g");

    private final Admin admin;

    private GroupConfigs(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(properties)) {
            GroupConfigs configs = new GroupConfigs(admin);
            configs.describe("before");
            configs.alter("in bounds", OpType.SET, "consumer.session.timeout.ms", "50000");
            configs.alter("in bounds", OpType.SET, "consumer.heartbeat.interval.ms", "6000");
            configs.describe("changed");
            configs.alter("too short", OpType.SET, "consumer.session.timeout.ms", "1");
            configs.alter("too long", OpType.SET, "consumer.heartbeat.interval.ms", "100000000");
            configs.alter("no number", OpType.SET, "consumer.session.timeout.ms", "soon");
            configs.alter("unknown", OpType.SET, "no.such.setting", "1");
            configs.alter("a list", OpType.APPEND, "consumer.session.timeout.ms", "1");
            configs.describe("refused");
            configs.alter("back", OpType.DELETE, "consumer.session.timeout.ms", "");
            configs.describe("one is back");
            configs.alter("back", OpType.DELETE, "consumer.heartbeat.interval.ms", "");
            configs.describe("both are back");
        }
    }

    private void describe(String what) throws Exception {
        Config config = admin.describeConfigs(List.of(GROUP)).all().get().get(GROUP);
        System.out.println("> " + what);
        Map<String, String> lines = new TreeMap<>();
        for (ConfigEntry entry : config.entries()) {
            if (entry.name().startsWith("consumer.")) {
                lines.put(entry.name(), entry.value() + " " + entry.source() + " " + entry.type()
                        + (entry.isReadOnly() ? " read only" : "") + (entry.isSensitive() ? " sensitive" : ""));
            }
        }
        require(!lines.isEmpty(), "no settings");
        lines.forEach((name, line) -> System.out.println(name + " = " + line));
    }

    private void alter(String what, OpType type, String name, String value) throws Exception {
        Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry(name, value), type));
        String outcome = "done";
        try {
            admin.incrementalAlterConfigs(Map.of(GROUP, ops)).all().get();
        } catch (ExecutionException e) {
            outcome = e.getCause().getClass().getSimpleName() + ": " + e.getCause().getMessage();
        }
        System.out.println("> " + what + ": " + type + " " + name + " " + value + "\n" + outcome);
        // A change is seen when the broker has applied it.
        Thread.sleep(300);
    }
}
