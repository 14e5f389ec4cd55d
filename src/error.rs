//! Client faults and disk faults become Kafka error codes here, and nowhere else.

pub use kafka_protocol::error::ResponseError as ErrorCode;

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
