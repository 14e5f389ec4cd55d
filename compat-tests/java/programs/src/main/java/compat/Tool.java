package compat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/** A command line tool of Apache Kafka, and what it prints, without what differs from run to run. */
final class Tool {
    private static final class Exited extends RuntimeException {}

    private final PrintStream out = System.out;
    private final String bootstrap;
    private final Method main;
    /** What is printed instead of names that are made up in each run. */
    private final Map<String, String> names = new LinkedHashMap<>();

    Tool(String name, String bootstrap) throws Exception {
        this.bootstrap = bootstrap;
        main = Class.forName(name).getMethod("main", String[].class);
        hide(bootstrap, "BOOTSTRAP");
        Exit.setExitProcedure((status, message) -> {
            throw new Exited();
        });
    }

    void hide(String name, String instead) {
        names.put(name, instead);
    }

    /** Lines in alphabetical order: brokers are free to order groups and partitions. */
    void run(String command) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        arguments.addAll(Arrays.asList(command.split(" ")));
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream before = System.err;
        try (PrintStream capture = new PrintStream(printed, true, StandardCharsets.UTF_8)) {
            System.setOut(capture);
            System.setErr(capture);
            main.invoke(null, (Object) arguments.toArray(String[]::new));
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) throw e;
        } finally {
            System.setOut(out);
            System.setErr(before);
        }
        out.println("> " + normal(command));
        printed.toString(StandardCharsets.UTF_8).lines()
                .filter(line -> !line.isBlank() && !line.startsWith("\tat "))
                .map(this::normal)
                .sorted()
                .forEach(out::println);
    }

    /** Columns are as wide as what is made up: one blank will do. A time may be followed by how long it is ago. */
    private String normal(String line) {
        for (Map.Entry<String, String> name : names.entrySet()) {
            line = line.replace(name.getKey(), name.getValue());
        }
        line = line.replaceAll("[ \t]+", " ").strip();
        return line.replaceAll("\\b\\d{13} \\d+\\b", "TIME AGO").replaceAll("\\b\\d{13}\\b", "TIME");
    }
}
