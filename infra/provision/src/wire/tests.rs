//! Tests of the shapes on the wire.
