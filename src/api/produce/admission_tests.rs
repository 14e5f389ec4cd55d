//! Transactional batches: who may write, and what becomes of it.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse};

use super::*;

const ID: &str = "pay";

fn id() -> StrBytes {
    StrBytes::from_static_str(ID)
}

impl Client {
    async fn init(&self) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id().into()))
            .with_transaction_timeout_ms(60_000);
        let response: InitProducerIdResponse = self.call(22, 5, &request).await;
        assert_eq!(response.error_code, NONE);
        (response.producer_id.0, response.producer_epoch)
    }

    async fn send_in_transaction(
        &self,
        version: i16,
        topic: &str,
        (producer_id, epoch): (i64, i16),
        sequence: i32,
    ) -> Option<ErrorCode> {
        let mut batch = BatchBuilder::new(Compression::None).producer(producer_id, epoch, sequence).transactional(true);
        batch.record(Clock.now_ms(), None, Some(b"v"), &[]);
        let request = produce(-1, topic, 0, batch.build(0, -1)).with_transactional_id(Some(id().into()));
        let response: ProduceResponse = self.call(0, version, &request).await;
        ErrorCode::try_from_code(response.responses[0].partition_responses[0].error_code)
    }

    async fn commit(&self, version: i16, (producer_id, epoch): (i64, i16)) -> (i64, i16) {
        let request = EndTxnRequest::default()
            .with_transactional_id(id().into())
            .with_producer_id(producer_id.into())
            .with_producer_epoch(epoch)
            .with_committed(true);
        let response: EndTxnResponse = self.call(26, version, &request).await;
        assert_eq!(response.error_code, NONE);
        (response.producer_id.0, response.producer_epoch)
    }
}

#[test]
fn an_older_client_has_to_add_partitions_before_a_newer_one_adds_them_by_writing() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        client.create("u", &[]).await;
        client.broker.transactions.ensure_topic().await.unwrap();
        let producer @ (producer_id, epoch) = client.init().await;
        let send = |version, producer, sequence| client.send_in_transaction(version, "t", producer, sequence);
        assert_eq!(send(10, producer, 0).await, Some(ErrorCode::InvalidTxnState));
        assert_eq!(send(11, producer, 0).await, Some(ErrorCode::TransactionAbortable));
        assert_eq!(send(12, (producer_id + 1, 0), 0).await, Some(ErrorCode::InvalidProducerIdMapping));
        assert_eq!(send(12, (producer_id, epoch + 1), 0).await, Some(ErrorCode::InvalidProducerEpoch));
        assert_eq!(send(12, producer, 3).await, Some(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(client.list(8, -1).await.2, 0, "nothing was written");

        assert_eq!(send(12, producer, 0).await, None);
        assert_eq!(send(11, producer, 1).await, None, "the log knows that a transaction is open");
        let elsewhere = client.send_in_transaction(11, "u", producer, 0).await;
        assert_eq!(elsewhere, Some(ErrorCode::TransactionAbortable));

        let next = client.commit(5, producer).await;
        assert_eq!(next, (producer_id, epoch + 1));
        assert_eq!(send(12, producer, 2).await, Some(ErrorCode::InvalidProducerEpoch), "too late");
        // Its markers may still be under way: that is waited for.
        assert_eq!(send(12, next, 0).await, None);
        assert_eq!(client.list(8, -1).await.2, 4, "three records and a marker");
    });
}
