//! Tests of the REST layer against a small server.
