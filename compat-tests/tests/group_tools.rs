//! What administrators see of groups: kafka-consumer-groups and the Admin client print the same with Ottla as with Apache
//! Kafka 4.3.1, whose words are in the text files beside this one (`COMPAT_BROKER=kafka COMPAT_UPDATE=1` writes them anew).

use compat_tests::broker::Broker;
use compat_tests::clients::java_with_tools;
use compat_tests::printed::compare;
use compat_tests::records;

#[test]
fn kafka_consumer_groups_prints_what_it_prints_with_kafka() {
    let broker = Broker::start(&[("offsets.topic.num.partitions", "5")]);
    let printed = java_with_tools("GroupTool", &[&broker.bootstrap(), &records::base_ms().to_string()]);
    compare(&printed, "group_tool.txt");
}

#[test]
fn groups_have_settings_of_their_own() {
    let broker = Broker::start(&[]);
    let printed = java_with_tools("GroupConfigs", &[&broker.bootstrap()]);
    compare(&printed, "group_configs.txt");
}
