//! Termination messages fit, whatever they say.

use super::*;

#[test]
fn a_termination_message_fits() {
    for message in ["short".to_owned(), "x".repeat(10_000), "\u{1}".repeat(10_000), "é\"".repeat(5_000)] {
        let text = termination("malformed-input", &message, 1.5);
        assert!(text.len() <= TERMINATION_MAX, "{}", text.len());
        let read: Termination = serde_json::from_str(&text).unwrap();
        assert_eq!((read.code.as_str(), read.cpu_seconds), ("malformed-input", 1.5));
        assert!(message.starts_with(read.message.trim_end_matches('…')));
        // As much of it as fits is kept.
        assert!(message.len() < 4_000 || text.len() > TERMINATION_MAX - 16, "{}", text.len());
    }
}
