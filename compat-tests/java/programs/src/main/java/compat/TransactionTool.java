package compat;

/**
 * TransactionTool BOOTSTRAP: prints what kafka-transactions says of the transactions "open", "done" and "hanging" in topic
 * "t", and ends the one that hangs. Runs with the jars of the broker, which have the tool.
 */
final class TransactionTool {
    private TransactionTool() {}

    public static void main(String[] args) throws Exception {
        Tool tool = new Tool("org.apache.kafka.tools.TransactionsCommand", args[0]);
        tool.run("list");
        tool.run("list --duration-filter 600000");
        tool.run("list --transactional-id-pattern d.*");
        for (String id : new String[] {"open", "done", "hanging", "nobody"}) {
            tool.run("describe --transactional-id " + id);
        }
        tool.run("describe-producers --topic t --partition 0");
        tool.run("describe-producers --topic t --partition 1");
        tool.run("find-hanging --broker-id 1");
        tool.run("find-hanging --topic t --max-transaction-timeout 1");
        tool.run("abort --topic t --partition 1 --start-offset 99");
        tool.run("abort --topic t --partition 1 --start-offset 0");
        tool.run("find-hanging --topic t");
        tool.run("describe-producers --topic t --partition 1");
    }
}
