//! TLS with clients and with backends, by OpenSSL, whose words the `ssl_*` parameters are.
//!
//! Handshakes run on threads that may block, for a private key works for a millisecond or more;
//! afterwards a [`TlsStream`] is read and written where its session lives.

mod certificate;
pub mod info;
pub mod stream;

pub use info::TlsInfo;
pub use stream::TlsStream;

/// What OpenSSL says, without its numbers, places and function names.
fn reason(error: &openssl::ssl::Error) -> String {
    match error.ssl_error() {
        Some(stack) => first_reason(stack),
        None => error.to_string(),
    }
}

fn first_reason(stack: &openssl::error::ErrorStack) -> String {
    let first = stack.errors().iter().find_map(|e| e.reason());
    first.unwrap_or("OpenSSL does not say why").to_owned()
}
