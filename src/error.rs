//! Client faults and disk faults become Kafka error codes here, and nowhere else.

pub use kafka_protocol::error::ResponseError as ErrorCode;

use ottla_storage::log::AppendError;
use ottla_storage::producers::SequenceError;
use ottla_storage::validate::{Invalid, InvalidKind};

/// An error code with the text that APIs with an error_message field carry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into() }
    }
}

/// What clients are told about an error of the storage crate.
pub trait KafkaCode {
    fn kafka_code(&self) -> ErrorCode;
}

impl KafkaCode for Invalid {
    fn kafka_code(&self) -> ErrorCode {
        match self.kind {
            InvalidKind::CorruptMessage => ErrorCode::CorruptMessage,
            InvalidKind::InvalidRecord => ErrorCode::InvalidRecord,
            InvalidKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
            InvalidKind::MessageTooLarge => ErrorCode::MessageTooLarge,
            InvalidKind::UnsupportedForMessageFormat => ErrorCode::UnsupportedForMessageFormat,
            InvalidKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
        }
    }
}

impl KafkaCode for SequenceError {
    fn kafka_code(&self) -> ErrorCode {
        match self {
            SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            SequenceError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            SequenceError::DuplicateSequence => ErrorCode::DuplicateSequenceNumber,
            SequenceError::TransactionOpen { .. } | SequenceError::TransactionEnded { .. } => {
                ErrorCode::InvalidTxnState
            }
            SequenceError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

impl KafkaCode for ottla_storage::Error {
    fn kafka_code(&self) -> ErrorCode {
        match self {
            ottla_storage::Error::Corrupt { .. } => ErrorCode::CorruptMessage,
            _ => ErrorCode::KafkaStorageError,
        }
    }
}

impl KafkaCode for AppendError {
    fn kafka_code(&self) -> ErrorCode {
        match self {
            AppendError::Sequence(error) => error.kafka_code(),
            AppendError::Storage(error) => error.kafka_code(),
            AppendError::LargerThanSegment(_) => ErrorCode::RecordListTooLarge,
        }
    }
}
