//! The laptop cloud's Google half, judged by Google's own clients.

mod identity;
mod pubsub;
mod storage;
mod support;
mod tools;
